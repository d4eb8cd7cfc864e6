"""A hello that is known says what reading it would say: only what is random may differ."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.protocol_limits import TLS_HELLOS_ALIKE_MAX, TLS_HELLOS_KNOWN_MAX
from sluicegate.protocols.tls_hello import ClientHello, HelloReader, KnownHellos, TlsRefused
from sluicegate.protocols.tls_hello.message import read_message
from tests.unit.hello_kit import (
    EARLY_DATA,
    alpn,
    body,
    ech_outer,
    groups,
    key_shares,
    message,
    records,
    sni,
    versions,
)

NAMED = sni("site.example")
SHARES = key_shares((0x11EC, bytes(1216)), (29, bytes(32)))
HELLOS = {
    "of today": message(body([NAMED, groups(29), alpn(b"h2"), versions(0x0304), SHARES])),
    "with keys in the middle": message(body([SHARES, NAMED, versions(0x0304)])),
    "with a key alone": message(body([key_shares((29, b"k"))])),
    "without keys": message(body([NAMED, key_shares()])),
    "of TLS 1.2": message(body([NAMED, groups(23)], session_id=b"")),
    "without extensions": message(body(None)),
    "with early data": message(body([NAMED, (EARLY_DATA, b""), versions(0x0304), SHARES])),
}


def outcome(whole: bytes, known: KnownHellos | None = None) -> ClientHello | str:
    try:
        return read_message(whole) if known is None else known.read(whole)
    except TlsRefused as refused:
        return refused.fault.code


@pytest.mark.parametrize("kind", HELLOS)
@given(data=st.data())
def test_whatever_is_changed_of_a_known_hello_it_says_what_reading_gives(
    kind: str, data: st.DataObject
) -> None:
    known, whole = KnownHellos(), bytearray(HELLOS[kind])
    assert known.read(bytes(whole)) == read_message(bytes(whole))
    places = st.integers(0, len(whole) - 1)
    for at in data.draw(st.lists(places, min_size=1, max_size=3)):
        whole[at] = data.draw(st.integers(0, 255))
    assert outcome(bytes(whole), known) == outcome(bytes(whole))


@pytest.mark.parametrize("kind", HELLOS)
def test_each_single_byte_that_differs_is_seen(kind: str) -> None:
    whole = HELLOS[kind]
    for at in range(len(whole)):
        known = KnownHellos()
        known.read(whole)
        for value in (whole[at] ^ 1, whole[at] ^ 0x80, 0, 255):
            other = whole[:at] + bytes([value]) + whole[at + 1 :]
            assert outcome(other, known) == outcome(other), (at, value)


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_another_nonce_number_and_key_are_not_read_again(nonce: bytes, key: bytes) -> None:
    known = KnownHellos()
    first = known.read(message(body([NAMED, key_shares((29, bytes(32)))])))
    content = body([NAMED, key_shares((29, key))], session_id=nonce)
    again = message(content[:2] + nonce + content[34:])
    assert known.read(again) is first
    assert first == read_message(again)


def test_programs_are_known_again_and_their_names_are_told_apart() -> None:
    def hello(name: str) -> bytes:
        context = ssl.create_default_context()
        context.set_alpn_protocols(["h2", "http/1.1"])
        outgoing = ssl.MemoryBIO()
        client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        return outgoing.read()

    known = KnownHellos()
    names = ["a.example", "b.example", "a.example", "b.example"]
    read = [HelloReader(known=known).read(hello(name)) for name in names]
    assert [one.server_name for one in read if one is not None] == names
    assert read[2] is read[0]
    assert read[3] is read[1]
    assert len(known) == 2


NEVER_THE_SAME = {
    "hides another": message(body([NAMED, ech_outer()])),
    "resumes": message(body([NAMED, versions(0x0304), SHARES, (41, b"ticket")])),
    "is very long": message(body([NAMED, (21, bytes(5000))])),
    "is refused": message(body([NAMED, NAMED])),
}


@pytest.mark.parametrize("kind", NEVER_THE_SAME)
def test_what_will_not_come_again_is_not_remembered(kind: str) -> None:
    known = KnownHellos()
    outcome(NEVER_THE_SAME[kind], known)
    assert len(known) == 0


def test_what_is_remembered_is_bounded() -> None:
    known = KnownHellos()
    for number in range(3 * TLS_HELLOS_ALIKE_MAX):
        whole = message(body([sni(f"{number:06}.example")]))
        assert known.read(whole) == read_message(whole)
    assert len(known) == TLS_HELLOS_ALIKE_MAX
    for length in range(TLS_HELLOS_KNOWN_MAX + 10):
        known.read(message(body([NAMED, (21, bytes(length))])))
        assert len(known) <= TLS_HELLOS_KNOWN_MAX


@given(st.lists(st.integers(1, 300), max_size=4), st.data())
def test_cuts_of_the_stream_change_nothing(sizes: list[int], data: st.DataObject) -> None:
    known = KnownHellos()
    whole = records(HELLOS["of today"], *sizes)
    expected = HelloReader(known=known).read(whole)
    reader, at = HelloReader(known=known), 0
    while at < len(whole):
        step = data.draw(st.integers(1, 500))
        reader.read(whole[at : at + step])
        at += step
    assert reader.hello is expected
