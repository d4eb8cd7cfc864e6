"""GateLeaves: the leaves of one gate, whatever ``[ca]`` says and whichever signer there is.

``build`` makes one for its service. The invariant: without ``[ca]`` there is no leaf; with it and
without a signer there is none but those that are remembered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sluicegate.gate.views import LeavesView
from sluicegate.port import CompletionPort
from sluicegate.sandbox.wire import WireSocket
from sluicegate.tls import KeyLog
from sluicegate.tls.leaf_keys import LeafKeys
from sluicegate.tls.leaf_source import LeafAnswer, NoLeaves
from sluicegate.tls.server_identity import ServerIdentity
from sluicegate.tls.signed_leaves import SignedLeaves
from sluicegate.tls.signer_link import SignerLink

from .authority_config import AuthoritySettings

__all__ = ["GateLeaves"]


class GateLeaves:
    """Satisfies ``LeafSource``."""

    def __init__(self, port: CompletionPort) -> None:
        self._port = port
        self._link = SignerLink(port)
        self._settings: AuthoritySettings | None = None
        self._leaves: SignedLeaves | None = None
        self._key_log: KeyLog | None = None

    def configure(self, settings: AuthoritySettings | None) -> None:
        """Go by what the configuration says; leaves stay if nothing about them has changed."""
        if settings == self._settings:
            return
        self._settings = settings
        self._leaves = None
        if settings is not None:
            self._leaves = SignedLeaves(
                self._link,
                LeafKeys(has_rsa=settings.has_rsa_leaves),
                self._port.clock,
                minimum=settings.minimum,
            )
            self._leaves.log_keys(self._key_log)

    def attach(self, signer: WireSocket | None = None) -> None:
        """Ask this signer from now on, or none."""
        if signer is None:
            self._link.close("there is none any more")
        else:
            self._link.attach(signer)

    def close(self) -> None:
        """Ask nobody any more; who waits is told."""
        self._link.close()

    def leaf_for(self, identity: ServerIdentity, then: Callable[[LeafAnswer], None]) -> None:
        """As ``LeafSource.leaf_for``."""
        (self._leaves or _NONE).leaf_for(identity, then)

    def log_keys(self, key_log: KeyLog | None) -> None:
        """As ``LeafSource.log_keys``."""
        self._key_log = key_log
        if self._leaves is not None:
            self._leaves.log_keys(key_log)

    def view(self) -> LeavesView:
        """Return what became of them."""
        leaves = self._leaves
        if leaves is None:
            return LeavesView()
        counts = leaves.counts
        return LeavesView(
            kept=leaves.kept,
            found=counts.found + counts.joined,
            minted=counts.minted,
            failed=counts.failed,
        )


_NONE: Final = NoLeaves()
