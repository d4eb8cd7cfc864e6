"""Exchanges: one connection of a playbook, its two ends, and what became of it.

``playbook`` makes them. The invariant: an outcome is what the gate's log says, and an expectation
that fails shows what happened so far.
"""

from __future__ import annotations

import abc
import re
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from typing_extensions import override

from sluicegate.address import SocketAddress
from sluicegate.audit import ConnectionRecord, DecisionRecord, Record
from sluicegate.filterapi import Transfer

from .conversation import Action, Conversation, Step, Who
from .network import SimulatedSocket
from .scripted_peer import PlaybookError, ScriptedPeer

if TYPE_CHECKING:
    from .playbook import Playbook

__all__ = ["Exchange", "Outcomes"]

RecordT = TypeVar("RecordT", bound=Record)


class Outcomes(abc.ABC):
    """What became of something that the gate keeps records of."""

    def __init__(self, play: Playbook) -> None:
        self._play = play

    @property
    def outcome(self) -> str:
        """``open``, ``released`` (ended as its sides wanted), ``refused`` or ``failed``."""
        self._play.settle()
        ended = self._record(ConnectionRecord)
        if ended is not None:
            return ended.outcome
        decided = self._record(DecisionRecord)
        return "refused" if decided is not None and decided.verdict == "denied" else "open"

    @property
    def reason(self) -> str:
        """Why it ended, as the gate's log has it; empty while it is open."""
        self._play.settle()
        record: Any = self._record(ConnectionRecord) or self._record(DecisionRecord)
        return "" if self.outcome == "open" or record is None else record.reason

    def expect_refused(self, reason: str | re.Pattern[str] | None = None) -> None:
        """Expect that a verdict ended it, before or after the server was dialled.

        Raises:
            PlaybookError: It is open, or ended otherwise, or for another reason.
        """
        __tracebackhide__ = True
        self._expect("refused", reason)

    def expect_released(self) -> None:
        """Expect that it ended as its two sides wanted.

        Raises:
            PlaybookError: It is open, or ended otherwise.
        """
        __tracebackhide__ = True
        self._expect("released", None)

    def expect_failed(self, reason: str | re.Pattern[str] | None = None) -> None:
        """Expect that it failed; what filters raised so far is thereby expected, too.

        Raises:
            PlaybookError: It is open, or ended otherwise, or for another reason.
        """
        __tracebackhide__ = True
        self._expect("failed", reason)
        self._play.filter_errors.clear()

    def expect_open(self) -> None:
        """Expect that it has not ended.

        Raises:
            PlaybookError: It has.
        """
        __tracebackhide__ = True
        self._expect("open", None)

    # -- private -----------------------------------------------------------------------------------

    @abc.abstractmethod
    def _is_its(self, record: Record) -> bool:
        """Tell whether a record is about it."""

    @abc.abstractmethod
    def _error(self, message: str) -> PlaybookError:
        """Return what to raise: the message, and what happened so far."""

    def _record(self, kind: type[RecordT]) -> RecordT | None:
        return next((one for one in self._play.records_of(kind) if self._is_its(one)), None)

    def _expect(self, outcome: str, reason: str | re.Pattern[str] | None) -> None:
        __tracebackhide__ = True
        came, why = self.outcome, self.reason
        if isinstance(reason, re.Pattern):
            is_right = reason.fullmatch(why) is not None
        else:
            is_right = reason is None or reason == why
        if came != outcome or not is_right:
            wanted = f"{outcome}: {getattr(reason, 'pattern', reason)}" if reason else outcome
            raise self._error(
                f"the connection is not as expected\n- {wanted}\n+ {came}" + (why and f": {why}")
            )


class Exchange(Outcomes):
    """One connection: its client, its server, and how it ended."""

    def __init__(self, play: Playbook, target: SocketAddress | None = None) -> None:
        super().__init__(play)
        self.target = target
        #: The server's address, as its client asked for it; None where that says nothing.
        self.client = ScriptedPeer("client", play.network, play.settle, self._error)
        self.server = ScriptedPeer("server", play.network, play.settle, self._error)
        self.steps: list[Step] = []
        #: What happened so far, as a conversation has it.
        self._client_address = ""
        self._over: set[str] = set()
        for who, peer in self._peers:
            peer.note_steps(partial(self._note, who), self._note_no_more)

    @property
    def conversation(self) -> Conversation:
        """What happened so far, fit for ``replay`` and for a golden file.

        Raises:
            PlaybookError: Bulk was sent, which nobody keeps.
        """
        if not (self.client.is_noted and self.server.is_noted):
            raise self._error("bulk was sent, which no conversation can hold")
        self.take_note()
        reason = self.reason.encode()
        end = Step("", Action.OUTCOME, reason, outcome=self.outcome)
        return Conversation((*self.steps, end), self._play.offer).settled()

    # -- for the playbook ------------------------------------------------------------------------

    def take_note(self) -> None:
        """Add what has come to the steps (the playbook only)."""
        for who, peer in self._peers:
            if peer.fresh:
                self.steps.append(Step(who, Action.RECEIVES, bytes(peer.fresh)))
                peer.fresh.clear()
            if peer.came_to_end and who not in self._over:
                self._over.add(who)
                self.steps.append(Step(who, Action(f"receives {peer.came_to_end}")))

    def on_client_connected(self, sock: SimulatedSocket) -> None:
        """Take the client's end (the playbook only)."""
        self._client_address = str(sock.local)
        self.client.attach(sock)

    def waits_as_client(self, address: SocketAddress) -> None:
        """Take that the gate will dial the client there (the playbook only)."""
        self._client_address = str(address)

    def waits_for(self, server: SocketAddress) -> bool:
        """Tell whether the gate may still bring this server (the playbook only)."""
        return server == self.target and not self.server.is_connected and self.client.can_act

    def is_of(self, transfer: Transfer) -> bool:
        """Tell whether an object moves in this connection (the playbook only)."""
        return str(transfer.connection.client_address) == self._client_address

    @property
    def _peers(self) -> tuple[tuple[Who, ScriptedPeer], tuple[Who, ScriptedPeer]]:
        return ("server", self.server), ("client", self.client)

    def _note_no_more(self) -> None:
        self.client.note_no_more()
        self.server.note_no_more()

    def _note(self, who: Who, action: str, data: bytes) -> None:
        self.take_note()
        self.steps.append(Step(who, Action(action), data))

    @override
    def _is_its(self, record: Record) -> bool:
        return getattr(record, "client", None) == self._client_address

    @override
    def _error(self, message: str) -> PlaybookError:
        self.take_note()
        so_far = "\n".join(f"  {line}" for step in self.steps for line in str(step).split("\n"))
        error = PlaybookError(f"{message}\nso far:\n{so_far or '  nothing'}")
        for cause in self._play.filter_errors[-1:]:
            error.__cause__ = cause
        return error
