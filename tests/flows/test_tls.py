"""TLS on a proxy listener, whole gates on the simulated port: the layer, its ends, its limits."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from sluicegate.filterapi import EntryMode
from sluicegate.gate.entry_dialogue import Authenticate
from sluicegate.testing import FaultPlan
from sluicegate.testing.peers import PeerStream
from sluicegate.tls import ClientCertificates
from tests.flows.chain_filters import Passing
from tests.flows.entry_kit import MODES, REFUSED, WEB, Ask, Reply, asks, proxy_settings, says_hello
from tests.flows.gate_kit import Gate, echoes, installation, play
from tests.pki import authority

from .tls_kit import TlsPeer, client_context, inside_tls, with_tls

every_mode = pytest.mark.parametrize("mode", MODES)
PLAN = with_tls(proxy_settings())
HOST = "93.184.216.34"
CONNECT = Ask(EntryMode.HTTP_CONNECT, HOST)
LARGE = bytes(range(256)) * 4096

Then = Callable[[TlsPeer], Coroutine[Any, Any, bytes]]


def visit(
    peer: Callable[[PeerStream], Coroutine[Any, Any, Any]],
    *,
    serve: Callable[[PeerStream], Coroutine[Any, Any, Any]] = echoes,
    plan: Any = PLAN,
    **options: Any,
) -> tuple[Any, Gate]:
    """Let one client in; return what it saw, and the gate."""
    seen: list[Any] = []

    async def scenario(gate: Gate) -> None:
        gate.serve(serve, address=WEB)
        seen.extend(await gate.ended(gate.call(peer)))
        await gate.idle()
        await gate.until(lambda: gate.service.entries.handshake_count == 0)

    gate = play(scenario, plan, **options)
    return seen[0], gate


def tunnelled(then: Then, ask: Ask = CONNECT, **options: Any) -> tuple[Any, Gate]:
    """Go on in a tunnel."""

    async def peer(stream: PeerStream) -> bytes:
        tls = TlsPeer(stream)
        await tls.shake_hands()
        await tls.send_all(ask.wire())
        assert b" 200 " in await tls.receive_until(b"\r\n\r\n")
        return await then(tls)

    return visit(peer, **options)


@every_mode
def test_a_client_asks_and_is_served_inside_tls(mode: EntryMode) -> None:
    reply, gate = visit(inside_tls(asks(Ask(mode, HOST), says_hello)))
    assert reply.is_granted
    assert reply.tunnelled == b"hello"
    assert [one.outcome for one in gate.ends] == ["released"]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@every_mode
def test_every_byte_may_come_alone(mode: EntryMode, version: ssl.TLSVersion) -> None:
    async def peer(stream: PeerStream) -> Reply:
        tls = TlsPeer(stream, client_context(minimum=version, maximum=version))
        tls.most_sent = 1
        await tls.shake_hands()
        reply = await asks(Ask(mode, HOST), says_hello)(tls)
        assert isinstance(reply, Reply)
        return reply

    reply, _ = visit(peer, faults=FaultPlan(short_receive=1.0))
    assert reply.tunnelled == b"hello"


def test_handshake_and_request_may_come_with_the_first_bytes_of_the_tunnel() -> None:
    async def peer(stream: PeerStream) -> bytes:
        tls = TlsPeer(stream)
        await tls.shake_hands()
        await tls.send_all(CONNECT.wire() + b"early")
        await tls.receive_until(b"\r\n\r\n")
        echoed = await tls.receive_exactly(5)
        tls.close()
        return echoed

    assert visit(peer)[0] == b"early"


# -- much ------------------------------------------------------------------------------------------


async def both_ways(tls: TlsPeer) -> bytes:
    """Send much in pieces, and read the echo meanwhile."""
    back = bytearray()
    for start in range(0, len(LARGE), 50_000):
        await tls.send_all(LARGE[start : start + 50_000])
        back += await tls.receive_exactly(len(LARGE[start : start + 50_000]))
    tls.end_stream()
    return bytes(back) + await tls.receive_all()


@pytest.mark.parametrize("seed", range(20))
def test_much_goes_both_ways_whatever_the_network_does_to_it(seed: int) -> None:
    faults = FaultPlan(short_receive=0.3, partial_send=0.3, multishot_end=0.2, late_result=0.2)
    seen, gate = tunnelled(both_ways, seed=seed, faults=faults)
    assert seen == LARGE
    (end,) = gate.ends
    assert (end.bytes_to_server, end.bytes_to_client) == (len(LARGE), len(LARGE))


def slots_made(gate: Gate) -> int:
    """Large ones."""
    return sum(one.is_bulk for one in gate.service.entries.tls.pool.slots)


@pytest.mark.parametrize(
    ("piece", "is_bulky"),
    [
        # As many bytes as the others send, in pieces that each fill less than a slot.
        (1_000, False),
        (200_000, True),
    ],
)
def test_who_fills_slots_is_read_in_large_ones(piece: int, is_bulky: bool) -> None:
    async def send_much(tls: TlsPeer) -> bytes:
        back = bytearray()
        for start in range(0, 400_000, piece):
            await tls.send_all(LARGE[start : start + piece])
            back += await tls.receive_exactly(piece)
        tls.end_stream()
        return bytes(back) + await tls.receive_all()

    seen, gate = tunnelled(send_much)
    assert seen == LARGE[:400_000]
    assert bool(slots_made(gate)) is is_bulky
    assert gate.service.entries.tls.pool.out_count == 0


def test_who_goes_on_with_small_things_gives_large_slots_up() -> None:
    found: list[bool] = []

    async def scenario(gate: Gate) -> None:
        async def peer(stream: PeerStream) -> None:
            tls = TlsPeer(stream)
            await tls.shake_hands()
            await tls.send_all(CONNECT.wire())
            await tls.receive_until(b"\r\n\r\n")
            (driver,) = gate.service.entries.tls.streams
            for size in (200_000, 100, 100, 200_000):
                await tls.send_all(LARGE[:size])
                assert await tls.receive_exactly(size) == LARGE[:size]
                found.append(driver.is_bulky)
            tls.close()

        gate.serve(echoes, address=WEB)
        await gate.ended(gate.call(peer))
        await gate.idle()

    play(scenario, PLAN)
    assert found[1:3] == [False, False]
    assert found[3]


def test_a_client_that_does_not_read_stops_the_server_and_loses_nothing() -> None:
    sent: list[int] = []

    async def server(stream: PeerStream) -> None:
        for _ in range(64):
            await stream.send_all(LARGE[:65536])
            sent.append(65536)
        stream.close()

    async def slow(tls: TlsPeer) -> bytes:
        first = await tls.receive_exactly(1000)
        held = sum(sent)
        assert held < 64 * 65536, "the server was not stopped"
        rest = await tls.receive_all()
        tls.close()
        return first + rest

    seen, gate = tunnelled(slow, serve=server)
    assert seen == LARGE[:65536] * 64
    assert [one.outcome for one in gate.ends] == ["released"]


# -- ends ------------------------------------------------------------------------------------------


def test_both_streams_end_by_themselves() -> None:
    """The client ends its stream, and reads on; the server answers to the end, later."""

    async def server(stream: PeerStream) -> None:
        data = await stream.receive_all()
        await stream.send_all(b"got %d" % len(data))
        stream.close()

    async def client(tls: TlsPeer) -> bytes:
        await tls.send_all(LARGE)
        tls.end_stream()
        return await tls.receive_all()

    assert tunnelled(client, serve=server)[0] == b"got %d" % len(LARGE)


def test_a_client_may_go_on_after_the_server_has_ended() -> None:
    """What was received and not delivered when we said goodbye must not be lost."""
    received: list[bytes] = []

    async def server(stream: PeerStream) -> None:
        await stream.send_all(b"that is all")
        stream.end_stream()
        received.append(await stream.receive_all())

    async def client(tls: TlsPeer) -> bytes:
        first = await tls.receive_all()
        await tls.send_all(LARGE)
        tls.end_stream()
        return first

    seen, gate = tunnelled(client, serve=server)
    assert seen == b"that is all"
    assert received == [LARGE]
    assert [one.outcome for one in gate.ends] == ["released"]


@pytest.mark.parametrize("how", ["cut off", "reset"])
def test_a_stream_that_is_cut_off_is_an_error_and_no_end(how: str) -> None:
    ends: list[object] = []

    async def server(stream: PeerStream) -> None:
        try:
            ends.append(await stream.receive_all())
        except OSError as error:
            ends.append(error)

    async def client(tls: TlsPeer) -> bytes:
        await tls.send_all(b"half of it")
        if how == "reset":
            tls.reset()
        else:
            tls.stream.close()
        return b""

    _, gate = tunnelled(client, serve=server)
    assert isinstance(ends[0], OSError), "the server took it for an end"
    (end,) = gate.ends
    assert (end.outcome, end.error, end.side) == ("failed", "ECONNRESET", "client")


def test_garbage_in_the_middle_ends_the_connection() -> None:
    async def client(tls: TlsPeer) -> bytes:
        await tls.stream.send_all(b"\x17\x03\x03\x00\x20" + bytes(32))
        try:
            return await tls.receive_all()
        except (ssl.SSLError, OSError) as error:
            return type(error).__name__.encode()

    seen, gate = tunnelled(client)
    assert seen != b""
    (end,) = gate.ends
    assert (end.outcome, end.error) == ("failed", "EPROTO")


# -- before the handshake is done ------------------------------------------------------------------


def test_nothing_in_clear_is_read_or_answered() -> None:
    async def client(stream: PeerStream) -> bytes:
        await stream.send_all(CONNECT.wire())
        return await stream.receive_all()

    seen, gate = visit(client)
    assert b"HTTP" not in seen
    (record,) = gate.decisions
    assert (record.verdict, record.entry, record.target) == ("denied", "", "")
    assert record.reason == "tls-failed: https proxy request"


def test_a_handshake_has_its_time_and_no_more() -> None:
    async def client(stream: PeerStream) -> bytes:
        tls = TlsPeer(stream)
        with pytest.raises(ssl.SSLWantReadError):
            tls.tls.do_handshake()
        await stream.send_all(tls.outgoing.read()[:100])
        try:
            return await stream.receive_all()
        except OSError:
            return b"reset"

    seen, gate = visit(client)
    assert seen in {b"reset", b""}
    assert [one.reason for one in gate.decisions] == ["handshake-timeout"]


def test_handshakes_are_bounded_as_clients_are() -> None:
    async def waits(stream: PeerStream) -> bytes:
        try:
            return await stream.receive_all()
        except OSError:
            return b"reset"

    async def scenario(gate: Gate) -> None:
        await gate.ended(*[gate.call(waits) for _ in range(4)])

    gate = play(scenario, PLAN, handshakes_max=2)
    assert sorted(one.reason for one in gate.decisions) == [
        *["handshake-timeout"] * 2,
        *["limit handshakes_max"] * 2,
    ]


def test_who_connects_and_closes_is_no_failed_handshake() -> None:
    async def client(stream: PeerStream) -> None:
        stream.close()

    _, gate = visit(client)
    assert [one.reason for one in gate.decisions] == ["client-left"]


def test_an_alert_reaches_the_client_whose_handshake_failed() -> None:
    async def client(stream: PeerStream) -> str:
        try:
            await TlsPeer(stream, client_context()).shake_hands()
            tls = TlsPeer(stream)
            return await tls.receive_all() and ""
        except ssl.SSLError as error:
            return str(error.reason)

    plan = with_tls(proxy_settings(), minimum=ssl.TLSVersion.TLSv1_3)

    async def old(stream: PeerStream) -> str:
        context = client_context(maximum=ssl.TLSVersion.TLSv1_2)
        try:
            await TlsPeer(stream, context).shake_hands()
        except ssl.SSLError as error:
            return str(error.reason)
        return "done"

    seen, gate = visit(old, plan=plan)
    assert seen == "TLSV1_ALERT_PROTOCOL_VERSION"
    assert [one.reason for one in gate.decisions] == ["tls-failed: unsupported protocol"]


# -- certificates ----------------------------------------------------------------------------------


CLIENTS = authority("clients")
CERTIFIED = {
    "client_certificates": ClientCertificates.REQUIRED,
    "client_authorities": CLIENTS.pem,
}
RULE = '[[rule]]\nname = "staff"\nto = ["*"]\nusers = ["group:staff"]\n'


@every_mode
@pytest.mark.parametrize("authenticate", list(Authenticate))
def test_whose_certificate_names_a_user_is_that_user(
    mode: EntryMode, authenticate: Authenticate
) -> None:
    plan = with_tls(proxy_settings(RULE, authenticate=authenticate), **CERTIFIED)
    peer = inside_tls(asks(Ask(mode, HOST), says_hello), client_context(CLIENTS.client("ann")))
    reply, gate = visit(peer, plan=plan)
    assert reply.tunnelled == b"hello"
    assert [one.user for one in gate.decisions] == ["ann"]


def test_credentials_of_somebody_else_are_not_looked_at_behind_a_certificate() -> None:
    plan = with_tls(proxy_settings(RULE, authenticate=Authenticate.REQUIRED), **CERTIFIED)
    ask = Ask(EntryMode.HTTP_CONNECT, HOST, user="bob", password="wrong")
    reply, gate = visit(
        inside_tls(asks(ask, says_hello), client_context(CLIENTS.client("ann"))), plan=plan
    )
    assert reply.is_granted
    assert [one.user for one in gate.decisions] == ["ann"]


@every_mode
def test_whose_certificate_names_nobody_gets_nothing(mode: EntryMode) -> None:
    plan = with_tls(proxy_settings(RULE), **CERTIFIED)
    peer = inside_tls(asks(Ask(mode, HOST), says_hello), client_context(CLIENTS.client("zoe")))
    reply, gate = visit(peer, plan=plan)
    assert reply.code == REFUSED[mode]
    (record,) = gate.decisions
    assert record.reason == "certificate-refused: there is no user zoe"
    assert (record.user, record.target) == ("", f"{HOST}:443")


# -- filters ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_data_filters_see_what_is_inside_tls(seed: int) -> None:
    plan = with_tls(
        proxy_settings(
            f'[[rule]]\nname = "web"\nto = ["{HOST}"]\nfilters = ["one", "two"]\n',
            filters=[installation(Passing, "one"), installation(Passing, "two")],
        )
    )
    faults = FaultPlan(short_receive=0.2, partial_send=0.2)
    seen, gate = tunnelled(both_ways, plan=plan, seed=seed, faults=faults)
    assert seen == LARGE
    assert [one.outcome for one in gate.ends] == ["released"]
