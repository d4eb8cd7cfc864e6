"""Guard: what every request goes through, and every answer carries, before any page is looked for.

It wraps the application. The invariant: who reached us under another name, sends too much, too
often, or from another site, is answered here and has no effect; no answer leaves without
its headers.
"""

from __future__ import annotations

from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sluicegate.console_limits import CONSOLE_BODY_BYTES_MAX

from .console import Console

__all__ = ["SECURITY_HEADERS", "Guard"]

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)

SECURITY_HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
"""What every answer carries."""

_HSTS: Final = "max-age=31536000"
_SAFE: Final = frozenset({"GET", "HEAD"})


class Guard:
    """The outermost part of the application."""

    def __init__(self, application: ASGIApp, console: Console) -> None:
        self._application = application
        self._console = console
        self._has_tls = bool(console.settings.certificate)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Look at a request, and let it in or answer it."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._add_headers(MutableHeaders(scope=message), scope["path"])
            await send(message)

        refused = self._refuse(scope)
        if refused is not None:
            await refused(scope, receive, send_guarded)
            return
        await self._application(scope, _Bounded(receive), send_guarded)

    def _add_headers(self, headers: MutableHeaders, path: str) -> None:
        for name, value in SECURITY_HEADERS.items():
            headers[name] = value
        if self._has_tls:
            headers["Strict-Transport-Security"] = _HSTS
        if not path.startswith("/static/"):
            headers["Cache-Control"] = "no-store"

    def _refuse(self, scope: Scope) -> PlainTextResponse | None:
        """Return the answer to a request that gets no further; None: it does."""
        headers = Headers(scope=scope)
        client = scope["client"][0] if scope["client"] else ""
        if not self._console.requests.take(client):
            return PlainTextResponse(
                "Too many requests; ask again in a moment.\n", 429, {"Retry-After": "2"}
            )
        if len(headers.getlist("host")) != 1 or not self._console.origins.has_host(headers["host"]):
            # DNS rebinding: somebody's name leads here. 421 is RFC 9110, section 15.5.20.
            return PlainTextResponse("This console is not reached by that name.\n", 421)
        if headers.get("content-length", "0").isdecimal() is False:
            return PlainTextResponse("A length is a number.\n", 400)
        if int(headers.get("content-length", "0")) > CONSOLE_BODY_BYTES_MAX:
            return PlainTextResponse("That is too long.\n", 413)
        if scope["method"] in _SAFE or headers.get("authorization"):
            return None  # nothing changes, or no browser adds that by itself
        origin = headers.get("origin", "")
        if not self._console.origins.has_origin(origin):
            return PlainTextResponse("This was sent from another site.\n", 403)
        return None


class _Bounded:
    """A body of a request that ends with an error where it is too long."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._left = CONSOLE_BODY_BYTES_MAX

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            if self._left < 0:
                # Without a length announced; the connection ends with it.
                return {"type": "http.disconnect"}
        return message
