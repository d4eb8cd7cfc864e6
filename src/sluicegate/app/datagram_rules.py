"""What a rule may ask of datagrams: checked at load, so that nothing fails at the first one.

``load`` calls it for each publication. The invariant: a rule that passes names only filters that
can see the traffic of its listener.
"""

from __future__ import annotations

from typing import Final, cast

from sluicegate.policy import AnyRule, Place, Publication

from .config import Configuration
from .filters import InstalledFilters

__all__ = ["check_transport", "place_of_filter"]

_FOR_STREAMS: Final = frozenset({"stream", "content", "web"})
_FOR_DATAGRAMS: Final = frozenset({"datagram"})


def check_transport(
    publication: Publication,
    configuration: Configuration,
    filters: InstalledFilters,
    place: Place,
) -> None:
    """Refuse filters of streams on a UDP listener, filters of datagrams on a TCP one, and more."""
    is_udp = any(one.is_udp for one in configuration.listeners if one.name == publication.listener)
    wrong = _FOR_STREAMS if is_udp else _FOR_DATAGRAMS
    for name in publication.filters:
        made = filters.made(name)
        if made is not None and made.tier in wrong:
            place.refuse(
                place_of_filter(publication, place, name),
                f"{name!r} never sees {'datagrams' if is_udp else 'a stream'}, which is all that "
                f"the listener {publication.listener!r} takes",
                "remove it from this rule, or publish on another listener",
            )
    if is_udp and publication.is_http:
        place.refuse(
            ("http",),
            "HTTP/1.1 is spoken in streams, and this listener takes datagrams",
            "remove it",
        )
    if is_udp and publication.tls is not None:
        place.refuse(
            ("tls",),
            "a ClientHello comes in a stream, and this listener takes datagrams",
            "remove it",
        )
    if is_udp and publication.send_proxy_protocol:
        place.refuse(
            ("send_proxy_protocol",),
            "the PROXY protocol goes in front of a stream, and this listener takes datagrams",
            "remove it",
        )


def place_of_filter(rule: AnyRule, place: Place, name: str) -> tuple[str | int, ...]:
    """Return the key that makes a rule run a filter: its own list, or the protocol it names."""
    written = place.document.table((*place.at, "filters"))
    for index, own in enumerate(cast("list[object]", written) if isinstance(written, list) else []):
        if own == name:
            return ("filters", index)
    return ("protocol",) if isinstance(rule, Publication) else ("protocols",)
