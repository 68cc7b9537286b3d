"""`retry`: retrying recipients whose mail failed."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import orjson

from streamer.ledger import keys
from streamer.model import record_headers
from streamer.model.campaign import CampaignName
from streamer.model.record import Headers
from streamer.model.wire import REPLACES
from streamer.sandbox import Faults
from tests.kit.harness import Harness
from tests.kit.mail_events import event_value
from tests.kit.operator import CommandRunner
from tests.kit.records import Records


def test_each_failed_outcome_is_retried_once(
    harness: Harness, operator: CommandRunner, records: Records
) -> None:
    harness.sandbox.set_faults(Faults(refused=frozenset({"user1@example.com"})))
    harness.produce(
        [
            *(harness.event(number) for number in range(3)),
            harness.event(3, email="nobody"),
            harness.event(4, email="nobody", campaign_id="other"),
        ]
    )
    with harness.worker():
        harness.await_resolutions(5)
        # A duplicate of the same address must not hide the outcome of the first record.
        harness.produce([harness.event(1)])
        harness.await_resolutions(6)
        harness.sandbox.reset_faults()

        planned = operator.answer("retry", operator.campaign, "--status", "failed", "--dry-run")
        assert (planned["selected"], planned["retried"]) == (2, 2)
        assert not records.retries()
        only = ("--status", "failed", "--reason", "invalid_address")
        assert operator.answer("retry", operator.campaign, *only)["retried"] == 1
        harness.await_resolutions(7)
        everyone = operator.answer("retry", operator.campaign, "--status", "failed")
        assert (everyone["retried"], everyone["already"]) == (2, 0)  # r-3 failed again
        harness.await_resolutions(9)
    fates = [o["status"] for o in harness.outcomes() if o["email"] == "user1@example.com"]
    assert fates.count("sent") == 1
    harness.assert_exactly_once()
    marked = records.retries()
    assert Counter(each[record_headers.ATTEMPT] for each in marked) == {"1": 2, "2": 1}
    assert len({each[record_headers.RETRY_OF] for each in marked}) == 3
    events = {m.key(): m.value() for m in records.copies(record_headers.RETRY_OF)}
    assert orjson.loads(events[b"r-1"] or b"") == harness.event(1)


def test_retry_skips_sent_and_retried_recipients(
    harness: Harness, operator: CommandRunner, records: Records
) -> None:
    for offset, (email, status, reason) in enumerate(
        [
            ("a@example.com", "failed", "render_error"),
            ("a@example.com", "sent", None),
            ("b@example.com", "failed", "rejected"),
            ("b@example.com", "skipped", "duplicate"),
            ("c@example.com", "failed", "too_large"),
            ("c@example.com", "failed", "rejected"),
            ("d@example.com", "indeterminate", "window_closed"),
        ]
    ):
        records.write(harness.topics.recipients, orjson.dumps(harness.event(offset, email=email)))
        outcome = {
            "organization_id": harness.organization,
            "campaign_id": "spring",
            "recipient_id": f"r-{offset}",
            "email": email,
            "status": status,
            "reason": reason,
            "detail": None,
            "email_id": "an id" if status == "sent" else None,
            "batch_id": None,
            "attempts": 1,
            "occurred_at": f"2026-11-24T00:00:0{offset}.000Z",
            "source": {"topic": harness.topics.recipients, "partition": 0, "offset": offset},
        }
        records.write(harness.topics.outcomes, orjson.dumps(outcome), partition=offset % 4)
    done = operator.answer("retry", operator.campaign, "--status", "failed")
    assert (done["selected"], done["retried"]) == (2, 2)
    again = operator.answer("retry", operator.campaign, "--status", "failed")
    assert (again["retried"], again["already"]) == (0, 2)

    unsure = ("retry", operator.campaign, "--status", "indeterminate")
    assert "--may-mail-twice" in operator.run(*unsure, code=2).stderr
    refused = operator.run(*unsure, "--may-mail-twice", code=2)
    assert "1 recipient to be tried again, of whom 1 may have their mail already" in refused.stderr
    assert operator.answer(*unsure, "--may-mail-twice", "--yes")["retried"] == 1
    topic = harness.topics.recipients
    assert sorted(each[record_headers.RETRY_OF] for each in records.retries()) == [
        f"{topic}/0/{offset}" for offset in (2, 5, 6)
    ]
    operator.run("retry", operator.campaign, "--status", "sent", code=2)
    operator.run("retry", operator.campaign, "--status", "failed", "--reason", "expired", code=2)


def test_recipients_without_a_record_are_counted(
    harness: Harness, operator: CommandRunner, records: Records
) -> None:
    harness.produce([harness.event(1, email="nobody")], partition=0)
    with harness.worker():
        harness.await_resolutions(1)
    records.delete(harness.topics.recipients)
    failure = operator.run("retry", operator.campaign, "--status", "failed", code=1)
    assert "1 cannot be retried" in failure.stderr
    assert not records.retries()


def _outcome(harness: Harness, name: str, offset: int, **changes: object) -> bytes:
    return orjson.dumps(
        {
            "organization_id": harness.organization,
            "campaign_id": "spring",
            "recipient_id": f"r-{name}",
            "email": f"{name}@example.com",
            "status": "failed",
            "reason": "rejected",
            "detail": None,
            "email_id": None,
            "batch_id": None,
            "attempts": 1,
            "occurred_at": "2026-11-24T00:00:00.000Z",
            "source": {"topic": harness.topics.recipients, "partition": 0, "offset": offset},
            **changes,
        }
    )


def _event(harness: Harness, name: str) -> bytes:
    return orjson.dumps(harness.event(0, recipient_id=f"r-{name}", email=f"{name}@example.com"))


def test_a_record_of_somebody_else_is_not_written_again(
    harness: Harness, operator: CommandRunner, records: Records
) -> None:
    # As after the input topic was created anew: old outcomes point at new records, or past the end.
    topics = harness.topics
    records.write(topics.recipients, _event(harness, "bob"))
    records.write(topics.recipients, _event(harness, "dan"))
    marks: Headers = [(record_headers.RETRY_OF, f"{topics.recipients}/0/1".encode())]
    records.write(topics.recipients, _event(harness, "dan"), marks)
    for name, offset in (("ann", 0), ("carl", 7), ("eve", 1)):
        records.write(topics.outcomes, _outcome(harness, name, offset))
    done = operator.answer("retry", operator.campaign, "--status", "failed", code=1)
    assert (done["selected"], done["retried"], done["gone"], done["already"]) == (3, 0, 3, 0)
    assert len(records.retries()) == 1


def test_a_retry_that_failed_is_retried_whatever_the_clocks_say(
    harness: Harness, operator: CommandRunner, records: Records
) -> None:
    topics = harness.topics
    records.write(topics.recipients, _event(harness, "ann"))
    records.write(topics.outcomes, _outcome(harness, "ann", 0, batch_id="aa"))
    retry = ("retry", operator.campaign, "--status", "failed")
    assert operator.answer(*retry)["retried"] == 1
    assert operator.answer(*retry)["already"] == 1  # its outcome is still missing
    early = "2026-11-23T00:00:00.000Z"
    records.write(topics.outcomes, _outcome(harness, "ann", 1, batch_id="bb", occurred_at=early))
    again = operator.answer(*retry)
    assert (again["selected"], again["retried"], again["already"]) == (1, 1, 0)
    last = records.retries()[-1]
    assert last[record_headers.RETRY_OF] == f"{topics.recipients}/0/1"
    assert last[REPLACES] == "bb"


def test_a_retry_begins_where_the_campaign_began(
    harness: Harness, operator: CommandRunner, records: Records
) -> None:
    # As of a campaign of that name that was dropped.
    operator.define()
    records.write(harness.topics.recipients, _event(harness, "ann"))
    records.write(harness.topics.outcomes, _outcome(harness, "ann", 0))
    retry = ("retry", operator.campaign, "--status", "failed", "--dry-run")
    assert operator.answer(*retry)["selected"] == 1
    later = datetime.now(UTC) + timedelta(hours=2)
    key = keys.campaign(harness.organization, "spring")
    harness.redis.hset(key, "created_at", later.isoformat())
    assert operator.answer(*retry)["selected"] == 0


def test_what_was_once_indeterminate_is_not_retried_without_consent(
    harness: Harness, operator: CommandRunner, records: Records
) -> None:
    topics = harness.topics
    for reason, occurred_at in (("window_closed", "T00:00:00"), ("rejected", "T01:00:00")):
        records.write(topics.recipients, _event(harness, "ann"))
        status = "indeterminate" if reason == "window_closed" else "failed"
        at = f"2026-11-24{occurred_at}.000Z"
        offset = 0 if reason == "window_closed" else 1
        changes = {"status": status, "reason": reason, "occurred_at": at}
        records.write(topics.outcomes, _outcome(harness, "ann", offset, **changes))
    retry = ("retry", operator.campaign, "--status", "failed")
    refused = operator.answer(*retry, code=1)
    assert (refused["selected"], refused["retried"], refused["unsure"]) == (1, 0, 1)
    assert not records.retries()
    assert operator.answer(*retry, "--may-mail-twice", "--yes")["retried"] == 1


def test_mails_that_failed_later_are_sent_again_once_each(
    harness: Harness, operator: CommandRunner, records: Records
) -> None:
    name = CampaignName(harness.organization, "spring")

    def tell(kind: str, outcome: dict[str, object]) -> None:
        value = orjson.loads(event_value(kind, str(outcome["email"]), name=name))
        told = {**value, "email_id": outcome["email_id"]}
        records.write(harness.topics.events, orjson.dumps(told))

    command = ("retry", operator.campaign, "--event", "failed")
    harness.produce([harness.event(number) for number in range(4)])
    with harness.worker():
        harness.await_resolutions(4)
        first = {str(each["recipient_id"]): each for each in harness.outcomes()}
        for recipient in ("r-0", "r-0", "r-1", "r-2"):
            tell("failed", first[recipient])
        tell("delivered", first["r-1"])  # whatever Resend says, it has left
        harness.produce([harness.event(0)])  # a duplicate
        harness.await_resolutions(5)
        planned = operator.answer(*command, "--dry-run")
        assert (planned["selected"], planned["retried"]) == (2, 2)
        done = operator.answer(*command)
        assert (done["retried"], done["already"]) == (2, 0)
        harness.await_resolutions(7)
        assert operator.answer(*command, "--dry-run")["selected"] == 0
        again = [each for each in harness.outcomes() if each["email_id"]]
        (second,) = (
            each
            for each in again
            if each["recipient_id"] == "r-0" and each["email_id"] != first["r-0"]["email_id"]
        )
        tell("failed", second)
        assert operator.answer(*command)["retried"] == 1
        harness.await_resolutions(8)
        assert operator.answer(*command, "--dry-run")["selected"] == 0
    mailed = Counter(each.address for each in harness.sandbox.acceptances())
    assert mailed["user0@example.com"] == 3
    assert mailed["user1@example.com"] == mailed["user3@example.com"] == 1
    assert mailed["user2@example.com"] == 2
    operator.run("retry", operator.campaign, code=2)
    operator.run(*command, "--status", "failed", code=2)
