"""What one end of an HTTP/1.1 connection reads and sends: messages, bodies, their ends.

``Http1Server`` and ``Http1Client`` make and take them; filters see them. The invariant: a message
says in ``framing`` alone how its body ends, and ``fields`` hold only what goes from end to end.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from typing_extensions import override

from sluicegate.protocols.http1.fields import Fields
from sluicegate.protocols.http1.target import Authority, Target
from sluicegate.protocols.text import printable

if TYPE_CHECKING:
    from sluicegate.protocols.http1.known_heads import KnownFields

__all__ = [
    "CHUNKED",
    "NO_BODY",
    "UNTIL_CLOSE",
    "Body",
    "EndOfMessage",
    "EndOfStream",
    "Framing",
    "FramingKind",
    "RawData",
    "Request",
    "Response",
    "Upgraded",
]


class FramingKind(enum.Enum):
    """How the end of a body is known."""

    NO_BODY = "no body"
    """Nothing was declared, and nothing follows."""
    LENGTH = "length"
    """``Content-Length`` said it."""
    CHUNKED = "chunked"
    """The last chunk says it."""
    UNTIL_CLOSE = "until close"
    """The end of the connection says it; only a response may."""


class Framing(NamedTuple):
    """How a body ends; what a response to HEAD, or a 304, declares of the body that it has not."""

    kind: FramingKind
    length: int = 0
    #: In bytes; of ``LENGTH`` alone.

    @property
    def is_chunked(self) -> bool:
        """Whether the last chunk tells the end."""
        return self.kind is FramingKind.CHUNKED

    @classmethod
    def of_length(cls, length: int) -> Framing:
        """Frame a body of so many bytes.

        Raises:
            ValueError: It is negative.
        """
        if length < 0:
            raise ValueError(f"a body has no {length} bytes")
        return cls(FramingKind.LENGTH, length)


NO_BODY: Final = Framing(FramingKind.NO_BODY)
CHUNKED: Final = Framing(FramingKind.CHUNKED)
UNTIL_CLOSE: Final = Framing(FramingKind.UNTIL_CLOSE)


@dataclass(slots=True)
class Request:
    """The head of a request."""

    method: bytes
    target: Target
    fields: Fields = field(default_factory=Fields)
    framing: Framing = NO_BODY
    authority: Authority | None = None
    #: Where it goes: what an absolute target or CONNECT says, else what Host says; raw, for
    #: ``names`` to canonicalise. None only in HTTP/1.0 without Host.
    is_http_1_1: bool = True
    wants_close: bool = False
    #: Whether its sender keeps the connection no longer than this message.
    expects_continue: bool = False
    #: Whether the client waits for 100 before its body.
    upgrade: tuple[bytes, ...] = ()
    #: Protocols it offers to switch to; set, they are sent.
    accepts_trailers: bool = False
    #: Whether the client said ``TE: trailers``.
    hop_fields: tuple[tuple[bytes, bytes], ...] = ()
    #: What belonged to its connection, and what ``Connection`` named: for records, never sent on.
    known: KnownFields | None = field(default=None, compare=False, repr=False)
    #: The same fields as others had them; only while nothing but its own fields was changed.
    came_by_http_2: bool = False
    #: For ``Via`` alone: nothing else asks which version said it.

    @override
    def __str__(self) -> str:
        """Show it for logs: one line, nothing unprintable."""
        return f"{printable(self.method)} {self.target}"


@dataclass(slots=True)
class Response:
    """The head of a response, informational or final."""

    status: int
    reason: bytes = b""
    fields: Fields = field(default_factory=Fields)
    framing: Framing = NO_BODY
    is_http_1_1: bool = True
    wants_close: bool = False
    upgrade: tuple[bytes, ...] = ()
    #: The protocols of a 101; what other responses offer is in ``hop_fields``.
    hop_fields: tuple[tuple[bytes, bytes], ...] = ()
    came_by_http_2: bool = False
    #: As a request's.

    @property
    def is_informational(self) -> bool:
        """Whether another response to the same request follows (1xx but 101)."""
        return self.status < 200 and self.status != SWITCHING_PROTOCOLS  # noqa: PLR2004 - RFC 9110

    @override
    def __str__(self) -> str:
        """Show it for logs."""
        return f"{self.status} {printable(self.reason)}".rstrip()


@dataclass(slots=True)
class Body:
    """Some bytes of a body, without their framing; a view is valid until more data is received."""

    data: bytes | memoryview


@dataclass(slots=True)
class EndOfMessage:
    """The message is whole."""

    trailers: Fields = field(default_factory=Fields)


@dataclass(slots=True)
class Upgraded:
    """From here on the connection carries another protocol: a tunnel, or what 101 switched to."""


@dataclass(slots=True)
class RawData:
    """Bytes of that other protocol; a view is valid until more data is received."""

    data: bytes | memoryview


@dataclass(slots=True)
class EndOfStream:
    """The peer has sent its last byte, and it was not inside a message."""


SWITCHING_PROTOCOLS: Final = 101
