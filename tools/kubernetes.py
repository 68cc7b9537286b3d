"""Generates the PrometheusRule of `config/kubernetes` from `config/alerts.yml`.

`python -m tools.kubernetes` checks that it is up to date, `--write` updates it.
"""

import sys

import yaml

from tools.docs import ROOT

ALERTS = ROOT / "config" / "alerts.yml"
RULE = ROOT / "config" / "kubernetes" / "overlays" / "monitored" / "prometheusrule.yaml"


def rule() -> str:
    """The PrometheusRule, as YAML."""
    alerts = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))
    resource = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "streamer"},
        "spec": alerts,
    }
    made = yaml.safe_dump(resource, sort_keys=False, width=1_000_000)
    return f"# Generated from config/alerts.yml: python -m tools.kubernetes --write\n{made}"


def main() -> int:
    """Check or write the file."""
    if "--write" in sys.argv[1:]:
        RULE.write_text(rule(), encoding="utf-8")
    if RULE.read_text(encoding="utf-8") == rule():
        return 0
    print(f"{RULE.relative_to(ROOT)} is out of date: python -m tools.kubernetes --write")
    return 1


if __name__ == "__main__":
    sys.exit(main())
