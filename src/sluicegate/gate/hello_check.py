"""HelloCheck: holds a client's first bytes until its ClientHello is whole and was judged.

``connection`` attaches one where its rule wants it, as the stage next to the client. What passes
goes on as it came; when the server has answered, the check leaves, and what follows is spliced in
the kernel. The invariant: no byte of a client reaches the server, or a filter, before the name in
its hello was judged, and no second hello (HelloRetryRequest) names another server.

States: FIRST -> (LOOKUP ->) WATCH -> gone, or WATCH -> AGAIN -> gone.
"""

from __future__ import annotations

import enum
import math
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from sluicegate.buffer import Window
from sluicegate.errors import Side
from sluicegate.filterapi import FORWARD, HOLD, LEAVE, Cut, Forward, StreamVerdict, Wait
from sluicegate.policy.tls_check import (
    HELLO_CUT_OFF,
    NO_TLS,
    SERVER_FIRST,
    HelloFacts,
    OddAnswer,
    TlsCheck,
    judge_hello,
)
from sluicegate.policy.tls_opening import OpeningReason, TlsMode
from sluicegate.protocols.tls_hello import (
    AnswerReader,
    HelloReader,
    RecordSkipper,
    TlsFault,
    TlsRefused,
)

from .hello_name import HelloName
from .own_stage import OwnStage
from .readmission import Readmission
from .state import State

if TYPE_CHECKING:
    from .connection import GateConnection
    from .registry import RulePlan

__all__ = ["HelloCheck", "hold_hello", "with_hello"]


class _State(enum.Enum):
    FIRST = "first"
    """The hello is not whole."""
    LOOKUP = "lookup"
    """Where the name in it leads is looked up."""
    WATCH = "watch"
    """It was let pass; the server has not answered."""
    AGAIN = "again"
    """The server asked for another one."""


class HelloCheck(OwnStage):
    """Of one connection; what it has found stays with the connection, to be judged again."""

    __slots__ = (
        "_answer",
        "_connection",
        "_name",
        "_reader",
        "_seen",
        "_skipper",
        "_state",
        "_wait_s",
        "due",
        "facts",
    )

    name = "tls.hello"

    def __init__(self, connection: GateConnection, due: float) -> None:
        self.due = due
        #: When the hello has to be whole, on the port's clock; infinity: it is.
        self.facts: HelloFacts | None = None
        #: What is judged of the hello, once it is whole.
        self._connection = connection
        self._state = _State.FIRST
        self._reader: HelloReader | None = HelloReader(known=connection.firewall.entries.hellos)
        self._seen = 0
        #: How much of what is held was read before.
        self._answer: AnswerReader | None = None
        self._skipper: RecordSkipper | None = None
        self._name: HelloName | None = None
        #: Where the name leads, of a client that named an address.
        self._wait_s = _WAIT_FIRST_S

    # -- what comes ------------------------------------------------------------------------------

    @override
    def on_data(self, side: Side, window: Window) -> StreamVerdict:
        """Read on, and judge when there is something to judge."""
        try:
            if side is Side.SERVER:
                return self._on_server(bytes(window))
            return self._on_client(bytes(window))
        except TlsRefused as refused:
            return Cut(_reason_of(refused))

    @override
    def on_end(self, side: Side, held: Window) -> StreamVerdict:
        """Refuse half a hello; a client that said nothing at all just ends."""
        if side is Side.CLIENT and held.length:
            return Cut(HELLO_CUT_OFF)
        return FORWARD

    def _on_client(self, data: bytes) -> StreamVerdict:
        match self._state:
            case _State.FIRST:
                return self._read_first(data)
            case _State.LOOKUP:
                return self._await_name(data)
            case _State.WATCH:
                return self._pass_by(data)
            case _State.AGAIN:
                return self._read_again(data)

    def _on_server(self, data: bytes) -> StreamVerdict:
        answer = self._answer
        if answer is None:
            check = self._check
            if check is None or check.not_tls is OddAnswer.ALLOW:
                return FORWARD
            return Cut(SERVER_FIRST)
        if self._state is _State.AGAIN:
            return FORWARD
        try:
            asks_again = answer.read(data)
        except TlsRefused as refused:
            check = self._check
            if check is None or check.not_tls is OddAnswer.ALLOW:
                return self._leave()
            return Cut(_reason_of(refused))
        if asks_again is None:
            return FORWARD
        if not asks_again:
            return self._leave()
        self._state = _State.AGAIN
        self._reader = HelloReader()
        return FORWARD

    # -- the hello -------------------------------------------------------------------------------

    @property
    def _check(self) -> TlsCheck | None:
        """What its rule wants by now."""
        connection = self._connection
        return check_for(connection, connection.plan)

    def _read_first(self, data: bytes) -> StreamVerdict:
        check, reader = self._check, self._reader
        assert reader is not None, "the hello is not whole"
        if check is None:
            # It goes on by a rule that does not look.
            return self._leave()
        try:
            hello = reader.read(data[self._seen :])
        except TlsRefused as refused:
            if refused.fault is not TlsFault.NOT_TLS:
                raise
            self.facts = NO_TLS
        else:
            if hello is None:
                self._seen = len(data)
                return HOLD
            self.facts = HelloFacts.of(hello)
        return self._judge(check, self.facts, data)

    def _judge(self, check: TlsCheck, facts: HelloFacts, data: bytes) -> StreamVerdict:
        self.due = math.inf
        connection = self._connection
        verdict = judge_hello(check, facts, connection.named_host)
        if verdict.is_refusal:
            return Cut(verdict.reason)
        if verdict.leads_here is not None:
            self._state = _State.LOOKUP
            self._name = HelloName(connection, verdict.leads_here, facts)
            self._name.begin()
            return self._await_name(data)
        if not facts.is_tls:
            return self._leave()
        return self._let_pass(data)

    def _await_name(self, data: bytes) -> StreamVerdict:
        name = self._name
        assert name is not None, "its name is looked up"
        if not name.is_known:
            wait_s = self._wait_s
            self._wait_s = min(2 * wait_s, _WAIT_MAX_S)
            return Wait(wait_s)
        refusal = name.refusal()
        return Cut(refusal) if refusal else self._let_pass(data)

    def _let_pass(self, data: bytes) -> StreamVerdict:
        """Let the hello go on with what follows it, and watch for the answer."""
        reader, self._reader = self._reader, None
        assert reader is not None, "it has read the hello"
        self._state = _State.WATCH
        self._answer, self._skipper = AnswerReader(), RecordSkipper()
        return self._pass_by(data, reader.length)

    def _leave(self) -> StreamVerdict:
        """Leave the connection alone, with no more than what may be judged again."""
        self.due = math.inf
        self._reader = self._answer = self._skipper = None
        return LEAVE

    # -- behind it -------------------------------------------------------------------------------

    def _pass_by(self, data: bytes, start: int = 0) -> StreamVerdict:
        """Let early data go on; another hello has no place before the server asks for it."""
        skipper = self._skipper
        assert skipper is not None, "the hello was let pass"
        rest = data[start:]
        if skipper.skip(rest) < len(rest):
            return Cut(TlsFault.HELLO_AGAIN.code)
        return FORWARD

    def _read_again(self, data: bytes) -> StreamVerdict:
        """Hold the second hello until it is whole, and compare it with the first one."""
        skipper, reader, start = self._skipper, self._reader, 0
        assert skipper is not None, "a hello was let pass before"
        assert reader is not None, "another one was asked for"
        if not reader.has_begun:
            start = skipper.skip(data)
            if start == len(data):
                return FORWARD
            self._seen = start
        hello = reader.read(data[self._seen :])
        if hello is None:
            self._seen = len(data) - start
            return Forward(start)
        again, facts = HelloFacts.of(hello), self.facts
        assert facts is not None, "there was a first one"
        if (again.server_name, again.ech) != (facts.server_name, facts.ech):
            return Cut(TlsFault.HELLO_DIFFERS.code)
        return self._leave()

    # -- later -----------------------------------------------------------------------------------

    @property
    def server_name(self) -> str:
        """The name in the hello, as the client wrote it; empty: none was seen."""
        return "" if self.facts is None else self.facts.server_name or ""

    def object_by(self, check: TlsCheck) -> str:
        """Say why another rule would refuse the hello; empty if it would not, or is yet to."""
        if self.facts is None or self._state is _State.LOOKUP:
            return ""
        verdict = judge_hello(check, self.facts, self._connection.named_host)
        if verdict.leads_here is None:
            return verdict.reason
        name = self._name
        return UNSEEN if name is None else name.refusal()


def check_for(connection: GateConnection, plan: RulePlan) -> TlsCheck | None:
    """Return what a rule wants of the hello on a connection; None: nothing.

    What another connection announced is held to no hello: it is that one's protocol that says what
    it is. Neither is a peer that connects by itself (BIND).
    """
    check = plan.tls
    if check is None or connection.expected is not None or connection.entry_protocol != "tcp":
        return None
    if connection.is_opened:
        return None  # its hello was judged before; this is what was inside
    return check if check.covers(connection.named_port) else None


def hold_hello(connection: GateConnection) -> None:
    """Let nothing through before the client's hello, if its rule wants that; of one that opens."""
    if connection.hello is None and check_for(connection, connection.plan) is not None:
        service = connection.firewall
        due = connection.port.now + service.limits.hello_timeout_s
        connection.hello = hello = HelloCheck(connection, due)
        connection.attach(hello, None, None, "")
        service.wheel.hasten(connection, due)


def with_hello(connection: GateConnection, found: Readmission) -> Readmission:
    """Hold the hello of an open connection against the rule by which it would go on."""
    plan = found.plan
    check = None if plan is None else check_for(connection, plan)
    if plan is None or check is None or connection.state is not State.OPEN:
        return found
    hello = connection.hello
    objection = UNSEEN if hello is None else hello.object_by(check)
    if not objection and _has_other_mode(connection, check):
        objection = OpeningReason.MODE_CHANGED
    return Readmission(None, objection, plan.rule) if objection else found


def _has_other_mode(connection: GateConnection, check: TlsCheck) -> bool:
    """Tell whether another rule wants something else done with TLS that passes as it is."""
    hello, host = connection.hello, connection.named_host
    if connection.opened is not None or host is None:
        return False  # it compares by itself, or is published
    is_tls = hello is not None and hello.facts is not None and hello.facts.is_tls
    return is_tls and check.mode_for(host, connection.named_port) is not TlsMode.SPLICE


UNSEEN: Final = "its ClientHello has to be judged now"

_WAIT_FIRST_S: Final = 0.002
"""How long a lookup is waited for before the first look; each further wait is twice as long."""

_WAIT_MAX_S: Final = 0.1


def _reason_of(refused: TlsRefused) -> str:
    code = refused.fault.code
    return code if refused.side is Side.CLIENT else f"{code}: the server"
