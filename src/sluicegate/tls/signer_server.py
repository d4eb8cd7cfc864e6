"""SignerServer: answers the workers, in the one process that has the authorities' keys.

``app.processes.signer`` keeps one alive. The invariant: a worker that breaks its wire, or says what
is no question, loses its wire and harms nobody else; a key that cannot be used ends the process,
after whoever asked was told, so that the next one begins anew.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeAlias

from sluicegate.clock import Clock
from sluicegate.sandbox.wire import SocketWire, Wire, WireBroken, WireSocket

from .authority import Authority
from .leaf import LeafFacts
from .leaf_fault import LeafFault, LeafRefused
from .pkcs11_key import KeyUnusable
from .signer_messages import FromSigner, Mint, Minted, NotMinted, decode_to_signer

__all__ = ["SignerServer"]


_Wire: TypeAlias = SocketWire[Mint]


class SignerServer:
    """The two authorities, and the wires to the workers."""

    def __init__(
        self,
        trusted: Authority,
        untrusted: Authority,
        clock: Clock,
        on_unusable: Callable[[str], None],
    ) -> None:
        """Begin without workers.

        Args:
            trusted: Whom clients trust.
            untrusted: Whom nobody trusts; signs for servers that were not verified.
            clock: For the validity of leaves.
            on_unusable: Told, once, why a key does not sign any more.
        """
        self._trusted = trusted
        self._untrusted = untrusted
        self._clock = clock
        self._on_unusable = on_unusable
        self._wires: set[_Wire] = set()
        self.signed = 0

    def add_worker(self, raw: WireSocket) -> None:
        """Answer one more worker."""

        def on_message(message: Mint, descriptors: list[int]) -> None:
            for one in descriptors:
                os.close(one)
            self._answer(message, wire)

        def on_broken(_: WireBroken) -> None:
            self._wires.discard(wire)

        wire: _Wire = SocketWire(raw, decode_to_signer, on_message, on_broken)
        self._wires.add(wire)

    def close(self) -> None:
        """Close all wires."""
        while self._wires:
            self._wires.pop().close()

    def _answer(self, message: Mint, wire: Wire) -> None:
        try:
            answer: FromSigner = self._sign(message)
        except LeafRefused as refused:
            failure = refused.failure
            answer = NotMinted(message.number, failure.fault.code, failure.detail)
        except KeyUnusable as error:
            wire.send(NotMinted(message.number, LeafFault.SIGNER_FAILED.code, str(error)))
            self._on_unusable(str(error))
            return
        wire.send(answer)

    def _sign(self, message: Mint) -> Minted:
        facts = LeafFacts(
            message.host,
            message.public_key,
            message.not_before,
            message.not_after,
            message.is_trusted,
        )
        authority = self._trusted if facts.is_trusted else self._untrusted
        leaf = authority.sign(facts, self._clock.wall())
        self.signed += 1
        return Minted(
            message.number,
            leaf.certificate,
            list(leaf.above),
            f"{leaf.serial:x}",
            leaf.issuer,
            leaf.not_before,
            leaf.not_after,
        )
