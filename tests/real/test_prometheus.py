"""A real Prometheus asks a gate, and reads the rules that are shipped."""

from __future__ import annotations

import contextlib
import json
import pathlib
import re
import shutil
import socket
import subprocess
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator

import pytest

from sluicegate.metrics import CATALOGUE
from tests.kernel.test_gate_process import EchoServer
from tests.kernel.test_metrics_gate import MeasuredGate, visit

pytestmark = [pytest.mark.real, pytest.mark.either_driver]

RULES = pathlib.Path(__file__).parents[2] / "packaging" / "prometheus" / "sluicegate.rules.yml"


@pytest.fixture
def gate(tmp_path: pathlib.Path) -> Iterator[MeasuredGate]:
    server = EchoServer()
    made = MeasuredGate(tmp_path, server.port)
    made.write_main('[metrics]\nlisten = "127.0.0.1:0"\n')
    yield made
    made.close()
    server.close()


def metric_names(text: str) -> set[str]:
    """Names in a query or a rule, as the catalogue has them."""
    found = set()
    for name in re.findall(r"\bsluicegate_[a-z0-9_]+", text):
        plain = re.sub(r"_(total|bucket|count|sum)$", "", name)
        found.add(plain if plain in CATALOGUE else name)
    return found


def asked(port: int, query: str) -> list[dict[str, object]]:
    url = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": query})
    with urllib.request.urlopen(url, timeout=10) as answer:
        found: list[dict[str, object]] = json.load(answer)["data"]["result"]
        return found


def test_prometheus_takes_numbers_with_their_types_and_evaluates_the_rules(
    gate: MeasuredGate, tmp_path: pathlib.Path
) -> None:
    gate.start()
    visit(gate, 3)
    gate.wait_for_sample(
        lambda one: one.get("sluicegate_connections_ended_total|echo|released") == 3, "ended"
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    configuration = tmp_path / "prometheus.yml"
    configuration.write_text(
        f"global: {{scrape_interval: 200ms, evaluation_interval: 200ms}}\n"
        f"rule_files: ['{RULES}']\n"
        f"scrape_configs:\n- job_name: sluicegate\n  static_configs:\n"
        f"  - targets: ['127.0.0.1:{gate.port}']\n"
    )
    command = [
        "prometheus",
        f"--config.file={configuration}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    command.append(f"--storage.tsdb.path={tmp_path / 'tsdb'}")
    with (tmp_path / "prometheus.log").open("w") as said:
        prometheus = subprocess.Popen(command, stdout=said, stderr=said)
    try:
        waiting = threading.Event()
        found: list[dict[str, object]] = []
        for _ in range(300):
            with contextlib.suppress(OSError):  # it is starting
                found = asked(port, "sluicegate_connections_ended_total")
            if found:
                break
            waiting.wait(0.1)
        assert [one["value"][1] for one in found] == ["3"]  # type: ignore[index]
        assert [one["value"][1] for one in asked(port, "up")] == ["1"]  # type: ignore[index]
        url = f"http://127.0.0.1:{port}/api/v1/metadata?metric=sluicegate_dial_seconds"
        with urllib.request.urlopen(url, timeout=10) as answer:
            (known,) = json.load(answer)["data"]["sluicegate_dial_seconds"]
        assert (known["type"], known["unit"]) == ("histogram", "seconds")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/rules", timeout=10) as answer:
            rules = json.load(answer)["data"]["groups"][0]["rules"]
        assert rules
        assert {one.get("lastError", "") for one in rules} == {""}
        assert "firing" not in {one["state"] for one in rules}
    finally:
        prometheus.terminate()
        prometheus.wait(20)


def test_promtool_finds_nothing_wrong_with_the_page(gate: MeasuredGate) -> None:
    gate.start()
    visit(gate, 1)
    url = f"http://127.0.0.1:{gate.port}/metrics"
    with urllib.request.urlopen(url, timeout=20) as answer:
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
