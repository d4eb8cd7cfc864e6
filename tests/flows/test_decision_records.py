"""Decision records have what is needed to decide again: destination, protocol, what was found."""

from __future__ import annotations

import pytest

from sluicegate.filterapi import EntryMode
from tests.flows.entry_kit import MODES, WEB, WEB6, Ask, Names, proxy_settings, visit
from tests.flows.gate_kit import Gate
from tests.flows.test_socks_associate import DENIED, ONE, RULES, TWO, Client, Server, frame, run
from tests.flows.test_socks_bind import PEER
from tests.flows.test_socks_bind import Client as Binder
from tests.flows.test_socks_bind import visit as bind

every_mode = pytest.mark.parametrize("mode", MODES)
ALL = '[[rule]]\nname = "all"\nto = ["*"]\nprotocols = ["tcp"]\n'
NO = '[[rule]]\nname = "no"\naction = "deny"\nto = ["93.184.216.99"]\nprotocols = ["tcp"]\n'

# what a.example leads to, what the record has of it, the verdict
FOUND = [
    ([WEB.host], (WEB.host,), "allowed"),
    ([WEB.host, WEB6.host], (WEB.host, WEB6.host), "allowed"),
    (["10.0.0.1"], ("10.0.0.1",), "denied"),
    (["93.184.216.99"], ("93.184.216.99",), "denied"),
    ([WEB.host, "10.0.0.1"], (WEB.host, "10.0.0.1"), "denied"),
    ([], (), "denied"),
]


@every_mode
@pytest.mark.parametrize(("rows", "expected", "verdict"), FOUND)
def test_record_has_every_address_of_the_name_also_of_what_was_refused_for_them(
    mode: EntryMode, rows: list[str], expected: tuple[str, ...], verdict: str
) -> None:
    names = Names().put("a.example", *rows)
    asked = [Ask(mode, "A.example."), Ask(mode, "a.example")]
    found = visit(*asked, plan=proxy_settings(NO + ALL), names=names)
    for record in found.gate.decisions:
        assert (record.verdict, record.target) == (verdict, "a.example:443")
        assert sorted(record.addresses) == sorted(expected)
        assert (record.protocol, record.transport) == ("", "")


@every_mode
def test_record_of_an_address_that_was_asked_for_does_not_repeat_it(mode: EntryMode) -> None:
    found = visit(Ask(mode, WEB.host), plan=proxy_settings(ALL))
    [record] = found.gate.decisions
    assert (record.target, record.addresses) == (str(WEB), ())


@every_mode
def test_what_no_rule_allows_is_recorded_by_its_one_reading(mode: EntryMode) -> None:
    asked = [Ask(mode, "B.Example."), Ask(mode, "a..example")]
    found = visit(*asked, plan=proxy_settings())
    assert [record.target for record in found.gate.decisions] == ["b.example:443", "a..example:443"]


@pytest.mark.parametrize("mode", [EntryMode.SOCKS4, EntryMode.SOCKS5])
@pytest.mark.parametrize(("host", "verdict"), [(PEER.host, "allowed"), ("10.0.0.1", "denied")])
def test_record_of_a_bind_says_that_it_was_one(mode: EntryMode, host: str, verdict: str) -> None:
    gate, _, _ = bind(Binder(mode, host), *[PEER] * (verdict == "allowed"))
    [record] = gate.decisions
    assert (record.verdict, record.protocol, record.target) == (verdict, "bind", f"{host}:0")


def test_record_of_a_refused_association_says_that_it_was_one() -> None:
    async def scenario(gate: Gate) -> None:
        assert await Client(gate).associate() == 2
        await gate.idle()

    [record] = run(scenario, RULES.replace('"udp:53"', '"tcp:53"')).decisions
    assert (record.target, record.transport) == ("udp-associate", "udp")


def test_record_of_datagrams_to_a_name_has_its_addresses() -> None:
    names = Names().put("one.example", ONE.host).put("two.example", TWO.host)

    async def scenario(gate: Gate) -> None:
        Server(gate, ONE)
        client = Client(gate)
        assert await client.associate() == 0
        client.send(frame(("one.example", 53), b"q"), frame(("two.example", 53), b"q"))
        await client.answered(1)
        await gate.until(lambda: len(gate.decisions) == 3)
        client.leave()
        await gate.idle()

    gate = run(scenario, DENIED + RULES, names=names)
    by_target = {record.target: record for record in gate.decisions}
    assert by_target["one.example:53"].addresses == (ONE.host,)
    refused = by_target["two.example:53"]
    assert (refused.verdict, refused.addresses) == ("denied", (TWO.host,))
