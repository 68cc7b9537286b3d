"""How many records go into one transaction."""

from hypothesis import given
from hypothesis import strategies as st

from streamer.cli.repair import fenced
from streamer.cli.repair.fenced import Outgoing, chunked


@given(st.lists(st.sampled_from([0, 1, 1_000_000, 3_000_000, 5_000_000]), max_size=30))
def test_chunks_are_bounded_and_lose_nothing(sizes: list[int]) -> None:
    blob = bytes(5_000_000)
    records = [Outgoing(0, None, blob[:size], []) for size in sizes]
    chunks = list(chunked(records))
    assert [record for chunk in chunks for record in chunk] == records
    for chunk in chunks:
        assert len(chunk) == 1 or sum(record.size for record in chunk) <= fenced.CHUNK_BYTES


def test_a_chunk_has_a_number_of_records_at_most() -> None:
    records = [Outgoing(0, None, None, [])] * (2 * fenced.CHUNK_RECORDS + 1)
    assert [len(chunk) for chunk in chunked(records)] == [fenced.CHUNK_RECORDS] * 2 + [1]
