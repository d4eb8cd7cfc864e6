"""Another policy: what it refuses ends within a second, what it allows goes on untouched."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from sluicegate.address import SocketAddress
from sluicegate.audit import RuleChangeRecord
from sluicegate.errors import BadContext
from sluicegate.filterapi import (
    FORWARD,
    ConnectRequested,
    EntryMode,
    Events,
    Side,
    StreamFilter,
    StreamVerdict,
    Window,
)
from sluicegate.gate import entry
from sluicegate.gate.entry_dialogue import Authenticate
from sluicegate.gate.revocation import Revocation
from sluicegate.gate.settings import ListenerSettings, OnFailure, ServiceSettings
from sluicegate.identity import User
from sluicegate.policy import DestinationRequest, decide_destination
from sluicegate.policy.rule_index import RuleIndex
from sluicegate.policy_limits import JUDGED_AGAIN_PER_TURN_MIN
from sluicegate.testing.peers import PeerStream
from tests.flows.entry_kit import (
    ANN,
    BOB,
    MODES,
    REFUSED,
    WEB,
    Ask,
    Names,
    asks,
    proxy_settings,
    says_hello,
)
from tests.flows.gate_kit import (
    SERVER,
    Gate,
    echoes,
    installation,
    play,
    publication,
    sends,
    settings,
)
from tests.flows.model_kit import Telling

every_mode = pytest.mark.parametrize("mode", MODES)
OTHER = SocketAddress.parse("93.184.216.99:443")
ALLOW = '[[rule]]\nname = "web"\nto = ["www.example", "93.184.216.34"]\n'
NOTHING = '[[rule]]\nname = "other"\nto = ["198.51.100.7"]\n'
DENY = '[[rule]]\nname = "no"\naction = "deny"\nto = ["93.184.216.0/24"]\n'
DENY_WWW = DENY.replace("93.184.216.0/24", "www.example")


class Tunnel:
    """A client's open connection, of which the test asks for an echo now and then."""

    def __init__(self, gate: Gate, ask: Ask | None, **call: Any) -> None:
        self.gate = gate
        self.stream: PeerStream | None = None
        self.code = -1
        self.is_over = False
        self._goes_on = False

        async def waits(stream: PeerStream) -> bytes:
            self.stream, self.code = stream, 0
            while not self._goes_on:
                await gate.peers.sleep(0.05)
            return b""

        async def whole(stream: PeerStream) -> Any:
            if ask is not None:
                return await asks(ask, waits)(stream)
            await waits(stream)
            stream.close()
            return None

        self.task = gate.call(whole, **call)

    async def open(self) -> Tunnel:
        await self.gate.until(lambda: self.stream is not None)
        assert await self.echo(b"first") == b"first"
        return self

    async def echo(self, data: bytes) -> bytes:
        """Return what comes back; nothing if the connection has ended."""
        assert self.stream is not None
        socket, received = self.stream.socket, bytearray()
        try:
            assert socket.send(data) == len(data)
            while len(received) < len(data):
                try:
                    piece = socket.receive(len(data))
                except BlockingIOError:
                    await asyncio.sleep(0.01)
                    continue
                if not piece:
                    return b""
                received += piece
        except OSError:
            return b""
        return bytes(received)

    async def leave(self) -> None:
        self._goes_on = True
        await self.gate.ended(self.task)


async def reload(gate: Gate, plan: ServiceSettings) -> float:
    """Put a plan in force; return how long it took until nothing was left to judge."""
    began = gate.clock.monotonic()
    await gate.service.apply(plan)
    await gate.until(lambda: not gate.service.revocation.pending)
    return gate.clock.monotonic() - began


def of_ends(gate: Gate) -> list[tuple[str, str, str]]:
    return [(end.rule, end.outcome, end.reason) for end in gate.ends]


# -- tunnels ---------------------------------------------------------------------------------------

CASES: list[tuple[str, str, str, str]] = [
    # name, what the client asks for, the new policy, the reason of the end; empty: it goes on
    ("P4 no rule is left", "www.example", NOTHING, "revoked: no-rule"),
    ("P4 a deny before it, by name", "www.example",
     DENY_WWW + ALLOW, "revoked: denied-by-rule (no)"),
    ("P4 a deny of its address before it", "www.example", DENY + ALLOW,
     "revoked: rule no denies it"),
    ("P4 a deny of its alias before it", "alias.example",
     DENY_WWW + '[[rule]]\nname = "web"\nto = ["alias.example"]\n', "revoked: rule no denies it"),
    ("P4 another port", "www.example", ALLOW + 'protocols = ["tcp:8443"]\n', "revoked: no-rule"),
    ("P4 other clients", "www.example", ALLOW + 'clients = ["10.7.0.0/16"]\n', "revoked: no-rule"),
    ("P4 only users", "www.example", ALLOW + 'users = ["*"]\n', "revoked: user-needed"),
    ("P3 something else is refused", "www.example",
     '[[rule]]\nname = "no"\naction = "deny"\nto = ["bad.example"]\n' + ALLOW, ""),
    ("P3 something else is allowed", "www.example", ALLOW + NOTHING, ""),
    ("P3 the same", "www.example", ALLOW, ""),
    ("P3 a deny behind it", "www.example", ALLOW + DENY, ""),
]  # fmt: skip

FIRST = '[[rule]]\nname = "web"\nto = ["www.example", "alias.example", "93.184.216.34"]\n'


@every_mode
@pytest.mark.parametrize(
    ("asked", "after", "reason"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_open_tunnel_ends_by_what_the_new_policy_refuses_and_by_nothing_else(
    mode: EntryMode, asked: str, after: str, reason: str
) -> None:
    async def scenario(gate: Gate) -> None:
        gate.serve(echoes, address=WEB)
        tunnel = await Tunnel(gate, Ask(mode, asked)).open()
        assert await reload(gate, proxy_settings(after)) < 1
        assert await tunnel.echo(b"again") == (b"" if reason else b"again")
        await tunnel.leave()
        await gate.idle()

    names = Names().put("www.example", WEB.host)
    names.put(
        "alias.example", "alias.example. 60 CNAME www.example.", f"www.example. 60 A {WEB.host}"
    )
    gate = play(scenario, proxy_settings(FIRST), exchange=names)
    assert of_ends(gate) == [("web", "refused" if reason else "released", reason)]


@every_mode
def test_rule_that_admits_it_now_is_recorded_where_it_is_another_one(mode: EntryMode) -> None:
    async def scenario(gate: Gate) -> None:
        gate.serve(echoes, address=WEB)
        tunnel = await Tunnel(gate, Ask(mode, "www.example")).open()
        renamed = proxy_settings(ALLOW.replace('"web"', '"pages"'))
        await reload(gate, renamed)
        assert await tunnel.echo(b"again") == b"again"
        assert gate.service.connections()[0].rule == "pages"
        await tunnel.leave()
        await gate.idle()

    gate = play(scenario, proxy_settings(ALLOW), exchange=Names().put("www.example", WEB.host))
    [change] = gate.recorder.of(RuleChangeRecord)
    assert (change.connection, change.before, change.rule) == (
        gate.ends[0].connection,
        "web",
        "pages",
    )
    assert change.policy == gate.service.policy.hash
    assert of_ends(gate) == [("pages", "released", "")]


USERS = '[[rule]]\nname = "web"\nto = ["*"]\nusers = ["group:staff"]\n'


@pytest.mark.parametrize(
    ("users", "reason"),
    [
        ((ANN, BOB), ""),
        ((BOB,), "revoked: user-needed"),
        ((User("ann", ANN.password, ("guests",)), BOB), "revoked: no-rule"),
    ],
    ids=["still there", "removed", "in another group"],
)
@pytest.mark.parametrize("mode", [EntryMode.SOCKS5, EntryMode.HTTP_CONNECT])
def test_users_who_are_gone_or_in_other_groups_lose_what_they_have_open(
    mode: EntryMode, users: tuple[User, ...], reason: str
) -> None:
    async def scenario(gate: Gate) -> None:
        gate.serve(echoes, address=WEB)
        ask = Ask(mode, WEB.host, user="ann", password="open sesame")
        tunnel = await Tunnel(gate, ask).open()
        plan = proxy_settings(USERS, authenticate=Authenticate.OPTIONAL, users=users)
        await reload(gate, plan)
        assert await tunnel.echo(b"again") == (b"" if reason else b"again")
        await tunnel.leave()
        await gate.idle()

    plan = proxy_settings(USERS, authenticate=Authenticate.OPTIONAL, users=(ANN, BOB))
    gate = play(scenario, plan, exchange=Names())
    assert [(end.user, end.reason) for end in gate.ends] == [("ann", reason)]


@every_mode
def test_connection_on_its_way_is_judged_by_the_policy_that_has_come_meanwhile(
    mode: EntryMode,
) -> None:
    """Its name is being looked up: nothing of what was decided before counts."""

    async def scenario(gate: Gate) -> None:
        asked = gate.call(asks(Ask(mode, "slow.example")))
        await gate.until(lambda: names.waiting)
        await gate.service.apply(proxy_settings(NOTHING))
        names.waiting[0].set()
        [reply] = await gate.ended(asked)
        assert reply.code == REFUSED[mode]
        await gate.idle()

    names = SlowNames()
    names.put("slow.example", WEB.host)
    dialled: list[SocketAddress] = []
    gate = play(
        scenario,
        proxy_settings('[[rule]]\nname = "web"\nto = ["slow.example"]\n'),
        exchange=names,
        prepare=lambda gate: watch_dials(gate, dialled),
    )
    assert dialled == []
    [decision] = gate.decisions
    assert (decision.verdict, decision.reason, decision.rule) == ("denied", "no-rule", "")
    assert decision.policy == gate.service.policy.hash


@pytest.mark.parametrize("mode", [*MODES, None], ids=[*MODES, "published"])
def test_connection_whose_server_answers_after_another_policy_has_come_is_not_granted(
    mode: EntryMode | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its turn to be judged does not come before the server has answered.
    monkeypatch.setattr(Revocation, "_post", lambda _: None)
    held: list[Callable[[], None]] = []

    def hold_dials(gate: Gate) -> None:
        connect = gate.backend.connect

        def holding(*arguments: Any) -> None:
            held.append(lambda: connect(*arguments))

        gate.backend.connect = holding  # type: ignore[method-assign]

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes, address=WEB)
        served = gate.serve(echoes)
        if mode is None:
            client = gate.call(sends(b"hello"))
        else:
            client = gate.call(asks(Ask(mode, WEB.host), says_hello))
        await gate.until(lambda: held)
        await gate.service.apply(settings() if mode is None else proxy_settings(NOTHING))
        held[0]()
        [reply] = await gate.ended(client)
        if mode is None:
            assert not reply.startswith(b"hello")
            assert not served or await gate.ended(*served) == [-1]
        else:
            assert (reply.code, reply.tunnelled) == (REFUSED[mode], b"")
        await gate.idle()

    plan = settings(publication()) if mode is None else proxy_settings(ALLOW)
    gate = play(scenario, plan, exchange=Names(), prepare=hold_dials)
    [end] = gate.ends
    assert (end.outcome, end.bytes_to_server) == ("refused", 0)
    assert end.reason == ("revoked: not-published" if mode is None else "revoked: no-rule")


class SlowNames(Names):
    """Answers when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[asyncio.Event] = []

    async def ask_udp(self, server: SocketAddress, query: Any) -> bytes:
        self.waiting.append(asyncio.Event())
        await self.waiting[0].wait()
        return await super().ask_udp(server, query)


def watch_dials(gate: Gate, dialled: list[SocketAddress]) -> None:
    connect = gate.backend.connect

    def noting(operation: Any, sock: Any, address: SocketAddress) -> None:
        dialled.append(address)
        connect(operation, sock, address)

    gate.backend.connect = noting  # type: ignore[method-assign]


# -- filters -------------------------------------------------------------------------------------


class Plain(StreamFilter):
    """Forwards everything, and stays."""

    def on_data(self, side: Side, window: Window) -> StreamVerdict:
        del side, window
        return FORWARD


FILTERS: list[tuple[str, str, str, str]] = [
    ("one more", "", 'filters = ["f"]', "revoked: the filter f is wanted now (web)"),
    ("the same", 'filters = ["f"]', 'filters = ["f"]', ""),
    ("one less", 'filters = ["f", "g"]', 'filters = ["f"]', ""),
    ("other settings", 'filters = ["f"]', 'filters = ["f"]\nsettings.f = { a = 1 }',
     "revoked: the filter f has other settings now (web)"),
]  # fmt: skip


@every_mode
@pytest.mark.parametrize(
    ("before", "after", "reason"), [one[1:] for one in FILTERS], ids=[one[0] for one in FILTERS]
)
def test_connection_goes_on_only_with_every_filter_that_its_rule_wants_now(
    mode: EntryMode, before: str, after: str, reason: str
) -> None:
    installed = [installation(Plain, "f"), installation(Plain, "g")]

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes, address=WEB)
        tunnel = await Tunnel(gate, Ask(mode, WEB.host)).open()
        await reload(gate, proxy_settings(ALLOW + after, filters=installed))
        assert await tunnel.echo(b"again") == (b"" if reason else b"again")
        await tunnel.leave()
        await gate.idle()

    gate = play(scenario, proxy_settings(ALLOW + before, filters=installed), exchange=Names())
    assert [end.reason for end in gate.ends] == [reason]


class Broken(Telling):
    """Cannot start."""

    def start(self, firewall: Any) -> Events:
        raise RuntimeError("no database")


@every_mode
@pytest.mark.parametrize("is_mended", [True, False], ids=["mended", "still broken"])
def test_connection_that_a_failed_filter_was_bypassed_for_ends_once_the_filter_works(
    mode: EntryMode, is_mended: bool
) -> None:
    """It came by a rule with the filter, and nothing of it has been seen."""
    wanting = ALLOW + 'filters = ["f"]'

    def plan(filter_: Telling) -> ServiceSettings:
        return proxy_settings(wanting, filters=[installation(filter_, "f", OnFailure.BYPASS)])

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes, address=WEB)
        tunnel = await Tunnel(gate, Ask(mode, WEB.host)).open()
        await reload(gate, plan(Telling() if is_mended else Broken()))
        assert await tunnel.echo(b"again") == (b"" if is_mended else b"again")
        await tunnel.leave()
        await gate.idle()

    gate = play(scenario, plan(Broken()), exchange=Names())
    reason = "revoked: the filter f is wanted now (web)" if is_mended else ""
    assert [end.reason for end in gate.ends] == [reason]


def test_filter_that_is_not_wanted_any_more_and_then_with_other_settings_is_not_forgotten() -> None:
    installed = [installation(Plain, "f")]
    with_settings = ALLOW + 'filters = ["f"]\nsettings.f = { a = 1 }\n'

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes, address=WEB)
        tunnel = await Tunnel(gate, Ask(EntryMode.SOCKS5, WEB.host)).open()
        await reload(gate, proxy_settings(ALLOW, filters=installed))
        assert await tunnel.echo(b"again") == b"again"
        await reload(gate, proxy_settings(ALLOW + 'filters = ["f"]\n', filters=installed))
        assert await tunnel.echo(b"again") == b""
        await tunnel.leave()
        await gate.idle()

    gate = play(scenario, proxy_settings(with_settings, filters=installed), exchange=Names())
    assert gate.ends[0].reason == "revoked: the filter f has other settings now (web)"


def test_replaced_filter_stays_until_the_connections_that_came_by_it_have_ended() -> None:
    first, second = Telling(), Telling()

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes, address=WEB)
        tunnel = await Tunnel(gate, Ask(EntryMode.SOCKS5, WEB.host)).open()
        plan = proxy_settings(ALLOW + 'filters = ["f"]', filters=[installation(second, "f")])
        await reload(gate, plan)
        assert await tunnel.echo(b"again") == b"again"
        assert not first.sessions[0].detached
        await tunnel.leave()
        await gate.idle()
        assert first.sessions[0].detached

    play(
        scenario,
        proxy_settings(ALLOW + 'filters = ["f"]', filters=[installation(first, "f")]),
        exchange=Names(),
    )


# -- publications, and what hangs on a connection --------------------------------------------------

PUBLISHED: list[tuple[str, ServiceSettings, str]] = [
    ("the same", settings(publication()), ""),
    ("others", settings(publication(clients=["10.7.0.0/16"])), "revoked: client-not-listed"),
    ("nothing", settings(), "revoked: not-published"),
    ("another server", settings(publication(server=OTHER)),
     "revoked: it leads to 93.184.216.99:443 now (web)"),
    ("another name", settings(publication(name="pages")), ""),
]  # fmt: skip


@pytest.mark.parametrize(
    ("after", "reason"), [one[1:] for one in PUBLISHED], ids=[one[0] for one in PUBLISHED]
)
def test_published_connection_ends_by_what_the_new_policy_refuses(
    after: ServiceSettings, reason: str
) -> None:
    async def scenario(gate: Gate) -> None:
        gate.serve(echoes)
        tunnel = await Tunnel(gate, None).open()
        await reload(gate, after)
        assert await tunnel.echo(b"again") == (b"" if reason else b"again")
        await tunnel.leave()
        await gate.idle()

    gate = play(scenario)
    assert [end.reason for end in gate.ends] == [reason]


@pytest.mark.parametrize("is_primary_there", [True, False], ids=["open", "ended before"])
def test_secondary_connection_ends_with_what_its_primary_came_by(is_primary_there: bool) -> None:
    telling = Telling(events=Events.of(ConnectRequested))

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes)
        gate.serve(echoes, address=SERVER.with_port(2021))
        control = await Tunnel(gate, None).open()
        primary = telling.seen[0].connection
        action = primary.session.allow_future_connect(primary, SERVER.with_port(2021))
        data = await Tunnel(gate, None, address=action.address).open()
        if not is_primary_there:
            await control.leave()
            await gate.until(lambda: gate.ends)
        await reload(gate, plan)
        assert await data.echo(b"again") == b"again"
        await reload(gate, settings(publication("f", clients=["10.7.0.0/16"]), filters=installed))
        assert await data.echo(b"again") == b""
        await data.leave()
        await control.leave()
        await gate.idle()

    installed = [installation(telling, "f")]
    plan = settings(publication("f"), filters=installed)
    gate = play(scenario, plan)
    secondary = [end for end in gate.ends if end.primary]
    assert [end.reason for end in secondary] == ["revoked: client-not-listed"]


@every_mode
def test_what_was_announced_is_withdrawn_where_it_leads_where_the_rule_leads_no_more(
    mode: EntryMode,
) -> None:
    telling = Telling(events=Events.of(ConnectRequested, secondary=True))
    installed = [installation(telling, "f")]
    data = SocketAddress.parse("93.184.216.66:2021")
    rule = '[[rule]]\nname = "web"\nto = ["*"]\nfilters = ["f"]\n'
    deny = '[[rule]]\nname = "no"\naction = "deny"\nto = ["93.184.216.66"]\nprotocols = ["tcp"]\n'

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes, address=WEB)
        gate.serve(echoes, address=data)
        tunnel = await Tunnel(gate, Ask(mode, WEB.host)).open()
        primary = telling.seen[0].connection
        action = primary.session.allow_future_connect(primary, data)
        await reload(gate, proxy_settings(rule, filters=installed))
        assert action.is_pending
        await reload(gate, proxy_settings(deny + rule, filters=installed))
        assert not action.is_pending
        assert await tunnel.echo(b"again") == b"again"
        await tunnel.leave()
        await gate.idle()

    play(scenario, proxy_settings(rule, filters=installed), exchange=Names())


def test_network_socket_of_a_session_ends_by_what_the_new_policy_refuses() -> None:
    telling = Telling()
    installed = [installation(telling, "f")]
    rule = '[[rule]]\nname = "web"\nto = ["*"]\nfilters = ["f"]\n'

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes, address=WEB)
        gate.serve(echoes, address=OTHER)
        tunnel = await Tunnel(gate, Ask(EntryMode.SOCKS5, OTHER.host)).open()
        socket = telling.sessions[0].session.create_network_socket()
        await socket.connect(WEB.host, 443)
        await reload(gate, proxy_settings(rule.replace("web", "pages"), filters=installed))
        await socket.send(b"hello")
        assert bytes(await socket.receive()) == b"hello"
        only = rule.replace("*", OTHER.host)
        await reload(gate, proxy_settings(only, filters=installed))
        with pytest.raises(BadContext):
            await socket.receive()
        assert await tunnel.echo(b"again") == b"again"
        await tunnel.leave()
        await gate.idle()

    gate = play(scenario, proxy_settings(rule, filters=installed), exchange=Names())
    [end] = [end for end in gate.ends if end.entry == "private"]
    assert (end.outcome, end.reason, end.rule) == ("refused", "revoked: no-rule", "pages")


# -- SOCKS BIND and datagrams ------------------------------------------------------------------

BIND = '[[rule]]\nname = "back"\nto = ["93.184.216.0/24"]\nprotocols = ["bind"]\n'


@pytest.mark.parametrize("has_peer", [False, True], ids=["waiting", "open"])
def test_bind_ends_by_what_the_new_policy_refuses(has_peer: bool) -> None:
    codes: list[int] = []
    places: list[SocketAddress] = []

    async def client(stream: PeerStream) -> bytes:
        await stream.send_all(b"\5\1\0" + b"\5\2\0\1" + bytes([93, 184, 216, 77]) + b"\0\0")
        await stream.receive_exactly(2)
        for _ in range(2):
            reply = await stream.receive_exactly(10)
            if len(reply) < 10:
                return b""
            codes.append(reply[1])
            host = ".".join(map(str, reply[4:8]))
            places.append(SocketAddress(host, int.from_bytes(reply[8:10], "big")))
        try:
            return await stream.receive_all()
        except OSError:
            return b"<reset>"

    async def peer(stream: PeerStream) -> None:
        try:
            await stream.receive()
        except OSError:
            stream.close()

    async def scenario(gate: Gate) -> None:
        task = gate.call(client)
        await gate.until(lambda: places)
        if has_peer:
            peer_address = SocketAddress.parse("93.184.216.77:0")
            gate.call(peer, address=places[0], source=peer_address, name="peer")
            await gate.until(lambda: len(places) > 1)
        await reload(gate, proxy_settings(BIND))
        assert gate.service.connection_count == 1
        await reload(gate, proxy_settings(NOTHING))
        await gate.ended(task)
        await gate.idle()

    gate = play(scenario, proxy_settings(BIND), exchange=Names())
    if has_peer:
        assert gate.ends[0].reason == "revoked: no-rule"
        assert codes == [0, 0]
    else:
        assert (gate.decisions[-1].verdict, gate.decisions[-1].reason) == ("denied", "no-rule")
        assert codes == [0, 2]


def test_published_datagrams_end_by_what_the_new_policy_refuses() -> None:
    listener = ListenerSettings("web", SocketAddress.parse("10.0.0.1:53"), is_udp=True)
    heard: list[bytes] = []

    def plan(**more: Any) -> ServiceSettings:
        return settings(publication(**more), listeners=[listener])

    async def scenario(gate: Gate) -> None:
        server = gate.peers.bind_datagrams(SERVER)
        client = gate.peers.bind_datagrams(SocketAddress("10.1.1.1", 0))

        async def serve() -> None:
            while True:
                data, sender = await server.receive()
                heard.append(data)
                server.send(data, sender)

        gate.peers.spawn("server", serve())
        for number in range(2):
            client.send(b"q%d" % number, listener.address)
            await gate.until(lambda count=number: len(heard) > count)
            await reload(gate, plan(name=f"dns-{number}"))
        assert gate.service.connection_count == 1
        await reload(gate, plan(clients=["10.7.0.0/16"]))
        assert gate.service.connection_count == 0
        client.send(b"no", listener.address)
        await asyncio.sleep(0.1)
        await reload(gate, plan())
        client.send(b"yes", listener.address)
        await gate.until(lambda: len(heard) > 2)

    gate = play(scenario, plan())
    assert heard == [b"q0", b"q1", b"yes"]
    assert [end.reason for end in gate.ends] == ["revoked: client-not-listed", "listener closed"]
    assert [one.rule for one in gate.recorder.of(RuleChangeRecord)] == ["dns-0", "dns-1"]


def test_connections_that_ask_the_same_are_decided_on_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[DestinationRequest] = []

    def counting(index: RuleIndex | None, request: DestinationRequest, *rest: Any) -> Any:
        asked.append(request)
        return decide_destination(index, request, *rest)

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes, address=WEB)
        tunnels = [
            await Tunnel(gate, Ask(EntryMode.SOCKS5, host), source=SocketAddress(client, 0)).open()
            for client in ("10.1.0.1", "10.1.0.2")
            for host in ("www.example", WEB.host, WEB.host)
        ]
        monkeypatch.setattr(entry, "decide_destination", counting)
        for plan in (ALLOW + NOTHING, ALLOW):
            asked.clear()
            await reload(gate, proxy_settings(plan))
            assert len(asked) == 4, "two clients, two hosts; and nothing is kept over a change"
        for tunnel in tunnels:
            assert await tunnel.echo(b"on") == b"on"
            await tunnel.leave()

    play(scenario, proxy_settings(ALLOW), exchange=Names().put("www.example", WEB.host))


# -- grace, slices -----------------------------------------------------------------------------


def test_grace_lets_what_is_refused_go_on_for_its_time_and_spares_what_is_allowed_again() -> None:
    async def scenario(gate: Gate) -> None:
        gate.serve(echoes, address=WEB)
        tunnel = await Tunnel(gate, Ask(EntryMode.SOCKS5, WEB.host)).open()
        await gate.service.apply(proxy_settings(NOTHING))
        await asyncio.sleep(5)
        assert await tunnel.echo(b"again") == b"again"
        [refused] = await gate.ended(gate.call(asks(Ask(EntryMode.SOCKS5, WEB.host))))
        assert refused.code == 2, "nothing new comes in meanwhile"
        await gate.service.apply(proxy_settings(ALLOW))
        await asyncio.sleep(20)
        assert await tunnel.echo(b"again") == b"again"
        await gate.service.apply(proxy_settings(NOTHING))
        await asyncio.sleep(9)
        assert await tunnel.echo(b"again") == b"again"
        await asyncio.sleep(2)
        assert await tunnel.echo(b"again") == b""
        await tunnel.leave()
        await gate.idle()

    gate = play(scenario, proxy_settings(ALLOW), exchange=Names(), revoke_grace_s=10.0)
    assert gate.ends[0].reason == "revoked: no-rule"


def test_many_connections_are_judged_in_slices_while_others_are_served() -> None:
    left: list[int] = []

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes)
        for number in range(300):
            host = f"10.1.{number % 2}.{number // 2 + 1}"
            await Tunnel(gate, None, source=SocketAddress(host, 0)).open()
        await gate.service.apply(settings(publication(clients=["10.1.0.0/24"])))
        while left[-1:] != [0]:
            left.append(gate.service.revocation.pending)
            await asyncio.sleep(0)
        assert gate.service.connection_count == 150

    gate = play(scenario)
    assert sum(end.reason == "revoked: client-not-listed" for end in gate.ends) == 150
    assert max(one - two for one, two in itertools.pairwise(left)) <= JUDGED_AGAIN_PER_TURN_MIN
    assert left[0] == 300
