"""Navigation: which pages the side bar leads to, in which order.

A new page is one more line here, one entry in ``entries`` and a module in ``pages``. The invariant:
every line leads to an entry, which a test checks.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from .roles import Role

__all__ = ["NAVIGATION", "Group", "Link"]


class Link(NamedTuple):
    """One page."""

    title: str
    path: str
    key: str
    """The letter that leads there behind a ``g``."""
    role: Role = Role.VIEWER


class Group(NamedTuple):
    """Pages of a kind."""

    title: str
    links: tuple[Link, ...]


NAVIGATION: Final = (
    Group(
        "Now",
        (
            Link("Overview", "/", "o"),
            Link("Connections", "/connections", "c"),
            Link("Sessions", "/sessions", "s"),
            Link("Held objects", "/transfers", "h"),
            Link("Alerts", "/alerts", "e"),
        ),
    ),
    Group("Past", (Link("Log", "/log", "l"),)),
    Group(
        "Gate",
        (
            Link("Policy", "/policy", "p"),
            Link("Filters", "/filters", "f"),
            Link("Scanners", "/scanners", "n"),
            Link("Certificate authority", "/authority", "a"),
            Link("System status", "/status", "y"),
            Link("About", "/about", "b"),
        ),
    ),
)
