"""What events mean, in any order and however often each comes."""

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.feedback.guard import excess
from streamer.model.feedback import Feedback, Flag, Why, flag_of, why_of
from streamer.model.published import PublishedMailEvent
from streamer.settings import BreakerSettings
from tests.kit.mail_events import EVENTS, event


def _folded(events: list[PublishedMailEvent]) -> dict[str | None, Feedback]:
    found: defaultdict[str | None, Feedback] = defaultdict(Feedback)
    for each in events:
        found[each.address].add(each)
    return dict(found)


@given(st.lists(EVENTS, max_size=12), st.data())
def test_order_and_repetition_change_nothing(
    events: list[PublishedMailEvent], data: st.DataObject
) -> None:
    repeated = events + data.draw(st.lists(st.sampled_from(events))) if events else []
    assert _folded(data.draw(st.permutations(repeated))) == _folded(events)


@pytest.mark.parametrize(
    ("kind", "bounce", "flag", "why"),
    [
        ("delivered", "", Flag.DELIVERED, None),
        ("delayed", "", Flag.DELAYED, None),
        ("bounced", "Permanent", Flag.BOUNCED_PERMANENT, Why.BOUNCED),
        ("bounced", "Transient", Flag.BOUNCED_TRANSIENT, None),
        ("bounced", "Undetermined", Flag.BOUNCED_TRANSIENT, None),
        ("complained", "", Flag.COMPLAINED, Why.COMPLAINED),
        ("suppressed", "", Flag.SUPPRESSED, Why.SUPPRESSED),
        ("failed", "", Flag.FAILED_LATER, None),
        ("opened", "", Flag.OPENED, None),
        ("clicked", "", Flag.CLICKED, None),
        ("unsubscribed", "", Flag(0), Why.UNSUBSCRIBED),
        ("resubscribed", "", Flag(0), Why.RESUBSCRIBED),
        ("sent", "", Flag(0), None),
        ("new", "", Flag(0), None),
    ],
)
def test_what_each_type_means(kind: str, bounce: str, flag: Flag, why: Why | None) -> None:
    given_event = event(kind, bounce=bounce)
    assert (flag_of(given_event), why_of(given_event)) == (flag, why)


@pytest.mark.parametrize(
    ("delivered", "bounced", "complained", "reason"),
    [
        (996, 0, 999, None),  # too few
        (1_000, 0, 3, None),
        (1_000, 0, 4, "complaints"),
        (920, 80, 0, None),
        (919, 81, 0, "bounces"),
        (0, 1_000, 0, "bounces"),
        (0, 0, 0, None),
    ],
)
def test_what_pauses_a_campaign(
    delivered: int, bounced: int, complained: int, reason: str | None
) -> None:
    counts = {
        "delivered": delivered,
        "bounced_permanent": bounced,
        "complained": complained,
        "bounced_transient": 1_000,
    }
    finding = excess(BreakerSettings(), counts)
    assert (finding.reason if finding else None) == reason
    assert excess(BreakerSettings(complaint_share=1, bounce_share=1), counts) is None
