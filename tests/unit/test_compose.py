"""Checks of docker-compose.yml that need no container engine and no servers."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from typer.testing import CliRunner

from streamer.cli import app
from streamer.settings import Settings
from tests.kit import compose
from tests.kit.compose import ComposeError

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"
TRIAL = compose.read_variables(ROOT / "config" / "compose" / "trial.env")
REAL = {
    "UNSUBSCRIBE_BASE_URL": "https://example.com/unsubscribe",
    "UNSUBSCRIBE_SECRET": "of sixteen bytes at least",
}
FOR_TRIALS, FOR_REAL = compose.read_compose(FILE, TRIAL), compose.read_compose(FILE, REAL)
OURS = {n: each for n, each in compose.services(FOR_TRIALS).items() if compose.is_ours(each)}
WORKER = OURS["worker"]


def test_workers_can_be_scaled() -> None:
    for fixed in ("container_name", "hostname", "ports", "network_mode", "profiles"):
        assert fixed not in WORKER, f"two workers cannot both have {fixed}"
    assert "STREAMER_WORKER__ID" not in compose.environment(WORKER), "the second would not start"


def test_prometheus_finds_each_worker_and_gateway() -> None:
    configs = FOR_TRIALS["configs"]
    assert isinstance(configs, dict)
    prometheus = configs["prometheus"]
    assert isinstance(prometheus, dict)
    jobs = yaml.safe_load(str(prometheus["content"]))["scrape_configs"]
    found = {job["job_name"]: job["dns_sd_configs"][0] for job in jobs}
    assert {name: (each["names"], each["type"], each["port"]) for name, each in found.items()} == {
        "streamer": (["worker"], "A", Settings().metrics.port),  # the name is that of the alerts
        "streamer-gateway": (["gateway"], "A", int(compose.command(OURS["gateway"])[-1])),
    }


def test_trials_go_to_the_sandbox_and_the_real_thing_to_resend() -> None:
    trial = compose.environment(WORKER)
    url = urlsplit(trial["RESEND_API_URL"])
    assert OURS["sandbox"]["networks"] == {"default": {"aliases": [url.hostname]}}
    assert compose.command(OURS["sandbox"])[-1] == str(url.port)
    assert OURS["sandbox"]["profiles"] == ["trial"]
    real = compose.environment(compose.services(FOR_REAL)["worker"])
    assert real["RESEND_API_URL"] == "https://api.resend.com"
    assert real["STREAMER_UNSUBSCRIBE__SECRET"] == REAL["UNSUBSCRIBE_SECRET"]


def test_keys_come_from_files() -> None:
    files = [compose_file["secrets"] for compose_file in (FOR_TRIALS, FOR_REAL)]
    assert files[0] == {"resend-api-key": {"file": "./config/compose/sandbox-key"}}
    assert files[1] == {"resend-api-key": {"file": "./secrets/resend-api-key"}}
    assert (ROOT / "config/compose/sandbox-key").read_text(encoding="utf-8") == "re_sandbox\n"
    path = compose.environment(WORKER)["STREAMER_ACCOUNTS__DEFAULT__API_KEY_FILE"]
    assert path == "/run/secrets/resend-api-key"
    assert WORKER["secrets"] == ["resend-api-key"]
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert {"/secrets/", "/.env"} <= set(ignored)


@pytest.mark.parametrize("missing", REAL)
def test_the_real_thing_asks_for_what_it_needs(missing: str) -> None:
    with pytest.raises(ComposeError, match=f"{missing} is missing a value: set it in .env"):
        compose.read_compose(FILE, {name: REAL[name] for name in REAL if name != missing})


def test_workers_have_time_to_drain() -> None:
    grace = str(WORKER["stop_grace_period"])
    assert float(grace.removesuffix("s")) > Settings().worker.shutdown_timeout_s + 20


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_containers_can_do_little(name: str) -> None:
    service = OURS[name]
    assert service["read_only"] is True
    assert (service["cap_drop"], service["tmpfs"]) == (["ALL"], ["/tmp"])
    # The image's check is one for workers.
    assert name in ("worker", "gateway") or service["healthcheck"] == {"disable": True}


def test_the_gateway_is_reached_by_its_proxy_alone() -> None:
    gateway = OURS["gateway"]
    port = compose.command(gateway)[-1]
    assert gateway["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert f"127.0.0.1:{port}/healthz" in str(gateway["healthcheck"])


def test_what_faces_the_internet_has_no_api_key() -> None:
    assert OURS["gateway"]["secrets"] == []


@pytest.mark.parametrize("variables", [TRIAL, REAL], ids=["trial", "real"])
@pytest.mark.parametrize("name", sorted(OURS))
def test_each_variable_is_a_setting(
    name: str, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    service = compose.services(compose.read_compose(FILE, variables))[name]
    found = compose.environment(service)
    for variable, value in found.items():
        monkeypatch.setenv(variable, value)
    settings = Settings()
    assert settings.accounts["default"].api_key_file is not None
    assert settings.unsubscribe.secrets
    for variable in found:
        if variable.startswith("STREAMER_") and "ACCOUNTS" not in variable:
            section, _, field = variable.removeprefix("STREAMER_").lower().partition("__")
            assert field in getattr(settings, section).model_fields_set, f"{variable} sets nothing"


@pytest.mark.parametrize("name", sorted(OURS))
def test_each_command_is_one(name: str) -> None:
    arguments = compose.command(OURS[name])
    if not arguments:
        return  # for commands by hand
    # The help comes only if everything before it is understood.
    result = CliRunner().invoke(app, [*arguments, "--help"])
    assert result.exit_code == 0, result.output
