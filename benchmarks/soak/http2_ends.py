"""Both ends of HTTP/2 of a soak, by the `h2` package, which the gate does not use."""

import asyncio
from collections.abc import Callable

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    DataReceived,
    RequestReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)

PIECE_BYTES = 16_000


class Answer:
    """What comes on one stream."""

    def __init__(self) -> None:
        self.status = ""
        self.body = bytearray()
        self.is_whole = False

    def take(self, event: ResponseReceived | DataReceived | StreamEnded | StreamReset) -> None:
        """Takes a part of it."""
        if isinstance(event, ResponseReceived):
            self.status = dict(event.headers)[b":status"].decode()
        elif isinstance(event, DataReceived):
            self.body += event.data
        else:
            self.is_whole = True


async def fetch_at_once(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, authority: str, paths: list[str]
) -> list[Answer]:
    """Asks for all paths on streams of one connection; returns the answers in their order.

    Raises:
        ConnectionError: The connection ended before its answers.
    """
    h2 = H2Connection(H2Configuration())
    h2.initiate_connection()
    answers: dict[int, Answer] = {}
    for path in paths:
        number = h2.get_next_available_stream_id()
        answers[number] = Answer()
        head = [(":method", "GET"), (":scheme", "https"), (":authority", authority)]
        h2.send_headers(number, [*head, (":path", path)], end_stream=True)
    while not all(answer.is_whole for answer in answers.values()):
        writer.write(h2.data_to_send())
        data = await reader.read(65536)
        if not data:
            raise ConnectionError("ended before all streams were answered")
        for event in h2.receive_data(data):
            if isinstance(event, DataReceived):
                h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if isinstance(event, ResponseReceived | DataReceived | StreamEnded | StreamReset):
                answers[event.stream_id].take(event)
    return list(answers.values())


class Server:
    """One connection of a server."""

    def __init__(self, make: Callable[[str], bytes]) -> None:
        self._make = make
        self._h2 = H2Connection(H2Configuration(client_side=False))
        self._left: dict[int, memoryview] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers what paths name until the client leaves."""
        self._h2.initiate_connection()
        writer.write(self._h2.data_to_send())
        while data := await reader.read(65536):
            for event in self._h2.receive_data(data):
                if isinstance(event, RequestReceived):
                    self._begin(event.stream_id, dict(event.headers)[b":path"].decode())
                elif isinstance(event, StreamReset):
                    self._left.pop(event.stream_id, None)
                elif isinstance(event, WindowUpdated):
                    self._send_all()
            writer.write(self._h2.data_to_send())
            await writer.drain()

    def _begin(self, number: int, path: str) -> None:
        body = self._make(path)
        self._h2.send_headers(number, [(":status", "200"), ("content-length", str(len(body)))])
        self._left[number] = memoryview(body)
        self._send_all()

    def _send_all(self) -> None:
        for number in list(self._left):
            self._send(number)

    def _send(self, number: int) -> None:
        left = self._left[number]
        while count := min(len(left), PIECE_BYTES, self._h2.local_flow_control_window(number)):
            self._h2.send_data(number, bytes(left[:count]), end_stream=count == len(left))
            left = self._left[number] = left[count:]
        if not left:
            del self._left[number]
