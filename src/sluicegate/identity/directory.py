"""Directory: the users of an LDAP directory, as the gate asks for them.

``authenticator`` asks it for names that the users file does not have. It runs on the loop; what
blocks runs on threads, a bounded number at a time. The invariant: a user is returned only for what
the directory said within ``cache_s``, nothing is asked for what cannot be a user's name or has no
password, and every failure is raised, never taken for an answer.

A password that the directory took is remembered for ``cache_s``, as a digest under a key that only
this process has; a wrong one never is.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from sluicegate.access_limits import LDAP_CHECKS_WAITING_MAX, LDAP_KEPT_MAX
from sluicegate.clock import Clock
from sluicegate.documents import Wrong
from sluicegate.errors import DirectoryFailed, LimitExceeded

from .ldap_settings import Addresses, DialAllowed, DirectorySettings, DirectoryUser
from .users import check_user_name

if TYPE_CHECKING:
    from .authenticator import RunBlocking

__all__ = ["Directory", "DirectoryStatistics", "FindAddresses"]

FindAddresses: TypeAlias = Callable[[DirectorySettings], Awaitable[Addresses]]
"""Looks the servers' names up; those of addresses are themselves."""


@dataclass(frozen=True, slots=True)
class DirectoryStatistics:
    """Counts since the start, and what is going on now."""

    asked: int
    """Users that the directory was asked about; the rest was remembered."""
    failed: int
    waiting: int
    kept: int
    last_failure: str


class Directory:
    """One directory for one worker; replaced when its settings change."""

    def __init__(
        self,
        settings: DirectorySettings,
        find_addresses: FindAddresses,
        run_blocking: RunBlocking,
        clock: Clock,
        is_dial_allowed: DialAllowed = lambda _address: True,
    ) -> None:
        self.settings = settings
        self._find_addresses = find_addresses
        self._run_blocking = run_blocking
        self._clock = clock
        # Loaded only where there is a directory: the library costs a tenth of a second.
        from .ldap_lookup import find_user  # noqa: PLC0415 - it loads ldap3
        from .ldap_pool import LdapPool  # noqa: PLC0415 - it loads ldap3

        self._find_user = find_user
        self._pool = LdapPool(settings, clock, is_dial_allowed)
        self._key = secrets.token_bytes(hashlib.blake2b.MAX_KEY_SIZE)
        self._kept: OrderedDict[bytes, tuple[DirectoryUser, float]] = OrderedDict()
        self._slots = asyncio.Semaphore(settings.connections_max)
        self._asking: dict[bytes, asyncio.Task[DirectoryUser | None]] = {}
        self._asked = self._failed = 0
        self._last_failure = ""

    async def authenticate(self, username: bytes, password: bytes) -> DirectoryUser | None:
        """Return the user whose name and password these are, else None.

        Raises:
            DirectoryFailed: The directory did not say; refuse the client.
            LimitExceeded: Too many wait for the directory; refuse the client.
        """
        if not password:
            # A bind without one succeeds, and says nothing (RFC 4513 section 5.1.2).
            return None
        return await self._ask(username, password)

    async def find(self, username: bytes) -> DirectoryUser | None:
        """Return the user of a name that something else vouches for, else None.

        Raises:
            DirectoryFailed: The directory did not say; refuse the client.
            LimitExceeded: Too many wait for the directory; refuse the client.
        """
        return await self._ask(username, None)

    async def close(self) -> None:
        """Give up what is being asked, and end the connections."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._pool.close()
        self._kept.clear()

    def statistics(self) -> DirectoryStatistics:
        """Return counts for ``status`` and metrics."""
        return DirectoryStatistics(
            self._asked, self._failed, len(self._asking), len(self._kept), self._last_failure
        )

    async def _ask(self, username: bytes, password: bytes | None) -> DirectoryUser | None:
        try:
            name = username.decode("ascii")
            check_user_name(name)
        except (UnicodeDecodeError, Wrong):
            return None  # nobody is called that, and the directory is not asked
        digest = self._digest(username, password)
        kept = self._kept.get(digest)
        if kept is not None:
            if kept[1] > self._clock.monotonic():
                return kept[0]
            del self._kept[digest]
        task = self._asking.get(digest)
        if task is None:
            if len(self._asking) >= self.settings.connections_max + LDAP_CHECKS_WAITING_MAX:
                raise LimitExceeded("LDAP_CHECKS_WAITING_MAX", LDAP_CHECKS_WAITING_MAX)
            # Not in a group: it belongs to all who wait for it, and close() joins it.
            task = asyncio.ensure_future(self._look_up(name, password, digest))
            self._asking[digest] = task
            task.add_done_callback(lambda done: self._on_asked(digest, done))
        try:
            # Shielded: a client that goes away does not end the thread's work.
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise DirectoryFailed("the gate's settings changed meanwhile") from None
            raise

    async def _look_up(
        self, name: str, password: bytes | None, digest: bytes
    ) -> DirectoryUser | None:
        async with self._slots:
            deadline = self._clock.monotonic() + self.settings.timeout_s
            addresses = await self._find_addresses(self.settings)
            self._asked += 1
            user = await self._run_blocking(
                self._find_user, self._pool, addresses, name, password, deadline
            )
        if user is not None and self.settings.cache_s > 0:
            self._keep(digest, user)
        return user

    def _on_asked(self, digest: bytes, task: asyncio.Task[DirectoryUser | None]) -> None:
        self._asking.pop(digest, None)
        # Perhaps nobody waits for it any more.
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._failed += 1
            self._last_failure = error.cause if isinstance(error, DirectoryFailed) else str(error)

    def _keep(self, digest: bytes, user: DirectoryUser) -> None:
        self._kept[digest] = user, self._clock.monotonic() + self.settings.cache_s
        self._kept.move_to_end(digest)
        if len(self._kept) > LDAP_KEPT_MAX:
            self._kept.popitem(last=False)

    def _digest(self, username: bytes, password: bytes | None) -> bytes:
        framed = len(username).to_bytes(4, "big") + username
        if password is not None:
            framed += b"\x01" + password
        return hashlib.blake2b(framed, key=self._key).digest()
