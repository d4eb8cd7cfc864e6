"""LeafTls: OpenSSL's side of a leaf, ready for handshakes with clients.

``signed_leaves`` makes one for each leaf and each protocol that servers chose with it. The
invariant: as on our own listeners, TLS 1.2 or newer, no renegotiation, no compression, no early
data (whoever replays a request would have it sent twice); clients are offered the protocol that
the server chose, and no other. Sessions are resumed by tickets whose key is this context's: none
leads from one server to another.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from OpenSSL import SSL

from .engine import TlsEngine, prepare
from .key_log import KeyLog
from .leaf_keys import LeafPrivateKey
from .leaf_source import Leaf
from .record_connection import ChoosingContext, RecordConnection, UncalledConnection

__all__ = ["KeptLeaf", "LeafTls"]


class LeafTls:
    """One leaf with one protocol; satisfies ``LeafContext``."""

    __slots__ = ("_context", "alpn", "key_log", "leaf")

    def __init__(
        self,
        leaf: Leaf,
        key: LeafPrivateKey,
        alpn: str,
        minimum: ssl.TLSVersion,
        key_log: KeyLog | None = None,
    ) -> None:
        self.leaf = leaf
        self.alpn = alpn
        self.key_log = key_log
        #: Who is told the keys of all connections.
        context = ChoosingContext(SSL.TLS_SERVER_METHOD)
        prepare(context)
        context.set_min_proto_version(minimum)
        # What clients resume by is in their tickets: nothing of them is kept here.
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.use_certificate(x509.load_der_x509_certificate(leaf.certificate))
        # Else OpenSSL looks for what is above it, for each client anew.
        context.set_mode(_MODE_NO_AUTO_CHAIN)
        for one in leaf.above:
            context.add_extra_chain_cert(x509.load_der_x509_certificate(one))
        context.use_privatekey(key)
        if alpn:
            context.choose(alpn)
        if key_log is not None:
            key_log.watch(context)
        self._context = context

    def engine(self) -> TlsEngine:
        """As ``EngineSource.engine``."""
        kind = UncalledConnection if self.key_log is None else RecordConnection
        connection = kind(self._context)
        connection.set_accept_state()
        return TlsEngine(connection)


@dataclass(slots=True)
class KeptLeaf:
    """A leaf with its key, and the contexts that were made of it."""

    leaf: Leaf
    key: LeafPrivateKey
    minimum: ssl.TLSVersion
    contexts: dict[str, LeafTls]
    """By protocol: as many as servers may choose of what we offer them."""

    @property
    def not_after(self) -> int:
        """As ``Kept.not_after``."""
        return self.leaf.not_after

    def context(self, alpn: str, key_log: KeyLog | None = None) -> LeafTls:
        """Return the context for what a server chose, with keys logged where that is wanted now."""
        found = self.contexts.get(alpn)
        if found is None or found.key_log is not key_log:
            found = LeafTls(self.leaf, self.key, alpn, self.minimum, key_log)
            self.contexts[alpn] = found
        return found


_MODE_NO_AUTO_CHAIN: Final = 8
"""``SSL_MODE_NO_AUTO_CHAIN``, for which pyOpenSSL has no name."""
