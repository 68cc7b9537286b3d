"""What can go wrong, as one tree; an error's class says with which code a process ends of it.

    StreamerError                   1
        StoppedError                0
        WrongUseError               2
            SettingsError
            UnsafeRedisError
        InvalidDataError            1, a ValueError too
            DeadEventError
            InvalidAddressError
            UnreadableOutcomeError
            InvalidTokenError
            OutOfRangeError
            RefusedError            of a template's expression
            RenderError
                UndefinedError
            TooLargeError
            BadDefinitionError
            BadFileError
            BadPatchError
            UnpatchableError
        LedgerLostError             1
        TakenOverError              1
        CampaignExistsError         1
        UnreadableDefinitionError   1
        NotNowError                 1, a ConnectionError of Redis too
        RefusedError                1, a ResponseError of Redis too
        NoKeyError                  1
        SourceError                 1
        BreakerError                1
        RelayError                  1
        ProjectionError             1
        StaleGenerationError        1
        ReadError                   1
        WriteError                  1
        NoTopicError                1
        DeliveryStoppedError        1
        NotSentError                1
        DemoError                   1

Each is defined where it is raised. The errors of Kafka's and Redis' clients are in no tree of ours;
a process that ends of one ends with 1.
"""

from typing import ClassVar

DONE, FAILED, WRONG_USE = 0, 1, 2


class StreamerError(Exception):
    """Something went wrong; the message says what, and where that helps what to do.

    Attributes:
        exit_code: of a process that ends of it.
    """

    exit_code: ClassVar[int] = FAILED


class WrongUseError(StreamerError):
    """What was asked for, or set, cannot be done as it is."""

    exit_code = WRONG_USE


class InvalidDataError(StreamerError, ValueError):
    """A record, an address, a template or a file is not what it has to be."""


def exit_code(error: Exception) -> int:
    """The code of a process that ends of an error, whosever that is."""
    return error.exit_code if isinstance(error, StreamerError) else FAILED
