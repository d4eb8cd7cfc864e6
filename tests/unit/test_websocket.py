"""WebSocket frames and messages: what is read, what is refused and why, whatever the cuts."""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate.protocols.http1 import Fields, Request, Response, Target
from sluicegate.protocols.websocket import (
    Close,
    Deflate,
    Handshake,
    Message,
    Ping,
    Pong,
    WebSocketBounds,
    WebSocketCodec,
    WebSocketError,
    WebSocketEvent,
    WebSocketFault,
    accept_of,
)
from tests.repo.source_tree import ROOT

BOUNDS = WebSocketBounds(message_bytes_max=100_000, fragments_max=10, ratio_floor_bytes=10_000)
TAIL = b"\x00\x00\xff\xff"


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bool = False
) -> bytes:
    """Return one frame, written by hand."""
    head = bytes([fin << 7 | rsv << 4 | opcode])
    flag = 0x80 if mask else 0
    if len(payload) < 126:
        head += bytes([flag | len(payload)])
    elif len(payload) < 1 << 16:
        head += bytes([flag | 126]) + struct.pack("!H", len(payload))
    else:
        head += bytes([flag | 127]) + struct.pack("!Q", len(payload))
    if not mask:
        return head + payload
    key = b"\x01\x02\x03\x04"
    return head + key + bytes(one ^ key[at % 4] for at, one in enumerate(payload))


def pack(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return (packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)


def read(
    pieces: Iterable[bytes],
    *,
    is_client: bool = True,
    deflate: Deflate | None = None,
    bounds: WebSocketBounds = BOUNDS,
) -> tuple[list[WebSocketEvent], str]:
    """Return what comes of some bytes: the events, and the fault that ends them."""
    codec = WebSocketCodec(is_client=is_client, deflate=deflate, bounds=bounds)
    events: list[WebSocketEvent] = []
    for piece in pieces:
        codec.receive_data(piece)
        try:
            while (event := codec.next_event()) is not None:
                events.append(event)
        except WebSocketError as error:
            assert codec.next_event() is None, "nothing is read behind a fault"
            return events, error.fault.code
    return events, ""


def one_by_one(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


READ: list[tuple[str, bytes, list[WebSocketEvent]]] = [
    ("text", frame(1, b"hi"), [Message("hi")]),
    ("empty text", frame(1), [Message("")]),
    ("empty binary", frame(2), [Message(b"")]),
    ("binary of 126", frame(2, b"x" * 126), [Message(b"x" * 126)]),
    ("binary of 65536", frame(2, b"x" * 65536), [Message(b"x" * 65536)]),
    ("fragments", frame(1, b"a", fin=False) + frame(0, b"b", fin=False) + frame(0, b"c"),
     [Message("abc")]),
    ("empty fragments", frame(2, fin=False) + frame(0, fin=False) + frame(0), [Message(b"")]),
    ("ping among fragments", frame(1, b"a", fin=False) + frame(9, b"?") + frame(0, b"b"),
     [Ping(b"?"), Message("ab")]),
    ("a character over fragments", frame(1, b"\xc3", fin=False) + frame(0, b"\xa9"),
     [Message("é")]),
    ("pong", frame(10, b"!"), [Pong(b"!")]),
    ("ping of 125", frame(9, b"p" * 125), [Ping(b"p" * 125)]),
    ("close without a code", frame(8), [Close()]),
    ("close", frame(8, b"\x03\xe8bye"), [Close(1000, "bye")]),
    *((f"close {code}", frame(8, struct.pack("!H", code)), [Close(code)])
      for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 4999)),
    ("nothing behind a close", frame(8) + frame(1, b"late") + b"\xff\xff", [Close()]),
]  # fmt: skip


@pytest.mark.parametrize(("data", "events"), [pytest.param(*row[1:], id=row[0]) for row in READ])
def test_j1_what_is_read_of_frames(data: bytes, events: list[WebSocketEvent]) -> None:
    assert read([data]) == (events, "")
    assert read(one_by_one(data)) == (events, "")


FRAME, TEXT = "websocket-frame", "websocket-text"
REFUSED: list[tuple[str, bytes, str]] = [
    *((f"opcode {opcode}", frame(opcode), FRAME) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)),
    *((f"J3 reserved bit {bit}", frame(1, b"a", rsv=bit), FRAME) for bit in (1, 2, 4)),
    ("J3 reserved bit on a ping", frame(9, rsv=4), FRAME),
    ("continuation of nothing", frame(0, b"a"), FRAME),
    ("message inside a message", frame(1, b"a", fin=False) + frame(1, b"b"), FRAME),
    ("J4 masked by a server", frame(1, b"a", mask=True), FRAME),
    ("J5 ping of 126", frame(9, b"p" * 126), FRAME),
    ("J5 close of 126", frame(8, b"\x03\xe8" + b"x" * 124), FRAME),
    ("J5 ping of 64 KiB", frame(9, b"p" * 65536), FRAME),
    ("fragmented ping", frame(9, b"p", fin=False), FRAME),
    ("fragmented close", frame(8, b"\x03\xe8", fin=False), FRAME),
    ("length in more bytes than it needs", b"\x81\x7e\x00\x05hello", FRAME),
    ("length in eight bytes", b"\x82\x7f" + struct.pack("!Q", 5) + b"hello", FRAME),
    ("length with the highest bit", b"\x82\x7f" + struct.pack("!Q", 1 << 63), FRAME),
    ("close of one byte", frame(8, b"\x03"), FRAME),
    *((f"close {code}", frame(8, struct.pack("!H", code)), FRAME)
      for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)),
    ("close with a reason that is no text", frame(8, b"\x03\xe8\xff"), TEXT),
    ("text that is none", frame(1, b"\xff"), TEXT),
    ("text that ends inside a character", frame(1, b"\xc3"), TEXT),
    ("a surrogate", frame(1, b"\xed\xa0\x80"), TEXT),
    ("too long a form", frame(1, b"\xc0\xaf"), TEXT),
    ("beyond the last character", frame(1, b"\xf4\x90\x80\x80"), TEXT),
    ("text that fails before its end", frame(1, b"\xff", fin=False), TEXT),
    ("a frame that says it is too large", b"\x82\x7f" + struct.pack("!Q", 100_001),
     "websocket-message-too-large"),
    ("fragments that are too large together", frame(2, b"x" * 60_000, fin=False)
     + b"\x80\x7e\xff\xff", "websocket-message-too-large"),
    ("too many fragments", frame(2, fin=False) + frame(0, fin=False) * 10,
     "websocket-fragments-too-many"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "code"), [pytest.param(*row[1:], id=row[0]) for row in REFUSED])
def test_j1_j3_j4_j5_what_is_refused_of_frames(data: bytes, code: str) -> None:
    assert read([data])[1] == code
    assert read(one_by_one(data))[1] == code


def test_j4_a_client_masks_and_a_server_reads_nothing_else() -> None:
    assert read([frame(1, b"hi", mask=True)], is_client=False) == ([Message("hi")], "")
    assert read([frame(1, b"hi")], is_client=False) == ([], FRAME)
    sent = WebSocketCodec(is_client=True).send(Message("hi"))
    assert sent[1] & 0x80
    assert not WebSocketCodec(is_client=False).send(Message("hi"))[1] & 0x80


DEFLATED: list[tuple[str, bytes, str]] = [
    ("not deflate", frame(2, b"\xff\xff\xff", rsv=4), "websocket-deflate"),
    ("J3 reserved bit on a continuation",
     frame(2, pack(b"a"), fin=False, rsv=4) + frame(0, rsv=4), FRAME),
    ("J3 reserved bit on a ping", frame(9, b"", rsv=4), FRAME),
    ("J3 another reserved bit", frame(2, pack(b"a"), rsv=6), FRAME),
    ("J3 bomb", frame(2, pack(b"\0" * 90_000), rsv=4), "websocket-bomb"),
    ("J3 bomb over the bound", frame(2, pack(os.urandom(600) * 200), rsv=4),
     "websocket-message-too-large"),
    ("a final block", frame(2, zlib.compress(b"x" * 9, wbits=-15), rsv=4), "websocket-deflate"),
    ("text that is none", frame(1, pack(b"\xff"), rsv=4), TEXT),
    ("too large as it comes", b"\xc2\x7f" + struct.pack("!Q", 100_001),
     "websocket-message-too-large"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "code"), [pytest.param(*row[1:], id=row[0]) for row in DEFLATED])
def test_j3_what_is_refused_of_compressed_messages(data: bytes, code: str) -> None:
    assert read([data], deflate=Deflate())[1] == code
    assert read(one_by_one(data), deflate=Deflate())[1] == code


def test_j3_a_bomb_is_not_decompressed_beyond_its_bound() -> None:
    bounds = WebSocketBounds(message_bytes_max=1 << 20, ratio_floor_bytes=1 << 20)
    codec = WebSocketCodec(is_client=True, deflate=Deflate(), bounds=bounds)
    codec.receive_data(frame(2, pack(b"\0" * (64 << 20)), rsv=4))
    with pytest.raises(WebSocketError):
        codec.next_event()
    assert codec.pending_bytes <= (1 << 20) + 1


def test_compressed_and_other_messages_are_read_in_one_context() -> None:
    packer = zlib.compressobj(wbits=-15)
    pieces = []
    for text in (b"the same words", b"the same words again"):
        packed = packer.compress(text) + packer.flush(zlib.Z_SYNC_FLUSH)
        pieces.append(packed.removesuffix(TAIL))
    data = frame(1, pieces[0][:3], fin=False, rsv=4) + frame(9, b"?") + frame(0, pieces[0][3:])
    data += frame(1, b"plain") + frame(1, pieces[1], rsv=4)
    expected = [
        Ping(b"?"),
        Message("the same words", is_compressed=True),
        Message("plain"),
        Message("the same words again", is_compressed=True),
    ]
    assert read([data], deflate=Deflate()) == (expected, "")
    assert read(one_by_one(data), deflate=Deflate()) == (expected, "")


EVENTS = st.one_of(
    st.builds(Message, st.text(max_size=300) | st.binary(max_size=300), st.booleans()),
    st.builds(Ping, st.binary(max_size=125)),
    st.builds(Pong, st.binary(max_size=125)),
)
AGREED = st.builds(
    Deflate,
    client_bits=st.integers(8, 15),
    server_bits=st.integers(8, 15),
    client_forgets=st.booleans(),
    server_forgets=st.booleans(),
)


@given(
    events=st.lists(EVENTS, max_size=8),
    deflate=st.none() | AGREED,
    is_client=st.booleans(),
    cuts=st.lists(st.integers(1, 40), max_size=30),
)
def test_what_is_written_is_read_again_however_it_is_cut(
    events: list[WebSocketEvent], deflate: Deflate | None, is_client: bool, cuts: list[int]
) -> None:
    writer = WebSocketCodec(is_client=is_client, deflate=deflate)
    data = b"".join(map(writer.send, [*events, Close(1000, "end")]))
    pieces = []
    for size in cuts:
        pieces.append(data[:size])
        data = data[size:]
    found, fault = read([*pieces, data], is_client=not is_client, deflate=deflate)
    assert not fault
    plain = [Message(one.payload) if isinstance(one, Message) else one for one in found]
    wanted = [Message(one.payload) if isinstance(one, Message) else one for one in events]
    assert plain == [*wanted, Close(1000, "end")]


@settings(max_examples=300)
@given(data=st.binary(max_size=200), cut=st.integers(0, 200), deflate=st.none() | AGREED)
def test_arbitrary_bytes_raise_nothing_else_and_cuts_change_nothing(
    data: bytes, cut: int, deflate: Deflate | None
) -> None:
    whole = read([data], deflate=deflate)
    assert read([data[:cut], data[cut:]], deflate=deflate) == whole
    assert read(one_by_one(data), deflate=deflate) == whole


def test_a_reason_that_does_not_fit_is_not_sent() -> None:
    with pytest.raises(ValueError, match="123 bytes"):
        WebSocketCodec(is_client=True).send(Close(1000, "é" * 62))


# -- handshakes ----------------------------------------------------------------------------------

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="


def ask(*more: tuple[bytes, bytes], **changes: bytes | None) -> Request:
    fields = {b"Sec-WebSocket-Key": KEY, b"Sec-WebSocket-Version": b"13"}
    method = changes.pop("method", None) or b"GET"
    for name, value in changes.items():
        key = f"Sec-WebSocket-{name}".encode()
        fields.pop(key, None)
        if value is not None:
            fields[key] = value
    listed = Fields([*fields.items(), *more])
    return Request(method, Target.origin(b"/"), listed, upgrade=(b"websocket",))


def answer(*more: tuple[bytes, bytes], accept: bytes | None = None) -> Response:
    fields = [(b"Sec-WebSocket-Accept", accept or accept_of(KEY)), *more]
    return Response(101, fields=Fields(fields), upgrade=(b"websocket",))


def test_the_example_of_the_rfc() -> None:
    assert accept_of(KEY) == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


EXTENSIONS = b"Sec-WebSocket-Extensions"


@pytest.mark.parametrize(
    "request_",
    [
        ask(Key=None),
        ask(Key=b"c2hvcnQ="),
        ask(Key=b"not base 64 at all!!!!!!"),
        ask((b"Sec-WebSocket-Key", KEY)),
        ask(Version=None),
        ask(Version=b"8"),
        ask(method=b"POST"),
        ask((EXTENSIONS, b"permessage-deflate;;")),
        ask((EXTENSIONS, b"a b")),
        ask((EXTENSIONS, b"")),
    ],
)
def test_j1_requests_that_no_server_would_switch_for(request_: Request) -> None:
    with pytest.raises(WebSocketError, match="RFC 6455"):
        Handshake(request_)


@pytest.mark.parametrize(
    ("offered", "goes_on"),
    [
        (b"permessage-deflate", b"permessage-deflate"),
        (b"permessage-deflate; client_max_window_bits", None),
        (b"x-webkit-deflate-frame, permessage-deflate", b"permessage-deflate"),
        (b"permessage-bzip2", b""),
        (b"permessage-deflate; server_max_window_bits", b""),
        (b"permessage-deflate; server_max_window_bits=16", b""),
        (b"permessage-deflate; server_max_window_bits=08", b""),
        (b"permessage-deflate; client_no_context_takeover=1", b""),
        (b"permessage-deflate; client_no_context_takeover; client_no_context_takeover", b""),
        (b"permessage-deflate; another=1", b""),
        (b'permessage-deflate; server_max_window_bits="10"',
         b"permessage-deflate; server_max_window_bits=10"),
        (b"permessage-deflate; server_max_window_bits=10, permessage-deflate",
         b"permessage-deflate; server_max_window_bits=10, permessage-deflate"),
    ],
)  # fmt: skip
def test_only_what_the_gate_can_read_is_offered_on(offered: bytes, goes_on: bytes | None) -> None:
    request = ask((EXTENSIONS, offered))
    Handshake(request).narrow(request)
    wanted = offered if goes_on is None else goes_on
    assert request.fields.all(EXTENSIONS) == ([wanted] if wanted else [])


PLAIN = b"permessage-deflate"


@pytest.mark.parametrize(
    ("offered", "chosen", "agreed"),
    [
        (PLAIN, None, None),
        (PLAIN, PLAIN, Deflate()),
        (PLAIN, PLAIN + b"; server_max_window_bits=9", Deflate(server_bits=9)),
        (PLAIN, PLAIN + b"; client_no_context_takeover", Deflate(client_forgets=True)),
        (PLAIN, PLAIN + b"; server_no_context_takeover", Deflate(server_forgets=True)),
        (PLAIN + b"; client_max_window_bits", PLAIN + b"; client_max_window_bits=10",
         Deflate(client_bits=10)),
    ],
)  # fmt: skip
def test_what_both_agree_on_is_what_is_read_by(
    offered: bytes, chosen: bytes | None, agreed: Deflate | None
) -> None:
    handshake = Handshake(ask((EXTENSIONS, offered)))
    response = answer(*([(EXTENSIONS, chosen)] if chosen is not None else []))
    assert handshake.agree(response) == agreed


@pytest.mark.parametrize(
    ("response", "code"),
    [
        (Response(101), "websocket-accept"),
        (answer(accept=KEY), "websocket-accept"),
        (answer((EXTENSIONS, PLAIN)), "websocket-extension"),
        (answer((EXTENSIONS, b"permessage-bzip2")), "websocket-extension"),
        (answer((EXTENSIONS, b"permessage-deflate;")), "websocket-extension"),
        (answer((b"Sec-WebSocket-Protocol", b"chat")), "websocket-subprotocol"),
    ],
)
def test_j3_answers_to_what_was_not_asked(response: Response, code: str) -> None:
    with pytest.raises(WebSocketError) as caught:
        Handshake(ask()).agree(response)
    assert caught.value.fault.code == code


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (PLAIN, PLAIN + b"; client_max_window_bits=10"),
        (PLAIN + b"; server_max_window_bits=10", PLAIN),
        (PLAIN + b"; server_max_window_bits=10", PLAIN + b"; server_max_window_bits=11"),
        (PLAIN + b"; server_no_context_takeover", PLAIN),
        (PLAIN, PLAIN + b", " + PLAIN),
        (PLAIN, PLAIN + b"; server_max_window_bits"),
        (PLAIN + b"; client_max_window_bits", PLAIN + b"; client_max_window_bits"),
    ],
)
def test_agreements_that_no_offer_allows(offered: bytes, chosen: bytes) -> None:
    with pytest.raises(WebSocketError, match="not offered"):
        Handshake(ask((EXTENSIONS, offered))).agree(answer((EXTENSIONS, chosen)))


def test_the_reference_of_the_log_has_every_fault_with_its_close_code() -> None:
    page = (ROOT / "docs" / "reference" / "log.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| `(websocket-[a-z-]+)` \| (\d*) ?\| ([^|(]+?) (?:\(.*?\) )?\|$", page, re.MULTILINE
    )
    told = {code: (hint, int(close) if close else None) for code, close, hint in rows}
    assert set(told) == {one.code for one in WebSocketFault}
    for one in WebSocketFault:
        hint, close = told[one.code]
        assert hint == one.hint
        assert close in {None, one.close_code}
