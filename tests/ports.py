"""Ports for servers of tests that are told where to listen; no two are told the same.

A port that was free a moment ago may be given out again, to a client or to another test that asks.
So each port is kept by a socket that is bound and never listens, for as long as this process lives.
A server that sets ``SO_REUSEADDR``, as all do that want to be restarted, may bind beside it and
listen; to who names no port the kernel does not give it (``inet_csk_find_open_port``, Linux 6.18).
Until somebody listens, who connects is refused.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Final

__all__ = ["free_port"]

_TRIES: Final = 100


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port that is free for TCP and UDP, and stays kept from others.

    Args:
        host: The address where a server is to listen.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for _ in range(_TRIES):
        kept = socket.socket(family)
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.bind((host, 0))
        port: int = kept.getsockname()[1]
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((host, port))
            kept.detach()  # so it is closed by the end of the process alone
            return port
        kept.close()
    raise AssertionError(f"no port of {host} is free for TCP and UDP")
