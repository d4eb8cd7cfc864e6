"""OpenedTls: what is known of a connection whose TLS was opened, or whose server was verified.

``opener`` notes it while it brings both sides up, records and people are shown it. The invariant:
it holds no key and no content, and says nothing that no handshake has shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sluicegate.policy.tls_opening import TlsMode

if TYPE_CHECKING:
    from sluicegate.audit import ConnectionRecord
    from sluicegate.names import CanonicalHost
    from sluicegate.tls import ServerIdentity
    from sluicegate.tls.engine import TlsEngine
    from sluicegate.tls.leaf_source import Leaf

__all__ = ["OpenedTls"]


@dataclass(slots=True)
class OpenedTls:
    """One connection's TLS."""

    host: CanonicalHost
    """Who the server has to be."""
    mode: TlsMode
    """What the rule wants of it."""
    identity: ServerIdentity | None = None
    """Who the server is, once it has shown it."""
    verification: str = ""
    """``verified``, or the code of what is wrong; empty: no handshake has come so far."""
    leaf: Leaf | None = None
    """What the client was shown."""
    client_version: str = ""
    client_cipher: str = ""
    sni: str = ""
    """The name in the client's hello, as it wrote it."""
    suggestion: str = ""
    """What an operator may want to write; the gate never does it by itself."""

    def describe(self, record: ConnectionRecord) -> None:
        """Say in a record how TLS was opened."""
        if self.sni:
            record.sni = self.sni
        if self.mode is TlsMode.SPLICE:
            return
        record.tls = "inspect" if self.mode is TlsMode.INSPECT else "validate"
        record.suggestion = self.suggestion
        record.tls_verification = self.verification
        if self.identity is not None:
            record.tls_issuer = self.identity.issuer
            record.tls_server = f"{self.identity.version} {self.identity.cipher}"
        if self.client_version:
            record.tls_client = f"{self.client_version} {self.client_cipher}"
        if self.leaf is not None:
            record.tls_leaf = f"{self.leaf.serial:x}"

    def take_identity(self, identity: ServerIdentity) -> None:
        """Note who the server is."""
        self.identity = identity
        self.verification = identity.verification

    def take_client(self, engine: TlsEngine) -> None:
        """Note what was agreed on with the client."""
        self.client_version, self.client_cipher = engine.version, engine.cipher

    def suggest_splice(self) -> None:
        """Suggest to pass the host on as it is."""
        self.suggestion = f'tls = {{ mode = "inspect", splice = ["{self.host}"] }}'
