"""Converting rows of a file to events, or to bad rows with a reason."""

import csv
import io

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.cli.rows import (
    Format,
    InvalidFileError,
    InvalidRow,
    Lines,
    ParsedRow,
    RowOptions,
    read_rows,
)
from streamer.model.campaign import CampaignName
from streamer.model.event import RecipientEvent, parse

CAMPAIGN = CampaignName("acme", "spring-26")


def rows(
    data: bytes, form: Format = Format.CSV, *, is_defined: bool = True
) -> list[ParsedRow | InvalidRow]:
    return list(read_rows(Lines(io.BytesIO(data)), form, CAMPAIGN, is_defined=is_defined))


def good(data: bytes, form: Format = Format.CSV) -> list[RecipientEvent]:
    found = rows(data, form)
    assert [row for row in found if isinstance(row, InvalidRow)] == []
    return [parse(row.value) for row in found if isinstance(row, ParsedRow)]


def bad(data: bytes, form: Format = Format.CSV) -> list[tuple[int, str, bytes]]:
    return [
        (row.line, row.reason, row.raw) for row in rows(data, form) if isinstance(row, InvalidRow)
    ]


def test_a_csv_row_becomes_an_event() -> None:
    (event,) = good(
        b"email,recipient_id,name,expires_at,first_name\n"
        b"Ann@Example.com,r-1,Ann Lee,2026-12-01T00:00:00Z,Ann\n"
    )
    assert event.organization_id == "acme"
    assert event.campaign_id == "spring-26"
    assert event.recipient_id == "r-1"
    assert event.email == "Ann@Example.com"
    assert event.name == "Ann Lee"
    assert event.expires_at is not None
    assert event.variables == {"first_name": "Ann"}


def test_the_key_is_the_recipient_id() -> None:
    (row,) = rows(b"email,recipient_id\na@b.cc,r-1\n")
    assert isinstance(row, ParsedRow)
    assert row.key == "r-1"


def test_an_empty_cell_is_an_absent_field_but_an_empty_variable() -> None:
    (event,) = good(b"email,name,expires_at,recipient_id,first_name\na@b.cc,,,,\n")
    assert (event.name, event.expires_at) == (None, None)
    assert event.variables == {"first_name": ""}


def test_derived_ids_depend_only_on_the_address() -> None:
    data = b"email\nAnn@Example.com\n ann@example.COM \nother@example.com\n"
    first, second, other = (event.recipient_id for event in good(data))
    assert first == second != other
    assert [first, second, other] == [event.recipient_id for event in good(data)]
    (from_json,) = good(b'{"email":"ANN@example.com"}', Format.JSONL)
    assert from_json.recipient_id == first


def test_an_invalid_address_is_not_a_bad_row() -> None:
    valid, invalid = rows(b"email\na@b.cc\nnobody\n")
    assert isinstance(valid, ParsedRow)
    assert isinstance(invalid, ParsedRow)
    assert (valid.is_valid_address, invalid.is_valid_address) == (True, False)


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_byte_order_mark_quotes_and_blank_lines(newline: bytes) -> None:
    lines = [b'\xef\xbb\xbf"email",note', b"", b'a@b.cc,"one', b'two"', b""]
    (event,) = good(newline.join(lines))
    assert event.variables == {"note": f"one{newline.decode()}two"}


def test_bad_rows_keep_their_line_number_and_bytes() -> None:
    data = (
        b"email,note\n"
        b'a@b.cc,"two\nlines"\n'
        b",no email\n"
        b"  ,blank email\n"
        b"a@b.cc\n"
        b"a@b.cc,x,y\n"
        b"a@b.cc,\xff\n"
        b"ok@b.cc,x"
    )
    assert bad(data) == [
        (4, "no email", b",no email\n"),
        (5, "no email", b"  ,blank email\n"),
        (6, "1 cells, the header has 2", b"a@b.cc\n"),
        (7, "3 cells, the header has 2", b"a@b.cc,x,y\n"),
        (8, "not UTF-8", b"a@b.cc,\xff\n"),
    ]
    assert len(rows(data)) == 7


def test_a_malformed_row_on_one_line_is_a_bad_row() -> None:
    data = b'email,note\na@b.cc,"x" y\nb@b.cc,y\nc@b.cc,"z'
    assert [(line, raw) for line, _, raw in bad(data)] == [
        (2, b'a@b.cc,"x" y\n'),
        (4, b'c@b.cc,"z'),
    ]


@pytest.mark.parametrize(
    "data",
    [
        b'email,note\na@b.cc,"x\nb@b.cc,y\n',  # never closed
        b'email,note\na@b.cc,"x\nb@b.cc,y"z\nc@b.cc,y\n',  # closed, but not at the cell's end
        b'email,note\na@b.cc,"' + 200_000 * b"x" + b'\nb@b.cc,y"\nc@b.cc,y\n',
        b'email,note\na@b.cc,"' + 20_000 * b"b@b.cc,y\n",
    ],
)
def test_the_inside_of_a_cell_never_becomes_recipients(data: bytes) -> None:
    with pytest.raises(InvalidFileError, match=r"lines 2 to \d+.*where the next row begins"):
        rows(data)


def test_an_event_a_worker_would_reject_is_a_bad_row() -> None:
    found = bad(
        b"email,recipient_id,expires_at\na@b.cc,a b,\na@b.cc,,tomorrow\na@b.cc,,1790000000\n"
    )
    assert [line for line, _, _ in found] == [2, 3, 4]
    assert [reason.partition(":")[0] for _, reason, _ in found] == [
        "recipient_id",
        "expires_at",
        "expires_at",
    ]


def test_id_columns_must_match_the_campaign() -> None:
    data = b"email,campaign_id\na@b.cc,spring-26\na@b.cc,other\na@b.cc,\n"
    assert bad(data) == [(3, "campaign_id is 'other', expected 'spring-26'", b"a@b.cc,other\n")]


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b"", "without column 'email'"),
        (b"mail,name", "its columns: 'mail', 'name'"),
        (b"email;name", "not by ';'"),
        (b"email\tname", r"not by '\t'"),
        (b"email,a,a", "duplicate header columns: a"),
        (b"email,,a", "column 2 has no name"),
        (b"email,variables", "header column not supported: variables"),
        (b"email,\xff", "line 1 is not UTF-8"),
        (b'email,"a"b', "line 1"),
    ],
)
def test_an_invalid_header_is_refused(header: bytes, words: str) -> None:
    with pytest.raises(InvalidFileError) as error:
        rows(header + b"\na@b.cc,x\n")
    assert words in str(error.value)


def test_json_lines_with_and_without_the_ids() -> None:
    full = {
        "organization_id": "acme",
        "campaign_id": "spring-26",
        "recipient_id": "r-1",
        "email": "a@b.cc",
        "variables": {"plan": {"name": "pro"}},
    }
    short = {"email": "a@b.cc"}
    data = orjson.dumps(full) + b"\n\n  " + orjson.dumps(short) + b"  "
    first, second = rows(data, Format.JSONL)
    assert isinstance(first, ParsedRow)
    assert isinstance(second, ParsedRow)
    assert first.value == orjson.dumps(full)
    assert second.line == 3
    assert parse(second.value).campaign_id == "spring-26"
    assert second.key == parse(second.value).recipient_id


def test_json_numbers_are_kept_verbatim() -> None:
    given_numbers = b'{"email":"a@b.cc","variables":{"a":123456789012345678901234567890,"b":1.10}}'
    (row,) = rows(given_numbers, Format.JSONL)
    assert isinstance(row, ParsedRow)
    assert row.value.endswith(given_numbers[1:])


def test_bad_json_lines() -> None:
    lines = [
        b"nope",
        b"[1]",
        b'{"email":""}',
        b'{"email":null}',
        b'{"email":5}',
        b'{"email":"a@b.cc","organization_id":"zz"}',
        b'{"email":"a@b.cc","organization_id":null}',
        b'{"email":"a@b.cc","variables":[]}',
        b'{"email":"a@b.cc","message":{"from":"a@b.cc"}}',
        b'{"email":"\xff@b.cc"}',
    ]
    found = bad(b"\n".join(lines), Format.JSONL)
    assert [line for line, _, _ in found] == list(range(1, len(lines) + 1))
    assert [raw.strip() for _, _, raw in found] == lines


def test_rows_of_an_undefined_campaign_need_a_message() -> None:
    message = b'{"from":"a@b.cc","subject":"s","text":"t"}'
    data = b'{"email":"a@b.cc"}\n{"email":"a@b.cc","message":' + message + b"}\n"
    first, second = rows(data, Format.JSONL, is_defined=False)
    assert isinstance(first, InvalidRow)
    assert "carries no message" in first.reason
    assert isinstance(second, ParsedRow)


def test_unknown_fields_are_reported() -> None:
    lines = Lines(io.BytesIO(b'{"email":"a@b.cc","first_name":"Ann"}'))
    reader = read_rows(lines, Format.JSONL, CAMPAIGN, is_defined=True)
    assert len(list(reader)) == 1
    assert reader.unknown == {"first_name"}


cell_text = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=20
)


@given(st.lists(st.tuples(cell_text, cell_text), max_size=20))
def test_csv_cells_round_trip(cells: list[tuple[str, str]]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([("email", "a", "b"), *(("x@y.zz", a, b) for a, b in cells)])
    events = good(text.getvalue().encode())
    assert [event.variables for event in events] == [{"a": a, "b": b} for a, b in cells]


@given(st.binary(max_size=200))
def test_json_lines_lose_no_bytes(data: bytes) -> None:
    lines = Lines(io.BytesIO(data))
    found = list(read_rows(lines, Format.JSONL, CAMPAIGN, is_defined=True))
    kept = b"".join(row.raw for row in found if isinstance(row, InvalidRow))
    assert lines.bytes_read == len(data)
    assert kept.split() == data.removeprefix(b"\xef\xbb\xbf").split()


@pytest.mark.parametrize(
    "data",
    [
        b'email,name\na@b.cc,"Ann\nb@b.cc,Bob"\n',
        b'name,email\n"Ann,a@b.cc\nBob,b@b.cc\nCarl",c@b.cc\n',
        b'name,email\n"Ann,a@b.cc\nCarl",c@b.cc\n',
        b'email\n"a@b.cc\nb@b.cc"\n',
        b'email,name\na@b.cc,"Ann\rb@b.cc,Bob"\nx@b.cc,"\n"\n',
    ],
)
def test_rows_inside_a_cell_are_not_lost(data: bytes) -> None:
    ((_, reason, _), *_) = bad(data)
    assert "looks like another row" in reason
    options = RowOptions(allow_multiline=True)
    accepted = read_rows(
        Lines(io.BytesIO(data)), Format.CSV, CAMPAIGN, is_defined=True, options=options
    )
    assert all(isinstance(row, ParsedRow) for row in accepted)


def test_cells_with_line_breaks_are_accepted() -> None:
    data = b'email,note\na@b.cc,"Dear Ann,\nwrite to help@acme.test, or call.\nAnn"\n'
    assert len(good(data)) == 1


def test_columns_can_have_other_names() -> None:
    options = RowOptions(email_column="E-Mail", id_column="Id")
    data = b"Id,E-Mail,city\n7,Ann@Example.com,Rome\n"
    found = read_rows(
        Lines(io.BytesIO(data)), Format.CSV, CAMPAIGN, is_defined=True, options=options
    )
    assert found.variables == ["city"]
    (row,) = found
    assert isinstance(row, ParsedRow)
    event = parse(row.value)
    assert (event.recipient_id, event.email) == ("7", "Ann@Example.com")
    assert event.variables == {"city": "Rome"}
