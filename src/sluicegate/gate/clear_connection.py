"""ClearConnection: a tunnel that its rule lets pass only as HTTP in the clear.

``entry`` makes one in the place of an ``EntryConnection`` where the rule's filters are for messages
of HTTP and TLS is not what is spoken: browsers ask for a tunnel for ``ws://``, and some programs
for ``http://``. The invariant: no server is dialled for it; each request inside is judged, and
dialled for, as one that had come without a tunnel, and goes to the tunnel's host or nowhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import override

from sluicegate.errors import Side

from .read_connection import ReadConnection
from .registry import BYTES_UNSEEN

if TYPE_CHECKING:
    from sluicegate.names import Destination

__all__ = ["ClearConnection"]


class ClearConnection(ReadConnection):
    """One tunnel that is read."""

    __slots__ = ()

    @override
    def _come_up(self) -> None:
        """Tell the client that its tunnel is there; whoever serves its first request is dialled."""
        if self.is_emulated or self.has_attached:
            # A filter would see or play a connection, and none of the others see it.
            self.refuse(BYTES_UNSEEN)
            return
        if self._is_still_admitted():
            self._grant(Side.CLIENT, self._on_granted)

    @override
    def _dial_destination(self, destination: Destination) -> None:
        raise AssertionError(f"a tunnel that is read dials nothing, not {destination}")

    def _on_granted(self) -> None:
        if self._take_client_over():
            self.last_active = self.port.now
            self.read_in_clear()
