"""A held object on its way through the kernel: TCP in, the disk, TCP out, on the real drivers."""

from __future__ import annotations

import hashlib
import os
import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sluicegate.address import SocketAddress
from sluicegate.buffer import Window
from sluicegate.limits import Limits
from sluicegate.port import CompletionPort, StreamSocket
from sluicegate.spool import Delivery, SpoolStore
from tests.unit.spool_kit import Owner, check_empty, real_port, run

CONTENT = random.Random(3).randbytes(9_000_000)


@pytest.fixture
def port(backend_name: str) -> Iterator[CompletionPort]:
    port = real_port(backend_name, Limits(interactive_buffers_max=64, bulk_buffers_max=8))
    yield port
    port.close()


def connected(port: CompletionPort) -> tuple[StreamSocket, socket.socket]:
    """A connection over loopback: our end on the port, the peer's as it is."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    return StreamSocket(port, port.backend.adopt(ours.detach(), socket.AF_INET)), peer


class Holder(Owner):
    """The founding scenario in its shortest form: receive, write, receive."""

    def __init__(self, store: SpoolStore, source: StreamSocket) -> None:
        super().__init__()
        self.source = source
        self.sizes: list[int] = []
        self.body = store.create_body(self, "client")
        self.receive_on()

    def receive_on(self) -> None:
        buffer = self.body.receive_buffer()
        if buffer is not None:
            self.source.start_receive_direct(buffer, self)
        else:
            self.source.start_receive(None, self)

    def complete_socket_io(
        self,
        success: bool,
        error: int,
        buffer: Window,
        user_data: Any,
        address: SocketAddress | None,
    ) -> None:
        assert success
        is_ready = self.body.append(buffer)
        self.sizes.append(buffer.length)
        if not buffer.length:
            self.body.finish()
        elif is_ready:
            self.receive_on()

    def on_body_ready(self) -> None:
        self.receive_on()


@pytest.mark.parametrize("size", [0, 1, 300, 262_144, 262_145, 9_000_000])
def test_object_held_between_two_sockets_arrives_as_it_was_sent(
    port: CompletionPort, tmp_path: Path, size: int
) -> None:
    tmp_path.chmod(0o700)
    store = SpoolStore(port, tmp_path, port.limits)
    data = CONTENT[:size]
    source, sender = connected(port)
    sink, receiver = connected(port)
    received: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: (sender.sendall(data), sender.shutdown(1))),
        threading.Thread(target=lambda: received.append(receive_all(receiver))),
    ]
    for thread in threads:
        thread.start()

    holder = Holder(store, source)
    run(port, lambda: holder.finished, tmp_path)
    ends: list[object] = []
    Delivery(store, holder.body, sink, ends.append).start()
    run(port, lambda: bool(ends))
    sink.close()
    source.close()
    for thread in threads:
        thread.join()

    assert ends == [None]
    assert received == [data]
    assert max(holder.sizes) <= 1 << 20
    assert holder.body.sha256 == hashlib.sha256(data).hexdigest()
    holder.body.close()
    check_empty(port, store)
    assert all(slot.leases == 0 for slot in port.backend.pool.slots)
    for peer in (sender, receiver):
        peer.close()
    assert os.listdir(tmp_path) == []


def receive_all(peer: socket.socket) -> bytes:
    pieces = []
    while piece := peer.recv(1 << 20):
        pieces.append(piece)
    return b"".join(pieces)
