"""Traced connections: their steps are recorded, and servers are told, if the operator says so."""

from __future__ import annotations

import dataclasses

import pytest

from sluicegate.audit import StepRecord
from sluicegate.audit.sampling import span_id, trace_id
from sluicegate.gate.settings import Recorded, ServiceSettings
from tests.flows.gate_kit import SERVER, publication, settings
from tests.flows.web_kit import Visit, browse, get, web_settings

STRANGER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
LIES = (f"traceparent: {STRANGER}", "tracestate: vendor=1")


def traced(
    plan: ServiceSettings, ratio: float = 1.0, *, tells_servers: bool = False
) -> ServiceSettings:
    recorded = Recorded(trace_ratio=ratio, tells_servers=tells_servers)
    return dataclasses.replace(plan, recorded=recorded)


def steps(found: Visit) -> list[StepRecord]:
    records: list[StepRecord] = found.gate.recorder.of(StepRecord)
    return records


def test_dial_is_a_step_of_the_request_that_it_was_for() -> None:
    found = browse(get("/a"), get("/b"), plan=traced(web_settings()))
    assert found.statuses == [200, 200]
    (dial,) = steps(found)  # the second request goes on the same connection
    first = found.gate.requests[0]
    assert (dial.step, dial.connection, dial.request) == ("dial", first.connection, first.request)
    assert dial.duration_ms > 0
    assert dial.started + dial.duration_ms / 1000 == pytest.approx(dial.time, abs=1e-5)


def test_without_traces_there_are_no_steps() -> None:
    assert steps(browse(get(), plan=web_settings())) == []


def test_share_so_small_that_nobody_is_in_it_leaves_no_step() -> None:
    assert steps(browse(get(), plan=traced(web_settings(), 1e-12))) == []


@pytest.mark.parametrize("is_published", [False, True])
def test_servers_are_told_of_the_gates_own_trace_and_not_of_a_clients(is_published: bool) -> None:
    if is_published:
        one = dataclasses.replace(publication(), is_http=True)
        plan = traced(settings(one), tells_servers=True)
        wire = "\r\n".join(["GET /a HTTP/1.1", "Host: www.example", *LIES, "", ""]).encode()
        found = browse(wire, wire, plan=plan, address=SERVER)
    else:
        plan = traced(web_settings(), tells_servers=True)
        found = browse(
            get("/a", "site.example", *LIES), get("/a", "site.example", *LIES), plan=plan
        )
    assert found.statuses == [200, 200]
    for seen, record in zip(found.origin.seen, found.gate.requests, strict=True):
        trace, span = trace_id(record.connection), span_id("request", record.request)
        assert seen.field("traceparent") == f"00-{trace}-{span}-01"
        assert seen.head.lower().count(b"traceparent:") == 1
        assert seen.field("tracestate") is None


@pytest.mark.parametrize(
    "plan", [traced(web_settings()), traced(web_settings(), 1e-12, tells_servers=True)]
)
def test_fields_of_clients_pass_where_servers_are_not_told(plan: ServiceSettings) -> None:
    found = browse(get("/a", "site.example", *LIES), plan=plan)
    (seen,) = found.origin.seen
    assert seen.field("traceparent") == STRANGER
    assert seen.field("tracestate") == "vendor=1"
    (record,) = found.gate.requests
    assert trace_id(record.connection) not in STRANGER
