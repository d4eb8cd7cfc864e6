"""ExchangeFacts: what is known of one exchange, and what every part of it may ask of the others.

``admission``, ``routing`` and ``exchange`` stand on it, one on the other. The invariant: it decides
nothing.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sluicegate.errors import LimitExceeded
from sluicegate.filterapi import Outcome
from sluicegate.protocols.http1 import Authority, Request, Response
from sluicegate.protocols.http1 import Target as HttpTarget

from .body_stage import BodyStage

if TYPE_CHECKING:
    from sluicegate.filterapi import User
    from sluicegate.gate.dial_race import DialRace
    from sluicegate.gate.parent_tunnel import ParentTunnel
    from sluicegate.gate.registry import RulePlan
    from sluicegate.gate.server_tls import ServerHandshake
    from sluicegate.gate.session import GateSession
    from sluicegate.gate.transfer import TransferService
    from sluicegate.policy import AnyRule, DestinationDecision
    from sluicegate.protocols.websocket import Handshake

    from .body_stage import OwnSource, ResponseSink
    from .client_side import ClientSide
    from .connection import WebConnection
    from .held_body import AskedObject
    from .late_origin import LateOrigin
    from .origin_pool import PoolKey
    from .pipeline import ExchangePart
    from .server_side import ServerSide
    from .targets import Target
    from .websocket_relay import WebSocketRelay

__all__ = ["ExchangeFacts", "ExchangeOutcome"]


class ExchangeOutcome(NamedTuple):
    """How one ended (``filterapi.WebOutcome``)."""

    verdict: str
    reason: str
    status: int
    bytes_to_server: int
    bytes_to_client: int


class ExchangeFacts(abc.ABC):
    """What is known of one exchange."""

    __slots__ = (
        "_asked",
        "_event_asked",
        "_handshake",
        "_kept",
        "_late_origin",
        "_own_source",
        "_part",
        "_race",
        "_request_stages",
        "_response_stages",
        "_server_handshake",
        "_tunnel",
        "answered_by_gate",
        "bytes_to_client",
        "bytes_to_server",
        "client",
        "connection",
        "ended",
        "ending",
        "facts",
        "has_response_stages",
        "held",
        "id",
        "is_answered",
        "is_over",
        "is_repeated",
        "is_request_sent",
        "is_response_whole",
        "is_secure",
        "last_active",
        "needs_stream",
        "origin",
        "reason",
        "refuser",
        "relay",
        "request",
        "response",
        "server",
        "session",
        "started",
        "status",
        "target",
        "verdict",
        "waits_for_descriptor",
        "waits_for_other",
    )

    def __init__(
        self, connection: WebConnection, client: ClientSide, request: Request, number: int
    ) -> None:
        self.id = f"{connection.carrier_id}-{number:x}"
        #: The identifier in records; refusals quote it.
        self.connection = connection
        #: The client's; its ``rule`` is this exchange's while this lasts.
        self.client = client
        self.request = request
        #: As received, until a pipeline changes it; what goes on is made from it.
        self.response: Response | None = None
        #: The final one, once its head was read.
        self.session: GateSession = connection.session
        self.target: Target | None = None
        #: What policy made of it; None before, and on a published server.
        self.origin: ServerSide | None = None
        self.server = ""
        self.bytes_to_server = self.bytes_to_client = self.status = 0
        self.verdict = "denied"
        self.reason = ""
        #: Of the decision.
        self.refuser = ""
        #: Name of the rule that refuses it.
        self.ending, self.ended = _RELEASED, ""
        #: Why it did not end as it was decided.
        self.answered_by_gate = False
        self.is_answered = False
        #: Whether anything of an answer was sent to the client.
        self.is_over = False
        #: Whether it has ended: nothing that is called on it has an effect any more.
        self.is_request_sent = False
        #: Whether the server has been sent all of the request.
        self.is_response_whole = False
        self.has_response_stages = False
        self.last_active = self.started = connection.port.now
        self.facts: dict[str, str | int] = {}
        #: What filters add to its record.
        self.held: AskedObject | None = None
        #: What ``held_body`` knows of it between its request and its response.
        self.is_secure = False
        #: Whether what it asks for is ``https``: its server is spoken to inside TLS, and verified.
        self.is_repeated = self.needs_stream = False
        #: Whether it was sent a second time; whether its server speaks nothing but HTTP/2.
        self._event_asked = False
        self._handshake: Handshake | None = None
        #: Of a WebSocket whose messages are to be read.
        self.relay: WebSocketRelay | None = None
        #: What reads them, once the server has switched.
        self._race: DialRace | None = None
        self.waits_for_descriptor = False
        self.waits_for_other: bool | None = None
        #: Whether it waits for another one's dial; None before: it does so once at most.
        #: Whether its dial is to be made anew when there is one.
        self._server_handshake: ServerHandshake | None = None
        self._tunnel: ParentTunnel | None = None
        #: That a parent is asked for.
        self._part: ExchangePart | None = None
        self._request_stages: Sequence[BodyStage[Request]] = ()
        self._response_stages: Sequence[BodyStage[Response]] = ()
        self._late_origin: LateOrigin | None = None
        self._own_source: OwnSource | None = None
        #: Where an answer of the gate's own comes from, piece by piece.
        self._asked: tuple[bytes, HttpTarget, Authority | None] | None = None
        #: The client's method, target and host, before filters saw the request.
        self._kept = b""
        #: The body of a whole response, while a filter thinks about its head.

    # -- what it is about ----------------------------------------------------------------------

    @property
    def plan(self) -> RulePlan:
        """What runs for it."""
        return self.connection.plan

    @property
    def rule(self) -> AnyRule:
        """Which rule lets it in."""
        return self.connection.plan.rule

    @property
    def decision(self) -> DestinationDecision | None:
        """What policy decided; None on a published server, which has no rules of destinations."""
        return None if self.target is None else self.target.decision

    @property
    def user(self) -> User | None:
        """Who the client proved to be."""
        return self.session.user

    @property
    def scheme(self) -> str:
        """``http`` or ``https``."""
        return "https" if self.is_secure else "http"

    @property
    def host(self) -> str:
        """The canonical host that was judged, without brackets."""
        connection = self.connection
        return connection.published.host if self.target is None else self.target.host.text

    @property
    def port(self) -> int:
        """The port that was judged."""
        connection = self.connection
        return connection.published.port if self.target is None else self.target.port

    @property
    def pool_key(self) -> PoolKey:
        """What connections to servers have to be for that may serve it."""
        connection, target, inside = self.connection, self.target, self.connection.inside
        if inside is not None and inside.pool_key is not None:
            return inside.pool_key
        return connection.published_key if target is None else target.pool_key

    @property
    def transfers(self) -> TransferService[Any]:
        """Who holds objects."""
        return self.connection.service.transfers

    @property
    def outcome(self) -> ExchangeOutcome:
        """How it ended, as filters are told; when it has ended."""
        verdict = _VERDICTS[self.ending]
        if self.answered_by_gate and verdict == "passed":
            verdict = "answered"
        why = self.ended or self.reason
        return ExchangeOutcome(
            verdict, why, self.status, self.bytes_to_server, self.bytes_to_client
        )

    @property
    def is_dialling(self) -> bool:
        """Whether a server is being connected to."""
        return (
            self._race is not None
            or self._server_handshake is not None
            or self._tunnel is not None
            or self.waits_for_descriptor
            or self.waits_for_other is True
        )

    @property
    def is_server_awaited(self) -> bool:
        """Whether the server is to say something, and nothing keeps it from it."""
        origin = self.origin
        return origin is not None and self.is_request_sent and not origin.is_stopped

    @property
    def is_server_measured(self) -> bool:
        """Whether the server is to take the request, or to send a body whose length is known."""
        origin = self.origin
        if origin is None:
            return False
        return origin.wire.is_blocked or (origin.has_length and not origin.is_stopped)

    def touch(self) -> None:
        """Note that something moved."""
        self.last_active = self.connection.port.now

    # -- how it ends ---------------------------------------------------------------------------

    @abc.abstractmethod
    def answer(self, response: Response, body: bytes = b"") -> None:
        """Answer in the server's place."""

    @abc.abstractmethod
    def answer_from(self, source: OwnSource) -> ResponseSink:
        """Answer in the server's place with what comes from somewhere."""

    @abc.abstractmethod
    def refuse(self, status: int, reason: str, *, detail: str = "") -> None:
        """End it by a verdict."""

    @abc.abstractmethod
    def fail(self, status: int, reason: str) -> None:
        """End it as failed."""

    @abc.abstractmethod
    def reset(self, reason: str) -> None:
        """End it by a verdict, and the connection without a word."""

    @abc.abstractmethod
    def on_limit(self, error: LimitExceeded) -> None:
        """End it at a limit."""


_RELEASED: Final = Outcome.RELEASED
_VERDICTS: Final = {
    Outcome.RELEASED: "passed",
    Outcome.REFUSED: "refused",
    Outcome.FAILED: "failed",
}
