"""Content filters: whole objects, in any protocol, held until the verdict.

A protocol filter (FTP, later HTTP and mail) opens a transfer; the service holds it on the spool and
asks every content filter of the rule. The invariant: nobody on the receiving side has one byte of a
transfer before all of them released it.
"""

from __future__ import annotations

import abc
import enum
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Protocol, TypeVar

from sluicegate.verdict import ContentVerdict

from .isolation import Isolation

if TYPE_CHECKING:
    from .views import Connection, DataFilterFactory

ResultT = TypeVar("ResultT")

__all__ = [
    "ContentFilter",
    "Direction",
    "HeldTransfer",
    "Outcome",
    "Transfer",
    "TransferFile",
    "TransferOffer",
    "TransferOutcome",
    "Wants",
]


class Direction(enum.StrEnum):
    """Which way an object moves."""

    DOWNLOAD = "download"
    UPLOAD = "upload"


class Outcome(enum.StrEnum):
    """What became of a transfer."""

    RELEASED = "released"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Wants:
    """Which objects a content filter asks for; the default is all of them."""

    directions: frozenset[Direction] = frozenset(Direction)
    protocols: frozenset[str] = frozenset()
    """Protocol names (``ftp``); empty means any."""
    content_types: tuple[str, ...] = ()
    """Patterns such as ``application/vnd.ms-*``; empty means any, also an unknown type."""
    bytes_max: int | None = None
    """An object above this is refused: the filter could not judge it."""


@dataclass(frozen=True, slots=True)
class TransferOffer:
    """What a protocol filter knows of an object before its first byte."""

    name: str
    """As the protocol gave it, made printable."""
    direction: Direction
    protocol: str
    user: str = ""
    """The protocol's user name, for exemptions and records; a claim, not an identity."""
    content_type: str = ""
    is_text: bool = False
    """Whether the protocol may convert line ends on the way (FTP ASCII)."""
    facts: dict[str, str] = field(default_factory=dict[str, str])
    """More for the record (the FTP command, say)."""
    preceding: bytes = b""
    """The end of what was delivered before it in the same direction, where objects are pieces of
    one conversation (messages of a WebSocket): for filters that look for what was cut in two."""
    bytes_announced: int | None = None
    """How long it is to be, as its sender says before its first byte; None: it does not say."""


@dataclass(frozen=True, slots=True)
class TransferOutcome:
    """How a held transfer ended."""

    outcome: Outcome
    reason: str
    bytes_held: int
    sha256: str
    held_ms: float
    bytes_delivered: int


class TransferFile(Protocol):
    """A held object, open for reading; never the path of a file."""

    async def read(self, count: int = -1) -> bytes:
        """Return up to ``count`` bytes from the position and advance; empty at the end."""
        ...

    async def read_at(self, offset: int, count: int) -> bytes:
        """Return up to ``count`` bytes at ``offset``."""
        ...

    def blocking_file(self) -> BinaryIO:
        """Return a fresh read-only file object for use inside ``run_blocking``; close it."""
        ...


class Transfer(Protocol):
    """One whole object at rest, waiting for the verdict."""

    @property
    def offer(self) -> TransferOffer:
        """Its metadata."""
        ...

    @property
    def connection(self) -> Connection:
        """The connection that carries it."""
        ...

    @property
    def size(self) -> int:
        """Its bytes."""
        ...

    @property
    def sha256(self) -> str:
        """The digest of its bytes, hexadecimal."""
        ...

    @property
    def head(self) -> bytes:
        """Its first bytes (up to 4 KiB), in memory."""
        ...

    def open(self) -> AbstractAsyncContextManager[TransferFile]:
        """Open it for reading."""
        ...

    async def run_blocking(self, function: Callable[..., ResultT], *args: Any) -> ResultT:
        """Run a blocking look at the object on the service's pool."""
        ...


class HeldTransfer(Protocol):
    """A protocol filter's handle on a transfer that the service holds."""

    @property
    def factory(self) -> DataFilterFactory:
        """Makes the data filter that holds the object; for ``set_data_filter_factory``."""
        ...

    async def judged(self) -> TransferOutcome:
        """Wait for the verdict (delivery may go on); failed when it never came so far."""
        ...

    async def finished(self) -> TransferOutcome:
        """Wait until the receiver has every byte, or never will."""
        ...

    def deliver(self) -> None:
        """Say that the receiver is ready (``deliver_later``), also before the verdict.

        Nothing is delivered that is not released.
        """
        ...

    def cancel(self, reason: str) -> None:
        """Give up: nothing more is delivered, both sides of the data connection are reset."""
        ...


class ContentFilter(abc.ABC):
    """Judges whole objects; one instance serves all connections."""

    name: ClassVar[str] = ""
    isolation: ClassVar[Isolation] = "none"
    wants: ClassVar[Wants] = Wants()
    runs_beside: ClassVar[bool] = False
    """Whether it may look at an object while neighbours in the rule that say so, too, look at it.
    Such a filter releases or refuses; it replaces nothing, and rests on nobody's verdict."""

    @property
    def scanners(self) -> tuple[str, ...]:
        """Names of the scanners that it asks; one that is not configured is found at load."""
        return ()

    @property
    def content_scanners(self) -> tuple[str, ...]:
        """Those of ``scanners`` that must be able to tell what is in an object."""
        return ()

    async def verdict_version(self, transfer: Transfer) -> str | None:
        """Return what the verdict rests on besides the object's bytes; None: never keep it.

        A filter that returns a text says: as long as it is the same, the same bytes (with the same
        ``offer.is_text``) get the same verdict, whoever sends them and whatever they are called. A
        release is then kept, and ``inspect`` is not asked again for these bytes. The version of
        signatures is such a text. It is asked before each inspection.
        """
        del transfer
        return None

    @abc.abstractmethod
    async def inspect(self, transfer: Transfer) -> ContentVerdict:
        """Answer ``Release``, ``Refuse(reason)`` or ``Replace(body)``; raising refuses."""
