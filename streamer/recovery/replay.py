"""Dead letters back to the input, each once, however often it is killed and repeated."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from streamer.cli.repair.fenced import Checkpoint, FencedWriter, Outgoing, chunked, no_checkpoint
from streamer.cli.repair.reading import Reader
from streamer.model import marks
from streamer.model.event import DeadEventError, parse
from streamer.model.record import Coordinates
from streamer.model.wire import REPLACES
from streamer.recovery import patch
from streamer.recovery.copies import Marked
from streamer.recovery.dead_letters import Letter, Letters, Wanted
from streamer.recovery.patch import Patch, UnpatchableError
from streamer.settings import Settings


@dataclass(frozen=True, slots=True)
class Planned:
    """A dead letter that would be replayed, and why it would die again, if it would."""

    place: str
    source: Coordinates
    fault: str | None


@dataclass(slots=True)
class Replay:
    """What became of the dead letters that were asked for.

    Attributes:
        selected: how many there are.
        already: replayed before.
        replayed: written now, or that would be.
        unknown: older than what the input topic keeps: nobody can tell whether they were
            replayed before, so they were not.
        unpatchable: no JSON, so that the patch cannot be applied.
        too_large: refused by Kafka for their size.
        still_dead: of the replayed ones, those that are still no event.
        strangers: records of the topic that are no dead letters.
        planned: of a dry run, each that would be replayed.
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
    """Replays dead letters: fences, reads what was replayed before, writes the rest.

    Args:
        fix: a merge patch for each value.
        may_mail_twice: also those of which nobody can tell whether they were replayed before.
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
        self._settings = settings
        self._reader = reader
        self._letters = Letters(wanted)
        self._fix = fix
        self._may_mail_twice = may_mail_twice
        self._topic = settings.topics.dead_letters
        self._spans = wanted.spans(reader, self._topic)
        self.result = Replay()

    def plan(self) -> None:
        """Only say what would be done; a replay that is under way is not disturbed.

        Raises:
            ReadError: a topic cannot be read.
            KafkaException: Kafka cannot be used.
        """
        places = self._select()
        if not places:
            return
        for letter, outgoing in self._due(places, self._look_back(places)):
            fault = self._count(outgoing)
            self.result.planned.append(Planned(letter.place, letter.source, fault))

    def run(self, checkpoint: Checkpoint = no_checkpoint) -> None:
        """Replay them. What was done when it fails stands in `result`.

        Raises:
            ReadError: a topic cannot be read.
            WriteError: nothing more can be written.
            KafkaException: Kafka cannot be used.
        """
        places = self._select()
        if not places:
            return
        writer = FencedWriter(self._settings, "dlq", self._reader.trouble, checkpoint)
        marked = self._look_back(places)
        checkpoint("after_look_back")
        due = (outgoing for _, outgoing in self._due(places, marked))
        for chunk in chunked(due):
            refused = writer.write(chunk)
            self.result.too_large += len(refused)
            for outgoing in chunk:
                if outgoing not in refused:
                    self._count(outgoing)

    def _select(self) -> dict[Coordinates, str]:
        """The letters that are asked for: the place of each, by its source."""
        records = self._reader.read(self._topic, self._spans, "dead letters")
        places = {letter.source: letter.place for letter in self._letters.among(records)}
        self.result.selected = len(places)
        self.result.strangers = self._letters.strangers
        return places

    def _look_back(self, sources: Iterable[Coordinates]) -> Marked:
        return Marked.by(marks.REPLAY_OF, self._reader, self._settings.topics.recipients, sources)

    def _due(
        self, places: Mapping[Coordinates, str], marked: Marked
    ) -> Iterator[tuple[Letter, Outgoing]]:
        """The letters that are to be replayed, and the record of each."""
        again = self._letters.among(self._reader.read(self._topic, self._spans, "replay"))
        for letter in again:
            if places.get(letter.source) != letter.place:
                continue  # not there when they were selected
            if letter.source in marked.done:
                self.result.already += 1
            elif letter.source in marked.unknown and not self._may_mail_twice:
                self.result.unknown += 1
            else:
                try:
                    yield letter, self._outgoing(letter, marked)
                except UnpatchableError:
                    self.result.unpatchable += 1

    def _outgoing(self, letter: Letter, marked: Marked) -> Outgoing:
        stored = letter.stored
        headers = marks.own_headers(stored.headers)
        headers.append((marks.REPLAY_OF, str(letter.source).encode()))
        for name in (marks.ATTEMPT, REPLACES):
            if name in stored.words:
                # It is the same attempt still: as the first it would be taken for a duplicate.
                headers.append((name, stored.words[name].encode()))
        value = stored.value if self._fix is None else patch.apply(self._fix, stored.value)
        return Outgoing(marked.partition(letter.source), stored.key, value, headers)

    def _count(self, outgoing: Outgoing) -> str | None:
        """Count a record that is replayed; returns why it will die again, if it will."""
        self.result.replayed += 1
        try:
            parse(outgoing.value)
        except DeadEventError as error:
            self.result.still_dead += 1
            return f"{error.reason}: {error}"
        return None
