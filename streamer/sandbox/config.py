"""What a sandbox is started with."""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from streamer.sandbox.faults import Faults

DEFAULT_KEY = "re_sandbox"
DEFAULT_LIMIT = 10
Limit = Annotated[int, Field(ge=1)] | None
"""Requests a second. None: unthrottled, and no `ratelimit-*` header is sent."""


class AccountSpec(BaseModel):
    """One team at Resend: its keys share one rate limit and the quotas."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    keys: tuple[str, ...] = Field(min_length=1)
    limit: Limit = DEFAULT_LIMIT
    daily_quota: int | None = Field(default=None, ge=0)
    """Recipients a day, as on the free plan. None: no such quota and no such header."""
    monthly_quota: int | None = Field(default=None, ge=0)
    """Recipients a month. None: unlimited; the header tells what is used all the same."""


class Config(BaseModel):
    """Everything a sandbox needs to start."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    """The address to listen on."""
    port: int = 0
    """0: any free port."""
    accounts: tuple[AccountSpec, ...] = (AccountSpec(name="default", keys=(DEFAULT_KEY,)),)
    faults: Faults = Faults()
    seed: int = 0
    """Of the dice behind every fault given in percent."""
    count_addresses: bool = True
    """Whether acceptances are counted per address: some 150 bytes each."""
    keep_acceptances: bool = True
    """Whether each acceptance is kept, for a judge to read. A long bench switches it off."""
    keep_mails: int = Field(default=1000, ge=0)
    """How many of the latest mails are kept whole, for the preview."""

    @model_validator(mode="after")
    def _no_two_alike(self) -> Self:
        names = [account.name for account in self.accounts]
        keys = [key for account in self.accounts for key in account.keys]
        if len(set(names)) < len(names):
            raise ValueError("two accounts have the same name")
        if len(set(keys)) < len(keys):
            raise ValueError("two accounts have the same key")
        return self
