"""ClearReading: finds out whether what a client says first in its tunnel is HTTP in the clear.

``read_connection`` has one where filters of the rule would see nothing of a tunnel's bytes, but all
of HTTP's messages. The invariant: what is HTTP goes on as web traffic from its first byte; what is
not is refused, and no server has seen a byte of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from typing_extensions import override

from sluicegate.protocols.detect import DETECT_BYTES_MAX, EntryProtocol, detect_protocol

from .first_reading import FirstReading

if TYPE_CHECKING:
    from .read_connection import ReadConnection

__all__ = ["ClearReading"]


class ClearReading(FirstReading):
    """One client's first bytes, until they say what they are."""

    __slots__ = ("due",)

    def __init__(self, connection: ReadConnection) -> None:
        super().__init__(connection)
        self.due = connection.port.now + connection.firewall.limits.hello_timeout_s
        #: When the client must have said something.

    @override
    def _take(self, data: bytes) -> None:
        self._held += data
        self._look()

    def _look(self) -> None:
        found = detect_protocol(bytes(self._held[:DETECT_BYTES_MAX]))
        if found in _HTTP:
            self._owner.go_on_as_web(self.held)
        elif found is not None:
            self._owner.refuse_in_clear(is_tls=found is EntryProtocol.TLS)

    def on_expired(self) -> None:
        """Refuse who has said nothing: it waits for its server first, which none of HTTP does."""
        self._owner.refuse_in_clear(is_tls=False)

    @override
    def _on_end(self) -> None:
        if self._held:
            self._owner.refuse_in_clear(is_tls=False)
        else:
            self._owner.close(abortive=False)


_HTTP: Final = frozenset({EntryProtocol.HTTP, EntryProtocol.HTTP_CONNECT})
