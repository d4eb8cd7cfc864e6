"""Groups A to D for requests with whole URLs (absolute-form), in clear and inside TLS.

The same corpora as in ``test_entry_hostile``: each line is one request on a connection of its own.
Refused means: answered by the gate, one request record with its reason, nobody is dialled, and no
query leaves unless the line is about answers.
"""

# ruff: noqa: E501 - one line a case

from __future__ import annotations

import dataclasses
import ipaddress
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from sluicegate.address import SocketAddress
from sluicegate.policy import FloodBounds
from sluicegate.testing import HostCase, address_corpus, host_corpus
from sluicegate.testing.peers import PeerStream
from tests.flows import entry_kit
from tests.flows.entry_kit import Names, carried, carried_plan
from tests.flows.gate_kit import ENTRY, Gate, play
from tests.flows.web_kit import OTHER, SITE, Message, Origin, get, read_message, web_settings

PATIENT = FloodBounds(
    connects_per_minute=100_000, requests_per_minute=100_000, denied_per_minute=100_000
)
EVERYTHING = '[[rule]]\nname = "all"\nto = ["*"]\nprotocols = ["tcp"]\n'
PRIVATE = "10.9.9.9"
SITE6 = SocketAddress.parse("[2606:2800:220:1::34]:80")
ADDRESSES = [case for case in address_corpus() if not case.own and not case.nat64_prefixes]
SPECIAL = [case for case in ADDRESSES if not case.expect.is_public]
PUBLIC = [case for case in ADDRESSES if case.expect.is_public]
HOSTS = [case for case in host_corpus() if case.kind == "host" and not case.allow_underscore]


@pytest.fixture(autouse=True, params=entry_kit.CARRIAGES)
def carriage(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every client ask in clear, and inside TLS."""
    monkeypatch.setattr(entry_kit, "carriage", request.param)


@dataclasses.dataclass
class Found:
    """What came of requests, each on a connection of its own."""

    gate: Gate
    statuses: list[int]
    """0: the connection ended without an answer."""
    dialled: list[SocketAddress]
    asked: Counter[str]
    origin: Origin

    @property
    def reasons(self) -> list[str]:
        return [one.ended or one.reason for one in self.gate.requests]


def ask(
    *requests: bytes,
    policy: str = EVERYTHING,
    names: Names | None = None,
    serve: Sequence[SocketAddress] = (SITE, SITE6),
    **options: Any,
) -> Found:
    names, statuses, dialled, origin = (
        names or Names(),
        list[int](),
        list[SocketAddress](),
        Origin(),
    )

    def watch(gate: Gate) -> None:
        connect = gate.backend.connect

        def noting(operation: Any, sock: Any, address: SocketAddress) -> None:
            dialled.append(address)
            connect(operation, sock, address)

        gate.backend.connect = noting  # type: ignore[method-assign]

    def client(request: bytes) -> Any:
        async def peer(stream: PeerStream) -> None:
            answer: Message | None = None
            try:
                await stream.send_all(request)
                answer = await read_message(stream, is_response=True)
            except OSError:
                pass  # it was reset, which is no answer
            statuses.append(0 if answer is None else answer.status)
            stream.close()

        return peer

    async def scenario(gate: Gate) -> None:
        for address in serve:
            gate.serve(origin.serve, address=address)
        for request in requests:
            await gate.ended(gate.call(carried(client(request))), within_s=300.0)
        await gate.idle()

    plan = carried_plan(web_settings(policy, **options))
    gate = play(scenario, plan, exchange=names, prepare=watch, flood=PATIENT)
    return Found(gate, statuses, dialled, names.asked, origin)


def to(host: str, port: int = 80) -> bytes:
    """Return a request to a host, written as a URL has it."""
    shown = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return get("/", shown if port == 80 else f"{shown}:{port}")


def raw(host: bytes) -> bytes:
    """Return a request whose host is exactly this, in the URL and in ``Host``."""
    return b"GET http://" + host + b"/ HTTP/1.1\r\nHost: " + host + b"\r\n\r\n"


def networks(*listed: str) -> str:
    return f'[[rule]]\nname = "some"\nto = {list(listed)}\nprotocols = ["tcp"]\n'.replace("'", '"')


# -- A: addresses ----------------------------------------------------------------------------------


def test_a_special_addresses_are_refused_under_a_rule_for_everything() -> None:
    found = ask(*(to(case.input) for case in SPECIAL))
    refused = dict(zip((case.input for case in SPECIAL), found.statuses, strict=True))
    # (A zone is no part of a URL's host: the head is refused.)
    assert {status for host, status in refused.items() if "%" not in host} == {403}
    assert set(found.statuses) <= {403, 400}
    assert (found.dialled, dict(found.asked)) == ([], {})
    assert {one.verdict for one in found.gate.requests} == {"denied"}


def test_a_public_addresses_are_dialled_as_they_are() -> None:
    found = ask(*(to(case.input) for case in PUBLIC))
    wanted = [ipaddress.ip_address(case.input) for case in PUBLIC]
    assert [address.ip for address in found.dialled] == wanted


def test_a_names_that_lead_to_special_addresses_are_refused() -> None:
    names = Names()
    for number, case in enumerate(SPECIAL):
        names.put(f"n{number}.example", str(ipaddress.ip_address(case.input)))
    found = ask(*(to(f"n{number}.example") for number in range(len(SPECIAL))), names=names)
    assert set(found.statuses) == {403}
    assert all(reason.startswith("address-denied") for reason in found.reasons), found.reasons
    assert found.dialled == []


A_NAMED = [
    # what the rule lists, what the client asks for, whether it is dialled
    (["10.0.0.0/8"], "10.9.9.9", True), (["10.9.9.9"], "10.9.9.9", True), (["10.8.0.0/16"], "10.9.9.9", False),
    (["127.0.0.0/8"], "127.0.0.2", True), (["169.254.0.0/16"], "169.254.169.254", False),
    (["169.254.169.254"], "169.254.169.254", True), (["168.63.128.0/20"], "168.63.129.16", False),
    (["10.0.0.0/8"], "10.0.0.1", False), (["10.0.0.1"], "10.0.0.1", True), (["224.0.0.0/4"], "224.0.0.1", False),
    (["0.0.0.0/8"], "0.0.0.0", False), (["255.255.255.255"], "255.255.255.255", False), (["fc00::/7"], "fd00::9", True),
    (["10.0.0.0/8"], "64:ff9b::a09:909", False), (["64:ff9b::/96"], "64:ff9b::a09:909", False),
    (["64:ff9b::/96", "10.0.0.0/8"], "64:ff9b::a09:909", True), (["10.0.0.0/8"], "::ffff:10.9.9.9", False),
    (["::/0", "0.0.0.0/0"], "::", False),
]  # fmt: skip


@pytest.mark.parametrize(("listed", "host", "is_dialled"), A_NAMED)
def test_a_special_addresses_need_a_rule_that_names_them(
    listed: list[str], host: str, is_dialled: bool
) -> None:
    # (On a port where the gate does not listen.)
    found = ask(to(host, 8080), policy=networks(*listed), serve=())
    assert [one.ip for one in found.dialled] == ([ipaddress.ip_address(host)] if is_dialled else [])
    assert is_dialled or found.statuses == [403]


@pytest.mark.parametrize("host", ["10.0.0.1", "self.example"])
def test_a_d6_the_gates_own_listener_is_never_reached_through_it(host: str) -> None:
    names = Names().put("self.example", "10.0.0.1")
    policy = networks("*", "10.0.0.1", "10.0.0.0/8")
    found = ask(to(host, ENTRY.port), policy=policy, names=names)
    assert (found.statuses, found.dialled) == ([403], [])
    assert "listener of the gate" in found.reasons[0]


# -- B: host text ----------------------------------------------------------------------------------


def is_written_so(case: HostCase) -> bool:
    """Whether it is an address as URLs write them."""
    try:
        ipaddress.ip_address(case.input.strip("[]"))
    except ValueError:
        return False
    return True


def has_port(case: HostCase) -> bool:
    """Whether a URL would have a host and a port there."""
    host, colon, port = case.input.partition(":")
    return bool(host and colon and port.isascii() and port.isdigit())


def test_b_host_texts_that_have_no_reading_are_refused_without_a_query() -> None:
    # (With a port, a URL has another host.)
    cases = [
        case
        for case in HOSTS
        if case.expect.refused and not is_written_so(case) and not has_port(case)
    ]
    assert len(cases) > 80
    found = ask(*(raw(case.input.encode()) for case in cases))
    for case, status in zip(cases, found.statuses, strict=True):
        assert status in {400, 0}, case
    assert (found.dialled, dict(found.asked), found.origin.seen) == ([], {}, [])
    assert not any("\n" in one.url or "\0" in one.url for one in found.gate.requests)


def test_b_host_texts_are_judged_and_asked_for_by_their_one_reading() -> None:
    cases = [
        case
        for case in HOSTS
        if case.expect.host and case.expect.is_address is None and case.input.isascii()
    ]
    assert len(cases) > 20
    names = Names()
    wanted = [case.expect.host for case in cases]
    for name in wanted:
        names.put(name, SITE.host)
    found = ask(*(raw(case.input.encode()) for case in cases), names=names)
    assert [one.url for one in found.gate.requests] == [f"http://{name}/" for name in wanted]
    assert set(found.asked) <= set(wanted)


B_NOT_A_HOST: list[tuple[str, bytes]] = [
    ("B3 a name in brackets", b"[a.example]"), ("B3 an IPv4 address in brackets", b"[127.0.0.1]"),
    ("B4 decimal", b"2130706433"), ("B4 hexadecimal", b"0x7f.1"), ("B4 octal", b"0177.0.0.1"), ("B4 two parts", b"127.1"),
    ("B5 a space", b"a.example evil"), ("B5 a tab", b"a.example\tevil"), ("B5 NUL", b"a.example\0.evil"),
    ("B5 CR LF", b"a.example\r\nX: y"), ("B6 encoded", b"%61.example"), ("B6 twice", b"%2561.example"),
    ("B6 an encoded slash", b"a.example%2f.evil"), ("B7 a full-width stop", "a。example".encode()),
    ("B10 a user", b"a.example@10.9.9.9"), ("B10 a user with a password", b"a:b@10.9.9.9"), ("B10 a fragment", b"10.9.9.9#@a.example"),
    ("B10 a backslash", b"10.9.9.9\\@a.example"), ("B11 port 0", b"a.example:0"), ("B11 port 65536", b"a.example:65536"),
    ("B11 a sign", b"a.example:+80"), ("B11 a zero before", b"a.example:080"), ("B11 two ports", b"a.example:80,443"),
    ("B11 a space in the port", b"a.example: 80"), ("B12 IPv6 without brackets", b"::1"), ("B13 a comma", b"a.example,b.example"),
    ("B14 a query at once, and another host", b"a.example?@10.9.9.9/"), ("B14 a fragment at once", b"a.example#x"),
    ("A12 a zone", b"[fe80::1%25eth0]"), ("A12 a zone as it is", b"[fe80::1%eth0]"), ("A12 loopback with one", b"[::1%25lo]"),
]  # fmt: skip


@pytest.mark.parametrize(
    "host", [case[1] for case in B_NOT_A_HOST], ids=[case[0] for case in B_NOT_A_HOST]
)
def test_b_what_is_no_host_of_a_url_reaches_nobody(host: bytes) -> None:
    names = Names().put("a.example", SITE.host).put("b.example", SITE.host)
    found = ask(raw(host), names=names)
    assert found.statuses[0] in {400, 0}
    assert (found.dialled, dict(found.asked)) == ([], {})


E5: list[tuple[str, bytes, str | None]] = [
    ("E5 another host", b"GET http://a.example/ HTTP/1.1\r\nHost: b.example\r\n\r\n", None),
    ("E5 a private host", b"GET http://a.example/ HTTP/1.1\r\nHost: 10.9.9.9\r\n\r\n", None),
    ("E5 another port", b"GET http://a.example/ HTTP/1.1\r\nHost: a.example:81\r\n\r\n", None),
    ("E5 no Host", b"GET http://a.example/ HTTP/1.1\r\n\r\n", None),
    ("E5 two", b"GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n", None),
    ("E5 the same in capitals", b"GET http://a.example/ HTTP/1.1\r\nHost: A.EXAMPLE\r\n\r\n", "a.example"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("request_", "seen"), [case[1:] for case in E5], ids=[case[0] for case in E5]
)
def test_e5_a_server_never_sees_another_host_than_the_one_that_was_judged(
    request_: bytes, seen: str | None
) -> None:
    names = Names().put("a.example", SITE.host).put("b.example", OTHER.host)
    found = ask(request_, names=names, policy=networks("a.example"))
    hosts = [str(one.field("Host")).lower() for one in found.origin.seen]
    assert set(hosts) <= {"a.example"}
    assert seen is None or hosts == [seen]
    assert found.statuses[0] in {200, 400}


WILDCARDS = [
    ("*.a.example", "x.a.example", True), ("*.a.example", "y.x.a.example", True), ("*.a.example", "a.example", False),
    ("*.a.example", "xa.example", False), ("*.a.example", "x.a.example.evil.example", False), ("a.example", "a.example", True),
    ("a.example", "A.EXAMPLE.", True), ("a.example", "x.a.example", False), ("a.example", "a.example.evil.example", False),
]  # fmt: skip


@pytest.mark.parametrize(("listed", "host", "matches"), WILDCARDS)
def test_b15_wildcards_match_whole_labels_below_their_name(
    listed: str, host: str, matches: bool
) -> None:
    names = Names().put(host.lower().rstrip("."), SITE.host)
    found = ask(to(host), policy=networks(listed), names=names)
    assert (found.statuses == [200]) is matches
    assert bool(found.asked) is matches


# -- C: DNS ----------------------------------------------------------------------------------------

DENIED_ZONE = (
    '[[rule]]\nname = "not-there"\naction = "deny"\nto = ["*.denied.example", "93.184.216.35"]\nprotocols = ["tcp"]\n'
    + EVERYTHING
)
C_ANSWERS: list[tuple[str, list[str], str]] = [
    ("C2 one of two is private", [SITE.host, PRIVATE], "addresses-mixed"),
    ("C2 one is mapped", [SITE.host, "::ffff:10.9.9.9"], "addresses-mixed"),
    ("C3 an alias into a denied zone", ["a.example. 60 CNAME x.denied.example.", "x.denied.example. 60 A 1.1.1.1"], "alias-denied"),
    ("C3 an alias of a special name", ["a.example. 60 CNAME localhost."], "alias-denied"),
    ("C3 an alias of the metadata service", ["a.example. 60 CNAME metadata.google.internal."], "alias-denied"),
    ("C3 an address that a rule denies", ["93.184.216.35"], "address-denied"),
    ("C4 aliases in a circle", ["a.example. 60 CNAME b.example.", "b.example. 60 CNAME a.example."], "dns-alias-loop"),
    ("C6 AAAA of another class", [SITE.host, "fd00::9"], "addresses-mixed"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "reason"), [case[1:] for case in C_ANSWERS], ids=[case[0] for case in C_ANSWERS]
)
def test_c_what_a_name_leads_to_is_judged(rows: list[str], reason: str) -> None:
    found = ask(to("a.example"), policy=DENIED_ZONE, names=Names().put("a.example", *rows))
    assert found.reasons[0].startswith(reason), found.reasons
    assert found.statuses[0] in {403, 502}
    assert found.dialled == []


def test_c1_rebinding_does_not_change_what_is_dialled() -> None:
    class Rebinding(Names):
        def _answer(self, query):  # type: ignore[no-untyped-def]
            self.put("a.example", f"a.example. 0 A {PRIVATE if self.asked else SITE.host}")
            if query.question.record_type.name == "AAAA":
                self.put("a.example")
            return super()._answer(query)

    found = ask(*[to("a.example")] * 3, names=Rebinding())
    assert {address.host for address in found.dialled} <= {SITE.host}


@pytest.mark.parametrize(
    ("failure", "reason"),
    [("NXDOMAIN", "dns-no-such-name"), ("SERVFAIL", "dns-server-failed"), ("silent", "dns-servers-silent")],
)  # fmt: skip
def test_c10_failed_lookups_refuse_and_the_next_name_is_judged_as_before(
    failure: str, reason: str
) -> None:
    names = Names().put("b.example", SITE.host)
    names.fail = lambda name: failure if name == "a.example" else None
    policy = networks("a.example", "b.example")
    found = ask(*map(to, ("a.example", "b.example", "other.example")), policy=policy, names=names)
    assert (found.statuses[0] in {502, 504}, found.statuses[1:]) == (True, [200, 403])
    assert found.reasons[0].startswith(reason)
    assert "other.example" not in found.asked


@pytest.mark.parametrize(
    "name", ["localhost", "a.localhost", "printer.local", "x.invalid", "x.onion", "metadata.google.internal"]
)  # fmt: skip
def test_c11_special_names_cause_no_query_even_when_a_rule_allows_them(name: str) -> None:
    found = ask(to(name), policy=networks(name))
    assert (found.statuses, found.dialled, dict(found.asked)) == ([403], [], {})
    assert found.reasons[0].startswith("name-special")


def test_c11_name_that_no_rule_lists_causes_no_query() -> None:
    names = Names().put("other.example", SITE.host)
    found = ask(to("other.example"), policy=networks("a.example"), names=names)
    assert (found.statuses, found.reasons, dict(found.asked)) == ([403], ["no-rule"], {})


# -- D: where a client may go ----------------------------------------------------------------------


@pytest.mark.parametrize("port", [22, 25, 443, 8443, 65535])
def test_d1_ports_that_no_rule_lists_are_refused(port: int) -> None:
    policy = '[[rule]]\nname = "web"\nto = ["*"]\nprotocols = ["tcp:80"]\n'
    found = ask(to(SITE.host, port), policy=policy)
    assert (found.statuses, found.reasons, found.dialled) == ([403], ["no-rule"], [])


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("GET ftp://site.example/", 501), ("GET gopher://10.9.9.9/", 501),
        ("GET file:///etc/passwd", 400), ("GET //site.example/", 400), ("GET /", 400), ("OPTIONS *", 400),
        ("GET site.example:80", 400), ("GET http:/site.example/", 400), ("GET http:///x", 400), ("GET javascript:alert(1)", 400),
    ],
)  # fmt: skip
def test_d2_what_is_no_url_of_http_reaches_nobody(line: str, status: int) -> None:
    names = Names().put("site.example", SITE.host)
    request = f"{line} HTTP/1.1\r\nHost: site.example\r\n\r\n".encode()
    found = ask(get("/").replace(b"site.example", b"1.1.1.1"), request, names=names, serve=())
    assert found.statuses[1] in {status, 400, 0}
    assert [one.host for one in found.dialled] == ["1.1.1.1"]
    assert dict(found.asked) == {}
