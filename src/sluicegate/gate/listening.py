"""Listening: which listeners a reload keeps, and which it opens.

``service`` asks when settings are applied. The invariant: what listens on the same address with the
same protocol keeps its socket, so that a reload turns no client away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from sluicegate.address import SocketAddress
from sluicegate.port import Listener

from .listener import EntryListener
from .settings import ListenerSettings, ServiceSettings
from .udp_listener import UdpListener

if TYPE_CHECKING:
    from .service import FirewallService

__all__ = ["AnyListener", "bound_addresses", "kept_listeners", "open_listeners"]

AnyListener: TypeAlias = EntryListener | UdpListener


def bound_addresses(listeners: Iterable[AnyListener]) -> list[SocketAddress]:
    """Return where the gate itself listens, of either protocol."""
    return [
        one.bound_address() if isinstance(one, UdpListener) else one.listener.local_address()
        for one in listeners
    ]


def kept_listeners(
    listeners: Sequence[AnyListener], settings: ServiceSettings
) -> dict[AnyListener, ListenerSettings]:
    """Return the listeners that stay, perhaps under another name: same place, same socket."""
    kept = {one: one.settings for one in listeners if one.settings in settings.listeners}
    for wanted in settings.listeners:
        if wanted not in kept.values():
            for entry in listeners:
                if entry not in kept and entry.settings.place == wanted.place:
                    kept[entry] = wanted
                    break
    return kept


def open_listeners(
    service: FirewallService,
    listen: Callable[[SocketAddress], Listener],
    settings: ServiceSettings,
    kept: Mapping[AnyListener, ListenerSettings],
) -> list[AnyListener]:
    """Bind what is new before anything changes; undo all of it when one fails.

    Raises:
        TransportError: An address cannot be listened on.
    """
    there = set(kept.values())
    opened: list[AnyListener] = []
    try:
        opened.extend(
            service.udp.make_listener(item)
            if item.is_udp
            else EntryListener(service, item, listen(item.address))
            for item in settings.listeners
            if item not in there
        )
    except BaseException:
        for entry in opened:
            entry.close()
        raise
    return opened
