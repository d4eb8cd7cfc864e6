"""Published UDP on the simulated network: who may send, what comes back, and what is dropped."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from typing import ClassVar

import pytest

from sluicegate.address import SocketAddress
from sluicegate.audit import LimitRecord
from sluicegate.errors import Side, TransportError
from sluicegate.filterapi import (
    DROP,
    FORWARD,
    LEAVE,
    CallbackDataFilter,
    ConnectionTerminating,
    Cut,
    DataFilter,
    DatagramFilter,
    Deny,
    Events,
    Filter,
    Pass,
    Rewrite,
    SessionFilter,
    UdpBindRequested,
    UdpDestination,
)
from sluicegate.gate.settings import ListenerSettings
from sluicegate.policy import FloodBounds
from sluicegate.testing import FaultPlan
from sluicegate.testing.datagrams import inject
from tests.flows.gate_kit import SERVER, Gate, installation, play, publication, settings

ENTRY = SocketAddress.parse("10.0.0.1:53")
LISTENER = ListenerSettings("web", ENTRY, is_udp=True)


def udp(*filters, installed=(), listeners=(LISTENER,), **more):
    return settings(publication(*filters, **more), filters=installed, listeners=listeners)


class World:
    """A server that answers, and clients."""

    def __init__(self, gate: Gate, *, answers: bool = True) -> None:
        self.gate = gate
        self.server = gate.peers.bind_datagrams(SERVER)
        self.got: list[tuple[bytes, SocketAddress]] = []
        gate.peers.spawn("server", self._serve(answers=answers))

    async def _serve(self, *, answers: bool) -> None:
        while True:
            data, sender = await self.server.receive()
            self.got.append((data, sender))
            if answers:
                self.server.send(b"re:" + data, sender)

    def client(self, host: str = "10.1.1.1", port: int = 0) -> Client:
        return Client(self.gate, SocketAddress(host, port))


class Client:
    def __init__(self, gate: Gate, address: SocketAddress) -> None:
        self.gate = gate
        self.end = gate.peers.bind_datagrams(address)
        self.got: list[tuple[bytes, SocketAddress]] = []
        gate.peers.spawn("client", self._listen())

    async def _listen(self) -> None:
        while True:
            self.got.append(await self.end.receive())

    def send(self, *datagrams: bytes, to: SocketAddress = ENTRY) -> None:
        for data in datagrams:
            self.end.send(data, to)

    async def answered(self, count: int) -> list[bytes]:
        await self.gate.until(lambda: len(self.got) >= count)
        return [data for data, _ in self.got]


def test_each_client_gets_its_own_answers_and_one_record():
    async def scenario(gate: Gate) -> None:
        world = World(gate)
        one, two = world.client("10.1.1.1"), world.client("10.1.1.2")
        one.send(b"a", b"", b"c")
        two.send(b"x")

        assert await one.answered(3) == [b"re:a", b"re:", b"re:c"]
        assert await two.answered(1) == [b"re:x"]
        assert {who for _, who in (*one.got, *two.got)} == {ENTRY}
        assert len({who for _, who in world.got}) == 2, "each has a socket of its own"
        assert gate.service.udp.plain_count == 2, "nobody wants to look"
        views = gate.service.connections()
        assert [(one.transport, one.state) for one in views] == [("udp", "open")] * 2
        await gate.idle_udp()

    gate = play_udp(scenario)

    ends = sorted(gate.ends, key=lambda record: record.client)
    assert [
        (r.transport, r.outcome, r.reason, r.datagrams_to_server, r.datagrams_to_client)
        for r in ends
    ] == [("udp", "released", "idle", 3, 3), ("udp", "released", "idle", 1, 1)]
    assert (ends[0].bytes_to_server, ends[0].bytes_to_client) == (2, 11)
    assert [r.reason for r in gate.decisions] == ["published", "published"]
    assert ends[0].dropped == {}


def play_udp(scenario, plan=None, **more):
    async def idle_udp(gate: Gate) -> None:
        while gate.service.connection_count:
            await asyncio.sleep(0.5)

    Gate.idle_udp = idle_udp
    more.setdefault("udp_idle_timeout_s", 60.0)
    return play(scenario, plan or udp(), **more)


def test_a_client_that_policy_does_not_name_reaches_nobody_and_is_recorded_once():
    async def scenario(gate: Gate) -> None:
        world = World(gate)
        stranger = world.client("192.0.2.7")
        stranger.send(*[b"in"] * 20)
        await gate.until(lambda: gate.service.denied == 20)
        assert world.got == []
        assert gate.service.connection_count == 0

    gate = play_udp(scenario)

    assert [(r.verdict, r.reason) for r in gate.decisions] == [("denied", "client-not-listed")]


def test_a_refused_client_is_asked_about_again_after_a_while():
    async def scenario(gate: Gate) -> None:
        stranger = World(gate).client("192.0.2.7")
        stranger.send(b"in")
        await gate.until(lambda: gate.service.denied == 1)
        await asyncio.sleep(15)
        stranger.send(b"in")
        await gate.until(lambda: gate.service.denied == 2)

    assert len(play_udp(scenario).decisions) == 2


def test_a_forged_answer_does_not_reach_the_client():
    async def scenario(gate: Gate) -> None:
        world = World(gate)
        client = world.client()
        client.send(b"q")
        await client.answered(1)
        (_, gates_own), *_ = world.got
        for source in (SocketAddress("10.9.9.9", 8081), SocketAddress("10.66.6.6", 8080)):
            inject(gate.network, b"forged", source, gates_own)
        client.send(b"r")

        assert await client.answered(2) == [b"re:q", b"re:r"]

    play_udp(scenario)


def test_an_oversized_datagram_is_dropped_counted_and_recorded_both_ways():
    async def scenario(gate: Gate) -> None:
        world = World(gate, answers=False)
        client = world.client()
        client.send(b"x" * 1000, b"y" * 1001, b"z")
        await gate.until(lambda: len(world.got) == 2)
        assert [len(data) for data, _ in world.got] == [1000, 1]
        world.server.send(b"b" * 5000, world.got[0][1])
        world.server.send(b"s", world.got[0][1])
        assert await client.answered(1) == [b"s"]
        await gate.idle_udp()

    gate = play_udp(scenario, udp_datagram_bytes_max=1000)

    assert gate.ends[0].dropped == {"oversized": 2}
    assert {(r.limit, r.bound) for r in gate.recorder.of(LimitRecord)} == {
        ("udp_datagram_bytes_max", 1000)
    }
    assert sum(r.count for r in gate.recorder.of(LimitRecord)) == 2


def test_a_server_that_is_not_there_is_noted_and_may_come_back():
    async def scenario(gate: Gate) -> None:
        client = Client(gate, SocketAddress("10.1.1.1", 0))
        client.send(b"anybody?")
        await gate.until(gate.service.connections)
        await gate.until(lambda: gate.service.connections()[0].dropped == 1)
        world = World(gate)
        client.send(b"now?")
        assert await client.answered(1) == [b"re:now?"]
        del world
        await gate.idle_udp()

    (end,) = play_udp(scenario).ends
    assert (end.dropped, end.error, end.side) == ({"unreachable": 1}, "ECONNREFUSED", "server")
    assert end.outcome == "released"


def test_beyond_the_limit_of_a_client_its_longest_silent_connection_ends():
    async def scenario(gate: Gate) -> None:
        world = World(gate)
        first = world.client(port=4001)
        second = world.client(port=4002)
        first.send(b"1")
        await first.answered(1)
        second.send(b"2")
        await second.answered(1)
        first.send(b"1 again")
        await first.answered(2)
        world.client(port=4003).send(b"3")
        await gate.until(lambda: len(world.got) == 4)
        assert sorted(view.client for view in gate.service.connections()) == [
            "10.1.1.1:4001",
            "10.1.1.1:4003",
        ]

    gate = play_udp(scenario, flood=FloodBounds(udp_sessions_max=2))

    assert gate.ends[0].reason == "udp_sessions_max reached"
    assert gate.ends[0].client == "10.1.1.1:4002"


def test_beyond_the_limit_of_the_worker_a_new_client_is_refused():
    async def scenario(gate: Gate) -> None:
        world = World(gate)
        world.client("10.1.1.1").send(b"1")
        await gate.until(lambda: len(world.got) == 1)
        world.client("10.1.1.2").send(b"2")
        await gate.until(lambda: gate.service.denied == 1)
        assert len(world.got) == 1

    gate = play_udp(scenario, udp_connections_max=1)

    assert gate.decisions[-1].reason == "limit udp_connections_max"


def test_replies_come_from_the_address_that_was_sent_to():
    wildcard = ListenerSettings("web", SocketAddress("0.0.0.0", 53), is_udp=True)

    async def scenario(gate: Gate) -> None:
        client = World(gate).client()
        for host in ("10.0.0.1", "10.0.0.2"):
            client.send(b"q", to=SocketAddress(host, 53))
        await client.answered(2)
        assert sorted(str(who) for _, who in client.got) == ["10.0.0.1:53", "10.0.0.2:53"]
        assert gate.service.connection_count == 2

    play_udp(scenario, udp(listeners=(wildcard,)))


def test_stopping_the_gate_ends_and_records_every_connection():
    async def scenario(gate: Gate) -> None:
        client = World(gate).client()
        client.send(b"q")
        await client.answered(1)

    (end,) = play_udp(scenario).ends
    assert (end.outcome, end.reason) == ("refused", "listener closed")


# -- filters ---------------------------------------------------------------------------------------


class Inline(DatagramFilter):
    """Judges by the first letter."""

    def __init__(self) -> None:
        self.seen: list[tuple[Side, SocketAddress, bytes]] = []
        self.detached = 0

    def on_datagram(self, side, peer, window):
        data = bytes(window)
        self.seen.append((side, peer, data))
        match data[:1]:
            case b"d":
                return DROP
            case b"w":
                return Rewrite(b"written")
            case b"c":
                return Cut("a bad word")
            case b"l":
                return LEAVE
            case b"!":
                raise ValueError("no")
            case b"?":
                return "nonsense"
        return FORWARD

    def detach(self):
        self.detached += 1


def test_an_inline_filter_lets_pass_rewrites_and_drops():
    made = []

    def make():
        made.append(Inline())
        return made[-1]

    async def scenario(gate: Gate) -> None:
        world = World(gate)
        client = world.client()
        client.send(b"pass", b"drop", b"write")
        assert await client.answered(2) == [b"re:pass", b"re:written"]
        await gate.idle_udp()

    plan = udp("one", installed=[installation(make, "one")])
    (end,) = play_udp(scenario, plan).ends

    assert end.dropped == {"filter": 1}
    assert (end.datagrams_to_server, end.datagrams_to_client) == (2, 2)
    assert end.filters == ("one",)
    (judge,) = made
    assert {(side, str(peer)) for side, peer, _ in judge.seen} == {
        (Side.CLIENT, str(SERVER)),
        (Side.SERVER, str(SERVER)),
    }
    assert judge.detached == 1


@pytest.mark.parametrize(
    ("word", "reason"),
    [(b"cut", "a bad word"), (b"!", "filter failure: one"), (b"?", "filter failure: one")],
)
def test_a_filter_that_cuts_fails_or_answers_nonsense_ends_its_connection_alone(word, reason):
    async def scenario(gate: Gate) -> None:
        world = World(gate)
        good, bad = world.client("10.1.1.1"), world.client("10.1.1.2")
        good.send(b"a")
        bad.send(b"a")
        await good.answered(1)
        await bad.answered(1)
        bad.send(word)
        await gate.until(lambda: gate.service.connection_count == 1)
        bad.send(b"a")
        good.send(b"b")
        assert await good.answered(2) == [b"re:a", b"re:b"]
        assert len(bad.got) == 1, "who was refused is not let in again at once"

    gate = play_udp(scenario, udp("one", installed=[installation(Inline, "one")]))

    assert (gate.ends[0].outcome, gate.ends[0].reason) == ("refused", reason)
    assert len(gate.failures) == (reason != "a bad word")


def test_a_filter_that_leaves_sees_no_more_and_datagrams_go_on():
    made = []

    def make():
        made.append(Inline())
        return made[-1]

    async def scenario(gate: Gate) -> None:
        client = World(gate).client()
        client.send(b"leave")
        await client.answered(1)
        client.send(b"d1", b"d2")
        assert await client.answered(3) == [b"re:leave", b"re:d1", b"re:d2"]
        assert gate.service.udp.plain_count == 1

    play_udp(scenario, udp("one", installed=[installation(make, "one")]))

    assert [data for _, _, data in made[0].seen] == [b"leave"]
    assert made[0].detached == 1


class Coroutine(DataFilter):
    """Marks what goes to the server, and leaves after three."""

    async def run(self, client, server, connection):
        for _ in range(3):
            window, peer = await client.receive_from()
            await server.send_to(b"<" + bytes(window) + b">", peer)
            reply = await server.receive()
            await client.send(reply)


def test_a_coroutine_keeps_datagrams_apart_and_returning_leaves():
    async def scenario(gate: Gate) -> None:
        client = World(gate).client()
        for number, data in enumerate((b"a", b"", b"c", b"d"), 1):
            client.send(data)
            await client.answered(number)
        assert [data for data, _ in client.got] == [b"re:<a>", b"re:<>", b"re:<c>", b"re:d"]

    play_udp(scenario, udp("one", installed=[installation(Coroutine, "one")]))


class Callbacks(CallbackDataFilter):
    """Turns what passes into capitals, by callbacks."""

    made: ClassVar[list[Callbacks]] = []

    def __init__(self) -> None:
        self.peers: list[SocketAddress | None] = []
        self.errors: list[int] = []
        self.detached_after: list[int] | None = None
        self.made.append(self)

    def set_sockets(self, client, server, connection, context):
        self.ends = {client: server, server: client}
        for end in self.ends:
            end.start_receive(None, self, end)

    def complete_socket_io(self, success, error, buffer, user_data, address):
        if not success:
            self.errors.append(error)
            return
        self.peers.append(address)
        self.ends[user_data].start_send(bytes(buffer).upper())
        user_data.start_receive(None, self, user_data)

    def detach(self):
        self.detached_after = list(self.errors)


def test_a_callback_filter_is_told_peers_and_ends_with_ecanceled_before_its_detach():
    Callbacks.made.clear()

    async def scenario(gate: Gate) -> None:
        client = World(gate).client()
        client.send(b"ab")
        assert await client.answered(1) == [b"RE:AB"]

    play_udp(scenario, udp("one", installed=[installation(Callbacks, "one")]))

    (made,) = Callbacks.made
    assert made.peers == [SERVER, SERVER]
    assert made.detached_after == [errno.ECANCELED, errno.ECANCELED]


def test_what_a_slow_filter_does_not_take_is_dropped_and_counted():
    class Stuck(DataFilter):
        async def run(self, client, server, connection):
            with contextlib.suppress(TransportError):
                while True:
                    await server.receive()

    async def scenario(gate: Gate) -> None:
        client = World(gate).client()
        client.send(*[b"x"] * 9)
        await gate.until(gate.service.connections)
        await gate.idle_udp()

    plan = udp("one", installed=[installation(Stuck, "one")])
    (end,) = play_udp(scenario, plan, udp_awaiting_max=4).ends

    assert end.dropped == {"filter-behind": 5}


class Told(Filter):
    """Answers events with what a test wants."""

    def __init__(self, answer) -> None:
        self.answer = answer
        self.events: list = []

    def start(self, firewall):
        return Events.of(UdpBindRequested, UdpDestination, ConnectionTerminating)

    def attach(self, session):
        return _ToldSession(session, self)


class _ToldSession(SessionFilter):
    def __init__(self, session, owner) -> None:
        super().__init__(session)
        self.owner = owner

    def on_event(self, event):
        self.owner.events.append(event)
        return self.owner.answer(event)


def names(told):
    return [type(event).__name__ for event in told.events]


def test_a_destination_is_asked_about_once_until_it_is_forgotten():
    told = Told(lambda event: Pass())

    async def scenario(gate: Gate) -> None:
        client = World(gate).client()
        client.send(b"1", b"2")
        await client.answered(2)
        await asyncio.sleep(20)
        client.send(b"3")
        await client.answered(3)

    play_udp(
        scenario,
        udp("told", installed=[installation(told, "told")]),
        udp_peer_idle_s=10.0,
    )

    assert names(told) == [
        "UdpBindRequested",
        "UdpDestination",
        "UdpDestination",
        "ConnectionTerminating",
    ]
    assert told.events[1].address == SERVER


@pytest.mark.parametrize("by", ["verdict", "peer", "late"])
def test_a_denied_peer_gets_nothing_and_its_datagrams_are_counted(by):
    def answer(event):
        if isinstance(event, UdpDestination):
            if by == "peer":
                event.peer.deny("not that one")
                return Pass()
            if by == "late":
                return later()
            return Deny("not that one")
        return Pass()

    async def later():
        return Deny("not that one")

    async def scenario(gate: Gate) -> None:
        world = World(gate)
        world.client().send(b"1", b"2", b"3")
        await gate.until(gate.service.connections)
        await gate.idle_udp()
        assert world.got == []

    plan = udp("told", installed=[installation(Told(answer), "told")])
    gate = play_udp(scenario, plan)

    assert gate.ends[0].dropped == {"peer-denied": 3}
    assert [(r.verdict, r.reason, r.target) for r in gate.decisions] == [
        ("allowed", "published", str(SERVER)),
        ("denied", "not that one", str(SERVER)),
    ]


def test_a_denied_bind_is_no_connection():
    async def scenario(gate: Gate) -> None:
        world = World(gate)
        world.client().send(b"1", b"2")
        await gate.until(lambda: gate.service.denied == 2)
        assert world.got == []

    told = Told(lambda event: Deny("never") if isinstance(event, UdpBindRequested) else Pass())
    gate = play_udp(scenario, udp("told", installed=[installation(told, "told")]))

    assert [(r.verdict, r.reason) for r in gate.decisions] == [("denied", "never")]
    assert names(told) == ["UdpBindRequested", "ConnectionTerminating"]


def test_datagrams_wait_for_a_slow_answer_up_to_a_bound():
    async def slowly():
        await asyncio.sleep(1.0)
        return Pass()

    async def scenario(gate: Gate) -> None:
        client = World(gate).client()
        client.send(*[b"%d" % number for number in range(9)])
        assert await client.answered(4) == [b"re:0", b"re:1", b"re:2", b"re:3"]
        await gate.idle_udp()

    told = Told(lambda event: slowly() if isinstance(event, UdpBindRequested) else Pass())
    plan = udp("told", installed=[installation(told, "told")])
    gate = play_udp(scenario, plan, udp_awaiting_max=4)

    assert gate.ends[0].dropped == {"awaiting": 5}


def test_a_filter_attached_for_a_peer_sees_all_and_is_gone_with_it():
    made = []

    def answer(event):
        if isinstance(event, UdpDestination) and not made:
            made.append(Inline())
            event.attach_data_filter(made[0], peer=event.address)
        return Pass()

    async def scenario(gate: Gate) -> None:
        client = World(gate).client()
        client.send(b"1")
        await client.answered(1)
        assert made[0].detached == 0
        await gate.until(lambda: made[0].detached)
        assert gate.service.connection_count == 1, "the connection outlives it"
        client.send(b"2")
        assert await client.answered(2) == [b"re:1", b"re:2"]

    play_udp(
        scenario,
        udp("told", installed=[installation(Told(answer), "told")]),
        udp_peer_idle_s=10.0,
    )

    assert [data for _, _, data in made[0].seen] == [b"1", b"re:1"]
    assert made[0].detached == 1


@pytest.mark.parametrize("seed", range(12))
def test_on_a_bad_network_nothing_is_invented_and_everything_is_recorded(seed):
    async def scenario(gate: Gate) -> None:
        world = World(gate)
        clients = [world.client(f"10.1.1.{number}") for number in range(1, 4)]
        for turn in range(30):
            for number, client in enumerate(clients):
                try:
                    client.send(b"%d-%d" % (number, turn))
                except OSError:
                    continue
        await asyncio.sleep(30)
        for number, client in enumerate(clients):
            assert {data.split(b"-")[0] for data, _ in client.got} <= {b"re:%d" % number}
        await gate.idle_udp()

    gate = play_udp(scenario, seed=seed, faults=FaultPlan.hostile())

    assert len(gate.ends) == len([r for r in gate.decisions if r.verdict == "allowed"])
