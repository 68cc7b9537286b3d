"""The tree of errors; the class of an error determines a process's exit code.

    StreamerError                   1
        StoppedError                0
        WrongUseError               2
            SettingsError
            UnsafeRedisError
            WorkerIdTakenError
        InvalidDataError            1, also a ValueError
            DeadEventError
            InvalidAddressError
            UnreadableOutcomeError
            InvalidTokenError
            OutOfRangeError
            TemplateRefusedError    for a template
            RenderError
                UndefinedError
            TooLargeError
            InvalidDefinitionError
            InvalidFileError
            InvalidPatchError
            UnpatchableError
            RefusedWebhookError
            UnreadableEventError
        LedgerLostError             1
            StaleLedgerError
        RebuildError                1
        TakenOverError              1
        CampaignExistsError         1
        UnreadableDefinitionError   1
        NotADraftError              1
        NotNowError                 1, also a ConnectionError of redis-py
        UnconfirmedError            1, also a ConnectionError of redis-py
        RedisRefusedError           1, also a ResponseError of redis-py
        NoKeyError                  1
        SourceError                 1
            FencedError
        BreakerError                1
        RelayError                  1
        SupersededError             1
        ProjectionError             1
        StaleGenerationError        1
        EventsError                 1
        BackfillError               1
        CallError                   1
        NotWrittenError             1
        ReadError                   1
        WriteError                  1
        NoTopicError                1
        DeliveryStoppedError        1
        NotSentError                1
        DemoError                   1

Each error is defined where it is raised. Errors of the Kafka and Redis clients are not part of this
tree; a process that ends with one of them exits with 1.
"""

from typing import ClassVar

DONE, FAILED, WRONG_USE = 0, 1, 2
INTERRUPTED = 130
"""Exit code of a command that Ctrl-C ended: 128 and the number of SIGINT, as shells give it."""


class StreamerError(Exception):
    """Base class of errors; the message says what went wrong and, where useful, how to fix it.

    Attributes:
        exit_code: exit code of a process that ends with this error.
    """

    exit_code: ClassVar[int] = FAILED


class WrongUseError(StreamerError):
    """The arguments or settings cannot be used."""

    exit_code = WRONG_USE


class InvalidDataError(StreamerError, ValueError):
    """A record, an address, a template or a file is invalid."""


def exit_code(error: Exception) -> int:
    """Return the exit code of a process that ends with this error."""
    return error.exit_code if isinstance(error, StreamerError) else FAILED
