"""Hellos that choose a certificate: whatever the cuts, one name, one certificate, or one alert."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate.names import canonical_host
from sluicegate.tls import TlsContext
from sluicegate.tls.engine import TlsBroken
from sluicegate.tls.named_engine import NamedEngine
from sluicegate.tls.own_names import OwnNames, canonical_names, read_server_name
from tests.flows.published_tls_kit import WILD, WWW, own, pair, trusting
from tests.pki import authority
from tests.unit.hello_kit import openssl_hello

CONTEXT = TlsContext(own())
DEFAULT = TlsContext(own(needs_known_name=False))


def outcome(engine: NamedEngine, data: bytes, cuts: list[int]) -> tuple[str, bytes]:
    """Feed pieces; return why it broke (empty: it did not), and the first bytes of the answer."""
    why, at = "", 0
    for end in [*sorted(cuts), len(data)]:
        engine.feed(memoryview(data)[at:end])
        at = end
        try:
            engine.shake_hands()
        except TlsBroken as broken:
            why = broken.words
            break
    memory = bytearray(1 << 16)
    count = engine.take_into(memoryview(memory))
    return why, bytes(memory[:count])[:7]


HELLOS = [
    (openssl_hello(WWW), "", 0),
    (openssl_hello(WILD), "", 1),
    (openssl_hello("evil.example"), "tls-sni-unknown: evil.example", 0),
    (openssl_hello(None), "tls-sni-missing", 0),
    (b"GET / HTTP/1.1\r\n\r\n", "tls-not-tls", 0),
]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(HELLOS), st.lists(st.integers(1, 250), max_size=12))
def test_cuts_change_nothing(case: tuple[bytes, str, int], cuts: list[int]) -> None:
    data, reason, place = case
    engine = NamedEngine(CONTEXT)
    why, answer = outcome(engine, data, [one for one in cuts if one < len(data)])
    assert (why, engine.place) == (reason, place)
    assert answer[:1] == (b"\x15" if reason else b"\x16")


@given(st.binary(max_size=300), st.lists(st.integers(1, 299), max_size=4))
def test_any_bytes_end_in_a_reason_or_wait_for_more(data: bytes, cuts: list[int]) -> None:
    engine = NamedEngine(CONTEXT)
    why, answer = outcome(engine, data, [one for one in cuts if one < len(data)])
    assert why.startswith("tls-") or not answer


def test_who_names_nothing_known_is_shown_the_first_where_that_is_the_default() -> None:
    engine = NamedEngine(DEFAULT)
    assert outcome(engine, openssl_hello("evil.example"), [])[0] == ""
    assert (engine.place, engine.sni) == (0, "evil.example")
    assert engine.host == canonical_host("evil.example")


def test_the_certificate_that_is_shown_is_the_one_for_the_name() -> None:
    for name, issued in ((WWW, pair(WWW)), (WILD, pair("*.wild.example"))):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = trusting().wrap_bio(incoming, outgoing, server_hostname=name)
        engine, memory = NamedEngine(CONTEXT), bytearray(1 << 16)
        is_done = False
        for _ in range(10):
            try:
                client.do_handshake()
                is_done = True
            except ssl.SSLWantReadError:
                pass
            engine.feed(outgoing.read())
            engine.shake_hands()
            count = engine.take_into(memoryview(memory))
            incoming.write(memoryview(memory)[:count])
            if is_done and not count:
                break
        shown = client.getpeercert(binary_form=True)
        assert shown == ssl.PEM_cert_to_DER_cert(issued.certificate_pem)


NAMES = [
    ("a.example", 0),
    ("b.example", 1),
    ("x.b.example", 1),
    ("x.y.b.example", None),
    ("xb.example", None),
    ("192.0.2.7", 2),
    ("192.0.2.8", None),
    ("example", None),
]


@pytest.mark.parametrize(("host", "place"), NAMES)
def test_a_wildcard_is_one_label_and_an_address_is_an_address(host: str, place: int | None) -> None:
    issued = [["a.example", "*.com"], ["b.example", "*.b.example"], ["192.0.2.7", "A.example"]]
    names = OwnNames([authority().server(*one).certificate for one in issued])
    assert names.find(canonical_host(host)) == place
    if place is not None:
        assert names.covers(place, canonical_host(host))


def test_names_that_no_client_can_ask_for_are_left_out() -> None:
    odd = ["WWW.Example", "a_b.example", "*.example", "*.b.example", "f*.example", "x..y"]
    found = canonical_names(authority().server(*odd).certificate)
    assert found == ("www.example", "a_b.example", "*.b.example")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, "tls-sni-missing"),
        ("192.0.2.1", "tls-sni-address: 192.0.2.1"),
        ("0x7f.1", "tls-sni-"),
        ("a.example.", "tls-sni-form: final dot"),
        ("a..example", "tls-sni-form: "),
        ("A.Example", canonical_host("a.example")),
    ],
)
def test_a_name_in_a_hello_has_one_reading(text: str | None, expected: object) -> None:
    found = read_server_name(text)
    if isinstance(expected, str):
        assert isinstance(found, str)
        assert found.startswith(expected)
    else:
        assert found == expected
