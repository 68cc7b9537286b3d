"""Whatever is stored in few bytes is read as it was."""

from uuid import UUID

import orjson
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from streamer.ledger.compact import read_record, read_result, write_record, write_result
from streamer.model.reasons import Reason, Status
from streamer.model.record import RecordId
from streamer.model.result import BatchResult, ItemResult

_numbers = st.integers(0, 2**64 - 1)
_topics = st.text("abcXYZ019._-", min_size=1, max_size=249)
_ids = st.one_of(
    st.uuids().map(str), st.uuids().map(lambda uuid: str(uuid).upper()), st.text(max_size=40)
)
_items = st.one_of(
    _ids.map(ItemResult.sent),
    st.builds(ItemResult.of, st.sampled_from(Reason), st.none() | st.text(max_size=40)),
)
_results = st.builds(BatchResult, st.integers(0, 2**32 - 1), st.lists(_items, max_size=100))


@given(_topics, _numbers, _numbers)
def test_a_record_is_read_as_it_was(topic: str, partition: int, offset: int) -> None:
    record_id = RecordId(topic, partition, offset)
    stored = write_record(record_id)
    assert read_record(stored + topic.encode()) == record_id
    # As the scripts find the end of it.
    sizes = stored[0] - 128
    assert len(stored) == 2 + sizes // 16 + sizes % 16


@given(_topics, _numbers, _numbers)
def test_a_record_that_an_earlier_version_stored_is_read(
    topic: str, partition: int, offset: int
) -> None:
    record_id = RecordId(topic, partition, offset)
    assert read_record(str(record_id).encode()) == record_id


@given(_results)
def test_a_result_is_read_as_it_was(result: BatchResult) -> None:
    assert read_result(write_result(result)) == result


@given(_results)
def test_a_result_that_an_earlier_version_stored_is_read(result: BatchResult) -> None:
    plain = orjson.dumps([result.attempts, [tuple(item) for item in result.items]])
    assert read_result(zstandard.compress(plain)) == result


def test_a_recipient_takes_sixteen_bytes_of_a_result_and_six_of_a_claim() -> None:
    items = [ItemResult.sent(str(UUID(int=number))) for number in range(100)]
    assert len(write_result(BatchResult(1, items))) == 1609
    assert len(write_record(RecordId("campaign.recipients", 11, 16_000_000))) == 5
    assert items[0].outcome == Status.SENT
