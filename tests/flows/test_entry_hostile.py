"""Groups A to D of the hostile cases against a whole gate, in every entry mode, as tables."""

from __future__ import annotations

import ipaddress

import pytest

from sluicegate.address import SocketAddress
from sluicegate.filterapi import EntryMode
from sluicegate.testing import address_corpus, host_corpus
from tests.flows import entry_kit
from tests.flows.entry_kit import (
    MALFORMED,
    MODES,
    REFUSED,
    UNKNOWN,
    WEB,
    WEB6,
    Ask,
    Names,
    proxy_settings,
    visit,
)
from tests.flows.gate_kit import ENTRY

every_mode = pytest.mark.parametrize("mode", MODES)


@pytest.fixture(autouse=True, params=entry_kit.CARRIAGES)
def carriage(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every case be asked in clear and inside TLS."""
    monkeypatch.setattr(entry_kit, "carriage", request.param)


EVERYTHING = '[[rule]]\nname = "all"\nto = ["*"]\nprotocols = ["tcp"]\n'
PRIVATE = "10.9.9.9"


def networks(*listed: str) -> str:
    return f'[[rule]]\nname = "some"\nto = {list(listed)}\nprotocols = ["tcp"]\n'.replace("'", '"')


# -- A: addresses ----------------------------------------------------------------------------------

PLAIN_ADDRESSES = [case for case in address_corpus() if not case.own and not case.nat64_prefixes]


@every_mode
def test_special_addresses_are_refused_under_a_rule_for_everything(mode: EntryMode) -> None:
    cases = [case for case in PLAIN_ADDRESSES if not case.expect.is_public]
    found = visit(*(Ask(mode, case.input) for case in cases), plan=proxy_settings(EVERYTHING))
    for case, reply in zip(cases, found.replies, strict=True):
        assert reply.code == REFUSED[mode], case
    assert (found.dialled, dict(found.asked)) == ([], {})
    assert set(found.reasons) == {"no-rule"}


@every_mode
def test_public_addresses_are_dialled_as_they_are(mode: EntryMode) -> None:
    cases = [case for case in PLAIN_ADDRESSES if case.expect.is_public]
    found = visit(*(Ask(mode, case.input) for case in cases), plan=proxy_settings(EVERYTHING))
    wanted = [ipaddress.ip_address(case.input) for case in cases]
    assert [address.ip for address in found.dialled] == wanted


@every_mode
def test_names_that_lead_to_special_addresses_are_refused(mode: EntryMode) -> None:
    cases = [case for case in PLAIN_ADDRESSES if not case.expect.is_public]
    names = Names()
    for number, case in enumerate(cases):
        names.put(f"n{number}.example", str(ipaddress.ip_address(case.input)))
    asked = [Ask(mode, f"n{number}.example") for number in range(len(cases))]
    found = visit(*asked, plan=proxy_settings(EVERYTHING), names=names)
    for case, reply, reason in zip(cases, found.replies, found.reasons, strict=True):
        assert reply.code == REFUSED[mode], case
        assert reason.startswith("address-denied"), (case, reason)
    assert found.dialled == []


NAMED = [
    # what the rule lists, what the client asks for, whether it is dialled
    (["10.0.0.0/8"], "10.9.9.9", True),
    (["10.9.9.9"], "10.9.9.9", True),
    (["10.8.0.0/16"], "10.9.9.9", False),
    (["127.0.0.0/8"], "127.0.0.2", True),
    (["169.254.0.0/16"], "169.254.169.254", False),
    (["169.254.169.254"], "169.254.169.254", True),
    (["169.254.0.0/16"], "169.254.7.7", True),
    (["168.63.128.0/20"], "168.63.129.16", False),
    (["10.0.0.0/8"], "10.0.0.1", False),  # the gate's own
    (["10.0.0.1"], "10.0.0.1", True),  # named exactly, on a port where the gate does not listen
    (["224.0.0.0/4"], "224.0.0.1", False),
    (["0.0.0.0/8"], "0.0.0.0", False),
    (["255.255.255.255"], "255.255.255.255", False),
    (["fc00::/7"], "fd00::9", True),
    (["10.0.0.0/8"], "64:ff9b::a09:909", False),
    (["64:ff9b::/96"], "64:ff9b::a09:909", False),
    (["64:ff9b::/96", "10.0.0.0/8"], "64:ff9b::a09:909", True),
    (["10.0.0.0/8"], "::ffff:10.9.9.9", False),
    (["::/0", "0.0.0.0/0"], "::", False),
]


@every_mode
@pytest.mark.parametrize(("listed", "host", "is_dialled"), NAMED)
def test_special_addresses_need_a_rule_that_names_them(
    mode: EntryMode, listed: list[str], host: str, is_dialled: bool
) -> None:
    found = visit(Ask(mode, host), plan=proxy_settings(networks(*listed)), serve=())
    assert [address.ip for address in found.dialled] == (
        [ipaddress.ip_address(host)] if is_dialled else []
    )
    assert is_dialled or found.reply.code == REFUSED[mode]


@every_mode
@pytest.mark.parametrize("bound", [ENTRY, SocketAddress.parse("0.0.0.0:80")])
def test_own_listeners_are_never_reached_through_the_gate(
    mode: EntryMode, bound: SocketAddress
) -> None:
    own = ["10.0.0.1", "127.0.0.1"]
    plan = proxy_settings(networks(*own, "127.0.0.0/8"), address=bound, own=own)
    hosts = own if bound is ENTRY else [*own, "127.0.0.9"]
    hosts = ["10.0.0.1"] if bound is ENTRY else hosts
    names = Names().put("self.example", "10.0.0.1")
    found = visit(*(Ask(mode, host, 80) for host in hosts), plan=plan, names=names)
    assert [reply.code for reply in found.replies] == [REFUSED[mode]] * len(hosts)
    assert found.dialled == []
    assert all("listener of the gate" in reason for reason in found.reasons), found.reasons


@every_mode
def test_zone_ids_are_refused(mode: EntryMode) -> None:
    asked = [Ask(mode, host) for host in (b"fe80::1%eth0", b"::1%25lo", b"127.0.0.1%1")]
    found = visit(*asked, plan=proxy_settings(EVERYTHING))
    assert {reply.code for reply in found.replies} <= {MALFORMED[mode], REFUSED[mode]}
    assert (found.dialled, dict(found.asked)) == ([], {})


# -- B: host text ----------------------------------------------------------------------------------

HOSTS = [case for case in host_corpus() if case.kind == "host" and not case.allow_underscore]
REFUSED_HOSTS = [case for case in HOSTS if case.expect.refused]
TAKEN_HOSTS = [case for case in HOSTS if case.expect.host and case.expect.is_address is None]


def fits(mode: EntryMode, text: bytes) -> bool:
    """Whether a mode has room for a text at all."""
    if mode is EntryMode.SOCKS4:
        return b"\0" not in text and 0 < len(text) < 256
    return mode is EntryMode.HTTP_CONNECT or 0 < len(text) < 256


def is_octets(case_input: str, mode: EntryMode) -> bool:
    """Whether it is an address where this mode has one."""
    try:
        version = ipaddress.ip_address(case_input).version
    except ValueError:
        # Brackets round an IPv6 address are what an authority has.
        return mode is EntryMode.HTTP_CONNECT and case_input.startswith("[")
    return mode is not EntryMode.SOCKS4 or version == 4


@every_mode
def test_host_texts_that_have_no_reading_are_refused_without_a_query(mode: EntryMode) -> None:
    cases = [
        case
        for case in REFUSED_HOSTS
        if fits(mode, case.input.encode()) and not is_octets(case.input, mode)
    ]
    found = visit(
        *(Ask(mode, case.input.encode()) for case in cases), plan=proxy_settings(EVERYTHING)
    )
    assert len(cases) > 80
    for case, reply, record in zip(cases, found.replies, found.gate.decisions, strict=True):
        assert reply.code in {MALFORMED[mode], -1}, case
        reason = record.reason
        assert reason == case.expect.refused or reason.startswith("malformed-request"), case
        assert "\n" not in record.target
        assert "\0" not in record.target
    assert (found.dialled, dict(found.asked)) == ([], {})


@every_mode
def test_host_texts_are_judged_and_asked_for_by_their_one_reading(mode: EntryMode) -> None:
    cases = [
        case
        for case in TAKEN_HOSTS
        if fits(mode, case.input.encode())
        and (mode is not EntryMode.HTTP_CONNECT or case.input.isascii())
    ]
    names = Names()
    wanted = [case.expect.host for case in cases]
    for name in wanted:
        names.put(name, WEB.host)
    found = visit(*(Ask(mode, case.input.encode()) for case in cases), names=names)
    assert len(cases) > 20
    targets = [record.target for record in found.gate.decisions]
    assert targets == [f"{name}:443" for name in wanted]
    assert set(found.asked) <= set(wanted)


@pytest.mark.parametrize("mode", [EntryMode.SOCKS5, EntryMode.SOCKS4])
@pytest.mark.parametrize(
    "raw",
    [
        # (SOCKS 5 address type 3, or 4a) an address in the place of a name is judged as an address
        b"127.0.0.1",
        b"169.254.169.254",
        b"::1",
        b"::ffff:127.0.0.1",
        b"[::1]",
        b"0x7f.1",
        b"2130706433",
        b"127.1",
    ],
)
def test_address_in_the_place_of_a_name_gets_around_nothing(mode: EntryMode, raw: bytes) -> None:
    class AsText(Ask):
        def wire(self) -> bytes:
            if mode is EntryMode.SOCKS5:
                return b"\5\1\0\5\1\0\3" + bytes([len(raw)]) + raw + b"\1\xbb"
            return b"\4\1\1\xbb\0\0\0\1me\0" + raw + b"\0"

    found = visit(AsText(mode, raw), plan=proxy_settings(EVERYTHING))
    assert found.reply.code in {REFUSED[mode], MALFORMED[mode]}
    assert (found.dialled, dict(found.asked)) == ([], {})


WILDCARDS = [
    # the rule, the host, whether it matches
    ("*.a.example", "x.a.example", True),
    ("*.a.example", "y.x.a.example", True),
    ("*.a.example", "a.example", False),
    ("*.a.example", "xa.example", False),
    ("*.a.example", "x.a.example.evil.example", False),
    ("a.example", "a.example", True),
    ("a.example", "A.EXAMPLE.", True),
    ("a.example", "x.a.example", False),
    ("a.example", "a.example.evil.example", False),
]


@every_mode
@pytest.mark.parametrize(("listed", "host", "matches"), WILDCARDS)
def test_wildcards_match_whole_labels_below_their_name(
    mode: EntryMode, listed: str, host: str, matches: bool
) -> None:
    names = Names().put(host.lower().rstrip("."), WEB.host)
    found = visit(Ask(mode, host), plan=proxy_settings(networks(listed)), names=names)
    assert (found.reply.code == 0) is matches
    assert bool(found.asked) is matches


# -- C: DNS ----------------------------------------------------------------------------------------


@every_mode
def test_name_that_no_rule_lists_causes_no_query(mode: EntryMode) -> None:
    names = Names().put("other.example", WEB.host)
    found = visit(
        Ask(mode, "other.example"), plan=proxy_settings(networks("a.example")), names=names
    )
    assert (found.reply.code, found.reasons) == (REFUSED[mode], ["no-rule"])
    assert (found.dialled, dict(found.asked)) == ([], {})


@every_mode
def test_rebinding_does_not_change_what_is_dialled(mode: EntryMode) -> None:
    class Rebinding(Names):
        def _answer(self, query):  # type: ignore[no-untyped-def]
            self.put("a.example", f"a.example. 0 A {PRIVATE if self.asked else WEB.host}")
            if query.question.record_type.name == "AAAA":
                self.put("a.example")
            return super()._answer(query)

    names = Rebinding()
    found = visit(Ask(mode, "a.example"), Ask(mode, "a.example"), names=names, serve=(WEB,))
    assert {address.host for address in found.dialled} <= {WEB.host}


MIXED = {
    "one-private": ([WEB.host, PRIVATE], [WEB.host]),
    "families-differ": ([WEB.host, "fd00::9"], [WEB.host]),
    "mapped": ([WEB.host, "::ffff:10.9.9.9"], [WEB.host]),
}


@every_mode
@pytest.mark.parametrize("case", MIXED)
@pytest.mark.parametrize("use_mixed", [False, True])
def test_mixed_answers_are_refused_or_used_in_part_by_switch(
    mode: EntryMode, case: str, use_mixed: bool
) -> None:
    rows, good = MIXED[case]
    plan = proxy_settings(use_mixed_answers=use_mixed)
    found = visit(Ask(mode, "a.example"), plan=plan, names=Names().put("a.example", *rows))
    if use_mixed:
        assert (found.reply.code, [one.host for one in found.dialled]) == (0, good)
    else:
        assert (found.reply.code, found.dialled) == (REFUSED[mode], [])
        assert found.reasons[0].startswith("addresses-mixed")


DENIED_ZONE = (
    '[[rule]]\nname = "not-there"\naction = "deny"\nto = ["*.denied.example", "93.184.216.0/24"]\n'
    'protocols = ["tcp"]\n[[rule]]\nname = "rest"\nto = ["*"]\nprotocols = ["tcp"]\n'
)
ALIASES = [
    (["a.example. 60 CNAME x.denied.example.", "x.denied.example. 60 A 1.1.1.1"], "alias-denied"),
    (["a.example. 60 CNAME localhost."], "alias-denied"),
    (["a.example. 60 CNAME metadata.google.internal."], "alias-denied"),
    (["a.example. 60 A 93.184.216.34"], "address-denied"),
    (["a.example. 60 CNAME b.example.", "b.example. 60 CNAME a.example."], "dns-alias-loop"),
]


@every_mode
@pytest.mark.parametrize(("rows", "reason"), ALIASES)
def test_what_a_name_leads_to_is_held_against_rules_that_deny(
    mode: EntryMode, rows: list[str], reason: str
) -> None:
    found = visit(
        Ask(mode, "a.example"),
        plan=proxy_settings(DENIED_ZONE),
        names=Names().put("a.example", *rows),
    )
    assert found.reasons[0].startswith(reason), found.reasons
    assert found.reply.code in {REFUSED[mode], UNKNOWN[mode]}
    assert found.dialled == []


@every_mode
@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        ("NXDOMAIN", "dns-no-such-name"),
        ("SERVFAIL", "dns-server-failed"),
        ("silent", "dns-servers-silent"),
    ],
)
def test_failed_lookups_refuse_and_the_next_name_is_judged_as_before(
    mode: EntryMode, failure: str, reason: str
) -> None:
    names = Names().put("b.example", WEB.host)
    names.fail = lambda name: failure if name == "a.example" else None
    plan = proxy_settings(networks("a.example", "b.example"))
    asked = [Ask(mode, name) for name in ("a.example", "b.example", "other.example")]
    found = visit(*asked, plan=plan, names=names)
    assert [reply.code for reply in found.replies] == [UNKNOWN[mode], 0, REFUSED[mode]]
    assert found.reasons[0].startswith(reason)
    assert "other.example" not in found.asked


@every_mode
@pytest.mark.parametrize(
    "name",
    [
        "localhost",
        "a.localhost",
        "printer.local",
        "x.invalid",
        "x.onion",
        "metadata.google.internal",
    ],
)
def test_special_names_cause_no_query_even_when_a_rule_allows_them(
    mode: EntryMode, name: str
) -> None:
    found = visit(Ask(mode, name), plan=proxy_settings(networks(name)))
    assert (found.reply.code, found.dialled, dict(found.asked)) == (REFUSED[mode], [], {})
    assert found.reasons[0].startswith("name-special")


@every_mode
def test_every_address_of_a_name_is_tried_and_the_one_that_answers_wins(mode: EntryMode) -> None:
    names = Names().put("a.example", WEB6.host, "198.252.206.1", WEB.host)
    found = visit(Ask(mode, "a.example"), names=names, serve=(WEB,))
    assert found.reply.code == 0
    assert found.dialled[-1] == WEB
    assert found.gate.ends[0].server == str(WEB)


@every_mode
def test_address_that_became_the_gates_own_is_refused_at_the_dial(mode: EntryMode) -> None:
    names = Names().put("a.example", WEB.host)
    plan = proxy_settings(own=[WEB.host])
    found = visit(Ask(mode, "a.example"), plan=plan, names=names)
    assert (found.reply.code, found.dialled) == (REFUSED[mode], [])


# -- D: CONNECT and tunnels ------------------------------------------------------------------------


@every_mode
@pytest.mark.parametrize("port", [22, 25, 80, 8443, 65535])
def test_ports_that_no_rule_lists_are_refused(mode: EntryMode, port: int) -> None:
    found = visit(Ask(mode, WEB.host, port))
    assert (found.reply.code, found.reasons, found.dialled) == (REFUSED[mode], ["no-rule"], [])


def connect(head: str, rest: bytes = b"") -> Ask:
    class Raw(Ask):
        def wire(self) -> bytes:
            return head.replace("\n", "\r\n").encode() + rest

    return Raw(EntryMode.HTTP_CONNECT, WEB.host)


NOT_A_CONNECT = [
    ("GET http://www.example/ HTTP/1.1\nHost: www.example\n\n", -1),  # D2: not served here
    ("POST / HTTP/1.1\n\n", -1),
    (f"CONNECT {WEB.host}:443 HTTP/1.1\nHost: {WEB.host}:443\nContent-Length: 3\n\n", 400),  # D8
    (f"CONNECT {WEB.host}:443 HTTP/1.1\nHost: {WEB.host}:443\nContent-Length: 0\n\n", 400),
    (f"CONNECT {WEB.host}:443 HTTP/1.1\nHost: {WEB.host}:443\nTransfer-Encoding: chunked\n\n", 400),
    (f"CONNECT {WEB.host}:443 HTTP/1.1\nHost: other.example\n\n", 400),
    (f"CONNECT {WEB.host} HTTP/1.1\nHost: {WEB.host}\n\n", 400),
    ("CONNECT a.example@10.9.9.9:443 HTTP/1.1\nHost: a.example@10.9.9.9:443\n\n", 400),  # B10
    ("CONNECT a.example:443,b.example:443 HTTP/1.1\nHost: a.example\n\n", 400),  # B13
    ("CONNECT a.example:443/ HTTP/1.1\nHost: a.example\n\n", 400),  # B14
    ("CONNECT a.example:+443 HTTP/1.1\nHost: a.example\n\n", 400),  # B11
    ("CONNECT a.example:0443 HTTP/1.1\nHost: a.example\n\n", 400),
    ("CONNECT a.example:0 HTTP/1.1\nHost: a.example\n\n", 400),
    ("CONNECT a.example:65536 HTTP/1.1\nHost: a.example\n\n", 400),
    ("CONNECT ::1:443 HTTP/1.1\nHost: ::1\n\n", 400),  # B12
    ("CONNECT [a.example]:443 HTTP/1.1\nHost: [a.example]\n\n", 400),  # B3
    ("CONNECT [127.0.0.1]:443 HTTP/1.1\nHost: [127.0.0.1]\n\n", 400),
]


@pytest.mark.parametrize(("head", "code"), NOT_A_CONNECT)
def test_what_is_not_an_exact_connect_reaches_nobody(head: str, code: int) -> None:
    names = Names().put("a.example", WEB.host).put("www.example", WEB.host)
    found = visit(connect(head, b"abc"), plan=proxy_settings(EVERYTHING), names=names)
    assert found.reply.code == code
    assert (found.dialled, dict(found.asked)) == ([], {})
    assert [record.verdict for record in found.gate.decisions] == ["denied"]


def test_second_request_behind_a_refused_one_is_never_read() -> None:
    refused = f"CONNECT {PRIVATE}:443 HTTP/1.1\nHost: {PRIVATE}:443\n\n"
    good = f"CONNECT {WEB.host}:443 HTTP/1.1\r\nHost: {WEB.host}:443\r\n\r\n"
    found = visit(connect(refused, good.encode()))
    assert (found.reply.code, found.dialled) == (403, [])
    assert len(found.gate.decisions) == 1


@every_mode
def test_nested_request_to_the_gate_itself_is_refused(mode: EntryMode) -> None:
    plan = proxy_settings(networks("*", "10.0.0.0/8"))
    found = visit(Ask(mode, ENTRY.host, ENTRY.port), plan=plan)
    assert (found.reply.code, found.dialled) == (REFUSED[mode], [])
