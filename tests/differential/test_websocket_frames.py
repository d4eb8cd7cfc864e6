"""What we accept of WebSocket frames, Python's ``websockets`` reads as the same messages."""

from __future__ import annotations

import random
import zlib

import pytest
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Close as TheirClose
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side, State

from sluicegate.protocols.websocket import (
    Close,
    Deflate,
    Message,
    Ping,
    Pong,
    WebSocketBounds,
    WebSocketCodec,
    WebSocketError,
    WebSocketEvent,
)
from tests.unit.test_websocket import frame

ROUNDS = 1500
BOUNDS = WebSocketBounds(message_bytes_max=1 << 20)


def ours(data: bytes, deflate: Deflate | None) -> tuple[list[object], bool]:
    codec = WebSocketCodec(is_client=False, deflate=deflate, bounds=BOUNDS)
    codec.receive_data(data)
    found: list[object] = []
    try:
        while (event := codec.next_event()) is not None:
            found.append(_plain(event))
    except WebSocketError:
        return found, False
    return found, True


def _plain(event: WebSocketEvent) -> object:
    match event:
        case Message(payload):
            return payload
        case Ping(data):
            return "ping", data
        case Pong(data):
            return "pong", data
        case Close(code, reason):
            return "close", 1005 if code is None else code, reason


def theirs(data: bytes, deflate: Deflate | None) -> tuple[list[object], bool]:
    protocol = Protocol(Side.SERVER, state=State.OPEN, max_size=1 << 20)
    if deflate is not None:
        protocol.extensions = [PerMessageDeflate(False, False, 15, 15)]
    protocol.receive_data(data)
    found: list[object] = []
    pieces: list[bytes] = []
    is_text = False
    for event in protocol.events_received():
        assert isinstance(event, Frame)
        if event.opcode is Opcode.PING:
            found.append(("ping", bytes(event.data)))
        elif event.opcode is Opcode.PONG:
            found.append(("pong", bytes(event.data)))
        elif event.opcode is Opcode.CLOSE:
            close = TheirClose.parse(bytes(event.data))
            found.append(("close", close.code, close.reason))
        else:
            if event.opcode is not Opcode.CONT:
                is_text = event.opcode is Opcode.TEXT
            pieces.append(bytes(event.data))
            if event.fin:
                whole = b"".join(pieces)
                pieces.clear()
                try:
                    # It leaves texts to whoever takes them.
                    found.append(whole.decode() if is_text else whole)
                except UnicodeDecodeError:
                    return found, False
    return found, protocol.parser_exc is None


def packed(chance: random.Random, data: bytes) -> bytes:
    packer = zlib.compressobj(chance.choice([1, 9]), zlib.DEFLATED, -15)
    return (packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


def generated(seed: int, *, is_packed: bool) -> bytes:
    """Return some frames, most of them right, and some wrong in one way."""
    chance = random.Random(seed)
    data = b""
    for _ in range(chance.randint(1, 6)):
        kind = chance.choices(["message", "ping", "pong", "close"], [8, 2, 1, 1])[0]
        if kind != "message":
            opcode = {"ping": 9, "pong": 10, "close": 8}[kind]
            size = chance.choice([0, 1, 2, 5, 125, 126])
            payload = chance.randbytes(size)
            if kind == "close" and size >= 2 and chance.random() < 0.7:
                code = chance.choice([1000, 1001, 1005, 1011, 3000, 4999, 5000, 999])
                payload = code.to_bytes(2, "big") + b"bye"
            data += frame(opcode, payload, mask=True, fin=chance.random() < 0.95)
            continue
        text = chance.choice(["", "hello", "é☃😀" * 20, "x" * 130]).encode()
        if chance.random() < 0.1:
            text += bytes([chance.randrange(128, 256)])
        rsv = 0
        if is_packed and chance.random() < 0.6:
            text, rsv = packed(chance, text), 4
            if chance.random() < 0.1 and text:
                at = chance.randrange(len(text))
                text = text[:at] + bytes([text[at] ^ 1 << chance.randrange(8)]) + text[at + 1 :]
        opcode = chance.choice([1, 2])
        cuts = sorted(chance.randrange(len(text) + 1) for _ in range(chance.choice([0, 0, 1, 3])))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        for number, piece in enumerate(pieces):
            data += frame(
                0 if number else opcode,
                piece,
                fin=number == len(pieces) - 1,
                rsv=0 if number else rsv,
                mask=True,
            )
    if chance.random() < 0.3:
        at = chance.randrange(len(data))
        data = data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]
    return data


@pytest.mark.parametrize("is_packed", [False, True])
def test_what_we_accept_they_read_as_the_same_messages(is_packed: bool) -> None:
    deflate = Deflate() if is_packed else None
    accepted = 0
    for seed in range(ROUNDS):
        data = generated(seed, is_packed=is_packed)
        (found, is_right), (expected, they_took) = ours(data, deflate), theirs(data, deflate)
        if is_right:
            accepted += 1
            assert they_took, (seed, data.hex())
            assert found == expected, (seed, data.hex())
        else:
            # We may be stricter; what came before the fault is the same.
            assert expected[: len(found)] == found, (seed, data.hex())
    assert accepted > ROUNDS // 4
