"""ListenerStream: TLS with a client, shaken hands with before anybody reads of it.

``layer`` makes one on an accepted socket; whoever did is told when the handshake is done or has
failed, and then uses ``socket`` as any other. The invariant: the outcome is told once, later than
the call that began, and nothing of the client is delivered before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from typing_extensions import override

from .stream import TlsStream

if TYPE_CHECKING:
    from sluicegate.port.backend import RawSocket

    from .engine import TlsEngine
    from .layer import TlsLayer

__all__ = ["ListenerStream"]


class ListenerStream(TlsStream):
    """One client's."""

    __slots__ = ("on_outcome",)

    def __init__(self, layer: TlsLayer, inner: RawSocket, engine: TlsEngine) -> None:
        super().__init__(layer, inner, engine)
        self.on_outcome: Callable[[], None] | None = None
        #: Told that the handshake is over, however it went.

    def begin(self) -> None:
        """Listen to the client, from the next turn on."""
        self._post()

    @property
    def is_established(self) -> bool:
        """Whether the handshake is done."""
        return self._is_established

    @property
    @override
    def _wants_input(self) -> bool:
        return super()._wants_input or not (self._is_established or self.error)

    @override
    def go_on(self) -> None:
        super().go_on()
        if not self._is_established:
            self._arm()

    @override
    def _advance(self) -> None:
        super()._advance()
        if not self._is_established and (self.error or self._has_inner_ended):
            self._tell()

    @override
    def _on_established(self) -> None:
        self._tell()

    def _tell(self) -> None:
        told, self.on_outcome = self.on_outcome, None
        if told is not None:
            told()

    @override
    def release(self, *, abortive: bool) -> None:
        self.on_outcome = None
        super().release(abortive=abortive)
