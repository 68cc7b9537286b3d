"""`events backfill`: what the gateway missed is fetched from Resend."""

import pytest

from streamer.ledger import suppression
from streamer.sandbox import Faults, SandboxProcess
from tests.integration.sandbox.client import Client, mail
from tests.kit.harness import Harness, wait_until
from tests.kit.office import Office
from tests.kit.operator import CommandRunner


@pytest.mark.slow
def test_what_the_gateway_missed_is_written(
    harness: Harness, operator: CommandRunner, office: Office
) -> None:
    organization = harness.organization
    tags = [{"name": "organization", "value": organization}, {"name": "campaign", "value": "c"}]
    # Nobody listens there.
    with SandboxProcess(
        limit=None, webhook_url="http://127.0.0.1:9/webhooks/default", webhook_retries_s=()
    ) as sandbox:
        operator.environment["RESEND_API_URL"] = sandbox.url
        addresses = [f"user{number}@example.com" for number in range(60)]
        sandbox.set_faults(Faults(bounced_percent=100))
        Client(sandbox.url).send([mail(address, tags=tags) for address in addresses])
        wait_until(lambda: not sandbox.stats().webhooks_pending, 30, "given up")

        command = ("events", "backfill", "default", "--since")
        operator.run(*command, "2020-01-01T00:00:00Z", code=2)  # without a terminal
        future = operator.json(*command, "2100-01-01T00:00:00Z", "--yes")
        expected = {"dry_run": False, "acknowledged": 0, "unreadable": 0}
        assert future == {**expected, "seen": 0, "written": 0}
        dry = operator.json(*command, "2020-01-01T00:00:00Z", "--dry-run")
        assert dry == {**expected, "dry_run": True, "seen": 120, "written": 120}
        for _ in range(2):  # safe to repeat
            done = operator.json(*command, "2020-01-01T00:00:00Z", "--yes")
            assert done == {**expected, "seen": 120, "written": 120}
        sandbox.send_webhooks("http://127.0.0.1:9/elsewhere")
        assert (
            "no webhook" in operator.run(*command, "2020-01-01T00:00:00Z", "--yes", code=1).stderr
        )
    with office.applying():
        wait_until(
            lambda: all(suppression.check(harness.redis, organization, addresses)), 30, "applied"
        )
