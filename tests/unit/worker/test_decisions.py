"""Which records get a mail: the checks, and their order."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from streamer import metrics
from streamer.ledger.campaigns import CampaignProbe, UnreadableDefinitionError
from streamer.ledger.claims import Claim
from streamer.ledger.probe import Probe
from streamer.model.campaign import CampaignState, Message
from streamer.model.event import parse
from streamer.model.parking import Scope
from streamer.model.reasons import DeadReason, Reason
from streamer.model.record import DeadLetter, Outcome, Parked, Record, RecordId, Resolution
from streamer.worker.decisions import Decisions, first_expiry
from tests.kit.fakes.sending import (
    ACCOUNT,
    DOMAIN,
    ORGANIZATION,
    SendingWorker,
    Services,
    make_record,
)
from tests.kit.properties import examples

CLAIM = Claim("b" * 24, 0, RecordId("t", 0, 99))
ACTIVE, PAUSED, CANCELLED = (
    CampaignProbe(state, "v1")
    for state in (CampaignState.ACTIVE, CampaignState.PAUSED, CampaignState.CANCELLED)
)


def make_decisions(services: Services, worker: SendingWorker) -> Decisions:
    return Decisions(services.definitions, worker.accounts, worker.account_states, worker.waiter)


def decide(
    services: Services,
    worker: SendingWorker,
    record: Record,
    *,
    campaign: CampaignProbe = ACTIVE,
    claim: Claim | None = None,
    suppressed: bool = False,
) -> Message | Resolution:
    found = Probe(
        frozenset({0} if suppressed else ()),
        {} if claim is None else {0: claim},
        {record.campaign_id: campaign},
    )
    decisions = make_decisions(services, worker)
    return decisions.for_batch(record.organization_id, found).message(
        0, record, record.required_event
    )


def reason_of(decision: Message | Resolution) -> str | None:
    """The reason of the outcome or dead letter."""
    assert isinstance(decision, Outcome | DeadLetter)
    return decision.reason


def test_a_record_that_passes_all_checks_gets_its_message(
    services: Services, worker: SendingWorker
) -> None:
    message = decide(services, worker, make_record(1))
    assert isinstance(message, Message)
    assert message.subject == "s"


def test_the_first_check_that_fails_decides(services: Services, worker: SendingWorker) -> None:
    """Each check alone decides once those before it pass."""
    long_ago = "2020-01-01T00:00:00Z"
    record = make_record(1, message=False, expires_at=long_ago)
    record.address = None
    services.hold()
    worker.account_states.refresh()
    undefined = CampaignProbe(CampaignState.CANCELLED, None)
    seen = [decide(services, worker, record, campaign=undefined, claim=CLAIM, suppressed=True)]

    record = make_record(1, expires_at=long_ago)
    record.address, record.address_error = None, "it has no domain"
    seen.append(decide(services, worker, record, campaign=CANCELLED, claim=CLAIM, suppressed=True))

    record = make_record(1, expires_at=long_ago)
    seen.append(decide(services, worker, record, campaign=CANCELLED, claim=CLAIM, suppressed=True))

    seen.append(decide(services, worker, record, campaign=CANCELLED, suppressed=True))
    seen.append(decide(services, worker, record, campaign=PAUSED, suppressed=True))
    record = make_record(1)
    seen.append(decide(services, worker, record, campaign=PAUSED, suppressed=True))
    seen.append(decide(services, worker, record, suppressed=True))
    other = SendingWorker(Services())
    seen.append(decide(services, other, record, suppressed=True))
    assert seen[1:4] == [
        Outcome.of(Reason.INVALID_ADDRESS, "it has no domain"),
        Outcome.of(Reason.DUPLICATE, "of t/0/99"),
        Outcome.of(Reason.CANCELLED),
    ]
    assert seen[5:] == [
        Parked(Scope.of_campaign(ORGANIZATION, "spring")),
        Parked(Scope.of_hold(ACCOUNT, None)),
        Outcome.of(Reason.SUPPRESSED),
    ]
    assert [reason_of(seen[0]), reason_of(seen[4])] == [
        DeadReason.UNKNOWN_CAMPAIGN,
        Reason.EXPIRED,
    ]


_PAST, _FUTURE = "2020-01-01T00:00:00Z", "2099-01-01T00:00:00Z"


@st.composite
def _given(draw: st.DrawFn) -> tuple[Record, Claim | None, bool]:
    """A record, its claim, and whether it is suppressed; mostly there is nothing against it."""
    seldom = st.sampled_from([False, False, False, True])
    record = make_record(
        draw(st.integers(0, 9)),
        campaign=draw(st.sampled_from(["spring", "summer"])),
        sender=f"a@{draw(st.sampled_from([DOMAIN, 'held.test']))}",
        message=draw(st.booleans()),
        expires_at=draw(st.sampled_from([None, None, _FUTURE, _PAST])),
    )
    if draw(seldom):
        record.address = None
    return record, CLAIM if draw(seldom) else None, draw(seldom)


@settings(max_examples=examples(300))
@given(
    st.lists(_given(), min_size=2, max_size=8),
    st.sampled_from([ACTIVE, PAUSED, CANCELLED]),
    st.sampled_from([None, _PAST, _FUTURE]),
)
def test_records_are_decided_as_if_each_were_alone(
    given_: list[tuple[Record, Claim | None, bool]], summer: CampaignProbe, expires_at: str | None
) -> None:
    services = Services()
    define(services, expires_at=expires_at)
    worker = SendingWorker(services)
    services.hold(domain="held.test")
    worker.account_states.refresh()
    records, claims, suppressed = zip(*given_, strict=True)
    found = Probe(
        frozenset(place for place, is_suppressed in enumerate(suppressed) if is_suppressed),
        {place: claim for place, claim in enumerate(claims) if claim is not None},
        {"spring": ACTIVE, "summer": summer},
    )
    decisions = make_decisions(services, worker)
    together = decisions.for_batch(ORGANIZATION, found)
    for place, record in enumerate(records):
        alone = decisions.for_batch(ORGANIZATION, found)
        event = record.required_event
        assert together.message(place, record, event) == alone.message(place, record, event)


# The message


def define(services: Services, **fields: object) -> None:
    message = {"from": f"a@{DOMAIN}", "subject": "defined", "text": "t", **fields}
    services.definitions.messages[ORGANIZATION, "spring"] = Message.model_validate(message)


def test_an_event_without_a_message_gets_its_campaigns(
    services: Services, worker: SendingWorker
) -> None:
    define(services)
    message = decide(services, worker, make_record(1, message=False))
    assert isinstance(message, Message)
    assert message.subject == "defined"
    own = decide(services, worker, make_record(1))
    assert isinstance(own, Message)
    assert own.subject == "s"


def test_a_definition_that_cannot_be_read_makes_a_dead_letter(
    services: Services, worker: SendingWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise UnreadableDefinitionError("too new")

    monkeypatch.setattr(services.definitions, "message", fail)
    found = decide(services, worker, make_record(1, message=False))
    assert found == DeadLetter(DeadReason.UNKNOWN_CAMPAIGN, "too new")


# Expiry


@pytest.mark.parametrize(
    ("of_event", "of_campaign", "first"),
    [(None, None, None), (1, None, 1), (None, 2, 2), (1, 2, 1), (2, 1, 1)],
)
def test_a_mail_expires_with_the_earlier_of_both(
    of_event: int | None, of_campaign: int | None, first: int | None
) -> None:
    def at(day: int | None) -> datetime | None:
        return None if day is None else datetime(2030, 1, day, tzinfo=UTC)

    ids = b'"organization_id":"o","campaign_id":"c","recipient_id":"r","email":"e"'
    event = replace(parse(b"{%b}" % ids), expires_at=at(of_event))
    message = Message.model_validate({"from": "a@a.test", "subject": "s", "text": "t"})
    campaign = message.model_copy(update={"expires_at": at(of_campaign)})
    assert first_expiry(event, campaign) == at(first)


def test_a_record_expires_at_its_time(services: Services, worker: SendingWorker) -> None:
    at = services.clock.utc() + timedelta(seconds=5)
    record = make_record(1, expires_at=at.isoformat())
    assert isinstance(decide(services, worker, record), Message)
    services.clock.advance(5.0)
    found = decide(services, worker, record)
    assert found == Outcome.of(Reason.EXPIRED, f"at {at.isoformat()}")


def test_a_campaign_expires_for_all(services: Services, worker: SendingWorker) -> None:
    define(services, expires_at=services.clock.utc().isoformat())
    found = decide(services, worker, make_record(1, message=False))
    assert reason_of(found) == Reason.EXPIRED


# Accounts


def test_records_of_a_held_domain_wait_alone(services: Services, worker: SendingWorker) -> None:
    services.hold(domain="new.test")
    worker.account_states.refresh()
    found = decide(services, worker, make_record(1, sender="a@new.test"))
    assert found == Parked(Scope.of_hold(ACCOUNT, "new.test"))
    assert isinstance(decide(services, worker, make_record(1)), Message)


def test_records_of_no_account_wait_until_one_serves_them(
    services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    worker = SendingWorker(services, organizations={ACCOUNT: ["else"]})
    decisions = make_decisions(services, worker)
    for _ in range(2):
        scope = decisions.hold(ORGANIZATION, DOMAIN)
        assert scope == Scope("organization", ORGANIZATION)
    assert len(caplog.records) == 1  # it says so once
    assert metrics.ACCOUNT_HELD.labels("none", "no_account")._value.get() == 1
