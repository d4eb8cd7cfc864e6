"""Tunnels that are opened behind a parent proxy: CONNECT and SOCKS, verified and judged as any."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from sluicegate.filterapi import EntryMode
from sluicegate.gate.settings import ServiceSettings
from sluicegate.gate.web.parent_proxy import ParentProxy
from sluicegate.names import HostPattern, canonical_host
from sluicegate.testing.peers import PeerStream
from tests.chains import intermediate, root
from tests.flows.entry_kit import Names
from tests.flows.gate_kit import Gate
from tests.flows.opening_kit import EVERY_MODE, SITE, Opened, get, open_tls, plan_of, rule
from tests.flows.test_web_server_tls import ANSWERS, PARENT, TunnellingParent
from tests.flows.web_kit import reply

ASKED = b"CONNECT site.example:443 HTTP/1.1\r\nHost: site.example:443\r\n\r\n"


def by_parent(text: str = "", *, name: str = "", to: str = "") -> ServiceSettings:
    patterns = (HostPattern.parse(to),) if to else ()
    parent = ParentProxy(PARENT, patterns, canonical_host(name) if name else None)
    return dataclasses.replace(plan_of(text or rule()), parent_proxies=(parent,))


def opened(parent: TunnellingParent, *wanted: bytes, **options: object) -> Opened:
    options.setdefault("plan", by_parent())
    return open_tls(*(wanted or (get(),)), origin=parent, address=PARENT, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", EVERY_MODE)
def test_what_is_opened_goes_through_the_parent_in_every_entry_mode(mode: EntryMode) -> None:
    parent = TunnellingParent()
    found = opened(parent, get("/a"), get("/b"), mode=mode)
    assert [one.status for one in found.met.answers] == [200, 200]
    assert parent.asked == [ASKED], "one tunnel for both requests"
    assert parent.lines == ["GET /a HTTP/1.1", "GET /b HTTP/1.1"]
    assert {one.server for one in found.gate.requests} == {str(PARENT)}


def test_a_parent_may_be_inside_tls_itself() -> None:
    parent = TunnellingParent(own=intermediate().issue(names=["parent.example"]))
    found = opened(parent, plan=by_parent(name="parent.example"))
    assert [one.status for one in found.met.answers] == [200]


def test_a_parent_that_is_somebody_else_is_asked_for_nothing() -> None:
    parent = TunnellingParent(own=intermediate().issue(names=["other.example"]))
    found = opened(parent, plan=by_parent(name="parent.example"))
    assert found.end.reason.startswith("server-certificate-wrong-host")
    assert parent.asked == []


def test_the_server_behind_it_is_verified() -> None:
    parent = TunnellingParent(shown=root().issue(names=["other.example"]))
    found = opened(parent)
    assert found.end.reason.startswith("server-certificate-wrong-host")
    assert parent.seen == []


@pytest.mark.parametrize(("granted", "reason"), ANSWERS)
def test_a_parent_that_grants_no_tunnel_is_a_failure_with_its_reason(
    granted: bytes, reason: str
) -> None:
    found = opened(TunnellingParent(granted=granted))
    assert found.end.outcome == "failed"
    assert found.end.reason.startswith(reason)


def test_a_parent_that_says_nothing_has_a_deadline() -> None:
    async def silent(stream: PeerStream) -> None:
        try:
            await stream.receive_all()
        except OSError:
            return
        stream.close()

    parent = TunnellingParent()
    parent.serve = silent  # type: ignore[method-assign]
    assert opened(parent).end.error == "ETIMEDOUT"


@pytest.mark.parametrize("address", ["10.9.9.9", "127.0.0.1"])
def test_a_parent_is_no_way_around_the_judgement_of_addresses(address: str) -> None:
    parent = TunnellingParent()
    found = opened(parent, names=Names().put("site.example", address))
    assert found.gate.decisions[0].reason.startswith("address-denied")
    assert parent.asked == []


@pytest.mark.parametrize(
    ("text", "to"),
    [(rule(""), ""), (rule('mode = "validate"'), ""), (rule(), "other.example")],
    ids=["spliced", "validated", "another host's"],
)
def test_what_is_not_opened_or_not_for_it_is_dialled_directly(text: str, to: str) -> None:
    found = open_tls(get(), plan=by_parent(text, to=to), address=SITE)
    assert found.end.server == str(SITE)


def test_a_reload_lets_what_is_open_go_on() -> None:
    parent = TunnellingParent(answers=[reply(b"one"), reply(b"two")])

    async def during(gate: Gate) -> None:
        await gate.until(lambda: parent.seen)
        await gate.service.apply(by_parent(rule(more='comment = "again"')))

    found = opened(parent, get("/a"), get("/b"), during=during)
    assert [one.body for one in found.met.answers] == [b"one", b"two"]


@pytest.mark.parametrize("after", range(1, 12))
def test_a_client_that_goes_away_at_any_step_leaves_nothing(after: int) -> None:
    parent = TunnellingParent()

    async def during(gate: Gate) -> None:
        await asyncio.sleep(0.004 * after)
        for connection in gate.service.open_connections():
            connection.refuse("an operator")

    found = opened(parent, during=during)
    assert len(found.gate.ends) <= 1
