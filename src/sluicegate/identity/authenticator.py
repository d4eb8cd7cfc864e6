"""Verifies user names and passwords for entry modes, off the loop, a bounded number at a time.

Entry modes await ``authenticate`` on the worker's thread; the gate makes one per worker. Whom the
users file names is verified by it alone; a directory, where there is one, is asked about everybody
else. The invariant: a user is returned only for a password that argon2 verified against the hash
that is in force now, or that the directory took; and without a directory every refusal takes as
long as a verification.

A client sends its password with each connection, and argon2 is made to be slow. So a verified
password is remembered for ``PASSWORD_KEPT_S``, as a digest under a key that only this process has;
a wrong one never is. Whoever can read this process's memory sees passwords pass anyway.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

from sluicegate.access_limits import (
    PASSWORD_CHECKS_MAX,
    PASSWORD_CHECKS_WAITING_MAX,
    PASSWORD_KEPT_S,
)
from sluicegate.clock import Clock
from sluicegate.errors import DirectoryFailed, LimitExceeded

from .ldap_settings import DirectoryUser
from .passwords import PasswordHash, verify_password
from .users import User, Users

if TYPE_CHECKING:
    from .directory import Directory

__all__ = ["Authenticator", "AuthenticatorStatistics", "KnownUser", "RunBlocking"]

KnownUser: TypeAlias = User | DirectoryUser
"""Of the file or of the directory."""

ResultT = TypeVar("ResultT")


class RunBlocking(Protocol):
    """Runs a function on a thread that may be blocked (``CompletionPort.run_blocking``)."""

    def __call__(self, function: Callable[..., ResultT], *args: Any) -> Awaitable[ResultT]:
        """Return the function's result, later."""
        ...


@dataclass(frozen=True, slots=True)
class AuthenticatorStatistics:
    """Counts since the start, and what waits now."""

    accepted: int
    refused: int
    verified: int
    #: Passwords that argon2 looked at; the rest of the accepted were remembered.
    waiting: int


@dataclass(frozen=True, slots=True)
class _Kept:
    """A password that was verified a short while ago."""

    hash: PasswordHash
    digest: bytes
    until: float


class _Check:
    """One run of argon2, waiting for its turn or running, and how many clients wait for it."""

    __slots__ = ("clients", "is_running", "result")

    result: asyncio.Future[bool]

    def __init__(self) -> None:
        self.clients = 0
        self.is_running = False


class Authenticator:
    """Knows the users of one worker; lives as long as it."""

    def __init__(self, users: Users, run_blocking: RunBlocking, clock: Clock) -> None:
        self._users = users
        self._run_blocking = run_blocking
        self._clock = clock
        self.directory: Directory | None = None
        #: Asked about names that the file does not have.
        self._key = secrets.token_bytes(hashlib.blake2b.MAX_KEY_SIZE)
        self._kept: dict[str, _Kept] = {}
        self._slots = asyncio.Semaphore(PASSWORD_CHECKS_MAX)
        self._checks: dict[bytes, _Check] = {}
        self._accepted = self._refused = self._verified = 0

    def replace_users(self, users: Users) -> None:
        """Put another reading of the file in force, also for verifications that are under way."""
        self._users = users
        names = {user.name for user in users}
        self._kept = {name: kept for name, kept in self._kept.items() if name in names}

    async def authenticate(self, username: bytes, password: bytes) -> KnownUser | None:
        """Return the user whose name and password these are, else None.

        Raises:
            DirectoryFailed: The directory did not say; refuse the client.
            LimitExceeded: Too many verifications wait; refuse the client.
            TransportError: There is no memory for a verification; refuse the client.
        """
        user = self._users.find(username)
        if user is None and self.directory is not None:
            found = await self.directory.authenticate(username, password)
            return self._counted(self._unless_taken(found))
        if user is not None and self._is_kept(user, password):
            self._accepted += 1
            return user
        known = user.password if user is not None else self._users.dummy
        is_right = await self._verify(username, known, password)
        # Whoever was removed, or got another password, while argon2 ran is not let in.
        user = self._users.find(username)
        if not is_right or user is None or user.password != known:
            self._refused += 1
            return None
        self._keep(user, password)
        self._accepted += 1
        return user

    async def find(self, username: bytes) -> KnownUser | None:
        """Return the user of a name that something else vouches for, else None.

        Raises:
            DirectoryFailed: The directory did not say; refuse the client.
            LimitExceeded: Too many wait for the directory; refuse the client.
        """
        user = self._users.find(username)
        if user is not None or self.directory is None:
            return user
        return self._unless_taken(await self.directory.find(username))

    def _unless_taken(self, found: DirectoryUser | None) -> DirectoryUser | None:
        """Refuse a user of the directory whom the file's user would be taken for.

        Raises:
            DirectoryFailed: The file has the name, which a directory compares without its case.
        """
        if found is not None and self._users.has_name_like(found.name):
            raise DirectoryFailed(f"{found.name} is a user of the users file")
        return found

    def _counted(self, found: DirectoryUser | None) -> DirectoryUser | None:
        if found is None:
            self._refused += 1
        else:
            self._accepted += 1
        return found

    def statistics(self) -> AuthenticatorStatistics:
        """Return counts for ``status`` and metrics."""
        waiting = sum(not check.is_running for check in self._checks.values())
        return AuthenticatorStatistics(self._accepted, self._refused, self._verified, waiting)

    async def _verify(self, username: bytes, known: PasswordHash, password: bytes) -> bool:
        """Wait for argon2; those who ask the same at the same time wait for one run."""
        digest = self._digest(username, known, password)
        check = self._checks.get(digest)
        if check is None:
            if len(self._checks) >= PASSWORD_CHECKS_MAX + PASSWORD_CHECKS_WAITING_MAX:
                raise LimitExceeded("PASSWORD_CHECKS_WAITING_MAX", PASSWORD_CHECKS_WAITING_MAX)
            check = self._checks[digest] = _Check()
            check.result = asyncio.ensure_future(self._run(check, digest, known, password))
            check.result.add_done_callback(_note_exception)
        check.clients += 1
        try:
            # Shielded: a client that goes away does not end the thread's work, so the slot stays
            # taken until argon2 is done.
            return await asyncio.shield(check.result)
        finally:
            check.clients -= 1
            if not check.clients and not check.is_running:
                self._forget(digest, check)
                check.result.cancel()

    async def _run(
        self, check: _Check, digest: bytes, known: PasswordHash, password: bytes
    ) -> bool:
        try:
            async with self._slots:
                check.is_running = True
                is_right = await self._run_blocking(verify_password, known, password)
                self._verified += 1
                return is_right
        finally:
            self._forget(digest, check)

    def _forget(self, digest: bytes, check: _Check) -> None:
        if self._checks.get(digest) is check:
            del self._checks[digest]

    def _is_kept(self, user: User, password: bytes) -> bool:
        kept = self._kept.get(user.name)
        if kept is None:
            return False
        if kept.hash != user.password or kept.until <= self._clock.monotonic():
            del self._kept[user.name]
            return False
        return hmac.compare_digest(kept.digest, self._digest_of(user, password))

    def _keep(self, user: User, password: bytes) -> None:
        until = self._clock.monotonic() + PASSWORD_KEPT_S
        self._kept[user.name] = _Kept(user.password, self._digest_of(user, password), until)

    def _digest_of(self, user: User, password: bytes) -> bytes:
        return self._digest(user.name.encode("ascii"), user.password, password)

    def _digest(self, username: bytes, known: PasswordHash, password: bytes) -> bytes:
        # The name is in it for unknown users' sake, who share a hash: two of them that send one
        # password must not be answered faster than a known one beside them.
        parts = (username, known.text.encode("ascii"), password)
        framed = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return hashlib.blake2b(framed, key=self._key).digest()


def _note_exception(result: asyncio.Future[bool]) -> None:
    """Take an exception that perhaps nobody waits for any more; who waits gets it, too."""
    if not result.cancelled():
        result.exception()
