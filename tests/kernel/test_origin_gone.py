"""A look at a server's socket that has waited: whether its server has ended it by now."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from sluicegate.gate.web.origin_end import OriginEnd
from sluicegate.port.layer import LayeredSocket


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Our end of a connection on loopback, and the server's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def closes(server: socket.socket) -> None:
    server.close()


def resets(server: socket.socket) -> None:
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    server.close()


def speaks(server: socket.socket) -> None:
    server.send(b"HTTP/1.1 408 Request Timeout\r\n\r\n")


def waits(server: socket.socket) -> None:
    del server


# what the server does, whether it has gone for whoever speaks plainly, and inside TLS
CASES = [(waits, False, False), (closes, True, True), (resets, True, True), (speaks, True, False)]


@pytest.mark.parametrize(("does", "plain", "layered"), CASES)
def test_what_a_look_at_the_socket_says(
    pair: tuple[socket.socket, socket.socket], does: Any, plain: bool, layered: bool
) -> None:
    ours, theirs = pair
    raw: Any = ours
    does(theirs)
    for around, has_gone in ((raw, plain), (LayeredSocket(raw, SimpleNamespace()), layered)):  # type: ignore[arg-type]
        end = OriginEnd.__new__(OriginEnd)
        end.wire = SimpleNamespace(raw=around)  # type: ignore[assignment]
        assert end.has_gone() is has_gone
        if does is resets:
            break  # the error is told once
    if does is speaks:
        assert ours.recv(4) == b"HTTP", "it was looked at, and not taken"
