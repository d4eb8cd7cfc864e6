"""KnownProtocols: servers that speak nothing but HTTP/2, for clients that speak HTTP/1 alone.

A server is offered what its client offers; one that has none of it is dialled anew, to be asked in
HTTP/2. ``opener`` and the web's ``routing`` keep that here, so that the next client costs one dial.
The invariant: what is kept was said by the very host, port and address, verified by the settings in
force, within ``TLS_PROTOCOL_KEPT_S``; it chooses what is offered, and proves nothing.
"""

from __future__ import annotations

from collections import OrderedDict

from sluicegate.access_limits import TLS_PROTOCOL_KEPT_S, TLS_PROTOCOLS_KEPT_MAX

from .known_validations import ValidationKey

__all__ = ["KnownProtocols"]


class KnownProtocols:
    """Of one worker."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: OrderedDict[ValidationKey, float] = OrderedDict()
        #: Each with when it was said last, on the port's clock; the oldest first.

    def __len__(self) -> int:
        return len(self._known)

    def is_http2_alone(self, key: ValidationKey, now: float) -> bool:
        """Tell whether a server has said so a while ago."""
        said = self._known.get(key)
        if said is None:
            return False
        if now - said < TLS_PROTOCOL_KEPT_S:
            return True
        del self._known[key]
        return False

    def keep(self, key: ValidationKey, now: float) -> None:
        """Remember a server that had none of HTTP/1, and was verified in HTTP/2 just now."""
        self._known.pop(key, None)
        if len(self._known) >= TLS_PROTOCOLS_KEPT_MAX:
            self._known.popitem(last=False)
        self._known[key] = now

    def forget(self, key: ValidationKey) -> bool:
        """Take that a server does not speak HTTP/2 now; False: nobody had said that it does."""
        return self._known.pop(key, None) is not None
