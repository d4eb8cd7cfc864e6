"""ConsoleProofs: who has given a password lately, known where the console cannot reach.

``console_post`` asks it before it carries out what changes the policy. The console's process meets
browsers, and may be taken over; here, passwords are checked once more. The invariant: a ticket is
made of a right password of an administrator alone, is of one name, and is good for minutes, while
that password and role stand.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Final, NamedTuple

from sluicegate.access_limits import PASSWORD_BYTES_MAX
from sluicegate.clock import Clock
from sluicegate.console.accounts import Account, Accounts
from sluicegate.console.buckets import Buckets
from sluicegate.console.roles import Role
from sluicegate.console_limits import (
    CONSOLE_SESSIONS_MAX,
    LOGIN_BURST,
    LOGINS_PER_MINUTE,
    STEP_UP_S,
    TICKET_GRACE_S,
)
from sluicegate.errors import TransportError

__all__ = ["ConsoleProofs"]

_MINUTE_S: Final = 60.0
_TICKET_BYTES: Final = 32


class _Ticket(NamedTuple):
    account: Account
    ends: float
    """On the clock that never goes back."""


class ConsoleProofs:
    """The tickets of one console."""

    def __init__(self, folder: str, clock: Clock) -> None:
        """Have none yet.

        Args:
            folder: With the console's users, which its process may read and not write.
            clock: Tells when a ticket ends.
        """
        self.accounts = Accounts(folder)
        self._clock = clock
        self._attempts = Buckets(clock, LOGINS_PER_MINUTE / _MINUTE_S, LOGIN_BURST)
        self._tickets: dict[bytes, _Ticket] = {}

    async def prove(self, name: str, password: str) -> str:
        """Return a ticket for an administrator who gave the right password; empty: there is none.

        Wrong ones are as slow to try as in the console itself.
        """
        if len(password.encode()) > PASSWORD_BYTES_MAX:
            return ""  # nobody has it, so nobody waits for its turn
        if not self._attempts.take(name.lower()):
            return ""
        try:
            account = await self.accounts.verify(name, password)
        except TransportError:
            return ""
        if account is None or account.role < Role.ADMINISTRATOR:
            return ""
        self._attempts.give_back(name.lower())
        self._forget()
        ticket = secrets.token_urlsafe(_TICKET_BYTES)
        ends = self._clock.monotonic() + STEP_UP_S + TICKET_GRACE_S
        self._tickets[_digest(ticket)] = _Ticket(account, ends)
        return ticket

    def holder(self, ticket: str) -> str:
        """Return whose ticket it is; empty: nobody's who is as before an administrator."""
        found = self._tickets.get(_digest(ticket))
        if found is None or found.ends < self._clock.monotonic():
            return ""
        return found.account.name if self.accounts.stands(found.account) else ""

    def _forget(self) -> None:
        """Make room for one more."""
        now = self._clock.monotonic()
        over = [key for key, ticket in self._tickets.items() if ticket.ends < now]
        for key in over:
            del self._tickets[key]
        while len(self._tickets) >= CONSOLE_SESSIONS_MAX:
            del self._tickets[next(iter(self._tickets))]


def _digest(ticket: str) -> bytes:
    """Return what a ticket is looked up by: a look-up's time tells nothing about other tickets."""
    return hashlib.sha256(ticket.encode()).digest()
