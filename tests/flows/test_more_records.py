"""Records of sessions and lookups: written where they are wanted, and right."""

from __future__ import annotations

import dataclasses

from sluicegate.audit import LookupRecord, SessionRecord
from sluicegate.filterapi import EntryMode
from sluicegate.gate.settings import Recorded, ServiceSettings
from sluicegate.testing.peers import PeerStream
from tests.flows.entry_kit import RULES, WEB, Ask, Names, asks, proxy_settings
from tests.flows.gate_kit import Gate, echoes, play

EVERYTHING = Recorded(sessions=True, lookups=True)
HOST = "www.example.com"


def wanted(recorded: Recorded = EVERYTHING) -> ServiceSettings:
    return dataclasses.replace(proxy_settings(RULES), recorded=recorded)


def visit(plan: ServiceSettings, names: Names, host: str = HOST, times: int = 1) -> Gate:
    """Have a client ask for a host, several times one after the other."""

    async def ends(stream: PeerStream) -> None:
        stream.end_stream()
        await stream.receive_all()
        stream.close()

    async def whole(gate: Gate) -> None:
        gate.serve(echoes, address=WEB)
        for _ in range(times):
            await gate.ended(gate.call(asks(Ask(EntryMode.SOCKS5, host), ends)))
        await gate.idle()

    return play(whole, plan, exchange=names)


def test_lookup_is_recorded_once_although_two_connections_use_it() -> None:
    gate = visit(wanted(), Names().put(HOST, WEB.host), times=2)
    found = {it.question: it for it in gate.recorder.of(LookupRecord)}
    assert len(gate.recorder.of(LookupRecord)) == len(found) == 2
    assert (found["A"].host, found["A"].result) == (HOST, "found")
    assert found["A"].addresses == (WEB.host,)
    assert (found["AAAA"].result, found["AAAA"].reason) == ("none", "dns-no-address")


def test_lookup_of_an_unknown_name_is_recorded_with_the_reason() -> None:
    records = visit(wanted(), Names()).recorder.of(LookupRecord)
    assert {(it.result, it.reason) for it in records} == {("none", "dns-no-such-name")}


def test_lookup_that_fails_is_recorded_with_what_the_server_did() -> None:
    names = Names().put(HOST, WEB.host)
    names.fail = lambda _: "SERVFAIL"
    records = visit(wanted(), names).recorder.of(LookupRecord)
    assert {(it.result, it.reason) for it in records} == {("failed", "dns-server-failed")}
    assert all(it.cause for it in records)


def test_session_is_recorded_when_it_begins_and_when_it_ends() -> None:
    gate = visit(wanted(), Names().put(HOST, WEB.host), times=2)
    began, ended = gate.recorder.of(SessionRecord)
    assert (began.event, ended.event) == ("began", "ended")
    assert began.session == ended.session == gate.ends[0].session
    assert began.client == gate.ends[0].client.rpartition(":")[0]
    assert ended.duration_s > 0


def test_what_is_not_wanted_is_not_recorded() -> None:
    gate = visit(wanted(Recorded()), Names().put(HOST, WEB.host))
    assert not gate.recorder.of(SessionRecord)
    assert not gate.recorder.of(LookupRecord)
    assert gate.decisions
