"""Sessions: who is logged in to the console, kept in its memory alone.

The invariant: a browser's cookie is worth nothing but the look-up of a session here, of which only
a digest is kept; one that is over, by idleness, age, log-out or removal of its user, is gone.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from dataclasses import dataclass, field
from typing import Final

from sluicegate.clock import Clock
from sluicegate.console_limits import (
    CONSOLE_SESSIONS_MAX,
    SESSION_ABSOLUTE_S,
    SESSION_IDLE_S,
    STEP_UP_S,
)

from .accounts import Account
from .roles import Role

__all__ = ["COOKIE", "EXTERNAL", "Session", "Sessions"]

COOKIE: Final = "__Host-sluicegate"
"""The prefix makes browsers insist on Secure, on the whole host, and on no other host."""

EXTERNAL: Final = "oidc:"
"""Before the names of people whom a provider let in: no local user's name has a colon."""

_TOKEN_BYTES: Final = 32


@dataclass(slots=True)
class Session:
    """Somebody's, from logging in to logging out."""

    account: Account
    client: str
    """The address that logged in."""
    started: float
    asked: float
    """When it asked something last, on the clock that never goes back, as ``started``."""
    proved: float
    """When the password was given last; before everything, where it never was."""
    digest: bytes
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(_TOKEN_BYTES))
    """What a form must carry to have been made by us."""
    ticket: str = ""
    """What stands for the password at the gate, for some minutes."""
    streams: int = 0
    """Pages that are updated live."""
    is_token: bool = False
    """Whether it is of one request, by a token."""
    is_first: bool = False
    """Whether it came by the link of the first start: there is no user behind it."""

    @property
    def is_external(self) -> bool:
        """Whether a provider let it in."""
        return self.account.name.startswith(EXTERNAL)

    @property
    def role(self) -> Role:
        """What it may do."""
        return self.account.role


class Sessions:
    """All sessions of one console."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._by_digest: dict[bytes, Session] = {}

    def __len__(self) -> int:
        return len(self._by_digest)

    def begin(
        self, account: Account, client: str, *, is_first: bool = False
    ) -> tuple[Session, str]:
        """Begin one; return it, and what the browser keeps."""
        self._forget()
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        now = self._clock.monotonic()
        session = Session(account, client, now, now, now, _digest(token), is_first=is_first)
        self._by_digest[session.digest] = session
        return session, token

    def of_token(self, account: Account, client: str) -> Session:
        """Return what stands for one request with a token; it is kept nowhere."""
        now = self._clock.monotonic()
        return Session(account, client, now, now, -math.inf, b"", is_token=True)

    def find(self, token: str, *, is_person: bool = True) -> Session | None:
        """Return the session that a browser keeps the token of, if it goes on.

        Args:
            token: What the browser sent.
            is_person: False leaves it as idle as it was: a page asks by itself.
        """
        session = self._by_digest.get(_digest(token))
        if session is None:
            return None
        now = self._clock.monotonic()
        if self._is_over(session, now):
            self.end(session)
            return None
        if is_person:
            session.asked = now
        return session

    def end(self, session: Session) -> None:
        """End one."""
        self._by_digest.pop(session.digest, None)

    def goes_on(self, session: Session) -> bool:
        """Tell whether a session is still one."""
        return session.is_token or (
            session.digest in self._by_digest
            and not self._is_over(session, self._clock.monotonic())
        )

    def end_all_of(self, name: str) -> None:
        """End every session of a user."""
        for session in [one for one in self._by_digest.values() if one.account.name == name]:
            self.end(session)

    def prove(self, session: Session) -> None:
        """Take that the password was given again."""
        session.proved = self._clock.monotonic()

    def doubt(self, session: Session) -> None:
        """Take that nobody knows when the password was given."""
        session.proved = -math.inf

    def is_proved(self, session: Session) -> bool:
        """Tell whether the password was given lately."""
        return self._clock.monotonic() - session.proved <= STEP_UP_S

    @staticmethod
    def _is_over(session: Session, now: float) -> bool:
        is_idle = now - session.asked > SESSION_IDLE_S
        return is_idle or now - session.started > SESSION_ABSOLUTE_S

    def _forget(self) -> None:
        """Make room for one more."""
        now = self._clock.monotonic()
        for session in [one for one in self._by_digest.values() if self._is_over(one, now)]:
            self.end(session)
        while len(self._by_digest) >= CONSOLE_SESSIONS_MAX:
            self.end(min(self._by_digest.values(), key=lambda one: one.asked))


def _digest(token: str) -> bytes:
    """Return what a token is looked up by: a look-up's time tells nothing about other tokens."""
    return hashlib.sha256(token.encode()).digest()
