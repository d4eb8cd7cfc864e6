"""What rules do besides allowing and denying: reset, inspect, and the filters of protocols."""

# ruff: noqa: E501 - one line a case

from __future__ import annotations

from typing import Any

import pytest

from sluicegate.audit import FilterFailureRecord
from sluicegate.errors import Side
from sluicegate.filterapi import (
    FORWARD,
    LEAVE,
    DatagramFilter,
    EntryMode,
    Events,
    StreamFilter,
    StreamVerdict,
    Window,
)
from sluicegate.gate.settings import ListenerSettings, OnFailure, ServiceSettings
from sluicegate.gate.stages import INSPECT_NEEDS_FILTER
from sluicegate.testing.peers import PeerStream
from tests.flows.chain_filters import Passing
from tests.flows.entry_kit import MODES, REFUSED, WEB, Ask, Names, proxy_settings, rules, visit
from tests.flows.gate_kit import ENTRY, LIMITS, SERVER, Gate, echoes, installation, play, sends
from tests.flows.model_kit import Telling
from tests.flows.test_socks_associate import ONE, TWO, Client, Server, frame, moment, run
from tests.flows.test_socks_bind import request

every_mode = pytest.mark.parametrize("mode", MODES)
REST = '[[rule]]\nname = "rest"\nto = ["*"]\nprotocols = ["tcp", "bind"]\n'


def refusing(action: str, says: str) -> str:
    return f'[[rule]]\nname = "no"\naction = "{action}"\n{says}\nprotocols = []\n{REST}'


# what a rule that resets says, what the client asks for, what its name leads to, why it ends
RESETS = [
    ('to = ["a.example"]', "a.example", [WEB.host], "denied-by-rule"),
    (f'to = ["{WEB.host}"]', WEB.host, [], "denied-by-rule"),
    ('to = ["*"]', "a.example", [WEB.host], "denied-by-rule"),
    (f'to = ["{WEB.host}"]', "a.example", [WEB.host], "address-denied: rule no denies it"),
    ('to = ["b.example"]', "a.example", ["a.example. 60 CNAME b.example.", f"b.example. 60 A {WEB.host}"], "alias-denied: a.example is an alias of b.example: rule no denies it"),
]  # fmt: skip


@every_mode
@pytest.mark.parametrize(("says", "host", "rows", "reason"), RESETS)
def test_client_of_a_rule_that_resets_is_cut_off_without_an_answer(
    mode: EntryMode, says: str, host: str, rows: list[str], reason: str
) -> None:
    names = Names().put("a.example", *rows)
    found = visit(Ask(mode, host), plan=proxy_settings(refusing("reset", says)), names=names)
    assert found.reply.code == -1
    assert b"104" in found.reply.text  # ECONNRESET
    assert found.dialled == []
    (decision,) = found.gate.decisions
    assert (decision.verdict, decision.reason) == ("denied", reason)
    polite = visit(Ask(mode, host), plan=proxy_settings(refusing("deny", says)), names=names)
    assert polite.reply.code == REFUSED[mode]


@every_mode
def test_what_no_tunnel_shows_is_refused_politely_also_before_a_rule_that_resets(
    mode: EntryMode,
) -> None:
    plan = proxy_settings(refusing("reset", 'to = ["*"]\nmethods = ["POST"]'))
    found = visit(Ask(mode, WEB.host), plan=plan)
    assert (found.reply.code, found.reasons) == (REFUSED[mode], ["cannot-be-judged"])


@pytest.mark.parametrize("mode", [EntryMode.SOCKS4, EntryMode.SOCKS5])
def test_bind_is_reset_before_its_first_answer(mode: EntryMode) -> None:
    got: list[bytes] = []

    async def asks(stream: PeerStream) -> str:
        await stream.send_all(request(mode))
        try:
            while piece := await stream.receive():
                got.append(piece)
        except ConnectionResetError:
            return "reset"
        return "ended"

    async def scenario(gate: Gate) -> None:
        assert await gate.ended(gate.call(asks)) == ["reset"]

    gate = play(scenario, proxy_settings(refusing("reset", 'to = ["*"]')), exchange=Names())
    assert b"".join(got) == (b"\5\0" if mode is EntryMode.SOCKS5 else b"")  # the method, no more
    assert [(one.reason, one.rule) for one in gate.decisions] == [("denied-by-rule", "no")]


# the first rule, whether the association is reset and by which rule it is refused
ASSOCIATIONS = [
    ('action = "reset"\nto = ["*"]\nprotocols = []', True, "no"),
    ('action = "reset"\nto = ["*"]\nprotocols = ["udp"]', True, "no"),
    ('action = "deny"\nto = ["*"]\nprotocols = ["udp"]', False, "no"),
    ('action = "reset"\nto = ["*"]\nprotocols = ["udp:53"]', False, ""),
    ('action = "reset"\nto = ["93.184.216.34"]\nprotocols = ["udp"]', False, ""),
    ('action = "reset"\nto = ["*"]\nprotocols = ["tcp"]', False, ""),
    ('action = "reset"\nto = ["*"]\nprotocols = ["udp"]\nclients = ["10.77.0.0/16"]', False, ""),
]  # fmt: skip


@pytest.mark.parametrize(("says", "is_reset", "rule"), ASSOCIATIONS)
def test_association_is_reset_where_a_rule_resets_every_datagram(
    says: str, is_reset: bool, rule: str
) -> None:
    got = bytearray()

    async def asks(stream: PeerStream) -> str:
        await stream.send_all(b"\5\1\0" + b"\5\3\0\1" + bytes(6))
        try:
            while piece := await stream.receive():
                got.extend(piece)
        except ConnectionResetError:
            return "reset"
        return "ended"

    async def scenario(gate: Gate) -> None:
        (end,) = await gate.ended(gate.call(asks))
        assert end == ("reset" if is_reset else "ended")

    policy = f'[[rule]]\nname = "no"\n{says}\n{REST}'
    gate = play(scenario, proxy_settings(policy), exchange=Names())
    assert bytes(got[2:3]) == (b"" if is_reset else b"\5")
    assert [one.rule for one in gate.decisions] == [rule]


def test_datagrams_of_a_rule_that_resets_are_dropped_in_silence() -> None:
    async def scenario(gate: Gate) -> None:
        servers = [Server(gate, address) for address in (ONE, TWO)]
        client = Client(gate)
        assert await client.associate() == 0
        client.send(frame(TWO, b"no"), frame(ONE, b"yes"))
        assert await client.answered(1) == [(b"re:yes", str(ONE))]
        await moment()
        assert (len(servers[0].got), len(servers[1].got), client.is_over) == (1, 0, False)
        client.leave()
        await gate.idle()

    gate = run(
        scenario,
        f'[[rule]]\nname = "no"\naction = "reset"\nto = ["{TWO.host}"]\nprotocols = ["udp"]\n'
        '[[rule]]\nname = "dns"\nto = ["*"]\nprotocols = ["udp:53"]\n',
    )
    denied = [one for one in gate.decisions if one.verdict == "denied"]
    assert [(one.rule, one.reason) for one in denied] == [("no", "denied-by-rule")]


# -- inspect ---------------------------------------------------------------------------------------


class Looks(StreamFilter):
    """Looks at everything; leaves with the chunk that makes ``leave_after`` bytes."""

    name = "looks"
    leave_after = 1 << 30

    def __init__(self) -> None:
        self.count = 0

    def on_data(self, side: Side, window: Window) -> StreamVerdict:
        del side
        self.count += window.length
        return LEAVE if self.count >= self.leave_after else FORWARD


class Glances(Looks):
    name = "glances"
    leave_after = 1


class Fails(StreamFilter):
    name = "fails"

    def __init__(self) -> None:
        raise RuntimeError("no")


class FailsToStart(Telling):
    """Is told of nothing: it never works."""

    def start(self, firewall: Any) -> Events:
        raise RuntimeError("no")


def leaving(after: int) -> Any:
    return lambda: Passing(leave_after=after)


# what the rule names, whether bytes get through, the reason if not
INSPECTED: list[tuple[dict[str, Any], bool, str]] = [
    ({"looks": Looks}, True, ""),
    ({"passing": Passing}, True, ""),
    ({"looks": Looks, "passing": Passing}, True, ""),
    ({"looks": Looks, "glances": Glances}, True, ""),
    ({"looks": Looks, "leaves": leaving(1)}, True, ""),
    ({"passing": Passing, "glances": Glances}, True, ""),
    ({"glances": Glances}, False, INSPECT_NEEDS_FILTER),
    ({"glances": Glances, "too": Glances}, False, INSPECT_NEEDS_FILTER),
    ({"leaves": leaving(0)}, False, INSPECT_NEEDS_FILTER),
    ({"leaves": leaving(1)}, False, INSPECT_NEEDS_FILTER),
    ({"glances": Glances, "leaves": leaving(1)}, False, INSPECT_NEEDS_FILTER),
    ({"told": Telling()}, False, INSPECT_NEEDS_FILTER),
    ({"looks": Looks, "fails": Fails}, False, "filter failure: fails"),
    ({"looks": Looks, "fails": FailsToStart()}, False, "filter fails failed: RuntimeError: no"),
]  # fmt: skip


def inspecting(action: str, filters: dict[str, Any]) -> Any:
    names = ", ".join(f'"{name}"' for name in filters)
    policy = f'[[rule]]\nname = "in"\naction = "{action}"\nto = ["*"]\nprotocols = ["tcp", "udp"]\nfilters = [{names}]\n'
    installed = [installation(one, name, OnFailure.BYPASS) for name, one in filters.items()]
    return proxy_settings(policy, filters=installed)


@every_mode
@pytest.mark.parametrize(("filters", "passes", "reason"), INSPECTED)
def test_connection_that_is_to_be_inspected_never_goes_on_unseen(
    mode: EntryMode, filters: dict[str, Any], passes: bool, reason: str
) -> None:
    found = visit(Ask(mode, WEB.host), plan=inspecting("inspect", filters))
    assert (found.reply.tunnelled == b"hello") is passes
    if not passes:
        denied = [one.reason for one in found.gate.decisions if one.verdict == "denied"]
        ends = [one.reason for one in found.gate.ends if one.outcome == "refused"]
        assert (denied or ends) == [reason]
    if reason.startswith("filter failure"):
        assert [one.action for one in found.gate.recorder.of(FilterFailureRecord)] == ["refused"]


@every_mode
@pytest.mark.parametrize("filters", [filters for filters, _, _ in INSPECTED])
def test_the_same_filters_of_a_rule_that_only_allows_may_leave_and_be_bypassed(
    mode: EntryMode, filters: dict[str, Any]
) -> None:
    found = visit(Ask(mode, WEB.host), plan=inspecting("allow", filters))
    assert found.reply.tunnelled == b"hello"


class Sees(DatagramFilter):
    name = "sees"
    leaves = False

    def on_datagram(self, side: Side, peer: Any, window: Window) -> Any:
        return LEAVE if self.leaves else FORWARD


class SeesOne(Sees):
    leaves = True


@pytest.mark.parametrize(("make", "answers"), [(Sees, 2), (SeesOne, 1), (Telling(), 0)])
def test_datagrams_that_are_to_be_inspected_do_not_go_unseen(make: Any, answers: int) -> None:
    async def scenario(gate: Gate) -> None:
        server = Server(gate, ONE)
        client = Client(gate)
        assert await client.associate() == 0
        client.send(frame(ONE, b"1"))
        await moment()
        client.send(frame(ONE, b"2"))
        await moment()
        assert len(server.got) <= answers
        assert len(client.got) <= answers
        assert (answers == 2) is (len(client.got) == 2)
        client.leave()
        await gate.idle()

    gate = play(scenario, inspecting("inspect", {"sees": make}), exchange=Names())
    reasons = {one.reason for one in (*gate.ends, *gate.decisions)}
    assert (INSPECT_NEEDS_FILTER in reasons) is (answers < 2)


# -- filters that protocols bring -----------------------------------------------------------------

ORDER: list[str] = []


def noting(name: str) -> Any:
    class Notes(Looks):
        def on_data(self, side: Side, window: Window) -> StreamVerdict:
            if side is Side.CLIENT:
                ORDER.append(name)
            return super().on_data(side, window)

    return Notes


@every_mode
@pytest.mark.parametrize(
    ("says", "order"),
    [
        ('protocols = ["@seen"]', ["bound"]),
        ('protocols = ["@seen"]\nfilters = ["own"]', ["bound", "own"]),
        ('protocols = ["@seen"]\nfilters = ["own", "bound"]', ["bound", "own"]),
        ('protocols = ["@seen"]\naction = "inspect"', ["bound"]),
        ('protocols = ["tcp:443"]\nfilters = ["own"]', ["own"]),
    ],
)
def test_filters_that_a_protocol_brings_run_before_those_of_the_rule(
    mode: EntryMode, says: str, order: list[str]
) -> None:
    policy = f'[objects.protocols.seen]\nports = ["tcp:443"]\nfilters = ["bound"]\n[[rule]]\nname = "in"\nto = ["*"]\n{says}\n'
    installed = [installation(noting(name), name) for name in ("own", "bound")]
    ORDER.clear()
    found = visit(Ask(mode, WEB.host), plan=proxy_settings(policy, filters=installed))
    assert (found.reply.tunnelled, ORDER) == (b"hello", order)


@pytest.mark.parametrize(("own", "order"), [("", ["bound"]), ('"own"', ["bound", "own"])])
def test_filters_of_a_protocol_run_for_what_is_published_too(own: str, order: list[str]) -> None:
    policy = f"""
        [objects.protocols.seen]
        ports = ["tcp:8080"]
        direction = "inbound"
        filters = ["bound"]
        [[publish]]
        name="web"
        listener = "web"
        server = "{SERVER}"
        clients = ["10.0.0.0/8"]
        protocol = "@seen"
        filters = [{own}]
    """
    installed = tuple(installation(noting(name), name) for name in ("own", "bound"))
    plan = ServiceSettings((ListenerSettings("web", ENTRY),), rules(policy), installed, LIMITS)
    ORDER.clear()

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes)
        assert await gate.ended(gate.call(sends(b"hello"))) == [b"hello"]
        await gate.idle()

    play(scenario, plan)
    assert order == ORDER
