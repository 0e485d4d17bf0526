"""The alert rules and the dashboard of deploy/: promtool passes them, and every metric in them exists."""

from __future__ import annotations

import json
import re

import yaml  # type: ignore[import-untyped]

from snapdelta.metrics import FAMILIES
from support.documents import ROOT
from support.promtool import promtool
from tools import dashboard

DEPLOY = ROOT / "deploy"
# As Prometheus stores them.
STORED = {
    name
    for family in FAMILIES.values()
    for name in (
        (f"{family.name}_sum", f"{family.name}_count") if family.kind == "summary" else (family.name,)
    )
}


def _metrics(text: str) -> set[str]:
    return set(re.findall(r"snapdelta_[a-z_]+", text))


def test_the_rules_pass() -> None:
    assert "SUCCESS" in promtool("check", "rules", DEPLOY / "alerts.yml")


def test_each_rule_fires_and_does_not_fire() -> None:
    assert "SUCCESS" in promtool("test", "rules", DEPLOY / "alerts_test.yml")
    (group,) = yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"]
    tests = yaml.safe_load((DEPLOY / "alerts_test.yml").read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    for rule in group["rules"]:
        outcomes = {bool(case["exp_alerts"]) for case in cases if case["alertname"] == rule["alert"]}
        assert outcomes == {True, False}, rule["alert"]


def test_every_metric_of_the_rules_exists() -> None:
    for name in ("alerts.yml", "alerts_test.yml"):
        found = _metrics((DEPLOY / name).read_text())
        assert found, name
        assert found <= STORED


def test_the_dashboard_is_what_the_script_makes() -> None:
    text = (DEPLOY / "grafana-dashboard.json").read_text()
    assert text == dashboard.text(), "run python tools/dashboard.py"
    panels = [panel for panel in json.loads(text)["panels"] if panel["type"] != "row"]
    shown = {name for panel in panels for name in _metrics(panel["targets"][0]["expr"])}
    assert shown == STORED
