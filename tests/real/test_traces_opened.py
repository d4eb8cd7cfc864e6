"""Traces of requests inside TLS that a gate opens: curl before it, nginx behind, OTLP beside."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from sluicegate.audit.sampling import trace_id
from tests.chains import root
from tests.kernel.test_traces_gate import Spans
from tests.unit.test_sinks import Collector
from tests.unit.test_traces import attributes

from .dns_parts import dnsmasq_server
from .test_opening_gate import EXE, OpeningGate, fetch, url
from .test_server_tls import HOST, PAGE, TlsServers

pytestmark = [pytest.mark.real, pytest.mark.either_driver]

SKEW_NS = 1_000_000_000
"""Records have times of the loop's turn, steps of the moment: they differ by a turn at most, which
lasts as long as a busy machine lets others compute. What is before what, their order says."""

STRANGER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class TracedGate(OpeningGate):
    """With traces of all connections."""

    collector: Collector

    def write_main(self, more: str = "") -> None:
        super().write_main(f'[traces]\nto = "{self.collector.url}"\nratio = 1\n{more}')


@pytest.fixture
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TracedGate]:
    folder = tmp_path_factory.mktemp("traced")
    os.chmod(folder, 0o755)
    servers = TlsServers(folder)
    (folder / "www" / "setup.exe").write_bytes(EXE)
    servers.add("good", root().issue("server", [HOST]))
    servers.add("spliced", root().issue("server", [HOST]))
    servers.add("expired", root().issue("server", [HOST], days=(-9, -1)))
    TracedGate.collector = Collector()
    with servers.running(), dnsmasq_server(folder) as dns_port:
        made = TracedGate(folder / "gate", servers, dns_port)
        with made.running():
            yield made
            TracedGate.collector.server.shutdown()
            TracedGate.collector.server.server_close()


def by_name(spans: list[Span]) -> dict[str, Span]:
    found = {span.name: span for span in spans}
    assert len(found) == len(spans), sorted(span.name for span in spans)
    return found


def wait_for_trace(gate: TracedGate, count: int = 1) -> list[Span]:
    """Return the spans of all connections, when so many are over."""

    def is_over(spans: list[Span]) -> bool:
        return sum(span.name == "connection echo" for span in spans) == count

    return Spans(gate.collector).wait_for(is_over)


def check_inside(inner: Span, outer: Span) -> None:
    assert inner.parent_span_id == outer.span_id
    assert inner.start_time_unix_nano <= inner.end_time_unix_nano
    assert inner.start_time_unix_nano >= outer.start_time_unix_nano - SKEW_NS
    assert inner.end_time_unix_nano <= outer.end_time_unix_nano + SKEW_NS


def test_download_inside_tls_is_one_trace_of_nested_steps(traced: TracedGate) -> None:
    done = fetch(traced, url(traced), "--http1.1", "--header", f"traceparent: {STRANGER}")
    assert done.stdout == PAGE
    spans = wait_for_trace(traced)
    (ended,) = traced.recorded("connection")
    # Whatever the client sends, the trace is called after the gate's own identifier.
    assert {span.trace_id.hex() for span in spans} == {trace_id(str(ended["connection"]))}
    found = by_name(spans)
    assert {"dial", "tls-server", "leaf", "tls-client", "GET", "connection echo"} <= set(found)
    connection, request = found["connection echo"], found["GET"]
    for name in ("dial", "tls-server", "leaf", "tls-client", "GET"):
        check_inside(found[name], connection)
    names = ("dial", "tls-server", "leaf", "tls-client", "GET", "connection echo")
    assert [span.name for span in spans if span.name in names] == list(names)
    for before, after in itertools.pairwise(found[name] for name in names[:-1]):
        assert before.end_time_unix_nano <= after.start_time_unix_nano + SKEW_NS
    assert found["dial"].kind == found["tls-server"].kind == Span.SPAN_KIND_CLIENT
    assert attributes(request)["http.response.status_code"] == 200
    assert str(attributes(request)["url.full"]).endswith("/page")


def test_executable_is_held_and_a_filter_is_asked(traced: TracedGate) -> None:
    fetch(traced, url(traced, path="setup.exe?token=secret-of-a-client"), "--http1.1")
    spans = wait_for_trace(traced)
    found = {span.name: span for span in spans}
    held = [span for span in spans if span.name == "hold download"]
    asked = [span for span in spans if span.name == "filter exe_block"]
    assert held
    assert asked
    for span in held:
        check_inside(span, found["GET"])
        assert attributes(span)["sluicegate.verdict"] == "refused"
    assert {span.parent_span_id for span in asked} == {found["GET"].span_id}
    assert not any(b"secret-of-a-client" in body for body in traced.collector.bodies)


def test_server_that_is_not_verified_is_an_error_of_its_step(traced: TracedGate) -> None:
    assert fetch(traced, url(traced, "expired")).returncode == 35
    found = by_name(wait_for_trace(traced))
    assert found["tls-server"].status.code == Status.STATUS_CODE_ERROR
    assert found["tls-server"].status.message.startswith("server-certificate-expired")
    assert "tls-client" not in found
