"""Details of outcomes are limited in length and encodable."""

from hypothesis import example, given
from hypothesis import strategies as st

from streamer.model.detail import MAX_BYTES, bounded


@given(st.text(st.characters(exclude_categories=())))
@example("é" * MAX_BYTES)
@example("\ud800")
@example("x" * (MAX_BYTES + 1))
@example("x" * MAX_BYTES)
def test_details_are_limited_and_encodable(text: str) -> None:
    detail = bounded(text)
    assert len(detail.encode()) <= MAX_BYTES
    writable = text.encode(errors="replace").decode()
    assert detail == writable or writable.startswith(detail.removesuffix(" …"))
    assert (detail == writable) is (len(writable.encode()) <= MAX_BYTES)
