"""Groups N2, N4 and N5 of the hostile cases: who stays and says nothing, and heads without measure.

``test_flood`` has what one client may have at once and in a minute (N3), in the same ways.
"""

# ruff: noqa: E501 - one line a case

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from sluicegate.filterapi import EntryMode
from sluicegate.gate.settings import ServiceSettings
from sluicegate.policy import FloodBounds
from sluicegate.protocol_limits import (
    CONNECT_FIELDS_MAX,
    CONNECT_HEAD_BYTES_MAX,
    CONNECT_LINE_BYTES_MAX,
    SOCKS_USER_ID_BYTES_MAX,
)
from sluicegate.testing.peers import PeerStream
from tests.flows.entry_kit import CARRIAGES, RULES, WEB, Ask, Names, proxy_settings
from tests.flows.gate_kit import Gate, echoes, play, what_comes
from tests.flows.test_flood import begins, every_way, run
from tests.flows.tls_kit import TlsPeer, with_tls

every_carriage = pytest.mark.parametrize("carriage", CARRIAGES)


def plan_in(carriage: str, policy: str = RULES) -> ServiceSettings:
    plan = proxy_settings(policy)
    return with_tls(plan) if carriage == "tls" else plan


def come(
    peer: Callable[[PeerStream], Coroutine[Any, Any, bytes]], carriage: str
) -> Callable[[PeerStream], Coroutine[Any, Any, bytes]]:
    """Let a client come in clear or inside TLS; what it sends is inside."""

    async def inside(stream: PeerStream) -> bytes:
        tls = TlsPeer(stream)
        try:
            await tls.shake_hands()
        except OSError as error:
            return f"<{error.errno}>".encode()
        return await peer(tls)

    return inside if carriage == "tls" else peer


# -- N2: idle --------------------------------------------------------------------------------------


@every_way
def test_n2_clients_that_stay_and_say_nothing_are_ended_and_make_room(way: str) -> None:
    async def scenario(gate: Gate) -> None:
        idle = [gate.call(begins(way)) for _ in range(50)]
        await asyncio.sleep(1.0)
        # (The sixth and later ones are turned away; those who are in are ended.)
        assert 0 < gate.service.connection_count <= 5
        await gate.ended(*idle)
        await gate.idle()
        again = gate.call(begins(way))
        await asyncio.sleep(1.0)
        assert not again.is_done, "who was ended does not count any more"
        await gate.ended(again)

    bounds = FloodBounds(connections_max=5, udp_sessions_max=5)
    gate = run(
        way,
        scenario,
        bounds,
        idle_timeout_s=30.0,
        udp_idle_timeout_s=30.0,
        expected_connection_timeout_s=30.0,
    )
    assert all(end.duration_s <= 60 for end in gate.ends)


# what a client sends before it falls silent
UNFINISHED = {
    "nothing": b"",
    "half a greeting": b"\5",
    "a greeting": b"\5\1\0",
    "half a SOCKS 5 request": b"\5\1\0\5\1\0\3\x0bwww.exam",
    "half a SOCKS 4 request": b"\4\1\1\xbb",
    "a user id without end": b"\4\1\1\xbb\0\0\0\1me",
    "a name without end": b"\4\1\1\xbb\0\0\0\1me\0www.exam",
    "a method": b"CONNECT ",
    "half a line": b"CONNECT www.example:443 HT",
    "a line": b"CONNECT www.example:443 HTTP/1.1\r\n",
    "all but the last byte": b"CONNECT www.example:443 HTTP/1.1\r\nHost: www.example:443\r\n\r",
}


@every_carriage
@pytest.mark.parametrize("start", UNFINISHED.values(), ids=UNFINISHED)
@pytest.mark.parametrize("is_trickling", [False, True], ids=["silent", "trickling"])
def test_n1_n2_requests_that_are_never_finished_are_bounded_and_ended(
    start: bytes, is_trickling: bool, carriage: str
) -> None:
    gates: list[Gate] = []

    async def slow(stream: PeerStream) -> bytes:
        try:
            for byte in start if is_trickling else ():
                await stream.send_all(bytes([byte]))
                await gates[0].peers.sleep(0.5)
            await stream.send_all(b"" if is_trickling else start)
        except OSError:
            pass  # its time is over, whatever it goes on to send
        return await what_comes(stream)

    async def scenario(gate: Gate) -> None:
        gates.append(gate)
        many = [gate.call(come(slow, carriage)) for _ in range(20)]
        await asyncio.sleep(1.0)
        assert gate.service.entries.handshake_count <= 4
        await asyncio.sleep(gate.service.limits.handshake_timeout_s + 1)
        assert gate.service.entries.handshake_count == 0
        await gate.ended(*many)
        await gate.idle()

    gate = play(scenario, plan_in(carriage), exchange=Names(), flood=FloodBounds(half_open_max=4))
    assert not gate.ends
    assert all(one.verdict == "denied" for one in gate.decisions)


# -- N4, N5: heads ---------------------------------------------------------------------------------

HOST = b"www.example:443"


def head(*fields: bytes, target: bytes = HOST) -> bytes:
    lines = [b"CONNECT %s HTTP/1.1" % target, b"Host: " + target, *fields]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def filled(size: int) -> bytes:
    """A head of so many bytes, in lines that are within their bound."""
    full = b"X: " + b"a" * (CONNECT_LINE_BYTES_MAX - 3)
    rest = size - len(head(full, b"Y: "))
    return head(full, b"Y: " + b"a" * rest)


def socks4(user: bytes, name: bytes) -> bytes:
    return b"\4\1\1\xbb\0\0\0\1" + user + b"\0" + name + b"\0"


# what a client sends, whether it is let through
HEADS = {
    "N4 a line at its bound": (head(b"X: " + b"a" * (CONNECT_LINE_BYTES_MAX - 3)), True),
    "N4 a line beyond": (head(b"X: " + b"a" * (CONNECT_LINE_BYTES_MAX - 2)), False),
    "N4 a line of a mebibyte": (head(b"X: " + b"a" * (1 << 20)), False),
    "N4 a head at its bound": (filled(CONNECT_HEAD_BYTES_MAX), True),
    "N4 a head beyond": (filled(CONNECT_HEAD_BYTES_MAX + 1), False),
    "N4 as many fields as may be": (head(*[b"X%d: a" % n for n in range(CONNECT_FIELDS_MAX - 1)]), True),
    "N4 one more": (head(*[b"X%d: a" % n for n in range(CONNECT_FIELDS_MAX)]), False),
    "N4 a hundred thousand": (head(*[b"X: a"] * 100_000), False),
    "N4 a method of 10 KiB": (b"C" * 10240 + b" www.example:443 HTTP/1.1\r\n\r\n", False),
    "N4 a line that never ends": (b"CONNECT " + b"a" * (1 << 20), False),
    "N5 a target of 64 KiB": (head(target=b"a" * 65536 + b":443"), False),
    "N5 a target of labels": (head(target=b"a." * 32768 + b"example:443"), False),
    "N5 a name of 254 bytes": (head(target=b"a." * 123 + b"examplex:443"), False),
    "N5 a label of 64 bytes": (head(target=b"a" * 64 + b".example:443"), False),
    "N5 a port of 64 KiB": (head(target=b"www.example:" + b"4" * 65536), False),
    "N5 an address of 64 KiB": (head(target=b"[" + b"0:" * 32768 + b":1]:443"), False),
    "N4 a user id at its bound": (socks4(b"u" * SOCKS_USER_ID_BYTES_MAX, b"www.example"), True),
    "N4 a user id beyond": (socks4(b"u" * (SOCKS_USER_ID_BYTES_MAX + 1), b"www.example"), False),
    "N4 a user id of a mebibyte": (socks4(b"u" * (1 << 20), b"www.example"), False),
    "N5 a SOCKS 4 name of 64 KiB": (socks4(b"me", b"a" * 65536), False),
    "N5 a SOCKS 5 name of 255 bytes": (b"\5\1\0\5\1\0\3\xff" + b"a." * 124 + b"example\x01\xbb", False),
    "N5 a SOCKS 5 name of none": (b"\5\1\0\5\1\0\3\0\x01\xbb", False),
    "N4 255 methods, and none of ours": (b"\5\xff" + b"\x80" * 255, False),
}  # fmt: skip


@every_carriage
@pytest.mark.parametrize(("sent", "passes"), HEADS.values(), ids=HEADS)
def test_n4_n5_heads_are_taken_up_to_their_bound_and_refused_beyond_without_a_query(
    sent: bytes, passes: bool, carriage: str
) -> None:
    async def client(stream: PeerStream) -> bytes:
        try:
            await stream.send_all(sent)
            stream.end_stream()
        except OSError:
            pass  # it was refused before it had said everything
        return await what_comes(stream)

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes, address=WEB)
        await gate.ended(gate.call(come(client, carriage)))
        await gate.idle()

    names = Names().put("www.example", WEB.host)
    gate = play(scenario, plan_in(carriage, '[[rule]]\nto = ["*"]\n'), exchange=names)
    assert [one.verdict for one in gate.decisions] == ["allowed" if passes else "denied"]
    assert bool(names.asked) == bool(gate.ends) == passes
    assert all(len(one.target) < 2048 for one in gate.decisions), "records are bounded too"


@every_carriage
@pytest.mark.parametrize("mode", [EntryMode.SOCKS5, EntryMode.HTTP_CONNECT])
def test_n4_credentials_are_bounded(mode: EntryMode, carriage: str) -> None:
    sent = Ask(mode, "www.example", user="u" * 255, password="p" * 255).wire()
    if mode is EntryMode.HTTP_CONNECT:
        sent = head(b"Proxy-Authorization: Basic " + b"QUFB" * (1 << 16))

    async def client(stream: PeerStream) -> bytes:
        with contextlib.suppress(OSError):  # it was refused before it had said everything
            await stream.send_all(sent)
        return await what_comes(stream)

    async def scenario(gate: Gate) -> None:
        await gate.ended(gate.call(come(client, carriage)))
        await gate.idle()

    names = Names()
    gate = play(scenario, plan_in(carriage), exchange=names)
    assert [one.verdict for one in gate.decisions] == ["denied"]
    assert not names.asked
