"""The two programs of ``test_network_gate``: servers that say whom they see, and clients that ask.

Both are plain sockets of the standard library, one thread each: what the gate does is judged from
outside.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import selectors
import socket
import sys
from typing import Any

PORT = 9000
PATIENCE_S = 60.0


def serve(*hosts: str) -> None:
    """Tell whoever connects, and whoever sends a datagram, from which address that came."""
    selector = selectors.DefaultSelector()
    for host in hosts:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        stream = socket.socket(family, socket.SOCK_STREAM)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        datagrams = socket.socket(family, socket.SOCK_DGRAM)
        for one in (stream, datagrams):
            one.bind((host, PORT))
            selector.register(one, selectors.EVENT_READ)
        stream.listen()
    print("serving", flush=True)
    while True:
        for key, _ in selector.select():
            one = key.fileobj
            assert isinstance(one, socket.socket)
            if one.type == socket.SOCK_STREAM:
                client, peer = one.accept()
                with client, contextlib.suppress(OSError):
                    client.sendall(peer[0].encode())
            else:
                _, peer = one.recvfrom(100)
                one.sendto(peer[0].encode(), peer)


def ask(kind: str, gate: tuple[str, int], server: str, silence_s: float) -> str:
    """Reach a server in one way; return whom it saw, or "" where it was not reached.

    Args:
        kind: The way.
        gate: Where to come to.
        server: Whom to reach.
        silence_s: After how long a datagram counts as not answered.
    """
    try:
        return _WAYS[kind](gate, ipaddress.ip_address(server), silence_s)
    except (OSError, EOFError):
        return ""


def _stream(gate: tuple[str, int]) -> socket.socket:
    return socket.create_connection(gate, PATIENCE_S)


def _read(stream: socket.socket, count: int = 0) -> bytes:
    """Read so many bytes, or all there are."""
    found = b""
    while not count or len(found) < count:
        piece = stream.recv(count - len(found) if count else 100)
        if not piece:
            if count:
                raise EOFError
            break
        found += piece
    return found


def _published(gate: tuple[str, int], server: Any, _silence_s: float) -> str:
    del server
    with _stream(gate) as stream:
        return _read(stream).decode()


def _socks4(gate: tuple[str, int], server: Any, _silence_s: float) -> str:
    with _stream(gate) as stream:
        stream.sendall(b"\4\1" + PORT.to_bytes(2, "big") + server.packed + b"\0")
        return _read(stream).decode() if _read(stream, 8)[1] == 90 else ""


def _destination(server: Any) -> bytes:
    return bytes([1 if server.version == 4 else 4]) + server.packed + PORT.to_bytes(2, "big")


def _socks5_answer(stream: socket.socket, command: int, destination: bytes) -> bytes | None:
    """Ask for a command; return where the gate is, or None where it is refused."""
    stream.sendall(b"\5\1\0")
    _read(stream, 2)
    stream.sendall(bytes([5, command, 0]) + destination)
    head = _read(stream, 4)
    where = _read(stream, 6 if head[3] == 1 else 18)
    return None if head[1] else where


def _socks5(gate: tuple[str, int], server: Any, _silence_s: float) -> str:
    with _stream(gate) as stream:
        granted = _socks5_answer(stream, 1, _destination(server))
        return "" if granted is None else _read(stream).decode()


def _associate(gate: tuple[str, int], server: Any, silence_s: float) -> str:
    with _stream(gate) as stream:
        family = stream.family
        empty = b"\1" + bytes(6) if family == socket.AF_INET else b"\4" + bytes(18)
        where = _socks5_answer(stream, 3, empty)
        if where is None:
            return ""
        relay = (str(ipaddress.ip_address(where[:-2])), int.from_bytes(where[-2:], "big"))
        with socket.socket(family, socket.SOCK_DGRAM) as datagrams:
            datagrams.settimeout(silence_s)
            datagrams.sendto(b"\0\0\0" + _destination(server) + b"who", relay)
            data = datagrams.recv(200)
            return data[3 + len(_destination(server)) :].decode()


def _connect(gate: tuple[str, int], server: Any, _silence_s: float) -> str:
    host = f"[{server}]" if server.version == 6 else str(server)
    with _stream(gate) as stream:
        target = f"{host}:{PORT}"
        stream.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += _read(stream, 1)
        return _read(stream).decode() if head.split(b" ")[1] == b"200" else ""


def _published_udp(gate: tuple[str, int], server: Any, silence_s: float) -> str:
    del server
    family = socket.AF_INET6 if ":" in gate[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as datagrams:
        datagrams.settimeout(silence_s)
        datagrams.sendto(b"who", gate)
        return datagrams.recv(100).decode()


_WAYS = {
    "published": _published,
    "published-udp": _published_udp,
    "socks4": _socks4,
    "socks5": _socks5,
    "connect": _connect,
    "associate": _associate,
}


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(*sys.argv[2:])
    else:
        kind, host, port, server, silence = sys.argv[2:]
        print(json.dumps(ask(kind, (host, int(port)), server, float(silence))))
