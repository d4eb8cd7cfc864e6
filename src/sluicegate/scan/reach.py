"""Reach: connections of the gate's own to a scanner, which may be restarting.

``scan/clamd`` and ``scan/icap`` connect by it. The invariant: what the system policy does not let
the gate reach is never dialled, and nobody waits longer than he was told to.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import TypeAlias

from sluicegate.address import SocketAddress
from sluicegate.clock import Clock
from sluicegate.errors import Side, TransportError
from sluicegate.scan_limits import SCANNER_RETRY_S

__all__ = ["Place", "Reach", "ScannerSocket"]

ScannerSocket: TypeAlias = socket.socket  # noqa: TID251 - the gate's own, not a client's
Place: TypeAlias = str | SocketAddress
"""The path of a Unix socket, or an address."""


class Reach:
    """The way to one scanner."""

    def __init__(
        self,
        place: Place,
        wait_s: float,
        refusal: str,
        clock: Clock,
        on_away: Callable[[], None],
    ) -> None:
        """Keep the way.

        Args:
            place: Where it listens.
            wait_s: How long one that is away is waited for.
            refusal: Why it must not be reached; empty: it may.
            clock: Tells how long it has been away.
            on_away: Told of each attempt that found nobody: who answers next may be another.
        """
        self.away_since: float | None = None
        #: When it was found to be away, while it is; on the monotonic clock.
        self._place = place
        self._wait_s = wait_s
        self._refusal = refusal
        self._clock = clock
        self._on_away = on_away

    async def connect(self) -> ScannerSocket:
        """Connect; wait a while for a scanner that restarts.

        Raises:
            OSError: It is away.
            TransportError: It must not be reached.
        """
        while True:
            try:
                connected = await self._try_connect()
            except OSError:
                now = self._clock.monotonic()
                self._on_away()
                if self.away_since is None:
                    self.away_since = now
                if now - self.away_since >= self._wait_s:
                    raise
                await asyncio.sleep(SCANNER_RETRY_S)
            else:
                self.away_since = None
                return connected

    async def _try_connect(self) -> ScannerSocket:
        place = self._place
        if self._refusal:
            raise TransportError(errno.EACCES, Side.INTERNAL, self._refusal)
        address: str | tuple[str, int]
        if isinstance(place, str):
            family, address = socket.AF_UNIX, place
        else:
            family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
            address = (place.host, place.port)
        connected = socket.socket(family, socket.SOCK_STREAM)  # noqa: TID251 - the gate's own
        try:
            connected.setblocking(False)
            await asyncio.get_running_loop().sock_connect(connected, address)
        except BaseException:
            connected.close()
            raise
        return connected
