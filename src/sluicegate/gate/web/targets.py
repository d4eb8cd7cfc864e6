"""Targets: what was decided on a request, and found for its host, kept for the next one like it.

Clients ask for the same few hosts again and again; exchanges look here before they decide and
resolve. The invariant: what is kept is what deciding, looking up and judging would give now: it is
forgotten whole with everything else that was decided (``known_destinations``), and what was found
for a host when its answer expires.

What a request shows beyond its host (method, path) is part of the question only on listeners one of
whose rules looks at it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Final, TypeAlias

from sluicegate.errors import ProtocolError
from sluicegate.filterapi import User
from sluicegate.names import CanonicalHost
from sluicegate.policy import DestinationDecision, DestinationRequest, HttpPart, canonical_path
from sluicegate.policy.destinations import decide_destination
from sluicegate.policy.request import Level
from sluicegate.protocols.entry import Destination as NamedDestination
from sluicegate.web_limits import WEB_KNOWN_MAX

from .parent_proxy import ParentProxy, find_parent

if TYPE_CHECKING:
    from sluicegate.address import SocketAddress
    from sluicegate.gate.asker import Asker
    from sluicegate.gate.registry import RulePlan
    from sluicegate.gate.service import FirewallService
    from sluicegate.names import Destination
    from sluicegate.protocols.http1 import Authority, Request

    from .origin_pool import PoolKey

__all__ = ["Target", "Targets", "path_of"]

TargetKey: TypeAlias = tuple[str, str, User | None, "Authority", bool, tuple[bytes, bytes]]
"""Listener, client, user, host and port as they came, whether by ``https``; method and path where
rules look at them."""


class Target:
    """What is known of one kind of request; immutable but for what is found for its host."""

    __slots__ = (
        "addresses",
        "asked",
        "asks_about_content",
        "decision",
        "destination",
        "epoch",
        "found",
        "host",
        "is_plain",
        "is_secure",
        "parent",
        "plan",
        "pool_key",
        "port",
        "request",
        "site",
    )

    def __init__(
        self,
        request: DestinationRequest,
        decision: DestinationDecision,
        plan: RulePlan | None,
        pool_key: PoolKey,
        epoch: int,
        *,
        is_secure: bool = False,
        parent: ParentProxy | None = None,
    ) -> None:
        self.is_secure = is_secure
        #: Whether its scheme is ``https``: the server is spoken to inside TLS, and verified.
        self.parent = parent
        #: The proxy that its requests are sent on to, or through, instead of to the host.
        self.epoch = epoch
        #: Under which it was decided on; nothing is judged anew while it is the present one.
        self.request = request
        #: What policy was asked.
        self.asked: Authority | None = None
        #: The host and port as they came, where nothing else of a request is looked at.
        self.host: CanonicalHost = request.host
        self.port = request.port
        self.decision = decision
        self.plan = plan
        #: None where no rule allows it.
        self.pool_key = pool_key
        self.is_plain = plan is not None and plan.is_plain
        self.asks_about_content = bool(decision.asks_again & Level.TRANSFER)
        self.destination: Destination | None = None
        #: None until it was looked up.
        self.addresses: Collection[SocketAddress] = ()
        #: Those of it that may be dialled.
        self.found: tuple[str, ...] = ()
        shown = f"[{self.host}]" if ":" in self.host.text else self.host.text
        self.site = f"{'https' if is_secure else 'http'}://{shown}"
        if self.port != _PORTS[is_secure]:
            self.site += f":{self.port}"
        #: As records write it.

    @property
    def is_sent_on(self) -> bool:
        """Whether it is a parent that reads its requests; a tunnel leads to the server itself."""
        return self.parent is not None and not self.is_secure

    def copy(self) -> Target:
        """Return the same decision, for which nothing was found yet."""
        plan, key = self.plan, self.pool_key
        return Target(
            self.request,
            self.decision,
            plan,
            key,
            self.epoch,
            is_secure=self.is_secure,
            parent=self.parent,
        )

    def take_found(self, destination: Destination) -> None:
        """Note what was found for the host."""
        self.destination = destination
        self.found = destination.found
        self.addresses = (
            frozenset(one.socket_address(destination.port) for one in destination.dialable)
            if self.parent is None
            else (self.parent.address,)
        )


class Targets:
    """The targets of one worker."""

    __slots__ = ("_epoch", "_known", "_looked_at", "_service")

    def __init__(self, service: FirewallService) -> None:
        self._service = service
        self._known: dict[TargetKey, Target] = {}
        self._looked_at: dict[str, bool] = {}
        #: By listener, whether one of its rules looks at methods, paths or URLs.
        self._epoch = -1

    def find_again(
        self, last: Target | None, user: User | None, authority: Authority, *, is_secure: bool
    ) -> Target | None:
        """Return what was found for a client's last request, if it is what would be found now.

        Args:
            last: Of this very client and listener.
            user: Who the client is for rules.
            authority: Where it wants to go.
            is_secure: Whether by ``https``.
        """
        if (
            last is None
            or last.asked != authority
            or last.is_secure is not is_secure
            or last.epoch != self._service.entries.known.epoch
            or last.request.user is not user
        ):
            return None
        destination = last.destination
        is_stale = destination is not None and destination.is_expired(self._service.port.now)
        return None if is_stale else last

    def find(
        self, asker: Asker, request: Request, authority: Authority, *, is_secure: bool
    ) -> Target:
        """Decide on a request, or remember what was decided.

        Raises:
            HostRefused: The host has no reading.
        """
        service = self._service
        epoch = service.entries.known.epoch
        if epoch != self._epoch:
            self._known.clear()
            self._looked_at.clear()
            self._epoch = epoch
        listener = asker.listener_name
        looks_at = self._looked_at.get(listener)
        if looks_at is None:
            looks_at = self._looked_at[listener] = _looks_at_requests(service, listener)
        shown = (request.method, path_of(request)) if looks_at else _NOTHING
        key = (listener, asker.client.host, asker.user, authority, is_secure, shown)
        target = self._known.get(key)
        if target is None:
            port = authority.port or _PORTS[is_secure]
            host = self._host_of(authority, port)
            target = self.decide(asker, request, host, port, is_secure=is_secure)
            if len(self._known) >= WEB_KNOWN_MAX:
                self._known.clear()
            self._known[key] = target
            target.asked = None if looks_at else authority
        elif target.destination is not None and target.destination.is_expired(service.port.now):
            target.destination, target.addresses = None, ()
        return target

    def decide(
        self,
        asker: Asker,
        request: Request,
        host: CanonicalHost,
        port: int,
        *,
        is_secure: bool,
    ) -> Target:
        """Decide on a request, whatever was decided before."""
        service = self._service
        index = service.policy.rules_of(asker.listener_name)
        question = DestinationRequest(
            asker.client.ip,
            host,
            port,
            asker.user,
            http=_shown_by(
                request,
                is_secure=is_secure,
                looks_at=_looks_at_requests(service, asker.listener_name),
            ),
            asks_again=Level.TRANSFER,
        )
        decision = decide_destination(
            index, question, service.port.wall, service.entries.is_own_listener
        )
        rule = decision.rule
        plan = service.plan_of(rule) if decision.is_allowed and rule is not None else None
        # With network rules, connections for one client may come from another address.
        way = asker.client.host if service.policy.network_relations.rules else ""
        parent = find_parent(service.web.parents, host)
        if parent is not None:
            inside = "" if parent.name is None else f" inside TLS as {parent.name}"
            way = f"{way} by {parent.address}{inside}"
        if is_secure:
            way = f"{way} inside TLS"
        return Target(
            question,
            decision,
            plan,
            (host.text, port, way),
            service.entries.known.epoch,
            is_secure=is_secure,
            parent=parent,
        )

    def _host_of(self, authority: Authority, port: int) -> CanonicalHost:
        named = NamedDestination(authority.kind, authority.host, port)
        return self._service.entries.host_of(named)


def path_of(request: Request) -> bytes:
    """Return the path as it came, without its query."""
    return request.target.path.partition(b"?")[0]


def _looks_at_requests(service: FirewallService, listener: str) -> bool:
    """Tell whether a rule of a listener looks at methods, paths or URLs."""
    index = service.policy.rules_of(listener)
    return index is not None and any(one.rule.looks_at_requests for one in index.rules)


def _shown_by(request: Request, *, is_secure: bool, looks_at: bool) -> HttpPart | None:
    """Return what rules see of a request; None where servers may read its path in several ways.

    Rules that look at requests then neither let it in, nor let it past them. Where none looks,
    every path is the same.
    """
    method, scheme = request.method.decode("ascii"), "https" if is_secure else "http"
    if not looks_at:
        return HttpPart(method, "/", scheme)
    try:
        path = canonical_path(request.target.path.decode("ascii") or "/")
        return HttpPart(method, path, scheme)
    except ProtocolError:
        return None


_PORTS: Final = (80, 443)
"""Without and with TLS, where nothing else is written."""
_NOTHING: Final = (b"", b"")
