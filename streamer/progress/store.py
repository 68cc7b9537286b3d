"""Campaign counts and read positions in Redis.

Each campaign has one hash with its counts and, for each cursor, a mark: the offset before which
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

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import NamedTuple, Protocol, cast

from streamer.errors import StreamerError
from streamer.ledger import keys
from streamer.ledger.connection import Client
from streamer.progress.counts import Counts, read_counts
from streamer.progress.fold import CampaignKey, CountDelta, Cursor, Stream

GENERATION = "generation"

_BEGAN = "began:"
_STREAMS = frozenset(stream.value for stream in Stream)


class StaleGenerationError(StreamerError):
    """The projection was restarted, or belongs to another group: read the positions again."""


class Positions(NamedTuple):
    """The read positions of a generation."""

    generation: str
    offsets: dict[Cursor, int]


class Update(NamedTuple):
    """What a chunk of a cursor adds to a campaign."""

    cursor: Cursor
    key: CampaignKey
    delta: CountDelta


class Due(NamedTuple):
    """A campaign to check for completion, and the number of the change that made it due."""

    key: CampaignKey
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
        summary: digest of the last published summary.
    """

    generation: str | None
    counts: Counts
    state: str | None
    version: str | None
    expected: int | None
    summary: str | None


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

    def positions(self) -> Mapping[Cursor, int] | None:
        """Return the positions of the current generation; None if nothing was ever counted."""
        found = self._client.hgetall(keys.progress_positions(self._group))
        fields = {
            name.decode(): at.decode() for name, at in cast(dict[bytes, bytes], found).items()
        }
        return _offsets(fields) if GENERATION in fields else None

    def begin(self, generation: str, offsets: Mapping[Cursor, int]) -> dict[Cursor, int]:
        """Set from which offsets cursors are counted in this generation, where not set yet.

        Returns:
            The offsets in effect.

        Raises:
            StaleGenerationError: another generation has started.
        """
        arguments: list[str | int] = [generation]
        for cursor, offset in offsets.items():
            arguments += (_BEGAN + _name(cursor), offset)
        answer = self._run("begin", [keys.progress_positions(self._group)], arguments)
        if not answer:
            raise StaleGenerationError("the positions are of another generation")
        return dict(zip(offsets, map(int, cast(list[bytes], answer)), strict=True))

    def current_generation(self) -> str | None:
        """Return the generation whose counts are valid; None if nothing was ever counted."""
        found = self._client.hget(keys.progress_positions(self._group), GENERATION)
        return found.decode() if isinstance(found, bytes) else None

    def apply(self, generation: str, updates: Sequence[Update]) -> list[int | None]:
        """Add shares in one round trip.

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
        for cursor, key, delta in updates:
            words: list[str | int] = []
            for word, increment in delta.increments.items():
                words += (word, increment)
            # EVAL with the text: redis-py does not allow EVALSHA in cluster pipelines.
            pipeline.execute_command(
                "EVAL",
                _APPLY,
                3,
                keys.progress(*key),
                keys.progress_due(key.organization),
                keys.progress_campaigns(key.organization),
                generation,
                f"at:{_name(cursor)}",
                delta.start,
                delta.end,
                key.campaign_id,
                delta.first or "",
                delta.last or "",
                *words,
            )
        answers: list[int | None] = []
        found = cast(list[list[bytes | int]], pipeline.execute())
        self._know({update.key.organization for update in updates})
        for answer in found:
            if answer[0] == b"stale":
                raise StaleGenerationError("the counts are of a newer generation")
            answers.append(int(answer[1]) if answer[0] == b"partly" else None)
        return answers

    def advance(self, generation: str, offsets: Mapping[Cursor, int]) -> None:
        """Store positions before which everything is counted.

        Raises:
            StaleGenerationError: another generation has started.
        """
        if not offsets:
            return
        arguments: list[str | int] = [generation]
        for cursor, offset in offsets.items():
            arguments += (_name(cursor), offset)
        if not self._run("advance", [keys.progress_positions(self._group)], arguments):
            raise StaleGenerationError("the positions are of another generation")

    def snapshots(self, wanted: Iterable[CampaignKey]) -> list[Snapshot]:
        """Return snapshots of campaigns in one round trip."""
        pipeline = self._pipeline()
        for key in wanted:
            pipeline.execute_command("EVAL", _LOOK, 2, keys.progress(*key), keys.campaign(*key))
        return [_look(answer) for answer in pipeline.execute()]

    def campaigns(self) -> Iterator[CampaignKey]:
        """Yield all campaigns with counts of any generation."""
        for organization in self._known_organizations():
            found = self._client.smembers(keys.progress_campaigns(organization))
            for member in sorted(cast(set[bytes], found)):
                yield CampaignKey(organization, member.decode())

    def due(self) -> list[Due]:
        """Return campaigns whose counts or expected number changed since the last check."""
        organizations = self._known_organizations()
        pipeline = self._pipeline()
        for organization in organizations:
            pipeline.hgetall(keys.progress_due(organization))
        found = pipeline.execute() if organizations else []
        return [
            Due(CampaignKey(organization, campaign.decode()), change.decode())
            for organization, fields in zip(organizations, found, strict=True)
            for campaign, change in cast(dict[bytes, bytes], fields).items()
            if campaign
        ]

    def expect(self, key: CampaignKey, expected: int) -> None:
        """Set a campaign's expected number of recipients, overriding its definition."""
        self._run("expect", _judged_keys(key), [key.campaign_id, expected])
        self._know({key.organization})

    def complete(self, due: Due) -> str:
        """Complete a campaign if it is active and unchanged since it became due.

        Returns:
            Its state afterwards, or `changed`.
        """
        state = self._run("complete", _judged_keys(due.key), [due.key.campaign_id, due.change])
        return cast(bytes, state).decode()

    def settle(self, judged: Mapping[Due, str]) -> None:
        """Mark campaigns as no longer due unless they changed again, in one round trip.

        Args:
            judged: for each campaign the digest of its published summary, or ''.
        """
        pipeline = self._pipeline()
        for due, published in judged.items():
            pipeline.execute_command(
                "EVAL",
                _SETTLE,
                2,
                *_judged_keys(due.key),
                due.key.campaign_id,
                due.change,
                published,
            )
        pipeline.execute()

    def drop_older(self, generation: str) -> None:
        """Delete the counts of older generations."""
        for key in list(self.campaigns()):
            self._run(
                "drop",
                [keys.progress(*key), keys.progress_campaigns(key.organization)],
                [generation, key.campaign_id],
            )

    def forget(self, key: CampaignKey) -> None:
        """Delete a campaign's counts and its due entry."""
        organization = key.organization
        counted = keys.progress_campaigns(organization)
        due = keys.progress_due(organization)
        self._run("forget", [keys.progress(*key), due, counted], [key.campaign_id])
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
                key = CampaignKey(organization, member.decode())
                names = (keys.progress(*key), keys.campaign(*key), counted)
                pipeline.execute_command("EVAL", _SWEEP, 3, *names, key.campaign_id, keep_s)
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

    def _run(self, name: str, names: list[str], arguments: list[str | int]) -> object:
        answer: object = self._client.register_script(_read(name))(keys=names, args=arguments)
        return answer


class RedisPipeline(Protocol):
    """The methods used of redis-py's pipeline, whose own types lack return values."""

    def execute_command(self, *words: str | int) -> object:
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


def _judged_keys(key: CampaignKey) -> list[str]:
    return [keys.campaign(*key), keys.progress_due(key.organization)]


def _name(cursor: Cursor) -> str:
    return f"{cursor.stream}:{cursor.topic}:{cursor.partition}"


def _offsets(fields: Mapping[str, str]) -> dict[Cursor, int]:
    """Read the positions from the hash, ignoring other fields."""
    found: dict[Cursor, int] = {}
    for name, offset in fields.items():
        stream, _, rest = name.partition(":")
        if stream in _STREAMS:
            topic, _, partition = rest.partition(":")
            found[Cursor(Stream(stream), topic, int(partition))] = int(offset)
    return found


def _look(answer: object) -> Snapshot:
    flat, values = cast(tuple[list[bytes], list[bytes | None]], answer)
    fields = _pairs(flat)
    state, version, expected, summary = (v.decode() if v is not None else None for v in values)
    return Snapshot(
        generation=fields.get(GENERATION),
        counts=read_counts(fields),
        state=state,
        version=version,
        expected=int(expected) if expected is not None else None,
        summary=summary,
    )


def _pairs(flat: object) -> dict[str, str]:
    texts = [item.decode() for item in cast(list[bytes], flat)]
    return dict(zip(texts[::2], texts[1::2], strict=True))
