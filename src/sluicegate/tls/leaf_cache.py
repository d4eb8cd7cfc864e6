"""LeafCache: which leaves a worker remembers, and which it forgets when there are too many.

``signed_leaves`` has one. No I/O. The invariant: what is found was made for exactly this server,
told apart by all that a client could tell apart; and whoever asks for names that nobody asked for
before drives out no leaf that is in use.

Two queues: a leaf that was used once waits in the first and goes first; one that was used again is
kept in the second, three quarters of the room (segmented LRU). And servers with the same chain, or
all those that were not verified, share a part of the room: a flood of names under one wildcard
makes room for itself among its own.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from sluicegate.access_limits import LEAF_LIFETIME_S_MIN, LEAVES_PER_CHAIN_DIVISOR

from .server_identity import ServerIdentity

__all__ = ["Kept", "LeafCache", "LeafKey"]


class LeafKey(NamedTuple):
    """What must be the same for a leaf to be the same."""

    host: str
    fingerprint: bytes
    """Of the server's whole chain."""
    verification: str
    key_type: str
    not_before: int
    not_after: int

    @classmethod
    def of(cls, identity: ServerIdentity) -> LeafKey:
        """Return the key of a server's leaf."""
        return cls(
            identity.host,
            identity.fingerprint,
            identity.verification,
            identity.key_type,
            int(identity.not_before),
            int(identity.not_after),
        )

    @property
    def family(self) -> bytes:
        """Return what those have in common who share a part of the room."""
        return self.fingerprint if self.verification == "verified" else _UNVERIFIED


_UNVERIFIED: Final = b"unverified"


class Kept(Protocol):
    """What is remembered."""

    @property
    def not_after(self) -> int:
        """When it is of no use any more; seconds since the epoch."""
        ...


KeptT = TypeVar("KeptT", bound=Kept)


class LeafCache(Generic[KeptT]):
    """Leaves by what they are made for."""

    def __init__(self, size_max: int) -> None:
        """Make an empty one that holds at most ``size_max`` leaves."""
        self._size_max = size_max
        self._often_max = size_max * 3 // 4
        self._family_max = max(1, size_max // LEAVES_PER_CHAIN_DIVISOR)
        self._once: OrderedDict[LeafKey, KeptT] = OrderedDict()
        self._often: OrderedDict[LeafKey, KeptT] = OrderedDict()
        self._families: dict[bytes, OrderedDict[LeafKey, None]] = {}
        #: By family, the one that was used longest ago first.

    def __len__(self) -> int:
        """Return how many leaves there are."""
        return len(self._once) + len(self._often)

    def find(self, key: LeafKey, now: float) -> KeptT | None:
        """Return a leaf that is of use for a while, and take that it is used."""
        often = kept = self._often.get(key)
        if kept is None:
            kept = self._once.get(key)
            if kept is None:
                return None
        if kept.not_after - now < LEAF_LIFETIME_S_MIN:
            self._forget(key)
            return None
        self._families[key.family].move_to_end(key)
        if often is not None:
            self._often.move_to_end(key)
            return kept
        del self._once[key]
        self._often[key] = kept
        if len(self._often) > self._often_max:
            oldest, other = self._often.popitem(last=False)
            self._once[oldest] = other
        return kept

    def add(self, key: LeafKey, kept: KeptT) -> None:
        """Remember a leaf, in the place of another one where there is no room."""
        if key in self._once or key in self._often:
            self._forget(key)
        family = self._families.get(key.family)
        if family is not None and len(family) >= self._family_max:
            self._forget(next(iter(family)))
        elif len(self) >= self._size_max:
            self._forget(next(iter(self._once or self._often)))
        self._once[key] = kept
        self._families.setdefault(key.family, OrderedDict())[key] = None

    def _forget(self, key: LeafKey) -> None:
        if self._once.pop(key, None) is None:
            del self._often[key]
        family = self._families[key.family]
        del family[key]
        if not family:
            del self._families[key.family]
