"""SignedLeaves: leaves that are remembered, or that the signer makes now.

A worker has one; it satisfies ``LeafSource``. The invariant: of many who ask for the same leaf at
once, the first has it signed and all get it, or all are told why there is none; a failure is not
remembered, so the next one to ask tries again.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from sluicegate.access_limits import LEAVES_KEPT_MAX, LEAVES_WAITING_MAX
from sluicegate.clock import Clock

from .key_log import KeyLog
from .leaf import LeafFacts, key_kind_of, validity_of
from .leaf_cache import LeafCache, LeafKey
from .leaf_fault import LeafFailure, LeafFault
from .leaf_keys import LeafKeys, LeafPrivateKey, public_der
from .leaf_source import Leaf, LeafAnswer
from .leaf_tls import KeptLeaf
from .server_identity import ServerIdentity
from .signer_link import Minter

__all__ = ["LeafCounts", "SignedLeaves"]

_Waiting: TypeAlias = tuple[str, Callable[[LeafAnswer], None]]
"""The protocol that a server chose, and who asks."""


@dataclass(slots=True)
class LeafCounts:
    """What became of the questions."""

    found: int = 0
    minted: int = 0
    joined: int = 0
    """Of those who asked while it was being made."""
    failed: int = 0


class SignedLeaves:
    """The leaves of one worker; used on the port's thread only."""

    def __init__(
        self,
        minter: Minter,
        keys: LeafKeys,
        clock: Clock,
        *,
        minimum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
        kept_max: int = LEAVES_KEPT_MAX,
    ) -> None:
        """Begin with none.

        Args:
            minter: Has leaves signed.
            keys: Gives each its key.
            clock: For their validity.
            minimum: The oldest version of TLS that clients may speak.
            kept_max: How many are remembered.
        """
        self.counts = LeafCounts()
        self._key_log: KeyLog | None = None
        self._minter = minter
        self._keys = keys
        self._clock = clock
        self._minimum = minimum
        self._cache: LeafCache[KeptLeaf] = LeafCache(kept_max)
        self._waiting: dict[LeafKey, list[_Waiting]] = {}
        #: Who asks for what is being made, each with the protocol that its server chose.

    @property
    def kept(self) -> int:
        """How many are remembered."""
        return len(self._cache)

    def log_keys(self, key_log: KeyLog | None) -> None:
        """As ``LeafSource.log_keys``."""
        self._key_log = key_log

    def leaf_for(self, identity: ServerIdentity, then: Callable[[LeafAnswer], None]) -> None:
        """As ``LeafSource.leaf_for``."""
        key, now = LeafKey.of(identity), self._clock.wall()
        kept = self._cache.find(key, now)
        if kept is not None:
            self.counts.found += 1
            then(kept.context(identity.alpn, self._key_log))
            return
        waiting = self._waiting.get(key)
        if waiting is not None:
            self.counts.joined += 1
            waiting.append((identity.alpn, then))
        elif len(self._waiting) >= LEAVES_WAITING_MAX:
            self.counts.failed += 1
            bound = f"LEAVES_WAITING_MAX ({LEAVES_WAITING_MAX})"
            then(LeafFailure(LeafFault.TOO_MANY, bound))
        else:
            self._waiting[key] = [(identity.alpn, then)]
            try:
                self._have_signed(key, identity, now)
            except BaseException:
                self._waiting.pop(key, None)  # else all who ask from now on would wait for it
                raise

    def _have_signed(self, key: LeafKey, identity: ServerIdentity, now: float) -> None:
        private = self._keys.take(key_kind_of(identity))
        first, last = validity_of(identity, now)
        facts = LeafFacts(identity.host, public_der(private), first, last, identity.is_verified)
        self._minter.mint(facts, lambda answer: self._on_answer(key, private, answer))

    def _on_answer(self, key: LeafKey, private: LeafPrivateKey, answer: Leaf | LeafFailure) -> None:
        waiting = self._waiting.pop(key)
        if isinstance(answer, LeafFailure):
            self.counts.failed += len(waiting)
            self._tell(waiting, lambda _alpn: answer)
            return
        self.counts.minted += 1
        kept = KeptLeaf(answer, private, self._minimum, {})
        self._cache.add(key, kept)
        self._tell(waiting, lambda alpn: kept.context(alpn, self._key_log))

    def _tell(self, waiting: list[_Waiting], answer_for: Callable[[str], LeafAnswer]) -> None:
        """Tell everybody who waits, also behind one who fails when it is told."""
        with contextlib.ExitStack() as last_first:
            for alpn, then in reversed(waiting):
                last_first.callback(_tell_one, then, alpn, answer_for)


def _tell_one(
    then: Callable[[LeafAnswer], None], alpn: str, answer_for: Callable[[str], LeafAnswer]
) -> None:
    then(answer_for(alpn))
