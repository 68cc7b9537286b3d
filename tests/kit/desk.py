"""Runs the commands that preview and try mails, with Redis and a sandbox but without Kafka."""

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
from typer.testing import Result

from streamer.ledger import campaigns
from streamer.ledger.connection import Client, connect
from streamer.mail.unsubscribe import UnsubscribeLinks
from streamer.model.campaign import Definition
from streamer.sandbox import DEFAULT_KEY, SandboxProcess
from streamer.settings import RedisSettings as RedisSettings
from streamer.stack import RedisServer
from tests.kit.operator import NO_CHANGE, CommandRunner

SECRET = "a secret for tests alone"
LINKS = UnsubscribeLinks("https://example.com/u", [SECRET.encode()])
HTML = "<p>Hi {{ first_name }} <a href='{{ unsubscribe_url }}'>no more</a></p>"
TEXT = "Hi {{ first_name }}\n{{ unsubscribe_url }}"
VARS = '{"first_name": "Ann"}'


class Desk:
    """Runs `campaign` commands with Redis and a sandbox but without Kafka."""

    def __init__(self, redis: RedisServer, sandbox: SandboxProcess) -> None:
        self.sandbox = sandbox
        self.client: Client = connect(RedisSettings(url=redis.url))
        self.organization = f"org-{secrets.token_hex(4)}"
        self.campaign = f"{self.organization}/spring"
        self.environment = {
            "STREAMER_REDIS__URL": redis.url,
            "STREAMER_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1",
            "STREAMER_UNSUBSCRIBE__BASE_URL": "https://example.com/u",
            "STREAMER_UNSUBSCRIBE__SECRET": SECRET,
            "RESEND_API_KEY": DEFAULT_KEY,
            "RESEND_API_URL": sandbox.url,
        }

    def define(self, **changes: object) -> None:
        """Define the campaign."""
        fields = {
            "organization_id": self.organization,
            "campaign_id": "spring",
            "from": "Acme <news@acme.test>",
            "subject": "Hello {{ first_name }}",
            "html": HTML,
            "text": TEXT,
            **changes,
        }
        assert campaigns.create(self.client, Definition.model_validate(fields))

    def run(
        self,
        command: str,
        *arguments: str | Path,
        code: int = 0,
        env: Mapping[str, str] = NO_CHANGE,
    ) -> Result:
        """Run `campaign COMMAND` and assert its exit code."""
        operator = CommandRunner(self.environment, self.organization, "spring")
        return operator.run("campaign", command, self.campaign, *arguments, code=code, env=env)

    def json(  # returns Any: tests access single fields
        self, command: str, *arguments: str | Path, code: int = 0
    ) -> Any:
        """Run `campaign COMMAND --json` and decode its output."""
        return orjson.loads(self.run(command, *arguments, "--json", code=code).stdout)
