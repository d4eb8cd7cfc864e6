"""The web server of the demonstration: the standard library's, as a process of its own.

``origin`` starts it (``python -m sluicegate.app.demo.web_origin FOLDER SEED [CERTIFICATE]``), and
reads the port that it prints; with a certificate, it is inside TLS. The invariant: it serves one
folder and one made object, on the loopback address alone; what is sent to it is stored under
``uploads`` in that folder, so that whatever arrives can be seen.
"""

from __future__ import annotations

import functools
import http.server
import pathlib
import ssl
import sys

from typing_extensions import override

from .content import LARGE_BYTES, LARGE_PATH, UPLOADS, large_blocks
from .origin import end_with_input

__all__ = ["serve"]


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files, the made object, and takes uploads."""

    protocol_version = "HTTP/1.1"
    folder: pathlib.Path
    seed: bytes

    @override
    def do_GET(self) -> None:
        if self.path != f"/{LARGE_PATH}":
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(LARGE_BYTES))
        self.end_headers()
        for block in large_blocks(self.seed):
            self.wfile.write(block)

    def do_POST(self) -> None:
        """Store what is sent, and say so."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        uploads = self.folder / UPLOADS
        uploads.mkdir(exist_ok=True)
        (uploads / str(len(list(uploads.iterdir())))).write_bytes(body)
        self.send_response(201)
        self.send_header("Content-Length", "0")
        self.end_headers()

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the demonstration's own words are enough."""


class _Server(http.server.ThreadingHTTPServer):
    """Says nothing of clients that go: a gate that refuses this server does so in the handshake."""

    @override
    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # those of TLS are, too
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # as it came


def serve(folder: str, seed: str, certificate: str = "") -> None:
    """Serve until the standard input ends."""
    made = {"folder": pathlib.Path(folder), "seed": bytes.fromhex(seed)}
    handler = type("Handler", (_Handler,), made)
    server = _Server(("127.0.0.1", 0), functools.partial(handler, directory=folder))
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        # The handshake is done by the thread of each client, at its first read.
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    print(server.server_address[1], flush=True)  # noqa: T201 - read by whoever started it
    end_with_input()
    server.serve_forever()


if __name__ == "__main__":
    serve(*sys.argv[1:])
