"""What every entry protocol says of a client's wish, and the buffer its parser reads from.

The parsers of SOCKS and HTTP CONNECT make these values; the gate hands the host to ``names`` and
the credentials to ``identity``. The invariant: host text is what the client sent, byte for byte:
nothing here folds, decodes or resolves it, so exactly one place decides what it means.
"""

from __future__ import annotations

import enum
import ipaddress
from dataclasses import dataclass, field

from typing_extensions import override

from sluicegate.address import IpAddress
from sluicegate.errors import ProtocolError, Side
from sluicegate.protocol_limits import ENTRY_EARLY_BYTES_MAX
from sluicegate.protocols.text import printable

__all__ = ["Credentials", "Destination", "EntryBuffer", "HostKind"]


class HostKind(enum.StrEnum):
    """How a client wrote a host."""

    IPV4 = "ipv4"
    """Four octets, in network order."""
    IPV6 = "ipv6"
    """Sixteen octets, in network order."""
    TEXT = "text"
    """A name, or whatever else the client put where a name belongs (an address literal, say)."""
    BRACKETED = "bracketed"
    """The text between the brackets of an HTTP authority; only an IPv6 literal may stand there."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a client wants to go, as it said so; nothing of it is checked but the port's range."""

    kind: HostKind
    host: bytes
    #: Octets or text, as ``kind`` says; text is never empty.
    port: int
    #: 0 to 65535; 0 only where its protocol gives that a meaning.

    @property
    def address(self) -> IpAddress | None:
        """The address that was sent in octets; None for every kind of text, literals included."""
        if self.kind is HostKind.IPV4:
            return ipaddress.IPv4Address(self.host)
        if self.kind is HostKind.IPV6:
            return ipaddress.IPv6Address(self.host)
        return None

    @override
    def __str__(self) -> str:
        """Show it for logs: one line, nothing unprintable."""
        address = self.address
        host = printable(self.host) if address is None else str(address)
        if self.kind in {HostKind.IPV6, HostKind.BRACKETED}:
            host = f"[{host}]"
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user name and a password as the client sent them; never shown whole."""

    username: bytes
    password: bytes = field(repr=False)

    @override
    def __str__(self) -> str:
        """Show the name for logs; the password never."""
        return printable(self.username)


class EntryBuffer:
    """Received bytes of one client that no message has taken yet; each parser owns one.

    The first error is final: every later call raises it again, and nothing is kept any more.
    """

    __slots__ = ("_early_bytes_max", "data", "error")

    def __init__(self, early_bytes_max: int = ENTRY_EARLY_BYTES_MAX) -> None:
        self._early_bytes_max = early_bytes_max
        self.data = bytearray()
        self.error: ProtocolError | None = None

    def receive_data(self, data: bytes) -> None:
        """Add what the client sent."""
        if self.error is None:
            self.data += data

    def take(self, count: int) -> bytes:
        """Take the first ``count`` bytes, which must be there."""
        assert count <= len(self.data), "parsers take what they have seen"
        taken = bytes(self.data[:count])
        del self.data[:count]
        return taken

    def take_all(self) -> bytes:
        """Take everything that is left."""
        return self.take(len(self.data))

    def check_early(self) -> None:
        """Bound what came before it was the client's turn.

        Raises:
            ProtocolError: It is more than ``ENTRY_EARLY_BYTES_MAX``.
        """
        if len(self.data) > self._early_bytes_max:
            raise self.fail(f"more than {self._early_bytes_max} bytes came before the answer")

    def fail(self, hint: str) -> ProtocolError:
        """Make and return an error of the client's; it is final for the buffer."""
        self.error = ProtocolError(hint, Side.CLIENT)
        self.data.clear()
        return self.error
