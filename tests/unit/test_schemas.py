"""The schemas are those of the code, their page is right, and what is written fits them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import cast

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue, ValidationError

from streamer.model import wire
from streamer.model.campaign import CampaignName, CampaignState
from streamer.model.event import RecipientEvent
from streamer.model.published import DeadLetterHeaders, PublishedOutcome, PublishedResult
from streamer.model.reasons import DeadReason, Reason, Status
from streamer.model.record import DeadLetter, Outcome, Record, RecordId
from streamer.progress.counts import Counts
from streamer.progress.report import Report
from tools import schemas
from tools.compatibility import Schema
from tools.schemas import Contract
from tools.validation import fits

_BY_TITLE = {contract.title: contract for contract in schemas.CONTRACTS}
_IDS = st.from_regex(r"[A-Za-z0-9._:@-]{1,128}", fullmatch=True)
_TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
_COORDINATES = st.builds(
    RecordId,
    st.sampled_from(["campaign.recipients", "x"]),
    st.integers(0, 999),
    st.integers(0, 2**62),
)


@st.composite
def _records(draw: st.DrawFn) -> Record:
    record = Record(draw(_COORDINATES), None, b"{}", None, 0.0)
    record.attach_event(
        RecipientEvent(
            organization_id=draw(_IDS),
            campaign_id=draw(_IDS),
            recipient_id=draw(_IDS),
            email=draw(_TEXTS),
        )
    )
    record.address = draw(st.none() | st.just("ann@example.com"))
    return record


_OUTCOMES = st.one_of(
    st.builds(
        Outcome,
        st.just(Status.SENT),
        reason=st.none(),
        detail=st.none(),
        email_id=_TEXTS,
        batch_id=_TEXTS,
        attempts=st.integers(0, 99),
    ),
    st.builds(Outcome.of, st.sampled_from(Reason), st.none() | _TEXTS),
    st.sampled_from(Reason).flatmap(
        lambda reason: st.builds(
            Outcome,
            st.just(reason.status),
            st.just(reason),
            _TEXTS,
            st.none(),
            _TEXTS,
            st.integers(0, 99),
        )
    ),
)


def _fits(value: JsonValue, contract: Contract) -> bool:
    schema = contract.schema()
    return fits(value, schema, schema)


@given(_records(), _OUTCOMES, st.floats(0, 4e9))
def test_every_outcome_matches_its_schema(record: Record, outcome: Outcome, now: float) -> None:
    record.resolve(outcome, now)
    value = wire.outcome_value(record, outcome)
    decoded = orjson.loads(value)
    assert _fits(decoded, _BY_TITLE["Outcome"])
    read = PublishedOutcome.model_validate_json(value)
    # Nothing is written that the model does not know.
    again = read.model_dump(mode="json", exclude={"occurred_at"})
    assert again | {"occurred_at": decoded["occurred_at"]} == decoded
    assert abs(read.occurred_at.timestamp() - now) < 0.001


@given(_COORDINATES, st.builds(DeadLetter, st.sampled_from(DeadReason), _TEXTS))
def test_dead_letter_headers_match_their_schema(where: RecordId, letter: DeadLetter) -> None:
    record = Record(where, None, None, [("own", b"\xff")], 0.0)
    own, *headers = wire.dead_letter_headers(record, letter)
    texts = {name: value.decode() for name, value in headers if isinstance(value, bytes)}
    assert own == ("own", b"\xff")
    assert len(texts) == len(headers)
    assert _fits(cast(JsonValue, texts), _BY_TITLE["Dead letter headers"])
    read = DeadLetterHeaders.model_validate(texts)
    assert read.model_dump(mode="json", by_alias=True) == texts


@pytest.mark.parametrize(
    "changes",
    [
        {"reason": "suppressed"},
        {"status": "skipped"},
        {"status": "failed", "reason": "suppressed", "email_id": None},
        {"status": "failed", "reason": "rejected"},
        {"email_id": None},
        {"status": "lost"},
        {"attempts": -1},
        {"occurred_at": 5},
        {"source": {"topic": "t", "partition": 1}},
    ],
)
def test_invalid_outcomes_are_refused(changes: dict[str, JsonValue]) -> None:
    example = orjson.loads(schemas.examples()["Outcome"])
    with pytest.raises(ValidationError):
        PublishedOutcome.model_validate(example | changes)


def test_the_schemas_are_up_to_date() -> None:
    assert schemas.present() == schemas.files(), "renew them: python -m tools.schemas --write"


@pytest.mark.parametrize("contract", schemas.CONTRACTS, ids=lambda contract: contract.name)
def test_examples_match_their_schemas(contract: Contract) -> None:
    example = schemas.examples()[contract.title]
    decoded = orjson.loads(example)
    read = contract.model.model_validate_json(example)
    assert _fits(decoded, contract)
    # A misspelt field would be ignored.
    known = read.model_dump(mode="json", by_alias=True, exclude_unset=True)
    assert _shape(known) == _shape(decoded)
    required = cast(list[str], contract.schema()["required"])
    assert all(not _fits(_without(decoded, name), contract) for name in required)


def test_the_page_lists_exactly_the_schemas() -> None:
    assert schemas.examples().keys() == _BY_TITLE.keys()
    page = schemas.README.read_text(encoding="utf-8")
    assert [name for name in schemas.files() if f"]({name})" not in page] == []


def test_each_schema_has_a_title_and_a_version() -> None:
    assert {(s["title"], s["$id"]) for s in map(Contract.schema, schemas.CONTRACTS)} == {
        ("Recipient event", "urn:streamer:schema:recipient-event:1"),
        ("Campaign definition", "urn:streamer:schema:campaign-definition:1"),
        ("Outcome", "urn:streamer:schema:outcome:1"),
        ("Dead letter headers", "urn:streamer:schema:dead-letter-headers:1"),
        ("Progress", "urn:streamer:schema:progress:1"),
        ("Result", "urn:streamer:schema:result:1"),
        ("Mail event", "urn:streamer:schema:mail-event:1"),
    }


def test_schemas_are_compatible_with_earlier_ones() -> None:
    try:
        old = schemas.at(schemas.last_different())
    except schemas.NoHistoryError as error:
        pytest.skip(f"nothing to compare with: {error}")
    assert schemas.all_breaches(old, schemas.present()) == []


def test_schemas_are_compared_by_file_name() -> None:
    new = schemas.files()
    old = new | {"more.json": "{}"}
    assert schemas.all_breaches(old, new) == ["more.json: removed"]
    assert schemas.all_breaches(new, old) == []
    changed = json.loads(new["result.json"])
    del changed["properties"]["dead"]
    broken = new | {"result.json": json.dumps(changed)}
    assert schemas.all_breaches(new, broken) == ["result.json: .dead: removed"]


@pytest.mark.skipif(
    shutil.which("git") is None, reason="the tests need Python and make alone; this one needs git"
)
def test_history_is_read_from_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> None:
        who = ("-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True)

    def commit(files: dict[str, str]) -> None:
        for name, text in files.items():
            (tmp_path / "schemas" / name).write_text(text)
        git("add", ".")
        git("commit", "--allow-empty", "-m", "x")

    monkeypatch.setattr(schemas, "ROOT", tmp_path)
    monkeypatch.setattr(schemas, "FOLDER", tmp_path / "schemas")
    with pytest.raises(schemas.NoHistoryError, match="git"):
        schemas.last_different()
    (tmp_path / "schemas").mkdir()
    git("init")
    commit({"a.json": "1", "README.md": "x"})
    with pytest.raises(schemas.NoHistoryError, match="no earlier commit"):
        schemas.last_different()
    commit({"a.json": "2"})
    commit({"README.md": "y"})
    assert schemas.at(schemas.last_different()) == {"a.json": "1"}
    (tmp_path / "schemas" / "a.json").write_text("3")  # not committed yet
    assert schemas.at(schemas.last_different()) == {"a.json": "2"}
    assert schemas.at("HEAD~2") == {"a.json": "1"}
    with pytest.raises(schemas.NoHistoryError, match="nowhere"):
        schemas.at("nowhere")


@pytest.mark.parametrize("breaks", [True, False])
def test_the_command_compares(
    breaks: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    old = schemas.present() | ({"gone.json": "{}"} if breaks else {})
    monkeypatch.setattr(schemas, "at", lambda reference: old)
    monkeypatch.setattr(sys, "argv", ["schemas", "--compatible-with", "HEAD"])
    assert schemas.main() == breaks
    assert ("schemas/gone.json: removed" in capsys.readouterr().out) == breaks


def _shape(value: JsonValue) -> JsonValue:
    """The names alone."""
    if isinstance(value, dict):
        return {name: _shape(each) for name, each in value.items()}
    return [_shape(each) for each in value] if isinstance(value, list) else None


def _without(value: Schema, name: str) -> Schema:
    return {key: each for key, each in value.items() if key != name}


@given(
    st.dictionaries(st.sampled_from(sorted(Reason)), st.integers(0, 1000)),
    st.integers(0, 1000),
    st.integers(0, 50),
    st.one_of(st.none(), st.integers(0, 10_000)),
)
def test_campaign_summaries_match_their_schema(
    reasons: dict[Reason, int], sent: int, dead: int, expected: int | None
) -> None:
    resolutions = {(reason.status.value, reason.value): count for reason, count in reasons.items()}
    resolutions |= {("sent", ""): sent, ("dead", "undecodable"): dead}
    counts = Counts(
        resolutions=resolutions,
        first="2026-11-24T03:40:00.123Z",
        last="2026-11-24T03:41:00.123Z",
    )
    name = CampaignName("acme", "spring")
    report = Report(name, CampaignState.COMPLETED, expected, True, counts)
    read = PublishedResult.model_validate_json(report.summary())
    ended = read.sent + read.skipped + read.failed + read.indeterminate + read.dead
    assert read.total == ended
    assert _fits(orjson.loads(report.summary()), _BY_TITLE["Result"])
