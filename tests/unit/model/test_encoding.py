"""Encoded JSON takes no more memory than its length."""

import tracemalloc

import orjson

from streamer.model.encoding import to_json

MAIL = {"to": ["ann@example.com"], "html": "<p>Hello</p>\n" * 150}


def test_output_equals_orjson() -> None:
    assert to_json(MAIL) == orjson.dumps(MAIL)


def test_encoded_bytes_are_not_overallocated() -> None:
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        kept = [to_json(MAIL) for _ in range(100)]
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 1.2 * sum(map(len, kept))
