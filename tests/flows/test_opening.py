"""TLS that is opened by rule: from a client's hello to the web exchanges inside."""

# ruff: noqa: E501 - one line a case

from __future__ import annotations

import ssl
from typing import Any

import pytest

from sluicegate.filterapi import EntryMode
from sluicegate.testing.peers import PeerStream
from sluicegate.tls.leaf_fault import LeafFailure, LeafFault
from sluicegate.tls.leaf_source import NoLeaves
from tests.chains import Certified, make, root
from tests.flows.entry_kit import proxy_settings
from tests.flows.gate_kit import Gate
from tests.flows.opening_kit import (
    EVERY_MODE,
    NAME,
    SITE,
    Inside,
    Met,
    TlsOrigin,
    client_context,
    get,
    meets,
    open_tls,
    requests,
    rule,
    unshared,
)
from tests.flows.web_kit import Origin, reply

DENIED, FAILED = "TLSV1_ALERT_ACCESS_DENIED", "TLSV1_ALERT_INTERNAL_ERROR"


def cert(*, names: list[str] | None = None, days: tuple[int, int] = (-1, 30)) -> Certified:
    return root().issue(names=names or [NAME], days=days)


class NoTls(Origin):
    """A server that answers whatever comes in the open."""

    async def serve(self, stream: PeerStream) -> None:
        self.connections += 1
        await stream.receive()
        await stream.send_all(reply())
        stream.close()


class FailingLeaves(NoLeaves):
    """A source whose signer is broken; tells so later."""

    def leaf_for(self, identity: Any, then: Any) -> None:
        then(LeafFailure(LeafFault.SIGNER_FAILED, "no key"))


def failing_leaves() -> FailingLeaves:
    return FailingLeaves()


every_mode = pytest.mark.parametrize("mode", EVERY_MODE)


@every_mode
def test_requests_inside_are_read_and_judged_one_by_one(mode: EntryMode) -> None:
    found = open_tls(get("/a?b"), get("/c"), mode=mode)

    assert found.met.error == ""
    assert found.met.statuses == [200, 200]
    assert found.origin.lines == ["GET /a?b HTTP/1.1", "GET /c HTTP/1.1"]
    assert found.origin.connections == 1, "the server that was verified is the one that is asked"
    assert [one.url for one in found.gate.requests] == [
        "https://site.example/a",
        "https://site.example/c",
    ]
    assert found.met.issuer == "the gate's authority"
    assert found.met.names == ("site.example",)


@pytest.mark.parametrize("offers", [("http/1.1",), ()], ids=["ALPN", "no ALPN"])
def test_each_client_has_the_server_that_was_verified_for_it_and_no_second_one(
    offers: tuple[str, ...],
) -> None:
    others = [Met() for _ in range(3)]
    context = client_context(*offers)

    async def come_again(gate: Gate) -> None:
        for met in others:  # what is decided about them is known by now
            caller = gate.call(meets(requests(get("/b")), context=context, met=met))
            await gate.ended(caller, within_s=60.0)

    plan = unshared()
    found = open_tls(get("/a"), during=come_again, context=context, plan=plan)

    assert [met.statuses for met in (found.met, *others)] == [[200]] * 4
    assert found.origin.connections == 4


def test_tickets_come_with_the_first_answer() -> None:
    """With TLS 1.3 they are not waited for, so they cost no packet of their own."""
    waiting: list[bytes] = []
    sessions: list[ssl.SSLSession | None] = []

    async def talk(inside: Inside, met: Met) -> None:
        await gates[0].peers.sleep(0.5)
        arriving = inside.socket.incoming
        assert arriving is not None, "it is connected"
        waiting.append(bytes(arriving.arrived))
        await requests(get())(inside, met)
        sessions.append(inside.tls.session)

    gates: list[Gate] = []

    async def during(gate: Gate) -> None:
        gates.append(gate)

    found = open_tls(talk=talk, during=during)
    assert found.met.statuses == [200]
    assert waiting == [b""]
    assert sessions[0] is not None
    assert sessions[0].has_ticket


def test_records_say_how_tls_was_opened() -> None:
    found = open_tls(get())

    end = found.end
    assert (end.tls, end.tls_verification, end.sni) == ("inspect", "verified", "site.example")
    assert end.tls_server.startswith("TLSv1.3 TLS_")
    assert end.tls_client.startswith("TLSv1.3 TLS_")
    assert end.tls_issuer
    assert end.tls_leaf == found.met.serial.lower().lstrip("0")
    assert end.suggestion == ""
    assert end.outcome == "released"
    assert end.bytes_to_server > 0
    assert end.host == "site.example"


# id, options, the record's reason; what the client's TLS says
REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    ("F1 expired", {"origin": lambda: TlsOrigin(cert(days=(-9, -1)))}, "server-certificate-expired", DENIED),
    ("F1 not yet", {"origin": lambda: TlsOrigin(cert(days=(1, 9)))}, "server-certificate-not-yet", DENIED),
    ("F1 another host's", {"origin": lambda: TlsOrigin(cert(names=["other.example"]))}, "server-certificate-wrong-host", DENIED),
    ("F1 self-signed", {"origin": lambda: TlsOrigin(make(NAME, [NAME]))}, "server-certificate-self-signed", DENIED),
    ("F1 nobody's", {"origin": lambda: TlsOrigin(root("x").issue(names=[NAME]))}, "server-certificate-untrusted", DENIED),
    ("E1 another name in the hello", {"name": "other.example"}, "tls-sni-mismatch: other.example", DENIED),
    ("E6 no name in the hello", {"name": None}, "tls-sni-missing", DENIED),
    ("a server that is no TLS", {"origin": NoTls}, "server-tls-failed", FAILED),
    ("no authority", {"leaves": lambda _gate: NoLeaves()}, "leaf-no-authority", FAILED),
    ("a signer that fails", {"leaves": lambda _gate: failing_leaves()}, "leaf-signer-failed", FAILED),
    ("nobody vouches for servers", {"plan": lambda: proxy_settings(rule())}, "server-no-authorities", FAILED),
]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "reason", "alert"), [one[1:] for one in REFUSED], ids=[one[0] for one in REFUSED]
)
def test_what_is_refused_before_the_client_is_shown_anything(
    options: dict[str, Any], reason: str, alert: str
) -> None:
    given = {key: value() if key in {"origin", "plan"} else value for key, value in options.items()}
    found = open_tls(get(), **given)

    assert found.end.reason.startswith(reason)
    assert found.met.error == alert
    assert found.met.issuer == ""
    assert found.origin.seen == []
    assert found.end.outcome == ("refused" if alert == DENIED else "failed")


def test_nothing_is_signed_for_a_server_that_is_not_verified() -> None:
    found = open_tls(get(), origin=TlsOrigin(cert(days=(-9, -1))))

    assert found.minter.asked == []
    assert found.end.tls_verification == "server-certificate-expired"


# -- requests inside -------------------------------------------------------------------------------

# id, requests, statuses, the last reason
INSIDE: list[tuple[str, list[bytes], list[int], str]] = [
    ("E2 Host of another", [get(host="other.example")], [421], "inside-other-host: other.example"),
    ("E2 Host below the name", [get(host=f"a.{NAME}")], [421], f"inside-other-host: a.{NAME}"),
    ("E2 Host with another port", [get(host=f"{NAME}:8443")], [421], f"inside-other-host: {NAME}:8443"),
    ("E2 Host with the port", [get(host=f"{NAME}:443")], [200], "allowed-by-rule"),
    ("E8 Host in capitals", [get(host=NAME.upper())], [200], "allowed-by-rule"),
    ("E8 Host with a final dot", [get(host=f"{NAME}.")], [200], "allowed-by-rule"),
    ("E2 Host is the server's address", [get(host=SITE.host)], [421], f"inside-other-host: {SITE.host}"),
    ("E4 the second request", [get(), get(host="other.example")], [200, 421], "inside-other-host: other.example"),
    ("E5 a URL of another", [get("https://other.example/")], [400], "malformed-request"),
    ("E5 a URL of this host", [get(f"https://{NAME}/")], [200], "allowed-by-rule"),
    ("E5 a URL without TLS", [get(f"http://{NAME}/")], [421], "inside-other-scheme"),
    ("D6 CONNECT inside", [get(f"{NAME}:443", f"{NAME}:443", method="CONNECT")], [405], "inside-connect"),
    ("two Hosts", [get("/", NAME, "Host: other.example")], [400], "malformed-request"),
    ("H a smuggled request", [get("/", NAME, "Content-Length: 3", "Transfer-Encoding: chunked")], [400], "malformed-request"),
    ("a path that no rule allows", [get("/secret")], [403], "denied-by-rule"),
    ("a path with two readings", [get("/a/../secret")], [403], "cannot-be-judged"),
]  # fmt: skip
POLICY = f"""
[[rule]]
name = "no-secrets"
action = "deny"
to = ["https://{NAME}/secret"]

{rule()}
"""


@pytest.mark.parametrize(
    ("asked", "statuses", "reason"), [one[1:] for one in INSIDE], ids=[one[0] for one in INSIDE]
)
def test_requests_inside_are_held_to_the_host_of_their_connection(
    asked: list[bytes], statuses: list[int], reason: str
) -> None:
    found = open_tls(*asked, policy=POLICY)

    assert found.met.statuses == statuses
    assert found.reasons[-1].startswith(reason)
    assert len(found.origin.seen) == statuses.count(200)
