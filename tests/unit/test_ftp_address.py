"""Addresses in FTP text: one reading or none."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.address import SocketAddress
from sluicegate.errors import ProtocolError, Side
from sluicegate.protocols.ftp_address import (
    EpsvRequest,
    bounce_hazard,
    decode_eprt_argument,
    decode_epsv_argument,
    decode_epsv_reply,
    decode_pasv_reply,
    decode_port_argument,
    encode_eprt_argument,
    encode_epsv_reply,
    encode_pasv_reply,
    encode_port_argument,
    port_hazard,
)

IPV4 = st.ip_addresses(v=4).map(str)
IPV6 = st.ip_addresses(v=6).filter(lambda ip: ip.ipv4_mapped is None).map(str)
PORTS = st.integers(0, 65535)
DECODERS: list[Callable[[bytes], object]] = [
    decode_port_argument,
    decode_eprt_argument,
    decode_epsv_argument,
    decode_pasv_reply,
    decode_epsv_reply,
]


@pytest.mark.parametrize(
    ("argument", "shown"),
    [
        (b"192,0,2,1,4,1", "192.0.2.1:1025"),
        (b"0,0,0,0,0,0", "0.0.0.0:0"),
        (b"255,255,255,255,255,255", "255.255.255.255:65535"),
    ],
)
def test_port_carries_an_address(argument: bytes, shown: str) -> None:
    assert str(decode_port_argument(argument)) == shown


@pytest.mark.parametrize(
    "argument",
    [
        b"",
        b"192,0,2,1,4",
        b"192,0,2,1,4,1,1",
        b"192,0,2,256,4,1",
        b"192,0,2,1,4,256",
        b"192,0,2,01,4,1",
        b"192,0,2,001,4,1",
        b"192,0,2,+1,4,1",
        b"192,0,2,-1,4,1",
        b"192,0,2, 1,4,1",
        b" 192,0,2,1,4,1",
        b"192,0,2,1,4,1 ",
        b"192.0.2.1,4,1",
        b"0x7f,0,0,1,4,1",
        b"192,0,2,1,4,1\n",
        b"1234,0,2,1,4,1",
        "١٩٢,0,2,1,4,1".encode(),
    ],
)
def test_port_of_any_other_form_is_refused(argument: bytes) -> None:
    with pytest.raises(ProtocolError) as refused:
        decode_port_argument(argument)

    assert refused.value.side is Side.CLIENT


@pytest.mark.parametrize(
    ("argument", "shown"),
    [
        (b"|1|192.0.2.1|1025|", "192.0.2.1:1025"),
        (b"|2|2001:db8::1|1025|", "[2001:db8::1]:1025"),
        (b"|2|2001:DB8:0:0:0:0:0:1|1025|", "[2001:db8::1]:1025"),
        (b"!1!192.0.2.1!1025!", "192.0.2.1:1025"),
        (b"~2~::1~80~", "[::1]:80"),
        (b".2.::1.80.", "[::1]:80"),
        (b"|2|64:ff9b::192.0.2.1|80|", "[64:ff9b::c000:201]:80"),
    ],
)
def test_eprt_carries_an_address(argument: bytes, shown: str) -> None:
    assert str(decode_eprt_argument(argument)) == shown


@pytest.mark.parametrize(
    "argument",
    [
        b"",
        b"|",
        b"|1|192.0.2.1|1025",
        b"1|192.0.2.1|1025|",
        b"|1|192.0.2.1|1025||",
        b"|1|192.0.2.1|65536|",
        b"|1|192.0.2.1|01025|",
        b"|1|192.0.2.1|+25|",
        b"|1|192.0.2.1||",
        b"|1|192.0.2|1025|",
        b"|1|192.0.2.1.1|1025|",
        b"|1|192.0.2.01|1025|",
        b"|1|0xc0.0.2.1|1025|",
        b"|1|3221225985|1025|",
        b"|1|::1|1025|",
        b"|1|host.example|1025|",
        b"|2|192.0.2.1|1025|",
        b"|2|::ffff:192.0.2.1|1025|",
        b"|2|::ffff:c000:201|1025|",
        b"|2|fe80::1%eth0|1025|",
        b"|2|[::1]|1025|",
        b"|2|::1/128|1025|",
        b"|2|:::1|1025|",
        b"|2||1025|",
        b"|3|192.0.2.1|1025|",
        b"||192.0.2.1|1025|",
        b" 1 192.0.2.1 1025 ",
        b"\x7f1\x7f192.0.2.1\x7f1025\x7f",
        b"\xff1\xff192.0.2.1\xff1025\xff",
    ],
)
def test_eprt_of_any_other_form_is_refused(argument: bytes) -> None:
    with pytest.raises(ProtocolError) as refused:
        decode_eprt_argument(argument)

    assert refused.value.side is Side.CLIENT


@pytest.mark.parametrize(
    ("argument", "request_"),
    [
        (b"", EpsvRequest.ANY),
        (b"1", EpsvRequest.IPV4),
        (b"2", EpsvRequest.IPV6),
        (b"all", EpsvRequest.ALL),
    ],
)
def test_epsv_asks_for_a_family(argument: bytes, request_: EpsvRequest) -> None:
    assert decode_epsv_argument(argument) is request_


@pytest.mark.parametrize("argument", [b"3", b" 1", b"01", b"ALLX", b"\xff"])
def test_epsv_for_another_family_is_refused(argument: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_epsv_argument(argument)


@pytest.mark.parametrize(
    "text",
    [
        b"Entering Passive Mode (192,0,2,1,4,1)",
        b"Entering Passive Mode (192,0,2,1,4,1).",
        b"Entering Passive Mode 192,0,2,1,4,1",
        b"=192,0,2,1,4,1",
        b"192,0,2,1,4,1 ok",
    ],
)
def test_passive_reply_carries_an_address(text: bytes) -> None:
    assert str(decode_pasv_reply(text)) == "192.0.2.1:1025"


@pytest.mark.parametrize(
    "text",
    [
        b"Entering Passive Mode",
        b"(192,0,2,1,4)",
        b"(192,0,2,1,4,1,1)",
        b"(192,0,2,1,4,256)",
        b"(192,0,2,01,4,1)",
        b"(192,0,2,1,4,1) (192,0,2,2,4,1)",
        b"(192, 0, 2, 1, 4, 1)",
        b",192,0,2,1,4,1",
        b"(1192,0,2,1,4,1)",
    ],
)
def test_passive_reply_of_any_other_form_is_refused(text: bytes) -> None:
    with pytest.raises(ProtocolError) as refused:
        decode_pasv_reply(text)

    assert refused.value.side is Side.SERVER


@pytest.mark.parametrize("text", [b"Entering (|||1025|)", b"(!!!1025!)", b"ok (|||1025|)."])
def test_extended_passive_reply_carries_a_port(text: bytes) -> None:
    assert decode_epsv_reply(text) == 1025


@pytest.mark.parametrize(
    "text",
    [
        b"Entering Extended Passive Mode",
        b"|||1025|",
        b"(||1025|)",
        b"(|||1025)",
        b"(|||65536|)",
        b"(|||01025|)",
        b"(|1|192.0.2.1|1025|)",
        b"(||192.0.2.1|1025|)",
        b"(|!|1025|)",
        b"(|||1025|) (|||1026|)",
        b"(111102511)",
        b"(   1025 )",
    ],
)
def test_extended_passive_reply_of_any_other_form_is_refused(text: bytes) -> None:
    with pytest.raises(ProtocolError) as refused:
        decode_epsv_reply(text)

    assert refused.value.side is Side.SERVER


@pytest.mark.parametrize(
    ("port", "is_hazard"), [(0, True), (25, True), (1023, True), (1024, False)]
)
def test_low_ports_are_flagged(port: int, is_hazard: bool) -> None:
    assert (port_hazard(port) is not None) is is_hazard


@pytest.mark.parametrize(
    ("announced", "peer", "word"),
    [
        ("192.0.2.1:1025", "192.0.2.1:4000", None),
        ("192.0.2.2:1025", "192.0.2.1:4000", "not the address"),
        ("127.0.0.1:1025", "192.0.2.1:4000", "not the address"),
        ("192.0.2.1:25", "192.0.2.1:4000", "below 1024"),
        ("[2001:db8::1]:1025", "[2001:db8:0::1]:4000", None),
        ("[2001:db8::2]:1025", "[2001:db8::1]:4000", "not the address"),
    ],
)
def test_bounce_is_flagged(announced: str, peer: str, word: str | None) -> None:
    hazard = bounce_hazard(SocketAddress.parse(announced), SocketAddress.parse(peer))

    assert (word is None and hazard is None) or (word is not None and word in str(hazard))


@given(IPV4, PORTS)
def test_ipv4_reads_back(host: str, port: int) -> None:
    address = SocketAddress(host, port)

    assert decode_port_argument(encode_port_argument(address)) == address
    assert decode_eprt_argument(encode_eprt_argument(address)) == address
    assert decode_pasv_reply(encode_pasv_reply(address)[4:]) == address


@given(IPV6, PORTS)
def test_ipv6_reads_back(host: str, port: int) -> None:
    address = SocketAddress(host, port)

    assert decode_eprt_argument(encode_eprt_argument(address)) == address
    assert decode_epsv_reply(encode_epsv_reply(port)[4:]) == port
    with pytest.raises(ipaddress.AddressValueError):
        encode_port_argument(address)


@given(IPV4 | IPV6, PORTS, st.integers(33, 126).map(lambda code: bytes([code])))
def test_any_delimiter_reads_back_unless_it_is_in_a_field(
    host: str, port: int, mark: bytes
) -> None:
    address = SocketAddress(host, port)
    family = b"2" if ":" in host else b"1"
    fields = family + host.encode() + b"%d" % port
    encoded = encode_eprt_argument(address, mark)

    if mark in fields:
        with pytest.raises(ProtocolError):
            decode_eprt_argument(encoded)
    else:
        assert decode_eprt_argument(encoded) == address


@given(
    st.sampled_from(DECODERS),
    st.binary(max_size=60) | st.text("0123456789,.|()ALl:f ", max_size=40).map(str.encode),
)
def test_arbitrary_text_raises_only_protocol_errors(
    decode: Callable[[bytes], object], text: bytes
) -> None:
    try:
        decoded = decode(text)
    except ProtocolError:
        return
    if isinstance(decoded, SocketAddress):
        assert 0 <= decoded.port <= 65535
        assert str(ipaddress.ip_address(decoded.host)) == decoded.host
