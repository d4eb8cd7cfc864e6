"""TlsSocket: what the users of a TLS connection have in the place of a socket.

``stream`` does the work; this is its face. The invariant: it has the methods of a plain socket with
their meaning, but for bytes: what is sent here leaves encrypted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluicegate.port.backend import MSG_MORE
from sluicegate.port.layer import LayeredSocket

if TYPE_CHECKING:
    from .stream import TlsStream

__all__ = ["TlsSocket"]


class TlsSocket(LayeredSocket):
    """The decrypted side of one connection; satisfies ``RawSocket``."""

    __slots__ = ("stream",)

    def __init__(self, stream: TlsStream) -> None:
        super().__init__(stream.inner, stream)
        self.stream = stream

    def fileno(self) -> int:
        """Return the descriptor below; -1 once this socket was closed."""
        return -1 if self.stream.is_released else self.inner.fileno()

    def send(self, data: memoryview | bytes, flags: int = 0, /) -> int:
        """Encrypt and send what there is room for.

        Raises:
            BlockingIOError: The last of what was sent is still on its way.
            OSError: The connection failed.
        """
        return self.stream.write(data, is_more_coming=bool(flags & MSG_MORE))

    def shutdown(self, how: int, /) -> None:
        """End our stream, behind what was sent: ``close_notify``, then the end of TCP's."""
        self.stream.shut(how)

    def close(self) -> None:
        """Close, behind what was sent."""
        self.stream.release(abortive=False)
