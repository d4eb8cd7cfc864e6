"""Names and addresses of destinations: what a client may write, and what is dialled for it.

Entry modes canonicalise and parse with it, policy judges what it returns, the connector dials its
``Destination``. The invariant: client text never reaches a resolver or a socket, only the canonical
host made from it, and the addresses that were judged are the ones that are dialled. ``resolver``
and ``eyeballs`` are imported by name: what only judges needs no DNS codec.
"""

from .authority import Authority, parse_authority, parse_port
from .classify import AddressClass, AddressClassifier, AddressJudgement, Embedding, classify
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
