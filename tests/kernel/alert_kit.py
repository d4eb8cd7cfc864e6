"""Real receivers of alerts: a mail server with TLS and passwords, and a webhook over TLS."""

from __future__ import annotations

import http.server
import pathlib
import queue
import ssl
import threading
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from typing import Any, cast

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from typing_extensions import override

from tests.pki import authority

HOST = "127.0.0.1"
PASSWORD = "a secret of the mail server"


def server_context(folder: pathlib.Path) -> ssl.SSLContext:
    """Return a server's TLS with a certificate for this machine; its authority is in ca.pem."""
    certificate, key = authority().server(HOST, "localhost").write(folder, "receiver")
    (folder / "ca.pem").write_text(authority().pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


class _Controller(Controller):
    """On a port that the kernel has chosen, which it asks itself at its start."""

    @override
    def _trigger_server(self) -> None:
        assert self.server is not None
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


class Mailbox:
    """A mail server (aiosmtpd), and what it was given."""

    def __init__(self, folder: pathlib.Path, *, refusals: int = 0, tls: str = "starttls") -> None:
        """Listen.

        Args:
            folder: For the certificate.
            refusals: How many messages are refused for now, before one is taken.
            tls: As an action's.
        """
        more: dict[str, Any] = {}
        if tls == "starttls":
            more = {"tls_context": server_context(folder), "require_starttls": True}
        elif tls == "tls":
            # It takes no other TLS than that of STARTTLS for such.
            more = {"ssl_context": server_context(folder), "auth_require_tls": False}
        self.mails: queue.Queue[EmailMessage] = queue.Queue()
        self.envelopes: list[Envelope] = []
        self.logins: list[bytes] = []
        self.refusals = refusals
        self._controller = _Controller(
            self,
            hostname=HOST,
            port=0,
            auth_required=tls == "starttls",
            authenticator=self._authenticate,
            **more,
        )
        self._controller.start()
        self.port = self._controller.port

    def _authenticate(
        self, _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: Any
    ) -> AuthResult:
        login = cast("LoginPassword", data)
        self.logins.append(login.login)
        is_right = (login.login, login.password) == (b"gate", PASSWORD.encode())
        return AuthResult(success=is_right, handled=False)

    async def handle_DATA(  # noqa: N802 - a name of aiosmtpd's
        self, _server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        """Take a message."""
        if self.refusals:
            self.refusals -= 1
            return "451 try again later"
        self.envelopes.append(envelope)
        message = BytesParser(policy=default).parsebytes(cast("bytes", envelope.content))
        self.mails.put(cast("EmailMessage", message))
        return "250 taken"

    def close(self) -> None:
        self._controller.stop()


class Webhook:
    """A web server with TLS, and what it was sent."""

    def __init__(self, folder: pathlib.Path, *, answers: tuple[int, ...] = ()) -> None:
        """Listen.

        Args:
            folder: For the certificate.
            answers: What it answers first; afterwards 204.
        """
        self.calls: queue.Queue[tuple[dict[str, str], bytes]] = queue.Queue()
        answering = list(answers)
        calls = self.calls

        class Handler(http.server.BaseHTTPRequestHandler):
            @override
            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                calls.put(({**dict(self.headers), ":path": self.path}, body))
                self.send_response(answering.pop(0) if answering else 204)
                self.send_header("Content-Length", "0")
                self.end_headers()

        self._server = http.server.ThreadingHTTPServer((HOST, 0), Handler)
        self._server.socket = server_context(folder).wrap_socket(
            self._server.socket, server_side=True
        )
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
