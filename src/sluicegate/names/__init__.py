"""Names and addresses of destinations: what a client may write, and what is dialled for it.

Entry modes canonicalise and parse with it, policy judges what it returns, the connector dials its
``Destination``. The invariant: client text never reaches a resolver or a socket, only the canonical
host made from it, and the addresses that were judged are the ones that are dialled. ``resolver``
and ``eyeballs`` are imported by name: what only judges needs no DNS codec.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluicegate.front import front

if TYPE_CHECKING:
    from .address_class import (
        AddressClass,
        AddressClassifier,
        AddressJudgement,
        Embedding,
        classify,
    )
    from .authority import Authority, parse_authority, parse_port
    from .destination import (
        Destination,
        DestinationJudge,
        JudgedAddress,
        LookupReason,
        Unresolved,
        deny_unless_public,
    )
    from .host import CanonicalHost, HostReason, HostRefused, canonical_host
    from .patterns import HostPattern
    from .special_names import NameClass, classify_name
else:
    __getattr__ = front(
        __name__,
        authority=("Authority", "parse_authority", "parse_port"),
        address_class=(
            "AddressClass",
            "AddressClassifier",
            "AddressJudgement",
            "Embedding",
            "classify",
        ),
        destination=(
            "Destination",
            "DestinationJudge",
            "JudgedAddress",
            "LookupReason",
            "Unresolved",
            "deny_unless_public",
        ),
        host=("CanonicalHost", "HostReason", "HostRefused", "canonical_host"),
        patterns=("HostPattern",),
        special_names=("NameClass", "classify_name"),
    )

__all__ = [
    "AddressClass",
    "AddressClassifier",
    "AddressJudgement",
    "Authority",
    "CanonicalHost",
    "Destination",
    "DestinationJudge",
    "Embedding",
    "HostPattern",
    "HostReason",
    "HostRefused",
    "JudgedAddress",
    "LookupReason",
    "NameClass",
    "Unresolved",
    "canonical_host",
    "classify",
    "classify_name",
    "deny_unless_public",
    "parse_authority",
    "parse_port",
]
