"""`config`: the settings in effect, without their secrets."""

from collections.abc import Mapping
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner, Result

from streamer.cli import app

FILE = """
[kafka]
group_id = "mine"
[kafka.properties]
"sasl.username" = "ann"
"sasl.password" = "s3cret"
[redis]
url = "redis://ann:s3cret@redis.test:6380/1"
[accounts.acme]
api_key_env = "ACME_KEY"
organizations = ["acme"]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "streamer.toml"
    path.write_text(FILE)
    return path


NO_VARIABLES: Mapping[str, str] = {}


def run(*arguments: str, code: int = 0, variables: Mapping[str, str] = NO_VARIABLES) -> Result:
    env = {
        "STREAMER_UNSUBSCRIBE__SECRET": "s3cret and more than 16 bytes",
        "STREAMER_UNSUBSCRIBE__BASE_URL": "https://acme.test/u",
        "ACME_KEY": "re_s3cret_12345",
        **variables,
    }
    result = CliRunner().invoke(app, ["config", *arguments], env=env)
    assert result.exit_code == code, result.output
    return result


def test_settings_are_shown_with_their_source(file: Path) -> None:
    variables = {"STREAMER_BATCH__SIZE": "50", "STREAMER_LOG": '{"level": "debug"}'}
    result = run("show", "--config", str(file), "--json", variables=variables)
    assert "s3cret" not in result.output
    shown = {each["name"]: (each["value"], each["source"]) for each in orjson.loads(result.stdout)}
    assert shown["kafka.group_id"] == ("mine", f"{file}:3")
    assert shown["kafka.properties.sasl.username"] == ("ann", f"{file}:5")
    assert shown["kafka.properties.sasl.password"] == ("(hidden)", f"{file}:6")
    assert shown["redis.url"] == ("redis://ann:(hidden)@redis.test:6380/1", f"{file}:8")
    assert shown["batch.size"] == (50, "STREAMER_BATCH__SIZE")
    assert shown["log.level"] == ("debug", "STREAMER_LOG")
    assert shown["log.format"] == ("human", "default")
    assert shown["accounts.acme.api_key_env"] == ("ACME_KEY (ends in 2345)", f"{file}:10")
    assert shown["accounts.acme.organizations"] == (["acme"], f"{file}:11")
    assert shown["unsubscribe.secret"] == ("(hidden)", "STREAMER_UNSUBSCRIBE__SECRET")
    table = run("show", "--config", str(file)).stdout
    assert "s3cret" not in table
    assert "kafka.group_id" in table


def test_settings_are_checked_without_servers(file: Path) -> None:
    assert "the settings are valid" in run("check", "--config", str(file)).stdout
    file.write_text("[batch]\nmax_bytes = 10\nsise = 1\n")
    failure = run("check", "--config", str(file), code=2).stderr
    assert "batch.sise: unknown setting; did you mean size?" in failure
    file.write_text("[batch]\nmax_bytes = 10\n")
    assert "failed: sizes: " in run("check", "--config", str(file), code=1).stdout
