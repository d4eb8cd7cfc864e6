"""The resolver against servers that lie, over real sockets on both drivers of the port."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from sluicegate.address import SocketAddress
from sluicegate.limits import DNS_STRAY_DATAGRAMS_MAX, Limits
from sluicegate.names import canonical_host
from sluicegate.names.destination import Destination, LookupReason, Unresolved
from sluicegate.names.packets import RecordType
from sluicegate.names.resolver import Resolver
from sluicegate.names.resolver_settings import ResolverSettings
from sluicegate.port import current_port, run
from tests.flows.dns_kit import HostileServer, framed
from tests.unit.resolver_kit import Rules, answer

GOOD = "www.example. 60 A 93.184.216.34"
FORGED = "www.example. 60 A 93.184.216.66"
PATIENT = Limits(dns_attempt_timeout_s=60.0, dns_rounds_max=1)
QUICK = Limits(dns_attempt_timeout_s=0.3, dns_rounds_max=1)
"""Where nobody answers."""

Outcome = Destination | Unresolved
Look = Callable[..., Outcome]


def wrong_identifier(wire: bytes) -> bytes:
    return bytes([wire[0] ^ 1]) + wire[1:]


def wrong_case(wire: bytes) -> bytes:
    return wire[:12] + wire[12:25].swapcase() + wire[25:]


def other_name(wire: bytes) -> bytes:
    return wire[:13] + bytes([wire[13] ^ 2]) + wire[14:]


@pytest.fixture
def on_port(backend_name: str) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    def run_it(main: Coroutine[Any, Any, Any]) -> Any:
        before = len(os.listdir("/proc/self/fd"))
        outcome = run(main, backend=backend_name)
        assert len(os.listdir("/proc/self/fd")) == before, "a socket outlived its question"
        return outcome

    return run_it


def resolver_of(*servers: SocketAddress, **options: Any) -> Resolver:
    limits = options.pop("limits", PATIENT)
    settings = ResolverSettings(servers, record_types=(RecordType.A,), **options)
    return Resolver(settings, current_port().clock, limits)


@pytest.fixture
def look(on_port: Callable[[Coroutine[Any, Any, Any]], Any]) -> Look:
    """Ask one server for one name's address."""

    def look(server: HostileServer, limits: Limits = PATIENT) -> Outcome:
        async def main() -> Outcome:
            async with server.listening():
                resolver = resolver_of(server.address, limits=limits)
                try:
                    return await resolver.resolve(canonical_host("www.example"), 443, Rules())
                finally:
                    await resolver.close()

        return on_port(main())

    return look


def address_of(outcome: Outcome) -> str:
    assert isinstance(outcome, Destination), outcome
    (one,) = outcome.dialable
    return one.socket_address(outcome.port).host


def reason_of(outcome: Outcome) -> LookupReason:
    assert isinstance(outcome, Unresolved), outcome
    return outcome.reason


def test_honest_server_is_believed_over_udp(look: Look) -> None:
    server = HostileServer(lambda q: [answer(q, GOOD)])
    assert address_of(look(server)) == "93.184.216.34"
    assert server.asked == ["udp"]


def test_forged_identifiers_before_the_answer_are_overlooked(look: Look) -> None:
    server = HostileServer(
        lambda q: [wrong_identifier(answer(q, FORGED)), b"", b"\0", q[::-1], answer(q, GOOD)]
    )
    assert address_of(look(server)) == "93.184.216.34"
    assert server.asked == ["udp"]


def test_flood_of_forged_identifiers_moves_the_question_to_tcp(look: Look) -> None:
    server = HostileServer(
        lambda q: [wrong_identifier(answer(q, FORGED))] * (DNS_STRAY_DATAGRAMS_MAX + 1),
        lambda q: [framed(answer(q, GOOD))],
    )
    assert address_of(look(server)) == "93.184.216.34"
    assert server.asked == ["udp", "tcp"]


@pytest.mark.parametrize(
    "near",
    [
        lambda q: wrong_case(answer(q, FORGED)),
        lambda q: other_name(answer(q, FORGED)),
        lambda q: answer(q, FORGED)[:12],
        lambda q: q,
        lambda q: q[:2] + b"\x81\x80\0\0\0\0\0\0\0\0",
    ],
)
def test_reply_to_another_question_moves_the_question_to_tcp(
    look: Look, near: Callable[[bytes], bytes]
) -> None:
    server = HostileServer(lambda q: [near(q)], lambda q: [framed(answer(q, GOOD))])
    assert address_of(look(server)) == "93.184.216.34"
    assert server.asked == ["udp", "tcp"]


def test_truncated_answer_is_fetched_over_tcp_in_whatever_pieces(look: Look) -> None:
    def pieces(query: bytes) -> list[bytes]:
        whole = framed(answer(query, GOOD, *(f"www.example. 9 TXT {i}" for i in range(99))))
        return [whole[i : i + 1] for i in range(len(whole))]

    server = HostileServer(lambda q: [answer(q, FORGED, truncated=True)], pieces)
    assert address_of(look(server)) == "93.184.216.34"
    assert server.asked == ["udp", "tcp"]


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (lambda _q: [], LookupReason.SERVERS_UNREACHABLE),
        (lambda _q: [b"\0"], LookupReason.SERVERS_UNREACHABLE),
        (lambda q: [framed(answer(q, GOOD))[:-1]], LookupReason.SERVERS_UNREACHABLE),
        (lambda _q: [b"\xff\xff"], LookupReason.SERVERS_UNREACHABLE),
        (lambda _q: [b"\0\0"], LookupReason.MALFORMED),
        (lambda q: [framed(wrong_identifier(answer(q, GOOD)))], LookupReason.MALFORMED),
        (lambda q: [framed(answer(q, GOOD, truncated=True))], LookupReason.MALFORMED),
        (lambda q: [framed(answer(q, GOOD) + b"behind")], LookupReason.MALFORMED),
        (
            lambda q: [framed(answer(q, *(f"www.example. 9 A 10.0.{i}.1" for i in range(200))))],
            LookupReason.TOO_MANY_RECORDS,
        ),
    ],
)
def test_bad_replies_over_tcp_are_refused(
    look: Look, stream: Callable[[bytes], list[bytes]], reason: LookupReason
) -> None:
    server = HostileServer(lambda q: [answer(q, truncated=True)], stream)
    assert reason_of(look(server)) is reason


def test_malformed_answer_is_refused(look: Look) -> None:
    server = HostileServer(lambda q: [answer(q, GOOD)[:-3]])
    assert reason_of(look(server)) is LookupReason.MALFORMED


def test_loop_of_aliases_is_refused(look: Look) -> None:
    loop = ("www.example. 60 CNAME a.test.", "a.test. 60 CNAME www.example.")
    server = HostileServer(lambda q: [answer(q, *loop)])
    assert reason_of(look(server)) is LookupReason.ALIAS_LOOP


def test_silent_server_is_given_up(look: Look) -> None:
    server = HostileServer()
    assert reason_of(look(server, QUICK)) is LookupReason.SERVERS_SILENT
    assert server.asked == ["udp"]


def test_server_that_accepts_and_says_nothing_over_tcp_is_given_up(
    on_port: Callable[[Coroutine[Any, Any, Any]], Any],
) -> None:
    async def main() -> tuple[Outcome, HostileServer]:
        server = HostileServer(lambda q: [answer(q, truncated=True)])
        held = asyncio.Event()

        async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()  # until the resolver gives up
            writer.close()
            held.set()

        server._serve = hold
        async with server.listening():
            resolver = resolver_of(server.address, limits=QUICK)
            outcome = await resolver.resolve(canonical_host("www.example"), 443, Rules())
            await resolver.close()
            await held.wait()
            return outcome, server

    outcome, _ = on_port(main())
    assert reason_of(outcome) is LookupReason.SERVERS_SILENT


def test_port_where_nobody_listens_is_told_at_once(
    on_port: Callable[[Coroutine[Any, Any, Any]], Any],
) -> None:
    async def main() -> Outcome:
        async with HostileServer().listening() as gone:
            pass
        resolver = resolver_of(gone.address, limits=PATIENT)
        try:
            return await resolver.resolve(canonical_host("www.example"), 443, Rules())
        finally:
            await resolver.close()

    assert reason_of(on_port(main())) is LookupReason.SERVERS_UNREACHABLE


def test_datagrams_from_another_address_are_dropped_by_the_kernel(
    on_port: Callable[[Coroutine[Any, Any, Any]], Any],
) -> None:
    async def main() -> tuple[Outcome, list[str]]:
        server, forger = HostileServer(), HostileServer()
        async with server.listening(), forger.listening():

            def forge_then_answer(query: bytes) -> list[bytes]:
                forger.udp.sendto(answer(query, FORGED), server.sources[-1])
                return [answer(query, GOOD)]

            server.datagrams = forge_then_answer
            resolver = resolver_of(server.address)
            outcome = await resolver.resolve(canonical_host("www.example"), 443, Rules())
            await resolver.close()
            return outcome, server.asked

    outcome, asked = on_port(main())
    assert (address_of(outcome), asked) == ("93.184.216.34", ["udp"])


def test_each_question_has_a_port_and_an_identifier_of_its_own(
    on_port: Callable[[Coroutine[Any, Any, Any]], Any],
) -> None:
    identifiers: list[bytes] = []

    async def main() -> HostileServer:
        server = HostileServer()

        def note(query: bytes) -> list[bytes]:
            identifiers.append(query[:2])
            return [answer(query)]

        server.datagrams = note
        async with server.listening():
            resolver = resolver_of(server.address)
            for i in range(64):
                await resolver.resolve(canonical_host(f"n{i}.example"), 443, Rules())
            await resolver.close()
        return server

    ports = [port for _, port in on_port(main()).sources]
    assert len(set(ports)) > 50
    assert len(set(identifiers)) > 50
    steps = {b - a for a, b in itertools.pairwise(ports)}
    assert len(steps) > 32, "ports in a row could be guessed"


def test_names_are_asked_for_as_they_are_without_search_lists(
    on_port: Callable[[Coroutine[Any, Any, Any]], Any],
) -> None:
    asked: list[bytes] = []

    async def main() -> Outcome:
        server = HostileServer()

        def note(query: bytes) -> list[bytes]:
            asked.append(query[12:].lower())
            return [answer(query, rcode="NXDOMAIN")]

        server.datagrams = note
        async with server.listening():
            resolver = resolver_of(server.address)
            outcome = await resolver.resolve(canonical_host("intranet"), 443, Rules("intranet"))
            await resolver.close()
            return outcome

    assert reason_of(on_port(main())) is LookupReason.NO_SUCH_NAME
    assert [name[:10] for name in asked] == [b"\x08intranet\0"]


def test_many_lookups_at_once_leave_nothing_open(
    on_port: Callable[[Coroutine[Any, Any, Any]], Any],
) -> None:
    async def main() -> list[Outcome]:
        server = HostileServer(
            lambda q: [answer(q, truncated=q[13] % 2 == 0)] if q[13] % 3 else [],
            lambda q: [framed(answer(q))],
        )
        async with server.listening():
            resolver = resolver_of(server.address, mix_case=False, limits=QUICK)
            hosts = [canonical_host(f"{chr(97 + i % 26)}{i}.example") for i in range(100)]
            asking = [asyncio.ensure_future(resolver.resolve(h, 443, Rules())) for h in hosts]
            for task in asking[::5]:
                task.cancel()
            found = await asyncio.gather(*asking, return_exceptions=True)
            await resolver.close()
            return [one for one in found if not isinstance(one, BaseException)]

    reasons = {reason_of(one) for one in on_port(main())}
    assert reasons <= {LookupReason.NO_ADDRESS, LookupReason.SERVERS_SILENT}
