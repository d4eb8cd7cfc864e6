"""InsideDetection: finds out what is spoken inside TLS that was opened, and who goes on with it.

``opener`` begins one when both handshakes are done. ALPN says it; without ALPN the first bytes do,
the client's or the server's, whichever come first. The invariant: nothing that came is lost, and
what is not HTTP goes on only by a rule that says so.
"""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING, Final

from sluicegate.errors import LimitExceeded, Side
from sluicegate.policy.tls_opening import InsideAnswer, OpeningReason
from sluicegate.port.backend import BUFFER, MORE, SLOT_SHIFT
from sluicegate.port.given_away import GivenAway
from sluicegate.port.layer import driver_of
from sluicegate.protocols.detect import EntryProtocol, detect_protocol

if TYPE_CHECKING:
    from sluicegate.port.backend import Operation, RawSocket

    from .opener import Opener
    from .opening_connection import OpeningConnection

__all__ = ["InsideDetection"]


class InsideDetection:
    """Of one connection, until it is known."""

    __slots__ = ("_alpn", "_connection", "_early", "_is_over", "_opener")

    def __init__(self, connection: OpeningConnection, opener: Opener, alpn: str) -> None:
        self._connection = connection
        self._opener = opener
        self._alpn = alpn
        #: What both ends agreed on; empty: nothing.
        self._early = {Side.CLIENT: bytearray(), Side.SERVER: bytearray()}
        self._is_over = False

    def begin(self) -> None:
        """Hand over at once where ALPN says it, else look at what comes."""
        connection = self._connection
        given = connection.client_given
        assert given is not None, "the client was met"
        raw = connection.server_raw
        operation = connection.port.operations.take(
            lambda result, flags: self._on_received(Side.SERVER, result, flags)
        )
        server = connection.server_given = _of(raw, operation)
        connection.port.backend.redirect(
            given.receive_op, lambda result, flags: self._on_received(Side.CLIENT, result, flags)
        )
        driver_of(raw, connection.port.backend).receive(server.receive_op, raw)
        if self._alpn in _OF_THE_WEB:
            self._go_on_as_web()
        elif self._alpn:
            self._go_on_as_tunnel(OpeningReason.NOT_HTTP)

    def on_internal_error(self, error: BaseException) -> None:
        """Take that an error of ours was raised in its work (``port.Answerable``)."""
        self._connection.on_internal_error(error)

    # -- what comes ------------------------------------------------------------------------------

    def _given(self, side: Side) -> GivenAway | None:
        connection = self._connection
        return connection.client_given if side is Side.CLIENT else connection.server_given

    def _on_received(self, side: Side, result: int, flags: int) -> None:
        connection, given = self._connection, self._given(side)
        if given is None:
            connection.join()
            return
        driver = driver_of(given.raw, connection.port.backend)
        if flags & BUFFER:
            slot = driver.pool.slots[flags >> SLOT_SHIFT]
            self._early[side] += slot.view[: max(result, 0)]
            driver.pool.give_back(slot)
        if connection.is_closing:
            connection.join()
        elif result > 0:
            self._look(side)
        elif result == 0:
            given.ended = True
            self._on_end(side)
        elif result != -errno.ECANCELED:
            given.ended = True
            connection.on_transport_error(side, -result)
        if not (self._is_over or given.ended or connection.is_closing or flags & MORE):
            driver.receive(given.receive_op, given.raw)

    def _look(self, side: Side) -> None:
        """Look at what has come first."""
        if side is Side.SERVER:
            self._go_on_as_tunnel(OpeningReason.SERVER_FIRST)
            return
        found = detect_protocol(bytes(self._early[side][:_LOOKED_AT]))
        if found in _HTTP:
            self._go_on_as_web()
        elif found is not None:
            self._go_on_as_tunnel(OpeningReason.NOT_HTTP)

    def _on_end(self, side: Side) -> None:
        """Take the end of one side, before anything was said: a server may be asked anew."""
        if side is Side.CLIENT:
            if self._early[side]:
                self._go_on_as_tunnel(OpeningReason.NOT_HTTP)
            else:
                self._connection.close(abortive=False)

    # -- who goes on -----------------------------------------------------------------------------

    def _go_on_as_web(self) -> None:
        self._is_over = True
        opener, connection = self._opener, self._connection
        opener.on_open()
        assert opener.opened is not None, "both sides were met"
        early = self._early
        connection.firewall.web.admit_opened(
            connection,
            opener.opened,
            self._alpn,
            bytes(early[Side.CLIENT]),
            is_server_usable=not early[Side.SERVER],
        )

    def _go_on_as_tunnel(self, reason: str) -> None:
        """Let what is no HTTP go on, if the rule says so."""
        self._is_over = True
        opener, connection = self._opener, self._connection
        opened, server = opener.opened, connection.server_given
        assert opened is not None, "both sides were met"
        assert server is not None, "both sides were met"
        check = connection.plan.tls
        if check is None or check.opening.not_http is InsideAnswer.REFUSE:
            opener.refuse_inside(reason)
            return
        if opened.verification != _VERIFIED and not opener.is_shown_unverified:
            opener.refuse_inside(opened.verification)
            return
        opener.on_open()
        try:
            server.ahead = connection.keep_ahead(bytes(self._early[Side.SERVER]))
        except LimitExceeded as error:
            connection.on_limit(error)
            return
        connection.open_tunnel(bytes(self._early[Side.CLIENT]))


def _of(raw: RawSocket, operation: Operation) -> GivenAway:
    return GivenAway(raw, operation, deque(), ended=False, error=0, shut=False)


_OF_THE_WEB: Final = frozenset({"http/1.1", "http/1.0", "h2"})
_HTTP: Final = frozenset({EntryProtocol.HTTP, EntryProtocol.HTTP_CONNECT})
_VERIFIED: Final = "verified"
_LOOKED_AT: Final = 64
"""More than the detection looks at."""
