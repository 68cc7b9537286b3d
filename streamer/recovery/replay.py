"""Replaying dead letters to the input, each once, even if interrupted and repeated."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from streamer.kafka.stored import Reader
from streamer.kafka.writing import Checkpoint, no_checkpoint
from streamer.model import record_headers
from streamer.model.campaign import CampaignName
from streamer.model.event import DeadEventError, parse
from streamer.model.reasons import DeadReason
from streamer.model.record import Headers, RecordId
from streamer.model.wire import REPLACES
from streamer.recovery import patch
from streamer.recovery.copies import ExistingCopies
from streamer.recovery.dead_letters import DeadLetterFilter, DeadLetterReader, StoredDeadLetter
from streamer.recovery.patch import Patch, UnpatchableError
from streamer.recovery.republish import RecordCopy, Republisher
from streamer.settings import Settings


class ReplayResult(StrEnum):
    """What a replay did with a dead letter, or in a dry run would do."""

    REPLAYED = "replayed"
    ALREADY = "already_replayed"
    UNKNOWN = "unknown"
    UNPATCHABLE = "unpatchable"
    TOO_LARGE = "too_large"


@dataclass(frozen=True, slots=True)
class DeadLetterReplay:
    """What became of one dead letter; `fault` says why it will fail again, if it will."""

    place: str
    source: RecordId
    result: ReplayResult
    fault: str | None = None


@dataclass(slots=True)
class ReplayReport:
    """The result of a replay, or of a dry run.

    Attributes:
        selected: number of matching dead letters.
        already: replayed before.
        replayed: written now, or in a dry run to be written.
        unknown: skipped, because they may have been replayed before: they are older than the
            input topic's retention, or than the topic, or a younger one has the same coordinates.
        unpatchable: skipped, because the value is not JSON and cannot be patched.
        too_large: rejected by Kafka because of their size.
        still_dead: those of the replayed ones that will be dead letters again.
        strangers: records of the topic that are not dead letters.
        records: what became of each; those that were replayed before only in a dry run.
    """

    selected: int = 0
    already: int = 0
    replayed: int = 0
    unknown: int = 0
    unpatchable: int = 0
    too_large: int = 0
    still_dead: int = 0
    strangers: int = 0
    records: list[DeadLetterReplay] = field(default_factory=list)


class Replayer:
    """Replays dead letters.

    Args:
        settings: the settings.
        reader: reads the topics.
        selection: which dead letters to replay.
        fix: a merge patch applied to each value.
        may_mail_twice: also replay those that may have been replayed before.
        is_defined: whether a campaign is defined; without, an event needs a message of its own.
    """

    def __init__(
        self,
        settings: Settings,
        reader: Reader,
        selection: DeadLetterFilter,
        fix: Patch | None = None,
        *,
        may_mail_twice: bool = False,
        is_defined: Callable[[CampaignName], bool] = lambda _: True,
    ) -> None:
        self._reader = reader
        self._topic = settings.topics.dead_letters
        self._dead_letters = DeadLetterReader(selection)
        self._spans = selection.spans(reader, self._topic)
        self._fix = fix
        self._may_mail_twice = may_mail_twice
        self._is_defined = is_defined
        self._is_dry_run = False
        self._republisher = Republisher(settings, reader, "dlq", record_headers.REPLAY_OF)
        self._places: dict[RecordId, str] = {}
        self._shadowed: set[str] = set()
        self._approve: Callable[[int], None] | None = None
        self.result = ReplayReport()

    def plan(self) -> None:
        """Dry run: fill `result` without writing. Does not disturb a running replay.

        Raises:
            ReadError: a topic cannot be read.
            KafkaException: Kafka cannot be used.
        """
        self._is_dry_run = True
        self._select()
        for copy in self._republisher.plan(self._places, self._due):
            self._note_replayed(copy.source, copy.value)

    def run(
        self,
        checkpoint: Checkpoint = no_checkpoint,
        approve: Callable[[int], None] | None = None,
    ) -> None:
        """Replay the dead letters; after an error `result` shows what was done.

        Args:
            checkpoint: called at each step.
            approve: called before anything is written, with the number of dead letters that may
                have been replayed before and would be again; raises to refuse.

        Raises:
            ReadError: a topic cannot be read.
            WriteError: nothing more can be written.
            KafkaException: Kafka cannot be used.
        """
        self._approve = approve
        self._select()
        for record, is_written in self._republisher.run(self._places, self._due, checkpoint):
            named = record_headers.decode_headers(record.headers)[record_headers.REPLAY_OF]
            source = record_headers.parse_record_id(named)
            if source is None:
                raise AssertionError(f"a replay without a source: {named}")
            if is_written:
                self._note_replayed(source, record.value)
            else:
                self._note(self._places[source], source, ReplayResult.TOO_LARGE)

    def _select(self) -> None:
        """Collect the offset of each matching dead letter, by its source."""
        for dead_letter in self._read("dead letters"):
            shadowed = self._places.get(dead_letter.source)
            if shadowed is not None:  # in a topic created anew, coordinates are used again
                self._shadowed.add(shadowed)
            self._places[dead_letter.source] = dead_letter.place
        self.result.selected = len(self._places) + len(self._shadowed)
        self.result.strangers = self._dead_letters.malformed

    def _due(self, copies: ExistingCopies) -> Iterator[RecordCopy]:
        """Yield copies of the dead letters to replay."""
        if self._approve is not None and self._may_mail_twice:
            self._approve(len(copies.unknown & self._places.keys()))
        for dead_letter in self._read("replay"):
            if dead_letter.place in self._shadowed:
                self._note(dead_letter.place, dead_letter.source, ReplayResult.UNKNOWN)
            elif self._places.get(dead_letter.source) != dead_letter.place:
                continue  # added after the selection
            elif dead_letter.source in copies.made:
                self._note(dead_letter.place, dead_letter.source, ReplayResult.ALREADY)
            elif dead_letter.source in copies.unknown and not self._may_mail_twice:
                self._note(dead_letter.place, dead_letter.source, ReplayResult.UNKNOWN)
            else:
                try:
                    copy = self._copy(dead_letter)
                except UnpatchableError:
                    self._note(dead_letter.place, dead_letter.source, ReplayResult.UNPATCHABLE)
                else:
                    yield copy

    def _read(self, label: str) -> Iterator[StoredDeadLetter]:
        return self._dead_letters.read(self._reader, self._topic, self._spans, label)

    def _copy(self, dead_letter: StoredDeadLetter) -> RecordCopy:
        stored = dead_letter.stored
        # Keep the attempt: as a first attempt it would count as a duplicate.
        headers: Headers = [
            (name, stored.decoded_headers[name].encode())
            for name in (record_headers.ATTEMPT, REPLACES)
            if name in stored.decoded_headers
        ]
        value = stored.value if self._fix is None else patch.apply(self._fix, stored.value)
        return RecordCopy(dead_letter.source, stored, value, headers)

    def _note(
        self, place: str, source: RecordId, result: ReplayResult, fault: str | None = None
    ) -> None:
        match result:
            case ReplayResult.REPLAYED:
                self.result.replayed += 1
            case ReplayResult.ALREADY:
                self.result.already += 1
            case ReplayResult.UNKNOWN:
                self.result.unknown += 1
            case ReplayResult.UNPATCHABLE:
                self.result.unpatchable += 1
            case ReplayResult.TOO_LARGE:
                self.result.too_large += 1
        if self._is_dry_run or result is not ReplayResult.ALREADY:
            self.result.records.append(DeadLetterReplay(place, source, result, fault))

    def _note_replayed(self, source: RecordId, value: bytes | None) -> None:
        fault = self._fault(value)
        self.result.still_dead += fault is not None
        self._note(self._places[source], source, ReplayResult.REPLAYED, fault)

    def _fault(self, value: bytes | None) -> str | None:
        """Return why a record with this value will be a dead letter; None if it will not."""
        try:
            event = parse(value)
        except DeadEventError as error:
            return f"{error.reason}: {error}"
        name = CampaignName(event.organization_id, event.campaign_id)
        if event.message is None and not self._is_defined(name):
            return f"{DeadReason.UNKNOWN_CAMPAIGN}: {name} is not defined"
        return None
