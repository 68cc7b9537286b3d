"""Events become suppression, counts and pauses: exactly, in any order, and after every crash."""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from confluent_kafka import Producer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamer.feedback.applier import Application
from streamer.ledger import campaigns, keys, suppression
from streamer.ledger.holds import By, Holds
from streamer.ledger.mail_events import (
    MailEvents,
    SuppressingEvent,
    forget_events,
    read_feedback,
)
from streamer.model.campaign import CampaignName, CampaignState
from streamer.model.feedback import EVENT_WORDS, Feedback, Why, why_of
from streamer.model.mail_event import Origin, event_of_webhook
from streamer.model.published import PublishedMailEvent
from streamer.model.reference import TAG, campaign_check, place
from streamer.progress.store import Snapshot, Store
from tests.kit.gateway import webhook
from tests.kit.harness import Harness, WorkerProcess, wait_until
from tests.kit.mail_events import EVENTS, SUPPRESSING, event, event_value
from tests.kit.office import Office
from tests.kit.settings import settings_of

_ANN = "ann@example.com"


@pytest.fixture
def effects(harness: Harness) -> MailEvents:
    return MailEvents(harness.redis, 3_600)


def _expected(events: Iterable[PublishedMailEvent]) -> dict[str, int]:
    """Count as simply as one can."""
    recipients: dict[str | None, Feedback] = {}
    for each in events:
        recipients.setdefault(each.address, Feedback()).add(each)
    found: Counter[str] = Counter()
    for feedback in recipients.values():
        found.update(flag.word for flag in feedback.flags)
        if feedback.unsubscribed_ms > feedback.resubscribed_ms:
            found["unsubscribed"] += 1
    return dict(found)


@settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(st.lists(EVENTS, min_size=1, max_size=10), st.randoms(use_true_random=False))
def test_counts_are_exact(
    harness: Harness,
    effects: MailEvents,
    events: list[PublishedMailEvent],
    shuffle: random.Random,
) -> None:
    name = CampaignName(harness.organization, "c")
    forget_events(harness.redis, name)
    repeated = events + events[::2]
    shuffle.shuffle(repeated)
    counts: dict[str, int] = {}
    told: defaultdict[str, Feedback] = defaultdict(Feedback)
    for each in repeated:
        feedback = Feedback()
        feedback.add(each)
        told[each.address or ""].add(each)
        if feedback:
            counts = effects.count(name, {each.address or "": feedback})
    assert counts == _expected(events)
    for address, expected in told.items():
        known = read_feedback(harness.redis, name, address)
        assert known == expected
        assert expected.covers(known)
        assert known.covers(Feedback())
        assert Feedback().covers(known) is not bool(known)


@settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(st.lists(SUPPRESSING, max_size=5), st.randoms(use_true_random=False))
def test_suppression_is_the_same_in_any_order(
    harness: Harness,
    effects: MailEvents,
    events: list[PublishedMailEvent],
    shuffle: random.Random,
) -> None:
    organization = harness.organization
    found = []
    for _ in range(2):
        suppression.clear(harness.redis, organization)
        harness.redis.delete(keys.suppression_reasons(organization))
        for each in events:
            why = why_of(each)
            if why is not None:
                entry = SuppressingEvent(each.address or "", why, each.occurred_at, "c")
                effects.suppress(organization, [entry])
        found.append(set(suppression.export(harness.redis, organization)))
        events = events + events[::2]
        shuffle.shuffle(events)
    assert found[0] == found[1]


def _suppress(effects: MailEvents, organization: str, why: Why, at_s: float) -> None:
    occurred_at = event("sent", at_s=at_s).occurred_at
    effects.suppress(organization, [SuppressingEvent(_ANN, why, occurred_at, "c")])


def test_undoing_takes_out_only_whom_unsubscribing_put_in(
    harness: Harness, effects: MailEvents
) -> None:
    organization = harness.organization

    def is_suppressed() -> bool:
        return suppression.check(harness.redis, organization, [_ANN])[0]

    _suppress(effects, organization, Why.UNSUBSCRIBED, 1)
    assert is_suppressed()
    _suppress(effects, organization, Why.RESUBSCRIBED, 2)
    assert not is_suppressed()
    _suppress(effects, organization, Why.UNSUBSCRIBED, 1)  # repeated
    assert not is_suppressed()
    _suppress(effects, organization, Why.BOUNCED, 3)
    _suppress(effects, organization, Why.UNSUBSCRIBED, 4)
    _suppress(effects, organization, Why.RESUBSCRIBED, 5)
    assert is_suppressed()
    assert [each.why for each in effects.reasons([organization], _ANN)[organization]] == [
        Why.RESUBSCRIBED,
        Why.UNSUBSCRIBED,
        Why.BOUNCED,
    ]
    suppression.remove(harness.redis, organization, [_ANN])
    _suppress(effects, organization, Why.BOUNCED, 3)  # a repeat does not undo the operator's act
    assert not is_suppressed()
    _suppress(effects, organization, Why.BOUNCED, 6)
    assert is_suppressed()


def test_undoing_keeps_whom_somebody_else_suppressed(harness: Harness, effects: MailEvents) -> None:
    organization = harness.organization
    suppression.add(harness.redis, organization, [_ANN])
    _suppress(effects, organization, Why.UNSUBSCRIBED, 1)
    _suppress(effects, organization, Why.RESUBSCRIBED, 2)
    assert suppression.check(harness.redis, organization, [_ANN]) == [True]


# The service, in a worker


@pytest.fixture
def worker(harness: Harness) -> WorkerProcess:
    harness.settings["STREAMER_PROGRESS__EMBEDDED"] = "true"
    return harness.start_worker()


def _write(harness: Harness, values: Iterable[bytes]) -> None:
    producer = Producer({"bootstrap.servers": harness.bootstrap_servers, "log_level": 0})
    for number, value in enumerate(values):
        producer.produce(harness.topics.events, value, str(number % 7).encode())
        if number % 1_000 == 999:
            producer.flush(30)
    producer.flush(30)


def _snapshot(harness: Harness, campaign: str) -> Snapshot:
    store = Store(harness.redis, harness.name)
    (snapshot,) = store.snapshots([CampaignName(harness.organization, campaign)])
    return snapshot


def _is_suppressed(harness: Harness, address: str) -> bool:
    return suppression.check(harness.redis, harness.organization, [address])[0]


def test_whoever_bounced_or_unsubscribed_is_not_in_the_next_campaign(
    harness: Harness, worker: WorkerProcess
) -> None:
    first = CampaignName(harness.organization, "first")
    harness.produce(harness.event(number, campaign_id="first") for number in range(3))
    harness.await_resolutions(3)
    _write(
        harness,
        [
            event_value("delivered", "user0@example.com", name=first),
            b"junk",
            event_value("bounced", "user1@example.com", name=first),
            event_value("unsubscribed", "user2@example.com", at_s=1, name=first),
            event_value("delivered", "nobody", name=first),
        ],
    )
    wait_until(lambda: _is_suppressed(harness, "user1@example.com"), 30, "suppressed")
    wait_until(lambda: _is_suppressed(harness, "user2@example.com"), 30, "suppressed")
    harness.produce(harness.event(number, campaign_id="second") for number in range(3))
    harness.await_resolutions(6)
    assert harness.status_counts() == {("sent", None): 4, ("skipped", "suppressed"): 2}
    expected = {"delivered": 1, "bounced_permanent": 1, "unsubscribed": 1}
    wait_until(lambda: _snapshot(harness, "first").events == expected, 30, "counted")
    assert worker.stop() == 0


def test_a_campaign_is_found_by_the_record(harness: Harness, worker: WorkerProcess) -> None:
    """The tags of `a.b` and `a:b` are the same."""
    harness.produce(harness.event(number, campaign_id="a.b") for number in range(3))
    harness.produce(harness.event(number, campaign_id="a:b") for number in range(3, 5))
    harness.await_resolutions(5)
    values = []
    for one in harness.resolutions():
        reference = campaign_check(one.organization, one.campaign) + place(one.source)
        tags = {"organization": one.organization, "campaign": "a_b", TAG: reference}
        values.append(
            event_value("delivered", one.address, tags=tags, topic=harness.topics.recipients)
        )
    _write(harness, values)
    wait_until(lambda: _snapshot(harness, "a.b").events == {"delivered": 3}, 30, "a.b")
    wait_until(lambda: _snapshot(harness, "a:b").events == {"delivered": 2}, 30, "a:b")
    assert worker.alive


def test_a_summary_is_corrected_as_events_come(office: Office) -> None:
    harness = office.harness
    name = CampaignName(harness.organization, "spring")
    office.write({"sent": 2})
    with office.projecting(), office.applying():
        store = Store(harness.redis, harness.name)
        store.close(name, {}, 2)
        wait_until(lambda: office.summaries(), 30, "a summary")
        value = event_value("opened", name=name)
        _write(harness, [value, value])
        wait_until(lambda: len(office.summaries()) > 1, 30, "a second summary")
    first, last = (orjson.loads(orjson.dumps(each["events"])) for each in office.summaries())
    assert (first["opened"], last["opened"]) == (0, 1)
    assert set(last) == set(EVENT_WORDS)


def test_harm_pauses_a_campaign_once(harness: Harness) -> None:
    application = Application(settings_of(harness), harness.redis)
    first = CampaignName(harness.organization, "first")

    def apply(kind: str, numbers: range) -> CampaignState | None:
        values = (event_value(kind, f"user{n}@example.com", name=first) for n in numbers)
        application.apply(values)
        return campaigns.state(harness.redis, harness.organization, "first")

    assert apply("delivered", range(1_000)) is None
    assert apply("complained", range(3)) is None
    assert apply("complained", range(4)) is CampaignState.PAUSED
    why = campaigns.paused_for(harness.redis, harness.organization, "first")
    assert why == "4 of 1,000 recipients complained (0.40%, limit 0.30%)"
    campaigns.resume(harness.redis, harness.organization, "first")
    assert apply("complained", range(9)) is CampaignState.ACTIVE


def test_what_was_applied_in_part_is_applied_again(harness: Harness) -> None:
    harness.settings["STREAMER_PROGRESS__EMBEDDED"] = "true"
    first = CampaignName(harness.organization, "first")
    number = 4_000
    kinds = ("delivered", "opened", "bounced", "unsubscribed")
    values = [
        event_value(kind, f"user{n}@example.com", at_s=1, name=first)
        for n in range(number)
        for kind in kinds[: 1 + n % 4]
    ]
    random.Random(7).shuffle(values)
    _write(harness, values + values[::3])
    kills = 0
    while sum(_snapshot(harness, "first").events.values()) < len(values):
        worker = harness.start_worker()
        before = sum(_snapshot(harness, "first").events.values())
        wait_until(
            lambda: sum(_snapshot(harness, "first").events.values()) > before,  # noqa: B023
            60,
            "some applied",
        )
        if kills < 3:
            kills += 1
            worker.kill()
            harness.redis.delete(keys.events_lease(harness.name))
        else:
            wait_until(
                lambda: sum(_snapshot(harness, "first").events.values()) >= len(values), 60, "all"
            )
    assert _snapshot(harness, "first").events == {
        "delivered": number,
        "opened": number * 3 // 4,
        "bounced_permanent": number // 2,
        "unsubscribed": number // 4,
    }
    assert suppression.count(harness.redis, harness.organization) == number // 2


def test_dropping_a_campaign_drops_its_events(harness: Harness) -> None:
    application = Application(settings_of(harness), harness.redis)
    name = CampaignName(harness.organization, "spring-26")
    application.apply([event_value("opened", name=name)])
    assert _snapshot(harness, "spring-26").events == {"opened": 1}
    Store(harness.redis, harness.name).forget(name)
    assert harness.redis.keys(f"{{{harness.organization}}}:events:*") == []


def test_a_quota_that_fails_mails_later_holds_the_account(harness: Harness) -> None:
    application = Application(settings_of(harness), harness.redis)
    holds = Holds(harness.redis)
    account = f"account-{harness.name}"
    body = webhook(
        "email.failed",
        tags={"organization": harness.organization, "campaign": "c"},
        failed={"reason": "reached_monthly_quota"},
    )
    now = datetime.now(UTC)
    payload = {**orjson.loads(body), "created_at": now.isoformat()}
    event_of = event_of_webhook(payload, Origin("webhook", account, "msg_1", now), "t")
    application.apply([event_of.value, event_of.value])
    (hold,) = holds.read([account])[account].holds.values()
    assert (hold.by, hold.reason) == (By.EVENT, "monthly_quota_exceeded")
    assert hold.until is not None
    assert timedelta(minutes=14) < hold.until - now < timedelta(minutes=16)
    # No call tests it before: Resend would accept the mails.
    assert holds.due(account, None, 30.0) is None
    assert holds.release(account, None, By.OPERATOR)
    assert _snapshot(harness, "c").events == {"failed_later": 1}
