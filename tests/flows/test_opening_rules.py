"""What rules say of TLS beyond opening it: exceptions, odd servers, pinned clients, other protocols, reloads."""

# ruff: noqa: E501 - one line a case

from __future__ import annotations

import pathlib
import ssl
import tempfile
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from typing_extensions import override

from sluicegate.errors import Side
from sluicegate.filterapi import EntryMode
from sluicegate.testing import FaultPlan
from sluicegate.testing.peers import PeerStream
from sluicegate.tls.leaf_keys import LeafKeys
from sluicegate.tls.leaf_source import NoLeaves
from sluicegate.tls.signed_leaves import SignedLeaves
from tests.chains import Certified, root
from tests.flows.chain_filters import Passing, Stream, Witness
from tests.flows.gate_kit import Gate, installation
from tests.flows.model_kit import Telling
from tests.flows.opening_kit import (
    EVERY_MODE,
    NAME,
    OTHER,
    SITE,
    Inside,
    Met,
    Opened,
    RealClock,
    TlsOrigin,
    client_context,
    get,
    minter,
    open_tls,
    plan_of,
    requests,
    rule,
    trusted,
    untrusted,
)
from tests.flows.test_web_held import Judge
from tests.flows.tls_kit import server_context, serving_tls
from tests.flows.web_kit import reply

every_mode = pytest.mark.parametrize("mode", EVERY_MODE)
ISSUER = "the gate's authority"
ROOT = "root"


def server_trusting(*protocols: str) -> ssl.SSLContext:
    """Return the context of a client that knows the server's own authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=root().pem)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def expired() -> TlsOrigin:
    return TlsOrigin(root().issue(names=[NAME], days=(-9, -1)))


# -- what passes as it is --------------------------------------------------------------------------

# id, keys of tls; whether the server was met by the gate before
PASSED: list[tuple[str, str, int]] = [
    ("spliced by default", 'sni = "match"', 1),
    ("spliced by word", 'mode = "splice"', 1),
    ("an exception", f'mode = "inspect", splice = ["{NAME}"]', 1),
    ("an exception by a wildcard", 'mode = "inspect", splice = ["*.example"]', 1),
    ("verified and not opened", 'mode = "validate"', 2),
    ("an exception that is verified", f'mode = "inspect", verify_only = ["{NAME}"]', 2),
    ("passing on is the stronger exception", f'mode = "inspect", verify_only = ["{NAME}"], splice = ["{NAME}"]', 1),
]  # fmt: skip


@every_mode
@pytest.mark.parametrize(
    ("tls", "met"), [one[1:] for one in PASSED], ids=[one[0] for one in PASSED]
)
def test_client_and_server_speak_to_each_other(tls: str, met: int, mode: EntryMode) -> None:
    found = open_tls(get("/a"), policy=rule(tls), context=server_trusting("http/1.1"), mode=mode)

    assert found.met.error == ""
    assert found.met.issuer == ROOT
    assert found.met.statuses == [200]
    assert found.gate.requests == []
    assert found.minter.asked == []
    assert len(found.origin.ends) == met
    assert (found.end.tls, found.end.tls_leaf) == ("validate" if met == 2 else "", "")
    assert found.end.sni == NAME
    assert found.end.tls_verification == ("verified" if met == 2 else "")


def test_another_name_than_the_exceptions_is_opened() -> None:
    found = open_tls(
        get(), policy=rule('mode = "inspect", splice = ["other.example", "*.site.example"]')
    )

    assert found.met.issuer == ISSUER


def test_what_tls_says_in_general_holds_for_rules_that_do_not() -> None:
    general = f'[tls]\nmode = "inspect"\nsplice = ["{NAME}"]\n'

    assert open_tls(get(), policy=general + rule(""), context=server_trusting()).met.issuer == ROOT
    assert open_tls(get(), policy=general + rule("splice = []")).met.issuer == ISSUER


@pytest.mark.parametrize(
    ("days", "reason"),
    [((-9, -1), "server-certificate-expired"), ((1, 9), "server-certificate-not-yet")],
)
def test_server_that_is_only_verified_is_refused_as_one_that_is_opened(
    days: tuple[int, int], reason: str
) -> None:
    origin = TlsOrigin(root().issue(names=[NAME], days=days))
    found = open_tls(
        get(), policy=rule('mode = "validate"'), origin=origin, context=server_trusting()
    )

    assert found.end.reason.startswith(reason)
    assert found.met.error == "TLSV1_ALERT_ACCESS_DENIED"
    assert (found.end.tls, found.end.tls_verification) == ("validate", reason)


# -- servers that are not who they should be -------------------------------------------------------


def test_page_says_why_under_a_certificate_that_no_client_trusts() -> None:
    found = open_tls(
        get(),
        policy=rule('mode = "inspect", unverified = "page"'),
        origin=expired(),
        context=client_context("http/1.1", knows=untrusted()),
    )

    assert found.met.issuer == "nobody's authority"
    (answer,) = found.met.answers
    assert answer.status == 502
    assert b"server-certificate-expired" in answer.body
    assert found.origin.seen == []
    assert found.reasons[0].startswith("server-certificate-expired")
    assert found.end.tls_verification == "server-certificate-expired"


@pytest.mark.parametrize("unverified", ["page", "show"])
def test_client_that_trusts_the_gate_does_not_take_a_leaf_of_nobody(unverified: str) -> None:
    found = open_tls(
        get(), policy=rule(f'mode = "inspect", unverified = "{unverified}"'), origin=expired()
    )

    assert found.met.error == "CERTIFICATE_VERIFY_FAILED"
    assert found.origin.seen == []
    assert [one.is_trusted for one in found.minter.asked] == [False]


def test_unverified_server_is_shown_by_rule() -> None:
    found = open_tls(
        get(),
        get("/b"),
        policy=rule('mode = "inspect", unverified = "show"'),
        origin=expired(),
        context=client_context("http/1.1", knows=untrusted()),
    )

    assert found.met.statuses == [200, 200]
    assert found.end.tls_verification == "server-certificate-expired"


class Changing(TlsOrigin):
    """A server that closes behind each answer, and shows another certificate to the next one."""

    def __init__(self, *shown: Certified) -> None:
        super().__init__(shown[0])
        self.closes = True
        self.contexts = [server_context(one, protocols=["http/1.1"]) for one in shown]

    @override
    async def serve(self, stream: PeerStream) -> None:
        self.context = self.contexts[min(len(self.ends), len(self.contexts) - 1)]
        await super().serve(stream)


def bad(names: list[str] | None = None) -> Certified:
    return root().issue(names=names or [NAME], days=(-9, -1))


SAME = bad()
GOOD = root().issue(names=[NAME])


@pytest.mark.parametrize(
    ("shown", "statuses", "reason"),
    [
        ((SAME, SAME), [200, 200], "allowed-by-rule"),
        ((SAME, bad()), [200, 502], "inside-other-server"),
        ((SAME, GOOD), [200, 200], "allowed-by-rule"),
        ((GOOD, SAME), [200, 502], "server-certificate-expired"),
        ((GOOD, root().issue(names=[NAME])), [200, 200], "allowed-by-rule"),
    ],
    ids=["the same", "another one", "a good one", "a bad one", "another good one"],
)
def test_further_connection_leads_to_whom_the_client_takes_its_server_for(
    shown: tuple[Certified, ...], statuses: list[int], reason: str
) -> None:
    knows = untrusted() if shown[0] is SAME else trusted()
    found = open_tls(
        get("/a"),
        get("/b"),
        policy=rule('mode = "inspect", unverified = "show"'),
        origin=Changing(*shown),
        context=client_context("http/1.1", knows=knows),
    )

    assert found.met.statuses == statuses
    assert found.reasons[-1].startswith(reason)


def test_verified_server_gets_a_trusted_leaf_also_where_others_are_shown() -> None:
    found = open_tls(get(), policy=rule('mode = "inspect", unverified = "show"'))

    assert found.met.issuer == ISSUER
    assert [one.is_trusted for one in found.minter.asked] == [True]


# -- clients that do not take the certificate ------------------------------------------------------


@pytest.mark.parametrize("maximum", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_pinned_client_leads_to_a_suggestion_and_never_to_a_bypass(maximum: ssl.TLSVersion) -> None:
    context = server_trusting("http/1.1")
    context.maximum_version = maximum
    found = open_tls(get(), context=context)

    assert found.met.error == "CERTIFICATE_VERIFY_FAILED"
    assert found.end.reason == "client-refuses-certificate: unknown ca"
    assert found.end.suggestion == f'tls = {{ mode = "inspect", splice = ["{NAME}"] }}'
    assert found.end.outcome == "failed"
    assert found.origin.seen == []


def test_client_that_only_hangs_up_is_taken_for_a_pinned_one() -> None:
    async def hang_up(_inside: Inside, _met: Met) -> None:
        raise AssertionError("the handshake does not come about")

    class Rude(Inside):
        """Does not even send an alert."""

        @override
        async def shake_hands(self) -> None:
            await self.stream.send_all(self._hello())
            await self.stream.receive()
            self.stream.reset()
            raise OSError("gone")

        def _hello(self) -> bytes:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                return self.outgoing.read()
            raise AssertionError("a client waits for its server")

    found = open_tls(talk=hang_up, made=Rude)

    assert found.end.reason.startswith("client-refuses-certificate: ")
    assert found.end.suggestion


# -- servers that want a client's certificate ------------------------------------------------------


def wanting(*, needed: bool, maximum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> TlsOrigin:
    context = server_context(root().issue(names=[NAME]), protocols=["http/1.1"])
    context.verify_mode = ssl.CERT_REQUIRED if needed else ssl.CERT_OPTIONAL
    context.load_verify_locations(cadata=root().pem)
    context.maximum_version = maximum
    return TlsOrigin(context=context)


VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.mark.parametrize("maximum", VERSIONS)
@pytest.mark.parametrize("needed", [True, False])
def test_server_that_asks_for_a_certificate_is_refused_with_the_rule_to_write(
    needed: bool, maximum: ssl.TLSVersion
) -> None:
    found = open_tls(get(), origin=wanting(needed=needed, maximum=maximum))

    assert found.end.reason.startswith("server-wants-certificate")
    assert found.end.suggestion == f'tls = {{ mode = "inspect", splice = ["{NAME}"] }}'
    assert found.met.error == "TLSV1_ALERT_ACCESS_DENIED"
    assert found.minter.asked == []


@pytest.mark.parametrize("maximum", VERSIONS)
def test_server_that_asks_for_a_certificate_is_passed_on_by_rule(maximum: ssl.TLSVersion) -> None:
    context = server_trusting()
    own = root().issue("a client", ["client.example"], usage=None)
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(own.pem + own.key_pem)
        file.flush()
        context.load_cert_chain(file.name)
    found = open_tls(
        get(),
        policy=rule('mode = "inspect", client_certificates = "splice"'),
        origin=wanting(needed=True, maximum=maximum),
        context=context,
    )

    assert found.met.error == ""
    assert found.met.statuses == [200]
    assert found.met.issuer == ROOT
    assert found.origin.ends[-1].getpeercert() is not None


def test_server_that_only_asks_for_a_certificate_is_opened_by_rule() -> None:
    found = open_tls(
        get(),
        policy=rule('mode = "inspect", client_certificates = "ignore"'),
        origin=wanting(needed=False),
    )

    assert found.met.statuses == [200]
    assert found.met.issuer == ISSUER


# -- what is inside --------------------------------------------------------------------------------


class Greeter:
    """A server inside TLS that greets first, and echoes."""

    def __init__(self, greeting: bytes = b"", protocols: tuple[str, ...] = ()) -> None:
        self.greeting = greeting
        self.seen: list[bytes] = []
        self.ends: list[Any] = []
        self.context = server_context(root().issue(names=[NAME]), protocols=protocols)

    async def serve(self, stream: PeerStream) -> None:
        async def talk(inside: PeerStream) -> None:
            try:
                if self.greeting:
                    await inside.send_all(self.greeting)
                while data := await inside.receive():
                    self.seen.append(data)
                    await inside.send_all(data)
                inside.close()
            except OSError:
                return

        await serving_tls(talk, self.context, self.ends)(stream)


def echoed(word: bytes, greeting: bytes = b"") -> Any:
    async def talk(inside: Inside, met: Met) -> None:
        met.said = await inside.receive_exactly(len(greeting)) if greeting else b""
        await inside.send_all(word)
        met.said += await inside.receive_exactly(len(word))

    return talk


# id, keys, the server, its greeting, ALPN of the client, the reason where it is refused
OTHERS: list[tuple[str, str, bytes, tuple[str, ...], str]] = [
    ("no HTTP, client first", "", b"", (), "inside-not-http"),
    ("no HTTP, server first", "", b"* OK ready\r\n", (), "inside-server-first"),
    ("another protocol by ALPN", "", b"", ("imap",), "inside-not-http"),
    ("by rule, client first", 'not_http = "allow"', b"", (), ""),
    ("by rule, server first", 'not_http = "allow"', b"* OK ready\r\n", (), ""),
    ("by rule, by ALPN", 'not_http = "allow"', b"", ("imap",), ""),
]
WORD = b"\x01\x02 a word that is no request"


@every_mode
@pytest.mark.parametrize(
    ("keys", "greeting", "alpn", "reason"),
    [one[1:] for one in OTHERS],
    ids=[one[0] for one in OTHERS],
)
def test_what_is_no_http_inside_passes_by_rule_only(
    keys: str, greeting: bytes, alpn: tuple[str, ...], reason: str, mode: EntryMode
) -> None:
    found = open_tls(
        talk=echoed(WORD, greeting),
        policy=rule(", ".join(filter(None, ['mode = "inspect"', keys]))),
        origin=Greeter(greeting, alpn),
        context=client_context(*alpn),
        mode=mode,
    )

    assert found.end.reason == reason
    assert found.met.said == (b"" if reason else greeting + WORD)
    assert b"".join(found.origin.seen) == (b"" if reason else WORD)
    assert found.met.alpn == (alpn[0] if alpn else None)


@pytest.mark.parametrize("made", [Passing, Stream])
@pytest.mark.parametrize("greeting", [b"", b"* OK ready\r\n"])
def test_byte_filters_see_what_is_inside(made: Any, greeting: bytes) -> None:
    witness = Witness()
    found = open_tls(
        talk=echoed(WORD, greeting),
        policy=rule('mode = "inspect", not_http = "allow"', more='filters = ["seen"]'),
        origin=Greeter(greeting),
        filters=[installation(lambda: made(witness), "seen")],
        context=client_context(),
    )

    assert found.met.said == greeting + WORD
    assert bytes(witness.seen[Side.CLIENT]) == WORD
    assert bytes(witness.seen[Side.SERVER]) == greeting + WORD
    assert witness.detached == 1


def test_byte_filters_cannot_see_one_request_of_many() -> None:
    found = open_tls(
        get(), policy=rule(more='filters = ["seen"]'), filters=[installation(Passing, "seen")]
    )

    assert found.met.statuses == [403]
    assert found.reasons == ["rule-has-byte-filters"]


COUNTED = "limits = { bytes_max = 100_000 }"


@pytest.mark.parametrize("limits", ["", COUNTED], ids=["", "counted"])
def test_bytes_that_no_filter_sees_do_not_pass_where_everything_has_to_be_seen(limits: str) -> None:
    found = open_tls(
        talk=echoed(WORD),
        policy=rule(
            'mode = "inspect", not_http = "allow"',
            more=f'action = "inspect"\nfilters = ["told"]\n{limits}',
        ),
        origin=Greeter(),
        filters=[installation(Telling(), "told")],
        context=client_context(),
    )

    assert (found.end.outcome, found.end.reason) == ("refused", "inspect-needs-a-filter")
    assert b"".join(found.origin.seen) == b""


def test_a_rule_that_counts_bytes_lets_requests_pass_inside_and_counts_each() -> None:
    origin = TlsOrigin(answers=[reply(b"x" * 60_000), reply(b"x" * 60_000), reply(b"x" * 110_000)])
    found = open_tls(get("/a"), get("/b"), get("/c"), policy=rule(more=COUNTED), origin=origin)
    assert [one.status for one in found.met.answers if one.whole] == [200, 200]
    assert found.reasons[2] == "limit rule web bytes_max"


def test_rule_that_matches_by_requests_alone_lets_nothing_else_through() -> None:
    found = open_tls(
        talk=echoed(WORD),
        policy=rule('mode = "inspect", not_http = "allow"', more='methods = ["GET"]'),
        origin=Greeter(),
        context=client_context(),
    )

    assert found.end.reason == "inside-cannot-be-judged"
    assert found.origin.seen == []


def test_methods_count_inside() -> None:
    found = open_tls(get(), get(method="DELETE"), policy=rule(more='methods = ["GET"]'))

    assert found.met.statuses == [200, 403]


def held(origin: TlsOrigin, *all_requests: bytes) -> Opened:
    with tempfile.TemporaryDirectory() as folder:
        return open_tls(
            *all_requests,
            policy=rule(more='filters = ["judge"]'),
            filters=[installation(Judge(), "judge")],
            origin=origin,
            options={
                "spool": pathlib.Path(folder),
                "spool_free_bytes_min": 0,
                "spool_free_inodes_min": 0,
            },
        )


def test_objects_inside_are_held_until_the_verdict() -> None:
    clean = held(TlsOrigin(answers=[reply(b"a text")]), get("/a.txt"))
    refused = held(TlsOrigin(answers=[reply(b"MZ" + bytes(5000))]), get("/a.exe"))

    assert [(one.status, one.body) for one in clean.met.answers] == [(200, b"a text")]
    assert refused.met.statuses == [403]
    assert refused.reasons == ["executable"]
    assert bytes(100) not in refused.met.answers[0].body


# id, what the rule says; the reason where it is refused
WITH_FILTERS: list[tuple[str, str, str]] = [
    ("an exception", rule(f'mode = "inspect", splice = ["{NAME}"]', more='filters = ["judge"]'), ""),
    ("verified by exception", rule(f'mode = "inspect", verify_only = ["{NAME}"]', more='filters = ["judge"]'), ""),
    ("every host is passed on", rule('mode = "splice"', more='filters = ["judge"]'), "rule-has-filters-of-messages"),
    ("every host is only verified", rule('mode = "validate"', more='filters = ["judge"]'), "rule-has-filters-of-messages"),
    ("everything has to be seen", rule(f'mode = "inspect", splice = ["{NAME}"]', more='action = "inspect"\nfilters = ["judge"]'), "inspect-needs-a-filter"),
    ("everything has to be seen, and is counted", rule(f'mode = "inspect", splice = ["{NAME}"]', more='action = "inspect"\nfilters = ["judge"]\nlimits = { bytes_max = 1_000_000 }'), "inspect-needs-a-filter"),
]  # fmt: skip


@every_mode
@pytest.mark.parametrize(
    ("policy", "reason"), [one[1:] for one in WITH_FILTERS], ids=[one[0] for one in WITH_FILTERS]
)
def test_filters_of_messages_let_pass_only_what_is_excepted_by_name(
    policy: str, reason: str, mode: EntryMode
) -> None:
    found = open_tls(
        get(),
        policy=policy,
        filters=[installation(Judge(), "judge")],
        context=server_trusting("http/1.1"),
        mode=mode,
    )

    refusals = {one.reason for one in found.gate.ends} - {""}
    assert refusals == ({reason} if reason else set())
    assert len(found.origin.seen) == (0 if reason else 1)


# -- ALPN, early data, pieces ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("client", "server", "chosen"),
    [
        (("http/1.1",), ("http/1.1",), "http/1.1"),
        (("h2", "http/1.1"), ("http/1.1",), "http/1.1"),
        ((), ("http/1.1",), None),
        (("http/1.1",), (), None),
    ],
)
def test_alpn_is_mirrored(
    client: tuple[str, ...], server: tuple[str, ...], chosen: str | None
) -> None:
    found = open_tls(get(), origin=TlsOrigin(protocols=server), context=client_context(*client))

    assert found.met.alpn == chosen
    assert found.met.statuses == [200]


@pytest.mark.parametrize("maximum", VERSIONS)
def test_both_versions_of_tls_are_spoken(maximum: ssl.TLSVersion) -> None:
    found = open_tls(get(), context=client_context("http/1.1", maximum=maximum))

    assert found.met.statuses == [200]
    assert found.met.version == ("TLSv1.2" if maximum is ssl.TLSVersion.TLSv1_2 else "TLSv1.3")


@pytest.mark.parametrize("most", [1, 7, 100])
def test_hello_and_handshake_in_small_pieces(most: int) -> None:
    class Slow(Inside):
        @override
        async def flush(self) -> None:
            self.most_sent = most
            await super().flush()

    found = open_tls(get(), made=Slow)

    assert found.met.statuses == [200]


def test_large_bodies_pass_both_ways() -> None:
    large = bytes(range(256)) * 8192
    request = get("/", NAME, f"Content-Length: {len(large)}", method="POST") + large
    found = open_tls(request, origin=TlsOrigin(answers=[reply(large)]))

    assert found.met.answers[0].body == large
    assert found.origin.seen[0].body == large


BAD_NETWORK = FaultPlan(
    delay=0.1,
    socket_buffer_bytes=(600, 9000),
    cut=0.3,
    partial_send=0.3,
    short_receive=0.3,
    multishot_end=0.3,
    late_result=0.3,
)


@pytest.mark.parametrize("seed", range(6))
def test_network_that_cuts_and_delays_changes_nothing(seed: int) -> None:
    large = bytes(range(256)) * 300
    request = get("/", NAME, f"Content-Length: {len(large)}", method="POST") + large
    found = open_tls(
        get("/a"),
        request,
        origin=TlsOrigin(answers=[reply(large)]),
        options={"seed": seed, "faults": BAD_NETWORK},
        within_s=600,
    )

    assert [one.body for one in found.met.answers] == [large, large]
    assert found.origin.seen[1].body == large


@every_mode
@pytest.mark.parametrize("seed", range(3))
def test_tls_in_the_tls_of_a_proxy_is_opened_alike(mode: EntryMode, seed: int) -> None:
    large = bytes(range(256)) * 300
    request = get("/", NAME, f"Content-Length: {len(large)}", method="POST") + large
    found = open_tls(
        get("/a"),
        request,
        origin=TlsOrigin(answers=[reply(large)]),
        mode=mode,
        in_tls=True,
        options={"seed": seed, "faults": BAD_NETWORK},
        within_s=600,
    )

    assert [one.body for one in found.met.answers] == [large, large]
    assert found.origin.seen[1].body == large


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        (rule('mode = "splice"'), ""),
        (rule('mode = "validate"'), ""),
        (rule(to='"other.example"'), "no-rule"),
    ],
)
def test_tls_in_the_tls_of_a_proxy_is_passed_on_alike(policy: str, reason: str) -> None:
    found = open_tls(get("/a"), policy=policy, in_tls=True, context=server_trusting("http/1.1"))

    assert found.met.statuses == ([] if reason else [200])
    assert [one.reason for one in found.gate.decisions if one.verdict == "denied"] == (
        [reason] if reason else []
    )


@pytest.mark.parametrize("in_tls", [False, True])
def test_refusals_reach_clients_inside_the_tls_of_a_proxy_too(in_tls: bool) -> None:
    found = open_tls(get(), origin=expired(), in_tls=in_tls)

    assert found.met.error == "TLSV1_ALERT_ACCESS_DENIED"


@pytest.mark.parametrize("maximum", VERSIONS)
def test_answer_that_is_not_whole_never_ends_cleanly(maximum: ssl.TLSVersion) -> None:
    class Breaking(TlsOrigin):
        @override
        async def serve(self, stream: PeerStream) -> None:
            async def talk(inside: PeerStream) -> None:
                await inside.receive_until(b"\r\n\r\n")
                await inside.send_all(reply(bytes(1000))[:-400])
                inside.reset()

            await serving_tls(talk, self.context, self.ends)(stream)

    async def talk(inside: Inside, met: Met) -> None:
        await inside.send_all(get())
        await inside.receive_until(b"\r\n\r\n")
        met.said = await inside.receive_all()

    found = open_tls(
        talk=talk, origin=Breaking(), context=client_context("http/1.1", maximum=maximum)
    )

    assert found.met.error
    assert found.met.said == b""
    assert found.gate.requests[0].outcome == "failed"


def test_requests_inside_switch_to_another_protocol_by_rule() -> None:
    class Switching(TlsOrigin):
        @override
        async def serve(self, stream: PeerStream) -> None:
            async def talk(inside: PeerStream) -> None:
                await inside.receive_until(b"\r\n\r\n")
                await inside.send_all(
                    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\n"
                )
                while data := await inside.receive():
                    await inside.send_all(data)
                inside.close()

            await serving_tls(talk, self.context, self.ends)(stream)

    async def talk(inside: Inside, met: Met) -> None:
        await inside.send_all(get("/", NAME, "Upgrade: echo", "Connection: upgrade"))
        await inside.receive_until(b"\r\n\r\n")
        await inside.send_all(WORD)
        met.said = await inside.receive_exactly(len(WORD))

    found = open_tls(talk=talk, policy=rule(more='upgrades = ["echo"]'), origin=Switching())

    assert found.met.error == ""
    assert found.met.said == WORD


def test_server_that_closes_is_asked_on_a_connection_that_is_verified_anew() -> None:
    origin = TlsOrigin()
    origin.closes = True
    found = open_tls(get("/a"), get("/b"), origin=origin)

    assert found.met.statuses == [200, 200]
    assert len(origin.ends) == 2


# -- by address ------------------------------------------------------------------------------------

BY_ADDRESS = rule(to=f'"{SITE.host}/32"', name="addresses") + rule(to=f'"{NAME}"')


@pytest.mark.parametrize("mode", [EntryMode.SOCKS4, EntryMode.SOCKS5])
def test_client_that_names_an_address_gets_the_leaf_of_the_name_in_its_hello(
    mode: EntryMode,
) -> None:
    found = open_tls(get(), policy=BY_ADDRESS, mode=mode, host=SITE.host)

    assert found.met.error == ""
    assert found.met.names == (NAME,)
    assert found.met.statuses == [200]


def test_name_in_the_hello_has_to_lead_to_the_address() -> None:
    policy = rule(to=f'"{OTHER.host}/32"', name="addresses") + rule(to=f'"{NAME}"')
    found = open_tls(get(), policy=policy, mode=EntryMode.SOCKS5, host=OTHER.host, address=OTHER)

    assert found.end.reason.startswith("tls-sni-elsewhere")
    assert found.minter.asked == []


def test_rules_that_differ_about_the_tls_of_address_and_name_refuse() -> None:
    policy = rule(to=f'"{SITE.host}/32"', name="addresses") + rule('mode = "splice"')
    found = open_tls(get(), policy=policy, mode=EntryMode.SOCKS5, host=SITE.host)

    assert found.end.reason.startswith("tls-sni-not-allowed")


def test_address_without_a_name_is_verified_as_an_address() -> None:
    found = open_tls(
        get(host=SITE.host),
        policy=rule('mode = "inspect", without_sni = "allow"', to=f'"{SITE.host}/32"'),
        mode=EntryMode.SOCKS5,
        host=SITE.host,
        name=None,
        origin=TlsOrigin(root().issue(names=[_address()])),
    )

    assert found.met.statuses == [200]
    assert found.met.names == (SITE.host,)


def _address() -> Any:
    import ipaddress

    from cryptography import x509

    return x509.IPAddress(ipaddress.ip_address(SITE.host))


# -- another policy, time, commands ----------------------------------------------------------------


def waits(asked: bytes) -> Any:
    """Ask once, then wait for the end."""

    async def talk(inside: Inside, met: Met) -> None:
        await requests(asked)(inside, met)
        await inside.receive_all()

    return talk


def reloading(policy: str) -> Any:
    async def during(gate: Gate) -> None:
        await gate.until(lambda: len(gate.requests) == 1)
        await gate.service.apply(plan_of(policy))

    return during


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        (rule('mode = "splice"'), "revoked: tls-mode-changed (web)"),
        (rule('mode = "validate"'), "revoked: tls-mode-changed (web)"),
        (rule(to='"other.example"'), "revoked: no-rule"),
    ],
)
def test_policy_that_wants_something_else_ends_what_is_open(policy: str, reason: str) -> None:
    found = open_tls(talk=waits(get()), during=reloading(policy))

    assert found.met.statuses == [200]
    assert found.end.reason == reason


class LateLeaves(SignedLeaves):
    """Has leaves only when it is told to."""

    waiting: ClassVar[list[Callable[[], None]]] = []

    @override
    def leaf_for(self, identity: Any, then: Any) -> None:
        self.waiting.append(lambda: super(LateLeaves, self).leaf_for(identity, then))


@pytest.mark.parametrize("tls", ["", 'mode = "splice"', 'mode = "validate"', 'mode = "inspect"'])
def test_policy_that_comes_while_tls_is_opened_is_heeded_before_the_client_is_met(tls: str) -> None:
    async def during(gate: Gate) -> None:
        await gate.until(lambda: bool(LateLeaves.waiting))
        await gate.service.apply(plan_of(rule(tls, more='comment = "another"')))
        LateLeaves.waiting.pop()()

    keys = LeafKeys(has_rsa=False)
    found = open_tls(get(), leaves=lambda _: LateLeaves(minter(), keys, RealClock()), during=during)
    if "inspect" in tls:
        assert found.met.statuses == [200]
    else:
        assert found.met.alpn is None, "its handshake is not done"
        assert found.end.reason == "tls-mode-changed"


def test_spliced_connection_ends_where_its_tls_is_to_be_opened_now() -> None:
    async def during(gate: Gate) -> None:
        await gate.until(lambda: len(gate.service.connections()) == 1)
        await gate.until(lambda: bool(origin.seen))
        await gate.service.apply(plan_of(rule()))

    origin = TlsOrigin()
    found = open_tls(
        talk=waits(get()),
        policy=rule('mode = "splice"'),
        during=during,
        origin=origin,
        context=server_trusting(),
    )

    assert found.end.reason == "revoked: tls-mode-changed (web)"


def test_the_same_policy_leaves_what_is_open_alone() -> None:
    async def talk(inside: Inside, met: Met) -> None:
        await requests(get("/a"))(inside, met)
        await gates[0].service.apply(plan_of(rule(more='comment = "another"')))
        await requests(get("/b"))(inside, met)

    gates: list[Gate] = []

    async def during(gate: Gate) -> None:
        gates.append(gate)

    found = open_tls(talk=talk, during=during)

    assert found.met.statuses == [200, 200]


def test_opened_connection_is_killed_by_its_name() -> None:
    async def during(gate: Gate) -> None:
        await gate.until(lambda: len(gate.requests) == 1)
        (view,) = gate.service.connections()
        assert gate.service.kill(view.connection, "an operator")

    found = open_tls(talk=waits(get()), during=during)

    assert found.end.reason == "an operator"
    assert len(found.gate.ends) == 1


def test_signer_that_never_answers_is_not_waited_for_for_ever() -> None:
    class Silent(NoLeaves):
        def leaf_for(self, identity: Any, then: Any) -> None:
            del identity, then

    found = open_tls(get(), leaves=lambda _gate: Silent())

    assert found.end.reason == "tls-opening-late"
    assert found.met.error == "TLSV1_ALERT_INTERNAL_ERROR"


def test_client_that_says_nothing_is_not_waited_for_for_ever() -> None:
    class Mute(Inside):
        @override
        async def shake_hands(self) -> None:
            await self.stream.receive_all()
            raise OSError("ended")

    found = open_tls(get(), made=Mute)

    assert found.end.reason == "tls-hello-late"


@pytest.mark.parametrize("after", [0, 1, 2])
def test_client_that_goes_away_at_any_step_leaves_nothing(after: int) -> None:
    class Leaver(Inside):
        @override
        async def shake_hands(self) -> None:
            if after == 0:
                self.stream.reset()
                raise OSError("gone")
            if after == 1:
                await self.stream.send_all(b"\x16\x03\x01")
                self.stream.reset()
                raise OSError("gone")
            await super().shake_hands()
            self.stream.reset()
            raise OSError("gone")

    found = open_tls(get(), made=Leaver)

    assert len(found.gate.ends) == 1
    assert found.origin.seen == []
