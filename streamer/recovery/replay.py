"""Replaying dead letters to the input, each once, even if interrupted and repeated."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from streamer.kafka.reading import Reader
from streamer.kafka.writing import Checkpoint, no_checkpoint
from streamer.model import marks
from streamer.model.event import DeadEventError, parse
from streamer.model.record import Coordinates, Headers
from streamer.model.wire import REPLACES
from streamer.recovery import patch
from streamer.recovery.copies import Marked
from streamer.recovery.dead_letters import Letter, Letters, Wanted
from streamer.recovery.patch import Patch, UnpatchableError
from streamer.recovery.republish import Copy, Republisher
from streamer.settings import Settings


@dataclass(frozen=True, slots=True)
class Planned:
    """A dead letter that would be replayed; `fault` says why it would fail again, if so."""

    place: str
    source: Coordinates
    fault: str | None


@dataclass(slots=True)
class Replay:
    """The result of a replay, or of a dry run.

    Attributes:
        selected: number of matching dead letters.
        already: replayed before.
        replayed: written now, or in a dry run to be written.
        unknown: skipped, because they are older than the input topic's retention and may have
            been replayed before.
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
    planned: list[Planned] = field(default_factory=list)


class Replayer:
    """Replays dead letters.

    Args:
        settings: the settings.
        reader: reads the topics.
        wanted: which dead letters to replay.
        fix: a merge patch applied to each value.
        may_mail_twice: also replay those that may have been replayed before.
    """

    def __init__(
        self,
        settings: Settings,
        reader: Reader,
        wanted: Wanted,
        fix: Patch | None = None,
        *,
        may_mail_twice: bool = False,
    ) -> None:
        self._reader = reader
        self._topic = settings.topics.dead_letters
        self._letters = Letters(wanted)
        self._spans = wanted.spans(reader, self._topic)
        self._fix = fix
        self._may_mail_twice = may_mail_twice
        self._republisher = Republisher(settings, reader, "dlq", marks.REPLAY_OF)
        self._places: dict[Coordinates, str] = {}
        self.result = Replay()

    def plan(self) -> None:
        """Dry run: fill `result` without writing. Does not disturb a running replay.

        Raises:
            ReadError: a topic cannot be read.
            KafkaException: Kafka cannot be used.
        """
        self._select()
        for copy in self._republisher.plan(self._places, self._due):
            fault = self._count(copy.value)
            self.result.planned.append(Planned(self._places[copy.source], copy.source, fault))

    def run(self, checkpoint: Checkpoint = no_checkpoint) -> None:
        """Replay the dead letters; after an error `result` shows what was done.

        Raises:
            ReadError: a topic cannot be read.
            WriteError: nothing more can be written.
            KafkaException: Kafka cannot be used.
        """
        self._select()
        for record, is_written in self._republisher.run(self._places, self._due, checkpoint):
            if is_written:
                self._count(record.value)
            else:
                self.result.too_large += 1

    def _select(self) -> None:
        """Collect the offset of each matching dead letter, by its source."""
        records = self._reader.read(self._topic, self._spans, "dead letters")
        self._places = {letter.source: letter.place for letter in self._letters.among(records)}
        self.result.selected = len(self._places)
        self.result.strangers = self._letters.strangers

    def _due(self, marked: Marked) -> Iterator[Copy]:
        """Yield copies of the dead letters to replay."""
        again = self._letters.among(self._reader.read(self._topic, self._spans, "replay"))
        for letter in again:
            if self._places.get(letter.source) != letter.place:
                continue  # added after the selection
            if letter.source in marked.done:
                self.result.already += 1
            elif letter.source in marked.unknown and not self._may_mail_twice:
                self.result.unknown += 1
            else:
                try:
                    yield self._copy(letter)
                except UnpatchableError:
                    self.result.unpatchable += 1

    def _copy(self, letter: Letter) -> Copy:
        stored = letter.stored
        # Keep the attempt: as a first attempt it would count as a duplicate.
        headers: Headers = [
            (name, stored.words[name].encode())
            for name in (marks.ATTEMPT, REPLACES)
            if name in stored.words
        ]
        value = stored.value if self._fix is None else patch.apply(self._fix, stored.value)
        return Copy(letter.source, stored, value, headers)

    def _count(self, value: bytes | None) -> str | None:
        """Count a replayed record; return why it will fail again, if so."""
        self.result.replayed += 1
        try:
            parse(value)
        except DeadEventError as error:
            self.result.still_dead += 1
            return f"{error.reason}: {error}"
        return None
