"""What a parked record waits for, in the words that stand in its header. Pure."""

from typing import NamedTuple, Self

ACCOUNT = "account"
DOMAIN = "domain"
ORGANIZATION = "organization"
CAMPAIGN = "campaign"
BATCH = "batch"


class Scope(NamedTuple):
    """What has to change before a parked record comes back.

    Attributes:
        kind: `account`, which is held; `domain` of a sender, held within an account;
            `organization`, which no account serves; `campaign`, which is paused; `batch`, which
            keeps failing.
        name: the account; `ACCOUNT DOMAIN`; the organization; `ORGANIZATION/CAMPAIGN`;
            `ORGANIZATION/BATCH`.
    """

    kind: str
    name: str

    @classmethod
    def of_hold(cls, account: str, domain: str | None) -> Self:
        """A held account, or a sender's domain that is held within it."""
        return cls(ACCOUNT, account) if domain is None else cls(DOMAIN, f"{account} {domain}")

    @classmethod
    def of_campaign(cls, organization: str, campaign: str) -> Self:
        """A campaign that is paused."""
        return cls(CAMPAIGN, f"{organization}/{campaign}")

    @classmethod
    def of_batch(cls, organization: str, batch_id: str) -> Self:
        """A batch that is set aside."""
        return cls(BATCH, f"{organization}/{batch_id}")

    @classmethod
    def read(cls, text: str) -> Self:
        """Read what `str` wrote; whatever else it is becomes a kind that nothing holds."""
        kind, _, name = text.partition(" ")
        return cls(kind, name)

    @property
    def parts(self) -> tuple[str, str]:
        """The name's two parts; the second is empty where there is one."""
        first, _, second = self.name.rpartition(" " if self.kind == DOMAIN else "/")
        return (first, second) if first else (second, "")

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"
