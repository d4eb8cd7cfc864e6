"""One end of TLS in memory: many records at once, and nothing lost before an end or an error."""

from __future__ import annotations

import pytest

from sluicegate.tls.engine import TlsBroken, TlsEnded, TlsEngine
from tests.chains import HOST, root

from .server_tls_kit import Met, meet, server_context, taken, trusting

PLAIN = bytes(range(256)) * 400


def met() -> Met:
    return meet(trusting(), server_context(root().issue(names=[HOST])))


def write(engine: TlsEngine, data: bytes) -> None:
    """Write all of it; the test's own server takes a record at a time."""
    while data:
        data = data[engine.write(data) :]


def read(engine: TlsEngine, size: int) -> bytes:
    view = memoryview(bytearray(size))
    return bytes(view[: engine.read_into(view)])


@pytest.mark.parametrize("size", [1, 100, 16384, 16385, 50_000, len(PLAIN), 200_000])
def test_memory_is_filled_record_after_record(size: int) -> None:
    ends = met()
    write(ends.server, PLAIN)
    ends.client.feed(taken(ends.server))
    assert read(ends.client, size) == PLAIN[:size]
    assert ends.client.has_input is (size <= len(PLAIN))
    assert read(ends.client, 200_000) == PLAIN[size:]
    assert not ends.client.has_input


def test_half_a_record_waits_for_the_rest() -> None:
    ends = met()
    ends.server.write(PLAIN[:100])
    wire = taken(ends.server)
    for place in range(len(wire) - 1):
        ends.client.feed(wire[place : place + 1])
        assert read(ends.client, 100) == b""
        assert not ends.client.has_input
    ends.client.feed(wire[-1:])
    assert read(ends.client, 100) == PLAIN[:100]


@pytest.mark.parametrize("how", ["goodbye", "cut off", "broken"])
def test_what_came_before_the_end_is_read_before_it_is_told(how: str) -> None:
    ends = met()
    write(ends.server, PLAIN)
    if how == "goodbye":
        ends.server.say_goodbye()
    ends.client.feed(taken(ends.server))
    if how == "cut off":
        ends.client.feed_end()
    elif how == "broken":
        ends.client.feed(b"\x17\x03\x03\x00\x20" + b"x" * 32)
    assert read(ends.client, 200_000) == PLAIN
    assert ends.client.has_input, "something is to be told still"
    with pytest.raises((TlsEnded, TlsBroken)) as told:
        read(ends.client, 100)
    assert isinstance(told.value, TlsEnded) is (how == "goodbye")
    if isinstance(told.value, TlsBroken):
        assert told.value.is_cut_off is (how == "cut off")
    assert not ends.client.has_input


def test_the_memory_that_was_given_is_free_again() -> None:
    ends = met()
    write(ends.server, PLAIN)
    memory = bytearray(len(PLAIN))
    ends.client.feed(taken(ends.server))
    ends.client.read_into(memoryview(memory))
    memory.append(0)  # which raises while somebody has hold of it
    assert bytes(memory[:-1]) == PLAIN


def test_ciphertext_is_taken_in_pieces() -> None:
    ends = met()
    write(ends.server, PLAIN)
    whole, memory = ends.server.outgoing, memoryview(bytearray(1000))
    pieces: list[bytes] = []
    while ends.server.outgoing:
        pieces.append(bytes(memory[: ends.server.take_into(memory)]))
    assert sum(map(len, pieces)) == whole
    assert ends.server.take_into(memory) == 0
    for piece in pieces:
        ends.client.feed(piece)
    assert read(ends.client, 200_000) == PLAIN
