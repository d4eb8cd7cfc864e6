"""In a cell: what filters see of the gate, from what the gate said of it.

``server`` makes these. The invariant: each object knows what came over the wire and nothing more,
and what it cannot do from here raises ``NotInCellError`` with the reason instead of pretending.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn, Protocol, TypeVar

from sluicegate.address import SocketAddress
from sluicegate.buffer import Buffer
from sluicegate.errors import BadContext, Side
from sluicegate.filterapi import EntryMode, User
from sluicegate.limits import LAST_WORDS_BYTES_MAX, Limits

from .facts import ConnectionFacts
from .messages import EndConnection, EndKnown, Message, Note

if TYPE_CHECKING:
    from sluicegate.filterapi import TaskCompletion
    from sluicegate.port import CompletionPort

__all__ = [
    "CellConnection",
    "CellFirewall",
    "CellSession",
    "GateSide",
    "NotInCellError",
    "shortened",
]

ResultT = TypeVar("ResultT")


class NotInCellError(BadContext, AttributeError):
    """A method of the filter API was called that does not reach out of a cell."""


class GateSide(Protocol):
    """The way to the gate."""

    def tell(self, message: Message) -> None:
        """Say something that has no answer."""
        ...


class CellFirewall:
    """The service; satisfies ``filterapi.Firewall``."""

    def __init__(self, gate: GateSide, port: CompletionPort, limits: Limits) -> None:
        self.port = port
        #: The cell's own.
        self.limits = limits
        #: The gate's.
        self._gate = gate

    def create_buffer(self, size: int) -> Buffer:
        """As ``filterapi.Firewall.create_buffer``."""
        return self.port.create_buffer(size)

    def post_task(self, completion: TaskCompletion, user_data: Any = None) -> None:
        """As ``filterapi.Firewall.post_task``."""
        self.port.post_task(completion, user_data)

    async def run_blocking(self, function: Callable[..., ResultT], *args: Any) -> ResultT:
        """As ``filterapi.Firewall.run_blocking``."""
        return await self.port.run_blocking(function, *args)

    def note(self, filter_name: str, message: str, facts: Mapping[str, str | int]) -> None:
        """As ``filterapi.Firewall.note``; the record has the name that is installed."""
        del filter_name
        self._gate.tell(Note("", message, dict(facts)))

    def __getattr__(self, name: str) -> NoReturn:
        raise _not_here("the firewall", name)


class CellSession:
    """A session that a connection belongs to; satisfies ``filterapi.Session``."""

    def __init__(self, facts: ConnectionFacts) -> None:
        self.id = facts.session
        self.client_address = SocketAddress(*facts.client).with_port(0)
        self.user: User | None = None
        if facts.user is not None:
            name, groups, scheme = facts.user
            self.user = User(name, tuple(groups), scheme)

    def __getattr__(self, name: str) -> NoReturn:
        raise _not_here("a session", name)


class CellConnection:
    """A connection that a question is about; satisfies ``filterapi.Connection``."""

    is_unseen: ClassVar[bool] = False
    """Whether a filter that leaves ends it: the gate decides that when it is told."""

    def __init__(
        self, gate: GateSide, firewall: CellFirewall, number: int, facts: ConnectionFacts
    ) -> None:
        self.id = facts.connection
        self.update(facts)
        self.session = CellSession(facts)
        self.firewall = firewall
        self._gate = gate
        self._number = number

    def update(self, facts: ConnectionFacts) -> None:
        """Take what is known of it by now."""
        self.rule = facts.rule
        self.is_secondary = facts.is_secondary
        self.is_emulated = facts.is_emulated
        self.entry_mode = EntryMode(facts.entry_mode)
        self.client_address = SocketAddress(*facts.client)
        self.server_address = SocketAddress(*facts.server)
        self._client_side = facts.client_side
        self._server_side = facts.server_side

    @property
    def client_side_address(self) -> SocketAddress:
        """As ``filterapi.Connection.client_side_address``."""
        if self._client_side is None:
            raise BadContext("the client side is not connected yet")
        return SocketAddress(*self._client_side)

    @property
    def server_side_address(self) -> SocketAddress:
        """As ``filterapi.Connection.server_side_address``."""
        if self._server_side is None:
            raise BadContext("the server side is not connected yet")
        return SocketAddress(*self._server_side)

    def note(self, by: object, message: str, facts: Mapping[str, str | int] | None = None) -> None:
        """As ``filterapi.Connection.note``; the record has the name that is installed."""
        del by
        self._gate.tell(Note(self.id, message, dict(facts or {})))

    def refuse(self, reason: str, *, to_client: bytes = b"", to_server: bytes = b"") -> None:
        """As ``filterapi.Connection.refuse``."""
        self._end(True, reason, 0, Side.INTERNAL, (to_client, to_server))

    def fail(
        self,
        reason: str,
        error: int = 0,
        side: Side = Side.INTERNAL,
        *,
        to_client: bytes = b"",
        to_server: bytes = b"",
    ) -> None:
        """As ``filterapi.Connection.fail``."""
        self._end(False, reason, error, side, (to_client, to_server))

    def _end(
        self, is_refused: bool, reason: str, error: int, side: Side, last_words: tuple[bytes, bytes]
    ) -> None:
        if max(map(len, last_words)) > LAST_WORDS_BYTES_MAX:
            raise ValueError(f"last words have at most {LAST_WORDS_BYTES_MAX} bytes")
        end = EndConnection(
            self._number, is_refused, shortened(reason), error, side.value, *last_words
        )
        self._gate.tell(end if self._number else EndKnown(self.id, end))

    def __getattr__(self, name: str) -> NoReturn:
        raise _not_here("a connection", name)


def _not_here(what: str, name: str) -> NotInCellError:
    return NotInCellError(
        f"{what} offers no {name!r} to a filter that runs in a process of its own; "
        "see docs/howto/isolate-a-filter.md"
    )


def shortened(text: str) -> str:
    """Cut a text to what a message has room for."""
    return text if len(text) <= _TEXT_CHARACTERS_MAX else text[:_TEXT_CHARACTERS_MAX] + "…"


_TEXT_CHARACTERS_MAX: Final = 4000
"""A reason; records are read by people."""
