"""LdapPool: connections to the directory between two questions, and which server to try.

Threads of ``ldap_lookup`` take a link and give it back. This is also the one place where the gate
dials a directory: ``is_dial_allowed`` is asked before each one. The invariant: a link is used by
one thread at a time, one that failed is never used again, and only servers that the operator named
are dialled.
"""

from __future__ import annotations

import threading

from sluicegate.access_limits import LDAP_IDLE_S, LDAP_SERVER_AVOIDED_S
from sluicegate.address import SocketAddress
from sluicegate.clock import Clock
from sluicegate.errors import DirectoryFailed

from .ldap_link import LdapLink, make_context
from .ldap_settings import Addresses, DialAllowed, DirectoryServer, DirectorySettings

__all__ = ["LdapPool"]


class LdapPool:
    """The links of one process under one ``DirectorySettings``; for any thread."""

    def __init__(
        self,
        settings: DirectorySettings,
        clock: Clock,
        is_dial_allowed: DialAllowed = lambda _address: True,
    ) -> None:
        self.settings = settings
        self._clock = clock
        self._is_dial_allowed = is_dial_allowed
        self._context = make_context(settings)
        self._lock = threading.Lock()
        self._idle: dict[bool, list[LdapLink]] = {True: [], False: []}
        #: By whether they search.
        self._avoided: dict[DirectoryServer, float] = {}
        #: Servers that failed, and until when the others are tried first.
        self._is_closed = False

    def take(
        self, addresses: Addresses, deadline: float, *, searches: bool, fresh: bool
    ) -> tuple[LdapLink, bool]:
        """Return a link, and whether it was there already; ``fresh`` dials in any case.

        Raises:
            DirectoryFailed: No server can be reached; the reason of each is in it.
        """
        link = None if fresh else self._take_idle(searches=searches)
        if link is not None:
            return link, True
        return self._dial(addresses, deadline, searches=searches), False

    def give(self, link: LdapLink, *, searches: bool) -> None:
        """Keep a link that is in order for the next one."""
        link.idle_since = self._clock.monotonic()
        with self._lock:
            idle = self._idle[searches]
            if not self._is_closed and len(idle) < self.settings.connections_max:
                idle.append(link)
                return
        link.close()

    def close(self) -> None:
        """Close what is idle, and keep nothing from now on."""
        with self._lock:
            self._is_closed = True
            idle = [*self._idle[True], *self._idle[False]]
            self._idle = {True: [], False: []}
        for link in idle:
            link.close()

    def _take_idle(self, *, searches: bool) -> LdapLink | None:
        oldest = self._clock.monotonic() - LDAP_IDLE_S
        with self._lock:
            idle = self._idle[searches]
            stale = [link for link in idle if link.idle_since <= oldest]
            self._idle[searches] = idle = [link for link in idle if link.idle_since > oldest]
            link = idle.pop() if idle else None
        for one in stale:
            one.close()
        return link

    def _dial(self, addresses: Addresses, deadline: float, *, searches: bool) -> LdapLink:
        causes: list[str] = []
        for server in self._in_order():
            if not addresses.get(server):
                causes.append(f"{server}: its name was not found")
            for address in addresses.get(server, ()):
                if not self._is_dial_allowed(address):
                    causes.append(f"{server}: {address} is refused by [system]")
                    continue
                try:
                    return self._open(server, address, deadline, searches=searches)
                except DirectoryFailed as error:
                    causes.append(error.cause)
                    if not error.is_server:
                        raise
            self._avoid(server)
        raise DirectoryFailed("; ".join(causes) or "no server", is_server=True)

    def _open(
        self, server: DirectoryServer, address: SocketAddress, deadline: float, *, searches: bool
    ) -> LdapLink:
        settings = self.settings
        link = LdapLink(settings, server, address, self._context, self._clock)
        try:
            link.open(deadline)
            name, password = settings.bind_name, settings.bind_password
            if searches and name and not link.bind(name, password, deadline):
                raise DirectoryFailed(f"{server} refuses the password of bind_dn ({name})")
        except BaseException:
            link.close()
            raise
        with self._lock:
            self._avoided.pop(server, None)
        return link

    def _in_order(self) -> list[DirectoryServer]:
        now = self._clock.monotonic()
        with self._lock:
            avoided = {server for server, until in self._avoided.items() if until > now}
        return sorted(self.settings.servers, key=lambda server: server in avoided)

    def _avoid(self, server: DirectoryServer) -> None:
        with self._lock:
            self._avoided[server] = self._clock.monotonic() + LDAP_SERVER_AVOIDED_S
