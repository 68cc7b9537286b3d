"""Resend's official Node SDK, as npm installs it, against the sandbox."""

import os
import subprocess
from pathlib import Path

import pytest
from pydantic import BaseModel, JsonValue, TypeAdapter

from streamer.sandbox import SandboxProcess
from tests.integration.sandbox.client import INVALID_TO
from tests.kit.npm import PATIENCE_S, install

VERSION = "6.38.0"
SCRIPT = Path(__file__).with_name("node_sdk.mjs")


class Told(BaseModel):
    """What a call of the SDK returned."""

    data: dict[str, JsonValue] | None
    error: dict[str, JsonValue] | None


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder where the SDK is installed."""
    install(f"resend@{VERSION}", tmp_path)
    return tmp_path


@pytest.mark.timeout(2 * PATIENCE_S)
def test_the_node_sdk_works_against_the_sandbox(package: Path, sandbox: SandboxProcess) -> None:
    env = {**os.environ, "RESEND_API_KEY": "re_sandbox", "RESEND_BASE_URL": sandbox.url}
    done = subprocess.run(
        ["node", SCRIPT, f"{package}/"],
        # It logs each error to stderr otherwise.
        env={**env, "NODE_ENV": "production"},
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    told = TypeAdapter(dict[str, Told]).validate_json(done.stdout)
    data = {name: each.data for name, each in told.items() if each.data is not None}
    errors = {name: each.error for name, each in told.items() if each.error is not None}
    assert {name: (each["statusCode"], each["name"]) for name, each in errors.items()} == {
        "other payload": (409, "invalid_idempotent_request"),
        "strict": (422, "validation_error"),
        "no content": (422, "missing_required_field"),
        "unknown key": (403, "invalid_api_key"),
        "get nothing": (404, "not_found"),
    }
    assert data["single"] == data["single again"]
    assert data["batch"] == data["batch again"]
    assert data["permissive"]["errors"] == [{"index": 0, "message": INVALID_TO}]
    assert len(_rows(data["permissive"])) == 1
    assert (data["get"]["object"], data["get"]["last_event"]) == ("email", "delivered")
    assert data["domains"] == {"object": "list", "has_more": False, "data": []}
    assert [row["email"] for row in _rows(data["suppressed"])] == ["ann@example.com"]
    assert data["release"]["deleted"] is True
    stats = sandbox.stats()
    assert (stats.accepted, stats.replays) == (6, 2)


def _rows(told: dict[str, JsonValue]) -> list[dict[str, str | None]]:
    return TypeAdapter(list[dict[str, str | None]]).validate_python(told["data"])
