"""Campaign counts and read positions in Redis.

Each campaign has one hash with its counts and, for each partition, a mark: the offset before which
records are counted for this campaign. One script checks the mark and adds a chunk's share, so
records count once even if they are read again. Read positions are stored separately, since they
belong to another cluster slot, and are updated afterwards.

Two invariants make the counts exact:

1. A campaign's hash counts each of its records before the mark and none after it: the script adds
   a share and advances the mark atomically, and only if the share starts with the next uncounted
   record.
2. A position never passes a record that some campaign's hash lacks: it advances only after the
   shares of all campaigns are added. So a chunk read from a position starts, for every campaign,
   at or before its next uncounted record.

Starting over raises the generation. Counts and positions of older generations are invalid, and
adding to them raises `StaleGenerationError`.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import NamedTuple, Protocol, cast

import orjson

from streamer.errors import StreamerError
from streamer.kafka.offsets import Offsets, Partition
from streamer.ledger import keys
from streamer.ledger.confirming import confirmed_pipeline
from streamer.ledger.connection import Client
from streamer.ledger.mail_events import forget_events, read_event_counts
from streamer.model.campaign import CampaignName
from streamer.progress.counts import Counts, read_counts
from streamer.progress.fold import Share

GENERATION = "generation"


class StaleGenerationError(StreamerError):
    """The projection was restarted, or belongs to another group: read the positions again."""


class Positions(NamedTuple):
    """The read positions of a generation."""

    generation: str
    offsets: Offsets


class Update(NamedTuple):
    """What a chunk of a partition adds to a campaign."""

    partition: Partition
    name: CampaignName
    share: Share


class Due(NamedTuple):
    """A campaign to check for completion, and the number of the change that made it due."""

    name: CampaignName
    change: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot of a campaign's progress in Redis.

    Attributes:
        generation: generation of the counts; None if there are none.
        counts: the counts.
        state: the stored state, or `paused` before the campaign's start; None if never set.
        version: version of the definition; None if there is none.
        expected: number set by `campaign close` or `produce --done`; None if not set.
        closed: where each partition of the input ended when the last record of the campaign had
            been produced; None if there may be more.
        published: mark of the last published summary.
        events: recipients by what became of their mail.
    """

    generation: str | None
    counts: Counts
    state: str | None
    version: str | None
    expected: int | None
    closed: dict[int, int] | None
    published: str | None
    events: dict[str, int] = dataclasses.field(default_factory=dict)


class Store:
    """Reads and writes the counts of one consumer group's projection.

    Methods raise redis.exceptions.RedisError or RedisClusterException if Redis cannot be used. The
    operation may or may not have been executed then; it is safe to repeat.
    """

    def __init__(self, client: Client, group: str) -> None:
        self._client = client
        self._group = group

    def open(self, *, anew: bool = False) -> Positions:
        """Return the positions; with `anew`, start a new generation that has read nothing."""
        flat = self._run("open", [keys.progress_positions(self._group)], ["1" if anew else "0"])
        fields = _pairs(flat)
        return Positions(fields[GENERATION], _offsets(fields))

    def current_generation(self) -> str | None:
        """Return the generation whose counts are valid; None if nothing was ever counted."""
        found = self._client.hget(keys.progress_positions(self._group), GENERATION)
        return found.decode() if isinstance(found, bytes) else None

    def apply(self, generation: str, updates: Sequence[Update]) -> list[int | None]:
        """Add shares in one round trip; confirmed when it returns, except by a cluster.

        Returns:
            For each update None if its records are counted now. Otherwise nothing was added, since
            the records before the returned offset were already counted: call again with the share
            of the records from that offset.

        Raises:
            StaleGenerationError: a newer generation has started.
        """
        if not updates:
            return []
        pipeline = self._pipeline()
        for partition, name, share in updates:
            words: list[str | int] = []
            for word, increment in share.delta.counts.items():
                words += (word, increment)
            # EVAL with the text: redis-py does not allow EVALSHA in cluster pipelines.
            pipeline.execute_command(
                "EVAL",
                _APPLY,
                3,
                keys.progress(*name),
                keys.progress_due(name.organization),
                keys.progress_campaigns(name.organization),
                generation,
                f"at:{_field(partition)}",
                share.start,
                share.end,
                name.campaign_id,
                share.delta.first or "",
                share.delta.last or "",
                *words,
            )
        answers: list[int | None] = []
        # Confirmed: the projector reads on, and would not add again what a failover forgot.
        key = keys.progress(*updates[0].name)
        replies = confirmed_pipeline(self._client, pipeline, key, len(updates))
        found = cast(list[list[bytes | int]], replies)
        self._know({update.name.organization for update in updates})
        for answer in found:
            if answer[0] == b"stale":
                raise StaleGenerationError("the counts are of a newer generation")
            answers.append(int(answer[1]) if answer[0] == b"partly" else None)
        return answers

    def advance(self, generation: str, offsets: Mapping[Partition, int]) -> None:
        """Store positions before which everything is counted.

        Raises:
            StaleGenerationError: another generation has started.
        """
        if not offsets:
            return
        arguments: list[str | int] = [generation]
        for partition, offset in offsets.items():
            arguments += (_field(partition), offset)
        if not self._run("advance", [keys.progress_positions(self._group)], arguments):
            raise StaleGenerationError("the positions are of another generation")

    def snapshots(self, wanted: Iterable[CampaignName]) -> list[Snapshot]:
        """Return snapshots of campaigns in one round trip."""
        pipeline = self._pipeline()
        for name in wanted:
            names = (keys.progress(*name), keys.campaign(*name), keys.event_counts(*name))
            pipeline.execute_command("EVAL", _LOOK, 3, *names)
        return [_look(answer) for answer in pipeline.execute()]

    def campaigns(self) -> Iterator[CampaignName]:
        """Yield all campaigns with counts of any generation."""
        for organization in self._known_organizations():
            found = self._client.smembers(keys.progress_campaigns(organization))
            for member in sorted(cast(set[bytes], found)):
                yield CampaignName(organization, member.decode())

    def due(self) -> list[Due]:
        """Return campaigns that changed since the last check, or may be complete by now."""
        organizations = self._known_organizations()
        pipeline = self._pipeline()
        for organization in organizations:
            pipeline.hgetall(keys.progress_due(organization))
        found = pipeline.execute() if organizations else []
        return [
            Due(CampaignName(organization, campaign.decode()), change.decode())
            for organization, fields in zip(organizations, found, strict=True)
            for campaign, change in cast(dict[bytes, bytes], fields).items()
            if campaign
        ]

    def expect(self, name: CampaignName, expected: int) -> None:
        """Set a campaign's expected number of recipients, overriding its definition.

        It is closed once as many were received.
        """
        self._run("close", _judged_keys(name), [name.campaign_id, expected, ""])
        self._know({name.organization})

    def close(
        self, name: CampaignName, ends: Mapping[int, int], expected: int | None = None
    ) -> None:
        """Close a campaign: all its records are in the input before these end offsets.

        Args:
            ends: by partition of the input.
            expected: its number of recipients; None does not change it.
        """
        closed = orjson.dumps({str(partition): end for partition, end in ends.items()}).decode()
        number = "" if expected is None else expected
        self._run("close", _judged_keys(name), [name.campaign_id, number, closed])
        self._know({name.organization})

    def complete(self, due: Due) -> str:
        """Complete a campaign if it is active and unchanged since it became due.

        Returns:
            Its state afterwards, or `changed`.
        """
        state = self._run("complete", _judged_keys(due.name), [due.name.campaign_id, due.change])
        return cast(bytes, state).decode()

    def settle(self, judged: Mapping[Due, str]) -> None:
        """Mark campaigns as no longer due unless they changed again, in one round trip.

        Args:
            judged: for each campaign the mark of its published summary, or ''.
        """
        pipeline = self._pipeline()
        for due, published in judged.items():
            pipeline.execute_command(
                "EVAL",
                _SETTLE,
                2,
                *_judged_keys(due.name),
                due.name.campaign_id,
                due.change,
                published,
            )
        pipeline.execute()

    def drop_older(self, generation: str) -> None:
        """Delete the counts of older generations."""
        for name in list(self.campaigns()):
            self._run(
                "drop",
                [keys.progress(*name), keys.progress_campaigns(name.organization)],
                [generation, name.campaign_id],
            )

    def forget(self, name: CampaignName) -> None:
        """Delete a campaign's counts and its due entry."""
        organization = name.organization
        counted = keys.progress_campaigns(organization)
        due = keys.progress_due(organization)
        self._run("forget", [keys.progress(*name), due, counted], [name.campaign_id])
        forget_events(self._client, name)
        self._leave(organization)

    def sweep(self, keep_s: int) -> None:
        """Expire counts of completed and cancelled campaigns, and drop those already expired.

        Args:
            keep_s: how long counts are kept without a change.
        """
        organizations = self._known_organizations()
        for organization in organizations:
            counted = keys.progress_campaigns(organization)
            pipeline = self._pipeline()
            for member in cast(set[bytes], self._client.smembers(counted)):
                name = CampaignName(organization, member.decode())
                names = (keys.progress(*name), keys.campaign(*name), counted)
                pipeline.execute_command("EVAL", _SWEEP, 3, *names, name.campaign_id, keep_s)
            pipeline.execute()
            self._leave(organization)

    def _know(self, organizations: set[str]) -> None:
        # After adding counts: a concurrent _leave() that found none would remove it again.
        self._client.sadd(keys.progress_organizations(self._group), *sorted(organizations))

    def _leave(self, organization: str) -> None:
        """Remove an organization that has neither counted nor due campaigns."""

        def has_campaigns() -> bool:
            counted, due = keys.progress_campaigns(organization), keys.progress_due(organization)
            return bool(self._client.scard(counted)) or self._client.hlen(due) > 1

        organizations = keys.progress_organizations(self._group)
        if not has_campaigns():
            self._client.srem(organizations, organization)
            if has_campaigns():  # added concurrently
                self._client.sadd(organizations, organization)

    def _known_organizations(self) -> list[str]:
        found = self._client.smembers(keys.progress_organizations(self._group))
        return sorted(member.decode() for member in cast(set[bytes], found))

    def _pipeline(self) -> "RedisPipeline":
        return cast(RedisPipeline, self._client.pipeline(transaction=False))

    def _run(self, script: str, names: list[str], arguments: list[str | int]) -> object:
        answer: object = self._client.register_script(_read(script))(keys=names, args=arguments)
        return answer


class RedisPipeline(Protocol):
    """The methods used of redis-py's pipeline, whose own types lack return values."""

    def execute_command(self, *words: str | bytes | int) -> object:
        """Queue a command."""

    def hgetall(self, name: str) -> object:
        """Queue HGETALL."""

    def execute(self) -> list[object]:
        """Send the queued commands and return their results."""


def _read(name: str) -> str:
    return files("streamer.progress").joinpath(f"{name}.lua").read_text(encoding="utf-8")


def _without_comments(script: str) -> str:
    return "\n".join(line for line in script.splitlines() if not line.startswith("--"))


_APPLY = _without_comments(_read("apply"))
_SWEEP = _without_comments(_read("sweep"))
_LOOK = _without_comments(_read("look"))
_SETTLE = _without_comments(_read("settle"))


def _judged_keys(name: CampaignName) -> list[str]:
    return [keys.campaign(*name), keys.progress_due(name.organization)]


def _field(partition: Partition) -> str:
    topic, number = partition
    return f"{topic}:{number}"


def _offsets(fields: Mapping[str, str]) -> Offsets:
    """Read the positions from the hash, ignoring its generation."""
    found: Offsets = {}
    for field, offset in fields.items():
        topic, separator, number = field.rpartition(":")
        if separator:
            found[topic, int(number)] = int(offset)
    return found


def _look(answer: object) -> Snapshot:
    flat, values, events = cast(tuple[list[bytes], list[bytes | None], list[bytes]], answer)
    fields = _pairs(flat)
    state, version, expected, closed, published = (
        None if v is None else v.decode() for v in values
    )
    return Snapshot(
        generation=fields.get(GENERATION),
        counts=read_counts(fields),
        state=state,
        version=version,
        expected=int(expected) if expected is not None else None,
        closed=None if closed is None else _read_ends(closed),
        published=published,
        events=read_event_counts(events),
    )


def _read_ends(closed: str) -> dict[int, int]:
    return {int(partition): end for partition, end in orjson.loads(closed).items()}


def _pairs(flat: object) -> dict[str, str]:
    texts = [item.decode() for item in cast(list[bytes], flat)]
    return dict(zip(texts[::2], texts[1::2], strict=True))
