"""Checks of docker-compose.yml that need no container engine."""

import os
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from typer.testing import CliRunner

from streamer.cli import app
from streamer.settings import Settings

COMPOSE = yaml.safe_load(
    (Path(__file__).parents[2] / "docker-compose.yml").read_text(encoding="utf-8")
)
SERVICES: dict[str, dict[str, object]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service.get("build") == "."}


def test_workers_can_be_scaled() -> None:
    worker = SERVICES["worker"]
    for fixed in ("container_name", "hostname", "ports", "network_mode"):
        assert fixed not in worker, f"two workers cannot both have {fixed}"
    assert "STREAMER_WORKER__ID" not in _environment(worker), "they would fence each other"


def test_prometheus_finds_each_worker() -> None:
    configuration = yaml.safe_load(COMPOSE["configs"]["prometheus"]["content"])
    (job,) = configuration["scrape_configs"]
    (found,) = job["dns_sd_configs"]
    assert (found["names"], found["type"]) == (["worker"], "A")
    assert found["port"] == Settings().metrics.port


def test_named_files_exist() -> None:
    urls = [_environment(service).get("RESEND_API_URL") for service in OURS.values()]
    hosts = {urlsplit(url).hostname for url in urls if url}
    assert hosts == {"sandbox.test"}
    assert SERVICES["sandbox"]["networks"] == {"default": {"aliases": ["sandbox.test"]}}
    assert not any(service.get("network_mode") for service in SERVICES.values())


@pytest.mark.parametrize("name", sorted(OURS))
def test_each_variable_is_a_setting(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [key for key in os.environ if key.startswith("STREAMER_")]:
        monkeypatch.delenv(variable)
    environment = _environment(OURS[name])
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    settings = Settings()
    for variable in environment:
        if variable.startswith("STREAMER_"):
            section, _, field = variable.removeprefix("STREAMER_").lower().partition("__")
            assert field in getattr(settings, section).model_fields_set, f"{variable} sets nothing"


@pytest.mark.parametrize("name", sorted(OURS))
def test_each_command_is_one(name: str) -> None:
    arguments = OURS[name].get("command")
    if arguments is None:
        return  # for commands by hand
    assert isinstance(arguments, list)
    # The help comes only if everything before it is understood.
    result = CliRunner().invoke(app, [*arguments, "--help"])
    assert result.exit_code == 0, result.output


def _environment(service: dict[str, object]) -> dict[str, str]:
    environment = service.get("environment", {})
    assert isinstance(environment, dict)
    return {str(name): str(value) for name, value in environment.items()}
