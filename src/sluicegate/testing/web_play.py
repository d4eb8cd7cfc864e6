"""Web filters under test: a request and its response through them, without a network.

``exchange_web`` is the shortest test of a web filter, ``talk_web`` that of one of messages,
``WebPlay`` the one for several exchanges.
The filters run in a whole gate on virtual time, through the gate's own pipeline. The invariant:
what the stages leave behind, or do against their order, fails the test.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from sluicegate.address import SocketAddress
from sluicegate.audit import DecisionRecord, FilterFailureRecord, NoteRecord
from sluicegate.filterapi import Direction, MessageKind, WebFilter, WebMessage
from sluicegate.gate.connection import GateConnection
from sluicegate.gate.web.pipeline import compile_pipeline
from sluicegate.protocols.http1 import Fields, Request, Response

from .network import SimulatedSocket
from .playbook_gate import PlaybookGate, playbook_limits
from .scripted_peer import PlaybookError
from .watched import FilterLike, Sightings, installation_of
from .web_exchange import MemoryExchange
from .web_talk import MemoryTalk

__all__ = ["PlayedExchange", "PlayedTalk", "WebPlay", "exchange_web", "talk_web"]

_SERVER = SocketAddress("10.9.9.9", 80)
_CLIENT = SocketAddress("10.1.1.1", 0)
_REQUEST = b"GET / HTTP/1.1\r\nHost: www.example\r\n\r\n"
_SWITCHING = (
    b"GET /chat HTTP/1.1\r\nHost: www.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"


@dataclasses.dataclass(frozen=True, slots=True)
class PlayedExchange:
    """What became of one exchange."""

    verdict: str
    """``passed``, ``refused``, ``answered`` or ``failed``; empty while it goes on."""
    reason: str
    detail: str
    """What the record has beyond the reason."""
    status: int
    """What the client was told; 0 for nothing, or for a reset behind the beginning of an answer."""
    request: Request | None
    """What the server got; None if it was not asked."""
    request_body: bytes
    response: Response | None
    """What the client got; None for a refusal, whose page is the gate's."""
    body: bytes
    trailers: Fields | None
    """Of the response; None if it did not come to its end."""
    facts: Mapping[str, str | int]
    """What filters added to its record."""
    failures: tuple[str, ...]
    """Why filters failed, as the log has it."""
    notes: tuple[str, ...]
    """What filters noted."""


@dataclasses.dataclass(frozen=True, slots=True)
class PlayedTalk:
    """What became of one WebSocket."""

    verdict: str
    """``passed``, ``refused`` or ``failed``; empty while it goes on."""
    reason: str
    close_code: int
    """With which the gate has closed it; 0: it has not."""
    to_server: tuple[str | bytes, ...]
    """The messages that the server got, without the close."""
    to_client: tuple[str | bytes, ...]
    closes: Mapping[Direction, WebMessage]
    """The closes that went on."""
    facts: Mapping[str, str | int]
    """What filters added to its record."""
    failures: tuple[str, ...]
    """Why filters failed, as the log has it."""
    notes: tuple[str, ...]
    """What filters noted."""


class WebPlay:
    """Web filters in a gate; use it in a ``with`` block.

    Args:
        filters: Instances, or classes; the first one is nearest to the client.
        rule_settings: What the rule says to them (``RuleSettings``).
        limits: Limits to change, by name.
    """

    def __init__(
        self,
        *filters: FilterLike,
        rule_settings: Mapping[str, object] | None = None,
        limits: Mapping[str, Any] | None = None,
    ) -> None:
        errors: list[BaseException] = []
        self.gate = PlaybookGate(limits=playbook_limits(**(limits or {})), filter_errors=errors)
        #: A whole gate; the exchanges belong to one client's connection in it.
        sightings = Sightings(lambda _transfer: 0)
        installed = [installation_of(one, sightings, number) for number, one in enumerate(filters)]
        self.gate.install(installed, rule_settings or {})
        self._clients_end = self._connect()
        self._count = 0

    def _connect(self) -> SimulatedSocket:
        entry = self.gate.publish_web(_SERVER)
        sock = self.gate.network.create_socket(entry.family)
        sock.bind(_CLIENT.to_kernel())
        self.gate.network.connect(sock, entry, lambda _result: None)
        self.gate.settle()
        return sock

    @property
    def connection(self) -> GateConnection:
        """The client's connection.

        Raises:
            PlaybookError: The rule refuses everything: a filter could not be made, or needs what it
                has no hook for.
        """
        found = self._find_connection()
        if found is None:
            # It has been idle for too long; a client would come again.
            self._clients_end.close()
            self._clients_end = self._connect()
            found = self._find_connection()
        if found is None or found.plan.blocked:
            refused = [one.reason for one in self.gate.recorder.of(DecisionRecord)]
            cause = ", ".join(refused) if found is None else found.plan.blocked
            raise PlaybookError(f"the rule refuses everything: {cause}")
        return found

    def _find_connection(self) -> GateConnection | None:
        service = self.gate.service
        found = [service.find_connection(view.connection) for view in service.connections()]
        return next((one for one in found if one is not None), None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        __tracebackhide__ = True
        try:
            self.gate.stop()
            self._clients_end.close()
            self.gate.settle()
            left = self.gate.leftovers()
            if left and error is None:
                raise PlaybookError("the exchanges left something behind:\n" + "\n".join(left))
        finally:
            self.gate.close()

    def exchange(
        self,
        request: bytes = _REQUEST,
        response: bytes = _RESPONSE,
        *,
        piece_bytes: int = 0,
        is_slow: bool = False,
        stall_s: float = 0.0,
        wait_s: float = 0.0,
    ) -> PlayedExchange:
        """Play one exchange.

        Args:
            request: As a client sends it.
            response: As the server answers it; it is sent when the server has the whole request.
            piece_bytes: The size of the pieces in which bodies come; 0: in one.
            is_slow: Whether both ends take one piece at a time.
            stall_s: How long the server waits, in virtual time, before it ends its body.
            wait_s: Virtual time to let pass before what came of it is returned.

        Raises:
            HttpProtocolError: What is sent is no message.
        """
        __tracebackhide__ = True
        gate, service, connection = self.gate, self.gate.service, self.connection
        self._count += 1
        played = MemoryExchange(f"x-{self._count}", connection, connection.plan.rule, service.port)
        played.piece_bytes, played.is_slow, played.stall_s = piece_bytes, is_slow, stall_s
        before = len(gate.recorder.records)

        async def run() -> None:
            played.play(compile_pipeline(service, connection.plan), request, response)

        gate.run(run())
        gate.settle()
        if wait_s or stall_s:
            gate.wait(wait_s or stall_s + 1)
        records = gate.recorder.records[before:]
        got, sent = played.to_server, played.to_client
        return PlayedExchange(
            verdict=played.outcome.verdict,
            reason=played.outcome.reason,
            detail=played.outcome.detail,
            status=played.outcome.status,
            request=got.head,
            request_body=bytes(got.body),
            response=sent.head,
            body=bytes(sent.body),
            trailers=sent.trailers,
            facts=dict(played.facts),
            failures=tuple(one.cause for one in records if isinstance(one, FilterFailureRecord)),
            notes=tuple(one.message for one in records if isinstance(one, NoteRecord)),
        )

    def talk(
        self, *said: WebMessage | str | bytes, request: bytes = _SWITCHING, wait_s: float = 0.0
    ) -> PlayedTalk:
        """Play one WebSocket.

        Args:
            said: What both ends say, in this order; text and bytes are the client's. Whoever says
                no close at all closes at the end, with 1000.
            request: As a client sends it; the server switches.
            wait_s: Virtual time to let pass before what came of it is returned.

        Raises:
            HttpProtocolError: The request is no message.
        """
        __tracebackhide__ = True
        gate, service, connection = self.gate, self.gate.service, self.connection
        self._count += 1
        played = MemoryTalk(f"x-{self._count}", connection, connection.plan.rule, service.port)
        messages = [one if isinstance(one, WebMessage) else _from_client(one) for one in said]
        before = len(gate.recorder.records)

        async def run() -> None:
            played.talk(compile_pipeline(service, connection.plan), request, messages)

        gate.run(run())
        gate.settle()
        if wait_s:
            gate.wait(wait_s)
        records = gate.recorder.records[before:]
        got = {
            direction: tuple(one.payload for one in sent if one.kind is not MessageKind.CLOSE)
            for direction, sent in played.sent.items()
        }
        closes = {
            direction: one
            for direction, sent in played.sent.items()
            for one in sent
            if one.kind is MessageKind.CLOSE
        }
        return PlayedTalk(
            verdict=played.outcome.verdict,
            reason=played.outcome.reason,
            close_code=played.close_code,
            to_server=got[Direction.UPLOAD],
            to_client=got[Direction.DOWNLOAD],
            closes=closes,
            facts=dict(played.facts),
            failures=tuple(one.cause for one in records if isinstance(one, FilterFailureRecord)),
            notes=tuple(one.message for one in records if isinstance(one, NoteRecord)),
        )


def _from_client(payload: str | bytes) -> WebMessage:
    kind = MessageKind.TEXT if isinstance(payload, str) else MessageKind.BINARY
    return WebMessage(Direction.UPLOAD, kind, payload)


def talk_web(
    web_filter: WebFilter | type[WebFilter],
    *said: WebMessage | str | bytes,
    rule_settings: Mapping[str, object] | None = None,
    **how: Any,
) -> PlayedTalk:
    """Let both ends of a WebSocket talk through a web filter and return what became of it.

    Args:
        web_filter: The filter, or its class.
        said: What is said, in this order; text and bytes are the client's.
        rule_settings: What the rule says to the filter.
        how: As for ``WebPlay.talk``.
    """
    __tracebackhide__ = True
    with WebPlay(web_filter, rule_settings=rule_settings) as play:
        return play.talk(*said, **how)


def exchange_web(
    web_filter: WebFilter | type[WebFilter],
    request: bytes = _REQUEST,
    response: bytes = _RESPONSE,
    *,
    rule_settings: Mapping[str, object] | None = None,
    **how: Any,
) -> PlayedExchange:
    """Send one request and its response through a web filter and return what became of them.

    Args:
        web_filter: The filter, or its class.
        request: As a client sends it.
        response: As the server answers it.
        rule_settings: What the rule says to the filter.
        how: As for ``WebPlay.exchange``.
    """
    __tracebackhide__ = True
    with WebPlay(web_filter, rule_settings=rule_settings) as play:
        return play.exchange(request, response, **how)
