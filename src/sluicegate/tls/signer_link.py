"""SignerLink: a worker's end of the wire to the signer.

``signed_leaves`` asks through it; ``app`` gives it another socket when there is another signer. The
invariant: each question is answered once: with a leaf, with what the signer refused, or with a
failure when the signer is gone or late; nobody waits for a signer that may never come.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeAlias

from sluicegate.access_limits import SIGNER_TIMEOUT_S
from sluicegate.sandbox.wire import SocketWire, WireBroken, WireSocket

from .leaf import LeafFacts
from .leaf_fault import LeafFailure, LeafFault
from .leaf_source import Leaf
from .signer_messages import FromSigner, Mint, Minted, NotMinted, decode_from_signer

if TYPE_CHECKING:
    from sluicegate.port import CompletionPort, Timer

__all__ = ["Minter", "SignerLink"]

_Told: TypeAlias = Callable[[Leaf | LeafFailure], None]


class Minter(Protocol):
    """Has leaves signed."""

    def mint(self, facts: LeafFacts, then: _Told) -> None:
        """Have one signed; ``then`` is told once, later or at once."""
        ...


class SignerLink:
    """The signer, as one worker sees it; satisfies ``Minter``. Used on the port's thread only."""

    def __init__(self, port: CompletionPort) -> None:
        self._port = port
        self._wire: SocketWire[FromSigner] | None = None
        self._numbers = itertools.count(1)
        self._waiting: dict[int, tuple[LeafFacts, _Told, Timer]] = {}

    @property
    def is_up(self) -> bool:
        """Whether there is a signer."""
        return self._wire is not None

    def attach(self, raw: WireSocket) -> None:
        """Ask this signer from now on; what the last one was asked fails."""
        self.close("another signer has taken over")
        self._wire = SocketWire(raw, decode_from_signer, self._on_message, self._on_broken)

    def close(self, cause: str = "the gate is being stopped") -> None:
        """Close the wire; what is waited for fails."""
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()
        self._fail_all(cause)

    def mint(self, facts: LeafFacts, then: _Told) -> None:
        """As ``Minter.mint``."""
        if self._wire is None:
            then(LeafFailure(LeafFault.SIGNER_DOWN))
            return
        number = next(self._numbers)
        timer = self._port.call_after(SIGNER_TIMEOUT_S, lambda: self._on_late(number))
        self._waiting[number] = facts, then, timer
        self._wire.send(
            Mint(
                number,
                facts.host,
                facts.public_key,
                facts.not_before,
                facts.not_after,
                facts.is_trusted,
            )
        )

    def _on_late(self, number: int) -> None:
        _, then, _ = self._waiting.pop(number)
        then(LeafFailure(LeafFault.SIGNER_LATE, f"SIGNER_TIMEOUT_S ({SIGNER_TIMEOUT_S:g} s)"))

    def _on_message(self, message: FromSigner, descriptors: list[int]) -> None:
        for one in descriptors:
            os.close(one)
        found = self._waiting.pop(message.number, None)
        if found is None:
            return  # it was late
        facts, then, timer = found
        timer.cancel()
        then(_failure_of(message) if isinstance(message, NotMinted) else _leaf_of(message, facts))

    def _on_broken(self, error: WireBroken) -> None:
        self._wire = None
        self._fail_all(f"it {error}")

    def _fail_all(self, cause: str) -> None:
        waiting, self._waiting = self._waiting, {}
        for _, _, timer in waiting.values():
            timer.cancel()
        with contextlib.ExitStack() as last_first:  # also behind one who fails when it is told
            for _, then, _ in reversed(waiting.values()):
                last_first.callback(then, LeafFailure(LeafFault.SIGNER_DOWN, cause))


def _leaf_of(message: Minted, facts: LeafFacts) -> Leaf:
    return Leaf(
        facts.host,
        message.certificate,
        tuple(message.above),
        int(message.serial, 16),
        message.issuer,
        message.not_before,
        message.not_after,
        facts.is_trusted,
    )


def _failure_of(message: NotMinted) -> LeafFailure:
    fault = next((one for one in LeafFault if one.code == message.fault), LeafFault.SIGNER_FAILED)
    return LeafFailure(fault, message.detail)
