"""KeptDownloads: what was released behind progress pages, and waits to be fetched, whole once.

One per worker. The button of a page leads to a path below ``KEPT_PREFIX`` of the very host that the
download came from; requests for such a path never leave the gate. The invariant: a download is
given to the client and user that it was held for, and to nobody else; whose fetch breaks off may
try again, and what nobody has fetched in ``KEPT_DOWNLOAD_S`` is given up.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sluicegate.buffer import Window
from sluicegate.errors import SluicegateError
from sluicegate.filterapi import Outcome
from sluicegate.limits import KEPT_DOWNLOAD_S, KEPT_DOWNLOADS_MAX
from sluicegate.protocols.http1 import Fields, Response

from .held_forms import HeldForms

if TYPE_CHECKING:
    from sluicegate.port import CompletionPort, SocketCompletion

    from .body_stage import ResponseSink
    from .exchange_facts import ExchangeFacts

__all__ = ["KEPT_PREFIX", "KeptDownloads"]

KEPT_PREFIX: Final = b"/.well-known/sluicegate/held/"
"""Where kept downloads are, on every host (RFC 8615)."""


@dataclass(slots=True)
class _Kept:
    forms: HeldForms
    head: Response
    client: str
    user: str
    until: float


class KeptDownloads:
    """The downloads that wait on one worker."""

    __slots__ = ("_is_closed", "_kept", "_port")

    def __init__(self, port: CompletionPort) -> None:
        self._port = port
        self._is_closed = False
        self._kept: dict[bytes, _Kept] = {}
        #: By token, the oldest first.

    def keep(self, exchange: ExchangeFacts, forms: HeldForms, head: Response, name: str) -> str:
        """Keep a download that was released; return the path to fetch it from.

        Args:
            exchange: Whose answer it would have been.
            forms: What was released.
            head: The head to give it with.
            name: What it is called, escaped for a path.
        """
        while len(self._kept) >= KEPT_DOWNLOADS_MAX:
            self._give_up(next(iter(self._kept)))
        forms.move_to(_NOBODY)
        token = secrets.token_urlsafe(24).encode()
        client, user = _identity(exchange)
        until = self._port.now + KEPT_DOWNLOAD_S
        self._kept[token] = _Kept(forms, head, client, user, until)
        self._port.call_after(KEPT_DOWNLOAD_S, lambda: self._give_up(token))
        return f"{KEPT_PREFIX.decode()}{token.decode()}/{name}"

    def serve(self, exchange: ExchangeFacts) -> bool:
        """Answer a request for a kept download; False: it is for something else."""
        path = exchange.request.target.path
        if not path.startswith(KEPT_PREFIX):
            return False
        token = path[len(KEPT_PREFIX) :].partition(b"/")[0]
        kept = self._kept.get(token)
        if kept is None or _identity(exchange) != (kept.client, kept.user):
            exchange.refuse(404, "held-download-gone")
        elif exchange.request.method != b"GET":
            exchange.refuse(405, "held-download-method")
        else:
            del self._kept[token]
            _Fetch(exchange, kept, lambda: self._keep_on(token, kept)).begin(self._port)
        return True

    def close(self) -> None:
        """Give everything up: the gate is ending."""
        self._is_closed = True
        for token in list(self._kept):
            self._give_up(token)

    def _keep_on(self, token: bytes, kept: _Kept) -> None:
        """Let a download wait again whose client has gone in the middle of it."""
        if self._is_closed or kept.forms.is_over or self._port.now >= kept.until:
            kept.forms.end(Outcome.FAILED, "the exchange ended")
            return
        kept.forms.take_back()
        kept.forms.move_to(_NOBODY)
        self._kept[token] = kept

    @property
    def count(self) -> int:
        """How many wait."""
        return len(self._kept)

    def _give_up(self, token: bytes) -> None:
        kept = self._kept.pop(token, None)
        if kept is not None:
            kept.forms.end(Outcome.RELEASED, "nobody fetched it")


class _Fetch:
    """One kept download on its way: the source of an answer, and the sink of a delivery."""

    def __init__(self, exchange: ExchangeFacts, kept: _Kept, on_broken: Callable[[], None]) -> None:
        """Make it.

        Args:
            exchange: Who fetches.
            kept: What.
            on_broken: Told when the client has gone before it had everything.
        """
        self._exchange = exchange
        self._on_broken = on_broken
        self._kept = kept
        self._sink: ResponseSink
        self._sent: tuple[SocketCompletion, Window, Any] | None = None
        self._port: CompletionPort

    def begin(self, port: CompletionPort) -> None:
        """Answer with it."""
        kept = self._kept
        self._port = port
        kept.forms.move_to(self)
        self._sink = self._exchange.answer_from(self)
        self._sink.begin(kept.head)
        if not self._exchange.is_over:
            kept.forms.deliver(self)

    # -- BodySource ----------------------------------------------------------------------------

    def resume(self) -> None:
        """Send the next piece."""
        if self._sent is not None:
            self._complete(is_sent=True)

    def close(self) -> None:
        """Take that the exchange is over."""
        sent, self._sent = self._sent, None
        if not self._kept.forms.is_over:
            self._on_broken()
        if sent is not None:
            completion, data, user_data = sent
            completion.complete_socket_io(False, 0, data, user_data, None)

    # -- spool.Sink ----------------------------------------------------------------------------

    def start_send(
        self, data: Window, completion: SocketCompletion | None = None, user_data: Any = None
    ) -> None:
        """Hand a piece to the client's end."""
        assert completion is not None, "a delivery wants to know when it may go on"
        self._sent = completion, data, user_data
        with data.lease() as view:
            has_room = self._sink.feed(view)
        if has_room:
            # Later: a delivery that goes on inside its own send grows the stack with every piece.
            self._port.post(self.resume)

    def _complete(self, *, is_sent: bool) -> None:
        assert self._sent is not None
        (completion, data, user_data), self._sent = self._sent, None
        completion.complete_socket_io(is_sent, 0, data, user_data, None)

    # -- FormsOwner ----------------------------------------------------------------------------

    def on_forms_ready(self) -> None:
        """Nothing more comes: it was released."""

    def on_forms_released(self) -> None:
        """It was, before it was kept."""

    def on_forms_refused(self, refusal: object) -> None:
        """It was released before it was kept."""

    def on_forms_delivered(self, error: SluicegateError | None) -> None:
        """End the answer."""
        forms = self._kept.forms
        if self._exchange.is_over:
            return
        if error is None:
            forms.end_delivered()
            self._sink.finish(Fields())
        else:
            forms.end(Outcome.FAILED, str(error))
            self._exchange.fail(502, f"held-body: {error}")


class _Nobody:
    """Owns what waits to be fetched: nothing happens to it."""

    def on_forms_ready(self) -> None:
        """Nothing more comes."""

    def on_forms_released(self) -> None:
        """It was, before."""

    def on_forms_refused(self, refusal: object) -> None:
        """It was released before."""

    def on_forms_delivered(self, error: SluicegateError | None) -> None:
        """It is not being delivered."""


_NOBODY: Final = _Nobody()


def _identity(exchange: ExchangeFacts) -> tuple[str, str]:
    user = exchange.user
    host = exchange.connection.client_address.host
    return host, "" if user is None else user.name
