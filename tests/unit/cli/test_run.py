"""What `run` says before it starts."""

from typer.testing import CliRunner, Result

from streamer.cli import app
from tests.kit.operator import NOWHERE

VARIABLES = {
    "STREAMER_KAFKA__BOOTSTRAP_SERVERS": NOWHERE,
    "STREAMER_REDIS__URL": f"redis://{NOWHERE}",
    "STREAMER_METRICS__PORT": "0",
}
KEY = {"RESEND_API_KEY": "re_1234567890abcd", "STREAMER_UNSUBSCRIBE__REQUIRED": "false"}


def run(*options: str, **variables: str) -> Result:
    return CliRunner().invoke(app, ["run", *options], env=VARIABLES | variables)


def test_all_faults_are_named_at_once() -> None:
    result = run(RESEND_API_KEY="", STREAMER_MAIL__MAX_BYTES="7")
    assert result.exit_code == 2
    assert "every mail needs one-click unsubscribe headers" in result.stderr
    assert "no API key in $RESEND_API_KEY" in result.stderr


def test_a_url_that_shows_the_key_is_refused_before_anything_is_sent() -> None:
    variables = {**KEY, "RESEND_API_URL": "http://api.resend.com"}
    result = run("--wait-for", "1s", **variables)
    assert result.exit_code == 2
    assert "RESEND_API_URL: expected https://" in result.stderr
    checked = CliRunner().invoke(app, ["config", "check"], env=VARIABLES | variables)
    assert checked.exit_code == 1
    assert "RESEND_API_URL: expected https://" in checked.stdout


def test_absent_servers_are_waited_for_as_long_as_told() -> None:
    result = run("--wait-for", "1s", **KEY)
    assert result.exit_code == 1
    assert result.stderr.count("waiting to start") == 1
    assert f"Kafka at {NOWHERE}" in result.stderr.split("cannot start:")[1]
    assert f"Redis at {NOWHERE}" in result.stderr.split("cannot start:")[1]
    assert run("--wait-for", "soon", **KEY).exit_code == 2
