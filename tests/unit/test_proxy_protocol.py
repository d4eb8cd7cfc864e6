"""The PROXY protocol: exact headers in, exact headers out, and nothing believed that is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.address import SocketAddress
from sluicegate.errors import BadContext, ProtocolError
from sluicegate.protocol_limits import PROXY_HEADER_BYTES_MAX, PROXY_TLVS_MAX
from sluicegate.protocols.proxy_protocol import (
    ProxyHeader,
    ProxyHeaderParser,
    ProxyTransport,
    UnixAddress,
    encode_proxy_local,
    encode_proxy_v1,
    encode_proxy_v2,
    source_hazard,
)
from sluicegate.protocols.proxy_tlv import (
    ProxyTlv,
    ProxyTlvKind,
    append_checksum,
    checksum,
    decode_ssl,
    encode_tlvs,
)
from tests.unit.entry_kit import CUTS, EARLY_MAX, fragments, run

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
SOURCE = SocketAddress("192.0.2.7", 50000)
TARGET = SocketAddress("198.51.100.1", 443)
FOUR = bytes((192, 0, 2, 7, 198, 51, 100, 1)) + b"\xc3\x50\x01\xbb"


def v2(block: bytes, command: int = 0x21, family: int = 0x11, length: int | None = None) -> bytes:
    length = len(block) if length is None else length
    return SIGNATURE + bytes((command, family)) + length.to_bytes(2, "big") + block


def tlv(kind: int, value: bytes, length: int | None = None) -> bytes:
    return bytes((kind,)) + (len(value) if length is None else length).to_bytes(2, "big") + value


def header_of(data: bytes) -> ProxyHeader:
    [header, _] = run(ProxyHeaderParser(), data)
    assert isinstance(header, ProxyHeader)
    return header


def error_of(data: bytes) -> str:
    [hint, _] = run(ProxyHeaderParser(), data)
    assert isinstance(hint, str)
    return hint


@pytest.mark.parametrize(
    ("line", "source", "target"),
    [
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 443\r\n", SOURCE, TARGET),
        (
            b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
            SocketAddress("255.255.255.255", 65535),
            SocketAddress("255.255.255.255", 65535),
        ),
        (
            b"PROXY TCP6 2001:DB8::1 ::1 0 65535\r\n",
            SocketAddress("2001:db8::1", 0),
            SocketAddress("::1", 65535),
        ),
        (
            b"PROXY TCP6 ::ffff:192.0.2.7 2001:db8::1 50000 443\r\n",
            SOURCE,
            SocketAddress("2001:db8::1", 443),
        ),
        (b"PROXY UNKNOWN\r\n", None, None),
        (b"PROXY UNKNOWN whatever else 1 2\r\n", None, None),
    ],
)
def test_version_1_reads_as_in_the_table(
    line: bytes, source: SocketAddress | None, target: SocketAddress | None
) -> None:
    [header, early] = run(ProxyHeaderParser(), line + b"GET /")

    assert isinstance(header, ProxyHeader)
    assert (header.version, header.is_local) == (1, False)
    assert (header.source, header.target, early) == (source, target, b"GET /")


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"P\r\n", "signature"),
        (b"PROXYTCP4", "signature"),
        (b"proxy TCP4", "signature"),
        (b"PROXY\tTCP4", "signature"),
        (b"GET / HTTP/1.1\r\n", "signature"),
        (b"PROXY \r\n", "family"),
        (b"PROXY TCP4\r\n", "family"),
        (b"PROXY TCP5 192.0.2.7 192.0.2.1 1 2\r\n", "family"),
        (b"PROXY tcp4 192.0.2.7 192.0.2.1 1 2\r\n", "family"),
        (b"PROXY UNKNOWNX\r\n", "family"),
        (b"PROXY UDP4 192.0.2.7 192.0.2.1 1 2\r\n", "family"),
        (b"PROXY  TCP4 192.0.2.7 192.0.2.1 1 2\r\n", "family"),
        (b"PROXY TCP4 192.0.2.7 192.0.2.1 1\r\n", "family"),
        (b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2 \r\n", "family"),
        (b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2 3\r\n", "family"),
        (b"PROXY TCP4 192.0.2.7  192.0.2.1 1 2\r\n", "family"),
        (b"PROXY TCP4 192.0.2.07 192.0.2.1 1 2\r\n", "malformed"),
        (b"PROXY TCP4 192.0.2.256 192.0.2.1 1 2\r\n", "malformed"),
        (b"PROXY TCP4 192.0.2 192.0.2.1 1 2\r\n", "malformed"),
        (b"PROXY TCP4 ::1 ::1 1 2\r\n", "malformed"),
        (b"PROXY TCP6 192.0.2.7 192.0.2.1 1 2\r\n", "malformed"),
        (b"PROXY TCP6 ::1%lo ::1 1 2\r\n", "malformed"),
        (b"PROXY TCP6 :::1 ::1 1 2\r\n", "malformed"),
        (b"PROXY TCP6 [::1] ::1 1 2\r\n", "malformed"),
        (b"PROXY TCP4 a.example 192.0.2.1 1 2\r\n", "malformed"),
        (b"PROXY TCP4 192.0.2.7 192.0.2.1 +1 2\r\n", "malformed"),
        (b"PROXY TCP4 192.0.2.7 192.0.2.1 01 2\r\n", "malformed"),
        (b"PROXY TCP4 192.0.2.7 192.0.2.1 1 65536\r\n", "above 65535"),
        (b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2\n", "CR LF"),
        (b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\r\n", "CR LF"),
        (b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n", "longer than 107"),
        (b"PROXY UNKNOWN " + b"x" * 93, "longer than 107"),
    ],
)
def test_version_1_that_is_not_exact_is_refused(data: bytes, word: str) -> None:
    assert word in error_of(data)


def test_longest_line_is_taken() -> None:
    assert header_of(b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n") == ProxyHeader(1)


@pytest.mark.parametrize(
    ("data", "header"),
    [
        (v2(FOUR), ProxyHeader(2, False, ProxyTransport.STREAM, SOURCE, TARGET)),
        (v2(FOUR, family=0x12), ProxyHeader(2, False, ProxyTransport.DATAGRAM, SOURCE, TARGET)),
        (
            v2(bytes(15) + b"\1" + bytes(15) + b"\2" + b"\0\1\0\2", family=0x21),
            ProxyHeader(
                2, False, ProxyTransport.STREAM, SocketAddress("::1", 1), SocketAddress("::2", 2)
            ),
        ),
        (
            v2(
                bytes(10) + b"\xff\xff\xc0\0\2\7" + bytes(15) + b"\2" + b"\xc3\x50\0\2",
                family=0x21,
            ),
            ProxyHeader(2, False, ProxyTransport.STREAM, SOURCE, SocketAddress("::2", 2)),
        ),
        (
            v2(b"/run/a".ljust(108, b"\0") + b"\0abstract".ljust(108, b"\0"), family=0x31),
            ProxyHeader(
                2, False, ProxyTransport.STREAM, UnixAddress(b"/run/a"), UnixAddress(b"\0abstract")
            ),
        ),
        (v2(b"", family=0x00), ProxyHeader(2)),
        (v2(tlv(5, b"id"), family=0x00), ProxyHeader(2, tlvs=(ProxyTlv(5, b"id"),))),
        (v2(b"", command=0x20, family=0x00), ProxyHeader(2, is_local=True)),
        (v2(b"", command=0x20, family=0x11), ProxyHeader(2, is_local=True)),
        (v2(b"\xff\xff\xff", command=0x20, family=0x00), ProxyHeader(2, is_local=True)),
        (v2(FOUR, command=0x20), ProxyHeader(2, is_local=True)),
        (
            v2(FOUR + tlv(4, b"padding") + tlv(2, b"a.example") + tlv(0xE0, b"")),
            ProxyHeader(
                2, False, ProxyTransport.STREAM, SOURCE, TARGET,
                (ProxyTlv(ProxyTlvKind.AUTHORITY, b"a.example"), ProxyTlv(0xE0, b"")),
            ),
        ),
    ],
)  # fmt: skip
def test_version_2_reads_as_in_the_table(data: bytes, header: ProxyHeader) -> None:
    assert run(ProxyHeaderParser(), data + b"\x05\x01\0") == [header, b"\x05\x01\0"]


SSL = b"\x01\0\0\0\0"


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"\r\n\r\n\0\r\nQUIT\r", "signature"),
        (b"\r\n\r\n\r", "signature"),
        (SIGNATURE + b"\x11", "version or command"),
        (SIGNATURE + b"\x31", "version or command"),
        (SIGNATURE + b"\x22", "version or command"),
        (SIGNATURE + b"\x21\x10", "family or transport"),
        (SIGNATURE + b"\x21\x01", "family or transport"),
        (SIGNATURE + b"\x21\x13", "family or transport"),
        (SIGNATURE + b"\x21\x41", "family or transport"),
        (SIGNATURE + b"\x20\xff", "family or transport"),
        (v2(b"", length=PROXY_HEADER_BYTES_MAX - 15), "longer than"),
        (v2(b"", command=0x20, length=0xFFFF), "longer than"),
        (v2(FOUR[:-1]), "shorter than its addresses"),
        (v2(FOUR, family=0x21), "shorter than its addresses"),
        (v2(FOUR, family=0x31), "shorter than its addresses"),
        (v2(FOUR + b"\1"), "longer than what contains it"),
        (v2(FOUR + b"\1\0"), "longer than what contains it"),
        (v2(FOUR + tlv(1, b"h2", 3)), "longer than what contains it"),
        (v2(FOUR + tlv(1, b"h2", 1)), "longer than what contains it"),
        (v2(FOUR + tlv(1, b"", 0xFFFF)), "longer than what contains it"),
        (v2(FOUR + tlv(4, b"") * (PROXY_TLVS_MAX + 1)), "more than 64 TLVs"),
        (v2(FOUR + tlv(3, b"\0\0\0\0")), "wrong checksum"),
        (v2(FOUR + tlv(3, b"")), "four bytes"),
        (v2(FOUR + tlv(3, b"\0" * 5)), "four bytes"),
        (v2(FOUR + tlv(5, b"x" * 129)), "unique id"),
        (v2(FOUR + tlv(0x20, b"\1\0\0\0")), "SSL TLV that is too short"),
        (v2(FOUR + tlv(0x20, SSL + tlv(0x21, b"TLSv1.3", 8))), "longer than what contains it"),
    ],
)
def test_version_2_that_is_not_exact_is_refused(data: bytes, word: str) -> None:
    assert word in error_of(data)


def test_two_checksums_are_refused() -> None:
    once = append_checksum(SIGNATURE + b"\x21\x11", FOUR)

    twice = append_checksum(SIGNATURE + b"\x21\x11", once[16:])

    assert "two checksums" in error_of(twice)


@pytest.mark.parametrize("at", range(60))
def test_one_wrong_bit_under_a_checksum_is_noticed(at: int) -> None:
    whole = bytearray(
        encode_proxy_v2(SOURCE, TARGET, [ProxyTlv(2, b"some-host.example")], has_checksum=True)
    )
    assert header_of(bytes(whole)).source == SOURCE
    whole[at % len(whole)] ^= 1 << (at % 8)

    found = run(ProxyHeaderParser(), bytes(whole))

    # A changed length makes it wait for more, a changed kind hides the checksum itself.
    is_tlv_kind = at % len(whole) == len(whole) - 7
    assert is_tlv_kind or not any(isinstance(one, ProxyHeader) for one in found)


def test_checksum_is_castagnolis() -> None:
    assert checksum(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4
    assert checksum(b"\xff" * 32) == 0x62A8AB43
    assert checksum(bytes(range(32))) == 0x46DD794E


def test_tls_of_the_client_is_read() -> None:
    value = b"\x05\0\0\0\0" + tlv(0x21, b"TLSv1.3") + tlv(0x22, b"ann")

    ssl = decode_ssl(value)

    assert (ssl.client, ssl.verify) == (5, 0)
    assert ssl.tlvs == (ProxyTlv(0x21, b"TLSv1.3"), ProxyTlv(0x22, b"ann"))
    assert decode_ssl(value[:5]).tlvs == ()


@pytest.mark.parametrize(
    ("host", "port", "word"),
    [
        ("127.0.0.1", 5, "127.0.0.1"),
        ("::1", 5, "::1"),
        ("0.0.0.0", 5, "0.0.0.0"),
        ("::", 5, "::"),
        ("224.0.0.1", 5, "224.0.0.1"),
        ("192.0.2.7", 0, "port 0"),
        ("192.0.2.7", 5, ""),
    ],
)
def test_source_that_came_over_no_network_is_named(host: str, port: int, word: str) -> None:
    header = ProxyHeader(2, False, ProxyTransport.STREAM, SocketAddress(host, port), TARGET)

    assert word in (source_hazard(header) or "")
    assert (source_hazard(header) is None) is (word == "")


def test_mapped_loopback_is_still_loopback() -> None:
    header = header_of(b"PROXY TCP6 ::ffff:127.0.0.1 ::1 5 5\r\n")

    assert source_hazard(header) == "127.0.0.1 is not the address of a client"
    assert source_hazard(ProxyHeader(2, is_local=True)) is None


def test_early_bytes_are_bounded_and_kept() -> None:
    line = b"PROXY UNKNOWN\r\n"

    kept = run(ProxyHeaderParser(early_bytes_max=EARLY_MAX), line + b"x" * EARLY_MAX)
    refused = run(ProxyHeaderParser(early_bytes_max=EARLY_MAX), line + b"x" * (EARLY_MAX + 1))

    assert kept == [ProxyHeader(1), b"x" * EARLY_MAX]
    assert "came before" in str(refused[1])


def test_header_is_waited_for_and_read_once() -> None:
    parser = ProxyHeaderParser()
    parser.receive_data(v2(FOUR)[:-1])
    assert parser.next_event() is None
    with pytest.raises(BadContext):
        parser.take_early_data()

    parser.receive_data(v2(FOUR)[-1:])

    assert parser.next_event() is not None
    assert parser.next_event() is None


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (
            lambda: encode_proxy_v2(SOURCE, TARGET, transport=ProxyTransport.UNSPECIFIED),
            "need a transport",
        ),
        (lambda: encode_tlvs([ProxyTlv(3, b"1234")]), "made last"),
        (lambda: encode_tlvs([ProxyTlv(1, bytes(65536))]), "length field"),
        (lambda: encode_tlvs([ProxyTlv(1, b"")] * 64), "too many"),
        (lambda: encode_proxy_v2(SOURCE, TARGET, [ProxyTlv(1, bytes(16380))]), "longer than"),
    ],
)
def test_header_that_readers_would_refuse_cannot_be_made(make, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        make()


ADDRESSES = st.builds(
    SocketAddress,
    st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6).filter(lambda ip: not ip.ipv4_mapped)).map(
        str
    ),
    st.integers(0, 65535),
)
TLVS = st.lists(
    st.builds(
        ProxyTlv,
        st.integers(0, 255).filter(lambda kind: kind not in {3, 4, 5, 0x20}),
        st.binary(max_size=30),
    ),
    max_size=6,
)
STREAMS = fragments(
    SIGNATURE, b"PROXY ", b"TCP4 ", b"UNKNOWN", b"192.0.2.7 ", b"1 2", b"\r\n", b"\x21\x11\0\x0c",
    b"\x20\0\0\0", FOUR, b"\0", tlv(3, b"1234"), v2(FOUR), b"\x21\x11\0\x13", b"x" * 50,
)  # fmt: skip


@given(STREAMS, CUTS)
def test_every_cut_gives_the_same_events(data: bytes, cuts: list[int]) -> None:
    whole = run(ProxyHeaderParser(early_bytes_max=EARLY_MAX), data)

    assert run(ProxyHeaderParser(early_bytes_max=EARLY_MAX), data, cuts) == whole


@given(STREAMS)
def test_arbitrary_bytes_raise_only_protocol_errors(data: bytes) -> None:
    parser = ProxyHeaderParser()
    try:
        parser.receive_data(data)
        header = parser.next_event()
    except ProtocolError:
        return
    assert header is None or len(header.tlvs) <= PROXY_TLVS_MAX


@given(ADDRESSES, ADDRESSES, TLVS, st.booleans(), st.sampled_from([1, 2]))
def test_written_headers_read_back(
    source: SocketAddress,
    target: SocketAddress,
    tlvs: list[ProxyTlv],
    has_checksum: bool,
    version: int,
) -> None:
    transport = ProxyTransport.DATAGRAM if has_checksum else ProxyTransport.STREAM

    first = header_of(encode_proxy_v1(source, target))
    second = header_of(
        encode_proxy_v2(source, target, tlvs, transport=transport, has_checksum=has_checksum)
    )

    assert first == ProxyHeader(1, False, ProxyTransport.STREAM, source, target)
    assert second == ProxyHeader(2, False, transport, source, target, tuple(tlvs))


@given(TLVS, st.booleans())
def test_written_local_header_reads_back(tlvs: list[ProxyTlv], has_checksum: bool) -> None:
    assert header_of(encode_proxy_local(tlvs, has_checksum=has_checksum)).is_local
