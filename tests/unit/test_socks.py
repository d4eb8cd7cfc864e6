"""SOCKS 4, 4a and 5 from the server's end: what is read, refused, kept for the tunnel, answered."""

from __future__ import annotations

import ipaddress
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.address import SocketAddress
from sluicegate.errors import BadContext, ProtocolError, Side
from sluicegate.protocols.entry import Credentials, Destination, HostKind
from sluicegate.protocols.socks import (
    SocksCommand,
    SocksReply,
    SocksRequest,
    decode_socks5_address,
    encode_socks5_address,
)
from sluicegate.protocols.socks4 import Socks4Parser
from sluicegate.protocols.socks5 import Socks5Parser, SocksGreeting, SocksMethod
from sluicegate.protocols.socks_udp import (
    SOCKS_UDP_HEADER_BYTES_MAX,
    SocksUdpClient,
    decode_socks_datagram,
    encode_socks_udp_header,
)
from tests.unit.entry_kit import CUTS, EARLY_MAX, fragments, run, run_socks5

IPV4 = Destination(HostKind.IPV4, bytes((192, 0, 2, 7)), 80)
HELLO = b"\x05\x01\x00"
REJECTED4 = b"\x00\x5b" + bytes(6)
DENIED = b"\x01\x01"


def socks4(command: int, port: int, host: str, rest: bytes) -> bytes:
    return struct.pack(">BBH", 4, command, port) + ipaddress.IPv4Address(host).packed + rest


def socks5(command: int, kind: int, host: bytes, port: int) -> bytes:
    return bytes((5, command, 0, kind)) + host + port.to_bytes(2, "big")


def refusal5(code: int) -> bytes:
    return bytes((5, code, 0, 1)) + bytes(6)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (
            socks4(1, 80, "192.0.2.7", b"\0"),
            [SocksRequest(4, SocksCommand.CONNECT, IPV4), b""],
        ),
        (
            socks4(2, 0, "192.0.2.7", b"ann\0later"),
            [
                SocksRequest(
                    4, SocksCommand.BIND, Destination(HostKind.IPV4, IPV4.host, 0), b"ann"
                ),
                b"later",
            ],
        ),
        (
            socks4(1, 443, "0.0.0.1", b"ann\0www.example.com\0\x16\x03\0\0"),
            [
                SocksRequest(
                    4,
                    SocksCommand.CONNECT,
                    Destination(HostKind.TEXT, b"www.example.com", 443),
                    b"ann",
                ),
                b"\x16\x03\0\0",
            ],
        ),
        (
            socks4(1, 80, "0.0.0.255", b"\x00127.0.0.1\0"),
            [
                SocksRequest(4, SocksCommand.CONNECT, Destination(HostKind.TEXT, b"127.0.0.1", 80)),
                b"",
            ],
        ),
        (
            socks4(1, 80, "0.0.0.0", b"\0a\0"),
            [
                SocksRequest(4, SocksCommand.CONNECT, Destination(HostKind.IPV4, bytes(4), 80)),
                b"a\0",
            ],
        ),
        (
            socks4(1, 80, "0.0.1.1", b"\0"),
            [
                SocksRequest(
                    4, SocksCommand.CONNECT, Destination(HostKind.IPV4, b"\0\0\1\1", 80)
                ),
                b"",
            ],
        ),
        (socks4(1, 80, "0.0.0.1", b"ann\0www.example.com"), []),
        (socks4(1, 80, "192.0.2.7", b""), []),
        (b"", []),
    ],
)  # fmt: skip
def test_socks4_requests_read_as_in_the_table(data: bytes, found: list[object]) -> None:
    assert run(Socks4Parser(), data) == found


@pytest.mark.parametrize(
    ("data", "word", "refusal"),
    [
        (b"\x05", "begin with 4", b""),
        (b"\0", "begin with 4", b""),
        (b"\x04\0", "neither CONNECT nor BIND", REJECTED4),
        (b"\x04\x03", "neither CONNECT nor BIND", REJECTED4),
        (socks4(1, 0, "192.0.2.7", b"\0"), "port 0", REJECTED4),
        (socks4(1, 80, "192.0.2.7", b"x" * 256), "longer than 255", REJECTED4),
        (socks4(1, 80, "192.0.2.7", b"x" * 256 + b"\0"), "longer than 255", REJECTED4),
        (socks4(1, 80, "0.0.0.1", b"\0" + b"x" * 256), "longer than 255", REJECTED4),
        (socks4(1, 80, "0.0.0.1", b"\0\0"), "host name is empty", REJECTED4),
    ],
)
def test_socks4_refuses_with_a_reason(data: bytes, word: str, refusal: bytes) -> None:
    *events, hint, sent = run(Socks4Parser(), data)

    assert events == []
    assert word in str(hint)
    assert sent == refusal


def test_socks4_takes_the_longest_user_id_and_host() -> None:
    data = socks4(1, 80, "0.0.0.1", b"u" * 255 + b"\0" + b"h" * 255 + b"\0")

    [request, early] = run(Socks4Parser(), data)

    assert isinstance(request, SocksRequest)
    assert (len(request.user_id), len(request.destination.host), early) == (255, 255, b"")


@pytest.mark.parametrize(
    ("data", "destination"),
    [
        (socks5(1, 1, IPV4.host, 80), IPV4),
        (socks5(1, 3, b"\x01a", 443), Destination(HostKind.TEXT, b"a", 443)),
        (
            socks5(1, 3, b"\xff" + b"h" * 255, 65535),
            Destination(HostKind.TEXT, b"h" * 255, 65535),
        ),
        (
            socks5(1, 3, b"\x0cgood\0bad.com", 80),
            Destination(HostKind.TEXT, b"good\0bad.com", 80),
        ),
        (socks5(1, 3, b"\x09127.0.0.1", 80), Destination(HostKind.TEXT, b"127.0.0.1", 80)),
        (
            socks5(1, 4, bytes(15) + b"\x01", 80),
            Destination(HostKind.IPV6, bytes(15) + b"\x01", 80),
        ),
    ],
)
def test_socks5_destinations_are_handed_out_as_they_were_sent(
    data: bytes, destination: Destination
) -> None:
    found = run_socks5(HELLO + data + b"early")

    assert found == [
        SocksGreeting(frozenset({0})),
        b"\x05\x00",
        SocksRequest(5, SocksCommand.CONNECT, destination),
        b"early",
    ]


@pytest.mark.parametrize(
    ("command", "port"), [(SocksCommand.BIND, 0), (SocksCommand.UDP_ASSOCIATE, 0)]
)
def test_port_0_means_any_where_a_client_announces_a_peer(command: SocksCommand, port: int) -> None:
    *_, request, _ = run_socks5(HELLO + socks5(command, 1, bytes(4), port))

    assert request == SocksRequest(5, command, Destination(HostKind.IPV4, bytes(4), 0))


def test_user_and_password_are_asked_for_and_answered() -> None:
    credentials = b"\x01\x03ann\x0bopen sesame"

    found = run_socks5(b"\x05\x02\x00\x02" + credentials + socks5(1, 1, IPV4.host, 80))

    assert found[1:] == [
        b"\x05\x02",
        Credentials(b"ann", b"open sesame"),
        b"\x01\x00",
        SocksRequest(5, SocksCommand.CONNECT, IPV4),
        b"",
    ]


def test_request_sent_behind_a_wrong_password_is_never_read() -> None:
    credentials = b"\x01\x03ann\x05wrong"

    found = run_socks5(b"\x05\x01\x02" + credentials + socks5(1, 1, IPV4.host, 80))

    assert found[2:] == [Credentials(b"ann", b"wrong"), DENIED]


def test_nothing_is_read_before_the_question_is_answered() -> None:
    parser = Socks5Parser()
    parser.receive_data(HELLO + socks5(1, 1, IPV4.host, 80))
    assert parser.needs_data
    assert isinstance(parser.next_event(), SocksGreeting)

    assert not parser.needs_data
    assert parser.next_event() is None
    parser.choose_method(SocksMethod.NONE_ACCEPTABLE)
    assert parser.next_event() is None


@pytest.mark.parametrize(
    ("data", "word", "refusal"),
    [
        (b"\x04", "begin with 5", b""),
        (b"\x05\x00", "no method", b"\x05\xff"),
        (HELLO + b"\x04", "begin with 5", refusal5(1)),
        (HELLO + b"\x05\x00", "unknown command", refusal5(7)),
        (HELLO + b"\x05\x04", "unknown command", refusal5(7)),
        (HELLO + b"\x05\x01\x01", "reserved byte", refusal5(1)),
        (HELLO + b"\x05\x01\x00\x00", "unknown type", refusal5(8)),
        (HELLO + b"\x05\x01\x00\x02", "unknown type", refusal5(8)),
        (HELLO + b"\x05\x01\x00\x03\x00", "name is empty", refusal5(8)),
        (HELLO + socks5(1, 1, IPV4.host, 0), "port 0", refusal5(1)),
        (b"\x05\x01\x02\x05", "begin with 1", DENIED),
        (b"\x05\x01\x02\x01\x00", "user name is empty", DENIED),
        (b"\x05\x01\x02\x01\x01a\x00", "password is empty", DENIED),
    ],
)
def test_socks5_refuses_with_a_reason(data: bytes, word: str, refusal: bytes) -> None:
    *_, hint, sent = run_socks5(data)

    assert word in str(hint)
    assert sent == refusal


@pytest.mark.parametrize(
    "data",
    [
        b"\x05",
        b"\x05\xff" + b"\x00" * 254,
        b"\x05\x02\x00",
        b"\x05\x01\x02\x01\xff" + b"u" * 254,
        b"\x05\x01\x02\x01\x01u\xff" + b"p" * 254,
        HELLO + b"\x05\x01\x00\x03\xff" + b"h" * 255 + b"\x00",
        HELLO + b"\x05\x01\x00\x04" + bytes(17),
    ],
)
def test_socks5_waits_for_what_its_lengths_promise(data: bytes) -> None:
    parser = Socks5Parser()
    run(parser, data)

    assert parser.needs_data
    assert parser.next_event() is None


@pytest.mark.parametrize(
    "parser_and_data",
    [
        (Socks4Parser, socks4(1, 80, "192.0.2.7", b"\0")),
        (Socks5Parser, HELLO + socks5(1, 1, IPV4.host, 80)),
    ],
)
def test_early_bytes_are_bounded(parser_and_data: tuple[Any, bytes]) -> None:
    make, data = parser_and_data

    kept = run(make(early_bytes_max=EARLY_MAX), data + b"x" * EARLY_MAX)
    refused = run(make(early_bytes_max=EARLY_MAX), data + b"x" * (EARLY_MAX + 1))

    assert not any("came before" in str(one) for one in kept)
    assert "more than 40 bytes came before the answer" in refused


def test_first_error_is_final_and_the_clients() -> None:
    for parser in (Socks4Parser(), Socks5Parser()):
        parser.receive_data(b"\x09")
        with pytest.raises(ProtocolError) as first:
            parser.next_event()
        parser.receive_data(HELLO)
        with pytest.raises(ProtocolError) as second:
            parser.next_event()
        assert second.value is first.value
        assert first.value.side is Side.CLIENT


def test_questions_are_answered_once_and_with_what_was_offered() -> None:
    parser = Socks5Parser()
    with pytest.raises(BadContext):
        parser.choose_method(SocksMethod.NO_AUTHENTICATION)
    with pytest.raises(BadContext):
        parser.take_early_data()
    parser.receive_data(HELLO)
    parser.next_event()
    with pytest.raises(BadContext, match="did not offer USER_PASSWORD"):
        parser.choose_method(SocksMethod.USER_PASSWORD)
    with pytest.raises(BadContext):
        parser.answer_credentials(is_accepted=True)
    with pytest.raises(BadContext):
        Socks4Parser().take_early_data()


BOUND4 = SocketAddress("198.51.100.1", 1080)
BOUND6 = SocketAddress("2001:db8::1", 1080)


@pytest.mark.parametrize(
    ("version", "command", "reply", "bound", "expected"),
    [
        (5, SocksCommand.CONNECT, SocksReply.SUCCEEDED, None, refusal5(0)),
        (
            5,
            SocksCommand.CONNECT,
            SocksReply.SUCCEEDED,
            BOUND6,
            bytes((5, 0, 0, 4)) + BOUND6.ip.packed + b"\x04\x38",
        ),
        (
            5,
            SocksCommand.UDP_ASSOCIATE,
            SocksReply.SUCCEEDED,
            BOUND4,
            bytes((5, 0, 0, 1, 198, 51, 100, 1, 4, 56)),
        ),
        (5, SocksCommand.CONNECT, SocksReply.CONNECTION_REFUSED, BOUND4, refusal5(5)),
        (4, SocksCommand.CONNECT, SocksReply.SUCCEEDED, None, b"\0\x5a" + bytes(6)),
        (4, SocksCommand.CONNECT, SocksReply.SUCCEEDED, BOUND6, b"\0\x5a" + bytes(6)),
        (4, SocksCommand.BIND, SocksReply.SUCCEEDED, BOUND4, b"\0\x5a\x04\x38\xc6\x33\x64\x01"),
        (4, SocksCommand.CONNECT, SocksReply.NOT_ALLOWED, BOUND4, REJECTED4),
    ],
)
def test_replies_carry_an_address_that_their_version_has(
    version: int, command: SocksCommand, reply: SocksReply, bound: Any, expected: bytes
) -> None:
    assert SocksRequest(version, command, IPV4).encode_reply(reply, bound) == expected


@pytest.mark.parametrize("command", [SocksCommand.BIND, SocksCommand.UDP_ASSOCIATE])
@pytest.mark.parametrize(
    "bound", [None, SocketAddress("0.0.0.0", 80), SocketAddress("::", 80), BOUND4.with_port(0)]
)
def test_success_that_promises_an_address_needs_a_usable_one(
    command: SocksCommand, bound: SocketAddress | None
) -> None:
    with pytest.raises(ValueError, match="no address that a client could send to"):
        SocksRequest(5, command, IPV4).encode_reply(SocksReply.SUCCEEDED, bound)


def test_socks4_cannot_promise_an_ipv6_address() -> None:
    with pytest.raises(ValueError, match="2001:db8"):
        SocksRequest(4, SocksCommand.BIND, IPV4).encode_reply(SocksReply.SUCCEEDED, BOUND6)


def test_requests_and_credentials_are_fit_for_logs() -> None:
    request = SocksRequest(5, SocksCommand.CONNECT, Destination(HostKind.TEXT, b"a\x1b[2J\n", 1))
    in_octets = Destination(HostKind.IPV6, bytes(15) + b"\x01", 80)
    credentials = Credentials(b"ann", b"secret")

    assert str(request) == r"SOCKS5 CONNECT a\x1b[2J\n:1"
    assert str(in_octets) == "[::1]:80"
    assert "secret" not in f"{credentials} {credentials!r}"


@pytest.mark.parametrize(
    ("datagram", "word"),
    [
        (b"", "shorter"),
        (b"\0\0", "shorter"),
        (b"\0\0\0", "shorter"),
        (b"\0\1\0" + socks5(0, 1, IPV4.host, 53)[3:], "reserved"),
        (b"\0\0\1" + socks5(0, 1, IPV4.host, 53)[3:], "fragment"),
        (b"\0\0\x80" + socks5(0, 1, IPV4.host, 53)[3:], "fragment"),
        (b"\0\0\0\2" + bytes(6), "unknown type"),
        (b"\0\0\0\3\0" + bytes(2), "empty"),
        (b"\0\0\0\3\5abc\0\0", "shorter"),
        (b"\0\0\0" + socks5(0, 1, IPV4.host, 0)[3:], "port 0"),
    ],
)
def test_datagrams_are_refused_with_a_reason(datagram: bytes, word: str) -> None:
    with pytest.raises(ProtocolError, match=word):
        decode_socks_datagram(datagram)


def test_datagram_has_destination_and_payload() -> None:
    datagram = b"\0\0\0\3\x0bexample.com\0\x35" + b"query"

    read = decode_socks_datagram(memoryview(datagram))

    assert read.destination == Destination(HostKind.TEXT, b"example.com", 53)
    assert datagram[read.payload_at :] == b"query"


def test_header_bound_is_that_of_the_longest_name() -> None:
    datagram = b"\0\0\0\3\xff" + b"h" * 255 + b"\0\x35"

    assert decode_socks_datagram(datagram).payload_at == SOCKS_UDP_HEADER_BYTES_MAX


NOWHERE = Destination(HostKind.IPV4, bytes(4), 0)


@pytest.mark.parametrize(
    ("announced", "senders", "admitted"),
    [
        (NOWHERE, ["10.0.0.1:5", "10.0.0.1:5", "10.0.0.1:6"], [True, True, False]),
        (NOWHERE, ["10.0.0.2:5", "10.0.0.1:5", "10.0.0.2:5"], [False, True, False]),
        (Destination(HostKind.IPV4, bytes(4), 5), ["10.0.0.1:6", "10.0.0.1:5"], [False, True]),
        (
            Destination(HostKind.IPV4, bytes((10, 0, 0, 9)), 5),
            ["10.0.0.9:5", "10.0.0.1:5"],
            [False, True],
        ),
        (NOWHERE, ["127.0.0.1:5", "[::1]:5"], [False, False]),
    ],
)
def test_only_the_client_sends_through_its_association(
    announced: Destination, senders: list[str], admitted: list[bool]
) -> None:
    client = SocksUdpClient(ipaddress.IPv4Address("10.0.0.1"), announced)

    assert [client.admits(SocketAddress.parse(one)) for one in senders] == admitted
    if any(admitted):
        assert client.address == SocketAddress("10.0.0.1", 5)


SOCKETS = st.builds(
    SocketAddress, st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str),
    st.integers(1, 65535),
)  # fmt: skip
STREAMS4 = fragments(
    b"\x04",
    b"\x01",
    b"\x02",
    b"\0\x50",
    bytes(3),
    b"\0",
    b"\x07",
    b"ann",
    b"x" * 130,
    b"\xc0\0\2\7",
)
STREAMS5 = fragments(
    HELLO, b"\x05\x02\x00\x02", b"\x05\x01\x00", b"\x01\x03ann\x0bopen sesame", b"\x01", b"\x03",
    b"\x04", b"\x03\x01a", b"\0\x50", b"\x01\x7f\0\0\1", b"\0", b"\xff", b"x" * 120,
)  # fmt: skip


@given(STREAMS4, CUTS)
def test_every_cut_gives_the_same_socks4_events(data: bytes, cuts: list[int]) -> None:
    whole = run(Socks4Parser(early_bytes_max=EARLY_MAX), data)

    assert run(Socks4Parser(early_bytes_max=EARLY_MAX), data, cuts) == whole


@given(STREAMS5, CUTS)
def test_every_cut_gives_the_same_socks5_events(data: bytes, cuts: list[int]) -> None:
    whole = run_socks5(data, early_bytes_max=EARLY_MAX)

    assert run_socks5(data, cuts, early_bytes_max=EARLY_MAX) == whole


@given(st.one_of(STREAMS4, STREAMS5))
def test_arbitrary_bytes_never_pass_a_bound(data: bytes) -> None:
    for found in (
        run(Socks4Parser(early_bytes_max=EARLY_MAX), data),
        run_socks5(data, early_bytes_max=EARLY_MAX),
    ):
        for event in found:
            if isinstance(event, SocksRequest):
                assert 1 <= len(event.destination.host) <= 255
                assert len(event.user_id) <= 255
                assert event.destination.port or event.command is not SocksCommand.CONNECT
            if isinstance(event, Credentials):
                assert 1 <= len(event.username) <= 255
                assert 1 <= len(event.password) <= 255


@given(st.binary(max_size=300))
def test_arbitrary_datagrams_raise_only_protocol_errors(datagram: bytes) -> None:
    try:
        read = decode_socks_datagram(datagram)
    except ProtocolError:
        return
    assert read.payload_at <= min(len(datagram), SOCKS_UDP_HEADER_BYTES_MAX)


@given(SOCKETS, st.binary(max_size=20))
def test_written_addresses_read_back(address: SocketAddress, payload: bytes) -> None:
    datagram = encode_socks_udp_header(address) + payload

    read = decode_socks_datagram(datagram)
    decoded = decode_socks5_address(encode_socks5_address(address), 0)

    assert decoded is not None
    assert read.destination == decoded[0]
    assert read.destination.address == address.ip
    assert (read.destination.port, datagram[read.payload_at :]) == (address.port, payload)
