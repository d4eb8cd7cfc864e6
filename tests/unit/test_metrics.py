"""Metrics: counted within bounds, added up over processes, written as Prometheus reads them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.parser import text_string_to_metric_families as classic_families

from sluicegate.audit import ConnectionRecord, DecisionRecord, LimitRecord
from sluicegate.audit.record_counts import RecordCounts
from sluicegate.metrics import CATALOGUE, Counts, Metric, Series, add_up
from sluicegate.metrics.exposition import write_metrics
from sluicegate.process_limits import METRIC_SERIES_MAX
from tests.unit.record_kit import KINDS, full_record, tag_of

OPEN = "application/openmetrics-text; version=1.0.0"
SMALL = {
    "sluicegate_a": Metric("sluicegate_a", "counter", "A.", ("x",)),
    "sluicegate_b_seconds": Metric("sluicegate_b_seconds", "histogram", "B.", (), (0.1, 1.0)),
    "sluicegate_c": Metric("sluicegate_c", "gauge", "C.", (), (), is_same_everywhere=True),
}


def a_series_of(metric: Metric) -> Series:
    buckets = [1] * (len(metric.bounds) + 1) if metric.kind == "histogram" else []
    return Series(metric.name, tuple(f"a {label}" for label in metric.labels), 7, buckets)


def samples(text: bytes) -> dict[str, float]:
    return {
        sample.name + "".join(f"|{value}" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_what_is_new_behind_the_bound_is_counted_together() -> None:
    counts = Counts(SMALL)
    for number in range(METRIC_SERIES_MAX + 20):
        counts.add("sluicegate_a", str(number))
    counts.add("sluicegate_a", "0")
    found = {one.labels: one.value for one in counts.series()}
    assert len(found) == METRIC_SERIES_MAX + 1
    assert (found["0",], found["other",]) == (2, 20)


def test_histograms_have_the_bound_too() -> None:
    catalogue = {"h": Metric("h", "histogram", "H.", ("x",), (1.0,))}
    counts = Counts(catalogue)
    for number in range(METRIC_SERIES_MAX + 5):
        counts.observe("h", str(number), value=0.5)
    found = {one.labels: one.buckets for one in counts.series()}
    assert len(found) == METRIC_SERIES_MAX + 1
    assert found["other",] == [5, 0]


def test_counters_and_histograms_of_processes_are_added_and_common_gauges_are_not() -> None:
    one = [
        Series("sluicegate_a", ("x",), 2),
        Series("sluicegate_b_seconds", (), 0.5, [1, 2, 3]),
        Series("sluicegate_c", (), 5),
    ]
    other = [
        Series("sluicegate_a", ("x",), 3),
        Series("sluicegate_a", ("y",), 1),
        Series("sluicegate_b_seconds", (), 1.5, [0, 1, 0]),
        Series("sluicegate_c", (), 4),
        Series("unknown", (), 1),
    ]
    total = {(found.name, *found.labels): found for found in add_up(SMALL, [one, other])}
    assert total["sluicegate_a", "x"].value == 5
    assert total["sluicegate_a", "y"].value == 1
    assert total["sluicegate_b_seconds",].buckets == [1, 3, 3]
    assert total["sluicegate_b_seconds",].value == 2.0
    assert total["sluicegate_c",].value == 5
    assert len(total) == 4
    assert one[0].value == 2


def test_values_at_a_bound_are_in_its_bucket() -> None:
    counts = Counts(SMALL)
    for value in (0.05, 0.1, 0.11, 1.0, 2.0):
        counts.observe("sluicegate_b_seconds", value=value)
    text, _ = write_metrics(SMALL, counts.series(), OPEN)
    found = samples(text)
    assert found["sluicegate_b_seconds_bucket|0.1"] == 2
    assert found["sluicegate_b_seconds_bucket|1.0"] == 4
    assert found["sluicegate_b_seconds_bucket|+Inf"] == 5
    assert found["sluicegate_b_seconds_count"] == 5


def test_everything_in_the_catalogue_is_read_by_the_parser_of_openmetrics() -> None:
    text, kind = write_metrics(CATALOGUE, map(a_series_of, CATALOGUE.values()), OPEN)
    families = list(text_string_to_metric_families(text.decode()))
    assert kind.startswith("application/openmetrics-text")
    assert [family.name for family in families] == list(CATALOGUE)
    assert [family.type for family in families] == [one.kind for one in CATALOGUE.values()]
    assert all(family.samples for family in families)


def test_who_does_not_ask_for_openmetrics_gets_the_older_text() -> None:
    text, kind = write_metrics(CATALOGUE, map(a_series_of, CATALOGUE.values()), "*/*")
    families = {family.name for family in classic_families(text.decode())}
    assert kind.startswith("text/plain; version=0.0.4")
    assert set(CATALOGUE) <= families


def test_labels_cannot_break_out_of_their_line() -> None:
    evil = 'x"} 9\nsluicegate_a_total{x="y\\'
    text, _ = write_metrics(SMALL, [Series("sluicegate_a", (evil,), 1)], OPEN)
    (family,) = text_string_to_metric_families(text.decode())
    assert [sample.labels for sample in family.samples] == [{"x": evil}]


@pytest.mark.parametrize("metric", CATALOGUE.values(), ids=lambda one: one.name)
def test_names_and_labels_are_as_prometheus_wants_them(metric: Metric) -> None:
    assert re.fullmatch(r"sluicegate_[a-z][a-z0-9_]*[a-z0-9]", metric.name)
    assert not metric.name.endswith(("_total", "_count", "_sum", "_bucket", "_ms", "_kb"))
    assert metric.meaning.endswith(".")
    assert bool(metric.bounds) is (metric.kind == "histogram")
    assert not set(metric.labels) & {"client", "host", "url", "user", "session", "connection", "le"}


@pytest.mark.parametrize("kind", KINDS, ids=tag_of)
def test_records_of_every_kind_are_counted_under_names_of_the_catalogue(kind: Any) -> None:
    counts = RecordCounts()
    counts.add([full_record(kind), full_record(kind)])
    found = counts.series()
    assert Series("sluicegate_records", (tag_of(kind),), 2) in found
    for one in found:
        assert len(one.labels) == len(CATALOGUE[one.name].labels)
    values = {value for one in found for value in one.labels}
    never = {"192.0.2.7:4000", "the-url", "the-host", "the-user", "the-session", "the-reason"}
    assert not values & never


def test_an_ended_connection_is_counted_by_path_and_direction() -> None:
    record = ConnectionRecord(
        time=1.0,
        connection="c",
        session="s",
        client="192.0.2.7:4000",
        listener="ftp",
        rule="r",
        server="192.0.2.8:21",
        started=0.0,
        duration_s=0.5,
        outcome="released",
        reason="",
        connect_ms=20.0,
        bytes_to_server=100,
        bytes_to_client=1000,
        bytes_spliced=900,
        filters=("f",),
    )
    counts = RecordCounts()
    counts.add([record])
    found = {(one.name.removeprefix("sluicegate_"), *one.labels): one for one in counts.series()}
    assert found["traffic_bytes", "to_server"].value == 100
    assert found["traffic_bytes", "to_client"].value == 1000
    assert found["traffic_path_bytes", "spliced"].value == 900
    assert found["traffic_path_bytes", "inspected"].value == 200
    assert found["connections_ended", "ftp", "released"].value == 1
    assert found["dials", "connected"].value == 1
    assert found["dial_seconds",].value == pytest.approx(0.02)
    assert sum(found["connection_duration_seconds", "ftp"].buckets) == 1


def test_records_that_stand_for_several_events_count_all_of_them() -> None:
    counts = RecordCounts()
    counts.add([LimitRecord(time=1.0, limit="connections_max", bound=9.0, count=41)] * 2)
    assert Series("sluicegate_limits_reached", ("connections_max",), 82) in counts.series()


def test_decisions_are_counted_by_listener_transport_and_rule() -> None:
    record = DecisionRecord(
        time=1.0,
        connection="c",
        session="",
        client="192.0.2.7:4000",
        listener="proxy",
        verdict="denied",
        reason="no rule",
        policy="",
    )
    counts = RecordCounts()
    counts.add([record])
    assert Series("sluicegate_decisions", ("proxy", "tcp", "denied"), 1) in counts.series()
    assert Series("sluicegate_rule_decisions", ("", "denied"), 1) in counts.series()
