"""HelloReading: collects a client's ClientHello, all of it held, and has it judged.

``opener`` has one for a connection whose TLS may be opened. The invariant: what was read is kept
byte for byte, for whoever answers it; nothing of it goes anywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from typing_extensions import override

from sluicegate.names import CanonicalHost
from sluicegate.policy.tls_check import HELLO_CUT_OFF, NO_TLS, HelloFacts, TlsCheck, judge_hello
from sluicegate.protocols.tls_hello import ClientHello, HelloReader, TlsFault, TlsRefused

from .first_reading import FirstReading
from .hello_name import HelloName

if TYPE_CHECKING:
    from sluicegate.port import Timer

    from .opening_connection import OpeningConnection

__all__ = ["HelloReading"]


class HelloReading(FirstReading):
    """One client's first bytes."""

    __slots__ = (
        "_connection",
        "_is_stopped",
        "_name",
        "_reader",
        "_timer",
        "_wait_s",
        "facts",
        "hello",
    )

    def __init__(self, connection: OpeningConnection) -> None:
        super().__init__(connection)
        self.hello: ClientHello | None = None
        #: Once it is whole.
        self.facts: HelloFacts | None = None
        #: What of it is judged.
        self._connection = connection
        self._reader: HelloReader | None = HelloReader(known=connection.firewall.entries.hellos)
        self._is_stopped = False
        self._name: HelloName | None = None
        #: Where the name leads, of a client that named an address.
        self._wait_s = _WAIT_FIRST_S
        self._timer: Timer | None = None

    @override
    def _on_end(self) -> None:
        """Refuse half a hello; a client that said nothing at all just ends."""
        if self._reader is None:
            return  # the hello was whole; whoever answers it will see the end
        if self._held:
            self._connection.opener.refuse_hello(HELLO_CUT_OFF)
        else:
            self._connection.close(abortive=False)

    @override
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
            self._connection.opener.on_not_tls()
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
