"""ClientHellos on connections that nobody opens: group E in every entry mode.

Around it: the server's answer, time, filters, the kernel, and another policy.
"""

# ruff: noqa: E501 - one line a case

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from sluicegate.errors import Side
from sluicegate.filterapi import EntryMode
from sluicegate.gate.hello_check import HelloCheck, check_for
from sluicegate.policy.tls_check import HelloFacts, TlsCheck
from sluicegate.protocol_limits import TLS_HELLO_BYTES_MAX
from sluicegate.testing import FaultPlan
from sluicegate.testing.peers import PeerStream
from tests.flows.chain_filters import Passing, Stream, Witness
from tests.flows.entry_kit import MODES, WEB, Names
from tests.flows.gate_kit import Gate, installation
from tests.flows.hello_parts import (
    AGAIN,
    ANSWER,
    EVERY_MODE,
    NAME,
    PUBLISHED,
    Outcome,
    Server,
    meet,
    plan_of,
    policy,
    says,
)
from tests.unit.hello_kit import (
    CHANGE_OF_CIPHER,
    EARLY,
    EARLY_DATA,
    ECH,
    PADDING,
    PSK,
    body,
    browser_hello,
    ech_outer,
    hello,
    hello_to,
    message,
    openssl_hello,
    records,
    sni,
    versions,
)

every_mode = pytest.mark.parametrize("mode", EVERY_MODE)

HTTP = b"GET / HTTP/1.1\r\nHost: www.example\r\n\r\n"
SSH = b"SSH-2.0-OpenSSH_9.2p1\r\n"
OLD = hello(sni(NAME), version=0x0302)

# id, what the rule says, what the client sends, the reason of the end; empty: it goes through
CASES: list[tuple[str, str, bytes, str]] = [
    ("E1 the name that was asked for", "", hello_to(NAME), ""),
    ("E1 a hello of OpenSSL", "", openssl_hello(NAME), ""),
    ("E1 another name", "", hello_to("evil.example"), "tls-sni-mismatch: evil.example"),
    ("E1 a name below it", "", hello_to(f"a.{NAME}"), f"tls-sni-mismatch: a.{NAME}"),
    ("E1 a name above it", "", hello_to("example"), "tls-sni-mismatch: example"),
    ("E1 a name that begins so", "", hello_to(f"{NAME}.evil"), f"tls-sni-mismatch: {NAME}.evil"),
    ("E1 another name, where any will do", 'sni = "any"', hello_to("evil.example"), ""),
    ("E6 no name", "", hello(versions(0x0304)), "tls-sni-missing"),
    ("E6 no extensions at all", "", records(message(body(None))), "tls-sni-missing"),
    ("E6 no name, where any will do", 'sni = "any"', hello(), "tls-sni-missing"),
    ("E6 no name, by rule", 'without_sni = "allow"', hello(versions(0x0304)), ""),
    ("E7 an address", "", hello(sni(WEB.host)), f"tls-sni-address: {WEB.host}"),
    ("E7 an IPv6 address", "", hello(sni("2001:db8::1")), "tls-sni-address: 2001:db8::1"),
    ("E7 another address, by rule", 'address_as_sni = "allow"', hello(sni("192.0.2.9")),
     "tls-sni-mismatch: 192.0.2.9"),
    ("E7 an address, where any will do", 'address_as_sni = "allow", sni = "any"',
     hello(sni("192.0.2.9")), ""),
    ("E7 an address in octal", "", hello(sni("010.0.0.1")), "tls-sni-form: host-ipv4-form"),
    ("E7 an address in hexadecimal", "", hello(sni("0x7f.1")), "tls-sni-form: host-ipv4-form"),
    ("E8 capitals", "", hello_to(NAME.upper()), ""),
    ("E8 a final dot", "", hello_to(f"{NAME}."), "tls-sni-form: final dot"),
    ("E8 a final dot, where any will do", 'sni = "any"', hello_to(f"{NAME}."),
     "tls-sni-form: final dot"),
    ("E8 two dots", "", hello_to("www..example"), "tls-sni-form: host-empty-label"),
    ("E8 brackets", "", hello_to(f"[{NAME}]"), "tls-sni-form: host-brackets"),
    ("E8 a port", "", hello_to(f"{NAME}:443"), "tls-sni-form: host-ipv6-form"),
    ("E8 an escape", "", hello_to("www%2eexample"), "tls-sni-form: host-percent-encoding"),
    ("E8 an invalid A-label", "", hello_to("xn--a.example"), "tls-sni-form: host-invalid-a-label"),
    ("E8 a NUL", "", hello(sni(f"{NAME}\0.evil.example")), "tls-sni-form"),
    ("E8 UTF-8", "", hello(sni("wẇw.example")), "tls-sni-form"),
    ("E9 two names", "", hello(sni(NAME, "evil.example")), "tls-sni-names"),
    ("E9 the extension twice", "", hello(sni(NAME), sni("evil.example")), "tls-extension-repeated"),
    ("E9 an empty name", "", hello(sni("")), "tls-sni-malformed"),
    ("E10 records of one byte", "", records(message(body([sni(NAME)])), rest=1), ""),
    ("E10 16 KiB of padding", "", hello_to(NAME, (PADDING, bytes(16384))), ""),
    ("E10 over 64 KiB", "", records(message(body([sni(NAME), (PADDING, bytes(65000))])) + bytes(600)),
     "tls-hello-too-long"),
    ("E10 an empty record", "", b"\x16\x03\x01\0\0" + hello_to(NAME), "tls-record-empty"),
    ("E10 more in its record", "", records(message(body([sni(NAME)])) + b"\0"), "tls-hello-trailing"),
    ("E11 GREASE and unknown extensions", 'ech = "outer"', browser_hello(NAME), ""),
    ("E11 an extension twice", "", hello(sni(NAME), (9999, b""), (9999, b"")), "tls-extension-repeated"),
    ("E12 ECH, or its GREASE", "", browser_hello(NAME), "tls-ech: outer"),
    ("E12 ECH by rule, the name outside is another", 'ech = "outer"',
     browser_hello("front.example"), "tls-sni-mismatch: front.example"),
    ("E12 the inside of ECH", 'ech = "outer"', hello(sni(NAME), (ECH, b"\1")), "tls-ech: inner"),
    ("E12 encrypted SNI of a draft", 'ech = "outer"', hello(sni(NAME), (0xFFCE, b"x")), "tls-ech: draft"),
    ("E12 ECH that is malformed", 'ech = "outer"', hello(sni(NAME), (ECH, b"\0")), "tls-extension-malformed"),
    ("E13 a post-quantum key", 'ech = "outer"', browser_hello(NAME), ""),
    ("E16 early data", "", hello_to(NAME, (EARLY_DATA, b""), (PSK, b"x")) + EARLY * 3, ""),
    ("D3 HTTP", "", HTTP, "tls-not-tls"),
    ("D3 HTTP, by rule", 'not_tls = "allow"', HTTP, ""),
    ("D4 SSH", "", SSH, "tls-not-tls"),
    ("D4 SSH, by rule", 'not_tls = "allow"', SSH, ""),
    ("D4 another name, where other protocols are let pass", 'not_tls = "allow"',
     hello_to("evil.example"), "tls-sni-mismatch: evil.example"),
    ("D4 SSL 2, where other protocols are let pass", 'not_tls = "allow"',
     b"\x80\x2e\x01\x03\x01" + bytes(50), "tls-ssl2-hello"),
    ("D4 an alert first, where other protocols are let pass", 'not_tls = "allow"',
     b"\x15\x03\x01\0\2\1\0" + hello_to(NAME), "tls-record-type"),
    ("SSL 3.0", "", hello(sni(NAME), version=0x0300), "tls-hello-version"),
    ("TLS 1.1", "", OLD, ""),
    ("TLS 1.1, where 1.2 is wanted", 'version_min = "1.2"', OLD, "tls-version: 1.1"),
    ("TLS 1.2, where 1.3 is wanted", 'version_min = "1.3"', hello(sni(NAME)), "tls-version: 1.2"),
    ("TLS 1.3, where 1.3 is wanted", 'version_min = "1.3"', hello_to(NAME), ""),
    ("a second hello at once", "", hello_to(NAME) + hello_to("evil.example"), "tls-hello-again"),
    ("the same hello twice", "", hello_to(NAME) * 2, "tls-hello-again"),
    ("text behind the hello", "", hello_to(NAME) + HTTP, "tls-not-tls"),
]  # fmt: skip


@every_mode
@pytest.mark.parametrize(
    ("tls", "data", "reason"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_hello_is_judged_before_a_byte_of_it_is_sent(
    mode: EntryMode, tls: str, data: bytes, reason: str
) -> None:
    found = meet(mode, says(data), policy(tls, mode=mode), server=Server(length=len(data)))

    assert found.end == (("refused", reason) if reason else ("released", ""))
    assert found.said == ("reset" if reason else "through")
    assert found.server.heard == (b"" if reason else data + b"a word")


@every_mode
@pytest.mark.parametrize("reason", ["", "tls-sni-mismatch: evil.example"])
def test_one_byte_at_a_time_is_the_same(mode: EntryMode, reason: str) -> None:
    data = hello_to("evil.example" if reason else NAME)
    pieces = [data[at : at + 1] for at in range(len(data))]
    found = meet(mode, says(*pieces), policy(mode=mode), server=Server(length=len(data)))

    assert found.end[1] == reason
    assert found.server.heard == (b"" if reason else data + b"a word")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("cut", [0, 5, 40, 400])
def test_what_was_sent_before_the_tunnel_was_there_is_judged_alike(
    mode: EntryMode, cut: int
) -> None:
    for name, reason in ((NAME, ""), ("evil.example", "tls-sni-mismatch: evil.example")):
        data = hello_to(name)
        found = meet(
            mode, says(data[cut:]), policy(), early=data[:cut], server=Server(length=len(data))
        )
        assert found.end[1] == reason
        assert found.server.heard == (b"" if reason else data + b"a word")


@every_mode
def test_the_name_is_on_record_also_of_what_was_refused(mode: EntryMode) -> None:
    for name in (NAME, "evil.example"):
        found = meet(mode, says(hello_to(name)), policy(mode=mode))
        assert [end.sni for end in found.gate.ends] == [name]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (hello_to(NAME), ""),
        (browser_hello(NAME), "tls-ech: outer"),
        (hello_to("evil.example"), "tls-sni-mismatch: evil.example"),
        (HTTP, "tls-not-tls"),
    ],
    ids=["the name", "ECH", "another name", "HTTP"],
)
def test_tunnel_inside_tls_to_the_proxy_is_judged_alike(
    mode: EntryMode, data: bytes, reason: str
) -> None:
    found = meet(mode, says(data), policy(), server=Server(length=len(data)), inside=True)

    assert found.end == (("refused", reason) if reason else ("released", ""))
    assert found.server.heard == (b"" if reason else data + b"a word")


# -- which connections -----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("tls", "port", "is_judged"),
    [
        ("", 443, True),
        ("", 8443, False),
        ("ports = [8443]", 8443, True),
        ("ports = [8443]", 443, False),
        ("ports = [8000, 443]", 443, True),
        ("check = false", 443, False),
    ],
)
def test_rules_say_on_which_ports_clients_speak_tls(
    mode: EntryMode, tls: str, port: int, is_judged: bool
) -> None:
    where = WEB.with_port(port)
    found = meet(mode, says(HTTP), policy(tls), port=port, address=where)

    assert found.said == ("reset" if is_judged else "through")
    assert found.gate.ends[0].filters == (("tls.hello",) if is_judged else ())


def test_publication_that_says_nothing_of_tls_looks_at_nothing() -> None:
    text = policy(mode=PUBLISHED)
    head, _, _ = text.partition("tls = {")
    found = meet(PUBLISHED, says(HTTP), head)

    assert (found.said, found.gate.ends[0].filters) == ("through", ())


@pytest.mark.parametrize(
    ("name", "passes"),
    [("a.example", True), ("x.b.example", True), ("b.example", False), ("c.example", False)],
)
def test_publication_says_what_its_server_is_called(name: str, passes: bool) -> None:
    text = policy('names = ["a.example", "*.b.example"]', mode=PUBLISHED)
    found = meet(PUBLISHED, says(hello_to(name)), text)

    assert found.said == ("through" if passes else "reset")


# -- clients that name an address ------------------------------------------------------------------

ADDRESS = WEB.host
TO_ADDRESS = policy(to=ADDRESS)
BY_NAME = f'[[rule]]\nname = "names"\nto = ["{NAME}", "elsewhere.example", "gone.example"]\n'
EVERYTHING = policy(to="*", name="all")
NO_ADS = '[[rule]]\nname = "no-ads"\naction = "deny"\nto = ["alias.example"]\n'

# id, the policy, the name in the hello, the reason of the end, what was looked up
BY_ADDRESS: list[tuple[str, str, str, str, list[str]]] = [
    ("E14 a name that leads there", TO_ADDRESS + BY_NAME, NAME, "", [NAME]),
    ("E14 a name that no rule allows", TO_ADDRESS, NAME, f"tls-sni-not-allowed: {NAME} no-rule", []),
    ("E14 a name that a rule refuses", NO_ADS + TO_ADDRESS + EVERYTHING, "alias.example",
     "tls-sni-not-allowed: alias.example denied-by-rule", []),
    ("E14 a name that leads elsewhere", TO_ADDRESS + BY_NAME, "elsewhere.example",
     "tls-sni-elsewhere: elsewhere.example", ["elsewhere.example"]),
    ("E14 a name that there is not", TO_ADDRESS + BY_NAME, "gone.example",
     "tls-sni-elsewhere: gone.example dns-no-such-name", ["gone.example"]),
    ("E14 under a rule for everything", policy(to="*"), NAME, "", [NAME]),
    ("E14 a name whose rule wants a filter", TO_ADDRESS + BY_NAME + 'filters = ["passing"]\n', NAME,
     f"tls-sni-not-allowed: {NAME}, by rule names: the filter passing is wanted now", []),
    ("E14 a name whose rule wants TLS 1.3", policy('ech = "outer"', to=ADDRESS)
     + BY_NAME + 'tls = { version_min = "1.3" }\n', NAME, "", [NAME]),
    ("E14 any name", policy('sni = "any"', to=ADDRESS), "evil.example", "", []),
]  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("text", "name", "reason", "asked"),
    [case[1:] for case in BY_ADDRESS],
    ids=[case[0] for case in BY_ADDRESS],
)
def test_name_of_a_client_that_named_an_address_has_to_lead_there(
    mode: EntryMode, text: str, name: str, reason: str, asked: list[str]
) -> None:
    names = Names().put("elsewhere.example", "198.51.99.9")
    data = hello_to(name)
    found = meet(
        mode,
        says(data),
        text,
        host=ADDRESS,
        names=names,
        server=Server(length=len(data)),
        filters=[installation(Passing, "passing")],
    )

    assert found.end == (("refused", reason) if reason else ("released", ""))
    assert sorted(found.names.asked) == asked
    assert found.server.heard == (b"" if reason else data + b"a word")


@pytest.mark.parametrize("mode", MODES)
def test_name_whose_rule_wants_more_of_the_hello_gets_it(mode: EntryMode) -> None:
    text = policy('ech = "outer"', to=ADDRESS) + BY_NAME
    found = meet(mode, says(browser_hello(NAME)), text, host=ADDRESS)

    assert found.end == ("refused", "tls-ech: outer")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("tls", "data", "reason"),
    [
        ("", hello(), "tls-sni-missing"),
        ('without_sni = "allow"', hello(), ""),
        ("", hello(sni(ADDRESS)), f"tls-sni-address: {ADDRESS}"),
        ('address_as_sni = "allow"', hello(sni(ADDRESS)), ""),
        ('address_as_sni = "allow"', hello(sni("192.0.2.9")), "tls-sni-mismatch: 192.0.2.9"),
    ],
)
def test_hello_without_a_name_to_an_address_is_refused_unless_a_rule_takes_it(
    mode: EntryMode, tls: str, data: bytes, reason: str
) -> None:
    found = meet(mode, says(data), policy(tls, to=ADDRESS), host=ADDRESS)

    assert found.end[1] == reason
    assert not found.names.asked


def test_lookups_for_hellos_count_as_the_clients_own() -> None:
    async def scenario(gate: Gate) -> None:
        await gate.until(lambda: gate.service.connection_count)
        (session,) = gate.service.known_sessions
        session.lookups = gate.service.limits.lookups_per_client_max
        await gate.until(lambda: gate.ends)
        session.lookups = 0

    found = meet(MODES[1], says(hello_to(NAME)), policy(to="*"), host=ADDRESS, then=scenario)

    assert found.end == ("refused", "tls-sni-elsewhere: limit lookups_per_client_max")


def test_slow_lookup_holds_the_hello_and_what_follows() -> None:
    class Slow(Names):
        async def ask_udp(self, server: Any, query: Any) -> bytes:
            await asyncio.sleep(1.5)
            return await super().ask_udp(server, query)

    data = hello_to(NAME) + EARLY * 5
    found = meet(
        MODES[1],
        says(data[:-40], data[-40:]),
        policy(to="*"),
        host=ADDRESS,
        names=Slow(),
        server=Server(length=len(data)),
    )

    assert (found.said, bytes(found.server.heard)) == ("through", data + b"a word")


# -- the server ------------------------------------------------------------------------------------


@every_mode
@pytest.mark.parametrize(
    ("tls", "data", "said"),
    [("", hello_to(NAME), "reset"), ('not_tls = "allow"', HTTP, "ended")],
    ids=["refused", "by rule"],
)
def test_server_that_speaks_first(mode: EntryMode, tls: str, data: bytes, said: str) -> None:
    """D5."""

    async def waits(stream: PeerStream) -> str:
        try:
            greeting = await stream.receive_exactly(len(SSH))
            assert greeting in {SSH, b""}
            await stream.send_all(data)
            stream.end_stream()
            await stream.receive_all()
        except ConnectionResetError:
            return "reset"
        return "ended"

    found = meet(mode, waits, policy(tls, mode=mode), server=Server(greeting=SSH))

    assert found.said == said
    assert found.end == (("refused", "tls-server-first") if said == "reset" else ("released", ""))


@every_mode
def test_server_that_answers_with_something_else_is_refused(mode: EntryMode) -> None:
    server = Server([b"HTTP/1.1 400 Bad Request\r\n\r\n"])
    found = meet(mode, says(hello_to(NAME)), policy(mode=mode), server=server)

    assert found.end == ("refused", "tls-not-tls: the server")


AGAINS: list[tuple[str, bytes, str]] = [
    ("the same name", hello_to(NAME, (44, b"\0\1x")), ""),
    ("behind a change of cipher", CHANGE_OF_CIPHER + hello_to(NAME), ""),
    ("behind early data", EARLY + CHANGE_OF_CIPHER + hello_to(NAME), ""),
    ("in records of one byte", records(message(body([sni(NAME)])), rest=1), ""),
    ("another name", hello_to("evil.example"), "tls-hello-differs"),
    ("another spelling", hello_to(NAME.upper()), "tls-hello-differs"),
    ("no name", hello(), "tls-hello-differs"),
    ("ECH that was not there", hello_to(NAME, ech_outer()), "tls-hello-differs"),
    ("another name, hidden by a change of cipher", CHANGE_OF_CIPHER + hello_to("evil.example"),
     "tls-hello-differs"),
    ("no hello", records(message(b"x", kind=16)), "tls-not-a-hello"),
    ("text", HTTP, "tls-not-tls"),
]  # fmt: skip


@every_mode
@pytest.mark.parametrize(
    ("again", "reason"), [case[1:] for case in AGAINS], ids=[case[0] for case in AGAINS]
)
@pytest.mark.parametrize("is_cut", [False, True], ids=["whole", "cut"])
def test_server_that_asks_again_gets_the_same_name(
    mode: EntryMode, again: bytes, reason: str, is_cut: bool
) -> None:
    """A second hello (HelloRetryRequest) is in clear, and servers may read the name from it."""
    first = hello_to(NAME)
    pieces = [again[at : at + 1] for at in range(len(again))] if is_cut else [again]

    async def talk(stream: PeerStream) -> str:
        try:
            await stream.send_all(first)
            assert await stream.receive_exactly(len(AGAIN)) == AGAIN
        except ConnectionResetError:
            return "reset"
        return str(await says(*pieces)(stream))

    class Twice(Server):
        async def __call__(self, stream: PeerStream) -> None:
            self.length = len(first)
            self.answers = (AGAIN,)
            await stream.receive_exactly(len(first))
            await stream.send_all(AGAIN)
            self.length, self.answers = len(again), (ANSWER,)
            await super().__call__(stream)

    server = Twice()
    found = meet(mode, talk, policy(mode=mode), server=server)

    assert found.end == (("refused", reason) if reason else ("released", ""))
    if reason:
        assert b"evil" not in server.heard
        assert b"\x16" not in server.heard.replace(EARLY, b"").replace(CHANGE_OF_CIPHER, b"")
    else:
        assert server.heard == again + b"a word"


# -- time and end ----------------------------------------------------------------------------------


async def stays(stream: PeerStream) -> str:
    try:
        await stream.receive_all()
    except ConnectionResetError:
        return "reset"
    return "ended"


@every_mode
@pytest.mark.parametrize("count", [0, 1, 5, 60])
def test_hello_that_does_not_come_in_time_ends_the_connection(mode: EntryMode, count: int) -> None:
    async def talk(stream: PeerStream) -> str:
        await stream.send_all(hello_to(NAME)[:count])
        return await stays(stream)

    found = meet(mode, talk, policy(mode=mode))

    assert (found.said, found.end) == ("reset", ("refused", "tls-hello-late"))
    limit = found.gate.service.limits.hello_timeout_s
    assert limit <= found.gate.ends[0].duration_s < limit + 2
    assert not found.server.heard


@every_mode
def test_hello_that_came_in_time_has_no_deadline_any_more(mode: EntryMode) -> None:
    gates: list[Gate] = []

    async def note(gate: Gate) -> None:
        gates.append(gate)

    async def talk(stream: PeerStream) -> str:
        await stream.send_all(hello_to(NAME))
        assert await stream.receive_exactly(len(ANSWER)) == ANSWER
        await gates[0].peers.sleep(60)
        await stream.send_all(b"later")
        assert await stream.receive_exactly(5) == b"later"
        stream.close()
        return "through"

    found = meet(mode, talk, policy(mode=mode), then=note)

    assert (found.said, found.end) == ("through", ("released", ""))
    assert found.gate.ends[0].duration_s >= 60


@every_mode
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", ""),
        (b"\x16", "tls-hello-cut-off"),
        (hello_to(NAME)[:-1], "tls-hello-cut-off"),
        (b"\x80", "tls-hello-cut-off"),
    ],
)
def test_stream_that_ends_before_its_hello_is_whole(
    mode: EntryMode, data: bytes, reason: str
) -> None:
    found = meet(mode, says(data, ends=True), policy(mode=mode))

    assert found.end == (("refused", reason) if reason else ("released", ""))
    assert not found.server.heard


@every_mode
def test_longest_hello_fits_what_stages_may_hold(mode: EntryMode) -> None:
    fixed = len(records(message(body([sni(NAME), (PADDING, b"")])), rest=1 << 14))
    count = TLS_HELLO_BYTES_MAX - fixed - 15
    data = records(message(body([sni(NAME), (PADDING, bytes(count))])))
    assert len(data) == TLS_HELLO_BYTES_MAX
    found = meet(mode, says(data), policy(mode=mode), server=Server(length=len(data)))

    assert found.said == "through"


# -- filters, and the kernel -----------------------------------------------------------------------


@every_mode
@pytest.mark.parametrize("name", [NAME, "evil.example"])
def test_filters_see_what_passed_and_nothing_else(mode: EntryMode, name: str) -> None:
    data = hello_to(name)
    witness = Witness()

    found = meet(
        mode,
        says(data),
        policy(mode=mode, more='filters = ["passing"]'),
        server=Server(length=len(data)),
        filters=[installation(lambda: Passing(witness), "passing")],
    )
    passed = data + b"a word" if name == NAME else b""

    assert found.said == ("through" if name == NAME else "reset")
    assert (found.server.heard, witness.seen[Side.CLIENT]) == (passed, passed)
    assert found.gate.ends[0].filters == ("tls.hello", "passing")


@every_mode
def test_bytes_behind_the_handshake_are_spliced(
    mode: EntryMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[int] = []
    on_data = HelloCheck.on_data

    def counting(self: HelloCheck, side: Any, window: Any) -> Any:
        shown.append(window.length)
        return on_data(self, side, window)

    monkeypatch.setattr(HelloCheck, "on_data", counting)
    data = hello_to(NAME)
    much = bytes(4 << 20)

    async def talk(stream: PeerStream) -> str:
        await stream.send_all(data)
        assert await stream.receive_exactly(len(ANSWER)) == ANSWER
        await stream.send_all(much)
        stream.end_stream()
        await stream.receive_all()
        return "through"

    class Sink(Server):
        async def __call__(self, stream: PeerStream) -> None:
            self.heard += await stream.receive_exactly(len(data))
            await stream.send_all(ANSWER)
            while piece := await stream.receive():
                self.heard += piece
            stream.close()

    found = meet(mode, talk, policy(mode=mode), server=Sink())

    assert found.server.heard == data + much
    assert found.gate.ends[0].bytes_spliced > 3 << 20
    assert shown == [len(data), len(ANSWER)]


# -- another policy --------------------------------------------------------------------------------

LOOSE = policy('ech = "outer", sni = "any", without_sni = "allow"')

# id, before, what the client says, after, why it ends; empty: it goes on
CHANGES: list[tuple[str, str, bytes, str, str]] = [
    ("the same", policy(), hello_to(NAME), policy(), ""),
    ("nothing is looked at any more", policy(), hello_to(NAME), policy("check = false"), ""),
    ("hellos are looked at now", policy("check = false"), hello_to(NAME), policy(),
     "revoked: its ClientHello has to be judged now (web)"),
    ("hellos are looked at on its port now", policy("ports = [8443]"), hello_to(NAME), policy(),
     "revoked: its ClientHello has to be judged now (web)"),
    ("the name counts now, and is right", LOOSE, hello_to(NAME), policy(), ""),
    ("the name counts now, and is wrong", LOOSE, hello_to("b.example"), policy(),
     "revoked: tls-sni-mismatch: b.example (web)"),
    ("a name has to be there now", LOOSE, hello(versions(0x0304)), policy(),
     "revoked: tls-sni-missing (web)"),
    ("ECH is refused now", LOOSE, browser_hello(NAME), policy(), "revoked: tls-ech: outer (web)"),
    ("TLS 1.2 is too old now", policy(), hello(sni(NAME)), policy('version_min = "1.3"'),
     "revoked: tls-version: 1.2 (web)"),
    ("TLS has to be spoken now", policy('not_tls = "allow"'), HTTP, policy(),
     "revoked: tls-not-tls (web)"),
    ("something else is refused now", policy(), hello_to(NAME),
     '[[rule]]\nname = "no"\naction = "deny"\nto = ["bad.example"]\n' + policy(), ""),
]  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("before", "data", "after", "reason"),
    [case[1:] for case in CHANGES],
    ids=[case[0] for case in CHANGES],
)
def test_open_connections_are_held_to_a_stricter_rule_by_the_hello_they_came_with(
    mode: EntryMode, before: str, data: bytes, after: str, reason: str
) -> None:
    found = change_while_open(mode, before, data, after)

    assert found.end == (("refused", reason) if reason else ("released", ""))
    assert found.said == ("reset" if reason else "through")


def change_while_open(
    mode: EntryMode, before: str, data: bytes, after: str, **client: Any
) -> Outcome:
    """Open a connection, put another policy in force, and go on."""
    is_changed: list[bool] = []
    is_open: list[bool] = []
    gates: list[Gate] = []

    async def talk(stream: PeerStream) -> str:
        try:
            await stream.send_all(data)
            assert await stream.receive_exactly(len(ANSWER)) == ANSWER
            is_open.append(True)
            while not is_changed:
                await gates[0].peers.sleep(0.1)
            await stream.send_all(b"later")
            assert await stream.receive_exactly(5) == b"later"
            stream.close()
        except (OSError, AssertionError):
            return "reset"
        return "through"

    async def change(gate: Gate) -> None:
        gates.append(gate)
        await gate.until(lambda: is_open)
        await gate.service.apply(plan_of(mode, after))
        await gate.until(lambda: not gate.service.revocation.pending)
        is_changed.append(True)

    return meet(mode, talk, before, then=change, server=Server(length=len(data)), **client)


def test_published_connections_are_held_to_other_names_too() -> None:
    before = policy(mode=PUBLISHED)
    for names, reason in (
        (["a.example", NAME], ""),
        (["a.example"], f"revoked: tls-sni-mismatch: {NAME} (web)"),
    ):
        listed = ", ".join(f'"{one}"' for one in names)
        after = policy(f"names = [{listed}]", mode=PUBLISHED)
        found = change_while_open(PUBLISHED, before, hello_to(NAME), after)
        assert found.end[1] == reason


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("after", "reason"),
    [
        (TO_ADDRESS + BY_NAME, ""),
        (TO_ADDRESS, f"revoked: tls-sni-not-allowed: {NAME} no-rule (web)"),
        (policy('sni = "any"', to=ADDRESS), ""),
    ],
)
def test_name_that_leads_to_an_address_is_judged_again(
    mode: EntryMode, after: str, reason: str
) -> None:
    before = TO_ADDRESS + BY_NAME
    found = change_while_open(mode, before, hello_to(NAME), after, host=ADDRESS)

    assert found.end[1] == reason


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("after", "reason"),
    [
        (policy('ech = "outer"'), ""),
        (policy("check = false"), ""),
        (policy('version_min = "1.3"'), "tls-ech: outer"),
    ],
)
def test_hello_that_is_on_its_way_is_judged_by_the_rule_of_then(
    mode: EntryMode, after: str, reason: str
) -> None:
    data = browser_hello(NAME)
    is_changed: list[bool] = []
    gates: list[Gate] = []

    async def talk(stream: PeerStream) -> Any:
        await stream.send_all(data[:50])
        while not is_changed:
            await gates[0].peers.sleep(0.1)
        return await says(data[50:])(stream)

    async def change(gate: Gate) -> None:
        gates.append(gate)
        await gate.until(lambda: any(one.hello for one in gate.service._connections.values()))
        await gate.service.apply(plan_of(mode, after))
        await gate.until(lambda: not gate.service.revocation.pending)
        is_changed.append(True)

    found = meet(mode, talk, policy(), then=change, server=Server(length=len(data)))

    assert found.end[1] == reason


# -- networks that cut and delay ---------------------------------------------------------------------

BAD_NETWORK = FaultPlan(
    socket_buffer_bytes=(1024, 4096),
    cut=0.5,
    partial_send=0.5,
    short_receive=0.5,
    late_result=0.5,
)


@every_mode
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", [NAME, "evil.example"])
def test_network_that_cuts_everything_changes_nothing(
    mode: EntryMode, seed: int, name: str
) -> None:
    data = browser_hello(name)
    found = meet(
        mode,
        says(data),
        policy('ech = "outer"', mode=mode),
        server=Server(length=len(data)),
        seed=seed,
        faults=BAD_NETWORK,
    )

    assert found.said == ("through" if name == NAME else "reset")
    assert found.server.heard == (data + b"a word" if name == NAME else b"")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("tier", ["data filter", "stream filter"])
@pytest.mark.parametrize(("name", "passes"), [(NAME, True), ("elsewhere.example", False)])
def test_lookup_waits_in_front_of_filters_too(
    mode: EntryMode, tier: str, name: str, passes: bool
) -> None:
    class Slow(Names):
        async def ask_udp(self, server: Any, query: Any) -> bytes:
            await asyncio.sleep(0.7)
            return await super().ask_udp(server, query)

    witness = Witness()
    made = Passing(witness) if tier == "data filter" else Stream(witness)
    data = hello_to(name) + EARLY
    found = meet(
        mode,
        says(data),
        policy(to="*", more='filters = ["one"]'),
        host=ADDRESS,
        names=Slow().put("elsewhere.example", "198.51.99.9"),
        server=Server(length=len(data)),
        filters=[installation(lambda: made, "one")],
    )

    passed = data + b"a word" if passes else b""
    assert (bytes(found.server.heard), bytes(witness.seen[Side.CLIENT])) == (passed, passed)


def test_gate_that_stops_while_a_name_is_looked_up_leaves_nothing_behind() -> None:
    class Silent(Names):
        async def ask_udp(self, server: Any, query: Any) -> bytes:
            await asyncio.sleep(3600)
            raise AssertionError("nobody waits so long")

    gates: list[Gate] = []

    async def stop(gate: Gate) -> None:
        gates.append(gate)
        await gate.until(lambda: any(one.lookups for one in gate.service.known_sessions))
        for one in list(gate.service._connections.values()):
            gate.service.kill(one.id, "killed")

    found = meet(
        MODES[1], says(hello_to(NAME)), policy(to="*"), host=ADDRESS, names=Silent(), then=stop
    )

    assert found.said == "reset"
    assert not found.server.heard


# -- what is held to no hello ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("is_expected", "protocol", "port", "is_held"),
    [
        (False, "tcp", 443, True),
        (True, "tcp", 443, False),
        (False, "bind", 443, False),
        (False, "tcp", 80, False),
    ],
)
def test_secondary_connections_and_binds_are_held_to_no_hello(
    is_expected: bool, protocol: str, port: int, is_held: bool
) -> None:
    connection: Any = SimpleNamespace(
        expected=object() if is_expected else None,
        entry_protocol=protocol,
        named_port=port,
        is_opened=False,
    )
    plan: Any = SimpleNamespace(tls=TlsCheck(ports=(443,)))

    assert (check_for(connection, plan) is not None) is is_held


@every_mode
def test_open_connection_keeps_of_its_hello_what_may_be_judged_again(mode: EntryMode) -> None:
    kept: list[Any] = []
    gates: list[Gate] = []

    async def note(gate: Gate) -> None:
        gates.append(gate)

    async def talk(stream: PeerStream) -> str:
        await stream.send_all(hello_to(NAME))
        assert await stream.receive_exactly(len(ANSWER)) == ANSWER
        await gates[0].peers.sleep(1)
        (check,) = [one.hello for one in gates[0].service.open_connections()]
        assert check is not None
        kept.extend([check.facts, check._reader, check._answer, check._skipper])
        stream.close()
        return "through"

    assert meet(mode, talk, policy(mode=mode), then=note).said == "through"
    assert kept == [HelloFacts(True, NAME, None, 0x0304), None, None, None]
