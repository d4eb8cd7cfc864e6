"""PublishedTls: clients of published servers that speak TLS with the gate, and its certificates.

``entry`` has one; ``admission`` brings it whom policy lets in, and takes back whose handshake is
done. The invariant: whoever comes back is let in by the policy in force then, too; and what is
offered by ALPN is what the publication serves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from sluicegate.errors import LimitExceeded
from sluicegate.policy import Publication
from sluicegate.tls import HTTP2

from .own_contexts import OwnContexts
from .published_handshake import PublishedHandshake
from .readmission import readmit_client

if TYPE_CHECKING:
    from sluicegate.address import SocketAddress
    from sluicegate.filterapi import User
    from sluicegate.port.backend import RawSocket
    from sluicegate.tls import KeyLog, TlsSettings

    from .flood_count import FloodClient
    from .proxy_header import Announced
    from .registry import RulePlan
    from .service import FirewallService
    from .settings import ListenerSettings, ServiceSettings

__all__ = ["PublishedTls"]


class PublishedTls:
    """Of one service."""

    def __init__(self, service: FirewallService) -> None:
        self.service = service
        self._contexts: OwnContexts[tuple[str, bool]] = OwnContexts()
        #: By listener, and whether requests of HTTP are read inside.
        self._handshakes: dict[PublishedHandshake, None] = {}

    def apply(self, settings: ServiceSettings, key_log: KeyLog | None) -> None:
        """Show what is in the files now, from the next handshake on."""
        self._contexts.apply(_wanted(settings), key_log)

    @property
    def count(self) -> int:
        """Clients that have no connection yet."""
        return len(self._handshakes)

    def begin(
        self,
        listener: ListenerSettings,
        raw: RawSocket,
        client: SocketAddress,
        flood: FloodClient,
        plan: RulePlan,
        announced: Announced | None,
    ) -> bool:
        """Shake hands with a client that a publication lets in; False when it was turned away."""
        service, publication = self.service, plan.rule
        assert isinstance(publication, Publication), "rules are for proxy listeners"
        bound = service.limits.handshakes_max
        context = self._contexts.find((listener.name, publication.is_http))
        if service.entries.handshake_count >= bound or context is None:
            reason = NO_CONTEXT
            if context is not None:
                service.note_limit(LimitExceeded("handshakes_max", bound), client)
                reason = "limit handshakes_max"
            service.refuse_client(
                listener.name, raw, client, reason, announced, rule=publication.name
            )
            return False
        stream = service.entries.tls.listen_to(raw, context)
        handshake = PublishedHandshake(
            self,
            listener.name,
            plan,
            context,
            stream,
            client=client,
            flood=flood,
            announced=announced,
        )
        self._handshakes[handshake] = None
        return True

    def has(self, handshake: PublishedHandshake) -> bool:
        """Tell whether a handshake is still going on."""
        return handshake in self._handshakes

    def forget(self, handshake: PublishedHandshake) -> None:
        """Take a handshake off the table: it is over."""
        self._handshakes.pop(handshake, None)
        self.service.wheel.remove(handshake)

    def go_on(self, handshake: PublishedHandshake, user: User | None) -> None:
        """Let a client go on whose handshake is done; another policy may have come meanwhile."""
        service = self.service
        found = readmit_client(service, handshake.listener_name, handshake.client, handshake.plan)
        if found.plan is None:
            handshake.turn_away(found.why)
            return
        bound = service.limit_reached()
        if bound is not None:
            service.note_limit(bound, handshake.client)
            handshake.turn_away(f"limit {bound.limit}")
            return
        if not service.recorder.is_accepting:
            handshake.turn_away("records cannot be written")
            return
        self.forget(handshake)
        handshake.plan = found.plan
        service.admission.go_on_inside(handshake, user)

    def close(self) -> None:
        """End every client that has no connection yet."""
        for handshake in list(self._handshakes):
            handshake.turn_away("service stopping")


def _wanted(settings: ServiceSettings) -> Iterator[tuple[tuple[str, bool], TlsSettings]]:
    """Yield the TLS of each listener, for each kind of publication that it has."""
    for listener in settings.listeners:
        tls = listener.tls
        if tls is None:
            continue
        published = settings.policy.publications_by_listener.get(listener.name, ())
        for is_http in sorted({one.is_http for one in published}):
            protocols = _OF_HTTP if is_http else ()
            yield (listener.name, is_http), dataclasses.replace(tls, protocols=protocols)


_OF_HTTP: Final = (HTTP2, "http/1.1")

NO_CONTEXT: Final = "tls-not-ready"
"""A publication of another kind has come, and its settings are not in force yet."""
