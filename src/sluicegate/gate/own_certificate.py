"""OwnCertificate: a certificate of the gate's own, for the servers that are to be shown it.

``app`` reads them, ``server_tls`` asks for each server. The invariant: no other server is shown it,
however much it asks: it would learn who the gate is.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from sluicegate.names import HostPattern
from sluicegate.tls import ServerTlsSettings

__all__ = ["OwnCertificate"]


@dataclass(frozen=True, slots=True)
class OwnCertificate:
    """One ``[[tls.client_certificate]]``."""

    to: tuple[HostPattern, ...]
    """The servers that are shown it."""
    certificate: str
    """As PEM, with what leads from it to an authority."""
    key: str = field(repr=False)

    def added_to(self, settings: ServerTlsSettings) -> ServerTlsSettings:
        """Return settings with this certificate."""
        return replace(settings, certificate=self.certificate, key=self.key)
