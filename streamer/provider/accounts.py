"""Resend accounts: which organizations they serve, their API keys and rate limits."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from threading import Lock

from streamer.errors import StreamerError
from streamer.settings import AccountSettings

logger = logging.getLogger(__name__)


class NoKeyError(StreamerError):
    """An account's API key is missing. The message says where it was expected."""


class Accounts:
    """The configured accounts.

    Raises:
        ValueError: two accounts list the same organization, or two serve every organization.
    """

    def __init__(self, accounts: Mapping[str, AccountSettings]) -> None:
        self._accounts = dict(accounts)
        self._of_organization: dict[str, str] = {}
        self._fallback: str | None = None
        self._files = _KeyFiles()
        self._gone: set[str] = set()
        for name, account in self._accounts.items():
            if account.organizations is None:
                if self._fallback is not None:
                    raise ValueError(
                        f"accounts {self._fallback} and {name} both serve all organizations: "
                        f"set `organizations` for one of them"
                    )
                self._fallback = name
            for organization in account.organizations or ():
                other = self._of_organization.setdefault(organization, name)
                if other != name:
                    raise ValueError(
                        f"organization {organization} is listed in accounts {other} and {name}"
                    )

    def names(self) -> list[str]:
        """Return the names of the accounts."""
        return list(self._accounts)

    def of(self, organization: str) -> str | None:
        """Return the account of an organization, or None if no account serves it."""
        return self._of_organization.get(organization, self._fallback)

    def requests_per_second(self, account: str) -> float:
        """Return the account's rate limit; 0 means to follow Resend's rate limit headers."""
        settings = self._accounts.get(account)
        if settings is None:
            self._say_once(account)
            return 0.0
        return settings.requests_per_second

    def key(self, account: str) -> str:
        """Return the account's current API key.

        Raises:
            NoKeyError: the account, the variable or the file is missing, or the key is empty.
        """
        settings = self._accounts.get(account)
        if settings is None:
            raise NoKeyError(f"account {account} is no longer in the settings")
        if settings.api_key_env is not None:
            key, place = os.environ.get(settings.api_key_env, ""), f"${settings.api_key_env}"
        else:
            path = settings.api_key_file or Path()
            key, place = self._files.read(path), str(path)
        if not key.strip():
            raise NoKeyError(f"account {account}: no API key in {place}")
        return key.strip()

    def webhook_secrets(self, account: str) -> list[str]:
        """Return what may sign the account's webhooks; empty if it takes none."""
        settings = self._accounts.get(account)
        if settings is None:
            return []
        if settings.webhook_secret_file is not None:
            return self._files.read(settings.webhook_secret_file).split()
        return os.environ.get(settings.webhook_secret_env or "", "").split()

    def _say_once(self, gone: str) -> None:
        """Log a removed account once. Batches pinned for it wait until it is configured again."""
        if gone not in self._gone:
            self._gone.add(gone)
            logger.error(
                "account is no longer in the settings, batches pinned for it wait",
                extra={"account": gone},
            )


class _KeyFiles:
    """Key files, reread when they change, so that a key rotation needs no restart."""

    def __init__(self) -> None:
        self._read: dict[Path, tuple[tuple[int, int], str]] = {}
        self._lock = Lock()

    def read(self, path: Path) -> str:
        try:
            stat = path.stat()
            stamp = (stat.st_mtime_ns, stat.st_ino)
            with self._lock:
                known = self._read.get(path)
                if known is None or known[0] != stamp:
                    known = self._read[path] = (stamp, path.read_text(encoding="utf-8"))
                return known[1]
        except (OSError, UnicodeDecodeError):
            return ""
