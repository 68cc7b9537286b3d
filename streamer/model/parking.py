"""What a parked record waits for, as written in its header. Pure."""

from typing import NamedTuple, Self

ACCOUNT = "account"
DOMAIN = "domain"
ORGANIZATION = "organization"
CAMPAIGN = "campaign"
BATCH = "batch"


class Scope(NamedTuple):
    """What a parked record waits for.

    Attributes:
        kind: `account` (held), `domain` (a sender's domain, held within an account),
            `organization` (served by no account), `campaign` (paused) or `batch` (keeps failing).
        name: the account, `ACCOUNT DOMAIN`, the organization, `ORGANIZATION/CAMPAIGN` or
            `ORGANIZATION/BATCH`.
    """

    kind: str
    name: str

    @classmethod
    def of_hold(cls, account: str, domain: str | None) -> Self:
        """A held account, or a sender's domain held within it."""
        return cls(ACCOUNT, account) if domain is None else cls(DOMAIN, f"{account} {domain}")

    @classmethod
    def of_campaign(cls, organization: str, campaign: str) -> Self:
        """A paused campaign."""
        return cls(CAMPAIGN, f"{organization}/{campaign}")

    @classmethod
    def of_batch(cls, organization: str, batch_id: str) -> Self:
        """A deferred batch."""
        return cls(BATCH, f"{organization}/{batch_id}")

    @classmethod
    def read(cls, text: str) -> Self:
        """Parse what `str` wrote; other text becomes an unknown kind, which nothing holds."""
        kind, _, name = text.partition(" ")
        return cls(kind, name)

    @property
    def parts(self) -> tuple[str, str]:
        """The two parts of the name; the second is empty if there is only one."""
        first, _, second = self.name.rpartition(" " if self.kind == DOMAIN else "/")
        return (first, second) if first else (second, "")

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"
