"""JSON takes no more memory than it has bytes."""

import tracemalloc

import orjson

from streamer.model.encoding import to_json

MAIL = {"to": ["ann@example.com"], "html": "<p>Hello</p>\n" * 150}


def test_it_is_the_same_json() -> None:
    assert to_json(MAIL) == orjson.dumps(MAIL)


def test_what_is_kept_is_as_large_as_it_is_long() -> None:
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        kept = [to_json(MAIL) for _ in range(100)]
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 1.2 * sum(map(len, kept))
