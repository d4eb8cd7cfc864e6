"""Drives both ends of HTTP/1.1 over any cut of their input."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from sluicegate.protocols.http1 import (
    Body,
    EndOfMessage,
    EndOfStream,
    Http1Client,
    Http1Server,
    HttpBounds,
    HttpFault,
    HttpProtocolError,
    RawData,
    Request,
    Response,
    Target,
    Upgraded,
)
from sluicegate.protocols.http1.fields import Fields

Seen = list[object]

DEFAULT = HttpBounds()
GET = Request(b"GET", Target.origin(b"/"), Fields([(b"Host", b"a.example")]))


def pieces(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    borders = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(borders)]


def every_cut(data: bytes) -> Iterator[tuple[int, ...]]:
    """One cut at each place, then all of them at once."""
    yield ()
    for place in range(1, len(data)):
        yield (place,)
    yield tuple(range(1, len(data)))


def merged(seen: Seen, kind: type[Body | RawData], data: bytes) -> None:
    """Add bytes to those of the same kind before them: where they were cut is nobody's affair."""
    name = kind.__name__
    if seen and isinstance(seen[-1], tuple) and seen[-1][0] == name:
        seen[-1] = (name, seen[-1][1] + data)
    else:
        seen.append((name, data))


def shown(seen: Seen, event: object) -> None:
    match event:
        case Body(data) | RawData(data):
            merged(seen, type(event), bytes(data))
        case EndOfMessage(trailers):
            seen.append(("end", *trailers.items()))
        case EndOfStream() | Upgraded():
            seen.append(type(event).__name__)
        case _:
            seen.append(event)


def lend(piece: bytes) -> tuple[bytearray, memoryview]:
    """Memory that is overwritten once the parser has said that it needs more."""
    memory = bytearray(piece)
    return memory, memoryview(memory).toreadonly()


def serve(
    data: bytes,
    cuts: Iterable[int] = (),
    *,
    bounds: HttpBounds = DEFAULT,
    ends: bool = False,
    answer: Response | None = None,
    server: Http1Server | None = None,
) -> Seen:
    """Feed a client's bytes; answer each whole request; return what was seen, and the fault."""
    server = server or Http1Server(bounds)
    seen: Seen = []
    try:
        for piece in pieces(data, cuts):
            memory, view = lend(piece)
            server.receive_data(view)
            drain(server, seen, answer or Response(204))
            memory[:] = b"#" * len(memory)
        if ends:
            server.receive_end()
            drain(server, seen, answer or Response(204))
    except HttpProtocolError as error:
        seen.append(error.fault)
    return seen


def drain(server: Http1Server, seen: Seen, answer: Response) -> None:
    while (event := server.next_event()) is not None:
        shown(seen, event)
        if isinstance(event, EndOfMessage):
            server.send(answer)
            if not server.is_upgraded:
                server.send(EndOfMessage())


def fetch(
    data: bytes,
    cuts: Iterable[int] = (),
    *,
    request: Request = GET,
    bounds: HttpBounds = DEFAULT,
    ends: bool = False,
) -> Seen:
    """Send a request, feed a server's bytes; return what was seen, and the fault."""
    client = Http1Client(bounds)
    client.send(request)
    client.send(EndOfMessage())
    seen: Seen = []
    try:
        for piece in pieces(data, cuts):
            memory, view = lend(piece)
            client.receive_data(view)
            while (event := client.next_event()) is not None:
                shown(seen, event)
            memory[:] = b"#" * len(memory)
        if ends:
            client.receive_end()
            while (event := client.next_event()) is not None:
                shown(seen, event)
    except HttpProtocolError as error:
        seen.append(error.fault)
    return seen


def fault_of(seen: Seen) -> HttpFault | None:
    return seen[-1] if seen and isinstance(seen[-1], HttpFault) else None


def requests_of(seen: Seen) -> list[Request]:
    return [event for event in seen if isinstance(event, Request)]


def responses_of(seen: Seen) -> list[Response]:
    return [event for event in seen if isinstance(event, Response)]


def body_of(seen: Seen) -> bytes:
    return b"".join(one[1] for one in seen if isinstance(one, tuple) and one[0] == "Body")
