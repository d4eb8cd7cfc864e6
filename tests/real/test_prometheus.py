"""A real Prometheus asks a gate, and reads the rules that are shipped."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import urllib.request

import pytest

from sluicegate.metrics import CATALOGUE
from tests.kernel.test_metrics_gate import MeasuredGate, gate, visit
from tests.real.prometheus_parts import Prometheus, metric_names

pytestmark = [pytest.mark.real, pytest.mark.either_driver]

__all__ = ["gate"]

RULES = pathlib.Path(__file__).parents[2] / "packaging" / "prometheus" / "sluicegate.rules.yml"


def test_prometheus_takes_numbers_with_their_types_and_evaluates_the_rules(
    gate: MeasuredGate, tmp_path: pathlib.Path
) -> None:
    gate.start()
    visit(gate, 3)
    gate.wait_for_sample(
        lambda one: one.get("sluicegate_connections_ended_total|echo|released") == 3, "ended"
    )
    with Prometheus(tmp_path, [gate.port], [RULES]) as prometheus:
        found = prometheus.wait_for("sluicegate_connections_ended_total")
        assert [one["value"][1] for one in found] == ["3"]
        assert [one["value"][1] for one in prometheus.wait_for("up == 1")] == ["1"]
        metadata = prometheus.fetch("/api/v1/metadata?metric=sluicegate_dial_seconds")
        (known,) = metadata["data"]["sluicegate_dial_seconds"]
        assert (known["type"], known["unit"]) == ("histogram", "seconds")
        rules = prometheus.fetch("/api/v1/rules")["data"]["groups"][0]["rules"]
        assert rules
        assert {one.get("lastError", "") for one in rules} == {""}
        assert "firing" not in {one["state"] for one in rules}


def test_promtool_finds_nothing_wrong_with_the_page(gate: MeasuredGate) -> None:
    gate.start()
    visit(gate, 1)
    url = f"http://127.0.0.1:{gate.port}/metrics"
    with urllib.request.urlopen(url, timeout=60) as answer:
        text = answer.read()
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stderr, checked.stdout) == (0, b"", b"")


def test_promtool_takes_the_rules_that_are_shipped() -> None:
    assert shutil.which("promtool") is not None
    checked = subprocess.run(
        ["promtool", "check", "rules", str(RULES)], capture_output=True, text=True, check=False
    )
    assert (checked.returncode, "SUCCESS" in checked.stdout) == (0, True)


def test_rules_name_only_metrics_that_there_are() -> None:
    named = metric_names(RULES.read_text())
    assert len(named) > 10
    assert named <= set(CATALOGUE)
