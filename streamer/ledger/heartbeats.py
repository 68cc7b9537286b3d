"""What each worker says of itself every few seconds; for display only, nothing relies on it.

Ages are by the clock of Redis, so that a worker's clock that is wrong is seen to be.
"""

from typing import NamedTuple, cast

from pydantic import BaseModel, ConfigDict, ValidationError

from streamer.ledger import keys
from streamer.ledger.connection import Client

KEPT_S = 600
"""How long a worker that was not heard of any more is remembered."""

# Redis' own clock counts, in ms. What is too old is dropped by whoever comes next.
_BEAT = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[3] ~= '' then
  local all = redis.call('HGETALL', KEYS[1])
  for i = 1, #all, 2 do
    if now - (tonumber(string.match(all[i + 1], '^%d+')) or 0) > tonumber(ARGV[3]) then
      redis.call('HDEL', KEYS[1], all[i])
    end
  end
end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', now) .. ' ' .. ARGV[2])
redis.call('PEXPIRE', KEYS[1], 86400000)
return string.format('%.0f', now)
"""
_READ = """
local time = redis.call('TIME')
return {time[1], time[2], redis.call('HGETALL', KEYS[1])}
"""


class Heartbeat(BaseModel):
    """What a worker says of itself.

    Attributes:
        worker: its id.
        instance: a random name of this process, as two may use one id.
        host: the machine's name.
        pid: its process.
        clock: its time since 1970, in seconds.
        since: the time of its first heartbeat by Redis' clock, in ms since 1970; None in that one.
        partitions: the number of partitions that it reads.
        waiting: the number of their records that are not committed.
        stalled_s: how long it has had records and committed none.
        per_second: mails sent per second.
        calls_per_second: calls to Resend per second, by account.
        cpu: the share of one core that it uses.
        rss: its memory in bytes.
        fenced: whether it has ended because another process took its id.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    worker: str
    instance: str
    host: str
    pid: int
    clock: float
    since: int | None = None
    partitions: int = 0
    waiting: int = 0
    stalled_s: float = 0.0
    per_second: float = 0.0
    calls_per_second: dict[str, float] = {}
    cpu: float = 0.0
    rss: int = 0
    fenced: bool = False


class Sighting(NamedTuple):
    """A worker's last heartbeat.

    Attributes:
        heartbeat: what it said.
        at: when, by Redis' clock, in ms since 1970.
        age_s: how long ago.
    """

    heartbeat: Heartbeat
    at: int
    age_s: float

    @property
    def since(self) -> int:
        """When it was first heard of, in ms since 1970."""
        return self.at if self.heartbeat.since is None else self.heartbeat.since

    @property
    def ahead_s(self) -> float:
        """How much its clock is ahead of Redis' clock, in seconds."""
        return self.heartbeat.clock - self.at / 1000


class Heartbeats:
    """The heartbeats of a group's workers.

    Its methods raise redis.exceptions.RedisError if Redis cannot be used.
    """

    def __init__(self, client: Client, group: str) -> None:
        self._client = client
        self._key = keys.heartbeats(group)
        self._beat = client.register_script(_BEAT)
        self._read = client.register_script(_READ)

    def write(self, heartbeat: Heartbeat) -> int:
        """Store a heartbeat; return the time by Redis' clock, in ms since 1970."""
        keep = "" if heartbeat.since is not None else str(KEPT_S * 1000)
        reply = self._beat(
            keys=[self._key],
            args=[heartbeat.instance, heartbeat.model_dump_json(), keep],
        )
        return int(cast(bytes, reply))

    def remove(self, instance: str) -> None:
        """Forget a worker that has ended in good order."""
        self._client.hdel(self._key, instance)

    def read(self) -> list[Sighting]:
        """Return the last heartbeat of each process that was heard of lately, sorted by worker."""
        seconds, micros, stored = cast(
            tuple[bytes, bytes, list[bytes]], self._read(keys=[self._key])
        )
        now = int(seconds) * 1000 + int(micros) // 1000
        found = []
        for value in stored[1::2]:
            at, _, text = value.partition(b" ")
            try:
                heartbeat = Heartbeat.model_validate_json(text)
            except ValidationError:  # of another version
                continue
            age_s = max(0.0, (now - int(at)) / 1000)
            if age_s <= KEPT_S:
                found.append(Sighting(heartbeat, int(at), age_s))
        return sorted(found, key=lambda each: (each.heartbeat.worker, each.at))
