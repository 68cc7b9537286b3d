"""Addresses of a file: good ones normalised, bad ones named by line."""

import io

import pytest

from streamer.cli.addresses import Intake, from_file
from streamer.cli.rows import BadFileError


def take(data: bytes) -> tuple[list[str], list[str]]:
    intake = Intake()
    good = list(intake.normalised(from_file(io.BytesIO(data))))
    assert intake.good == len(good)
    assert intake.bad == len(intake.kept)
    return good, [bad.place for bad in intake.kept]


def test_one_a_line() -> None:
    assert take(b"\xef\xbb\xbfAnn@Example.com\r\n\n bad\n b@c.dd ") == (
        ["ann@example.com", "b@c.dd"],
        ["line 3"],
    )


def test_a_column_of_csv() -> None:
    assert take(b'id,email\n1,"Ann@Example.com"\n\n2\n3,\n"4\n5",b@c.dd\n') == (
        ["ann@example.com", "b@c.dd"],
        ["line 4", "line 5"],
    )


def test_a_header_alone_and_nothing_at_all() -> None:
    assert take(b"email\n") == ([], [])
    assert take(b"") == ([], [])


def test_what_is_not_utf8_is_bad_alone() -> None:
    assert take(b"a@b.cc\n\xff@b.cc\nc@b.cc\n") == (["a@b.cc", "c@b.cc"], ["line 2"])


def test_csv_without_the_column() -> None:
    with pytest.raises(BadFileError):
        take(b"id,mail\n1,a@b.cc\n")
