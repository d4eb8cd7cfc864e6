"""The names of protocols as ALPN has them (RFC 7301, RFC 9113 section 3.2).

Listeners offer them, and so does whoever dials servers. The invariant: each is written here alone.
"""

from __future__ import annotations

from typing import Final

__all__ = ["HTTP2"]

HTTP2: Final = "h2"
