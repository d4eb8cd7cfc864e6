"""HelloReading: collects a client's ClientHello, all of it held, and has it judged.

``opener`` has one for a connection whose TLS may be opened. The invariant: what was read is kept
byte for byte, for whoever answers it; nothing of it goes anywhere.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from sluicegate.errors import Side
from sluicegate.limits import ENTRY_AHEAD_BYTES_MAX
from sluicegate.names import CanonicalHost
from sluicegate.policy.tls_check import HELLO_CUT_OFF, NO_TLS, HelloFacts, TlsCheck, judge_hello
from sluicegate.port.backend import BUFFER, MORE, SLOT_SHIFT
from sluicegate.port.layer import driver_of
from sluicegate.protocols.tls_hello import ClientHello, HelloReader, TlsFault, TlsRefused

from .hello_name import HelloName

if TYPE_CHECKING:
    from sluicegate.port import Timer

    from .opening_connection import OpeningConnection

__all__ = ["HelloReading"]


class HelloReading:
    """One client's first bytes."""

    __slots__ = (
        "_connection",
        "_held",
        "_is_paused",
        "_is_stopped",
        "_name",
        "_reader",
        "_timer",
        "_wait_s",
        "facts",
        "hello",
    )

    def __init__(self, connection: OpeningConnection) -> None:
        self.hello: ClientHello | None = None
        #: Once it is whole.
        self.facts: HelloFacts | None = None
        #: What of it is judged.
        self._connection = connection
        self._reader: HelloReader | None = HelloReader(known=connection.firewall.entries.hellos)
        self._held = bytearray()
        self._is_paused = self._is_stopped = False
        self._name: HelloName | None = None
        #: Where the name leads, of a client that named an address.
        self._wait_s = _WAIT_FIRST_S
        self._timer: Timer | None = None

    def begin(self) -> None:
        """Read what the handshake has left, and receive what follows."""
        connection = self._connection
        given = connection.client_given
        assert given is not None, "the client was taken over"
        connection.port.backend.redirect(given.receive_op, self._on_received)
        early = connection.take_ahead(given)
        if early:
            self._take(early)
        elif given.ended:
            connection.close(abortive=False)
        self._arm()

    @property
    def held(self) -> bytes:
        """Everything that has come."""
        return bytes(self._held)

    # -- receiving -------------------------------------------------------------------------------

    def _arm(self) -> None:
        connection = self._connection
        given = connection.client_given
        if given is None or connection.is_closing or self._is_paused or given.ended:
            return
        if not given.receive_op.in_flight:
            driver_of(given.raw, connection.port.backend).receive(given.receive_op, given.raw)

    def _on_received(self, result: int, flags: int) -> None:
        connection = self._connection
        given = connection.client_given
        assert given is not None, "whoever takes it over redirects its receive"
        if flags & BUFFER:
            pool = driver_of(given.raw, connection.port.backend).pool
            slot = pool.slots[flags >> SLOT_SHIFT]
            data = bytes(slot.view[: max(result, 0)])
            pool.give_back(slot)
            if data and not connection.is_closing:
                self._take(data)
        elif result == 0:
            given.ended = True
            self._on_end()
        elif result != -errno.ECANCELED:
            given.ended = True
            connection.on_transport_error(Side.CLIENT, -result)
        if not flags & MORE:
            self._arm()

    def _on_end(self) -> None:
        """Refuse half a hello; a client that said nothing at all just ends."""
        if self._reader is None:
            return  # the hello was whole; whoever answers it will see the end
        if self._held:
            self._connection.opener.refuse_hello(HELLO_CUT_OFF)
        else:
            self._connection.close(abortive=False)

    def _take(self, data: bytes) -> None:
        self._held += data
        reader = self._reader
        if reader is None:
            self._bound_ahead()
            return
        try:
            hello = reader.read(data)
        except TlsRefused as refused:
            self._reader = None
            if refused.fault is TlsFault.NOT_TLS:
                self._judge(NO_TLS)
            else:
                self._connection.opener.refuse_hello(refused.fault.code)
            return
        if hello is not None:
            self._reader = None
            self.hello = hello
            self._judge(HelloFacts.of(hello))

    def _bound_ahead(self) -> None:
        """Let a client that sends more before it was answered wait (early data, or nonsense)."""
        given = self._connection.client_given
        if given is None or self._is_paused or len(self._held) <= _HELD_BYTES_MAX:
            return
        self._is_paused = True
        if given.receive_op.in_flight:
            driver_of(given.raw, self._connection.port.backend).cancel(given.receive_op)

    # -- judging ---------------------------------------------------------------------------------

    @property
    def _check(self) -> TlsCheck:
        check = self._connection.plan.tls
        assert check is not None, "it is opened by a rule that wants it"
        return check

    def _judge(self, facts: HelloFacts) -> None:
        self.facts = facts
        connection = self._connection
        if not connection.is_still_opened():
            return
        verdict = judge_hello(self._check, facts, connection.host)
        if verdict.is_refusal:
            self._connection.opener.refuse_hello(verdict.reason)
        elif verdict.leads_here is not None:
            self._name = HelloName(connection, verdict.leads_here, facts)
            self._name.begin()
            self._await_name(verdict.leads_here)
        elif not facts.is_tls:
            self._connection.opener.pass_on()
        else:
            # Whom the server has to be: the host that was asked for and judged.
            self._connection.opener.on_hello(connection.host)

    def _await_name(self, host: CanonicalHost) -> None:
        """Look until it is known where the name leads."""
        name, self._timer = self._name, None
        assert name is not None, "its name is looked up"
        if self._is_stopped:
            return
        if not name.is_known:
            wait_s = self._wait_s
            self._wait_s = min(2 * wait_s, _WAIT_MAX_S)
            port = self._connection.port
            self._timer = port.call_after(wait_s, lambda: self._await_name(host))
            return
        if not self._connection.is_still_opened():
            return
        refusal = name.refusal()
        if refusal:
            self._connection.opener.refuse_hello(refusal)
        else:
            self._connection.opener.on_hello(host)

    def object_by(self, check: TlsCheck) -> str:
        """Say why another rule would refuse the hello; empty if it would not, or is yet to."""
        if self.facts is None:
            return ""
        return judge_hello(check, self.facts, self._connection.host).reason

    @property
    def server_name(self) -> str:
        """The name in the hello, as the client wrote it; empty: none was seen."""
        return "" if self.facts is None else self.facts.server_name or ""

    def stop(self) -> None:
        """Look no further."""
        self._is_stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


_WAIT_FIRST_S: Final = 0.002
"""How long a lookup is waited for before the first look; each further wait is twice as long."""

_WAIT_MAX_S: Final = 0.1
_HELD_BYTES_MAX: Final = (96 << 10) + ENTRY_AHEAD_BYTES_MAX
"""The longest hello that is read, with the record that it ends in, and what may follow it."""
