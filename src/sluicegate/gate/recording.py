"""Recording: what the gate writes about decisions, ends, failures and notes.

``service`` tells it what happened; the recorder takes the records. The invariant: a record is
complete when it is written, and what most connections do not have costs nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Literal

from sluicegate.address import SocketAddress
from sluicegate.audit import (
    ConnectionRecord,
    DecisionRecord,
    FilterFailureRecord,
    LookupRecord,
    NoteRecord,
    Recorder,
    SessionRecord,
)
from sluicegate.clock import Clock
from sluicegate.errors import errno_name
from sluicegate.filterapi import EntryMode, Outcome
from sluicegate.identifiers import IdentifierSource
from sluicegate.names import LookupReason
from sluicegate.names.resolver import Asked
from sluicegate.port import CompletionPort

from .registry import Installed
from .settings import Recorded
from .steps import StepRecords

if TYPE_CHECKING:
    from .asked import AskedConnection
    from .connection import GateConnection
    from .session import GateSession
    from .udp_asked import AskedUdpConnection

__all__ = ["GateRecords"]


class GateRecords:
    """Makes the records of one worker's gate."""

    __slots__ = ("_clock", "_connection_ids", "_port", "_recorder", "learned", "recorded", "steps")

    def __init__(
        self,
        recorder: Recorder,
        port: CompletionPort,
        clock: Clock,
        connection_ids: IdentifierSource,
    ) -> None:
        self._recorder = recorder
        self._port = port
        self._clock = clock
        self._connection_ids = connection_ids
        self.recorded = Recorded()
        #: What is recorded beside decisions, and what became of them.
        self.steps = StepRecords(recorder, clock)
        #: Of connections that are traced.
        self.learned: Counter[str] = Counter()
        #: Connections that passed to be learned from, by the name of their rule.

    def apply(self, recorded: Recorded) -> None:
        """Take what is to be recorded from now on."""
        self.recorded = recorded
        self.steps.ratio, self.steps.tells_servers = recorded.trace_ratio, recorded.tells_servers

    def decision(
        self, connection: GateConnection, verdict: Literal["allowed", "denied"], reason: str
    ) -> None:
        """Record what was decided about a connection before it is dialled."""
        expected, announced = connection.expected, connection.announced
        emulated_by = connection.filter_names()[-1] if connection.is_emulated else ""
        session = connection.session
        record = DecisionRecord(
            time=self._port.wall,
            connection=connection.id,
            emulated_by=emulated_by,
            session=session.id,
            client=connection.client_address.text,
            listener=connection.listener_name,
            verdict=verdict,
            reason=reason,
            policy=connection.plan.policy_hash,
            rule=connection.plan.rule.name,
            target=connection.asked or connection.server_address.text,
            primary=expected.primary.id if expected is not None else "",
            peer=str(announced.peer) if announced is not None else "",
        )
        if connection.entry_mode is not _PUBLISHED:
            record.entry = connection.entry_mode
            record.addresses = connection.found
            if connection.entry_protocol == "bind":
                record.protocol = "bind"
        if session.user is not None:
            record.user = session.user.name
        self._recorder.write(record)

    def refusal(
        self,
        listener_name: str,
        client: SocketAddress,
        reason: str,
        *,
        policy: str,
        rule: str = "",
        peer: SocketAddress | None = None,
    ) -> None:
        """Record a client that was turned away before it had a connection."""
        self._recorder.write(
            DecisionRecord(
                time=self._clock.wall(),
                connection=self._connection_ids.next(),
                session="",
                client=str(client),
                listener=listener_name,
                verdict="denied",
                reason=reason,
                policy=policy,
                rule=rule,
                peer=str(peer) if peer is not None else "",
            )
        )

    def end(self, connection: GateConnection, counts: tuple[int, int, int]) -> None:
        """Record a connection's end.

        Args:
            connection: That has ended.
            counts: Bytes to the server, to the client, and spliced.
        """
        to_server, to_client, spliced = counts
        session, port, outcome = connection.session, self._port, connection.outcome
        is_released, connect_s = outcome is Outcome.RELEASED, connection.connect_s
        record = ConnectionRecord(
            time=port.wall,
            connection=connection.id,
            session=session.id,
            client=connection.client_address.text,
            listener=connection.listener_name,
            rule=connection.plan.rule.name,
            server=connection.server_address.text,
            started=connection.started_wall,
            # Whole microseconds; ``round`` would cost three times as much.
            duration_s=int((port.now - connection.started) * 1e6) / 1e6,
            outcome="released" if is_released else outcome.value,
            reason=connection.reason,
            connect_ms=int(connect_s * 1e6) / 1e3 if connect_s > 0 else 0.0,
            bytes_to_server=to_server,
            bytes_to_client=to_client,
        )
        # What most connections have not: the struct's defaults cost nothing.
        if spliced:
            record.bytes_spliced = spliced
        if filters := connection.filter_names():
            record.filters = filters
        if connection.error_side is not None:
            record.side = connection.error_side
        if connection.error:
            record.error = errno_name(connection.error)
        if connection.expected is not None:
            record.primary = connection.expected.primary.id
        _describe_tls(connection, record)
        if connection.entry_mode is not _PUBLISHED:
            record.entry = connection.entry_mode
            record.host = connection.host_name
        if session.user is not None:
            record.user = session.user.name
        if connection.announced is not None:
            record.peer = str(connection.announced.peer)
        self._recorder.write(record)

    def session_began(self, session: GateSession) -> None:
        """Record a session that has just been made, if they are recorded."""
        if self.recorded.sessions:
            self._recorder.write(self._session(session, "began"))

    def session_ended(self, session: GateSession) -> None:
        """Record a session that is about to end, if they are recorded."""
        if self.recorded.sessions:
            record = self._session(session, "ended")
            record.duration_s = int((self._port.now - session.started) * 1e3) / 1e3
            record.filters = session.filter_names
            self._recorder.write(record)

    def _session(self, session: GateSession, event: Literal["began", "ended"]) -> SessionRecord:
        return SessionRecord(
            time=self._clock.wall(),
            event=event,
            session=session.id,
            client=session.client_address.host,
            user=session.user.name if session.user is not None else "",
        )

    def lookup(self, asked: Asked) -> None:
        """Record a question that DNS servers were asked, if they are recorded."""
        if not self.recorded.lookups:
            return
        answer, question = asked.answer, asked.question
        record = LookupRecord(
            time=self._clock.wall(),
            host=question.name,
            question=question.record_type.name,
            result="failed",
            reason=asked.reason or "",
            cause=asked.detail,
            duration_ms=int(asked.duration_s * 1e6) / 1e3,
            ttl_s=asked.ttl_s,
        )
        if answer is not None:
            is_found = bool(answer.addresses or answer.names)
            record.result = "found" if is_found else "none"
            if not is_found:
                record.reason = _NO_ADDRESS if answer.exists else _NO_NAME
            record.addresses = tuple(map(str, answer.addresses))
            record.aliases = tuple(one.text for one in answer.aliases)
            record.names = tuple(one.text for one in answer.names)
        self._recorder.write(record)

    def filter_failure(
        self, installed: Installed, error: BaseException, *, is_refused: bool = False
    ) -> None:
        """Record a filter's failure outside a data path."""
        is_bypassed = installed.is_bypassed_on_failure and not is_refused
        self._recorder.write(
            FilterFailureRecord(
                time=self._clock.wall(),
                filter=installed.name,
                cause=_describe(error),
                action="bypassed" if is_bypassed else "refused",
            )
        )

    def notice_failure(self, name: str, error: BaseException) -> None:
        """Record that somebody failed who was told of what concerns no client."""
        self._recorder.write(
            FilterFailureRecord(
                time=self._clock.wall(), filter=name, cause=_describe(error), action="bypassed"
            )
        )

    def connection_filter_failure(
        self, connection: AskedConnection | AskedUdpConnection, name: str, error: BaseException
    ) -> None:
        """Record a data filter's failure, which ends its connection."""
        self._recorder.write(
            FilterFailureRecord(
                time=self._clock.wall(),
                filter=name,
                cause=_describe(error),
                action="refused",
                connection=connection.id,
                session=connection.session.id,
            )
        )

    def note(self, filter_name: str, message: str, facts: Mapping[str, str | int]) -> None:
        """Record what a filter has to say."""
        self._recorder.write(
            NoteRecord(
                time=self._clock.wall(), filter=filter_name, message=message, facts=dict(facts)
            )
        )


# Globals are found faster than attributes of a class.
_PUBLISHED: Final = EntryMode.PUBLISHED
_NO_ADDRESS: Final = LookupReason.NO_ADDRESS.value
_NO_NAME: Final = LookupReason.NO_SUCH_NAME.value


def _describe_tls(connection: GateConnection, record: ConnectionRecord) -> None:
    if connection.hello is not None:
        record.sni = connection.hello.server_name
    if connection.opened is not None:
        connection.opened.describe(record)
    if connection.own_tls is not None:
        connection.own_tls.describe(record)


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
