"""A real Prometheus that scrapes this machine every second, with time sixtyfold for its alerts."""

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import urllib3
import yaml
from pydantic import BaseModel

from streamer.stack.server import Server
from tools.docs import ROOT

_CONFIG = ROOT / "config"
_DURATION = re.compile(r"\b(\d+)([mh])\b")
_SECONDS_OF_AGE = re.compile(r"(_age_seconds\) > )(\d+)")


class Series(NamedTuple):
    """The labels of a series, and its values by time in seconds."""

    labels: Mapping[str, str]
    values: Mapping[float, float]


class _Result(BaseModel):
    metric: dict[str, str]
    values: list[tuple[float, str]]


class _Data(BaseModel):
    result: list[_Result]


class _Answer(BaseModel):
    data: _Data


def faster(alerts: str) -> str:
    """The alerts with a second for each minute."""
    quick = _DURATION.sub(lambda m: f"{int(m[1]) * (60 if m[2] == 'h' else 1)}s", alerts)
    return _SECONDS_OF_AGE.sub(lambda m: f"{m[1]}{int(m[2]) // 60}", quick)


class PrometheusServer(Server):
    """Scrapes ports of this machine by job, and evaluates `config/alerts.yml`, sixty times faster.

    Args:
        targets: the ports of each job of `config/prometheus.yml`.
    """

    name = "prometheus"

    def __init__(self, folder: Path, targets: Mapping[str, Sequence[int]]) -> None:
        super().__init__(folder)
        self._targets = targets
        self._http = urllib3.PoolManager(retries=False, timeout=20.0)

    @staticmethod
    def is_there() -> bool:
        """Whether this machine has Prometheus."""
        return shutil.which("prometheus") is not None

    @property
    def address(self) -> str:
        """The URL."""
        return f"http://127.0.0.1:{self.port}"

    def version(self) -> str:
        """Return an empty text; nothing asks."""
        return ""

    def command(self) -> list[str]:
        """Write the configuration and return the command line."""
        config = yaml.safe_load((_CONFIG / "prometheus.yml").read_text(encoding="utf-8"))
        config["global"] = {
            "scrape_interval": "1s",
            "scrape_timeout": "1s",
            "evaluation_interval": "1s",
        }
        for job in config["scrape_configs"]:
            ports = self._targets[job["job_name"]]
            job["static_configs"] = [{"targets": [f"127.0.0.1:{port}" for port in ports]}]
        (self.folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
        alerts = (_CONFIG / "alerts.yml").read_text(encoding="utf-8")
        (self.folder / "alerts.yml").write_text(faster(alerts), encoding="utf-8")
        return [
            shutil.which("prometheus") or "prometheus",
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=data",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--log.level=warn",
        ]

    def serves(self) -> bool:
        """Whether it answers queries."""
        try:
            return self._http.request("GET", f"{self.address}/-/ready").status == 200
        except urllib3.exceptions.HTTPError:
            return False

    def between(self, expr: str, start: float, end: float) -> list[Series]:
        """Evaluate a query at each second from `start` to `end`."""
        fields = {"query": expr, "start": str(start), "end": str(end), "step": "1"}
        answer = self._http.request("GET", f"{self.address}/api/v1/query_range", fields=fields)
        assert answer.status == 200, f"{expr}: {answer.data.decode()}"
        return [
            Series(each.metric, {at: float(value) for at, value in each.values})
            for each in _Answer.model_validate_json(answer.data).data.result
        ]

    def firing(self, start: float, end: float) -> Iterator[tuple[str, Mapping[str, str], float]]:
        """Yield alerts that fired between, with their labels, and when they first did."""
        for series in self.between('ALERTS{alertstate="firing"}', start, end):
            yield series.labels["alertname"], series.labels, min(series.values)
