"""DNS packets: what is asked, what is taken for an answer, and what is made of it."""

from __future__ import annotations

import random
import struct

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rrset
import hypothesis
import hypothesis.strategies as st
import pytest

from sluicegate.limits import DNS_ALIASES_MAX, DNS_RECORDS_MAX
from sluicegate.names import canonical_host
from sluicegate.names.packets import (
    Answer,
    BadReply,
    EdnsRefused,
    Match,
    Query,
    Question,
    RecordType,
    ReplySuspect,
    encode_query,
    read_reply,
)

A = Question("www.example", RecordType.A)
AAAA = Question("www.example", RecordType.AAAA)


def ask(question: Question = A, *, mix_case: bool = False, with_edns: bool = True) -> Query:
    seeded = random.Random(7)
    return encode_query(question, seeded.getrandbits, mix_case=mix_case, with_edns=with_edns)


def reply(query: Query, *records: str, rcode: str = "NOERROR", authority: str = "") -> bytes:
    """Answer a query with records in master file form."""
    message = dns.message.make_response(dns.message.from_wire(query.wire))
    message.set_rcode(dns.rcode.from_text(rcode))
    for record in records:
        message.answer.append(rrset(record))
    if authority:
        message.authority.append(rrset(authority))
    return message.to_wire(max_size=65535)


def rrset(record: str) -> dns.rrset.RRset:
    owner, ttl, kind, rest = record.split(" ", 3)
    return dns.rrset.from_text(owner, int(ttl), "IN", kind, rest)


def reason_of(query: Query, wire: bytes) -> str:
    with pytest.raises(BadReply) as caught:
        read_reply(query, wire)
    return str(caught.value.reason)


def test_query_asks_one_question_with_recursion_and_a_small_datagram() -> None:
    asked = dns.message.from_wire(ask(AAAA).wire)
    assert [str(q) for q in asked.question] == ["www.example. IN AAAA"]
    assert asked.flags == dns.flags.RD
    assert (asked.edns, asked.payload, asked.options) == (0, 1232, ())


def test_query_without_edns_has_no_additional_record() -> None:
    assert dns.message.from_wire(ask(with_edns=False).wire).edns == -1


def test_identifier_and_letter_case_are_random() -> None:
    seeded = random.Random(1)
    wires = {encode_query(A, seeded.getrandbits, mix_case=True).wire for _ in range(50)}
    assert len({wire[:2] for wire in wires}) > 45
    assert len({wire[12:25] for wire in wires}) > 45
    assert {wire[12:25].lower() for wire in wires} == {b"\3www\7example\0"}


def test_reply_matches_its_query_only() -> None:
    query = ask(mix_case=True)
    good = reply(query, "www.example. 60 A 192.0.2.1")
    swapped = good[:12] + good[12:25].swapcase() + good[25:]
    assert query.match(good) is Match.SAME
    assert query.match(swapped) is Match.NEAR
    assert query.match(swapped, any_case=True) is Match.SAME
    assert query.match(bytes([good[0] ^ 1]) + good[1:]) is Match.OTHER
    assert query.match(query.wire) is Match.NEAR, "its own question is no reply"
    assert query.match(good[:11]) is Match.OTHER
    assert query.match(good[:12]) is Match.NEAR
    assert query.match(good[:4] + b"\0\2" + good[6:]) is Match.NEAR, "two questions"
    assert query.match(good[:2] + b"\xa8" + good[3:]) is Match.NEAR, "another opcode"


@pytest.mark.parametrize(
    "other", [AAAA, Question("www.examplf", RecordType.A), Question("ww.example", RecordType.A)]
)
def test_reply_to_another_question_does_not_match(other: Question) -> None:
    query = ask()
    foreign = query.wire[:2] + reply(ask(other), "www.example. 60 A 192.0.2.1")[2:]
    assert query.match(foreign) is Match.NEAR
    assert query.match(foreign, any_case=True) is Match.NEAR


def test_addresses_of_the_name_are_taken_in_order_and_once() -> None:
    query = ask()
    wire = reply(
        query,
        "www.example. 60 A 192.0.2.2",
        "www.example. 30 A 192.0.2.1",
        "WWW.Example. 90 A 192.0.2.2",
    )
    found = read_reply(query, wire)
    assert [str(one) for one in found.addresses] == ["192.0.2.2", "192.0.2.1"]
    assert (found.ttl_s, found.aliases, found.exists) == (30, (), True)


def test_chain_of_aliases_is_followed_within_the_answer_in_any_order() -> None:
    query = ask(AAAA)
    wire = reply(
        query,
        "c.cdn.test. 300 AAAA 2001:db8::1",
        "b.cdn.test. 20 CNAME c.cdn.test.",
        "www.example. 100 CNAME b.cdn.test.",
    )
    found = read_reply(query, wire)
    assert [str(one) for one in found.addresses] == ["2001:db8::1"]
    assert found.aliases == (canonical_host("b.cdn.test"), canonical_host("c.cdn.test"))
    assert found.ttl_s == 20


def test_records_of_other_names_and_kinds_are_not_looked_at() -> None:
    query = ask()
    wire = reply(
        query,
        "evil.test. 60 A 192.0.2.66",
        "www.example. 60 AAAA 2001:db8::66",
        "example. 60 A 192.0.2.67",
        "www.example. 60 TXT 192.0.2.68",
        "other.example. 60 CNAME www.example.",
    )
    found = read_reply(query, wire)
    assert (found.addresses, found.aliases, found.exists) == ((), (), True)


def test_content_of_other_kinds_of_records_is_stepped_over() -> None:
    query = ask(with_edns=False)
    head = query.wire[:2] + b"\x81\x80\0\1\0\3\0\0\0\0" + query.wire[12:]
    nonsense = b"\xc0\x0c" + struct.pack(">HHIH", 65, 1, 60, 9000) + b"\xff" * 9000
    chaos = b"\xc0\x0c" + struct.pack(">HHIH", 1, 3, 60, 4) + b"\1\1\1\1"
    good = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 0x80000001, 4) + b"\xc0\0\2\1"
    found = read_reply(query, head + nonsense + chaos + good)
    assert [str(one) for one in found.addresses] == ["192.0.2.1"]
    assert found.ttl_s == 0, "a TTL with its highest bit set counts as none"


def test_address_beside_an_alias_is_not_looked_at() -> None:
    query = ask()
    wire = reply(query, "www.example. 60 A 192.0.2.66", "www.example. 60 CNAME b.test.")
    found = read_reply(query, wire)
    assert (found.addresses, found.aliases) == ((), (canonical_host("b.test"),))


def test_additional_and_authority_sections_give_no_addresses() -> None:
    query = ask()
    message = dns.message.make_response(dns.message.from_wire(query.wire))
    message.additional.append(rrset("www.example. 60 A 192.0.2.66"))
    message.authority.append(rrset("www.example. 60 A 192.0.2.66"))
    assert read_reply(query, message.to_wire()).addresses == ()


@pytest.mark.parametrize(
    ("authority", "ttl_s"),
    [
        ("example. 900 SOA ns. host. 1 2 3 4 120", 120),
        ("example. 60 SOA ns. host. 1 2 3 4 120", 60),
        (". 77 SOA ns. host. 1 2 3 4 3600", 77),
        ("other.test. 900 SOA ns. host. 1 2 3 4 120", 0),
        ("", 0),
    ],
)
def test_absence_is_kept_as_its_zone_says(authority: str, ttl_s: int) -> None:
    query = ask()
    missing = read_reply(query, reply(query, rcode="NXDOMAIN", authority=authority))
    assert missing == Answer((), (), ttl_s, exists=False)
    empty = read_reply(query, reply(query, authority=authority))
    assert empty == Answer((), (), ttl_s, exists=True)


def test_addresses_in_an_answer_that_denies_the_name_are_not_taken() -> None:
    query = ask()
    found = read_reply(query, reply(query, "www.example. 60 A 192.0.2.1", rcode="NXDOMAIN"))
    assert (found.addresses, found.exists) == ((), False)


@pytest.mark.parametrize(
    "chain",
    [
        ["www.example. 60 CNAME www.example."],
        ["www.example. 60 CNAME a.test.", "a.test. 60 CNAME www.example."],
        ["www.example. 60 CNAME a.test.", "a.test. 60 CNAME b.test.", "b.test. 60 CNAME A.test."],
        ["www.example. 60 CNAME n0.test."]
        + [f"n{i}.test. 60 CNAME n{i + 1}.test." for i in range(DNS_ALIASES_MAX)],
    ],
)
def test_loops_and_long_chains_of_aliases_are_refused(chain: list[str]) -> None:
    query = ask()
    assert reason_of(query, reply(query, *chain)) == "dns-alias-loop"


def test_longest_chain_of_aliases_is_taken() -> None:
    query = ask()
    chain = [f"n{i}.test. 60 CNAME n{i + 1}.test." for i in range(DNS_ALIASES_MAX - 1)]
    last = f"n{DNS_ALIASES_MAX - 1}.test. 60 A 192.0.2.1"
    found = read_reply(query, reply(query, "www.example. 60 CNAME n0.test.", *chain, last))
    assert (len(found.aliases), len(found.addresses)) == (DNS_ALIASES_MAX, 1)


@pytest.mark.parametrize(
    "target",
    [
        r"a\.b.test.", r"a\000.test.", r"a\@b.test.", "127.0.0.1.", "0x7f.1.", ".", r"a\032b.test.",
        "-a.test.", "*.test.", r"xn--a.test.", r"\255.test.", r"a\013\010b.test.",
    ],
)  # fmt: skip
def test_alias_that_is_no_host_name_is_refused(target: str) -> None:
    query = ask()
    wire = reply(query, f"www.example. 60 CNAME {target}")
    assert reason_of(query, wire) == "dns-alias-invalid"


def test_two_aliases_of_one_name_are_refused() -> None:
    query = ask()
    wire = reply(query, "www.example. 60 CNAME a.test.", "www.example. 60 CNAME b.test.")
    assert reason_of(query, wire) == "dns-malformed"


@pytest.mark.parametrize("count", [DNS_RECORDS_MAX, 1000])
def test_bursts_of_records_are_refused_by_the_header(count: int) -> None:
    query = ask()
    records = [f"www.example. 60 A 10.0.{i >> 8}.{i & 255}" for i in range(count)]
    # The OPT record of the answer is one of them.
    assert reason_of(query, reply(query, *records)) == "dns-too-many-records"


def test_most_records_are_taken() -> None:
    query = ask(with_edns=False)
    records = [f"www.example. 60 A 10.0.0.{i}" for i in range(DNS_RECORDS_MAX)]
    assert len(read_reply(query, reply(query, *records)).addresses) == DNS_RECORDS_MAX


def test_records_announced_and_not_there_are_malformed() -> None:
    query = ask()
    wire = bytearray(reply(query, "www.example. 60 A 192.0.2.1"))
    struct.pack_into(">H", wire, 6, 9)
    assert reason_of(query, bytes(wire)) == "dns-malformed"


def test_truncated_answer_is_not_used() -> None:
    query = ask()
    wire = bytearray(reply(query, "www.example. 60 A 192.0.2.1"))
    wire[2] |= 0x02
    with pytest.raises(ReplySuspect):
        read_reply(query, bytes(wire))


@pytest.mark.parametrize("rcode", ["SERVFAIL", "REFUSED", "NOTAUTH", "YXDOMAIN", "BADVERS"])
def test_other_codes_are_failures_of_the_server(rcode: str) -> None:
    query = ask(with_edns=False)
    message = dns.message.make_response(dns.message.from_wire(query.wire))
    if rcode == "BADVERS":
        message.use_edns(0)
    message.set_rcode(dns.rcode.from_text(rcode))
    assert reason_of(query, message.to_wire()) == "dns-server-failed"


@pytest.mark.parametrize("rcode", ["FORMERR", "NOTIMP"])
def test_server_that_does_not_know_edns_is_told_from_one_that_fails(rcode: str) -> None:
    query = ask()
    with pytest.raises(EdnsRefused):
        read_reply(query, reply(query, rcode=rcode))
    plain = ask(with_edns=False)
    assert reason_of(plain, reply(plain, rcode=rcode)) == "dns-server-failed"


#: Shapes of RFC 9267: compression that loops, points ahead or outside, lengths that lie.
NAME = b"\xc0\x0c"
FIXED = struct.pack(">HHI", 1, 1, 60)


@pytest.mark.parametrize(
    "answer",
    [
        b"\xc0\x1d" + FIXED + b"\0\4\1\2\3\4",
        b"\xc0\x1f\xc0\x1d" + FIXED + b"\0\4\1\2\3\4",
        b"\xc0\xff" + FIXED + b"\0\4\1\2\3\4",
        b"\xff\xff" + FIXED + b"\0\4\1\2\3\4",
        b"\x3f" + b"a" * 10 + FIXED,
        b"\x40" + b"a" * 64 + b"\0" + FIXED + b"\0\4\1\2\3\4",
        b"\x80\x0c" + FIXED + b"\0\4\1\2\3\4",
        (b"\x3f" + b"a" * 63) * 5 + b"\0" + FIXED + b"\0\4\1\2\3\4",
        NAME + FIXED + b"\0\5\1\2\3\4",
        NAME + FIXED + b"\0\3\1\2\3",
        NAME + FIXED + b"\0\0",
        NAME + FIXED + b"\xff\xff\1\2\3\4",
        NAME + FIXED + b"\0\4\1\2\3\4" + b"behind",
        NAME + FIXED[:5],
        NAME,
        b"",
        NAME + struct.pack(">HHIH", 5, 1, 60, 2) + b"\xc0\x29",
        NAME + struct.pack(">HHIH", 5, 1, 60, 1) + b"\xc0",
        NAME + struct.pack(">HHIH", 28, 1, 60, 4) + b"\1\2\3\4",
    ],
)
def test_malformed_answers_are_refused(answer: bytes) -> None:
    query = ask(with_edns=False)
    head = query.wire[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + query.wire[12:]
    assert len(head) == 29
    assert query.match(head + answer) is Match.SAME
    assert reason_of(query, head + answer) == "dns-malformed"


SAMPLES = [
    reply(ask(), "www.example. 60 A 192.0.2.1"),
    reply(ask(), "www.example. 60 CNAME a.test.", "a.test. 60 A 192.0.2.1"),
    reply(ask(), rcode="NXDOMAIN", authority="example. 900 SOA ns. host. 1 2 3 4 120"),
]


@hypothesis.settings(max_examples=500)
@hypothesis.given(
    st.sampled_from(SAMPLES),
    st.lists(st.tuples(st.integers(2, 120), st.integers(0, 255)), max_size=6),
    st.integers(0, 200),
)
def test_damaged_answers_raise_only_the_bad_reply(
    sample: bytes, damage: list[tuple[int, int]], length: int
) -> None:
    wire = bytearray(sample)
    for place, value in damage:
        if place < len(wire):
            wire[place] = value
    check_reading(bytes(wire[: len(wire) - length] if length < 100 else wire))


@hypothesis.given(st.binary(max_size=600))
def test_arbitrary_bytes_behind_the_question_raise_only_the_bad_reply(data: bytes) -> None:
    query = ask()
    check_reading(query.wire[:2] + b"\x81\x80" + data[:8].ljust(8, b"\1") + query.wire[12:] + data)
    check_reading(query.wire[:2] + b"\x81\x80\0\1\0\2\0\0\0\0" + query.wire[12:29] + data)


def check_reading(wire: bytes) -> None:
    query = ask()
    if query.match(wire) is not Match.SAME:
        return
    try:
        found = read_reply(query, wire)
    except BadReply:
        return
    assert len(found.addresses) <= DNS_RECORDS_MAX
    assert len(found.aliases) <= DNS_ALIASES_MAX
    assert all(canonical_host(one.text, allow_underscore=True) == one for one in found.aliases)
    assert 0 <= found.ttl_s < 2**31
