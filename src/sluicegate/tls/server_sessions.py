"""ServerSessions: what later handshakes with the same servers may be shortened by.

A ``ServerContext`` has one. The invariant: a session is given out once, only for the very name,
port and protocols it was made for, only of a server that was verified, and never after anything
that its verification rests on has expired.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TypeAlias

from OpenSSL import SSL

from sluicegate.access_limits import (
    TLS_SERVER_SESSION_S_MAX,
    TLS_SERVER_SESSIONS_MAX,
    TLS_SERVER_SESSIONS_PER_SERVER_MAX,
)

from .server_identity import ServerIdentity, ServerName

__all__ = ["KeptSession", "ServerSessions", "SessionKey"]

SessionKey: TypeAlias = tuple[ServerName, tuple[str, ...]]
"""The server, and the protocols that it was offered."""


@dataclass(frozen=True, slots=True)
class KeptSession:
    """One session, and who the server is that it was made with."""

    session: SSL.Session
    identity: ServerIdentity
    verified_at: float
    """When its chain was verified: not when it was resumed last; seconds since the epoch."""
    good_until: float
    """When the first certificate of the chain expires, or the stapled answer."""


class ServerSessions:
    """The sessions of one context, the last used at the end."""

    __slots__ = ("_kept", "count")

    def __init__(self) -> None:
        self.count = 0
        self._kept: OrderedDict[SessionKey, list[KeptSession]] = OrderedDict()

    def keep(self, key: SessionKey, kept: KeptSession) -> None:
        """Keep a session; the server that was used longest ago makes room."""
        assert kept.identity.is_verified, "nobody is believed for having been let through once"
        waiting = self._kept.setdefault(key, [])
        self._kept.move_to_end(key)
        if len(waiting) >= TLS_SERVER_SESSIONS_PER_SERVER_MAX:
            del waiting[0]
            self.count -= 1
        waiting.append(kept)
        self.count += 1
        while self.count > TLS_SERVER_SESSIONS_MAX:
            _, dropped = self._kept.popitem(last=False)
            self.count -= len(dropped)

    def take(self, key: SessionKey, now: float) -> KeptSession | None:
        """Return the newest session for a server, and keep it no more; None when there is none."""
        waiting = self._kept.get(key)
        if waiting is None:
            return None
        while waiting:
            kept = waiting.pop()
            self.count -= 1
            if now < kept.good_until and now < kept.verified_at + TLS_SERVER_SESSION_S_MAX:
                if not waiting:
                    del self._kept[key]
                return kept
        del self._kept[key]
        return None
