"""ReadConnection: a connection of a proxy listener whose client's first bytes the gate reads.

``opening_connection`` and ``clear_connection`` are its kinds: the first reads TLS, the second HTTP
in the clear. What is inside goes on as a web connection of the same name. The invariant: the
client's socket has one owner at any time, and what was read of it is given on whole.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from typing_extensions import override

from sluicegate.errors import Side
from sluicegate.filterapi import Outcome
from sluicegate.policy.tls_check import TLS_PORTS, OddAnswer

from .clear_reading import ClearReading
from .entry_connection import EntryConnection
from .last_words import LastWords
from .registry import BYTES_UNSEEN
from .state import State

if TYPE_CHECKING:
    from sluicegate.names import CanonicalHost
    from sluicegate.port.given_away import GivenAway

    from .entry_handshake import EntryHandshake
    from .registry import RulePlan
    from .service import FirewallService
    from .session import GateSession
    from .settings import EntrySettings

__all__ = ["ACCESS_DENIED", "ReadConnection", "may_read_clear"]


def may_read_clear(plan: RulePlan, port: int) -> bool:
    """Tell whether a tunnel to a port may pass as HTTP in the clear, and only as that.

    So it is where filters of the rule are for messages of HTTP, which a tunnel's bytes show to
    nobody; not where they look at bytes besides, nor where nothing but TLS is spoken.
    """
    if not plan.bytes_blocked or plan.blocked or plan.connection:
        return False
    check = plan.tls
    if check is None:
        return port not in TLS_PORTS
    return not check.covers(port) or check.not_tls is OddAnswer.ALLOW


class ReadConnection(EntryConnection):
    """One connection whose first bytes are read."""

    __slots__ = ("_reading", "_words", "entry")

    def __init__(
        self,
        service: FirewallService,
        session: GateSession,
        plan: RulePlan,
        handshake: EntryHandshake,
        host: CanonicalHost,
        target_port: int,
        *,
        asked: str = "",
    ) -> None:
        super().__init__(service, session, plan, handshake, host, target_port, asked=asked)
        self.entry: EntrySettings = handshake.entry
        self._reading: ClearReading | None = None
        #: While it is to be found out whether what is spoken in the clear is HTTP.
        self._words: LastWords | None = None

    @property
    @override
    def _bytes_objection(self) -> str:
        # What filters of messages are for is inside; of a tunnel, that is asked again.
        return self.plan.blocked

    @property
    @override
    def _must_be_seen(self) -> bool:
        return False

    # -- coming up -------------------------------------------------------------------------------

    def _grant(self, side: Side, then: Callable[[], None]) -> None:
        """Tell the client that its tunnel is there, though nobody was dialled for it.

        Args:
            side: Who is at fault if the answer cannot be sent.
            then: Goes on, when the answer has been sent.
        """
        handshake = self._handshake
        assert handshake is not None, "the client waits for its answer"
        self.state = State.DIALLING
        self._dialled_side = side
        self._dial_began = now = self.port.now
        handshake.send(handshake.granted, then)
        if self._handshake is not None and not self.is_closing:  # the answer is on its way
            self._service.wheel.add(self, now + self._service.limits.connect_timeout_s)

    # -- what the client said --------------------------------------------------------------------

    def take_ahead(self, given: GivenAway) -> bytes:
        """Take what the client sent ahead off its account."""
        if not given.ahead:
            return b""
        ahead, given.ahead = given.ahead, deque()
        early = bytearray()
        for buffer, start, length in ahead:
            early += buffer.view[start : start + length]
            self.blockage.give_up(self.session, buffer)
            buffer.release()
        return bytes(early)

    def read_in_clear(self, held: bytes = b"") -> None:
        """Find out whether a client whose tunnel is there speaks HTTP.

        Args:
            held: What was read of it before.
        """
        self._reading = reading = ClearReading(self)
        self._service.wheel.add(self, self.due())
        self._service.wheel.hasten(self, reading.due)
        reading.begin(held)

    def go_on_as_web(self, early: bytes) -> None:
        """Let what the client speaks be judged as web traffic, from its first byte."""
        if self._is_still_admitted():
            self._service.web.admit_clear(self, early)

    def refuse_in_clear(self, *, is_tls: bool) -> None:
        """Refuse what no filter of the rule would see; a client that speaks TLS is told in it."""
        reason = self.plan.bytes_blocked or BYTES_UNSEEN
        if is_tls:
            self.end_by_alert(Outcome.REFUSED, reason, ACCESS_DENIED)
        else:
            self.refuse(reason)

    def give_client(self) -> GivenAway:
        """Give its client to another connection of the same name, which it is no longer."""
        client = self.client_given
        assert client is not None, "the client was taken over"
        self.client_given = self._client_raw = self._reading = None
        self.is_closing = True
        self.state = State.CLOSED
        self._service.wheel.remove(self)
        if self._connect_op is not None:
            self.port.operations.give(self._connect_op)
            self._connect_op = None
        return client

    # -- the end ---------------------------------------------------------------------------------

    def end_by_alert(self, outcome: Outcome, reason: str, description: int) -> None:
        """End it, and tell the client in TLS's own words, if it waits for an answer to its hello.

        Args:
            outcome: Refused, or failed.
            reason: For the record.
            description: Of the alert (RFC 8446 section 6).
        """
        given = self.client_given
        if given is not None and given.raw is self._client_raw and not self.is_closing:
            self.client_given = self._client_raw = None
            alert = bytes((_ALERT, 3, 3, 0, 2, _FATAL, description))
            self._words = LastWords(
                self.port,
                given.raw,
                alert,
                self.join,
                given.receive_op,
                has_heard_end=given.ended,
            )
            self._words.start()
        self._end(outcome, reason)

    @override
    def close(self, *, abortive: bool) -> None:
        if not self.is_closing:
            self._reading = None  # (else both were a circle)
            super().close(abortive=abortive)

    @override
    def join(self) -> None:
        words = self._words
        if words is None or not words.is_busy:
            super().join()

    @override
    def _finish(self) -> None:
        self._words = None
        super()._finish()

    # -- deadlines -------------------------------------------------------------------------------

    @property
    def _step(self) -> _Step | None:
        """What it waits for before it is what it will be; None: nothing."""
        return self._reading

    @override
    def due(self) -> float:
        step, deadlines = self._step, self.plan.deadlines
        if step is None:
            return super().due()
        return step.due if deadlines is None else min(step.due, deadlines.due_for(self))

    @override
    def on_expired(self) -> None:
        step, deadlines = self._step, self.plan.deadlines
        if step is None:
            super().on_expired()
            return
        now = self.port.clock.monotonic()
        if deadlines is not None and (limit := deadlines.reached_by(self, now)) is not None:
            self.on_limit(limit)
        elif step.due <= now:
            step.on_expired()
        if not self.is_closing and self.wheel_slot < 0:
            self._service.wheel.add(self, self.due())


class _Step(Protocol):
    """What has a deadline of its own."""

    @property
    def due(self) -> float: ...

    def on_expired(self) -> None:
        """Take that the deadline is over, or has moved."""
        ...


ACCESS_DENIED: Final = 49
"""Of TLS's alerts (RFC 8446 section 6.2)."""
_ALERT: Final = 21
_FATAL: Final = 2
