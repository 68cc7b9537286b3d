"""The counts in Redis, and everything that is kept beside them.

A campaign's counts lie in one hash with, for each place (a cursor on a partition), the offset
before which it is counted for this campaign. A share of a chunk is added by one script, which
looks at that offset first, so it counts once whatever is read again. The positions lie apart,
as their slot is another, and follow.

Two things are always true, and from them the counts are exact:

1. A campaign's hash counts each of the campaign's records before its mark of the place, and none
   behind it: the script adds a share and moves the mark in one step, and only if the share's
   first record is the next one that the hash lacks.
2. The position of a place is behind no record that a campaign's hash lacks: it moves only after
   the shares of all campaigns were added. So a chunk that is read from a position begins, for
   every campaign, with the next record that it lacks, or before it.

To begin anew is to raise the generation: counts and positions of an older one are worth nothing,
and whoever still adds to them is told.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import NamedTuple, Protocol, cast

from streamer.errors import StreamerError
from streamer.ledger import keys
from streamer.ledger.connection import Client
from streamer.progress.counts import Counts, read_counts
from streamer.progress.fold import CampaignKey, Cursor, Place, Share

GENERATION = "generation"

_BEGAN = "began:"
_CURSORS = frozenset(cursor.value for cursor in Cursor)


class StaleGenerationError(StreamerError):
    """The projection began anew, or is another group's by now: read the positions again."""


class Positions(NamedTuple):
    """How far a generation has read."""

    generation: str
    offsets: dict[Place, int]


class Update(NamedTuple):
    """What a chunk of a place adds to a campaign."""

    place: Place
    key: CampaignKey
    share: Share


class Due(NamedTuple):
    """A campaign to be judged, and the number of the change that made it so."""

    key: CampaignKey
    change: str


@dataclass(frozen=True, slots=True)
class Look:
    """What Redis knows of a campaign's progress at one moment.

    Attributes:
        generation: of the counts; None if there are none.
        state: as it is written, or paused before its start; None if it was never set.
        version: of the definition; None if there is none.
        expected: as it was set by `campaign close` and `produce --done`; None if it was not.
        summary: the digest of the summary that was published last.
    """

    generation: str | None
    counts: Counts
    state: str | None
    version: str | None
    expected: int | None
    summary: str | None


class Store:
    """Reads and writes the counts of one consumer group's projection.

    Its methods raise redis.exceptions.RedisError or RedisClusterException if Redis cannot be
    used; whether what they asked was carried out is then not known, and to ask again is safe.
    """

    def __init__(self, client: Client, group: str) -> None:
        self._client = client
        self._group = group

    def open(self, *, anew: bool = False) -> Positions:
        """The positions; `anew`: of a new generation, which has read nothing."""
        flat = self._run("open", [keys.progress_positions(self._group)], ["1" if anew else "0"])
        fields = _pairs(flat)
        return Positions(fields[GENERATION], _offsets(fields))

    def positions(self) -> Mapping[Place, int] | None:
        """How far the present generation has read; None if nothing was ever counted."""
        found = self._client.hgetall(keys.progress_positions(self._group))
        fields = {
            name.decode(): at.decode() for name, at in cast(dict[bytes, bytes], found).items()
        }
        return _offsets(fields) if GENERATION in fields else None

    def begin(self, generation: str, offsets: Mapping[Place, int]) -> dict[Place, int]:
        """Say from where on places are counted in this generation; answers what was said first.

        Raises:
            StaleGenerationError: see there.
        """
        arguments: list[str | int] = [generation]
        for place, offset in offsets.items():
            arguments += (_BEGAN + _name(place), offset)
        answer = self._run("begin", [keys.progress_positions(self._group)], arguments)
        if not answer:
            raise StaleGenerationError("the positions are of another generation")
        return dict(zip(offsets, map(int, cast(list[bytes], answer)), strict=True))

    def current_generation(self) -> str | None:
        """The generation whose counts are worth something; None if nothing was ever counted."""
        found = self._client.hget(keys.progress_positions(self._group), GENERATION)
        return found.decode() if isinstance(found, bytes) else None

    def apply(self, generation: str, updates: Sequence[Update]) -> list[int | None]:
        """Add shares, in one round trip. Answers for each None if its records are counted now,
        or else the offset before which they were already: nothing was added then, and the share
        of the records from there on is to be given.

        Raises:
            StaleGenerationError: see there.
        """
        if not updates:
            return []
        pipeline = self._pipeline()
        for place, key, share in updates:
            words: list[str | int] = []
            for word, increment in share.increments.items():
                words += (word, increment)
            # By its text: redis-py lets no pipeline to a cluster name a script by its digest.
            pipeline.execute_command(
                "EVAL",
                _APPLY,
                3,
                keys.progress(*key),
                keys.progress_due(key.organization),
                keys.progress_campaigns(key.organization),
                generation,
                f"at:{_name(place)}",
                share.start,
                share.end,
                key.campaign_id,
                share.first or "",
                share.last or "",
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

    def advance(self, generation: str, offsets: Mapping[Place, int]) -> None:
        """Keep positions before which everything is counted.

        Raises:
            StaleGenerationError: see there.
        """
        if not offsets:
            return
        arguments: list[str | int] = [generation]
        for place, offset in offsets.items():
            arguments += (_name(place), offset)
        if not self._run("advance", [keys.progress_positions(self._group)], arguments):
            raise StaleGenerationError("the positions are of another generation")

    def look(self, wanted: Iterable[CampaignKey]) -> list[Look]:
        """What is known of campaigns, in one round trip."""
        pipeline = self._pipeline()
        for key in wanted:
            pipeline.execute_command("EVAL", _LOOK, 2, keys.progress(*key), keys.campaign(*key))
        return [_look(answer) for answer in pipeline.execute()]

    def campaigns(self) -> Iterator[CampaignKey]:
        """All campaigns that have counts, of whatever generation."""
        for organization in self._known_organizations():
            found = self._client.smembers(keys.progress_campaigns(organization))
            for member in sorted(cast(set[bytes], found)):
                yield CampaignKey(organization, member.decode())

    def due(self) -> list[Due]:
        """The campaigns that changed since they were judged, or were told what to expect."""
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
        """Say how many recipients a campaign has, over what its definition says."""
        self._run("expect", _judged_keys(key), [key.campaign_id, expected])
        self._know({key.organization})

    def complete(self, due: Due) -> str:
        """Complete a campaign, if nothing changed since it became due and if it is active;
        answers its state then, or `changed`."""
        state = self._run("complete", _judged_keys(due.key), [due.key.campaign_id, due.change])
        return cast(bytes, state).decode()

    def settle(self, judged: Mapping[Due, str]) -> None:
        """Campaigns are due no more, unless they changed again; in one round trip.

        Args:
            judged: for each the digest of the summary that was published, or ''.
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
        """Forget the counts of older generations."""
        for key in list(self.campaigns()):
            self._run(
                "drop",
                [keys.progress(*key), keys.progress_campaigns(key.organization)],
                [generation, key.campaign_id],
            )

    def forget(self, key: CampaignKey) -> None:
        """Forget a campaign: its counts, and that it is to be judged."""
        organization = key.organization
        counted = keys.progress_campaigns(organization)
        due = keys.progress_due(organization)
        self._run("forget", [keys.progress(*key), due, counted], [key.campaign_id])
        self._leave(organization)

    def sweep(self, keep_s: int) -> None:
        """Let the counts of campaigns that are completed or cancelled end so long after their last
        change, and forget those whose counts have ended."""
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
        # After their campaigns are counted: who has just found none of one would leave it out.
        self._client.sadd(keys.progress_organizations(self._group), *sorted(organizations))

    def _leave(self, organization: str) -> None:
        """Leave an organization out if it has no campaigns that are counted or to be judged."""

        def has_campaigns() -> bool:
            counted, due = keys.progress_campaigns(organization), keys.progress_due(organization)
            return bool(self._client.scard(counted)) or self._client.hlen(due) > 1

        organizations = keys.progress_organizations(self._group)
        if not has_campaigns():
            self._client.srem(organizations, organization)
            if has_campaigns():  # one has come meanwhile
                self._client.sadd(organizations, organization)

    def _known_organizations(self) -> list[str]:
        found = self._client.smembers(keys.progress_organizations(self._group))
        return sorted(member.decode() for member in cast(set[bytes], found))

    def _pipeline(self) -> "Pipeline":
        return cast(Pipeline, self._client.pipeline(transaction=False))

    def _run(self, name: str, names: list[str], arguments: list[str | int]) -> object:
        answer: object = self._client.register_script(_read(name))(keys=names, args=arguments)
        return answer


class Pipeline(Protocol):
    """What is used of a pipeline of redis-py, whose own types do not say what it answers."""

    def execute_command(self, *words: str | int) -> object:
        """Queue a command."""

    def hgetall(self, name: str) -> object:
        """Queue the reading of a hash."""

    def execute(self) -> list[object]:
        """Send what was queued."""


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


def _name(place: Place) -> str:
    return f"{place.cursor}:{place.topic}:{place.partition}"


def _offsets(fields: Mapping[str, str]) -> dict[Place, int]:
    """The positions in the hash; what else stands there is left out."""
    found: dict[Place, int] = {}
    for name, offset in fields.items():
        cursor, _, rest = name.partition(":")
        if cursor in _CURSORS:
            topic, _, partition = rest.partition(":")
            found[Place(Cursor(cursor), topic, int(partition))] = int(offset)
    return found


def _look(answer: object) -> Look:
    flat, values = cast(tuple[list[bytes], list[bytes | None]], answer)
    fields = _pairs(flat)
    state, version, expected, summary = (v.decode() if v is not None else None for v in values)
    return Look(
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
