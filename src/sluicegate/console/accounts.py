"""Accounts: who may log in to the console, by a users file of its own.

``identity`` reads the file and hashes; ``sluicegate console user`` edits it. The invariant: whether
a user exists cannot be told from an answer nor from the time it takes, and passwords are tried one
at a time.
"""

from __future__ import annotations

import asyncio
import pathlib
from dataclasses import dataclass, field
from typing import Final

from sluicegate.documents import Findings, Wrong
from sluicegate.identity import (
    PasswordHash,
    User,
    UserFile,
    Users,
    check_user_name,
    hash_password,
    read_users,
    verify_password,
)
from sluicegate.identity.passwords import check_new_password

from .roles import Role, role_of

__all__ = ["Account", "Accounts", "users_file"]

_NAME: Final = "users.toml"


def users_file(folder: str | pathlib.Path) -> pathlib.Path:
    """Return the path of the console's users file."""
    return pathlib.Path(folder) / _NAME


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who has proved to be one of the users."""

    name: str
    role: Role
    password: PasswordHash | None = field(default=None, repr=False)
    """What the users file had for the one that was given; None: it has no such user."""


class Accounts:
    """The users of one console; the file is read again when it has changed."""

    def __init__(self, folder: str) -> None:
        self._path = users_file(folder)
        self._version: tuple[int, int, int] | None = None
        self._users = Users()
        self._turn = asyncio.Lock()
        self.faults: list[str] = []
        #: Why the file cannot be used; its users cannot log in then.

    @property
    def users(self) -> Users:
        """Who is in the file now; nobody, if it is wrong."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            self._users, self._version, self.faults = Users(), None, []
            return self._users
        version = (status.st_ino, status.st_mtime_ns, status.st_size)
        if version != self._version:
            findings = Findings()
            read = read_users(self._path, findings)
            self.faults = [str(error) for error in findings.errors]
            self._users = read if read is not None else Users()
            self._version = version
        return self._users

    def find(self, name: str) -> Account | None:
        """Return the account that a user has now; None: there is no such user, or no role."""
        user = self.users.find(name.encode())
        role = role_of(user.groups) if user is not None else None
        return Account(user.name, role, user.password) if user and role is not None else None

    def stands(self, account: Account) -> bool:
        """Tell whether a user is there still, with the same role and the same password."""
        return self.find(account.name) == account

    async def verify(self, name: str, password: str) -> Account | None:
        """Return the account of a user who gave the right password.

        Raises:
            TransportError: There is not enough memory to find out.
        """
        account = self.find(name)
        known = account.password if account is not None else None
        known = known or self._users.dummy
        async with self._turn:
            is_right = await asyncio.to_thread(verify_password, known, password.encode())
        return account if is_right else None

    async def add_first(self, name: str, password: str) -> None:
        """Add an administrator, where there is no user yet.

        Raises:
            Wrong: There are users, or it is no name or password.
            ConfigError: There is one of this name, or the file cannot be changed.
            ConfigRefused: The file is wrong.
            TransportError: There is not enough memory.
        """
        check_user_name(name)
        check_new_password(password.encode())
        async with self._turn:
            if len(self.users) or self.faults:
                raise Wrong("there are users already", "log in as one of them")
            hashed = await asyncio.to_thread(hash_password, password.encode())
            user = User(name, hashed, (str(Role.ADMINISTRATOR),))
            await asyncio.to_thread(UserFile(self._path).add, user)
