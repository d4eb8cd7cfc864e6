"""What an operator writes for a destination, read as a gate reads what clients write.

``explain`` takes its ``--to`` from here. The invariant: a destination that a gate would refuse to
read is refused here with the same reason.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from sluicegate.names import CanonicalHost, parse_authority

__all__ = ["WrittenDestination", "read_destination"]

_PATH: Final = re.compile(r"[/?]")
"""Where the authority of a URL ends."""
_SCHEMES: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class WrittenDestination:
    """A destination, and what a URL said beside it."""

    host: CanonicalHost
    port: int
    scheme: str = ""
    path: str = ""
    """As it was written; empty unless a URL was."""


def read_destination(text: str, *, allow_underscore: bool, default_port: int) -> WrittenDestination:
    """Read ``name``, ``name:port``, ``[address]:port``, or a URL of http or https.

    Args:
        text: What was written.
        allow_underscore: Whether policy allows underscores in names.
        default_port: Of what is no URL and has no port.

    Raises:
        HostRefused: It is no destination.
    """
    scheme, is_url, rest = text.partition("://")
    port = _SCHEMES.get(scheme.lower()) if is_url else None
    if port is None:
        found = parse_authority(text, default_port=default_port, allow_underscore=allow_underscore)
        return WrittenDestination(found.host, found.port)
    begins = _PATH.search(rest)
    end = len(rest) if begins is None else begins.start()
    authority, path = rest[:end], rest[end:]
    found = parse_authority(authority, default_port=port, allow_underscore=allow_underscore)
    path = path if path.startswith("/") else f"/{path}"
    return WrittenDestination(found.host, found.port, scheme.lower(), path)
