"""Captures become conversations: every format, every order of packets, nothing invented."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.testing.capture import NotACapture, read_capture
from sluicegate.testing.reassembly import captured_connections

CLIENT, SERVER = ("10.0.0.1", 40000), ("10.0.0.2", 80)
FIN, SYN, RST, ACK = 1, 2, 4, 16


def tcp(source: int, target: int, sequence: int, flags: int, data: bytes = b"") -> bytes:
    head = struct.pack("!HHIIBBHHH", source, target, sequence % (1 << 32), 0, 80, flags, 0, 0, 0)
    return head + data


def ipv4(source: str, target: str, payload: bytes, fragment: int = 0) -> bytes:
    addresses = bytes(map(int, f"{source}.{target}".split(".")))
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, fragment, 64, 6, 0)
    return head + addresses + payload


def ipv6(payload: bytes, *, is_from_client: bool = True, extension: bool = False) -> bytes:
    ends = [bytes(15) + b"\1", bytes(15) + b"\2"]
    ends = ends if is_from_client else ends[::-1]
    following = b"\0" if extension else b"\6"
    if extension:
        payload = b"\6\0" + bytes(6) + payload
    return (
        b"\x60\0\0\0"
        + struct.pack("!H", len(payload))
        + following
        + b"\x40"
        + b"".join(ends)
        + payload
    )


def packet(from_client: bool, sequence: int, flags: int = ACK, data: bytes = b"") -> bytes:
    source, target = (CLIENT, SERVER) if from_client else (SERVER, CLIENT)
    return ipv4(source[0], target[0], tcp(source[1], target[1], sequence, flags, data))


LINKS = {
    1: lambda ip: bytes(12) + (b"\x08\x00" if ip[0] >> 4 == 4 else b"\x86\xdd") + ip,
    101: lambda ip: ip,
    113: lambda ip: bytes(14) + (b"\x08\x00" if ip[0] >> 4 == 4 else b"\x86\xdd") + ip,
    276: lambda ip: (b"\x08\x00" if ip[0] >> 4 == 4 else b"\x86\xdd") + bytes(18) + ip,
    0: lambda ip: bytes(4) + ip,
}


def pcap(packets: Iterable[bytes], link: int = 1, order: str = "<", cut: int = 0) -> bytes:
    magic = b"\xd4\xc3\xb2\xa1" if order == "<" else b"\xa1\xb2\xc3\xd4"
    out = magic + struct.pack(f"{order}HHIIII", 2, 4, 0, 0, 262144, link)
    for one in packets:
        frame = LINKS[link](one)
        kept = frame[: len(frame) - cut]
        out += struct.pack(f"{order}IIII", 0, 0, len(kept), len(frame)) + kept
    return out


def block(order: str, kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    size = struct.pack(f"{order}I", len(body) + 12)
    return struct.pack(f"{order}I", kind) + size + body + size


def pcapng(packets: Iterable[bytes], link: int = 1, order: str = "<") -> bytes:
    mark = struct.pack(f"{order}I", 0x1A2B3C4D)
    out = block(order, 0x0A0D0D0A, mark + struct.pack(f"{order}HHq", 1, 0, -1))
    out += block(order, 1, struct.pack(f"{order}HHI", link, 0, 0))
    out += block(order, 5, bytes(12))  # statistics, which nobody wants
    for one in packets:
        frame = LINKS[link](one)
        head = struct.pack(f"{order}IIIII", 0, 0, 0, len(frame), len(frame))
        out += block(order, 6, head + frame)
    return out


TALK = [
    packet(True, 99, SYN),
    packet(False, 499, SYN | ACK),
    packet(True, 100, ACK, b"hello "),
    packet(True, 106, ACK, b"you"),
    packet(False, 500, ACK, b"hello\r\n"),
    packet(True, 109, ACK | FIN),
    packet(False, 507, ACK | FIN),
]
LINES = [
    'client sends "hello "',
    'client sends "you"',
    'server sends "hello\\r\\n"',
    "client ends",
    "server ends",
]


def lines_of(data: bytes) -> list[str]:
    (found,) = captured_connections(data)
    return found.conversation.lines()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("form", [pcap, pcapng])
def test_capture_of_every_form_is_read(form: object, link: int, order: str) -> None:
    assert callable(form)
    assert lines_of(form(TALK, link, order)) == LINES
    (found,) = captured_connections(form(TALK, link, order))
    assert (found.client, found.server) == ("10.0.0.1:40000", "10.0.0.2:80")


@pytest.mark.parametrize("extension", [False, True])
def test_ipv6_is_read_with_its_extension_headers(extension: bool) -> None:
    one = ipv6(tcp(40000, 80, 1, ACK, b"x"), extension=extension)
    (found,) = captured_connections(pcap([one]))
    assert found.client == "[::1]:40000"
    assert found.conversation.lines() == ['client sends "x"']


@pytest.mark.parametrize("seed", range(40))
def test_stream_comes_out_once_and_in_order_whatever_the_network_did(seed: int) -> None:
    chance = random.Random(seed)
    data = bytes(chance.randrange(256) for _ in range(chance.randint(1, 400)))
    first = chance.choice([1, (1 << 32) - 7, (1 << 31) - 3])
    segments, at = [], 0
    while at < len(data):
        size = chance.randint(1, 60)
        # Some overlap what was sent before, with the same bytes.
        start = max(0, at - chance.choice([0, 0, 5]))
        segments.append(packet(True, first + 1 + start, ACK, data[start : at + size]))
        at += size
    segments += chance.sample(segments, len(segments) // 2)
    chance.shuffle(segments)
    segments = [packet(True, first, SYN), *segments, packet(True, first + 1 + len(data), FIN)]
    (found,) = captured_connections(pcap(segments))
    sent = b"".join(step.data for step in found.conversation.steps)
    assert sent == data
    assert found.conversation.lines()[-1] == "client ends"


def test_fin_that_comes_before_the_last_bytes_ends_behind_them() -> None:
    early = [TALK[0], packet(True, 103, FIN, b"lo"), packet(True, 100, ACK, b"hel")]
    assert lines_of(pcap(early)) == ['client sends "hello"', "client ends"]


def test_reset_ends_a_connection_whatever_is_missing() -> None:
    broken = [TALK[0], TALK[2], packet(True, 200, ACK, b"later"), packet(False, 500, RST)]
    assert lines_of(pcap(broken)) == ['client sends "hello "', "server resets"]


def test_same_ports_used_again_are_another_connection() -> None:
    again = [packet(True, 7000, SYN), packet(True, 7001, ACK, b"again")]
    found = captured_connections(pcap([*TALK, *again]))
    assert [one.conversation.lines()[0] for one in found] == [LINES[0], 'client sends "again"']


def test_capture_that_began_in_the_middle_takes_the_higher_port_for_the_client() -> None:
    assert lines_of(pcap(TALK[2:])) == LINES


def test_frames_of_other_protocols_are_left_out() -> None:
    arp = bytes(12) + b"\x08\x06" + bytes(28)
    udp = ipv4("10.0.0.1", "10.0.0.2", bytes(8))
    udp = udp[:9] + b"\x11" + udp[10:]
    out = pcap([*TALK, udp])
    out += struct.pack("<IIII", 0, 0, len(arp), len(arp)) + arp
    assert lines_of(out) == LINES


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (pcap(TALK, cut=2), "packet 1: 52 of 54 bytes were captured"),
        (pcap(TALK)[:-5], "the file is cut"),
        (pcapng(TALK)[:-5], "the file is cut"),
        (pcap([TALK[0], TALK[3]]), "bytes of the client are missing"),
        (b"\xd4\xc3\xb2\xa1" + bytes(10), "no pcap or pcapng file"),
        (pcap(TALK)[:20] + b"\x69\0\0\0" + pcap(TALK)[24:], "link type 105"),
        (pcap([ipv4("10.0.0.1", "10.0.0.2", bytes(20), fragment=0x2000)]), "a fragment"),
    ],
)
def test_capture_that_cannot_be_trusted_is_refused(data: bytes, cause: str) -> None:
    with pytest.raises(NotACapture, match=cause):
        captured_connections(data)


@given(st.binary(max_size=400), st.sampled_from([pcap(TALK)[:24], pcapng(TALK)[:48], b""]))
def test_arbitrary_bytes_are_read_or_refused(noise: bytes, head: bytes) -> None:
    try:
        found = captured_connections(head + noise)
    except NotACapture:
        return
    assert len(found) <= len(noise)


@given(st.integers(0, len(pcapng(TALK)) - 1), st.integers(0, 255))
def test_capture_with_a_changed_byte_is_read_or_refused(place: int, value: int) -> None:
    data = bytearray(pcapng(TALK))
    data[place] = value
    try:
        packets = list(read_capture(bytes(data)))
        found = captured_connections(bytes(data))
    except NotACapture:
        return
    assert len(found) <= len(packets) <= len(list(read_capture(pcapng(TALK))))
