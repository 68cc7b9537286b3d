"""`retry`: retrying recipients whose mail failed."""

from collections import Counter

import orjson

from streamer.model import marks
from streamer.sandbox import Faults
from tests.kit.operator import Operator
from tests.kit.records import Records
from tests.kit.world import World


def test_each_failed_outcome_is_retried_once(
    world: World, operator: Operator, records: Records
) -> None:
    world.sandbox.order(Faults(refused=frozenset({"user1@example.com"})))
    world.produce(
        [
            *(world.event(number) for number in range(3)),
            world.event(3, email="nobody"),
            world.event(4, email="nobody", campaign_id="other"),
        ]
    )
    with world.worker():
        world.await_endings(5)
        # A duplicate of the same address must not hide the outcome of the first record.
        world.produce([world.event(1)])
        world.await_endings(6)
        world.sandbox.calm()

        planned = operator.answer("retry", operator.campaign, "--status", "failed", "--dry-run")
        assert (planned["selected"], planned["retried"]) == (2, 2)
        assert not records.retries()
        only = ("--status", "failed", "--reason", "invalid_address")
        assert operator.answer("retry", operator.campaign, *only)["retried"] == 1
        world.await_endings(7)
        everyone = operator.answer("retry", operator.campaign, "--status", "failed")
        assert (everyone["retried"], everyone["already"]) == (2, 0)  # r-3 failed again
        world.await_endings(9)
    fates = [o["status"] for o in world.outcomes() if o["email"] == "user1@example.com"]
    assert fates.count("sent") == 1
    world.judge()
    marked = records.retries()
    assert Counter(each[marks.ATTEMPT] for each in marked) == {"1": 2, "2": 1}
    assert len({each[marks.RETRY_OF] for each in marked}) == 3
    events = {m.key(): m.value() for m in records.copies(marks.RETRY_OF)}
    assert orjson.loads(events[b"r-1"] or b"") == world.event(1)


def test_retry_skips_sent_and_retried_recipients(
    world: World, operator: Operator, records: Records
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
        records.write(world.topics.recipients, orjson.dumps(world.event(offset, email=email)))
        outcome = {
            "organization_id": world.organization,
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
            "source": {"topic": world.topics.recipients, "partition": 0, "offset": offset},
        }
        records.write(world.topics.outcomes, orjson.dumps(outcome), partition=offset % 4)
    done = operator.answer("retry", operator.campaign, "--status", "failed")
    assert (done["selected"], done["retried"]) == (2, 2)
    again = operator.answer("retry", operator.campaign, "--status", "failed")
    assert (again["retried"], again["already"]) == (0, 2)

    unsure = ("retry", operator.campaign, "--status", "indeterminate")
    assert "--may-mail-twice" in operator.run(*unsure, code=2).stderr
    assert operator.answer(*unsure, "--may-mail-twice")["retried"] == 1
    topic = world.topics.recipients
    assert sorted(each[marks.RETRY_OF] for each in records.retries()) == [
        f"{topic}/0/{offset}" for offset in (2, 5, 6)
    ]
    operator.run("retry", operator.campaign, "--status", "sent", code=2)
    operator.run("retry", operator.campaign, "--status", "failed", "--reason", "expired", code=2)


def test_recipients_without_a_record_are_counted(
    world: World, operator: Operator, records: Records
) -> None:
    world.produce([world.event(1, email="nobody")], partition=0)
    with world.worker():
        world.await_endings(1)
    records.delete(world.topics.recipients)
    failure = operator.run("retry", operator.campaign, "--status", "failed", code=1)
    assert "1 cannot be retried" in failure.stderr
    assert not records.retries()
