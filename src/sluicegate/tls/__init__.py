"""TLS on the port: a layer between a connected socket and whoever uses it; this one re-exports.

The gate puts one on the clients of listeners that ask for it. The invariant: to its user the layer
is a socket like any other, and nothing passes it in clear before the handshake is done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluicegate.front import front

if TYPE_CHECKING:
    from .alpn import HTTP2
    from .client_names import CertificateRefused, ClientNames, NameSource, groups_of
    from .context import ClientCertificates, OwnPair, TlsContext, TlsSettings
    from .key_log import KeyLog
    from .layer import TlsLayer
    from .listener_stream import ListenerStream
    from .named_engine import NamedEngine
    from .own_names import canonical_names
    from .server_context import ServerContext
    from .server_fault import ServerFault
    from .server_identity import ServerFailure, ServerIdentity, ServerName, ServerProof
    from .server_settings import MinimumKey, Revocation, ServerTlsSettings, Stapling
    from .server_stream import ServerStream
    from .socket import TlsSocket
    from .stream import TlsStream
else:
    __getattr__ = front(
        __name__,
        alpn=("HTTP2",),
        client_names=("CertificateRefused", "ClientNames", "NameSource", "groups_of"),
        context=("ClientCertificates", "OwnPair", "TlsContext", "TlsSettings"),
        key_log=("KeyLog",),
        layer=("TlsLayer",),
        listener_stream=("ListenerStream",),
        named_engine=("NamedEngine",),
        own_names=("canonical_names",),
        server_context=("ServerContext",),
        server_fault=("ServerFault",),
        server_identity=("ServerFailure", "ServerIdentity", "ServerName", "ServerProof"),
        server_settings=("MinimumKey", "Revocation", "ServerTlsSettings", "Stapling"),
        server_stream=("ServerStream",),
        socket=("TlsSocket",),
        stream=("TlsStream",),
    )

__all__ = [
    "HTTP2",
    "CertificateRefused",
    "ClientCertificates",
    "ClientNames",
    "KeyLog",
    "ListenerStream",
    "MinimumKey",
    "NameSource",
    "NamedEngine",
    "OwnPair",
    "Revocation",
    "ServerContext",
    "ServerFailure",
    "ServerFault",
    "ServerIdentity",
    "ServerName",
    "ServerProof",
    "ServerStream",
    "ServerTlsSettings",
    "Stapling",
    "TlsContext",
    "TlsLayer",
    "TlsSettings",
    "TlsSocket",
    "TlsStream",
    "canonical_names",
    "groups_of",
]
