"""SinkSettings: where one sink sends which records, as it passes between processes."""

from __future__ import annotations

from typing import Final

import msgspec

from sluicegate.names import Authority, HostReason, HostRefused, parse_authority

__all__ = ["SCHEMES", "SinkSettings", "read_place"]

SCHEMES: Final = ("unix", "tcp", "tls", "http", "https")
"""What ``to`` may begin with: syslog over one of the first three, OTLP over one of the others."""


class SinkSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One sink."""

    name: str
    to: str
    """``unix:/dev/log``, ``tcp://HOST:PORT``, ``tls://HOST:PORT`` or an ``http(s)`` URL."""
    query: str = ""
    """Only what it chooses; empty: all records."""
    ca: str = ""
    """A file of certificates that the other side is verified with; empty: the system's."""
    headers: str = ""
    """Of OTLP: a file with headers of requests, one a line; empty: none."""
    trace_ratio: float = 0.0
    """0: records are sent; else it is OTLP, and spans are sent of this share of connections."""
    queue_bytes: int = 64 << 20
    """How much of the log may wait for the other side; beyond it, the oldest is left out."""

    @property
    def place(self) -> tuple[Authority, str]:
        """Host and port, and what stands behind them."""
        return read_place(self.to)

    @property
    def scheme(self) -> str:
        """How it is spoken to."""
        return self.to.partition(":")[0]


_PORTS: Final = {"tcp": 601, "tls": 6514, "http": 80, "https": 443}
"""RFC 6587, RFC 5425, and the web's."""


def read_place(to: str) -> tuple[Authority, str]:
    """Read host and port of where a sink sends to, and what stands behind them.

    Raises:
        HostRefused: There is no host, or none that can be; or what is behind it is no path.
    """
    scheme, _, rest = to.partition("://")
    authority, slash, path = rest.partition("/")
    if wrong := next((one for one in path if not "!" <= one <= "~"), ""):
        raise HostRefused(HostReason.FORBIDDEN_CHARACTER, f"the path has {wrong!r} in it")
    return parse_authority(authority, default_port=_PORTS.get(scheme)), slash + path
