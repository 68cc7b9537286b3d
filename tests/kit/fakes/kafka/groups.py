"""A consumer group: who is a member, which partitions it has, and what is committed."""

from collections.abc import Iterable
from itertools import count
from typing import Protocol

from confluent_kafka import KafkaError, TopicPartition

from streamer.kafka.offsets import generation
from tests.kit.fakes.kafka.log import Partition

_FORMAT = b"CGMDv2:"
_ids = count(1)


class Member(Protocol):
    """A consumer, as its group sees it."""

    member_id: str

    @property
    def topics(self) -> list[str]:
        """What it subscribed to."""

    def expelled(self, partitions: list[Partition], metadata: bytes) -> None:
        """It is no member any more, and has lost these; it does not know yet, and keeps to the
        metadata of before."""


class FakeGroup:
    """A group with the classic protocol and cooperative assignment.

    A member learns of its partitions when it polls. Partitions are spread over the members, until
    a test decides who gets what: see `give` and `take`.

    Attributes:
        offsets: what is committed.
    """

    def __init__(self, name: str, partitions: Iterable[Partition]) -> None:
        self.name = name
        self.generation = 0
        self.offsets: dict[Partition, TopicPartition] = {}
        self.members: dict[str, Member] = {}
        self._partitions = partitions
        self._is_spread = True
        self._targets: dict[Partition, str] = {}
        self._owners: dict[Partition, str] = {}

    # What a test does

    def give(self, member: Member, *partitions: Partition) -> None:
        """Assign partitions to a member, at its next poll, and spread none from now on."""
        self._is_spread = False
        self._targets |= dict.fromkeys(partitions, member.member_id)
        self.generation += 1

    def take(self, *partitions: Partition) -> None:
        """Revoke partitions, at the next poll of their owners."""
        self._is_spread = False
        for partition in partitions:
            self._targets.pop(partition, None)
        self.generation += 1

    def expel(self, member: Member) -> None:
        """What a broker does to a member that was not heard of for too long."""
        owned, metadata = self.owned(member), self.metadata(member)
        self.leave(member)
        member.expelled(owned, metadata)

    # What members do

    def join(self, member: Member) -> None:
        """Become a member, with a new id."""
        member.member_id = f"member-{next(_ids)}"
        self.members[member.member_id] = member
        self._rebalance()

    def leave(self, member: Member) -> None:
        """Give up everything."""
        del self.members[member.member_id]
        for partition in self.owned(member):
            del self._owners[partition]
        self._targets = {p: m for p, m in self._targets.items() if m != member.member_id}
        self._rebalance()

    def owned(self, member: Member) -> list[Partition]:
        """The partitions that a member was told of, and has not given up."""
        return [p for p, owner in self._owners.items() if owner == member.member_id]

    def revoked(self, member: Member) -> list[Partition]:
        """What a member has to give up."""
        return [p for p in self.owned(member) if self._targets.get(p) != member.member_id]

    def give_up(self, partitions: list[Partition]) -> None:
        """These are free for another member, in another rebalance."""
        for partition in partitions:
            del self._owners[partition]
        self.generation += 1

    def take_up(self, member: Member) -> list[Partition]:
        """What a member gets: no partition before its last owner gave it up."""
        new = [
            partition
            for partition, target in sorted(self._targets.items())
            if target == member.member_id and partition not in self._owners
        ]
        self._owners |= dict.fromkeys(new, member.member_id)
        return new

    def _rebalance(self) -> None:
        self.generation += 1
        if not self._is_spread:
            return
        ids = sorted(self.members)
        everything = sorted(
            p for p in self._partitions if any(p[0] in m.topics for m in self.members.values())
        )
        most = -(-len(everything) // len(ids)) if ids else 0
        targets: dict[Partition, str] = {}
        for partition in everything:  # sticky: whoever has it keeps it, within its share
            owner = self._owners.get(partition)
            if owner in self.members and [*targets.values()].count(owner or "") < most:
                targets[partition] = owner or ""
        for partition in everything:
            if partition not in targets:
                targets[partition] = min(ids, key=[*targets.values()].count)
        self._targets = targets

    # Offsets

    def metadata(self, member: Member | None) -> bytes:
        """As `Consumer.consumer_group_metadata` gives it; see `streamer.kafka.offsets`."""
        number, member_id = (self.generation, member.member_id) if member else (-1, "")
        header = _FORMAT + number.to_bytes(4, "little", signed=True)
        return header + b"\0".join((self.name.encode(), member_id.encode(), b"\x01"))

    def error_of(self, metadata: bytes) -> int:
        """With which error a broker answers offsets that come with this metadata; 0 if none.

        A negative generation is accepted from anybody.
        """
        number, member_id = generation(metadata), member_of(metadata)
        if number < 0 and not member_id:
            return 0
        if member_id not in self.members:
            return KafkaError.UNKNOWN_MEMBER_ID
        return 0 if number == self.generation else KafkaError.ILLEGAL_GENERATION


def group_of(metadata: bytes) -> str:
    """The group that metadata is of."""
    return metadata[len(_FORMAT) + 4 :].split(b"\0")[0].decode()


def member_of(metadata: bytes) -> str:
    """The member that metadata is of, or nothing."""
    return metadata[len(_FORMAT) + 4 :].split(b"\0")[1].decode()
