"""Canonical hosts: what holds for any text whatever."""

from __future__ import annotations

import re

import hypothesis
import hypothesis.strategies as st
import idna
import pytest

from sluicegate.address import SocketAddress
from sluicegate.errors import ProtocolError, Side
from sluicegate.names import (
    CanonicalHost,
    HostPattern,
    HostReason,
    HostRefused,
    canonical_host,
    parse_authority,
    parse_port,
)
from sluicegate.testing import host_corpus

LDH = re.compile(r"[0-9a-z](?:[0-9a-z-]{0,61}[0-9a-z])?")
LDH_AND_UNDERSCORE = re.compile(r"[0-9a-z_](?:[0-9a-z_-]{0,61}[0-9a-z_])?")
QUAD = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3}){3}")

#: Any text at all, and text made of what names, addresses and attacks on both are made of.
ascii_pieces = r"xn-- . .. - _ : :: 0x 0 1 127 255 a Z % [ ] @ \ *. fc ffff example kva"
other_pieces = "\u3002 \uff0e \uff41 \u2460 \u00ad \u200d \u00df \u0131 \u0301 \u05d0 \u0661 \uff11"
odd_pieces = [" ", "\0", "\ud800", "\u1e9e", "\u0130"]
pieces = st.sampled_from([*ascii_pieces.split(" "), *other_pieces.split(" "), *odd_pieces])
hostile = st.lists(pieces, max_size=12).map("".join)
texts = st.one_of(
    hostile,
    st.text(max_size=40),
    st.text(alphabet=st.characters(categories=("Lu", "Ll", "Lo", "Mn", "Nd", "Pd")), max_size=20),
    st.sampled_from([case.input for case in host_corpus() if case.kind in {"host", "authority"}]),
)
switches = st.booleans()


def read(text: str | bytes, allow_underscore: bool = False) -> CanonicalHost | None:
    try:
        return canonical_host(text, allow_underscore=allow_underscore)
    except HostRefused as refusal:
        caught = refusal
    assert str(caught.reason) in str(caught)
    assert caught.hint.isprintable(), "a hint goes into records and onto terminals"
    return None


@hypothesis.settings(max_examples=1000)
@hypothesis.given(texts, switches)
def test_what_is_accepted_is_an_address_or_ldh_labels_and_stays_itself(
    text: str, allow_underscore: bool
) -> None:
    host = read(text, allow_underscore)
    if host is None:
        return
    assert read(host.text, allow_underscore) == host
    assert host.text.isascii()
    if host.is_address:
        assert QUAD.fullmatch(host.text) or ":" in host.text
        assert parse_authority(f"{host}:80").host == host
    else:
        label = LDH_AND_UNDERSCORE if allow_underscore else LDH
        assert all(label.fullmatch(part) for part in host.labels)
        assert len(host.text) <= 253
        assert not host.labels[-1].isdigit()
        assert not re.fullmatch("0x[0-9a-f]*", host.labels[-1])


@hypothesis.settings(max_examples=500)
@hypothesis.given(texts)
def test_letter_case_final_dot_and_stops_do_not_make_another_name(text: str) -> None:
    host = read(text)
    if host is None or host.is_address or not text.isascii():
        return
    for spelling in (
        text.upper(),
        text.removesuffix(".") + ".",
        text.replace(".", "\u3002"),
        "".join(chr(ord(c) + 0xFEE0) if c.isalnum() else c for c in text),
        text.encode("ascii"),
    ):
        assert read(spelling) == host


@hypothesis.given(st.binary(max_size=300))
def test_any_bytes_raise_nothing_but_the_refusal(data: bytes) -> None:
    host = read(data)
    assert host is None or read(host.text) == host


@hypothesis.settings(max_examples=500)
@hypothesis.given(texts, st.one_of(st.none(), st.text(max_size=8), st.integers(0, 70000).map(str)))
def test_any_authority_is_read_or_refused(host: str, port: str | None) -> None:
    text = host if port is None else f"{host}:{port}"
    try:
        authority = parse_authority(text)
    except HostRefused:
        return
    assert 0 < authority.port < 65536
    assert parse_authority(str(authority)) == authority
    assert not set("@/\\?#,; \0\r\n%") & set(str(authority))


@hypothesis.given(st.text(max_size=8))
def test_a_port_is_what_decimal_writes(text: str) -> None:
    try:
        port = parse_port(text)
    except HostRefused:
        return
    assert str(port) == text


@hypothesis.given(texts, texts)
def test_a_pattern_matches_whole_labels_at_the_end_only(text: str, rule: str) -> None:
    host = read(text)
    try:
        pattern = HostPattern.parse(rule)
        below = HostPattern.parse("*." + rule)
    except HostRefused:
        return
    assert str(pattern) == rule
    if host is not None:
        assert pattern.matches(host) == (host == pattern.host)
        beside = host.labels[-len(below.host.labels) :] == below.host.labels
        assert below.matches(host) == (beside and len(host.labels) > len(below.host.labels))


@hypothesis.given(st.text(alphabet="äöüßéñ日本語абвгδεאב", min_size=1, max_size=10))
def test_an_international_label_and_its_a_label_are_one_name(label: str) -> None:
    host = read(f"{label}.example")
    if host is not None:
        assert read(f"{idna.decode(host.text)}") == host


def test_refusal_is_an_error_of_the_client_with_a_reason_code() -> None:
    with pytest.raises(ProtocolError) as caught:
        canonical_host("a\0b")
    assert isinstance(caught.value, HostRefused)
    assert (caught.value.side, caught.value.reason) == (
        Side.CLIENT,
        HostReason.CONTROL_CHARACTER,
    )


def test_lone_surrogates_are_refused() -> None:
    assert read("exam\ud800ple.com") is None


def test_hosts_print_as_in_an_authority() -> None:
    assert str(canonical_host("2001:db8::1")) == "[2001:db8::1]"
    assert str(canonical_host("a.example")) == "a.example"
    assert str(parse_authority("[2001:db8::1]:21")) == "[2001:db8::1]:21"


def test_address_that_did_not_come_as_text_makes_the_same_host() -> None:
    address = SocketAddress("2001:db8::1", 21).ip
    assert CanonicalHost.from_address(address) == canonical_host("2001:DB8::1")


def test_rule_that_is_not_canonical_is_told_how_to_write_it() -> None:
    with pytest.raises(HostRefused, match=r"'\*\.xn--bcher-kva\.example'"):
        HostPattern.parse("*.bücher.example")
