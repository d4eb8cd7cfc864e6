"""Exchanges of clients that asked a proxy listener: for a connection, a bind, an association.

``playbook`` makes them. The invariant: ``client`` begins where the tunnel does; what was said
before is in ``answer`` and ``address``.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from sluicegate.address import SocketAddress

from .conversation import Conversation
from .exchange import Exchange
from .peers import PeerStream
from .proxy_client import Answer

if TYPE_CHECKING:
    from .playbook import Playbook

__all__ = ["ProxiedExchange"]


class ProxiedExchange(Exchange):
    """One visit of a client at a proxy."""

    def __init__(self, play: Playbook) -> None:
        super().__init__(play)
        self.answer = ""
        #: What the proxy said last: ``granted``, or how it refused; empty while it says nothing.
        self.address: SocketAddress | None = None
        #: Of a bind or an association: where the gate waits.
        self._is_talking = True

    def comes_from(self, peer: str = "10.9.9.9:0") -> None:
        """Connect to the bind from an address; who gets in is the exchange's server.

        Raises:
            PlaybookError: There is no bind.
        """
        __tracebackhide__ = True
        if self.address is None:
            raise self._error("there is no bind to connect to")
        self._play.dial_as_server(SocketAddress.parse(peer), self.address, self.server)

    @property
    @override
    def conversation(self) -> Conversation:
        """Not to be had: a conversation is replayed through a published port.

        Raises:
            PlaybookError: Always.
        """
        raise self._error("who asked a proxy has no conversation that could be replayed")

    # -- for the playbook ------------------------------------------------------------------------

    @override
    def waits_for(self, server: SocketAddress) -> bool:
        # Wherever the name, or a filter, leads it.
        return not self.server.is_connected and (self._is_talking or self.client.can_act)

    async def talk(self, words: Coroutine[Any, Any, None]) -> None:
        """Say the words before the tunnel (the playbook only)."""
        try:
            await words
        except OSError as error:
            self.answer = self.answer or f"refused: {error.strerror}"
            self.client.refuse()
        finally:
            self._is_talking = False

    def take_bind(self, stream: PeerStream, answer: Answer) -> bool:
        """Take where the gate waits; False when it refused (the playbook only)."""
        self.answer = answer[0]
        if self.answer != "granted":
            self.take_answer(stream, answer)
            return False
        self.address = answer[1]
        return True

    def take_answer(self, stream: PeerStream, answer: Answer) -> None:
        """Take the last answer: what comes now is the tunnel's (the playbook only)."""
        self.answer = answer[0]
        if self.answer == "granted":
            self.client.attach(stream.socket)
        else:
            self.client.refuse()
            stream.close()
