"""ProgressPage: shows a browser how far a held download is, and in the end a button to fetch it.

A held response has one when the delay of its rule is over and a browser asked for a page. The page
is the answer to that request: one document that grows as long as the object is held, so that it
needs no script and no further request until the button. The invariant: nothing that a client or a
server has written is in it: only numbers, and words of ours.

What follows the body of the page replaces what stands above by style alone; without styles it reads
as a list of what happened.
"""

from __future__ import annotations

import base64
import html
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING

from sluicegate.limits import PROGRESS_PAGE_S
from sluicegate.port import Timer
from sluicegate.protocols.http1 import CHUNKED, Fields, FramingKind, Response

from .reading import ReadingRefusal

if TYPE_CHECKING:
    from .held_stage import HeldResponse

__all__ = ["ProgressPage"]


class ProgressPage:
    """The page of one held response; ends with its verdict, or with its client."""

    __slots__ = (
        "_has_room",
        "_is_over",
        "_nonce",
        "_released_head",
        "_shown",
        "_stage",
        "_timer",
        "_total",
    )

    def __init__(self, stage: HeldResponse, released_head: Callable[[], Response]) -> None:
        """Begin the page."""
        self._stage = stage
        self._released_head = released_head
        self._nonce = base64.b64encode(secrets.token_bytes(16)).decode()
        self._has_room = True
        self._is_over = False
        self._shown = ""
        self._timer: Timer | None = None
        head = stage.head
        assert head is not None, "a response is held from its head on"
        framing = head.framing
        self._total = framing.length if framing.kind is FramingKind.LENGTH else 0
        #: Bytes that are to come; 0 where nobody knows.
        if stage.begin_sink(self._head()):
            self._send(_TOP.format(nonce=self._nonce))
            self._tick()

    def resume(self) -> None:
        """Take that the browser reads on."""
        self._has_room = True

    def close(self) -> None:
        """Show nothing more."""
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def show_button(self) -> None:
        """Let the download wait to be fetched, and say where."""
        stage = self._stage
        if self._is_over:
            return
        place = stage.keep_download(self._released_head())
        self._end(_BUTTON.format(nonce=self._nonce, place=html.escape(place)))

    def show_refusal(self, refusal: ReadingRefusal) -> None:
        """Say that nobody gets it, and why."""
        if not self._is_over:
            self._stage.note_refusal(refusal)
            self._end(self._refused(refusal.reason))

    def show_failure(self) -> None:
        """Say that it did not come."""
        if not self._is_over:
            self._end(_FAILED.format(nonce=self._nonce, record=self._stage.exchange.id))

    # -- private -------------------------------------------------------------------------------

    def _refused(self, reason: str) -> str:
        return _REFUSED.format(
            nonce=self._nonce, reason=html.escape(reason), record=self._stage.exchange.id
        )

    def _head(self) -> Response:
        policy = (
            f"default-src 'none'; style-src 'nonce-{self._nonce}'; base-uri 'none'; "
            "form-action 'none'; frame-ancestors 'none'"
        )
        fields = [
            (b"Content-Type", b"text/html; charset=utf-8"),
            (b"Content-Security-Policy", policy.encode()),
            (b"Cache-Control", b"no-store"),
            (b"X-Content-Type-Options", b"nosniff"),
            (b"Referrer-Policy", b"no-referrer"),
        ]
        return Response(200, fields=Fields(fields), framing=CHUNKED)

    def _tick(self) -> None:
        self._timer = None
        if self._is_over:
            return
        forms = self._stage.forms
        percent = min(99, 100 * forms.size // self._total) if self._total else 0
        text = _size(forms.size) + (f" of {_size(self._total)}" if self._total else "")
        if forms.is_whole:
            percent, text = 100, f"{_size(forms.size)} received; being inspected"
        if text != self._shown and self._has_room:
            self._shown = text
            self._send(_STEP.format(nonce=self._nonce, percent=percent, text=text))
        if not self._is_over:
            port = self._stage.service.port
            self._timer = port.call_after(PROGRESS_PAGE_S, self._tick)

    def _send(self, text: str) -> None:
        self._has_room = self._stage.sink.feed(text.encode())

    def _end(self, text: str) -> None:
        self.close()
        self._send(text + _BOTTOM)
        if not self._stage.exchange.is_over:
            self._stage.sink.finish(Fields())


def _size(count: int) -> str:
    """Return a number of bytes for people."""
    for unit, scale in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} bytes"


_TOP = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>Your download is being inspected</title>
<style nonce="{nonce}">
:root {{ color-scheme: light dark; }}
body {{ margin: 0; font: 16px/1.5 system-ui, sans-serif; background: Canvas; color: CanvasText; }}
main {{ max-width: 36rem; margin: 12vh auto; padding: 0 1.5rem; }}
h1 {{ font-size: 1.4rem; border-left: .4rem solid #2e6cb3; padding-left: .8rem; }}
h1.bad {{ border-color: #b3261e; }}
#rail {{ height: .8rem; border-radius: .4rem; outline: 1px solid #8886; }}
#bar {{ height: 100%; width: 0; border-radius: .4rem; background: #2e6cb3; transition: width .5s; }}
.step {{ display: none; }}
.step:last-of-type {{ display: block; }}
a.button {{ display: inline-block; padding: .6rem 1.2rem; border-radius: .4rem; background: #2e6cb3;
  color: #fff; text-decoration: none; }}
code {{ font: .95rem ui-monospace, monospace; }}
</style>
</head>
<body>
<main id="waiting">
<h1>Your download is being inspected</h1>
<p>The firewall of this network looks at it before you get it. Leave this page open.</p>
<div id="rail" role="presentation"><div id="bar"></div></div>
</main>
<main id="steps" aria-live="polite">
"""
_STEP = """<style nonce="{nonce}">#bar {{ width: {percent}%; }}</style><p class="step">{text}</p>
"""
_OVER = """</main>
<style nonce="{nonce}">#waiting, #steps {{ display: none; }}</style>
<main id="over" role="status">
"""
_BUTTON = (
    _OVER
    + """<h1>Your download was inspected</h1>
<p>Nothing was found. It is kept here for ten minutes, to be fetched once.</p>
<p><a class="button" id="download" href="{place}">Download</a></p>
"""
)
_REFUSED = (
    _OVER
    + """<h1 class="bad">Your download was stopped</h1>
<p>Reason: {reason}</p>
<p>If you think that this is wrong, tell the people who run this network the number of the record:
<code>{record}</code></p>
"""
)
_FAILED = (
    _OVER
    + """<h1 class="bad">Your download did not arrive</h1>
<p>The server did not send all of it. Try again later. The number of the record is
<code>{record}</code>.</p>
"""
)
_BOTTOM = """</main>
</body>
</html>
"""
