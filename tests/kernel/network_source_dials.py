"""The two programs of ``test_network_sources``: a server that says whom it sees, and a dial."""

from __future__ import annotations

import json
import socket
import sys

from sluicegate.address import SocketAddress
from sluicegate.app.privileges import drop_capabilities
from sluicegate.errors import TransportError, errno_name
from sluicegate.port import DatagramSocket
from sluicegate.port.backend import Source
from sluicegate.port.loop import current_port, run


def serve(host: str, kind: str) -> None:
    """Echo one message, and print who sent it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sort = socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM
    with socket.socket(family, sort) as server:
        server.settimeout(60)
        server.bind((host, 0))
        if kind == "tcp":
            server.listen()
        print(server.getsockname()[1], flush=True)
        if kind == "tcp":
            stream, peer = server.accept()
            with stream:
                stream.sendall(stream.recv(100))
        else:
            data, peer = server.recvfrom(100)
            server.sendto(data, peer)
        print(json.dumps(peer[0]), flush=True)


async def dial(kind: str, server: str, source: str, how: str) -> str:
    """Send one message from the source and wait for its echo."""
    port, address = current_port(), SocketAddress.parse(server)
    wanted = Source(SocketAddress(source, 0), is_transparent=how.startswith("route"))
    if how == "route-without-right":
        drop_capabilities(0)
    try:
        if kind == "tcp":
            stream = await port.connect(address, timeout_s=60, source=wanted)
            await stream.send(b"hello")
            answer = bytes(await stream.receive())
            stream.close()
        else:
            raw = port.create_datagram_raw(connect=address, source=wanted)
            datagrams = DatagramSocket(port, raw, address)
            await datagrams.send_to(b"hello", address)
            window, _ = await datagrams.receive()
            answer = bytes(window)
            datagrams.close()
    except TransportError as error:
        return errno_name(error.error)
    return "ok" if answer == b"hello" else "another answer"


def main() -> None:
    """Do what the words say."""
    if sys.argv[1] == "serve":
        serve(*sys.argv[2:4])
        return
    _, _, backend, *words = sys.argv

    async def dial_once() -> None:
        print(await dial(*words))

    run(dial_once(), backend=backend)


main()
