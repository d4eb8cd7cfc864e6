"""PublishedConnection: a published connection inside TLS: its client's, its server's, or both.

``admission`` makes one where a listener has certificates, or a publication that is no HTTP says who
its server has to be. The invariant: what the pump moves is what was inside, and the server is sent
nothing of it before it has proved who it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from typing_extensions import override

from sluicegate.errors import Side
from sluicegate.policy import Publication
from sluicegate.tls import ServerFailure, ServerIdentity

from .connection import GateConnection
from .proxy_header import send_proxy_header
from .server_tls import NO_AUTHORITIES

if TYPE_CHECKING:
    from sluicegate.tls import ServerStream

    from .own_tls import OwnTls
    from .server_tls import ServerHandshake

__all__ = ["PublishedConnection"]


class PublishedConnection(GateConnection):
    """One connection."""

    __slots__ = ("_has_met_server", "_server_handshake", "own_tls")

    def __init__(self, *args: Any, own_tls: OwnTls | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self.own_tls = own_tls
        #: Of its client; None: it speaks in clear.
        self._has_met_server = False
        #: Whether what is there of the server is inside TLS.
        self._server_handshake: ServerHandshake | None = None

    @property
    @override
    def _announces_client(self) -> bool:
        return super()._announces_client and not self._has_met_server

    @override
    def _open_both(self) -> None:
        raw, publication = self._server_raw, self.plan.rule
        assert isinstance(publication, Publication), "rules are for proxy listeners"
        name = publication.server_tls
        if name is None or raw is None or self._has_met_server:
            super()._open_both()
            return
        # Who the client is stands in front of TLS, where the server looks for it.
        if self._announces_client and not send_proxy_header(self, raw):
            return
        self._server_raw = None
        self._server_handshake = self._service.server_tls.begin(
            raw, name, self.server_address.port, self._on_server, protocols=()
        )
        if self._server_handshake is None:
            self.refuse(NO_AUTHORITIES)

    def _on_server(
        self, stream: ServerStream | None, outcome: ServerIdentity | ServerFailure
    ) -> None:
        self._server_handshake = None
        if isinstance(outcome, ServerFailure):
            if outcome.fault.is_verdict:
                self.refuse(outcome.reason)
            else:
                self.fail(outcome.reason, side=Side.SERVER)
            return
        assert stream is not None, "whoever was verified can be talked to"
        self._server_raw, self._has_met_server = stream.socket, True
        if self._is_still_admitted():
            super()._open_both()

    @override
    def close(self, *, abortive: bool) -> None:
        handshake, self._server_handshake = self._server_handshake, None
        if handshake is not None:
            handshake.stop()
        super().close(abortive=abortive)
