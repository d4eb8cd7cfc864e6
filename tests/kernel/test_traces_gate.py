"""Traces of a running gate, at a collector that takes OTLP: there, gone, and back."""

from __future__ import annotations

import os
import pathlib
import signal
from collections.abc import Callable, Iterator

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from sluicegate.audit.sampling import trace_id
from sluicegate.clock import SystemClock
from tests.kernel.test_gate_process import EchoServer
from tests.kernel.test_metrics_gate import MeasuredGate, visit
from tests.kernel.test_processes import LoneGate
from tests.unit.test_sinks import Collector, collector
from tests.unit.test_traces import attributes, read_spans

pytestmark = pytest.mark.either_driver

__all__ = ["collector"]


class Spans:
    """What a collector has by now."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    @property
    def all(self) -> list[Span]:
        return [span for body in self._collector.bodies for span in read_spans(body)]

    def wait_for(self, is_enough: Callable[[list[Span]], bool]) -> list[Span]:
        with self._collector.came:
            if self._collector.came.wait_for(lambda: is_enough(self.all), 60):
                return self.all
        raise AssertionError([span.name for span in self.all])


def connections(spans: list[Span]) -> list[Span]:
    return [span for span in spans if span.name == "connection echo"]


@pytest.fixture
def gate(tmp_path: pathlib.Path, collector: Collector) -> Iterator[MeasuredGate]:
    server = EchoServer()
    made = MeasuredGate(tmp_path, server.port)
    made.mode = LoneGate.mode
    made.write_main(
        f'[traces]\nto = "{collector.url}"\nratio = 1\n[metrics]\nlisten = "127.0.0.1:0"\n'
    )
    yield made
    made.close()
    server.close()


def test_connections_are_traces_with_their_own_times(
    gate: MeasuredGate, collector: Collector
) -> None:
    before = SystemClock().wall()
    gate.start()
    visit(gate, 3)
    spans = connections(Spans(collector).wait_for(lambda all_: len(connections(all_)) == 3))
    after = SystemClock().wall()
    ended = {record["connection"]: record for record in gate.records("connection")}
    assert {span.trace_id.hex() for span in spans} == {trace_id(name) for name in ended}
    for span in spans:
        record = ended[str(attributes(span)["sluicegate.connection"])]
        assert span.start_time_unix_nano / 1e9 == pytest.approx(record["started"], abs=1e-5)
        lived = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9
        assert lived == pytest.approx(record["duration_s"], abs=1e-5)
        assert before - 1 < span.start_time_unix_nano / 1e9 < after
    assert gate.end() == 0


def test_connections_from_before_there_were_traces_are_not_sent(
    gate: MeasuredGate, collector: Collector
) -> None:
    with_traces = gate.config.read_text()
    gate.write_main('[metrics]\nlisten = "127.0.0.1:0"\n')
    gate.start()
    visit(gate, 2)
    assert gate.end() == 0
    gate.close()
    before = {record["time"] for record in gate.records("connection")}
    gate.config.write_text(with_traces)
    gate.start()
    visit(gate, 1)
    (span,) = connections(Spans(collector).wait_for(lambda all_: bool(connections(all_))))
    assert span.end_time_unix_nano / 1e9 > max(before)
    assert gate.end() == 0


def test_collector_that_is_gone_holds_up_nobody_and_gets_all_later(
    gate: MeasuredGate, collector: Collector
) -> None:
    collector.answers = [(503, b"")]
    gate.start()
    visit(gate, 2)
    gate.wait_for("the sink traces takes no records: the collector answers 503")
    Spans(collector).wait_for(lambda all_: len({s.span_id for s in connections(all_)}) == 2)
    found = gate.wait_for_sample(
        lambda one: one.get("sluicegate_sink_sent_total|traces", 0) >= 2, "sent"
    )
    assert found["sluicegate_sink_failing|traces"] == 0
    assert found["sluicegate_sink_lost_total|traces"] == 0
    # What is counted stays, though another process counts.
    (row,) = [row for row in gate.status()["workers"] if row["name"] == "forwarder"]
    os.kill(row["pid"], signal.SIGKILL)
    gate.wait_for("the forwarder (pid")
    visit(gate, 1)
    Spans(collector).wait_for(lambda all_: len({s.span_id for s in connections(all_)}) == 3)
    more = gate.wait_for_sample(
        lambda one: (
            one["sluicegate_sink_sent_total|traces"] > found["sluicegate_sink_sent_total|traces"]
        ),
        "more",
    )
    assert more["sluicegate_sink_failing|traces"] == 0
    assert gate.end() == 0


def test_gate_of_one_process_says_that_it_sends_none(gate: MeasuredGate) -> None:
    gate.mode = ("--inline",)
    gate.start()
    expected = "with --inline nothing is sent to: traces"
    assert any(line.startswith(f"warning: {expected}") for line in gate.lines), gate.lines
    assert any(line.startswith(expected) for line in gate.status()["warnings"])
    assert gate.end() == 0
