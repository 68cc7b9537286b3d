"""Which records of a topic may be wanted, told before they are looked at closely."""

from collections.abc import Callable, Container

from confluent_kafka import Message

from streamer.kafka.headers import header_list

MayMatch = Callable[[Message], bool]
"""Tells whether a record may be wanted. Called for each record that is read, so it decides how fast
a topic is read."""


def by_value(test: Callable[[bytes], bool]) -> MayMatch:
    """Match records by their value. Null ones match, since the test cannot tell."""

    def may_match(message: Message) -> bool:
        value = message.value()
        return value is None or test(value)

    return may_match


def by_key(key: bytes) -> MayMatch:
    """Match the records of a key."""
    return lambda message: message.key() == key


def by_header(name: str, values: Container[bytes | str | None] | None = None) -> MayMatch:
    """Match records that have a header, with one of these values unless any will do."""
    return lambda message: any(
        header == name and (values is None or value in values)
        for header, value in header_list(message) or ()
    )


def by_offset(places: Container[tuple[int | None, int | None]]) -> MayMatch:
    """Match records by partition and offset."""
    return lambda message: (message.partition(), message.offset()) in places


def all_of(*tests: MayMatch | None) -> MayMatch | None:
    """Match records that match each of the tests that there are; None if there is none."""
    given = [test for test in tests if test is not None]
    if len(given) < 2:
        return given[0] if given else None
    return lambda message: all(test(message) for test in given)
