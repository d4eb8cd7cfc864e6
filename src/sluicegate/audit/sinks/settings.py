"""SinkSettings: where one sink sends which records, as it passes between processes."""

from __future__ import annotations

from typing import Final

import msgspec

__all__ = ["SCHEMES", "SinkSettings"]

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
    queue_bytes: int = 64 << 20
    """How much of the log may wait for the other side; beyond it, the oldest is left out."""

    @property
    def scheme(self) -> str:
        """How it is spoken to."""
        return self.to.partition(":")[0]
