"""FirstDials: exchanges that wait for another one's dial, which may give all of them a stream.

One per worker; ``routing`` asks before it dials a server that is offered HTTP/2. The invariant: an
exchange waits once, for a bounded time, and for no server that is known to choose HTTP/1; when the
dial it waits for is over, however it went, it is routed anew, by its own decision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluicegate.web_limits import WEB_FIRST_DIAL_S, WEB_KNOWN_MAX

if TYPE_CHECKING:
    from sluicegate.port import CompletionPort
    from sluicegate.port.timers import Timer

    from .origin_pool import PoolKey
    from .routing import RoutedExchange

__all__ = ["FirstDials"]


class _FirstDial:
    """A dial that others may wait for."""

    __slots__ = ("dialler", "timer", "waiting")

    def __init__(self, dialler: RoutedExchange, timer: Timer) -> None:
        self.dialler = dialler
        self.timer = timer
        self.waiting: list[RoutedExchange] = []


class FirstDials:
    """The dials of one worker whose servers have not chosen a version yet."""

    def __init__(self, port: CompletionPort) -> None:
        self._port = port
        self._dials: dict[PoolKey, _FirstDial] = {}
        self._in_http_1: dict[PoolKey, None] = {}
        #: Servers that have chosen it lately: each exchange needs a connection of its own there.

    def must_wait(self, exchange: RoutedExchange) -> bool:
        """Let an exchange wait for a dial that is under way; False: it is to dial itself."""
        key = exchange.pool_key
        if key in self._in_http_1:
            return False
        first = self._dials.get(key)
        if first is not None:
            first.waiting.append(exchange)
            return True
        timer = self._port.call_after(WEB_FIRST_DIAL_S, lambda: self._release(key))
        self._dials[key] = _FirstDial(exchange, timer)
        return False

    def note_version(self, key: PoolKey, *, is_http2: bool) -> None:
        """Take which version a server has chosen that was offered both."""
        if is_http2:
            self._in_http_1.pop(key, None)
            return
        if len(self._in_http_1) >= WEB_KNOWN_MAX:
            self._in_http_1.clear()
        self._in_http_1[key] = None

    def on_over(self, key: PoolKey, exchange: RoutedExchange) -> None:
        """Take that an exchange does not dial any more, if it did."""
        first = self._dials.get(key)
        if first is not None and first.dialler is exchange:
            self._release(key)

    def _release(self, key: PoolKey) -> None:
        """Route those that wait anew."""
        first = self._dials.pop(key)
        first.timer.cancel()
        for one in first.waiting:
            # In turns of their own: whoever has ended this dial is in the middle of it.
            self._port.post(one.dial_again)
