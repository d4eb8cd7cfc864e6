"""What a ClientHello says, as far as anybody judges by it.

``message`` makes one, policy judges it. The invariant: every list is as the client wrote it,
GREASE included; what is asked about leaves GREASE out (RFC 8701), for it means nothing.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = ["ClientHello", "EchKind", "is_grease"]


class EchKind(enum.Enum):
    """What hides, or may hide, another ClientHello (RFC 9849).

    A client that has no key of the server sends GREASE in the form of ``OUTER``, made so that
    nobody but the server can tell the two apart (section 6.2): neither can we.
    """

    OUTER = "outer"
    """A hello of its own with an encrypted one inside, or GREASE."""
    INNER = "inner"
    """A hello that says of itself that it was inside; only a server's own front sends that."""
    DRAFT = "draft"
    """Of a draft before the RFC: encrypted SNI, or another code point."""


@dataclass(slots=True)
class ClientHello:
    """One ClientHello; lives until it was judged."""

    legacy_version: int
    """As the message writes it: 0x0301 to 0x0303."""
    cipher_suites: tuple[int, ...]
    extensions: tuple[int, ...]
    """Their types, in order."""
    server_name: str | None = None
    """The one name in server_name: ASCII, as it was written; None: there is no such extension."""
    alpn: tuple[bytes, ...] = ()
    """The application protocols that the client offers, in order."""
    supported_versions: tuple[int, ...] = ()
    """Of the extension; none: the client does not know TLS 1.3."""
    groups: tuple[int, ...] = ()
    """Key exchange groups, in order."""
    key_shares: tuple[int, ...] = ()
    """The groups that the client sends a key for."""
    signature_algorithms: tuple[int, ...] = ()
    ech: EchKind | None = None
    """What hides another hello; None: nothing does."""
    has_early_data: bool = False
    """Data of a resumed session follows before the answer (0-RTT)."""
    resumes: bool = False
    """The client offers to resume a session of TLS 1.3 (pre_shared_key)."""

    @property
    def versions(self) -> tuple[int, ...]:
        """The versions of TLS that the client offers, without GREASE; the highest is not first.

        Without the extension it is the one of the message, and whatever is older (RFC 8446 section
        4.1.2); the older ones are not listed.
        """
        offered = self.supported_versions
        known = (
            offered
            if not any(map(is_grease, offered))
            else tuple(one for one in offered if not is_grease(one))
        )
        return known or (self.legacy_version,)

    @property
    def has_grease(self) -> bool:
        """Whether a value is there that means nothing, as browsers send them."""
        lists = (self.cipher_suites, self.extensions, self.supported_versions, self.groups)
        return any(is_grease(value) for values in lists for value in values)


def is_grease(value: int) -> bool:
    """Tell whether a number of 16 bits is one of those that mean nothing (RFC 8701)."""
    return value & 0x0F0F == _GREASE and value >> 8 == value & 0xFF


_GREASE = 0x0A0A
