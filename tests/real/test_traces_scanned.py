"""Traces of objects that are held and scanned: what the verdict waited for."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.kernel.test_traces_gate import Spans
from tests.unit.test_sinks import Collector, collector
from tests.unit.test_traces import attributes

from .dns_parts import dnsmasq_server
from .test_traces_opened import SKEW_NS, check_inside
from .test_yara_web import ScanningGate
from .web_parts import RANDOM, nginx

pytestmark = [pytest.mark.real, pytest.mark.either_driver]

__all__ = ["collector"]


class TracedGate(ScanningGate):
    """With traces of all connections."""

    mode = ("--workers", "1")
    collector_url = ""

    def write_main(self, more: str = "") -> None:
        super().write_main(f'[traces]\nto = "{self.collector_url}"\nratio = 1\n{more}')


@pytest.fixture
def traced(tmp_path: pathlib.Path, collector: Collector) -> Iterator[TracedGate]:
    TracedGate.collector_url = collector.url
    with nginx(tmp_path) as web_port, dnsmasq_server(tmp_path) as dns_port:
        one = TracedGate(tmp_path / "gate", web_port, dns_port, "off")
        with one.running():
            yield one


def test_download_shows_its_hold_its_filters_and_its_scans(
    traced: TracedGate, collector: Collector
) -> None:
    assert traced.curl("random.bin").stdout == RANDOM

    def is_over(spans: list[Span]) -> bool:
        return any(span.name.startswith("connection ") for span in spans)

    spans = Spans(collector).wait_for(is_over)
    (connection,) = [span for span in spans if span.name.startswith("connection ")]
    (request,) = [span for span in spans if span.name == "GET"]
    (held,) = [span for span in spans if span.name == "hold download"]
    (antivirus,) = [span for span in spans if span.name == "filter antivirus"]
    (kinds,) = [span for span in spans if span.name == "filter file_types"]
    scans = [span for span in spans if span.name == "scan yara"]
    assert len(scans) == 2  # one for each filter; the second answer may have been remembered
    for span in (held, antivirus, kinds, *scans):
        check_inside(span, request)
    check_inside(request, connection)
    assert attributes(held)["sluicegate.bytes"] == len(RANDOM)
    waited = held.end_time_unix_nano - held.start_time_unix_nano
    for asked, scan in zip((antivirus, kinds), scans, strict=True):
        took = asked.end_time_unix_nano - asked.start_time_unix_nano
        assert scan.end_time_unix_nano - scan.start_time_unix_nano <= took <= waited + SKEW_NS
