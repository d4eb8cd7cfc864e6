"""Servers of connections that are open when a reload changes how servers are verified."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from typing_extensions import override

from sluicegate.address import SocketAddress
from sluicegate.gate.settings import ServiceSettings
from sluicegate.gate.web.parent_proxy import ParentProxy
from sluicegate.names import canonical_host
from sluicegate.testing.peers import PeerStream
from sluicegate.testing.peers import _Signal as Flag
from tests.chains import Certified, root
from tests.flows.entry_kit import Names
from tests.flows.gate_kit import SERVER, Gate, play, publication, settings
from tests.flows.opening_kit import Inside, Met, open_tls, plan_of, rule
from tests.flows.opening_kit import get as get_inside
from tests.flows.test_http2_servers import Http2Origin
from tests.flows.test_web_server_tls import RULES, SITE, TlsOrigin, get
from tests.flows.tls_kit import verifying
from tests.flows.web_kit import Message, Origin, browse, read_message, reply, web_settings

ORIGINS: dict[str, Any] = {"HTTP/1": TlsOrigin, "HTTP/2": Http2Origin}


ROOTS = {True: [root("another authority"), root()], False: [root("another authority")]}
"""By whether servers are believed as before: who vouches for them from the reload on."""

every_way = pytest.mark.parametrize("speaks", ORIGINS)
believing = pytest.mark.parametrize("believes", [True, False], ids=["still believed", "no more"])


def visited(
    origin: Any,
    plan: ServiceSettings,
    later: ServiceSettings,
    requests: list[bytes],
    address: SocketAddress = SITE,
    during: Callable[[Gate], bool] = lambda gate: bool(gate.requests),
) -> tuple[list[int], Gate]:
    """Let a client ask twice on a connection, with a reload between the two."""
    statuses: list[int] = []
    reloaded = Flag()

    async def peer(stream: PeerStream) -> None:
        for number, request in enumerate(requests):
            if number:
                await reloaded
            await stream.send_all(request)
            answer = await read_message(stream, is_response=True)
            statuses.append(0 if answer is None else answer.status)
        stream.close()

    async def scenario(gate: Gate) -> None:
        gate.serve(origin.serve, address=address)
        client = gate.call(peer)
        await gate.until(lambda: during(gate))
        await gate.service.apply(later)
        reloaded.set()
        await gate.ended(client)
        await gate.idle()

    gate = play(scenario, plan, exchange=Names(site_example=[SITE.host]))
    return statuses, gate


def proxied(*roots: Certified) -> ServiceSettings:
    return verifying(web_settings(RULES), *roots)


@every_way
@believing
def test_what_waits_serves_nobody_whose_server_is_believed_no_more(
    speaks: str, *, believes: bool
) -> None:
    origin = ORIGINS[speaks]()
    asked = [get("/a"), get("/b")]
    statuses, gate = visited(origin, proxied(), proxied(*ROOTS[believes]), asked)
    assert statuses == [200, 200 if believes else 502]
    assert origin.connections == 1 + believes, "it was met anew"
    if not believes:
        assert gate.requests[-1].ended.startswith("server-certificate-untrusted")


@every_way
def test_what_waits_goes_on_where_nothing_of_it_has_changed(speaks: str) -> None:
    origin = ORIGINS[speaks]()
    later = verifying(web_settings(f'{RULES}comment = "another policy"\n'))
    statuses, _ = visited(origin, proxied(), later, [get("/a"), get("/b")])
    assert (statuses, origin.connections) == ([200, 200], 1)


@every_way
def test_an_answer_that_is_on_its_way_is_the_last_of_its_connection(speaks: str) -> None:
    """The reload comes while the server has the first request."""
    asked: list[str] = []

    def answer(request: Message) -> bytes:
        asked.append(request.line)
        return reply(b"x" * 400_000)

    origin = ORIGINS[speaks](answers=answer)
    statuses, gate = visited(
        origin,
        proxied(),
        proxied(*ROOTS[False]),
        [get("/a"), get("/b")],
        during=lambda _gate: bool(asked),
    )
    assert statuses == [200, 502]
    assert [one.outcome for one in gate.requests] == ["released", "refused"]
    assert len(asked) == 1


@believing
def test_a_published_server_is_met_anew(*, believes: bool) -> None:
    publishes = dataclasses.replace(
        publication(), is_http=True, server_tls=canonical_host("site.example")
    )
    origin = TlsOrigin()
    plan = verifying(settings(publishes))
    later = verifying(settings(publishes), *ROOTS[believes])
    asked = [get("/a"), get("/b")]
    asked = [one.replace(b"https://site.example", b"") for one in asked]
    statuses, _ = visited(origin, plan, later, asked, address=SERVER)
    assert statuses == [200, 200 if believes else 502]
    assert origin.connections == 1 + believes


@believing
def test_the_server_of_an_opened_connection_is_met_anew(*, believes: bool) -> None:
    statuses: list[int] = []
    reloaded = Flag()

    async def talk(inside: Inside, met: Met) -> None:
        del met
        for number, request in enumerate((get_inside("/a"), get_inside("/b"))):
            if number:
                await reloaded
            await inside.send_all(request)
            answer = await read_message(inside, is_response=True)
            statuses.append(0 if answer is None else answer.status)

    async def reload(gate: Gate) -> None:
        await gate.until(lambda: bool(gate.requests))
        await gate.service.apply(plan_of(rule(), (), *ROOTS[believes]))
        reloaded.set()

    found = open_tls(talk=talk, during=reload)
    assert statuses == [200, 200 if believes else 502]
    assert found.origin.connections == 1 + believes


def test_a_handshake_that_was_under_way_proves_nothing_any_more() -> None:
    waits = Flag()

    class Late(TlsOrigin):
        @override
        async def serve(self, stream: PeerStream) -> None:
            self.connections += 1
            await waits
            await super().serve(stream)

    origin = Late()

    def began(_gate: Gate) -> bool:
        return bool(origin.connections)

    async def reload_and_go_on(gate: Gate) -> None:
        await gate.until(lambda: began(gate))
        await gate.service.apply(proxied(*ROOTS[True]))
        waits.set()

    found = browse(
        get("/a"), origin=origin, plan=proxied(), address=SITE, meanwhile=reload_and_go_on
    )
    assert found.statuses == [502]
    assert found.gate.requests[0].ended.startswith("server-tls-cut-off")
    assert origin.lines == []


# -- TLS that is wanted from a reload on -----------------------------------------------------------


@pytest.mark.parametrize("is_http", [True, False], ids=["requests", "bytes"])
@pytest.mark.parametrize("before", [None, "site.example"], ids=["in the clear", "inside TLS"])
def test_a_published_server_is_spoken_to_as_the_reload_says(
    before: str | None, *, is_http: bool
) -> None:
    def plan(name: str | None) -> ServiceSettings:
        server_tls = None if name is None else canonical_host(name)
        return verifying(
            settings(dataclasses.replace(publication(), is_http=is_http, server_tls=server_tls))
        )

    origin = Origin() if before is None else TlsOrigin()
    asked = [get("/a").replace(b"https://site.example", b"")] * 2
    statuses, gate = visited(
        origin,
        plan(before),
        plan("site.example" if before is None else None),
        asked,
        address=SERVER,
        during=lambda _gate: bool(origin.seen),
    )
    assert len(origin.seen) == 1, "nothing more is sent in the old way"
    assert statuses[1:] != [200]
    said = {one.reason for one in gate.ends} | {one.ended for one in gate.requests}
    assert "revoked: its server is spoken to in another way now (web)" in said


def test_a_parent_is_spoken_to_as_the_reload_says() -> None:
    def plan(name: str | None) -> ServiceSettings:
        parent = ParentProxy(SITE, name=None if name is None else canonical_host(name))
        policy = RULES.replace('"tcp:443"', '"tcp:80"')
        return dataclasses.replace(verifying(web_settings(policy)), parent_proxies=(parent,))

    origin = Origin()
    asked = [get("/a", scheme="http"), get("/b", scheme="http")]
    statuses, _ = visited(origin, plan(None), plan("parent.example"), asked)
    assert statuses == [200, 504], "it waits for TLS that nobody speaks"
    assert origin.lines == ["GET http://site.example/a HTTP/1.1"]
