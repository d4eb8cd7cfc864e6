"""LeafSource: where the gate gets the TLS context with which it meets a client as a server.

``gate`` asks once the server's identity is known; ``signed_leaves`` is the one that serves. The
invariant: each question is answered exactly once, with a context of the host's own leaf or with why
there is none; a server that was not verified never gets a leaf that clients trust.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from .engine import TlsEngine
from .key_log import KeyLog
from .leaf_fault import LeafFailure, LeafFault
from .server_identity import ServerIdentity

__all__ = ["Leaf", "LeafAnswer", "LeafContext", "LeafSource", "NoLeaves"]


@dataclass(frozen=True, slots=True)
class Leaf:
    """One signed leaf, without its key."""

    host: str
    certificate: bytes
    """DER."""
    above: tuple[bytes, ...]
    """What is sent with it, as DER: intermediate authorities, and the one that says that the last
    authority vouches for this one; not the root."""
    serial: int
    issuer: str
    """The authority's name, for records."""
    not_before: int
    not_after: int
    is_trusted: bool


class LeafContext(Protocol):
    """How the gate speaks TLS to clients for one server: an ``EngineSource`` that is kept."""

    @property
    def leaf(self) -> Leaf:
        """What clients are shown."""
        ...

    @property
    def alpn(self) -> str:
        """What the server chose, and is all that clients are offered; empty: nothing."""
        ...

    def engine(self) -> TlsEngine:
        """Return one connection's TLS: as ``EngineSource``."""
        ...


LeafAnswer: TypeAlias = LeafContext | LeafFailure


class LeafSource(Protocol):
    """Answers who asks for a leaf; used on the port's thread only."""

    def leaf_for(self, identity: ServerIdentity, then: Callable[[LeafAnswer], None]) -> None:
        """Find or make the context for a server, and tell ``then``.

        It is told once: inside this call where the leaf is kept or cannot be had, later otherwise.
        Whoever lost interest meanwhile just looks away. ``identity.is_verified`` chooses between
        the authority that clients trust and the one that nobody does.
        """
        ...

    def log_keys(self, key_log: KeyLog | None) -> None:
        """Tell this log the keys of connections that begin from now on; None: nobody."""
        ...


class NoLeaves:
    """Of a gate without an authority; satisfies ``LeafSource``."""

    def log_keys(self, key_log: KeyLog | None) -> None:
        """As ``LeafSource.log_keys``: there are no connections."""

    def leaf_for(self, identity: ServerIdentity, then: Callable[[LeafAnswer], None]) -> None:
        """As ``LeafSource.leaf_for``: there is none."""
        del identity
        then(LeafFailure(LeafFault.NO_AUTHORITY))
