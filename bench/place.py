"""Where a worker or the plain loop is measured: a campaign with a backlog that it has to empty."""

from collections import Counter
from dataclasses import dataclass

from bench import content
from bench.ground import Ground
from streamer.ledger import campaigns, suppression
from streamer.ledger.connection import connect
from streamer.sandbox import SandboxProcess
from streamer.settings import Redis
from streamer.stack import Stack


@dataclass(frozen=True, slots=True)
class Ending:
    """What the outcomes of a run say.

    Attributes:
        missing: recipients without an outcome.
        repeated: outcomes beyond a recipient's first.
    """

    statuses: dict[str, int]
    missing: int
    repeated: int


class Place:
    """A run's own part of the stack.

    Args:
        name: unique among the runs; also the campaign's id.
    """

    def __init__(
        self, stack: Stack, sandbox: SandboxProcess, name: str, recipients: int, *, inline: bool
    ) -> None:
        self._ground = Ground(stack, sandbox, name)
        self.name = name
        self.recipients = recipients
        self._inline = inline

    def prepare(self) -> None:
        """Make the topics, the campaign and the suppression list, and write the backlog."""
        ground = self._ground
        ground.make_topics()
        client = connect(Redis(url=ground.stack.redis_url))
        suppression.add(client, content.ORGANIZATION, content.suppressed(self.recipients))
        if not self._inline:
            campaigns.create(client, content.definition(self.name))
        client.close()
        ground.sandbox.reset()
        ground.write(content.events(self.name, range(self.recipients), inline=self._inline))

    def environment(self, requests_per_second: float, metrics_port: int) -> dict[str, str]:
        """The settings of whoever is measured here."""
        account = {"api_key_env": "RESEND_API_KEY", "requests_per_second": requests_per_second}
        return self._ground.environment({"default": account}, metrics_port)

    def committed(self) -> int:
        """How many records the group has committed."""
        return self._ground.committed()

    def read_ending(self) -> Ending:
        """Read all committed outcomes.

        Raises:
            BenchError: they cannot be read to the end in time.
        """
        statuses: Counter[str] = Counter()
        seen = bytearray(self.recipients)
        for outcome in self._ground.outcomes():
            statuses[outcome["status"]] += 1
            seen[content.number_of(outcome["recipient_id"])] = 1
        reached = seen.count(1)
        return Ending(dict(statuses), self.recipients - reached, sum(statuses.values()) - reached)

    def close(self) -> None:
        """Let go of it; its topics end with the stack."""
        self._ground.close()
