"""What a rule may ask of datagrams: checked at load, so that nothing fails at the first one.

``load`` calls it for each publication. The invariant: a rule that passes names only filters that
can see the traffic of its listener.
"""

from __future__ import annotations

from typing import Final

from sluicegate.documents import Document, Findings
from sluicegate.policy.model import Publication

from .config import Configuration
from .filters import InstalledFilters

__all__ = ["check_transport"]

_FOR_STREAMS: Final = frozenset({"stream", "content"})
_FOR_DATAGRAMS: Final = frozenset({"datagram"})


def check_transport(
    publication: Publication,
    configuration: Configuration,
    filters: InstalledFilters,
    place: tuple[Document, int],
    findings: Findings,
) -> None:
    """Refuse filters of streams on a UDP listener, filters of datagrams on a TCP one, and more."""
    is_udp = any(one.is_udp for one in configuration.listeners if one.name == publication.listener)
    document, index = place
    at = ("publish", index)
    wrong = _FOR_STREAMS if is_udp else _FOR_DATAGRAMS
    for number, name in enumerate(publication.filters):
        made = filters.made(name)
        if made is not None and made.tier in wrong:
            findings.refuse(
                document.where((*at, "filters", number)),
                f"{name!r} never sees {'datagrams' if is_udp else 'a stream'}, which is all that "
                f"the listener {publication.listener!r} takes",
                "remove it from this rule, or publish on another listener",
            )
    if is_udp and publication.send_proxy_protocol:
        findings.refuse(
            document.where((*at, "send_proxy_protocol")),
            "the PROXY protocol goes in front of a stream, and this listener takes datagrams",
            "remove it",
        )
