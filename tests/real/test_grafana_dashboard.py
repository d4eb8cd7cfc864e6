"""The dashboard that is shipped: its form, and its queries, asked of a real Prometheus.

Prometheus collects from a real gate, and from a page with every metric of the catalogue, whose
counters grow: so a query that finds nothing is wrong.
"""

from __future__ import annotations

import http.server
import json
import pathlib
import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from sluicegate.metrics import CATALOGUE, Metric, Series
from sluicegate.metrics.exposition import write_metrics
from tests.kernel.test_metrics_gate import MeasuredGate, gate, visit
from tests.real.prometheus_parts import Prometheus, metric_names

pytestmark = [pytest.mark.real, pytest.mark.either_driver]

__all__ = ["gate"]

FOLDER = pathlib.Path(__file__).parents[2] / "packaging" / "grafana"
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "sluicegate.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
SHOWN = [panel for panel in PANELS if panel["type"] != "row"]
QUERIES = [(panel, target) for panel in SHOWN for target in panel["targets"]]
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
IN_WORDS = {"$__rate_interval": "60s", "$__interval": "60s", "$instance": ".*"}


def as_asked(query: str) -> str:
    """The query with Grafana's variables filled in."""
    for variable, value in IN_WORDS.items():
        query = query.replace(variable, value)
    assert "$" not in query
    return query


def unit_of(query: str) -> set[str]:
    """Units that fit what a query says, by the names and functions in it."""
    names = metric_names(query)
    is_rate = "rate(" in query and "histogram_quantile" not in query
    if re.search(r"\) / \(?sum", query):
        return {"percentunit"}
    if all(name.endswith("_timestamp_seconds") or "_time_seconds" in name for name in names):
        return {"s"}
    if all(name.endswith("_seconds") for name in names):
        return {"percentunit"} if is_rate else {"s"}
    if all(name.endswith("_bytes") for name in names):
        return {"Bps"} if is_rate else {"bytes"}
    return {"cps", "ops", "reqps", "pps"} if is_rate or "deriv(" in query else {"short", "none"}


def test_form_is_what_grafana_imports() -> None:
    assert (DASHBOARD["uid"], DASHBOARD["title"]) == ("sluicegate", "Sluicegate")
    assert DASHBOARD["schemaVersion"] == 39
    assert "id" not in DASHBOARD
    assert [one["name"] for one in DASHBOARD["templating"]["list"]] == ["datasource", "instance"]
    for panel in PANELS:
        assert {"id", "type", "title", "gridPos"} <= set(panel)
        assert panel["type"] in {"row", "timeseries", "stat", "table"}
    for panel in SHOWN:
        assert panel["datasource"] == SOURCE
        assert panel["description"].endswith(".")
        assert panel["targets"]
        assert {target["datasource"] == SOURCE for target in panel["targets"]} == {True}
        marks = [target["refId"] for target in panel["targets"]]
        assert len(marks) == len(set(marks))
        (minimum,) = {panel["fieldConfig"]["defaults"].get("min", 0)}
        assert minimum == 0


def not_read(written: object, read: object, at: str = "") -> Iterator[str]:
    """Where what was read is not what was written; what is read beside it are defaults."""
    if isinstance(written, dict) and isinstance(read, dict):
        for key, value in written.items():
            if key in read:
                yield from not_read(value, read[key], f"{at}/{key}")
            else:
                yield f"{at}/{key}"
    elif isinstance(written, list) and isinstance(read, list) and len(written) == len(read):
        for index, (value, other) in enumerate(zip(written, read, strict=True)):
            yield from not_read(value, other, f"{at}/{index}")
    elif written != read:
        yield at


def test_models_of_grafana_read_all_of_it() -> None:
    register_default_plugins()
    read = json.loads(JSONEncoder().encode(Dashboard.from_json(DASHBOARD)))
    # The source of data defines what a note has, and Grafana itself what a variable is made of:
    # the models of panels and queries have neither.
    assert set(not_read(DASHBOARD, read)) == {
        "/annotations/list/0/step",
        "/annotations/list/0/textFormat",
        "/annotations/list/0/titleFormat",
        "/templating/list/1/definition",
    }


def test_panels_have_names_of_their_own_and_do_not_overlap() -> None:
    numbers = [panel["id"] for panel in PANELS]
    assert len(numbers) == len(set(numbers))
    titles = [panel["title"] for panel in SHOWN]
    assert len(titles) == len(set(titles))
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


def test_rows_are_what_operators_look_for() -> None:
    rows = [panel["title"] for panel in PANELS if panel["type"] == "row"]
    assert rows == [
        "Now",
        "Traffic",
        "Verdicts",
        "Filters",
        "Port",
        "Spool",
        "Scanners",
        "Caches and names",
        "Log",
        "Processes",
    ]


def test_every_metric_is_on_it_and_nothing_else() -> None:
    named = {name for _, target in QUERIES for name in metric_names(target["expr"])}
    assert named == set(CATALOGUE)


@pytest.mark.parametrize(
    ("panel", "target"), QUERIES, ids=[f"{one['title']} {two['refId']}" for one, two in QUERIES]
)
def test_query_has_names_labels_and_units_of_the_catalogue(
    panel: dict[str, Any], target: dict[str, Any]
) -> None:
    query = target["expr"]
    chosen = re.findall(r"sluicegate_[a-z0-9_]+\{([^}]*)\}", query)
    assert len(chosen) == len(re.findall(r"sluicegate_", query))
    assert all('instance=~"$instance"' in one for one in chosen)
    labels = {"instance", "le"}
    for name in metric_names(query):
        labels |= set(CATALOGUE[name].labels)
    used = set(re.findall(r'(\w+)=~?"', query))
    for grouped in re.findall(r"by \(([^)]*)\)", query):
        used |= set(grouped.split(", "))
    shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
    assert used | shown <= labels
    assert panel["fieldConfig"]["defaults"]["unit"] in unit_of(query)


def series_of(metric: Metric, asked: int) -> Series:
    """What grows with each question, when it is something that grows."""
    labels = tuple("denied" if label == "verdict" else f"a {label}" for label in metric.labels)
    if metric.kind == "histogram":
        return Series(metric.name, labels, asked * 0.5, [asked] * (len(metric.bounds) + 1))
    return Series(metric.name, labels, asked if metric.kind == "counter" else 1)


class Everything(http.server.ThreadingHTTPServer):
    """A page with every metric there is."""

    asked = 0


class EverythingPage(http.server.BaseHTTPRequestHandler):
    server: Everything

    def do_GET(self) -> None:
        self.server.asked += 1
        series = [series_of(metric, self.server.asked) for metric in CATALOGUE.values()]
        text, kind = write_metrics(CATALOGUE, series, self.headers.get("Accept", ""))
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def everything() -> Iterator[Everything]:
    with Everything(("127.0.0.1", 0), EverythingPage) as page:
        thread = threading.Thread(target=page.serve_forever)
        thread.start()
        yield page
        page.shutdown()
        thread.join()


def test_prometheus_answers_every_query_with_numbers(
    gate: MeasuredGate, everything: Everything, tmp_path: pathlib.Path
) -> None:
    gate.start()
    visit(gate, 3)
    gate.wait_for_sample(
        lambda one: one.get("sluicegate_connections_ended_total|echo|released") == 3, "ended"
    )
    with Prometheus(tmp_path, [gate.port, everything.server_port]) as prometheus:
        # Rates need two samples of the gate, and those of the page to have grown.
        prometheus.wait_for("sum(count_over_time(sluicegate_info[60s])) by (instance) > 3")
        prometheus.wait_for("sum(rate(sluicegate_alerts_total[60s])) > 0")
        # What shows only what is wrong has nothing to show.
        (of_faults,) = [one["expr"] for _, one in QUERIES if "process_up" in one["expr"]]
        for _, target in QUERIES:
            if target["expr"] != of_faults:
                prometheus.wait_for(as_asked(target["expr"]))
        assert prometheus.ask(as_asked(of_faults)) == []
        for note in DASHBOARD["annotations"]["list"]:
            prometheus.ask(as_asked(note["expr"]))
        (accepted,) = prometheus.wait_for('sluicegate_traffic_bytes_total{direction="to_server"}')
        assert accepted["value"][1] == "15"


def test_provisioning_names_the_folder_of_dashboards() -> None:
    text = (FOLDER / "provisioning.yml").read_text()
    assert re.search(r"^apiVersion: 1$", text, re.MULTILINE)
    assert re.search(r"^ +path: /var/lib/grafana/dashboards$", text, re.MULTILINE)
