"""Name lookups as events: before and after, in every entry mode that takes names."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable
from typing import Any

import pytest

from sluicegate.filterapi import (
    ConnectRequested,
    Deny,
    EntryMode,
    Events,
    NameLookup,
    NetworkInterface,
    Pass,
)
from tests.flows.entry_kit import (
    MODES,
    RULES,
    WEB,
    Ask,
    Names,
    Reply,
    asks,
    proxy_settings,
    says_hello,
)
from tests.flows.gate_kit import Gate, echoes, installation, play
from tests.flows.model_kit import Telling

pytestmark = pytest.mark.parametrize("mode", MODES)

OTHER = ipaddress.ip_address("93.184.216.99")
PRIVATE = ipaddress.ip_address("10.2.3.4")
UNKNOWN = {EntryMode.SOCKS4: 91, EntryMode.SOCKS5: 4}
NOT_ALLOWED = {EntryMode.SOCKS4: 91, EntryMode.SOCKS5: 2}


def visit(
    mode: EntryMode, answer: Callable[[Any], Any], names: Names, host: str = "www.example"
) -> tuple[Reply, Gate, Telling]:
    telling = Telling(answer, Events.of(NameLookup, ConnectRequested))
    replies: list[Reply] = []

    async def scenario(gate: Gate) -> None:
        for address in (WEB, WEB.__class__(str(OTHER), 443)):
            gate.serve(echoes, address=address)
        replies.extend(await gate.ended(gate.call(asks(Ask(mode, host), says_hello))))
        await gate.idle()

    plan = proxy_settings(
        RULES + 'filters = ["f"]\n', filters=[installation(telling, "f")], own=["10.0.0.1"]
    )
    gate = play(scenario, plan, exchange=names)
    assert isinstance(replies[0], Reply), replies[0]
    return replies[0], gate, telling


def known() -> Names:
    return Names().put("www.example", WEB.host)


def test_lookup_is_told_before_and_after_and_then_the_connection(mode: EntryMode) -> None:
    reply, gate, telling = visit(mode, lambda event: Pass(), known(), "WWW.Example.")
    assert reply.tunnelled == b"hello"
    assert telling.names() == ["NameLookup", "NameLookup", "ConnectRequested"]
    before, after, _ = telling.seen
    assert (before.host, before.is_before, before.addresses) == ("www.example", True, ())
    assert (after.host, after.is_before) == ("www.example", False)
    assert after.addresses == (ipaddress.ip_address(WEB.host),)
    assert (before.source, before.connection.id) == (mode, gate.ends[0].connection)


def test_address_literal_is_no_lookup(mode: EntryMode) -> None:
    reply, _, telling = visit(mode, lambda event: Pass(), Names(), WEB.host)
    assert (reply.tunnelled, telling.names()) == (b"hello", ["ConnectRequested"])


def test_filter_answers_in_the_resolvers_place_and_nothing_is_asked(mode: EntryMode) -> None:
    def answer(event: Any) -> Any:
        if isinstance(event, NameLookup) and event.is_before:
            event.set_result([OTHER])
        return Pass()

    names = Names()
    reply, gate, telling = visit(mode, answer, names)
    assert reply.tunnelled == b"hello"
    assert names.asked == {}
    assert telling.of(NameLookup)[1].addresses == (OTHER,)
    assert gate.ends[0].server == f"{OTHER}:443"


def test_filter_replaces_what_was_found(mode: EntryMode) -> None:
    def answer(event: Any) -> Any:
        if isinstance(event, NameLookup) and not event.is_before:
            event.set_result([OTHER])
        return Pass()

    reply, gate, _ = visit(mode, answer, known())
    assert (reply.tunnelled, gate.ends[0].server) == (b"hello", f"{OTHER}:443")


def test_filter_may_answer_for_a_name_that_is_not_there(mode: EntryMode) -> None:
    def answer(event: Any) -> Any:
        if isinstance(event, NameLookup) and not event.is_before:
            assert event.addresses == ()
            event.set_result([OTHER])
        return Pass()

    reply, _, _ = visit(mode, answer, Names())
    assert reply.tunnelled == b"hello"


@pytest.mark.parametrize("is_before", [True, False])
def test_denied_lookup_is_an_unknown_name_to_the_client(mode: EntryMode, is_before: bool) -> None:
    names = known()

    def answer(event: Any) -> Any:
        if isinstance(event, NameLookup) and event.is_before is is_before:
            return Deny("not that name")
        return Pass()

    reply, gate, telling = visit(mode, answer, names)
    assert reply.code == UNKNOWN.get(mode, reply.code)
    assert not reply.is_granted
    assert [(one.verdict, one.reason) for one in gate.decisions] == [("denied", "not that name")]
    assert bool(names.asked) is not is_before
    assert telling.of(ConnectRequested) == []


def test_policy_judges_what_a_filter_answers(mode: EntryMode) -> None:
    def answer(event: Any) -> Any:
        if isinstance(event, NameLookup) and event.is_before:
            event.set_result([PRIVATE])
        return Pass()

    reply, gate, telling = visit(mode, answer, Names())
    assert reply.code == NOT_ALLOWED.get(mode, 403)
    assert [one.verdict for one in gate.decisions] == ["denied"]
    assert len(telling.of(NameLookup)) == 1, "what policy refuses is not told of"


def test_filter_that_thinks_about_a_name_is_waited_for(mode: EntryMode) -> None:
    async def later(event: Any) -> Any:
        await asyncio.sleep(1)
        return Pass()

    reply, _, telling = visit(mode, later, known())
    assert (reply.tunnelled, len(telling.seen)) == (b"hello", 3)


def test_filter_that_fails_at_a_name_refuses_its_client(mode: EntryMode) -> None:
    def fail(event: Any) -> Any:
        raise ValueError("boom")

    reply, gate, _ = visit(mode, fail, known())
    assert not reply.is_granted
    assert gate.decisions[0].reason == "filter failure: f"


def test_no_filter_can_give_a_special_name_an_address(mode: EntryMode) -> None:
    def answer(event: Any) -> Any:
        event.set_result([OTHER])
        return Pass()

    reply, _, telling = visit(mode, answer, known(), "localhost")
    assert not reply.is_granted
    assert [event for event in telling.seen if not event.is_before] == []


def test_address_that_becomes_the_machines_own_is_refused_from_then_on(mode: EntryMode) -> None:
    replies: list[Reply] = []
    own = NetworkInterface(2, "eth0", True, frozenset({ipaddress.ip_address(WEB.host)}))
    other = NetworkInterface(2, "eth0", True, frozenset({PRIVATE}))

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes, address=WEB)
        for interfaces in ((), (own,), (other,)):
            gate.service.network.show(interfaces)
            replies.extend(await gate.ended(gate.call(asks(Ask(mode, "www.example"), says_hello))))

    play(scenario, proxy_settings(RULES, own=[]), exchange=known())
    assert [reply.is_granted for reply in replies] == [True, False, True]
