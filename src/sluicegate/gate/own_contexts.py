"""OwnContexts: OpenSSL's side of the listeners whose clients speak TLS, as the settings have them.

``entry`` has one for its proxies, ``published_tls`` one for publications. The invariant: a listener
about which nothing has changed keeps its context, and with it the keys of its sessions' tickets;
what changed counts for handshakes that begin from now on, and for no connection that is open.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

from sluicegate.tls import KeyLog, TlsContext, TlsSettings

__all__ = ["OwnContexts"]

KeyT = TypeVar("KeyT")


class OwnContexts(Generic[KeyT]):
    """Contexts, by what asks for them."""

    __slots__ = ("_contexts", "_key_log")

    def __init__(self) -> None:
        self._contexts: dict[KeyT, TlsContext] = {}
        self._key_log: KeyLog | None = None
        #: By which they were made.

    def apply(self, wanted: Iterable[tuple[KeyT, TlsSettings]], key_log: KeyLog | None) -> None:
        """Have these from now on; settings were tried before, so nothing fails half way."""
        before, self._contexts = self._contexts, {}
        is_logged_as_before = key_log is self._key_log
        self._key_log = key_log
        for key, settings in wanted:
            if key in self._contexts:
                continue  # a listener has several addresses
            known = before.get(key)
            if known is not None and is_logged_as_before and known.settings == settings:
                self._contexts[key] = known
            else:
                self._contexts[key] = TlsContext(settings, key_log, known)

    def find(self, key: KeyT) -> TlsContext | None:
        """Return a context; None: clients speak in clear."""
        return self._contexts.get(key)
