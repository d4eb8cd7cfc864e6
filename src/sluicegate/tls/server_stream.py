"""ServerStream: TLS with a server, from the first byte, which is ours, to an outcome and beyond it.

``layer`` makes one on a connected socket; whoever dialled is told the outcome and then uses
``socket`` as any other. The invariant: the outcome is told once, later than the call that began,
and nothing that the server sends is delivered before; after a ``ServerFailure`` nothing is.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from typing_extensions import override

from sluicegate.errors import errno_name

from .engine import TlsBroken
from .server_engine import ServerEngine
from .server_fault import ServerFault
from .server_identity import ServerFailure, ServerIdentity
from .stream import TlsStream

if TYPE_CHECKING:
    from sluicegate.port.backend import RawSocket

    from .layer import TlsLayer
    from .server_identity import ServerProof

__all__ = ["ServerOutcome", "ServerStream"]

ServerOutcome: TypeAlias = ServerIdentity | ServerFailure


class ServerStream(TlsStream):
    """One connection to a server."""

    __slots__ = ("_is_session_kept", "on_outcome", "proof")

    def __init__(self, layer: TlsLayer, inner: RawSocket, engine: ServerEngine) -> None:
        super().__init__(layer, inner, engine)
        self.on_outcome: Callable[[ServerOutcome], None] | None = None
        #: Told who the server is, or why it is not believed.
        self._is_session_kept = False
        self.proof: ServerProof | None = None
        #: Who the server is, once it was verified.

    def begin(self) -> None:
        """Say hello, in the next turn, and listen to the answer."""
        self._post()

    @property
    def is_resumed(self) -> bool:
        """Whether the handshake was shortened by a session of an earlier one."""
        return self._server_engine.is_resumed

    @property
    def _server_engine(self) -> ServerEngine:
        engine = self._engine
        assert isinstance(engine, ServerEngine), "it was made with one"
        return engine

    # -- the handshake -------------------------------------------------------------------------

    @property
    @override
    def _wants_input(self) -> bool:
        return super()._wants_input or not (self._is_established or self.error)

    @property
    @override
    def _has_only_tickets(self) -> bool:
        return False

    @property
    @override
    def _is_mere_look(self) -> bool:
        return False

    @override
    def go_on(self) -> None:
        super().go_on()
        if not self._is_established:
            self._arm()

    @override
    def _advance(self) -> None:
        super()._advance()
        if self.error and not self._is_established and self.on_outcome is not None:
            # It was the connection that failed, and not TLS.
            why = ServerFault.TLS_CUT_OFF
            self._tell(ServerFailure(why, errno_name(self.error)))

    @override
    def _on_broken(self, error: TlsBroken) -> None:
        super()._on_broken(error)
        self._tell(self._server_engine.failure(error))

    @override
    def _on_established(self) -> None:
        outcome = self._server_engine.outcome()
        if isinstance(outcome, ServerFailure):
            # Nothing of it reaches anybody: it is closed as a handshake that failed.
            self._is_established = False
            self._note_error(errno.EPROTO, outcome.reason)
        else:
            self.proof = self._server_engine.proof
        self._tell(outcome)

    @override
    def _note_read_error(self, error: TlsBroken) -> None:
        if error.alert:
            # With TLS 1.3 a server refuses a client without a certificate behind the handshake.
            self._note_error(errno.EPROTO, self._server_engine.failure(error).reason)
        else:
            super()._note_read_error(error)

    def _tell(self, outcome: ServerOutcome) -> None:
        told, self.on_outcome = self.on_outcome, None
        if told is not None:
            told(outcome)

    # -- sessions ------------------------------------------------------------------------------

    @override
    def _fill(self, view: memoryview) -> int:
        count = super()._fill(view)
        if count and not self._is_session_kept:
            # With TLS 1.3 the tickets come behind the handshake, before the first answer.
            self._is_session_kept = True
            self._server_engine.keep_session()
        return count

    @override
    def release(self, *, abortive: bool) -> None:
        self.on_outcome = None
        super().release(abortive=abortive)
