"""Traces: which connections are traced, and what a collector of OpenTelemetry gets of them."""

from __future__ import annotations

import base64
import json
import pathlib
import re
from typing import Any

import msgspec
import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from sluicegate.app.config import read_configuration
from sluicegate.app.secret_files import SecretFiles
from sluicegate.audit.query import LogLine
from sluicegate.audit.sampling import is_sampled, span_id, trace_id
from sluicegate.audit.sinks import Sink, SinkSettings
from sluicegate.audit.sinks.otlp import encode_spans
from sluicegate.audit.sinks.spans import is_traced
from sluicegate.documents import Findings
from tests.unit.record_kit import KINDS, full_record, tag_of
from tests.unit.test_sinks import Collector, collector, run

__all__ = ["collector"]

BEGUN = 1_790_000_000.25
START_NS = 1_790_000_000_250_000_000
CONNECTION = {
    "kind": "connection",
    "time": BEGUN + 4,
    "connection": "c-1",
    "session": "s-1",
    "client": "10.0.0.1:4000",
    "server": "192.0.2.1:443",
    "listener": "web",
    "rule": "mirror",
    "started": BEGUN,
    "duration_s": 4.0,
    "outcome": "released",
    "reason": "closed",
}
REQUEST = {
    "kind": "request",
    "time": BEGUN + 3,
    "connection": "c-1",
    "request": "r-1",
    "method": "GET",
    "url": "https://mirror.example.org/x",
    "status": 200,
    "outcome": "released",
    "duration_ms": 1500.0,
}
TRANSFER = {
    "kind": "transfer",
    "time": BEGUN + 2.9,
    "connection": "c-1",
    "name": "x",
    "direction": "download",
    "verdict": "released",
    "held_ms": 500.0,
}


def line(fields: dict[str, Any], **more: Any) -> LogLine:
    found = {**fields, **more}
    return LogLine(json.dumps(found).encode(), found)


def read_spans(body: bytes) -> list[Span]:
    """Read a request as collectors do: in JSON of OTLP, identifiers are hexadecimal."""

    def as_base64(found: re.Match[str]) -> str:
        return f'"{found[1]}":"{base64.b64encode(bytes.fromhex(found[2])).decode()}"'

    text = re.sub(r'"(traceId|spanId|parentSpanId)":"([0-9a-f]+)"', as_base64, body.decode())
    request = json_format.Parse(text, ExportTraceServiceRequest())
    return [
        span
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def spans_of(*lines: LogLine) -> list[Span]:
    return read_spans(encode_spans(lines, "gate"))


def attributes(span: Span) -> dict[str, Any]:
    return {
        it.key: getattr(it.value, it.value.WhichOneof("value") or "string_value")
        for it in span.attributes
    }


# -- which -----------------------------------------------------------------------------------------


def test_share_of_connections_is_what_was_asked_for() -> None:
    names = [f"c-6b036d55-w1-{number:x}" for number in range(20_000)]
    for ratio in (0.01, 0.1, 0.5):
        count = sum(is_sampled(name, ratio) for name in names)
        assert count == pytest.approx(ratio * len(names), rel=0.15)
    assert not any(is_sampled(name, 0.0) for name in names)
    assert all(is_sampled(name, 1.0) for name in names)


def test_who_is_in_a_small_share_is_in_a_larger_one() -> None:
    names = [f"c-1-w0-{number:x}" for number in range(2_000)]
    small = {name for name in names if is_sampled(name, 0.1)}
    assert small < {name for name in names if is_sampled(name, 0.2)}


def test_identifiers_have_their_sizes_and_are_nobody_elses() -> None:
    names = [f"c-{number}" for number in range(1_000)]
    assert {len(bytes.fromhex(trace_id(name))) for name in names} == {16}
    assert {len(bytes.fromhex(span_id("connection", name))) for name in names} == {8}
    assert len({trace_id(name) for name in names}) == len(names)
    assert span_id("a", "bc") != span_id("ab", "c")


@pytest.mark.parametrize(
    ("fields", "is_one"),
    [
        (CONNECTION, True),
        (REQUEST, True),
        (TRANSFER, True),
        ({"kind": "decision", "verdict": "denied", "connection": "c-1"}, True),
        ({"kind": "decision", "verdict": "allowed", "connection": "c-1"}, False),
        ({"kind": "limit", "limit": "x", "connection": "c-1"}, True),
        ({"kind": "limit", "limit": "x"}, False),
        ({"kind": "connection", "connection": 7}, False),
        ({"kind": ["connection"], "connection": "c-1"}, False),
        ({"kind": "service", "connection": "c-1"}, False),
        ({}, False),
    ],
)
def test_records_of_traced_connections_are_spans(fields: dict[str, Any], is_one: bool) -> None:
    assert is_traced(fields, 1.0) is is_one
    assert not is_traced(fields, 0.0)


# -- what ------------------------------------------------------------------------------------------


def test_spans_of_a_connection_are_nested_with_its_times() -> None:
    connection, request, transfer = spans_of(line(CONNECTION), line(REQUEST), line(TRANSFER))
    assert {one.trace_id.hex() for one in (connection, request, transfer)} == {trace_id("c-1")}
    assert connection.parent_span_id == b""
    assert request.parent_span_id == transfer.parent_span_id == connection.span_id
    assert len({one.span_id for one in (connection, request, transfer)}) == 3
    start = START_NS
    assert connection.start_time_unix_nano == start
    assert connection.end_time_unix_nano == start + 4_000_000_000
    assert request.start_time_unix_nano == start + 1_500_000_000
    assert request.end_time_unix_nano == start + 3_000_000_000
    assert transfer.start_time_unix_nano == start + 2_400_000_000
    assert [one.name for one in (connection, request, transfer)] == [
        "connection web", "GET", "hold download",
    ]  # fmt: skip
    assert connection.kind == request.kind == Span.SPAN_KIND_SERVER
    assert transfer.kind == Span.SPAN_KIND_INTERNAL


def test_attributes_are_fields_and_conventions() -> None:
    connection, request = spans_of(line(CONNECTION), line(REQUEST))
    found = attributes(connection)
    assert found["client.address"] == "10.0.0.1"
    assert found["server.address"] == "192.0.2.1"
    assert found["sluicegate.rule"] == "mirror"
    assert "sluicegate.time" not in found
    assert attributes(request)["http.request.method"] == "GET"
    assert attributes(request)["http.response.status_code"] == 200


def test_failure_is_an_error_and_a_refusal_is_not() -> None:
    failed, refused = spans_of(
        line(CONNECTION, outcome="failed", reason="reset"), line(CONNECTION, outcome="refused")
    )
    assert (failed.status.code, failed.status.message) == (Status.STATUS_CODE_ERROR, "reset")
    assert refused.status.code == Status.STATUS_CODE_UNSET


def test_announced_connection_is_a_trace_of_its_own_with_a_link() -> None:
    (data,) = spans_of(line(CONNECTION, connection="c-2", primary="c-1"))
    (control,) = spans_of(line(CONNECTION))
    (link,) = data.links
    assert data.trace_id != control.trace_id
    assert (link.trace_id, link.span_id) == (control.trace_id, control.span_id)


STEP = {"kind": "step", "time": BEGUN + 1, "connection": "c-1", "started": BEGUN, "duration_ms": 1}


def test_steps_are_children_of_what_they_were_for() -> None:
    connection, request, dial, asked = spans_of(
        line(CONNECTION),
        line(REQUEST),
        line(STEP, step="dial", reason="ECONNREFUSED"),
        line(STEP, step="filter", filter="f", request="r-1"),
    )
    assert (dial.name, dial.parent_span_id) == ("dial", connection.span_id)
    assert (dial.kind, dial.status.code) == (Span.SPAN_KIND_CLIENT, Status.STATUS_CODE_ERROR)
    assert (asked.name, asked.parent_span_id) == ("filter f", request.span_id)
    assert asked.end_time_unix_nano - asked.start_time_unix_nano == 1_000_000


def test_object_of_a_request_is_its_child() -> None:
    request, held = spans_of(line(REQUEST), line(TRANSFER, facts={"exchange": "r-1"}))
    assert held.parent_span_id == request.span_id


def test_word_that_a_client_made_up_as_a_method_names_no_span() -> None:
    (span,) = spans_of(line(REQUEST, method="ZZ-4711"))
    assert span.name == "HTTP"
    found = attributes(span)
    assert found["http.request.method"] == "_OTHER"
    assert found["http.request.method_original"] == "ZZ-4711"


def test_streams_belong_to_the_trace_of_what_carries_them() -> None:
    carrier, stream, step = spans_of(
        line(CONNECTION),
        line(CONNECTION, connection="c-1.3"),
        line(STEP, connection="c-1.5", step="tls-server"),
    )
    assert carrier.trace_id == stream.trace_id == step.trace_id
    assert stream.parent_span_id == step.parent_span_id == carrier.span_id != stream.span_id


def test_denied_decision_is_a_trace_of_one_moment() -> None:
    (span,) = spans_of(
        line({"kind": "decision", "time": BEGUN, "connection": "c-9", "verdict": "denied"})
    )
    assert span.start_time_unix_nano == span.end_time_unix_nano == START_NS
    assert span.parent_span_id == b""


@pytest.mark.parametrize("kind", KINDS, ids=tag_of)
def test_every_kind_of_record_is_a_span_the_schema_takes_or_none(kind: type[Any]) -> None:
    raw = msgspec.json.encode(full_record(kind))
    fields = json.loads(raw)
    if is_traced(fields, 1.0):
        (span,) = spans_of(LogLine(raw, fields))
        assert (len(span.trace_id), len(span.span_id)) == (16, 8)
        assert span.end_time_unix_nano >= span.start_time_unix_nano


def test_same_record_has_the_same_identifiers_again() -> None:
    assert encode_spans([line(TRANSFER)], "g") == encode_spans([line(TRANSFER)], "g")


# -- where -----------------------------------------------------------------------------------------


def settings(url: str, **more: Any) -> SinkSettings:
    return SinkSettings(name="traces", to=url, **{"trace_ratio": 1.0, **more})


def open_sink(folder: pathlib.Path, one: SinkSettings, *lines: LogLine) -> Sink:
    log = folder / "records.jsonl"
    log.write_bytes(b"".join(it.raw + b"\n" for it in lines))
    return Sink(one, log, folder, lambda _: None)


def test_collector_gets_spans_where_it_takes_them(
    tmp_path: pathlib.Path, collector: Collector
) -> None:
    other = line({"kind": "service", "time": BEGUN, "event": "ready"})
    url = collector.url.removesuffix("/v1/logs")
    one = open_sink(tmp_path, settings(url), line(CONNECTION), other, line(REQUEST))
    run(one)
    one.close()
    (body,) = collector.bodies
    assert [span.name for span in read_spans(body)] == ["connection web", "GET"]
    assert (one.sent, one.lost) == (2, 0)
    assert collector.paths == ["/v1/traces"]


def test_only_the_share_is_sent(tmp_path: pathlib.Path, collector: Collector) -> None:
    lines = [line(CONNECTION, connection=f"c-{number}") for number in range(200)]
    one = open_sink(tmp_path, settings(collector.url, trace_ratio=0.1), *lines)
    run(one)
    one.close()
    sent = {span.trace_id.hex() for body in collector.bodies for span in read_spans(body)}
    chosen = {f"c-{n}" for n in range(200) if is_sampled(f"c-{n}", 0.1)}
    assert 5 < len(chosen) < 50
    assert sent == {trace_id(name) for name in chosen}


def test_spans_that_are_refused_are_counted(tmp_path: pathlib.Path, collector: Collector) -> None:
    collector.answers = [(200, b'{"partialSuccess":{"rejectedSpans":"1"}}')]
    one = open_sink(tmp_path, settings(collector.url), line(CONNECTION), line(REQUEST))
    run(one)
    one.close()
    assert (one.sent, one.lost) == (1, 1)


# -- the table -------------------------------------------------------------------------------------

LISTENER = '[[listener]]\nname = "l"\naddress = "127.0.0.1:0"\n'


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ('to = "tcp://h:1"', "is no address of a collector"),
        ('to = "https:///v1/traces"', "there is no host"),
        ('to = "https://user:pass@h/"', "https://"),
        ('to = "https://h/"\nratio = 0', "must be above 0"),
        ('to = "https://h/"\nratio = 1.5', "must be at most 1"),
        ("ratio = 0.5", "to"),
    ],
)
def test_wrong_tables_are_found_at_load(tmp_path: pathlib.Path, lines: str, expected: str) -> None:
    findings = Findings()
    text = f"[traces]\n{lines}\n{LISTENER}"
    read_configuration(tmp_path / "s.toml", text, findings, SecretFiles(tmp_path, None))
    assert expected in str(findings.errors[0])


def test_table_is_a_sink_and_says_what_workers_record(tmp_path: pathlib.Path) -> None:
    findings = Findings()
    text = f'[traces]\nto = "https://h"\nratio = 0.25\nca = "c.pem"\n{LISTENER}'
    read = read_configuration(tmp_path / "s.toml", text, findings, SecretFiles(tmp_path, None))
    assert read is not None
    (sink,) = read.sinks
    assert (sink.name, sink.trace_ratio, sink.ca) == ("traces", 0.25, str(tmp_path / "c.pem"))
    assert read.recorded.trace_ratio == 0.25


def test_no_other_sink_is_called_as_that_of_traces(tmp_path: pathlib.Path) -> None:
    findings = Findings()
    text = f'[[log.sink]]\nname = "traces"\nto = "unix:/dev/log"\n{LISTENER}'
    read_configuration(tmp_path / "s.toml", text, findings, SecretFiles(tmp_path, None))
    assert "is taken by another sink" in str(findings.errors[0])
