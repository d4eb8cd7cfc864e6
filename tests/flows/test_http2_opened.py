"""HTTP/2 inside TLS that the gate has opened: streams, each judged, for its one host alone."""

from __future__ import annotations

import pytest

from sluicegate.filterapi import EntryMode
from tests.flows.entry_kit import MODES
from tests.flows.http2_kit import Answer, Http2Peer, asks
from tests.flows.opening_kit import Inside, Met, Opened, TlsOrigin, client_context, open_tls, rule
from tests.flows.test_http2_servers import Http2Origin
from tests.flows.web_kit import reply

LARGE = bytes(range(256)) * 4096

Fields = list[tuple[bytes, bytes]]


def ask(path: str = "/", host: str = "site.example", *more: tuple[bytes, bytes]) -> Fields:
    return [
        (b":method", b"GET"),
        (b":scheme", b"https"),
        (b":authority", host.encode()),
        (b":path", path.encode()),
        *more,
    ]


def opened(*requests: Fields, origin: TlsOrigin | None = None, **options: object) -> Opened:
    """Let a client of HTTP/2 in; its answers are in ``met.said``."""
    answers: list[Answer] = []

    async def talk(inside: Inside, met: Met) -> None:
        assert met.alpn == "h2"
        client = Http2Peer(inside)
        await client.begin()
        answers.extend(await asks(*requests)(client))

    server = origin or Http2Origin()
    context = client_context("h2", "http/1.1")
    found = open_tls(talk=talk, origin=server, context=context, **options)  # type: ignore[arg-type]
    found.reply = answers
    return found


@pytest.mark.parametrize("mode", MODES)
def test_streams_inside_are_exchanges_on_streams_of_the_server_that_was_verified(
    mode: EntryMode,
) -> None:
    found = opened(ask("/1"), ask("/2"), ask("/3"), mode=mode)
    assert found.met.error == ""
    assert [(one.status, one.body) for one in found.reply] == [(200, b"hello")] * 3
    assert found.origin.lines == ["GET /1 HTTP/2", "GET /2 HTTP/2", "GET /3 HTTP/2"]
    assert found.origin.connections == 1, "what was verified is what is asked"
    assert [one.url for one in found.gate.requests] == [
        f"https://site.example/{place}" for place in (1, 2, 3)
    ]
    assert found.end.tls == "inspect"
    assert (found.end.outcome, found.end.tls_verification) == ("released", "verified")


def test_large_answers_pass_whole() -> None:
    found = opened(ask("/1"), ask("/2"), origin=Http2Origin(lambda _: reply(LARGE)))
    assert [one.body for one in found.reply] == [LARGE, LARGE]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("other.example", 421),
        ("site.example:8443", 421),
        ("SITE.example", 200),
        ("site.example:443", 200),
        ("site.example.", 421),
        ("93.184.216.34", 421),
        ("169.254.169.254", 421),
    ],
)
def test_another_host_on_a_later_stream_is_refused(host: str, status: int) -> None:
    """Hostile case E3: fronting inside one connection."""
    found = opened(ask("/1"), ask("/2", host), ask("/3"))
    statuses = [one.status for one in found.reply]
    if host.endswith("."):
        assert statuses[1] in {200, 400, 421}
    else:
        assert statuses == [200, status, 200]
    assert len(found.origin.seen) == 2 + (statuses[1] == 200)


def test_other_schemes_and_tunnels_inside_are_refused() -> None:
    plain = [(b":scheme", b"http") if one[0] == b":scheme" else one for one in ask()]
    connect = [(b":method", b"CONNECT"), (b":authority", b"site.example:443")]
    found = opened(plain, connect, ask())
    assert [one.status for one in found.reply] == [400, 405, 200]
    assert len(found.origin.seen) == 1


@pytest.mark.parametrize(
    ("spoken", "taken"), [(("h2", "http/1.1"), "h2"), (("http/1.1",), "http/1.1")]
)
def test_the_client_is_offered_what_the_server_has_chosen(
    spoken: tuple[str, ...], taken: str | None
) -> None:
    """Hostile case E15: HTTP/2 is never agreed on with a client whose server does not speak it."""
    chosen: list[str | None] = []

    async def talk(inside: Inside, met: Met) -> None:
        chosen.append(met.alpn)

    origin = Http2Origin() if "h2" in spoken else TlsOrigin(protocols=spoken)
    open_tls(talk=talk, origin=origin, context=client_context("h2", "http/1.1"))
    assert chosen == [taken]


def test_a_client_that_offers_http_1_alone_is_served_in_it() -> None:
    chosen: list[str | None] = []

    async def talk(inside: Inside, met: Met) -> None:
        chosen.append(met.alpn)

    open_tls(talk=talk, origin=Http2Origin(), context=client_context("http/1.1"))
    assert chosen == ["http/1.1"]


def test_the_rule_is_asked_about_each_request() -> None:
    policy = rule(more='methods = ["GET"]\npaths = ["/public/*"]')
    found = opened(ask("/public/a"), ask("/private"), ask("/public/b"), policy=policy)
    assert [one.status for one in found.reply] == [200, 403, 200]


def test_a_client_that_breaks_the_protocol_is_ended_and_its_server_left() -> None:
    async def talk(inside: Inside, met: Met) -> None:
        client = Http2Peer(inside)
        await client.begin()
        await client.ask(ask())
        await inside.send_all(b"\xff" * 40)
        while await inside.receive():
            pass

    found = open_tls(talk=talk, origin=Http2Origin(), context=client_context("h2"))
    assert found.end.reason == "malformed-http2: frame-too-long"
