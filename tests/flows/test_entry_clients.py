"""Clients of proxy listeners: who they prove to be, how long they may take, and what they leave."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest

from sluicegate.audit import LimitRecord
from sluicegate.filterapi import Allow, ConnectRequested, Deny, EntryMode, Event
from sluicegate.gate.entry_dialogue import Authenticate
from sluicegate.policy import FloodBounds, FloodLimits
from sluicegate.protocols.detect import EntryProtocol
from sluicegate.testing import FaultPlan
from sluicegate.testing.peers import PeerStream
from tests.flows.entry_kit import (
    BOB,
    MODES,
    NEEDS_USER,
    REFUSED,
    RULES,
    WEB,
    Ask,
    Names,
    Reply,
    asks,
    proxy_settings,
    says_hello,
    visit,
)
from tests.flows.gate_kit import CLIENT, ENTRY, Gate, echoes, installation, play, what_comes
from tests.unit.gate_parts import Answers

every_mode = pytest.mark.parametrize("mode", MODES)
proving = pytest.mark.parametrize("mode", [EntryMode.SOCKS5, EntryMode.HTTP_CONNECT])

STAFF = '[[rule]]\nname = "staff"\nusers = ["group:staff"]\nto = ["*"]\n'
WRONG = {EntryMode.SOCKS5: 0x101, EntryMode.HTTP_CONNECT: 407}
NO_METHOD = {EntryMode.SOCKS5: 0xFF, EntryMode.HTTP_CONNECT: 407}


class Slow(Names):
    """Answers after a second."""

    async def ask_udp(self, server: Any, query: Any) -> bytes:
        await asyncio.sleep(1.0)
        return await super().ask_udp(server, query)


class Never(Names):
    """Does not answer."""

    async def ask_udp(self, server: Any, query: Any) -> bytes:
        await asyncio.Event().wait()
        return b""


def ann(mode: EntryMode, password: str = "open sesame") -> Ask:
    return Ask(mode, WEB.host, user="ann", password=password)


# -- users -----------------------------------------------------------------------------------------


@proving
@pytest.mark.parametrize("authenticate", [Authenticate.OPTIONAL, Authenticate.REQUIRED])
def test_right_password_lets_the_user_in_under_its_own_name(
    mode: EntryMode, authenticate: Authenticate
) -> None:
    found = visit(ann(mode), plan=proxy_settings(STAFF, authenticate=authenticate))
    assert (found.reply.code, found.reply.tunnelled) == (0, b"hello")
    (decision,), (end,) = found.gate.decisions, found.gate.ends
    assert (decision.user, decision.rule, end.user) == ("ann", "staff", "ann")


@proving
@pytest.mark.parametrize("policy", [STAFF, RULES])
def test_wrong_password_lets_nobody_in_also_where_none_was_needed(
    mode: EntryMode, policy: str
) -> None:
    plan = proxy_settings(policy, authenticate=Authenticate.OPTIONAL)
    found = visit(ann(mode, "wrong"), plan=plan)
    assert (found.reply.code, found.dialled) == (WRONG[mode], [])
    (decision,) = found.gate.decisions
    assert (decision.reason, decision.user) == ("wrong-password", "")


@proving
def test_client_without_credentials_is_refused_where_they_are_required(mode: EntryMode) -> None:
    plan = proxy_settings(RULES, authenticate=Authenticate.REQUIRED)
    found = visit(Ask(mode, WEB.host), plan=plan)
    assert (found.reply.code, found.dialled) == (NO_METHOD[mode], [])


def test_socks_4_is_not_served_where_credentials_are_required() -> None:
    protocols = (EntryProtocol.SOCKS5, EntryProtocol.HTTP_CONNECT)
    plan = proxy_settings(RULES, authenticate=Authenticate.REQUIRED, protocols=protocols)
    found = visit(Ask(EntryMode.SOCKS4, WEB.host), plan=plan)
    assert (found.reply.code, found.reasons) == (-1, ["unknown-protocol"])


@every_mode
def test_rule_for_users_is_not_for_nobody(mode: EntryMode) -> None:
    plan = proxy_settings(STAFF, authenticate=Authenticate.OPTIONAL)
    found = visit(Ask(mode, WEB.host), plan=plan)
    assert (found.reply.code, found.reasons) == (NEEDS_USER[mode], ["user-needed"])


@proving
def test_credentials_are_not_looked_at_where_nobody_proves_anything(mode: EntryMode) -> None:
    found = visit(ann(mode, "wrong"))
    assert found.reply.code == (0 if mode is EntryMode.HTTP_CONNECT else 0xFF)


@every_mode
def test_sessions_are_a_clients_and_a_users(mode: EntryMode) -> None:
    asked = [Ask(mode, WEB.host), Ask(mode, WEB.host)]
    if mode is not EntryMode.SOCKS4:
        asked.append(ann(mode))
    found = visit(*asked, plan=proxy_settings(RULES, authenticate=Authenticate.OPTIONAL))
    sessions = [record.session for record in found.gate.decisions]
    assert sessions[0] == sessions[1]
    assert len(set(sessions)) == (1 if mode is EntryMode.SOCKS4 else 2)


@proving
def test_client_with_too_many_wrong_passwords_is_refused_unseen_until_the_time_is_over(
    mode: EntryMode,
) -> None:
    reasons: list[str] = []

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes, address=WEB)
        for password in ("a", "b", "c", "open sesame"):
            await gate.ended(gate.call(asks(ann(mode, password))))
        await gate.ended(gate.call(asks(ann(mode)), source=CLIENT.with_port(0)))
        waited = gate.clock.monotonic() + 101
        await gate.until(lambda: gate.clock.monotonic() > waited, 300)
        (reply,) = await gate.ended(gate.call(asks(ann(mode))))
        assert reply.code == 0
        await gate.idle()
        reasons.extend(record.reason for record in gate.decisions)

    plan = proxy_settings(RULES, authenticate=Authenticate.OPTIONAL)
    play(scenario, plan, exchange=Names(), password_failures_max=3)
    assert reasons == [
        *["wrong-password"] * 3,
        *["too-many-wrong-passwords"] * 2,
        "allowed-by-rule",
    ]


def test_request_pipelined_behind_a_wrong_password_is_never_served() -> None:
    found = visit(
        ann(EntryMode.SOCKS5, "wrong"),
        plan=proxy_settings(RULES, authenticate=Authenticate.OPTIONAL),
    )
    assert (found.dialled, len(found.gate.decisions)) == ([], 1)


# -- cuts and early bytes --------------------------------------------------------------------------


@every_mode
def test_every_cut_of_a_handshake_gives_the_same_tunnel(mode: EntryMode) -> None:
    ask = dataclasses.replace(
        ann(mode) if mode is not EntryMode.SOCKS4 else Ask(mode, "www.example"), early=b"early "
    )
    wire = ask.wire()
    names = Names().put("www.example", WEB.host)

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes, address=WEB)
        cuts: list[list[int]] = [[at] for at in range(1, len(wire))]
        cuts.append(list(range(1, len(wire))))
        clients = [
            gate.call(asks(ask, says_hello, cut, gate.peers.sleep), name=f"cut {cut[:1]}")
            for cut in cuts
        ]
        for reply in await gate.ended(*clients):
            assert isinstance(reply, Reply), reply
            assert (reply.code, reply.tunnelled) == (0, b"early hello")
        await gate.idle()
        assert {record.reason for record in gate.decisions} == {"allowed-by-rule"}

    plan = proxy_settings(RULES, authenticate=Authenticate.OPTIONAL)
    # All of them are half-open at once.
    play(scenario, plan, exchange=names, flood=FloodLimits(enabled=False))


@every_mode
@pytest.mark.parametrize("seed", range(12))
def test_faults_of_the_network_leave_nothing_behind(mode: EntryMode, seed: int) -> None:
    faults = FaultPlan(partial_send=0.5, short_receive=0.5, reset=0.02)
    names = Names().put("www.example", WEB.host, "2606:2800:220:1::34")
    plan = proxy_settings(RULES, authenticate=Authenticate.OPTIONAL)
    asked = [
        Ask(mode, "www.example", early=b"x" * 70_000),
        Ask(mode, "10.9.9.9"),
        Ask(mode, "none.example"),
        Ask(mode, WEB.host),
        *([ann(mode), ann(mode, "wrong")] if mode is not EntryMode.SOCKS4 else []),
    ]

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes, address=WEB)
        clients = [gate.call(asks(ask, says_hello)) for ask in asked * 4]
        assert len(await gate.ended(*clients)) == 4 * len(asked)
        await gate.idle()

    play(scenario, plan, exchange=names, faults=faults, seed=seed)


@every_mode
def test_more_early_bytes_than_the_gate_reads_ahead_arrive_all_the_same(mode: EntryMode) -> None:
    early = bytes(range(256)) * 2000
    received: list[bytes] = []

    async def keeps(stream: PeerStream) -> None:
        received.append(await stream.receive_all())
        stream.close()

    async def scenario(gate: Gate) -> None:
        gate.serve(keeps, address=WEB)
        (reply,) = await gate.ended(
            gate.call(asks(Ask(mode, "www.example", early=early), says_hello))
        )
        assert reply.code == 0
        await gate.idle()

    play(scenario, proxy_settings(), exchange=Slow().put("www.example", WEB.host))
    assert received == [early + b"hello"]


# -- deadlines and limits --------------------------------------------------------------------------


async def says_nothing(stream: PeerStream) -> bytes:
    return await what_comes(stream)


def says(data: bytes) -> Any:
    async def peer(stream: PeerStream) -> bytes:
        await stream.send_all(data)
        return await what_comes(stream)

    return peer


STARTS = [b"", b"\5", b"\5\1", b"\5\1\0", b"\4\1\1", b"CONN", b"CONNECT a.example:443 HTTP/1.1\r\n"]


@pytest.mark.parametrize("start", STARTS)
def test_client_that_does_not_finish_its_request_is_ended_in_time(start: bytes) -> None:
    async def scenario(gate: Gate) -> None:
        began = gate.clock.monotonic()
        await gate.ended(gate.call(says(start)))
        assert 14 <= gate.clock.monotonic() - began <= 18
        assert [record.reason for record in gate.decisions] == ["handshake-timeout"]
        assert gate.service.entries.handshake_count == 0

    play(scenario, proxy_settings(), exchange=Names())


def test_client_that_leaves_without_a_word_is_recorded_and_forgotten() -> None:
    async def leaves(stream: PeerStream) -> None:
        stream.close()

    async def scenario(gate: Gate) -> None:
        await gate.ended(gate.call(leaves))
        await gate.until(lambda: gate.decisions)
        assert gate.decisions[0].reason == "client-left"

    play(scenario, proxy_settings(), exchange=Names())


@pytest.mark.parametrize(
    "first", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\0\5\1", b"SSH-2.0-x\r\n", b"\0"]
)
def test_protocols_that_name_no_destination_are_refused(first: bytes) -> None:
    async def scenario(gate: Gate) -> None:
        await gate.ended(gate.call(says(first)))
        assert [record.reason for record in gate.decisions] == ["unknown-protocol"]

    play(scenario, proxy_settings(), exchange=Names())


def test_client_that_no_rule_names_is_reset_unheard() -> None:
    found = visit(Ask(EntryMode.SOCKS5, WEB.host), source=CLIENT.parse("192.168.7.7:0"))
    assert (found.reply.code, found.reasons) == (-1, ["client-not-listed"])


def test_clients_that_say_nothing_are_bounded_by_client() -> None:
    async def scenario(gate: Gate) -> None:
        silent = [gate.call(says_nothing) for _ in range(4)]
        await gate.until(lambda: gate.recorder.of(LimitRecord))
        assert gate.service.entries.handshake_count == 3
        assert [one.limit for one in gate.recorder.of(LimitRecord)] == ["half_open_max"]
        other = gate.call(asks(Ask(EntryMode.SOCKS5, WEB.host)), source=CLIENT.parse("10.2.2.2:0"))
        (reply,) = await gate.ended(other)
        assert reply.code == 5
        await gate.ended(*silent)

    play(scenario, proxy_settings(), exchange=Names(), flood=FloodBounds(half_open_max=3))


@every_mode
def test_refused_client_reads_why_although_it_went_on_sending(mode: EntryMode) -> None:
    found = visit(Ask(mode, "10.9.9.9", early=b"x" * 60_000))
    assert found.reply.code == REFUSED[mode]


# -- servers ---------------------------------------------------------------------------------------

FAILURES = {
    EntryMode.SOCKS4: {"refused": 91, "silent": 91},
    EntryMode.SOCKS5: {"refused": 5, "silent": 4},
    EntryMode.HTTP_CONNECT: {"refused": 502, "silent": 504},
}


@every_mode
def test_server_that_refuses_is_told_in_the_clients_words(mode: EntryMode) -> None:
    found = visit(Ask(mode, WEB.host), serve=())
    assert found.reply.code == FAILURES[mode]["refused"]
    (end,) = found.gate.ends
    assert (end.outcome, end.error, end.side) == ("failed", "ECONNREFUSED", "server")


@every_mode
def test_service_that_stops_ends_clients_in_every_stage(mode: EntryMode) -> None:
    async def scenario(gate: Gate) -> None:
        gate.serve(echoes, address=WEB)
        gate.call(says_nothing)
        gate.call(says(b"\5\1"))
        gate.call(says(Ask(mode, WEB.host).wire()))
        gate.call(says(Ask(mode, "www.example").wire()))
        await gate.until(lambda: gate.service.connection_count >= 2)

    gate = play(scenario, proxy_settings(), exchange=Never())
    assert len(gate.decisions) == 4


@every_mode
def test_client_that_resets_while_its_name_is_looked_up_ends_the_connection(
    mode: EntryMode,
) -> None:
    async def resets(stream: PeerStream) -> None:
        await stream.send_all(Ask(mode, "www.example").wire())
        if mode is EntryMode.SOCKS5:
            await stream.receive_exactly(2)
        stream.reset()

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes, address=WEB)
        await gate.ended(gate.call(resets))
        await gate.until(lambda: gate.decisions)
        await gate.idle()
        assert [record.verdict for record in gate.decisions] == ["denied"]

    play(scenario, proxy_settings(), exchange=Slow().put("www.example", WEB.host))


# -- filters ---------------------------------------------------------------------------------------


@every_mode
@pytest.mark.parametrize("verdict", [Allow(), Deny("not today")])
def test_filters_are_asked_about_the_judged_destination(mode: EntryMode, verdict: Any) -> None:
    seen: list[Any] = []

    def answer(event: Event) -> Any:
        assert isinstance(event, ConnectRequested)
        connection: Any = event.connection
        seen.append((event.target, connection.entry_mode, connection.host_name, event.source))
        return verdict

    policy = RULES + 'filters = ["asks"]\n'
    plan = proxy_settings(policy, filters=[installation(Answers(answer), "asks")])
    names = Names().put("www.example", WEB.host)
    found = visit(Ask(mode, "www.example"), plan=plan, names=names)
    assert seen == [(WEB, mode, "www.example", mode)]
    if isinstance(verdict, Deny):
        assert (found.reply.code, found.reasons, found.dialled) == (
            REFUSED[mode],
            ["not today"],
            [],
        )
    else:
        assert (found.reply.code, found.reply.tunnelled) == (0, b"hello")


# -- reload ----------------------------------------------------------------------------------------


@every_mode
def test_reload_replaces_rules_and_connections_that_it_allows_go_on(mode: EntryMode) -> None:
    async def scenario(gate: Gate) -> None:
        gate.serve(echoes, address=WEB)
        goes_on: list[bool] = []

        async def waits(stream: PeerStream) -> bytes:
            while not goes_on:
                await gate.peers.sleep(0.1)
            return await says_hello(stream)

        before = gate.call(asks(Ask(mode, WEB.host), waits))
        await gate.until(lambda: gate.decisions)
        only = f'[[rule]]\nname = "only"\nto = ["{WEB.host}"]\n'
        await gate.service.apply(proxy_settings(only))
        (after,) = await gate.ended(gate.call(asks(Ask(mode, "1.1.1.1"))))
        assert after.code == REFUSED[mode]
        goes_on.append(True)
        (first,) = await gate.ended(before)
        assert (first.code, first.tunnelled) == (0, b"hello")
        await gate.idle()

    play(scenario, proxy_settings(), exchange=Names())


@proving
def test_removed_user_is_nobody_from_the_reload_on(mode: EntryMode) -> None:
    async def scenario(gate: Gate) -> None:
        gate.serve(echoes, address=WEB)
        (first,) = await gate.ended(gate.call(asks(ann(mode))))
        plan = proxy_settings(STAFF, authenticate=Authenticate.OPTIONAL, users=(BOB,))
        await gate.service.apply(plan)
        (second,) = await gate.ended(gate.call(asks(ann(mode))))
        assert (first.code, second.code) == (0, WRONG[mode])
        await gate.idle()

    plan = proxy_settings(STAFF, authenticate=Authenticate.OPTIONAL)
    play(scenario, plan, exchange=Names())


def test_listener_that_becomes_a_proxy_keeps_its_socket() -> None:
    async def scenario(gate: Gate) -> None:
        plan = proxy_settings(authenticate=Authenticate.OPTIONAL)
        await gate.service.apply(plan)
        (reply,) = await gate.ended(gate.call(asks(Ask(EntryMode.SOCKS5, WEB.host))))
        assert reply.code == 5
        assert gate.service.listeners()[0].address == str(ENTRY)

    play(scenario, proxy_settings(), exchange=Names())
