"""Every event of the model in a playbook: binds, lookups, datagrams and their peers."""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Callable
from typing import Any

import pytest

from sluicegate.address import SocketAddress
from sluicegate.audit import ConnectionRecord
from sluicegate.filterapi import (
    DROP,
    FORWARD,
    AddressLookup,
    Connection,
    ConnectionAccepted,
    ConnectionTerminating,
    ConnectRequested,
    Cut,
    DataFilter,
    DatagramFilter,
    DataSocket,
    Deny,
    Emulate,
    Event,
    Events,
    ListenRequested,
    NameLookup,
    Pass,
    Rewrite,
    TcpBindRequested,
    UdpBindRequested,
    UdpDestination,
)
from sluicegate.testing import FaultPlan, Playbook, PlaybookError
from tests.flows.model_kit import PlayingEcho, Telling

WWW = ipaddress.ip_address("93.184.216.34")
NAMES = {"www.example": ["93.184.216.34"], "93.184.216.34": ["www.example"]}


def telling(*kinds: type[Event], answer: Callable[[Any], Any] = lambda event: Pass()) -> Telling:
    return Telling(answer, Events.of(*kinds))


# -- lookups ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["socks5", "socks4", "http-connect"])
def test_client_of_a_proxy_reaches_what_it_names(by: str) -> None:
    filters = telling(NameLookup, ConnectRequested, ConnectionTerminating)
    with Playbook(filters, names=NAMES) as play:
        visit = play.connect_by_proxy("www.example", 443, by=by)
        assert visit.answer == "granted"
        visit.client.sends(b"hello")
        visit.server.receives(b"hello")
        visit.server.sends(b"welcome")
        visit.client.receives(b"welcome")
        visit.client.ends()
        visit.server.ends()
        visit.expect_released()
        assert play.names.asked["www.example"] == 2
    assert filters.names() == [
        "NameLookup",
        "NameLookup",
        "ConnectRequested",
        "ConnectionTerminating",
    ]
    before, after = filters.of(NameLookup)
    assert (before.is_before, before.host) == (True, "www.example")
    assert (after.is_before, after.addresses) == (False, (WWW,))


def test_denied_lookup_is_a_refusal_and_no_question() -> None:
    with Playbook(telling(NameLookup, answer=lambda _: Deny("not here")), names=NAMES) as play:
        visit = play.connect_by_proxy("www.example")
        assert visit.answer == "refused: reply 4"
        visit.client.receives_reset()
        visit.expect_refused(re.compile(".*not here.*"))
        assert not play.names.asked


def test_filter_that_answers_in_dns_place_leads_elsewhere() -> None:
    def answer(event: Any) -> Any:
        if event.is_before:
            event.set_result([ipaddress.ip_address("93.184.216.99")])
        return Pass()

    with Playbook(telling(NameLookup, answer=answer), names=NAMES) as play:
        play.server_at("93.184.216.99:443")
        visit = play.connect_by_proxy("www.example")
        assert visit.answer == "granted"
        visit.client.sends(b"x")
        visit.server.receives(b"x")
        assert not play.names.asked


def test_unknown_name_is_refused() -> None:
    with Playbook(names=NAMES) as play:
        assert play.connect_by_proxy("other.example").answer == "refused: reply 4"


def test_way_that_there_is_not_is_named() -> None:
    with Playbook() as play, pytest.raises(ValueError, match="socks5, socks4, http-connect"):
        play.connect_by_proxy("www.example", by="gopher")


class Naming(DataFilter):
    """Asks which names its server has, and tells the client."""

    name = "naming"

    async def run(
        self, client: DataSocket, server: DataSocket | None, connection: Connection
    ) -> None:
        names = await connection.session.host_by_address(connection, WWW)
        await client.send(" ".join(names).encode() or b"none")


@pytest.mark.parametrize(("denied", "told"), [(False, b"www.example"), (True, b"none")])
def test_address_lookup_of_a_filter_is_told_to_filters(denied: bool, told: bytes) -> None:
    filters = telling(AddressLookup, answer=lambda _: Deny("secret") if denied else Pass())
    with Playbook(filters, Naming, names=NAMES) as play:
        play.client.receives(told)
    assert [event.is_before for event in filters.seen] == ([True] if denied else [True, False])


# -- binds -----------------------------------------------------------------------------------------

BINDS = (TcpBindRequested, ListenRequested, ConnectionAccepted)


def test_bind_of_a_client_is_told_and_brings_its_peer() -> None:
    filters = telling(*BINDS)
    with Playbook(filters) as play:
        bound = play.bind_by_proxy("93.184.216.34")
        assert bound.answer == "granted"
        assert bound.address is not None
        bound.comes_from("93.184.216.34:0")
        bound.server.sends(b"hello")
        bound.client.receives(b"hello")
        bound.client.sends(b"thanks")
        bound.server.receives(b"thanks")
    assert filters.names() == ["TcpBindRequested", "ListenRequested", "ConnectionAccepted"]


def test_stranger_does_not_get_into_a_bind() -> None:
    with Playbook(telling(*BINDS)) as play:
        bound = play.bind_by_proxy("93.184.216.34")
        bound.comes_from("93.184.216.35:0")
        bound.server.receives_reset()
        assert not bound.client.is_connected


@pytest.mark.parametrize("kind", [TcpBindRequested, ConnectionAccepted])
def test_denied_bind_or_peer_is_told_to_the_client(kind: type[Event]) -> None:
    filters = telling(*BINDS, answer=lambda event: Deny("no") if type(event) is kind else Pass())
    with Playbook(filters) as play:
        bound = play.bind_by_proxy("93.184.216.34")
        if kind is ConnectionAccepted:
            bound.comes_from("93.184.216.34:0")
        assert bound.answer.startswith("refused")
        if kind is TcpBindRequested:
            with pytest.raises(PlaybookError, match="no bind to connect to"):
                bound.comes_from()


def test_emulated_bind_brings_a_connection_without_a_peer() -> None:
    binds: list[Any] = []

    def answer(event: Any) -> Any:
        if type(event) is TcpBindRequested:
            event.bind.set_socket_name(SocketAddress.parse("10.0.0.1:999"))
            binds.append(event.bind)
            return Emulate()
        return Pass()

    with Playbook(telling(*BINDS, answer=answer)) as play:
        bound = play.bind_by_proxy("93.184.216.34")
        assert str(bound.address) == "10.0.0.1:999"
        binds[0].emulate_connection(PlayingEcho(), SocketAddress.parse("93.184.216.34:20"))
        play.settle()
        bound.client.sends(b"echo")
        bound.client.receives(b"echo")


# -- datagrams -------------------------------------------------------------------------------------


class Judge(DatagramFilter):
    """Lets pass, rewrites, drops or cuts by the datagram's first byte."""

    name = "judge"

    def on_datagram(self, side: Any, peer: Any, window: Any) -> Any:
        data = bytes(window)
        if data.startswith(b"r"):
            return Rewrite(b"rewritten")
        return DROP if data.startswith(b"d") else Cut("cut") if data == b"cut" else FORWARD


def test_datagrams_pass_are_rewritten_dropped_and_end_the_connection() -> None:
    with Playbook(Judge) as play:
        talk = play.connect_udp()
        talk.client.sends(b"pass", b"r", b"d", b"", b"last")
        talk.server.receives(b"pass", b"rewritten", b"", b"last")
        talk.server.sends(b"answer", b"d", b"r")
        talk.client.receives(b"answer", b"rewritten")
        talk.expect_open()
        talk.client.sends(b"cut")
        talk.server.receives_nothing()
        talk.expect_refused("cut")


def test_two_clients_are_two_connections() -> None:
    with Playbook(Judge) as play:
        one, two = play.connect_udp(), play.connect_udp(client="10.1.1.2:0")
        one.client.sends(b"one")
        heard = one.server.heard_from
        two.client.sends(b"two")
        assert two.server is one.server
        assert heard != one.server.heard_from
        one.server.receives(b"one", b"two")
        one.server.sends(b"for one", to=heard)
        one.client.receives(b"for one")
        two.client.receives_nothing()


def test_stranger_does_not_answer_in_the_servers_place() -> None:
    with Playbook(Judge) as play:
        talk = play.connect_udp()
        talk.client.sends(b"x")
        play.datagram_server("10.9.9.8:53").sends(b"forged", to=talk.server.heard_from)
        talk.client.receives_nothing()
        assert play.records_of(ConnectionRecord) == [], "it is open still, for who was asked"


def test_silent_udp_connection_ends_and_is_recorded() -> None:
    with Playbook(Judge, limits={"udp_idle_timeout_s": 60.0}) as play:
        talk = play.connect_udp()
        talk.client.sends(b"x")
        play.wait(70)
        talk.expect_released()
        assert talk.reason == "idle"
        (record,) = play.records_of(ConnectionRecord)
        assert record.datagrams_to_server == 1


def test_events_of_a_published_port_are_told_and_deny_it() -> None:
    filters = telling(UdpBindRequested, UdpDestination)
    with Playbook(filters) as play:
        play.connect_udp().client.sends(b"x")
    assert filters.names() == ["UdpBindRequested", "UdpDestination"]
    with Playbook(telling(UdpBindRequested, answer=lambda _: Deny("not you"))) as play:
        talk = play.connect_udp()
        talk.client.sends(b"x")
        talk.server.receives_nothing()
        talk.expect_refused("not you")


def test_association_reaches_many_and_one_peer_is_denied() -> None:
    def answer(event: Any) -> Any:
        return Deny("not that one") if event.address.host == "93.184.216.35" else Pass()

    with Playbook(telling(UdpDestination, answer=answer)) as play:
        good = play.datagram_server("93.184.216.34:53")
        bad = play.datagram_server("93.184.216.35:53")
        client = play.associate()
        client.sends(b"one", to="93.184.216.34:53")
        client.sends(b"two", to="93.184.216.35:53")
        good.receives(b"one")
        bad.receives_nothing()
        good.sends(b"answer")
        client.receives(b"answer")
        assert client.heard_from == good.address
        client.ends()
        dropped = [one.dropped for one in play.records_of(ConnectionRecord) if one.dropped]
        assert dropped == [{"peer-denied": 1}]


def test_association_of_a_named_destination_looks_it_up() -> None:
    filters = telling(NameLookup)
    with Playbook(filters, names=NAMES) as play:
        server = play.datagram_server("93.184.216.34:53")
        client = play.associate()
        client.sends(b"by name", to="www.example:53")
        server.receives(b"by name")
    assert filters.names() == ["NameLookup", "NameLookup"]


def test_filter_for_one_peer_is_attached_by_its_event() -> None:
    def answer(event: Any) -> Any:
        event.attach_data_filter(Judge(), peer=event.address)
        return Pass()

    with Playbook(telling(UdpDestination, answer=answer)) as play:
        server = play.datagram_server("93.184.216.34:53")
        client = play.associate()
        client.sends(b"r", to=server.address)
        server.receives(b"rewritten")
        assert server.heard_from is not None


class Passing(DataFilter):
    """Leaves at once, whatever it is attached to."""

    async def run(self, client: Any, server: Any, connection: Connection) -> None:
        return


@pytest.mark.parametrize("seed", range(4))
def test_disorder_of_the_network_is_no_disorder_of_the_playbook(seed: int) -> None:
    with Playbook(Passing, faults=FaultPlan.disorder(), seed=seed, names=NAMES) as play:
        assert play.connect_by_proxy("www.example").answer == "granted"
        talk = play.connect_udp()
        talk.client.sends(b"a", b"b")
        assert sorted(talk.server.reads()) == [b"a", b"b"]


# -- mistakes of the test --------------------------------------------------------------------------


def test_datagrams_that_differ_are_shown() -> None:
    with Playbook(Judge) as play:
        talk = play.connect_udp()
        talk.client.sends(b"hello")
        with pytest.raises(PlaybookError) as caught:
            talk.server.receives(b"help", b"me")
    assert str(caught.value) == (
        'the server was to receive other datagrams\n- "help"\n- "me"\n+ "hello"'
    )


def test_server_that_heard_of_nobody_cannot_send() -> None:
    with Playbook(Judge) as play, pytest.raises(PlaybookError, match="heard of nobody"):
        play.connect_udp().server.sends(b"x")


def test_association_needs_a_destination() -> None:
    with Playbook(Judge) as play, pytest.raises(PlaybookError, match="where each datagram goes"):
        play.associate().sends(b"x")


def test_who_asked_a_proxy_has_no_conversation() -> None:
    with Playbook(names=NAMES) as play:
        visit = play.connect_by_proxy("www.example")
        with pytest.raises(PlaybookError, match="no conversation"):
            _ = visit.conversation


def test_datagram_filter_that_raises_is_shown() -> None:
    class Broken(DatagramFilter):
        def on_datagram(self, side: Any, peer: Any, window: Any) -> Any:
            raise ValueError("boom")

    with Playbook(Broken) as play:
        talk = play.connect_udp()
        talk.client.sends(b"x")
        talk.expect_refused(re.compile("filter failure: Broken.*"))
        play.expect_filter_failure()
    with pytest.raises(PlaybookError, match="boom"), Playbook(Broken) as play:
        play.connect_udp().client.sends(b"x")


def test_coroutine_that_judges_datagrams_runs_in_a_playbook() -> None:
    class Bracketed(DataFilter):
        name = "bracketed"

        async def run(self, client: Any, server: Any, connection: Connection) -> None:
            while True:
                window, peer = await client.receive_from()
                await asyncio.sleep(0)
                await server.send_to(b"<" + bytes(window) + b">", peer)

    with Playbook(Bracketed) as play:
        talk = play.connect_udp()
        talk.client.sends(b"x")
        talk.server.receives(b"<x>")
    (record,) = play.records_of(ConnectionRecord)
    assert record.datagrams_to_server == 1
