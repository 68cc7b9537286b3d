"""Who watches the demo."""

from dataclasses import dataclass
from typing import Protocol

from streamer.demo.acts import Act


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an act has come."""

    act: Act
    seconds: float
    ended: int
    sent: int
    skipped: int
    failed: int
    calls: int

    @property
    def rate(self) -> float:
        """Records ended a second, since the act began."""
        return self.ended / self.seconds if self.seconds else 0.0


class Audience(Protocol):
    """Who watches, and may leave."""

    def say(self, words: str) -> None:
        """Something happens."""

    def begin(self, act: Act) -> None:
        """An act begins."""

    def see(self, progress: Progress) -> None:
        """The act goes on, or has come to its end."""

    @property
    def leaves(self) -> bool:
        """Whether the demo should end: looked at now and then, as no exception of a signal's
        handler gets safely through the Kafka client."""
