"""Names that mean something without DNS, or that lead to a cloud's metadata.

The resolver asks before it queries, policy when it explains. The invariant: a name of this table
causes no query unless the operator lifted its class, because the answer would be somebody's guess.
"""

from __future__ import annotations

import enum
from typing import Final

from .host import CanonicalHost

__all__ = ["NameClass", "classify_name"]


class NameClass(enum.StrEnum):
    """What a name means by registry; ``ORDINARY`` is everything that DNS is there for."""

    ORDINARY = "ordinary"
    LOOPBACK = "loopback-name"
    """``localhost`` and below: always this machine (RFC 6761 section 6.3)."""

    LINK_LOCAL = "multicast-dns-name"
    """``.local``: asked by multicast, not of DNS servers (RFC 6762 section 3)."""

    INVALID = "invalid-name"
    """``.invalid``: never exists (RFC 6761 section 6.4)."""

    NOT_DNS = "not-a-dns-name"
    """``.onion``, ``.alt``: other systems' names; DNS may not learn them (RFC 7686, RFC 9476)."""

    METADATA = "metadata-name"
    """A cloud's metadata service, which hands credentials to whoever asks."""


_BY_SUFFIX: Final[dict[str, NameClass]] = {
    "localhost": NameClass.LOOPBACK,
    # Debian and Red Hat write these into /etc/hosts beside localhost.
    "localdomain": NameClass.LOOPBACK,
    "ip6-localhost": NameClass.LOOPBACK,
    "ip6-loopback": NameClass.LOOPBACK,
    "local": NameClass.LINK_LOCAL,
    "invalid": NameClass.INVALID,
    "onion": NameClass.NOT_DNS,
    "alt": NameClass.NOT_DNS,
    "metadata.google.internal": NameClass.METADATA,
    "metadata.goog": NameClass.METADATA,
    # The search domain of Google's machines completes this one.
    "metadata": NameClass.METADATA,
    # EC2 and OpenStack.
    "instance-data": NameClass.METADATA,
    "instance-data.ec2.internal": NameClass.METADATA,
    "metadata.azure.internal": NameClass.METADATA,
    "metadata.tencentyun.com": NameClass.METADATA,
    "metadata.platformequinix.com": NameClass.METADATA,
    "metadata.packet.net": NameClass.METADATA,
}


def classify_name(host: CanonicalHost) -> NameClass:
    """Return the class of a name, by the longest ending that the table has."""
    labels = host.labels
    for start in range(len(labels)):
        found = _BY_SUFFIX.get(".".join(labels[start:]))
        if found is not None:
            return found
    return NameClass.ORDINARY
