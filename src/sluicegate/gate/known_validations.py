"""KnownValidations: servers that were verified a moment ago, for tunnels that are not opened.

``mode = "validate"`` verifies a server by a handshake of the gate's own, on a connection that is
then closed; ``opener`` keeps the outcome here for the next clients. The invariant: what is found
was verified by the settings in force, for the very host, port and address, within
``TLS_VALIDATION_KEPT_S`` and as long as its certificates were good; refusals are never kept.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeAlias

from sluicegate.access_limits import TLS_VALIDATION_KEPT_S, TLS_VALIDATIONS_KEPT_MAX
from sluicegate.address import SocketAddress
from sluicegate.tls import ServerIdentity, ServerProof

__all__ = ["KnownValidations", "ValidationKey"]

ValidationKey: TypeAlias = tuple[str, int, SocketAddress, int]
"""Host and port that were judged, the address that was dialled, and the epoch of the settings."""


class KnownValidations:
    """Of one worker."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: OrderedDict[ValidationKey, tuple[ServerProof, float]] = OrderedDict()
        #: Each with when it was verified, on the port's clock; the oldest first.

    def __len__(self) -> int:
        return len(self._known)

    def find(self, key: ValidationKey, now: float, wall: float) -> ServerIdentity | None:
        """Return who a server is; None: it has to be verified, anew or at all.

        Args:
            key: Which server.
            now: On the port's clock.
            wall: Seconds since the epoch.
        """
        known = self._known.get(key)
        if known is None:
            return None
        proof, verified = known
        if now - verified < TLS_VALIDATION_KEPT_S and wall < proof.good_until:
            return proof.identity
        del self._known[key]
        return None

    def keep(self, key: ValidationKey, proof: ServerProof, now: float) -> None:
        """Remember that a server was verified just now."""
        self._known.pop(key, None)
        if len(self._known) >= TLS_VALIDATIONS_KEPT_MAX:
            self._known.popitem(last=False)
        self._known[key] = proof, now
