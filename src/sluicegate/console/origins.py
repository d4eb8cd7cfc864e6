"""Origins: the names under which a console is reached, and no others.

The invariant: a page of anybody else, also one whose name was made to lead to our address (DNS
rebinding), reaches nothing here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sluicegate.address import SocketAddress

__all__ = ["Origins"]

_WILDCARDS: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - what it may be bound to
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class Origins:
    """What Host and Origin may say; immutable."""

    def __init__(self, bound: SocketAddress, names: Iterable[str], *, has_tls: bool) -> None:
        """Take note of them.

        Args:
            bound: Where it listens.
            names: Further names, without port.
            has_tls: Whether it speaks TLS.
        """
        scheme = "https" if has_tls else "http"
        hosts = [name.lower() for name in names]
        if bound.host not in _WILDCARDS:
            hosts.append(f"[{bound.host}]" if ":" in bound.host else bound.host)
        if bound.host.startswith("127.") or bound.host == "::1" or not hosts:
            hosts.append("localhost")
        ends = [f":{bound.port}"]
        if bound.port == _DEFAULT_PORTS[scheme]:
            ends.append("")
        self._hosts = frozenset(host + end for host in hosts for end in ends)
        self._origins = frozenset(f"{scheme}://{host}" for host in self._hosts)
        first = next((one for one in hosts if one != "localhost"), "localhost")
        if names:
            first = hosts[0]
        self.own = f"{scheme}://{first}{ends[-1]}"
        #: What people are told to open.

    def has_host(self, host: str) -> bool:
        """Tell whether a request's Host is one of ours."""
        return host.lower() in self._hosts

    def origin_of(self, url: str) -> str:
        """Return which of our origins an address is of; the whole address, if it is of none."""
        return next((one for one in self._origins if url.startswith(f"{one}/")), url)

    def has_origin(self, origin: str) -> bool:
        """Tell whether a request's Origin is one of ours."""
        return origin.lower() in self._origins
