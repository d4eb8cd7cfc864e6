"""What a TLS connection costs by the standard library's ``ssl`` and by pyOpenSSL, side by side.

No sockets: the two ends of a connection are in memory, and the CPU time of each end is taken for
itself. It is what decision 94 rests on. Run: ``python -m benchmarks.tls_engines``.
"""

from __future__ import annotations

import dataclasses
import ssl
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, cast

from OpenSSL import SSL

from benchmarks.tls import issue

HANDSHAKES = 400
BULK_MIB = 128
ROUNDS = 5
RECORD = 16 << 10
CHUNK = 64 << 10


class Engine(Protocol):
    """One end of a connection."""

    def shake_hands(self) -> bool:
        """Go on with the handshake; True when it is done."""
        ...

    def feed(self, data: bytes, /) -> object:
        """Take ciphertext."""
        ...

    def take(self) -> bytes:
        """Return ciphertext."""
        ...

    def write(self, data: memoryview, /) -> int:
        """Encrypt."""
        ...

    def read_into(self, view: memoryview) -> int:
        """Decrypt."""
        ...


class Stdlib:
    """By ``ssl``."""

    def __init__(self, context: ssl.SSLContext, *, is_server: bool) -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = None if is_server else "bench.invalid"
        self._tls = context.wrap_bio(
            self._in, self._out, server_side=is_server, server_hostname=name
        )
        self.feed, self.take = self._in.write, self._out.read
        self.write = self._tls.write
        self._read_into = cast("Callable[[int, memoryview], int]", self._tls.read)

    def shake_hands(self) -> bool:
        """Go on with the handshake; True when it is done."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def read_into(self, view: memoryview) -> int:
        """Decrypt."""
        try:
            return self._read_into(len(view), view)
        except ssl.SSLWantReadError:
            return 0


class PyOpenSsl:
    """By pyOpenSSL."""

    def __init__(self, context: SSL.Context, *, is_server: bool) -> None:
        self._tls = SSL.Connection(context)
        if is_server:
            self._tls.set_accept_state()
        else:
            self._tls.set_connect_state()
            self._tls.set_tlsext_host_name(b"bench.invalid")
        self.feed, self.write = self._tls.bio_write, self._tls.send

    def shake_hands(self) -> bool:
        """Go on with the handshake; True when it is done."""
        try:
            self._tls.do_handshake()
        except SSL.WantReadError:
            return False
        return True

    def take(self) -> bytes:
        """Return ciphertext."""
        try:
            return self._tls.bio_read(96 << 10)
        except SSL.WantReadError:
            return b""

    def read_into(self, view: memoryview) -> int:
        """Decrypt."""
        try:
            return self._tls.recv_into(view)
        except SSL.WantReadError:
            return 0


@dataclasses.dataclass
class Cost:
    """CPU seconds of both ends."""

    client: float = 0.0
    server: float = 0.0


def connect(client: Engine, server: Engine, cost: Cost) -> None:
    """Shake hands in memory."""
    done = [False, False]
    while not all(done):
        for place, (one, other) in enumerate(((client, server), (server, client))):
            begun = time.thread_time()
            done[place] = one.shake_hands()
            data = one.take()
            spent = time.thread_time() - begun
            if place:
                cost.server += spent
            else:
                cost.client += spent
            if data:
                begun = time.thread_time()
                other.feed(data)
                spent = time.thread_time() - begun
                if place:
                    cost.client += spent
                else:
                    cost.server += spent
    rest = memoryview(bytearray(RECORD))
    begun = time.thread_time()
    client.read_into(rest)  # tickets
    cost.client += time.thread_time() - begun


def move(sender: Engine, receiver: Engine) -> tuple[float, float]:
    """Send ``BULK_MIB``; return CPU seconds of sending and of receiving."""
    plain, slot = memoryview(bytes(CHUNK)), memoryview(bytearray(RECORD))
    sending = receiving = 0.0
    for _ in range((BULK_MIB << 20) // CHUNK):
        begun = time.thread_time()
        sent = 0
        while sent < CHUNK:
            sent += sender.write(plain[sent:])
        data = sender.take()
        between = time.thread_time()
        receiver.feed(data)
        got = 0
        while count := receiver.read_into(slot):
            got += count
        ended = time.thread_time()
        assert got == CHUNK
        sending += between - begun
        receiving += ended - between
    return sending, receiving


def contexts(certificate: Path, key: Path) -> dict[str, Callable[[bool], Engine]]:
    """Return makers of both engines; clients verify, and both speak TLS 1.3."""
    their_server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    their_server.load_cert_chain(certificate, key)
    their_server.num_tickets = 1
    their_client = ssl.create_default_context(cafile=str(certificate))
    their_client.check_hostname = False  # the certificate names nobody
    our_server, our_client = SSL.Context(SSL.TLS_METHOD), SSL.Context(SSL.TLS_METHOD)
    our_server.use_certificate_chain_file(str(certificate))
    our_server.use_privatekey_file(str(key))
    our_client.load_verify_locations(str(certificate))

    def check(_c: object, _x: object, _e: int, _d: int, ok: int) -> bool:
        return bool(ok)

    our_client.set_verify(SSL.VERIFY_PEER, check)
    return {
        "ssl": lambda is_server: Stdlib(
            their_server if is_server else their_client, is_server=is_server
        ),
        "pyOpenSSL": lambda is_server: PyOpenSsl(
            our_server if is_server else our_client, is_server=is_server
        ),
    }


def main() -> None:
    """Print a table: microseconds a handshake, milliseconds a GiB."""
    print(f"ssl: {ssl.OPENSSL_VERSION}; pyOpenSSL: {SSL.OpenSSL_version(0).decode()}")
    found: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        certificate, key = issue(Path(folder))
        makers = contexts(Path(certificate), Path(key))
        for _ in range(ROUNDS):
            for name, make in makers.items():
                cost = Cost()
                client, server = make(False), make(True)
                for _ in range(HANDSHAKES):
                    # Against itself: its key exchange is what it would offer.
                    client, server = make(False), make(True)
                    connect(client, server, cost)
                found.setdefault((name, "client handshake, us"), []).append(
                    cost.client / HANDSHAKES * 1e6
                )
                found.setdefault((name, "server handshake, us"), []).append(
                    cost.server / HANDSHAKES * 1e6
                )
                sending, receiving = move(client, server)
                per_gib = 1024 / BULK_MIB * 1e3
                found.setdefault((name, "sending, ms/GiB"), []).append(sending * per_gib)
                found.setdefault((name, "receiving, ms/GiB"), []).append(receiving * per_gib)
    for (name, what), values in found.items():
        print(f"{name:10} {what:22} {statistics.median(values):8.0f}")


if __name__ == "__main__":
    main()
