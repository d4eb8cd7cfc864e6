"""SwitchingExchange: the third part of an exchange: what becomes of it when its server switches.

``gate_exchange`` stands on it. The invariant: behind a 101 either nothing that its rule wants to
see passes (a tunnel, pumped), or what passes is read by what both heads agreed on
(``websocket_relay``); and what a handshake says that the gate could not read by is refused before
the 101.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from sluicegate.protocols.websocket import (
    Deflate,
    Handshake,
    WebSocketError,
    WebSocketFault,
    is_proven,
    is_websocket,
)

from .admission import WebReason
from .declared_needs import reads_messages
from .filtered_exchange import FilteredExchange
from .pipeline import WebPipeline
from .routing import RoutedExchange

if TYPE_CHECKING:
    from sluicegate.protocols.http1 import Response

    from .gate_exchange import GateExchange

__all__ = ["MAY_NOT_SWITCH", "NOT_SWITCHED", "SwitchingExchange"]

MAY_NOT_SWITCH: Final = "its requests may not switch protocols now"
"""Of what was switched under a rule that would let nothing switch any more."""


NOT_SWITCHED: Final = "server-has-not-switched"
"""Of a success that a client on a stream would take for the other protocol that it asked for."""


class SwitchingExchange(RoutedExchange):
    """What becomes of it behind a 101."""

    __slots__ = ()

    @property
    def _whole(self) -> GateExchange:
        # The only class that stands on this one; what is asked of it needs all of it.
        return cast("GateExchange", self)

    # -- the handshake ---------------------------------------------------------------------------

    def lets_switch(self) -> bool:
        """Whether what a client asks for alone may be had by its rule; False: it was refused.

        A request of HTTP/1.1 that offers to switch goes on without the offer, a stream cannot.
        """
        if not self.client.must_switch:
            return True
        upgrades = self.connection.desk.upgrades_of(self.plan)
        if all(one.lower() in upgrades for one in self.request.upgrade):
            return True
        self.refuse(403, WebReason.UPGRADE)
        return False

    def begin_handshake(self) -> bool:
        """Check a request for a WebSocket whose messages are to be read; False: it was refused."""
        plan, request = self.plan, self.request
        if not is_websocket(request) or not reads_messages(plan):
            return True
        if not self.connection.desk.upgrades_of(plan):
            return True  # the offer does not pass
        try:
            self._handshake = Handshake(request)
        except WebSocketError as error:
            self.refuse(400, error.fault.code, detail=str(error))
            return False
        self._handshake.narrow(request)
        if self._part is None:
            # Content filters alone; their objects come out of an exchange's part, too.
            pipeline = WebPipeline(self.connection.service, ())
            self._part = FilteredExchange(pipeline, self._whole)
        return True

    def on_switched(self, response: Response) -> bool:
        """Take 101: what follows both heads is another protocol's; False while filters think."""
        self.response = response
        deflate: Deflate | None = None
        if self._handshake is not None:
            try:
                deflate = self._handshake.agree(response)
            except WebSocketError as error:
                self.response = None
                self.fail(502, f"server-{error.fault.code}: {error}")
                return True
        elif self.client.must_switch and not is_proven(self.request, response):
            # The key was the gate's, so nobody else could tell.
            self.response, fault = None, WebSocketError(WebSocketFault.ACCEPT)
            self.fail(502, f"server-{fault.fault.code}: {fault}")
            return True
        part = self._part
        if part is None:
            self._go_on_switched(response, deflate)
            return True

        def go_on() -> None:
            if not self.is_over:
                self._go_on_switched(response, deflate)

        if part.on_response(go_on):
            go_on()
            return True
        return self.is_over

    def _go_on_switched(self, response: Response, deflate: Deflate | None) -> None:
        self.status = response.status
        if self._handshake is None:
            self.connection.open_tunnel(self._whole, response)
        else:
            assert isinstance(self._part, FilteredExchange), "the handshake has seen to it"
            self.connection.open_websocket(self._whole, self._part, response, deflate)
