"""The errors of the client library, with the flags that it gives them."""

from confluent_kafka import KafkaError, TopicPartition


def timed_out() -> KafkaError:
    """A transactional call that goes on in the background, and may be called again."""
    text = "Timed out waiting for operation to finish, retry call to resume"
    return KafkaError(KafkaError._TIMED_OUT, text, False, True, False)


def conflict(call: str) -> KafkaError:
    """Another call goes on in the background."""
    text = f"Conflicting {call} API call is already in progress"
    return KafkaError(KafkaError._CONFLICT, text, False, True, False)


def state(where: str) -> KafkaError:
    """A call that is not allowed now."""
    return KafkaError(KafkaError._STATE, f"Operation not valid in state {where}")


def abortable(code: int, text: str | None = None) -> KafkaError:
    """The transaction failed, and has to be aborted."""
    return KafkaError(code, text, False, False, True)


def retriable(code: int) -> KafkaError:
    """The call failed, and may succeed later."""
    return KafkaError(code, None, False, True, False)


def fatal(code: int, text: str | None = None) -> KafkaError:
    """The producer is of no more use."""
    return KafkaError(code, text, True, False, False)


def failed_partition(topic: str, partition: int, error: KafkaError) -> TopicPartition:
    """A partition with an error, which the client library alone can set."""

    class FailedPartition(TopicPartition):
        @property
        def error(self) -> KafkaError:  # type: ignore[override]  # a member there
            return error

    return FailedPartition(topic, partition)
