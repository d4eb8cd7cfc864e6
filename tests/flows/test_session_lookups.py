"""Lookups that filters make for a session: told of, by rules, hostile names left out."""

from __future__ import annotations

import errno
import ipaddress
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sluicegate.errors import BadContext, LimitExceeded, TransportError
from sluicegate.filterapi import (
    AddressLookup,
    ConnectRequested,
    Deny,
    EntryMode,
    Events,
    NameLookup,
    Pass,
)
from sluicegate.testing.peers import PeerStream
from tests.flows.entry_kit import RULES, WEB, Ask, asks, proxy_settings
from tests.flows.gate_kit import Gate, echoes, installation, play
from tests.flows.model_kit import Telling
from tests.unit.resolver_kit import TableExchange, records

ADDRESS = ipaddress.ip_address(WEB.host)
OTHER = ipaddress.ip_address("93.184.216.99")
V6 = ipaddress.ip_address("2606:2800:220:1::34")
REVERSE = f"{ADDRESS.reverse_pointer}. 60 PTR "
KNOWN = (f"www.example. 60 A {WEB.host}", "inside.example. 60 A 10.2.2.2", REVERSE + "www.example.")
ALL = Events.of(ConnectRequested, NameLookup, AddressLookup)


def run(
    scene: Callable[[Any, Telling], Awaitable[None]],
    *known: str,
    answer: Callable[[Any], Any] = lambda event: Pass(),
    **more: Any,
) -> tuple[Telling, TableExchange]:
    """Have a client come by SOCKS to an address, then look up with its connection."""
    telling = Telling(answer, ALL)
    exchange = TableExchange(first=records(*(known or KNOWN)))

    async def whole(gate: Gate) -> None:
        gate.serve(echoes, address=WEB)

        async def waits(stream: PeerStream) -> bytes:
            return await stream.receive_all()

        gate.call(asks(Ask(EntryMode.SOCKS5, WEB.host), waits))
        await gate.until(lambda: telling.seen)
        await scene(telling.seen[0].connection, telling)

    plan = proxy_settings(RULES + 'filters = ["f"]\n', filters=[installation(telling, "f")])
    play(whole, plan, exchange=exchange, **more)
    return telling, exchange


def test_address_is_looked_up_and_filters_are_told_before_and_after() -> None:
    async def scene(primary: Any, telling: Telling) -> None:
        names = await primary.session.host_by_address(primary, ADDRESS)
        assert names == ("www.example",)

    telling, exchange = run(scene)
    before, after = telling.of(AddressLookup)
    assert (before.address, before.is_before, before.names) == (ADDRESS, True, ())
    assert (after.is_before, after.names) == (False, ("www.example",))
    assert (before.source, before.connection) == (EntryMode.SOCKS5, telling.seen[0].connection)
    assert exchange.asked == ["udp 192.0.2.53 34.216.184.93.in-addr.arpa PTR"]


def test_address_of_version_6_is_asked_about_by_its_digits() -> None:
    async def scene(primary: Any, telling: Telling) -> None:
        names = await primary.session.host_by_address(primary, V6)
        assert names == ("six.example",)

    run(scene, f"{V6.reverse_pointer}. 60 PTR Six.Example.")


@pytest.mark.parametrize(
    ("pointed", "names"),
    [
        ("WWW.Example.", ("www.example",)),
        ("127.0.0.1.", ()),
        ("127.1.", ()),
        ("localhost.", ()),
        ("metadata.google.internal.", ()),
        ("a\\032b.example.", ()),
        ("a\\000b.example.", ()),
        ("a\\.b.example.", ()),
        ("<script>.example.", ()),
        ("x_y.example.", ()),
        ("-x.example.", ()),
        ("xn--a.example.", ()),
        ("\\@.", ()),
        (".", ()),
    ],
)
def test_hostile_text_in_a_name_is_left_out(pointed: str, names: tuple[str, ...]) -> None:
    async def scene(primary: Any, telling: Telling) -> None:
        assert await primary.session.host_by_address(primary, ADDRESS) == names

    telling, _ = run(scene, REVERSE + pointed)
    assert telling.of(AddressLookup)[1].names == names


def test_part_of_a_delegated_network_is_found_behind_its_alias() -> None:
    async def scene(primary: Any, telling: Telling) -> None:
        assert await primary.session.host_by_address(primary, ADDRESS) == ("www.example",)

    alias = "34.32/27.216.184.93.in-addr.arpa."
    run(scene, f"{ADDRESS.reverse_pointer}. 60 CNAME {alias}", f"{alias} 60 PTR www.example.")


@pytest.mark.parametrize("text", ["10.1.2.3", "127.0.0.1", "169.254.169.254", "::1", "fd00::1"])
def test_address_that_is_not_public_causes_no_query_and_reaches_no_filter(text: str) -> None:
    async def scene(primary: Any, telling: Telling) -> None:
        with pytest.raises(TransportError) as raised:
            await primary.session.host_by_address(primary, ipaddress.ip_address(text))
        assert raised.value.error == errno.EACCES

    telling, exchange = run(scene)
    assert (exchange.asked, telling.of(AddressLookup)) == ([], [])


@pytest.mark.parametrize("is_before", [True, False])
def test_filter_denies_an_address_or_answers_for_it(is_before: bool) -> None:
    deny = [True]

    def answer(event: Any) -> Any:
        if isinstance(event, AddressLookup) and event.is_before is is_before:
            if deny:
                return Deny("no names")
            event.set_result(["Mine.Example.", "no host"])
        return Pass()

    async def scene(primary: Any, telling: Telling) -> None:
        assert await primary.session.host_by_address(primary, ADDRESS) == ()
        deny.clear()
        assert await primary.session.host_by_address(primary, ADDRESS) == ("mine.example",)

    _, exchange = run(scene, answer=answer)
    assert bool(exchange.asked) is not is_before


def test_servers_that_fail_are_an_error_and_no_absence() -> None:
    async def scene(primary: Any, telling: Telling) -> None:
        with pytest.raises(TransportError) as raised:
            await primary.session.host_by_address(primary, V6)
        assert raised.value.error == errno.EHOSTUNREACH

    run(scene, f"{V6.reverse_pointer}. 60 CNAME {V6.reverse_pointer}.")


def test_name_is_looked_up_by_the_clients_rules_and_filters_are_told() -> None:
    async def scene(primary: Any, telling: Telling) -> None:
        session = primary.session
        assert await session.host_by_name(primary, "WWW.example.", 443) == (ADDRESS,)
        assert await session.host_by_name(primary, WEB.host, 443) == (ADDRESS,)
        for host, port, error in (
            ("www.example", 80, errno.EACCES),
            ("127.1", 443, errno.EACCES),
            ("inside.example", 443, errno.EACCES),
            ("nowhere.example", 443, errno.EHOSTUNREACH),
        ):
            with pytest.raises(TransportError) as raised:
                await session.host_by_name(primary, host, port)
            assert raised.value.error == error, host

    telling, _ = run(scene)
    told = [(one.host, one.is_before, one.addresses) for one in telling.of(NameLookup)]
    assert told == [
        ("www.example", True, ()),
        ("www.example", False, (ADDRESS,)),
        ("inside.example", True, ()),
        ("nowhere.example", True, ()),
        ("nowhere.example", False, ()),
    ]


@pytest.mark.parametrize("is_before", [True, False])
def test_filters_answer_for_a_name_and_policy_judges_it(is_before: bool) -> None:
    results = [ipaddress.ip_address("10.9.9.9"), OTHER]

    def answer(event: Any) -> Any:
        if isinstance(event, NameLookup) and event.is_before is is_before:
            if not results:
                return Deny("not that name")
            event.set_result([results.pop()])
        return Pass()

    async def scene(primary: Any, telling: Telling) -> None:
        session = primary.session
        assert await session.host_by_name(primary, "www.example", 443) == (OTHER,)
        for error in (errno.EACCES, errno.EHOSTUNREACH):
            with pytest.raises(TransportError) as raised:
                await session.host_by_name(primary, "www.example", 443)
            assert raised.value.error == error

    run(scene, answer=answer)


def test_filter_that_looks_up_what_it_is_told_of_comes_to_an_end() -> None:
    reached: list[str] = []

    async def answer(event: Any) -> Any:
        if isinstance(event, NameLookup):
            try:
                await event.session.host_by_name(event.connection, "www.example", 443)
            except LimitExceeded as error:
                reached.append(error.limit)
        return Pass()

    async def scene(primary: Any, telling: Telling) -> None:
        assert await primary.session.host_by_name(primary, "www.example", 443) == (ADDRESS,)

    run(scene, answer=answer, lookups_per_client_max=3)
    assert set(reached) == {"lookups_per_client_max"}


def test_connection_that_is_over_looks_nothing_up() -> None:
    async def scene(primary: Any, telling: Telling) -> None:
        primary.refuse("enough")
        with pytest.raises(BadContext):
            await primary.session.host_by_address(primary, ADDRESS)

    run(scene)
