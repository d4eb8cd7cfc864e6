"""What a publication may ask where the gate speaks TLS with its clients, or with its server.

``load`` calls it for each publication. The invariant: nothing is judged twice, once outside and
once inside, and what stays in clear beside TLS is said.
"""

from __future__ import annotations

from sluicegate.policy import Place, Publication

from .config import Configuration

__all__ = ["check_published_tls"]


def check_published_tls(
    publication: Publication, configuration: Configuration, place: Place
) -> None:
    """Refuse checks of hellos that the gate answers itself; warn of what is not inside TLS."""
    listeners = [one for one in configuration.listeners if one.name == publication.listener]
    has_tls = any(one.tls is not None for one in listeners)
    if has_tls and publication.tls is not None and not publication.is_http:
        place.refuse(
            ("tls",),
            f"is about TLS that passes as it is, and the listener {publication.listener!r} speaks "
            "it with clients itself",
            "remove it: the names are those of the listener's certificates",
        )
    if publication.server_tls is not None and any(one.is_udp for one in listeners):
        cause = "TLS is spoken in streams, and this listener takes datagrams"
        place.refuse(("server_tls",), cause, "remove it")
    if publication.secondary and (has_tls or publication.server_tls is not None):
        place.warn(
            ("protocol",),
            f"the secondary connections of {publication.protocol!r} are not inside TLS",
            "clients and servers that demand that (PROT P) are refused by each other",
        )
