"""The users file on disk: who may read it, and how it is changed without losing a change.

``app`` reads it with every other file of the operator, ``sluicegate user`` edits it. The invariant:
at every moment the name leads to one whole version, old or new, that only its owner can write; two
editors take turns, and whoever finds the file changed behind its back changes nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import stat
import tempfile
from collections.abc import Callable, Generator
from typing import Final

from sluicegate.access_limits import (
    USERS_FILE_BYTES_MAX,
)
from sluicegate.documents import Findings
from sluicegate.errors import ConfigError

from .private_file import PrivateContent, read_private_file
from .users import User, Users, parse_users, with_user, without_user

__all__ = ["UserFile", "read_users", "read_users_text"]


def read_users(path: pathlib.Path, findings: Findings) -> Users | None:
    """Read a users file; None, with every finding, when it is wrong or open to others."""
    text = read_users_text(path, findings)
    return None if text is None else parse_users(text, path.name, findings)


def read_users_text(path: pathlib.Path, findings: Findings) -> str | None:
    """Read the text of a users file; None, with a finding, when others could have written it."""
    try:
        content = _read(path)
    except ConfigError as error:
        findings.errors.append(error)
        return None
    if content.status.st_mode & stat.S_IRGRP:
        findings.warn(
            os.fspath(path), "its group can read the password hashes", f"chmod 0600 {path}"
        )
    return content.text


class UserFile:
    """One users file for as long as a command edits it."""

    def __init__(self, path: pathlib.Path) -> None:
        # Through links: the file itself is replaced, not the link to it.
        self.path = pathlib.Path(os.path.realpath(path))

    def add(self, user: User, *, may_replace: bool = False) -> bool:
        """Add a user, making the file if there is none; tell whether one was replaced.

        Raises:
            ConfigError: There is a user of this name already, or the file cannot be edited.
            ConfigRefused: The file is wrong already.
        """
        replaced = False

        def edit(text: str) -> str:
            nonlocal replaced
            known = _names(text, self.path.name)
            replaced = user.name in known
            if replaced and not may_replace:
                cause = f"there is a user {user.name!r} already"
                raise ConfigError(self.path.name, cause, "--replace gives a new password")
            return with_user(text, user, self.path.name)

        self._edit(edit, is_new_allowed=True)
        return replaced

    def remove(self, name: str) -> None:
        """Remove a user.

        Raises:
            ConfigError: There is none of this name, or the file cannot be edited.
            ConfigRefused: The file is wrong already.
        """
        self._edit(lambda text: without_user(text, name, self.path.name))

    def _edit(self, change: Callable[[str], str], *, is_new_allowed: bool = False) -> None:
        try:
            with self._locked():
                before = self._content(is_new_allowed=is_new_allowed)
                edited = change(before.text if before else _HEADER)
                self._write(edited, before)
        except OSError as error:
            cause = f"cannot be changed: {error.strerror}"
            cure = "run this as the owner of the file and its folder"
            raise ConfigError(os.fspath(self.path), cause, cure) from error

    @contextlib.contextmanager
    def _locked(self) -> Generator[None]:
        """Take turns with other editors; each holds it for a write's time, never for people."""
        lock = self.path.with_name(f".{self.path.name}.lock")
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, _MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _content(self, *, is_new_allowed: bool) -> PrivateContent | None:
        if is_new_allowed and not self.path.exists():
            return None
        return _read(self.path)

    def _write(self, text: str, before: PrivateContent | None) -> None:
        """Put a whole new version in the place of the old one, and both on disk in that order."""
        encoded = text.encode("utf-8")
        if len(encoded) > USERS_FILE_BYTES_MAX:
            raise ConfigError(self.path.name, f"would be longer than {USERS_FILE_BYTES_MAX} bytes")
        folder = self.path.parent
        descriptor, made = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=folder)
        temporary = pathlib.Path(made)
        try:
            with os.fdopen(descriptor, "wb") as file:
                if before is not None:
                    _keep_owner(descriptor, before.status)
                file.write(encoded)
                file.flush()
                os.fsync(descriptor)
            self._check_unchanged(before)
            temporary.replace(self.path)
        except BaseException:
            temporary.unlink()
            raise
        _sync_folder(folder)

    def _check_unchanged(self, before: PrivateContent | None) -> None:
        """Somebody's editor does not know our lock."""
        try:
            now: os.stat_result | None = self.path.stat()
        except FileNotFoundError:
            now = None
        if _version(now) != _version(before.status if before else None):
            raise ConfigError(
                os.fspath(self.path), "somebody else changed it at this moment", "do it again"
            )


def _read(path: pathlib.Path) -> PrivateContent:
    return read_private_file(
        path,
        bytes_max=USERS_FILE_BYTES_MAX,
        holds="the password hashes",
        danger="could let anybody in",
        cure='say where it is: "users" in [service]',
    )


def _keep_owner(descriptor: int, status: os.stat_result) -> None:
    """Give a new version the owner and mode of the one before it."""
    fresh = os.fstat(descriptor)
    if (fresh.st_uid, fresh.st_gid) != (status.st_uid, status.st_gid):
        os.fchown(descriptor, status.st_uid, status.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(status.st_mode) & (_MODE | stat.S_IRGRP))


def _sync_folder(folder: pathlib.Path) -> None:
    """Bring the new name to the disk, too (``rename`` alone does not)."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _version(status: os.stat_result | None) -> tuple[int, int, int] | None:
    return (status.st_ino, status.st_mtime_ns, status.st_size) if status else None


def _names(text: str, name: str) -> set[str]:
    findings = Findings()
    users = parse_users(text, name, findings)
    findings.raise_errors()
    assert users is not None, "a file that cannot be parsed is a finding"
    return {user.name for user in users}


_MODE: Final = 0o600
_HEADER: Final = "# Who may use this gate. `sluicegate user` edits it and keeps comments.\n"
