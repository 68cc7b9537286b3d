"""Reading addresses from a file: valid ones are normalised, invalid ones named by line."""

import io

import pytest

from streamer.cli.addresses import AddressParser, from_file
from streamer.cli.rows import InvalidFileError


def take(data: bytes) -> tuple[list[str], list[str]]:
    parser = AddressParser()
    good = list(parser.normalised(from_file(io.BytesIO(data))))
    assert parser.good == len(good)
    assert parser.bad == len(parser.kept)
    return good, [bad.place for bad in parser.kept]


def test_one_address_per_line() -> None:
    assert take(b"\xef\xbb\xbfAnn@Example.com\r\n\n bad\n b@c.dd ") == (
        ["ann@example.com", "b@c.dd"],
        ["line 3"],
    )


def test_csv_column() -> None:
    assert take(b'id,email\n1,"Ann@Example.com"\n\n2\n3,\n"4",b@c.dd\n') == (
        ["ann@example.com", "b@c.dd"],
        ["line 4", "line 5"],
    )


@pytest.mark.parametrize(
    ("data", "words"),
    [
        # A stray quote would make one cell of bob, carl and dan.
        (b'email,why\nann@b.cc,x\nbob@b.cc,"too\ncarl@b.cc,y\ndan@b.cc,z"\n', "lines 3 to 5"),
        (b'email,why\nann@b.cc,x\nbob@b.cc,"too\ncarl@b.cc,y\ndan@b.cc,z\n', "line 3: .*quote"),
        (b'email,why\nann@b.cc,"too" many\n', "line 2: .*quote"),
        (b"email,why\rann@b.cc,x\rbob@b.cc,y\r", "line 1: a carriage return"),
        (b"email,why\nann@b.cc,x\rbob@b.cc,y\n", "line 2: a carriage return"),
        (b'"email', "line 1: .*quote"),
    ],
)
def test_a_file_that_would_lose_addresses_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(InvalidFileError, match=words):
        take(data)


def test_files_without_addresses() -> None:
    assert take(b"email\n") == ([], [])
    assert take(b"") == ([], [])


def test_only_the_line_with_invalid_utf8_is_bad() -> None:
    assert take(b"a@b.cc\n\xff@b.cc\nc@b.cc\n") == (["a@b.cc", "c@b.cc"], ["line 2"])


def test_csv_without_email_column_is_refused() -> None:
    with pytest.raises(InvalidFileError):
        take(b"id,mail\n1,a@b.cc\n")
