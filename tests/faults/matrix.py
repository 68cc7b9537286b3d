"""Every fault at every point: discovers the pairs, visits them and collects the findings."""

import queue
import random
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from threading import Lock, Thread
from typing import NamedTuple

from streamer.stack import Stack
from tests.faults.lane import Lane, LapResult
from tests.faults.scenes import MAIN, SCENES, Scene
from tests.kit import http_proxy, kafka_faults, redis_proxy
from tests.kit.points import Point, PointKind

_TRIES = 3
_LAPS_A_WORLD = 60
_REHEARSALS = 2
_SETTLES_S = 1.0
_SAY_EVERY = 50
_MAX_NUMBERS = {PointKind.REDIS: 3, PointKind.HTTP: 6, PointKind.KAFKA: 2}
_MAX_IN_A_CROWD = 2
"""Points per call in `crowd`, where more would add little to those of `main`."""
_OPENING = ("HELLO", "CLIENT", "SELECT", "ROLE")
"""Commands that open each connection; they are alike, so only the first is a point."""

Say = Callable[[str], None]


class Pair(NamedTuple):
    """A point of a scene and a fault to inject there."""

    scene: Scene
    point: Point
    fault: str

    def __str__(self) -> str:
        return f"{self.scene.name}:{self.point} {self.fault}"


@dataclass
class Findings:
    """The results of the visits."""

    clean: list[Pair] = field(default_factory=list)
    broken: list[tuple[Pair, str]] = field(default_factory=list)
    unreached: list[Pair] = field(default_factory=list)
    worlds: list[str] = field(default_factory=list)
    """Violations found for many laps together, see `Lane.finish`."""

    @property
    def is_clean(self) -> bool:
        """Whether every pair was visited and every guarantee kept."""
        return not (self.broken or self.unreached or self.worlds)

    def table(self) -> Iterator[str]:
        """Yield the lines of a table with the number of faults and results per point."""
        clean, broken, unreached = (
            Counter((p.scene.name, p.point.name, p.point.number) for p in pairs)
            for pairs in (self.clean, [pair for pair, _ in self.broken], self.unreached)
        )
        yield f"{'point':58} visited  clean  broken  not reached"
        for place in sorted(clean.keys() | broken.keys() | unreached.keys()):
            scene, name, number = place
            visited = clean[place] + broken[place]
            yield (
                f"{f'{scene}:{name}#{number}':58} {visited:7} {clean[place]:6} "
                f"{broken[place] or '':7} {unreached[place] or '':12}".rstrip()
            )
        visited = len(self.clean) + len(self.broken)
        yield (
            f"{'all':58} {visited:7} {len(self.clean):6} {len(self.broken):7} "
            f"{len(self.unreached):12}"
        )


def faults_of(scene: Scene, point: Point) -> Sequence[str]:
    """Return the possible faults at a point of a scene."""
    if scene.of_calls:
        return http_proxy.FAULTS_OF_THE_WAY
    if point.kind is PointKind.REDIS:
        return redis_proxy.faults_of(point.name)
    if point.kind is PointKind.HTTP:
        return http_proxy.FAULTS
    return kafka_faults.faults_of(point.name)


def rehearse(lane: Lane, scenes: Iterable[Scene] = SCENES) -> list[tuple[Scene, Point]]:
    """Discover the points by running the scenes without a fault.

    Raises:
        AssertionError: a scene breaks a guarantee without a fault.
    """
    found: list[tuple[Scene, Point]] = []
    known: set[tuple[PointKind, str]] = set()
    for _ in range(_REHEARSALS):  # warm up: the calls of a starting worker are not the job's
        lane.lap(MAIN)
        time.sleep(_SETTLES_S)
    for scene in scenes:
        counts: defaultdict[tuple[PointKind, str], list[int]] = defaultdict(list)
        for _ in range(_REHEARSALS):
            result = lane.lap(scene)
            assert not result.broken, f"{scene.name}, without a fault: {result.broken}"
            seen = result.seen
            if scene.restarts:  # from the first batch on, it equals the main job
                begins = [point.name for point in seen].index("probe")
                new = [p for p in seen[begins:] if (p.kind, p.name) not in known]
                seen = seen[:begins] + new
            for place, count in Counter((point.kind, point.name) for point in seen).items():
                counts[place].append(count)
        for (kind, name), numbers in counts.items():
            if scene.of_calls and kind is not PointKind.HTTP:
                continue
            if not _matches(name, scene.only):
                continue
            repeats = (
                scene.restarts or scene.of_calls or scene.in_flight > 1 or _matches(name, scene.own)
            )
            if (kind, name) in known and not repeats:
                continue
            most = 1 if name in _OPENING else _MAX_NUMBERS[kind]
            if scene.in_flight > 1:
                most = min(most, _MAX_IN_A_CROWD)
            # For a call that is not made in every lap, only the first is a point.
            last = min(most, *numbers) if len(numbers) == _REHEARSALS else 1
            points = [Point(kind, name, number) for number in range(1, last + 1)]
            found += [(scene, point) for point in points if point not in scene.companions]
        known |= counts.keys()
    return found


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def pairs_of(
    points: Iterable[tuple[Scene, Point]], wanted_points: str = "", wanted_faults: str = ""
) -> list[Pair]:
    """Return the pairs of these points, optionally filtered.

    Args:
        wanted_points: comma-separated patterns, such as `pin`, `pin#2`, `hold:*`, `redis`.
        wanted_faults: comma-separated patterns, such as `reply_lost`, `4*`.
    """
    return [
        Pair(scene, point, fault)
        for scene, point in points
        if _is_wanted(
            wanted_points, point.name, str(point), f"{scene.name}:{point}", scene.name, point.kind
        )
        for fault in faults_of(scene, point)
        if _is_wanted(wanted_faults, fault)
    ]


def _is_wanted(patterns: str, *names: str) -> bool:
    return not patterns or any(
        name == pattern or fnmatchcase(name, pattern)
        for pattern in patterns.split(",")
        for name in names
    )


class Visits:
    """Visits pairs in parallel: each lane calls `work` in its own thread."""

    def __init__(self, pairs: Sequence[Pair], say: Say) -> None:
        self.findings = Findings()
        self._say = say
        self._all = len(pairs)
        self._todo: queue.SimpleQueue[tuple[Pair, int]] = queue.SimpleQueue()
        for pair in pairs:
            self._todo.put((pair, 1))
        self._lock = Lock()
        self._done = 0
        self._began = time.monotonic()

    def work(self, lane: Lane) -> None:
        """Visit pairs until none are left."""
        while True:
            try:
                pair, tries = self._todo.get_nowait()
            except queue.Empty:
                break
            result = lane.lap(*pair)
            if not result.reached and tries < _TRIES:
                self._todo.put((pair, tries + 1))
            else:
                self._note(pair, result)
            if lane.laps >= _LAPS_A_WORLD:
                self._finish(lane)
        self._finish(lane)

    def _note(self, pair: Pair, result: LapResult) -> None:
        with self._lock:
            self._done += 1
            if result.broken:
                self.findings.broken.append((pair, result.broken))
                self._say(f"BROKEN {pair}\n{result.broken}")
            elif result.reached:
                self.findings.clean.append(pair)
            else:
                self.findings.unreached.append(pair)
            if self._done % _SAY_EVERY == 0:
                seconds = time.monotonic() - self._began
                self._say(f"{self._done} of {self._all} in {seconds:.0f} s")

    def _finish(self, lane: Lane) -> None:
        broken = lane.finish()
        if broken:
            with self._lock:
                self.findings.worlds.append(broken)
                self._say(f"BROKEN, of many laps together\n{broken}")


def visit(stack: Stack, pairs: Sequence[Pair], lanes: int, say: Say) -> Findings:
    """Visit the pairs on this many parallel lanes."""
    visits = Visits(pairs, say)
    failures: list[BaseException] = []

    def run(number: int, folder: Path) -> None:
        folder.mkdir()
        try:
            lane = Lane(number, stack, folder)
            try:
                visits.work(lane)
            finally:
                lane.close()
        except BaseException as error:
            failures.append(error)
            raise

    with tempfile.TemporaryDirectory(prefix="streamer-faults-") as folder:
        threads = [
            Thread(target=run, args=(number, Path(folder) / str(number)))
            for number in range(1, min(lanes, len(pairs)) + 1)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]
    return visits.findings


def discover(stack: Stack, scenes: Iterable[Scene] = SCENES) -> list[tuple[Scene, Point]]:
    """Discover the points in a temporary lane."""
    with tempfile.TemporaryDirectory(prefix="streamer-faults-") as folder:
        lane = Lane(0, stack, Path(folder))
        try:
            return rehearse(lane, scenes)
        finally:
            lane.close()


def sample(pairs: Sequence[Pair], count: int, seed: int) -> list[Pair]:
    """Return up to `count` random pairs, split evenly between the kinds of points."""
    dice = random.Random(seed)
    by_kind: defaultdict[PointKind, list[Pair]] = defaultdict(list)
    for pair in pairs:
        by_kind[pair.point.kind].append(pair)
    found: list[Pair] = []
    for kind in sorted(by_kind):
        some = by_kind[kind]
        found += dice.sample(some, min(len(some), count // len(by_kind)))
    dice.shuffle(found)
    return found
