"""TLS on the port: a layer between a connected socket and whoever uses it; this one re-exports.

The gate puts one on the clients of listeners that ask for it. The invariant: to its user the layer
is a socket like any other, and nothing passes it in clear before the handshake is done.
"""

from .client_names import CertificateRefused, ClientNames, NameSource, groups_of
from .context import ClientCertificates, TlsContext, TlsSettings
from .layer import TlsLayer
from .socket import TlsSocket
from .stream import TlsStream

__all__ = [
    "CertificateRefused",
    "ClientCertificates",
    "ClientNames",
    "NameSource",
    "TlsContext",
    "TlsLayer",
    "TlsSettings",
    "TlsSocket",
    "TlsStream",
    "groups_of",
]
