"""Replaying dead letters to the input, each once, even if interrupted and repeated."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from streamer.kafka.reading import Reader
from streamer.kafka.writing import Checkpoint, no_checkpoint
from streamer.model import record_headers
from streamer.model.event import DeadEventError, parse
from streamer.model.record import Headers, RecordId
from streamer.model.wire import REPLACES
from streamer.recovery import patch
from streamer.recovery.copies import ExistingCopies
from streamer.recovery.dead_letters import DeadLetterFilter, DeadLetterReader, StoredDeadLetter
from streamer.recovery.patch import Patch, UnpatchableError
from streamer.recovery.republish import RecordCopy, Republisher
from streamer.settings import Settings


@dataclass(frozen=True, slots=True)
class PlannedReplay:
    """A dead letter that would be replayed; `fault` says why it would fail again, if so."""

    place: str
    source: RecordId
    fault: str | None


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
        still_dead: those of the replayed ones that are still not valid events.
        strangers: records of the topic that are not dead letters.
        planned: in a dry run, the dead letters to be replayed.
    """

    selected: int = 0
    already: int = 0
    replayed: int = 0
    unknown: int = 0
    unpatchable: int = 0
    too_large: int = 0
    still_dead: int = 0
    strangers: int = 0
    planned: list[PlannedReplay] = field(default_factory=list)


class Replayer:
    """Replays dead letters.

    Args:
        settings: the settings.
        reader: reads the topics.
        selection: which dead letters to replay.
        fix: a merge patch applied to each value.
        may_mail_twice: also replay those that may have been replayed before.
    """

    def __init__(
        self,
        settings: Settings,
        reader: Reader,
        selection: DeadLetterFilter,
        fix: Patch | None = None,
        *,
        may_mail_twice: bool = False,
    ) -> None:
        self._reader = reader
        self._topic = settings.topics.dead_letters
        self._dead_letters = DeadLetterReader(selection)
        self._spans = selection.spans(reader, self._topic)
        self._fix = fix
        self._may_mail_twice = may_mail_twice
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
        self._select()
        for copy in self._republisher.plan(self._places, self._due):
            fault = self._count(copy.value)
            self.result.planned.append(PlannedReplay(self._places[copy.source], copy.source, fault))

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
            if is_written:
                self._count(record.value)
            else:
                self.result.too_large += 1

    def _select(self) -> None:
        """Collect the offset of each matching dead letter, by its source."""
        records = self._reader.read(self._topic, self._spans, "dead letters")
        for dead_letter in self._dead_letters.among(records):
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
        again = self._dead_letters.among(self._reader.read(self._topic, self._spans, "replay"))
        for dead_letter in again:
            if dead_letter.place in self._shadowed:
                self.result.unknown += 1
            elif self._places.get(dead_letter.source) != dead_letter.place:
                continue  # added after the selection
            elif dead_letter.source in copies.made:
                self.result.already += 1
            elif dead_letter.source in copies.unknown and not self._may_mail_twice:
                self.result.unknown += 1
            else:
                try:
                    yield self._copy(dead_letter)
                except UnpatchableError:
                    self.result.unpatchable += 1

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

    def _count(self, value: bytes | None) -> str | None:
        """Count a replayed record; return why it will fail again, if so."""
        self.result.replayed += 1
        try:
            parse(value)
        except DeadEventError as error:
            self.result.still_dead += 1
            return f"{error.reason}: {error}"
        return None
