"""The pulse of the ledger in Redis, which shows that it has lost its latest writes.

The epoch survives in an older snapshot, and in a replica that is promoted without having all
writes. The pulse does not: workers raise it every second in which they work, and commit its value
with their offsets (see `model.pulse`). It is that of one group, so that one group's rebuilt ledger
is not taken for another's.

A worker that did not raise the pulse since the lost writes cannot notice them, and raises it beyond
what the others had. So the last pulses are kept, not only the highest: one that is missing was
lost.

Each slot that scripts use has a pulse of its own, as one node of a cluster may lose writes alone.
What it must be at least is kept in the slot of the epoch, whose pulse in turn is kept in Kafka.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple, cast

from streamer.ledger import keys
from streamer.ledger.confirming import ConfirmedScript, confirmed
from streamer.ledger.connection import Client, NotNowError
from streamer.ledger.epoch import Epoch, LedgerLostError
from streamer.ledger.scripts import read
from streamer.model.instants import as_text, from_milliseconds
from streamer.model.pulse import behind

_MANY = 500


class StaleLedgerError(LedgerLostError):
    """The ledger in Redis lacks its latest writes: nothing more may be sent.

    Attributes:
        since_ms: the time from which on writes are missing, in ms since 1970; 0 if unknown.
    """

    def __init__(self, message: str, since_ms: int) -> None:
        super().__init__(message)
        self.since_ms = since_ms


class PulseStatus(NamedTuple):
    """The pulses in Redis.

    Attributes:
        pulse: that of the slot of the epoch; 0 if there is none.
        slots: what the other slots have, by their epochs' keys.
        expected: what they must have at least.
        rebuild_since_ms: from when on outcomes are read, if a rebuild has begun and is not over.
    """

    pulse: int
    slots: dict[str, int]
    expected: dict[str, int]
    rebuild_since_ms: int | None

    def behind(self, committed: int) -> dict[str, int]:
        """Return the slots that lack writes, with their pulses.

        Args:
            committed: the highest pulse in the metadata of committed offsets.
        """
        found = {keys.EPOCH: self.pulse, **self.slots}
        return behind(found, {keys.EPOCH: committed, **self.expected})


class Pulse:
    """The pulse of a group's ledger. Only one thread at a time may use it.

    Its methods raise redis.exceptions.RedisError if Redis cannot be used.

    Attributes:
        value: the last pulse that this worker has raised, confirmed; any thread may read it.
    """

    def __init__(self, client: Client, epoch: Epoch, group: str) -> None:
        self.value = 0
        self._client = client
        self._epoch = epoch
        self._group = group
        self._committed = 0
        self._draw = client.register_script(read("draw_pulse"))
        self._raise = ConfirmedScript(client, read("raise_pulse"))
        self._note = ConfirmedScript(client, read("note_pulses"))

    def begin(self, committed: Iterable[int]) -> None:
        """Check all slots, and raise the pulse for the first time.

        Args:
            committed: the pulses in the metadata of the group's committed offsets.

        Raises:
            StaleLedgerError: the ledger lacks writes, or is being rebuilt.
        """
        self.verify(committed)
        found = read_pulses(self._client, self._group).behind(self._committed)
        if found:
            raise _stale(found, self._committed)
        self._raise_for(set())

    def verify(self, committed: Iterable[int] = ()) -> None:
        """Check the pulse, and those in the metadata of further committed offsets.

        Raises:
            StaleLedgerError: the ledger lacks writes, or is being rebuilt.
        """
        committed = {*committed}
        self._committed = max(self._committed, *committed, 0)
        found, since = look(self._client, self._group, {*committed, self.value})
        if since is not None:
            raise StaleLedgerError(
                "the ledger is being rebuilt. Nothing is sent until `streamer ledger rebuild` has "
                "finished; start it again if it was stopped",
                since,
            )
        if found < max(self._committed, self.value):
            raise _stale({keys.EPOCH: found}, max(self._committed, self.value))

    def beat(self) -> None:
        """Check the pulse, and raise it if scripts have used a slot since.

        Raises:
            StaleLedgerError: the ledger lacks writes, or is being rebuilt.
        """
        self.verify()
        used = self._epoch.used.copy()
        if not used:
            return
        self._epoch.used -= used  # first: a slot that is used from now on is raised again
        try:
            self._raise_for(used)
        except BaseException:
            self._epoch.used |= used
            raise

    def _raise_for(self, used: set[str]) -> None:
        slots = sorted(used)
        lowest = max(self._committed, self.value)
        reply = cast(
            list[bytes | None],
            self._draw(
                keys=[
                    keys.pulse(self._group),
                    keys.drawn_pulses(self._group),
                    keys.slot_pulses(self._group),
                ],
                args=[lowest, *slots],
            ),
        )
        last, new, *expected = (int(each or 0) for each in reply)
        if last < lowest:
            raise _stale({keys.EPOCH: last}, lowest)
        # Confirmed before anything relies on it: a pulse that is forgotten after it was committed,
        # or noted, stops all workers.
        replies = self._raise.each(
            [
                (keys.slot_pulse(slot, self._group), [least, new])
                for slot, least in zip(slots, expected, strict=True)
            ]
        )
        found = {slot: int(cast(bytes, last)) for slot, last in zip(slots, replies, strict=True)}
        lost = behind(found, dict(zip(slots, expected, strict=True)))
        if lost:
            raise _stale(lost, max(expected))
        key_names = [keys.drawn_pulses(self._group), keys.slot_pulses(self._group)]
        if not self._note(keys=key_names, args=[new, *slots]):
            raise NotNowError("another server took over while the pulse was raised")
        self.value = new


def look(client: Client, group: str, needed: Iterable[int]) -> tuple[int, int | None]:
    """Return the pulse of the slot of the epoch, 0 if there is none, and since when outcomes are
    read for a rebuild, if one has begun and is not over.

    A ledger that lacks a needed pulse, and was raised since, is set back to before it.

    Raises:
        redis.exceptions.RedisError: Redis cannot be used.
    """
    script = client.register_script(read("verify_pulse"))
    names = [keys.pulse(group), keys.drawn_pulses(group), keys.rebuild(group)]
    pulse, since = cast(list[bytes | None], script(keys=names, args=[*needed]))
    return int(pulse or 0), None if since is None else int(since)


def read_pulses(client: Client, group: str, committed: Iterable[int] = ()) -> PulseStatus:
    """Read the pulses of all slots.

    Args:
        committed: the pulses in the metadata of the group's committed offsets.

    Raises:
        redis.exceptions.RedisError: Redis cannot be used.
    """
    pulse, since = look(client, group, committed)
    noted = cast(dict[bytes, bytes], client.hgetall(keys.slot_pulses(group)))
    expected = {slot.decode(): int(value) for slot, value in noted.items()}
    names = [*expected]
    found: list[bytes | None] = []
    for start in range(0, len(names), _MANY):
        pipeline = client.pipeline(transaction=False)
        for slot in names[start : start + _MANY]:
            pipeline.get(keys.slot_pulse(slot, group))
        found += pipeline.execute()
    slots = {slot: int(value or 0) for slot, value in zip(names, found, strict=True)}
    return PulseStatus(pulse, slots, expected, since)


def accept(client: Client, group: str, committed: int) -> None:
    """Let a ledger that was rebuilt have all the pulses that are expected of it.

    Args:
        committed: the highest pulse in the metadata of the group's committed offsets.

    Raises:
        redis.exceptions.RedisError: Redis cannot be used; it may be repeated.
    """
    status = read_pulses(client, group)
    behind = status.behind(committed)
    slots = {keys.slot_pulse(slot, group): slot for slot in behind if slot != keys.EPOCH}
    for key, slot in slots.items():
        confirmed(client, key, "SET", key, status.expected[slot])
    if keys.EPOCH in behind:
        key = keys.pulse(group)
        client.delete(keys.drawn_pulses(group))  # first, so that this is repeated if it is killed
        confirmed(client, key, "SET", key, committed)


def _stale(found: dict[str, int], expected: int) -> StaleLedgerError:
    slot, pulse = min(found.items(), key=lambda each: each[1])
    now = datetime.now(UTC)
    if pulse:
        at = from_milliseconds(pulse)
        missing = (
            f"what was written since {as_text(at)} is missing, of the last "
            f"{max(0.0, (now - at).total_seconds()):.0f} s"
        )
    else:
        missing = "all that was written is missing"
    return StaleLedgerError(
        f"the ledger in Redis is older than the committed offsets: {missing} (pulse {pulse} of "
        f"{slot}, expected at least {expected}). Redis was restored from an old snapshot, or "
        f"failed over to a replica that lacked writes. Nothing is sent. If Redis can be restored "
        f"to its latest state, do so. Otherwise stop all workers, look at `streamer ledger "
        f"status`, and run `streamer ledger rebuild`",
        pulse,
    )
