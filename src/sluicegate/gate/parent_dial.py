"""ParentDial: a way to a host through a parent proxy: dialled, verified inside TLS, and asked.

``opening_connection`` has one where a parent serves the host that it opens. The invariant: what is
handed out leads to the host that was judged, by the parent that the operator wrote; whoever gives
up is told nothing more, and nothing is left open.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from sluicegate.names import JudgedAddress
from sluicegate.tls import ServerFailure, ServerIdentity

from .dial_race import DialRace, PrepareDial
from .parent_tunnel import ParentTunnel
from .server_tls import NO_AUTHORITIES

if TYPE_CHECKING:
    from sluicegate.address import SocketAddress
    from sluicegate.names import CanonicalHost
    from sluicegate.port.backend import RawSocket
    from sluicegate.tls import ServerStream

    from .server_tls import ServerHandshake
    from .service import FirewallService
    from .web.parent_proxy import ParentProxy

__all__ = ["ParentDial", "ParentDialEnd"]

ParentDialEnd: TypeAlias = Callable[["RawSocket | None", str, int], None]
"""Told once, later: the tunnel; or None, with why there is none, and the errno of a connect."""


class ParentDial:
    """One dial."""

    __slots__ = ("_done", "_host", "_parent", "_service", "_step", "_target_port")

    def __init__(
        self,
        service: FirewallService,
        parent: ParentProxy,
        host: CanonicalHost,
        target_port: int,
        done: ParentDialEnd,
    ) -> None:
        self._service = service
        self._parent = parent
        self._host = host
        self._target_port = target_port
        self._done = done
        self._step: DialRace | ServerHandshake | ParentTunnel | None = None

    def start(self, prepare: PrepareDial | None) -> None:
        """Dial the parent.

        Args:
            prepare: As of a race.
        """
        address = self._parent.address
        judged = JudgedAddress(self._service.entries.resolver.classifier.classify(address.ip))
        self._step = race = DialRace(
            self._service.port,
            [judged],
            address.port,
            lambda _address: None,  # the operator wrote it
            self._on_race_over,
            prepare,
        )
        race.start()

    def stop(self) -> None:
        """Give up."""
        step, self._step = self._step, None
        if step is not None:
            step.stop()

    def _on_race_over(self, raw: RawSocket | None, _address: SocketAddress, error: int) -> None:
        self._step = None
        if raw is None:
            self._done(None, "", error)
        elif self._parent.name is None:
            self._ask(raw)
        else:
            name, port = self._parent.name, self._parent.address.port
            self._step = self._service.server_tls.begin(raw, name, port, self._on_met)
            if self._step is None:
                self._done(None, NO_AUTHORITIES, 0)

    def _on_met(self, stream: ServerStream | None, outcome: ServerIdentity | ServerFailure) -> None:
        self._step = None
        if isinstance(outcome, ServerFailure):
            self._done(None, outcome.reason, 0)
        else:
            assert stream is not None, "whoever was verified can be talked to"
            self._ask(stream.socket)

    def _ask(self, raw: RawSocket) -> None:
        self._step = tunnel = ParentTunnel(
            self._service.port, raw, self._host, self._target_port, self._on_answer
        )
        tunnel.begin()

    def _on_answer(self, raw: RawSocket | None, reason: str) -> None:
        self._step = None
        self._done(raw, reason, 0)
