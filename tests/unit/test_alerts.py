"""The alerts and the scrape configurations as Prometheus reads them, and when each alert fires."""

import shutil
import subprocess
import warnings
from pathlib import Path

import pytest
import yaml

from tests.kit import compose
from tools.docs import ROOT

CONFIG = ROOT / "config"
TIMING = Path(__file__).with_name("alert_timing.yml")


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        warnings.warn(
            "promtool is absent: alerts are not tested (Debian: prometheus)", stacklevel=1
        )
        pytest.skip("promtool is absent (Debian: prometheus)")
    return found


def accepts(promtool: str, *arguments: str | Path) -> str:
    """Return what promtool says, and fail if it is not content."""
    done = subprocess.run([promtool, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_rules_are_valid(promtool: str) -> None:
    assert "SUCCESS" in accepts(promtool, "check", "rules", CONFIG / "alerts.yml")


def test_the_scrape_configurations_are_valid(promtool: str, tmp_path: Path) -> None:
    accepts(promtool, "check", "config", CONFIG / "prometheus.yml")
    trial = compose.read_variables(CONFIG / "compose" / "trial.env")
    configs = compose.read_compose(ROOT / "docker-compose.yml", trial)["configs"]
    assert isinstance(configs, dict)
    assert isinstance(configs["prometheus"], dict)
    (tmp_path / "prometheus.yml").write_text(str(configs["prometheus"]["content"]))
    shutil.copy(CONFIG / "alerts.yml", tmp_path)
    accepts(promtool, "check", "config", tmp_path / "prometheus.yml")


def test_alerts_fire_when_they_should(promtool: str) -> None:
    accepts(promtool, "test", "rules", TIMING)


def test_the_timing_of_each_alert_is_tested() -> None:
    rules = yaml.safe_load((CONFIG / "alerts.yml").read_text(encoding="utf-8"))["groups"][0][
        "rules"
    ]
    cases = yaml.safe_load(TIMING.read_text(encoding="utf-8"))["tests"]
    told = {case["name"].partition(",")[0] for case in cases}
    assert {rule["alert"] for rule in rules} <= told
