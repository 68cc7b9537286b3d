"""When a `scheduled_at` is, and what is remembered of the mail before."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.sandbox import Faults
from streamer.sandbox.errors import Problem, RefusalError
from streamer.sandbox.rules import ParsedEmail, Rules, scheduled_time

NOW = 1_798_761_600.0  # 2027-01-01T00:00:00Z


@pytest.mark.parametrize(
    ("text", "ahead_s"),
    [
        ("in 1 min", 60),
        ("In 90 minutes", 5400),
        ("in an hour", 3600),
        (" in 2 days ", 172_800),
        ("2027-01-01T00:00:01.500Z", 1.5),
        ("2027-01-01T02:00:00+02:00", 0),
        ("2027-01-01T00:10:00", 600),
        ("2026-12-31", -86_400),
    ],
)
def test_valid_times_are_accepted(text: str, ahead_s: float) -> None:
    assert scheduled_time(text, NOW) == NOW + ahead_s


@pytest.mark.parametrize(
    "text", ["", "soon", "in a minor", "in -1 hours", "2027-13-01", "1798761600"]
)
def test_invalid_times_are_refused(text: str) -> None:
    assert scheduled_time(text, NOW) is None


def _tag(name: object, value: object) -> dict[str, object]:
    return {"name": name, "value": value}


TAGS = st.lists(
    st.builds(
        _tag,
        st.sampled_from(["organization", "campaign", "own"]),
        st.sampled_from(["acme", "spring", "spring", "a b", 7]),
    )
    | st.just({}),
    max_size=4,
)


def _parsed(rules: Rules, tags: list[dict[str, object]]) -> ParsedEmail | Problem:
    mail = {"from": "a@x.test", "to": "b@x.test", "subject": "Hi", "text": "Hi", "tags": tags}
    try:
        return rules.parse(mail)
    except RefusalError as error:
        return error.problem


@given(st.lists(TAGS, min_size=2, max_size=4))
def test_tags_are_judged_alike_after_any_mail(mails: list[list[dict[str, object]]]) -> None:
    rules = Rules(Faults(), NOW)
    for tags in mails:
        assert _parsed(rules, tags) == _parsed(Rules(Faults(), NOW), tags)


def test_a_tag_of_the_mails_own_counts() -> None:
    rules = Rules(Faults(), NOW)
    shared = [_tag("organization", "acme"), _tag("campaign", "spring")]
    found = [_parsed(rules, [*shared, _tag(name, "own")]) for name in ("_r", "campaign", "_r")]
    found.append(_parsed(rules, shared[:1]))
    assert [each.campaign for each in found if isinstance(each, ParsedEmail)] == [
        ("acme", "spring"),
        ("acme", "own"),
        ("acme", "spring"),
        ("acme", ""),
    ]
    assert isinstance(_parsed(rules, [*shared, _tag("_r", "not a tag")]), Problem)
