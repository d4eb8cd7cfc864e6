"""Web servers that are spoken to inside TLS: by ``https`` URLs, published, and parent proxies."""

from __future__ import annotations

import asyncio
import dataclasses
import ssl
from collections.abc import Callable, Sequence

import pytest
from typing_extensions import override

from sluicegate.address import SocketAddress
from sluicegate.gate.own_certificate import OwnCertificate
from sluicegate.gate.settings import ServiceSettings
from sluicegate.gate.web.parent_proxy import ParentProxy
from sluicegate.names import HostPattern, canonical_host
from sluicegate.testing.peers import PeerStream
from tests.chains import Certified, intermediate, make, root
from tests.flows.entry_kit import Names
from tests.flows.gate_kit import SERVER, Gate, play, publication, settings
from tests.flows.test_no_garbage import Garbage, collecting
from tests.flows.tls_kit import (
    TlsPeer,
    inside_tls,
    server_context,
    serving_tls,
    verifying,
    with_tls,
)
from tests.flows.web_kit import Message, Origin, Visit, asks, browse, reply, web_settings

SITE = SocketAddress.parse("93.184.216.34:443")
RULES = """
[[rule]]
name = "web"
to = ["site.example", "other.example", "93.184.216.34/32"]
protocols = ["tcp:443", "tcp:8443"]
"""
LARGE = bytes(range(256)) * 4096


def get(path: str = "/", host: str = "site.example", *fields: str, scheme: str = "https") -> bytes:
    lines = [f"GET {scheme}://{host}{path} HTTP/1.1", f"Host: {host}", *fields]
    return "\r\n".join([*lines, "", ""]).encode()


class TlsOrigin(Origin):
    """A web server inside TLS."""

    def __init__(
        self,
        shown: Certified | None = None,
        answers: Callable[[Message], bytes] | Sequence[bytes] | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(answers or (lambda _request: reply()))
        self.context = context or server_context(shown or root().issue(names=["site.example"]))
        self.ends: list[object] = []

    @override
    async def serve(self, stream: PeerStream) -> None:
        await serving_tls(super().serve, self.context, self.ends)(stream)

    @property
    def resumed(self) -> list[bool]:
        """Whether each handshake was resumed."""
        return [one.session_reused for one in self.ends if isinstance(one, ssl.SSLObject)]


def visit(
    *requests: bytes,
    origin: TlsOrigin | None = None,
    plan: ServiceSettings | None = None,
    address: SocketAddress = SITE,
    policy: str = RULES,
) -> Visit:
    plan = plan or verifying(web_settings(policy))
    return browse(*requests, origin=origin or TlsOrigin(), plan=plan, address=address)


def test_a_request_for_an_https_url_goes_on_inside_tls() -> None:
    found = visit(get("/a?b"), get("/c"))
    assert found.statuses == [200, 200]
    assert found.origin.lines == ["GET /a?b HTTP/1.1", "GET /c HTTP/1.1"]
    assert found.origin.seen[0].field("Host") == "site.example"
    assert found.origin.connections == 1, "the connection is kept"
    assert [one.url for one in found.gate.requests] == [
        "https://site.example/a",
        "https://site.example/c",
    ]
    assert {one.server for one in found.gate.requests} == {str(SITE)}


def test_large_bodies_pass_both_ways() -> None:
    request = (
        f"POST https://site.example/ HTTP/1.1\r\nHost: site.example\r\n"
        f"Content-Length: {len(LARGE)}\r\n\r\n"
    ).encode() + LARGE
    found = visit(request, origin=TlsOrigin(answers=[reply(LARGE)]))
    assert found.statuses == [200]
    assert found.answers[0].body == LARGE
    assert found.origin.seen[0].body == LARGE


REFUSED = [
    ("expired", lambda: root().issue(names=["site.example"], days=(-9, -1)), "expired"),
    ("another host's", lambda: root().issue(names=["other.example"]), "wrong-host"),
    ("self-signed", lambda: make("site.example", ["site.example"]), "self-signed"),
    ("nobody's", lambda: root("another").issue(names=["site.example"]), "untrusted"),
]


@pytest.mark.parametrize(
    ("make_one", "code"), [one[1:] for one in REFUSED], ids=[one[0] for one in REFUSED]
)
def test_a_server_that_is_not_verified_is_refused_before_it_is_sent_anything(
    make_one: Callable[[], Certified], code: str
) -> None:
    origin = TlsOrigin(make_one())
    found = visit(get(), get(), origin=origin)
    assert found.statuses == [502, 502]
    assert {one.outcome for one in found.gate.requests} == {"refused"}
    for reason in found.reasons:
        assert reason.partition(":")[0] == f"server-certificate-{code}"
    assert found.origin.seen == []
    assert all(isinstance(one, ssl.SSLError) for one in origin.ends), "it gets an alert"


def test_a_host_with_another_ones_certificate_is_not_asked_for_by_the_kept_connection() -> None:
    """The pool keeps a connection for the name that was verified, whatever else it may serve."""
    both = root().issue(names=["site.example", "other.example"])
    found = visit(get(), get("/", "other.example"), origin=TlsOrigin(both))
    assert found.statuses == [200, 502], "nobody listens at the other one's address"
    assert found.origin.connections == 1


def test_a_request_in_the_open_does_not_use_a_connection_inside_tls() -> None:
    found = visit(get("/a"), get("/b", "site.example:443", scheme="http"), get("/c"))
    assert [one.split(" ")[1] for one in found.origin.lines] == ["/a", "/c"]
    assert found.statuses[0] == 200
    assert found.statuses[1] == 502


def test_an_address_is_verified_as_one() -> None:
    shown = root().issue("server", [str(SITE.ip)])
    found = visit(get("/", "93.184.216.34"), origin=TlsOrigin(shown))
    assert found.statuses == [200]
    found = visit(get("/", "93.184.216.34"))
    assert found.reasons[0].startswith("server-certificate-wrong-host")


def test_a_server_that_speaks_no_tls_or_goes_away_is_told_as_a_failure() -> None:
    async def plain(stream: PeerStream) -> None:
        await stream.receive()
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        stream.close()

    async def gone(stream: PeerStream) -> None:
        await stream.receive()
        stream.close()

    async def reset(stream: PeerStream) -> None:
        await stream.receive()
        stream.reset()

    reasons: list[str] = []
    for serve in (plain, gone, reset):
        origin = TlsOrigin()
        origin.serve = serve  # type: ignore[method-assign]
        found = visit(get(), origin=origin)
        assert found.statuses == [502]
        assert found.gate.requests[0].outcome == "failed"
        reasons += found.reasons
    assert [one.partition(":")[0] for one in reasons] == [
        "server-tls-failed",
        "server-tls-cut-off",
        "server-tls-cut-off",
    ]


def test_a_server_that_says_nothing_has_a_deadline() -> None:
    async def silent(stream: PeerStream) -> None:
        await stream.receive_all()
        stream.close()

    origin = TlsOrigin()
    origin.serve = silent  # type: ignore[method-assign]
    found = visit(get(), origin=origin)
    assert found.statuses == [504]


def test_a_client_that_leaves_during_the_handshake_ends_it() -> None:
    reached: list[bytes] = []

    async def silent(stream: PeerStream) -> None:
        reached.append(await stream.receive())
        try:
            reached.append(await stream.receive_all())
        except OSError as error:
            reached.append(type(error).__name__.encode())
        stream.close()

    async def leaves(stream: PeerStream) -> None:
        await stream.send_all(get())
        stream.reset()

    origin = TlsOrigin()
    origin.serve = silent  # type: ignore[method-assign]
    found = browse(origin=origin, plan=verifying(web_settings(RULES)), address=SITE, peer=leaves)
    assert len(found.gate.ends) == 1


def test_without_authorities_there_is_no_tls_server() -> None:
    found = visit(get(), plan=web_settings(RULES))
    assert (found.statuses, found.reasons) == ([503], ["server-no-authorities"])
    assert found.origin.seen == []


def test_later_connections_resume_the_session_of_a_verified_server() -> None:
    origin = TlsOrigin()
    origin.closes = True
    found = visit(get(), get(), get(), origin=origin)
    assert found.statuses == [200, 200, 200]
    assert origin.resumed == [False, True, True]


def test_rules_see_the_scheme_and_the_path() -> None:
    policy = """
[[rule]]
name = "docs"
to = ["https://site.example/docs/*"]
protocols = ["tcp:443"]
"""
    found = visit(get("/docs/a"), get("/b"), policy=policy)
    assert found.statuses == [200, 403]


def test_a_certificate_of_ours_is_shown_to_whom_it_is_for_and_to_nobody_else() -> None:
    ours = root().issue("gate", ["gate.example"], usage=None)
    shown = []
    for name in ("site.example", "elsewhere.example"):
        context = server_context(root().issue(names=["site.example"]))
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(cadata=root().pem)
        own = OwnCertificate((HostPattern.parse(name),), ours.pem, ours.key_pem)
        plan = dataclasses.replace(verifying(web_settings(RULES)), own_certificates=(own,))
        origin = TlsOrigin(context=context)
        assert visit(get(), origin=origin, plan=plan).statuses == [200]
        (tls,) = origin.ends
        assert isinstance(tls, ssl.SSLObject)
        shown.append(tls.getpeercert(binary_form=True))
    assert shown == [ours.der, None]


def test_what_is_held_and_judged_is_the_same_as_without_tls() -> None:
    policy = (
        RULES
        + """
[[rule]]
name = "no-zip"
action = "deny"
to = ["site.example"]
protocols = ["tcp:443"]
content_types = ["application/zip"]
"""
    )
    head, _, tail = policy.partition('[[rule]]\nname = "no-zip"')
    answers = [reply(b"PK", "Content-Type: application/zip"), reply(b"ok")]
    found = visit(
        get(),
        get(),
        origin=TlsOrigin(answers=answers),
        policy='[[rule]]\nname = "no-zip"' + tail + head,
    )
    assert found.statuses == [403, 200]


def test_a_server_that_needs_a_certificate_is_named_as_such_behind_the_handshake_too() -> None:
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = server_context(root().issue(names=["site.example"]))
        context.maximum_version = version
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=root().pem)
        found = visit(get(), origin=TlsOrigin(context=context))
        assert found.statuses == [502]
        assert "server-wants-certificate: " in found.reasons[0]


def test_a_server_that_sends_byte_by_byte_is_understood() -> None:
    origin = TlsOrigin(intermediate().issue(names=["site.example"]))

    async def serve(stream: PeerStream) -> None:
        tls = TlsPeer(stream, origin.context, is_server=True)
        tls.most_sent = 1
        await tls.shake_hands()
        await Origin.serve(origin, tls)

    origin.serve = serve  # type: ignore[method-assign]
    found = visit(get(), origin=origin)
    assert found.statuses == [200]
    assert found.answers[0].body == b"hello"


def test_a_protocol_that_a_request_switches_to_goes_on_inside_tls() -> None:
    async def echoes(stream: PeerStream) -> None:
        await stream.receive_until(b"\r\n\r\n")
        switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
        await stream.send_all(switch + b"hi ")
        while piece := await stream.receive():
            await stream.send_all(piece)
        stream.close()

    async def talks(stream: PeerStream) -> bytes:
        await stream.send_all(get("/", "site.example", "Connection: Upgrade", "Upgrade: x"))
        await stream.receive_until(b"\r\n\r\n")
        await stream.send_all(LARGE[:100_000])
        stream.end_stream()
        return await stream.receive_all()

    origin = TlsOrigin()

    async def serve(stream: PeerStream) -> None:
        await serving_tls(echoes, origin.context, origin.ends)(stream)

    origin.serve = serve  # type: ignore[method-assign]
    plan = verifying(web_settings(RULES + 'upgrades = ["x"]\n'))
    found = browse(origin=origin, plan=plan, address=SITE, peer=talks)
    assert found.answers == b"hi " + LARGE[:100_000]
    (end,) = found.gate.ends
    assert end.outcome == "released"


@pytest.mark.parametrize("kind", ["good", "refused", "cut off"])
def test_ended_connections_to_servers_leave_nothing_to_the_collector(kind: str) -> None:
    names = ["other.example" if kind == "refused" else "site.example"]
    origin = TlsOrigin(root().issue(names=names))
    origin.closes = True

    async def cut(stream: PeerStream) -> None:
        await stream.receive()
        stream.close()

    if kind == "cut off":
        origin.serve = cut  # type: ignore[method-assign]
    found: list[Garbage] = []

    async def scenario(gate: Gate) -> None:
        gate.serve(origin.serve, address=SITE)
        await gate.ended(gate.call(asks(get(), get())))
        await gate.idle()
        with collecting() as garbage:
            await gate.ended(gate.call(asks(get(), get())))
            await gate.idle()
            await asyncio.sleep(10.0)
        found.append(garbage)

    names_of = Names().put("site.example", "93.184.216.34")
    play(scenario, verifying(web_settings(RULES)), exchange=names_of)
    # (The circle of a client's connection and its end is HTTP's own, with or without TLS.)
    kinds = {one for one in found[0].kinds if ".tls." in one or "_tls." in one or "origin" in one}
    assert kinds == set()


# -- published servers and parents -----------------------------------------------------------------


def published(name: str) -> ServiceSettings:
    one = dataclasses.replace(publication(), is_http=True, server_tls=canonical_host(name))
    return verifying(settings(one))


def ask_published(name: str, shown: Certified) -> Visit:
    wire = b"GET /a HTTP/1.1\r\nHost: www.example\r\n\r\n"
    origin = TlsOrigin(shown)
    return browse(wire, origin=origin, plan=published(name), address=SERVER)


def test_a_published_server_is_spoken_to_inside_tls_and_has_to_be_whom_the_rule_names() -> None:
    shown = root().issue(names=["inside.example"])
    found = ask_published("inside.example", shown)
    assert (found.statuses, found.origin.lines) == ([200], ["GET /a HTTP/1.1"])
    assert found.origin.seen[0].field("Host") == "www.example"
    found = ask_published("other.example", shown)
    assert found.statuses == [502]
    assert found.reasons[0].startswith("server-certificate-wrong-host")
    found = ask_published(SERVER.host, root().issue("server", [SERVER.host]))
    assert found.statuses == [200]


PARENT = SocketAddress.parse("10.7.7.7:3128")


def through_parent(request: bytes) -> Visit:
    policy = RULES.replace('"tcp:443"', '"tcp:80", "tcp:443"')
    parent = ParentProxy(PARENT, name=canonical_host("parent.example"))
    plan = dataclasses.replace(verifying(web_settings(policy)), parent_proxies=(parent,))
    shown = intermediate().issue(names=["parent.example"])
    return browse(request, origin=TlsOrigin(shown), plan=plan, address=PARENT)


def test_a_parent_is_spoken_to_inside_tls() -> None:
    found = through_parent(get("/a", scheme="http"))
    assert found.statuses == [200]
    assert found.origin.lines == ["GET http://site.example/a HTTP/1.1"]


@dataclasses.dataclass
class TunnellingParent(Origin):
    """A proxy that takes CONNECT, and is the server behind itself."""

    shown: Certified = dataclasses.field(
        default_factory=lambda: root().issue(names=["site.example"])
    )
    granted: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n"
    own: Certified | None = None
    #: What it shows of its own, inside TLS; None: it is spoken to in the open.
    protocols: tuple[str, ...] = ()
    asked: list[bytes] = dataclasses.field(default_factory=list)
    ends: list[object] = dataclasses.field(default_factory=list)

    async def serve(self, stream: PeerStream) -> None:
        if self.own is None:
            await self._serve(stream)
        else:
            await serving_tls(self._serve, server_context(self.own), self.ends)(stream)

    async def _serve(self, stream: PeerStream) -> None:
        head = await stream.receive_until(b"\r\n\r\n")
        if not head:
            stream.close()
            return
        self.asked.append(head)
        if not head.startswith(b"CONNECT "):
            await stream.send_all(reply())
            stream.close()
            return
        for piece in (self.granted[:20], self.granted[20:]):
            await stream.send_all(piece)
        if b" 200 " not in self.granted:
            stream.close()
            return
        context = server_context(self.shown, protocols=self.protocols)
        await serving_tls(super().serve, context, self.ends)(stream)


def by_parent(
    parent: TunnellingParent, *wanted: bytes, name: str | None = None, policy: str = RULES
) -> Visit:
    proxy = ParentProxy(PARENT, name=None if name is None else canonical_host(name))
    plan = dataclasses.replace(verifying(web_settings(policy)), parent_proxies=(proxy,))
    return browse(*(wanted or (get("/a"),)), origin=parent, plan=plan, address=PARENT)


@pytest.mark.parametrize("name", [None, "parent.example"], ids=["open", "inside tls"])
def test_a_parent_leads_to_the_server_which_the_gate_verifies(name: str | None) -> None:
    own = None if name is None else intermediate().issue(names=[name])
    parent = TunnellingParent(own=own)
    found = by_parent(parent, get("/a?b"), get("/c"), name=name)
    assert found.statuses == [200, 200]
    assert parent.asked == [b"CONNECT site.example:443 HTTP/1.1\r\nHost: site.example:443\r\n\r\n"]
    assert parent.lines == ["GET /a?b HTTP/1.1", "GET /c HTTP/1.1"], "one tunnel, no whole URLs"
    assert parent.seen[0].field("Host") == "site.example"
    assert {record.server for record in found.gate.requests} == {str(PARENT)}
    assert found.gate.requests[0].url == "https://site.example/a"


def test_requests_in_the_open_and_inside_tls_do_not_share_a_way_to_the_parent() -> None:
    parent = TunnellingParent()
    policy = RULES.replace('"tcp:443"', '"tcp:80", "tcp:443"')
    found = by_parent(parent, get("/a"), get("/b", scheme="http"), policy=policy)
    assert found.statuses[0] == 200
    assert len(parent.asked) == 2
    assert parent.asked[1].startswith(b"GET http://site.example/b HTTP/1.1\r\n")


@pytest.mark.parametrize("kind", ["expired", "wrong-host", "untrusted"])
def test_a_server_behind_a_parent_is_verified_as_any_other(kind: str) -> None:
    shown = {
        "expired": lambda: root().issue(names=["site.example"], days=(-9, -1)),
        "wrong-host": lambda: root().issue(names=["other.example"]),
        "untrusted": lambda: root("another").issue(names=["site.example"]),
    }[kind]()
    parent = TunnellingParent(shown)  # type: ignore[arg-type]
    parent.shown, parent.answers = shown, [reply()]
    found = by_parent(parent)
    assert found.statuses == [502]
    assert found.reasons[0].partition(":")[0] == f"server-certificate-{kind}"
    assert parent.seen == []


def test_a_parent_that_is_somebody_else_is_asked_for_nothing() -> None:
    parent = TunnellingParent(own=intermediate().issue(names=["other.example"]))
    found = by_parent(parent, name="parent.example")
    assert found.statuses == [502]
    assert found.reasons[0].startswith("server-certificate-wrong-host")
    assert parent.asked == []


ANSWERS = [
    (b"HTTP/1.1 407 Who are you\r\nProxy-Authenticate: Basic\r\n\r\n", "parent-refused: 407"),
    (b"HTTP/1.1 403 No such place for you\r\n\r\n", "parent-refused: 403"),
    (b"HTTP/1.1 100 Continue please\r\n\r\n", "parent-malformed: "),
    (b"HTTP/1.1 204 No content at all\n\n", "parent-malformed: "),
    (b"SSH-2.0-OpenSSH_9.2p1 Debian\r\n", "parent-malformed: "),
    (b"HTTP/1.1 302 Found elsewhere", "parent-cut-off: its end"),
    (b"", "parent-cut-off: its end"),
]


@pytest.mark.parametrize(("granted", "reason"), ANSWERS)
def test_a_parent_that_grants_no_tunnel_is_a_failure_with_its_reason(
    granted: bytes, reason: str
) -> None:
    parent = TunnellingParent(granted=granted)
    found = by_parent(parent)
    assert found.statuses == [502]
    assert found.reasons[0].startswith(reason)
    assert found.gate.requests[0].outcome == "failed"


def test_what_comes_behind_the_grant_before_the_gate_has_spoken_is_nobodys() -> None:
    async def serve(stream: PeerStream) -> None:
        await stream.receive_until(b"\r\n\r\n")
        await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\nhello")
        await stream.receive_all()
        stream.close()

    parent = TunnellingParent()
    parent.serve = serve  # type: ignore[method-assign]
    assert by_parent(parent).reasons == ["parent-spoke-early"]


def test_a_parent_that_says_nothing_has_a_deadline() -> None:
    async def silent(stream: PeerStream) -> None:
        try:
            await stream.receive_all()
        except OSError:
            return
        stream.close()

    parent = TunnellingParent()
    parent.serve = silent  # type: ignore[method-assign]
    assert by_parent(parent).statuses == [504]


def test_a_client_that_leaves_while_the_parent_is_asked_ends_it() -> None:
    async def silent(stream: PeerStream) -> bytes:
        try:
            return await stream.receive_all()
        except OSError:
            return b"reset"

    async def leaves(stream: PeerStream) -> None:
        await stream.send_all(get())
        stream.reset()

    parent = TunnellingParent()
    parent.serve = silent  # type: ignore[method-assign]
    plan = dataclasses.replace(
        verifying(web_settings(RULES)), parent_proxies=(ParentProxy(PARENT),)
    )
    found = browse(origin=parent, plan=plan, address=PARENT, peer=leaves)
    assert len(found.gate.ends) == 1


@pytest.mark.parametrize("address", ["10.9.9.9", "127.0.0.1"])
def test_a_tunnel_by_a_parent_is_no_way_around_the_judgement_of_addresses(address: str) -> None:
    parent = TunnellingParent()
    plan = dataclasses.replace(
        verifying(web_settings(RULES)), parent_proxies=(ParentProxy(PARENT),)
    )
    names = Names().put("site.example", address)
    found = browse(get(), origin=parent, plan=plan, address=PARENT, names=names)
    assert (found.statuses, parent.connections, parent.asked) == ([403], 0, [])


def test_an_address_is_asked_for_in_brackets_where_it_has_colons() -> None:
    parent = TunnellingParent(shown=root().issue("server", ["2606:2800:220:1::1"]))
    policy = RULES.replace('"site.example"', '"site.example", "2606:2800:220:1::1"')
    found = by_parent(parent, get("/", "[2606:2800:220:1::1]"), policy=policy)
    assert found.statuses == [200]
    assert parent.asked[0].startswith(b"CONNECT [2606:2800:220:1::1]:443 HTTP/1.1\r\n")


def test_tls_on_both_sides() -> None:
    plan = with_tls(verifying(web_settings(RULES)))
    found = browse(
        origin=TlsOrigin(answers=[reply(LARGE)]),
        plan=plan,
        address=SITE,
        peer=inside_tls(asks(get())),
    )
    assert found.answers[0].body == LARGE
