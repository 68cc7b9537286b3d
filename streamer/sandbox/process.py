"""The sandbox in a separate process, so that its counts survive killed workers."""

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Self

import orjson
import urllib3

from streamer.sandbox.config import DEFAULT_KEY, DEFAULT_LIMIT, AccountSpec, Config
from streamer.sandbox.faults import Faults, Play
from streamer.sandbox.recorder import Acceptance, Call, Stats
from streamer.sandbox.suppressions import Origin

_PATIENCE_S = 30.0
_GRACE_S = 5.0


class SandboxError(RuntimeError):
    """The sandbox did not start, or rejected a command."""


class SandboxProcess:
    """Runs the sandbox in a child process, by default on a free port.

    Use it as `with SandboxProcess(limit=10, latency_ms=60) as sandbox:`. Changes are in effect
    when their method returns. The child ends with the `with` block, or when this process dies in
    any way. Thread-safe.

    `limit` is the limit of the default account (key `re_sandbox`) and does not apply to explicit
    `accounts`. `latency_ms` is a shorthand for the field of `faults`.
    """

    def __init__(
        self,
        *,
        limit: int | None = DEFAULT_LIMIT,
        latency_ms: float = 0,
        accounts: Sequence[AccountSpec] = (),
        faults: Faults | None = None,
        port: int = 0,
        seed: int = 0,
        count_addresses: bool = True,
        keep_acceptances: bool = True,
        keep_mails: int = 1000,
        webhook_url: str | None = None,
        webhook_retries_s: Sequence[float] | None = None,
    ) -> None:
        given = faults if faults is not None else Faults()
        if latency_ms:
            given = given.model_copy(update={"latency_ms": latency_ms})
        self.config = Config(
            port=port,
            accounts=tuple(accounts)
            or (AccountSpec(name="default", keys=(DEFAULT_KEY,), limit=limit),),
            faults=given,
            seed=seed,
            count_addresses=count_addresses,
            keep_acceptances=keep_acceptances,
            keep_mails=keep_mails,
            webhook_url=webhook_url,
            **({} if webhook_retries_s is None else {"webhook_retries_s": webhook_retries_s}),
        )
        self._child: subprocess.Popen[bytes] | None = None
        self._url = ""
        self._http = urllib3.PoolManager(
            maxsize=4, retries=False, timeout=urllib3.Timeout(_PATIENCE_S)
        )

    def start(self) -> None:
        """Start the child and wait until it listens."""
        # In a new session, so that Ctrl-C only reaches the parent, which then closes stdin.
        child = self._child = subprocess.Popen(
            [sys.executable, "-m", "streamer.sandbox"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(self.config.model_dump_json().encode() + b"\n")
            child.stdin.flush()
        except BrokenPipeError:
            pass
        self._url = child.stdout.readline().decode().strip()
        if not self._url:
            self.stop()
            raise SandboxError("the sandbox did not start: its stderr says why")

    def stop(self) -> None:
        """Stop the child. Its counts are lost."""
        child, self._child = self._child, None
        self._http.clear()
        if child is None:
            return
        child.terminate()
        try:
            child.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The URL for `RESEND_API_URL`."""
        if self._child is None:
            raise SandboxError("the sandbox is not running")
        return self._url

    @property
    def pid(self) -> int:
        """The pid of the child, for measurements."""
        if self._child is None:
            raise SandboxError("the sandbox is not running")
        return self._child.pid

    # Commands

    def set_faults(self, faults: Faults, account: str | None = None) -> None:
        """Change the fields set in `faults`, for one account or for all; others are kept."""
        self._post("faults", faults=_given(faults), account=account)

    def play(self, *plays: Play, account: str | None = None) -> None:
        """Give these responses verbatim to the next calls of one account or of all.

        A call gets the first response that matches it, or else the sandbox's own.
        """
        self._post("play", plays=[_given(play) for play in plays], account=account)

    def reset_faults(self) -> None:
        """Restore the initial faults (none, or a latency) and remove scripted responses."""
        self._post("reset_faults")

    def set_limit(self, limit: int | None, account: str | None = None) -> None:
        """Change the requests per second of one account or of all; None: unlimited."""
        self._post("limit", limit=limit, account=account)

    def suppress(self, *emails: str, origin: Origin = "manual", account: str | None = None) -> None:
        """Add addresses to the suppression list of one account or of all."""
        self._post("suppress", emails=emails, origin=origin, account=account)

    def advance(self, seconds: float) -> None:
        """Advance the server's wall clock, to expire idempotency keys and renew quotas."""
        self._post("advance", seconds=seconds)

    def send_webhooks(self, url: str | None) -> None:
        """Send webhooks of what is accepted from now on to a URL, or to none."""
        self._post("webhook", url=url)

    def reset(self) -> None:
        """Clear mails, counts, idempotency keys, quotas and suppressions; keep faults and limits.

        A call that is in flight is counted after the reset.
        """
        self._post("reset")

    # Queries

    def stats(self) -> Stats:
        """Return the statistics since the last reset."""
        return Stats.model_validate_json(self._call("GET", "/stats"))

    def acceptances(self) -> list[Acceptance]:
        """Return every address of every accepted mail, in order. Needs `keep_acceptances`."""
        return [Acceptance(**row) for row in self._rows("acceptances")]

    def calls(self) -> list[Call]:
        """Return every completed call, in order of completion."""
        return [Call(**row) for row in self._rows("calls")]

    def repeats(self) -> list[tuple[str, str, str]]:
        """Return each (organization, campaign, address) accepted more than once.

        Needs `keep_acceptances`.
        """
        times = Counter(acceptance[:3] for acceptance in self.acceptances())
        return [each for each, count in times.items() if count > 1]

    def _rows(self, what: str) -> Iterator[dict[str, Any]]:  # the fields of a named tuple
        return map(orjson.loads, self._call("GET", f"/_sandbox/{what}").splitlines())

    def _post(self, what: str, **arguments: object) -> None:
        self._call("POST", f"/_sandbox/{what}", orjson.dumps(arguments))

    def _call(self, method: str, path: str, body: bytes = b"") -> bytes:
        headers = {"content-type": "application/json"}
        response = self._http.request(method, self.url + path, body=body, headers=headers)
        if response.status != 200:
            raise SandboxError(f"{method} {path}: {response.status} {response.data.decode()}")
        return response.data


def _given(order: Faults | Play) -> dict[str, object]:
    """Return the fields that were set explicitly."""
    return order.model_dump(mode="json", exclude_unset=True)
