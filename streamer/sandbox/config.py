"""The sandbox's start configuration."""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from streamer.sandbox.faults import Faults

DEFAULT_KEY = "re_sandbox"
DEFAULT_LIMIT = 10
DEFAULT_WEBHOOK_SECRET = "whsec_c2FuZGJveC1zZWNyZXQtZm9yLXdlYmhvb2tz"  # noqa: S105 - not a secret
Limit = Annotated[int, Field(ge=1)] | None
"""Requests per second. None: unlimited, and no `ratelimit-*` headers are sent."""


class AccountSpec(BaseModel):
    """A Resend team, whose API keys share a rate limit and quotas."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    keys: tuple[str, ...] = Field(min_length=1)
    limit: Limit = DEFAULT_LIMIT
    daily_quota: int | None = Field(default=None, ge=0)
    """Recipients per day, as on the free plan. None: no quota and no quota header."""
    monthly_quota: int | None = Field(default=None, ge=0)
    """Recipients per month. None: unlimited; the header still reports the usage."""


class Config(BaseModel):
    """The configuration of a sandbox."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    """The address to listen on."""
    port: int = 0
    """The port to listen on; 0 picks a free one."""
    accounts: tuple[AccountSpec, ...] = (AccountSpec(name="default", keys=(DEFAULT_KEY,)),)
    faults: Faults = Faults()
    seed: int = 0
    """The seed for all faults given in percent."""
    count_addresses: bool = True
    """Whether to count acceptances per address, at about 150 bytes each."""
    keep_acceptances: bool = True
    """Whether to keep every acceptance for later checks. Disable it for long benchmarks."""
    keep_mails: int = Field(default=1000, ge=0)
    """How many of the latest mails to keep in full, for the preview."""

    webhook_url: str | None = None
    """Where to send webhooks; None for nowhere."""
    webhook_secret: str = DEFAULT_WEBHOOK_SECRET
    """What signs them."""
    webhook_retries_s: tuple[float, ...] = (5, 300, 1_800, 7_200, 18_000, 36_000, 36_000)
    """After how many seconds one that is not acknowledged is sent again; as Resend does."""

    @model_validator(mode="after")
    def _no_two_alike(self) -> Self:
        names = [account.name for account in self.accounts]
        keys = [key for account in self.accounts for key in account.keys]
        if len(set(names)) < len(names):
            raise ValueError("two accounts have the same name")
        if len(set(keys)) < len(keys):
            raise ValueError("two accounts have the same key")
        return self
