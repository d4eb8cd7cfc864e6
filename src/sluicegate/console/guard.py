"""Guard: what every request goes through, and every answer carries, before any page is looked for.

It wraps the application. The invariant: who reached us under another name, sends too much, too
often, or from another site, is answered here and has no effect; no answer leaves without
its headers.
"""

from __future__ import annotations

from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sluicegate.console_limits import CONSOLE_BODY_BYTES_MAX

from .api.operation import problem
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

_TOO_LONG: Final = 413
_HSTS: Final = "max-age=31536000"
_BEARER: Final = "Bearer "
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
                self._add_headers(MutableHeaders(scope=message))
            await send(message)

        refused = self._refuse(scope)
        if refused is not None:
            await refused(scope, receive, send_guarded)
            return
        await self._application(scope, _Bounded(receive), send_guarded)

    def _add_headers(self, headers: MutableHeaders) -> None:
        for name, value in SECURITY_HEADERS.items():
            headers[name] = value
        if self._has_tls:
            headers["Strict-Transport-Security"] = _HSTS
        # Only files that are there say something else: their names change with their content.
        headers.setdefault("Cache-Control", "no-store")

    def _refuse(self, scope: Scope) -> Response | None:
        """Return the answer to a request that gets no further; None: it does."""
        headers = Headers(scope=scope)
        client = scope["client"][0] if scope["client"] else ""
        if not self._console.requests.take(client):
            return _answer(
                scope, 429, "Too many requests; ask again in a moment.", {"Retry-After": "2"}
            )
        if len(headers.getlist("host")) != 1 or not self._console.origins.has_host(headers["host"]):
            # DNS rebinding: somebody's name leads here. 421 is RFC 9110, section 15.5.20.
            return _answer(scope, 421, "This console is not reached by that name.")
        if headers.get("content-length", "0").isdecimal() is False:
            return _answer(scope, 400, "A length is a number.")
        if int(headers.get("content-length", "0")) > CONSOLE_BODY_BYTES_MAX:
            return _answer(scope, 413, "That is too long.")
        if scope["method"] in _SAFE or headers.get("authorization", "").startswith(_BEARER):
            return None  # nothing changes, or no browser adds that by itself
        origin = headers.get("origin", "")
        if not self._console.origins.has_origin(origin):
            return _answer(scope, 403, "This was sent from another site.")
        return None


def _answer(
    scope: Scope, status_code: int, text: str, headers: dict[str, str] | None = None
) -> Response:
    """Say what is wrong, for a person or a program."""
    if not scope["path"].startswith("/api/"):
        return PlainTextResponse(f"{text}\n", status_code, headers)
    answer = problem(status_code, text)
    answer.headers.update(headers or {})
    return answer


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
                raise HTTPException(_TOO_LONG)  # without a length announced
        return message
