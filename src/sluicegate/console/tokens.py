"""Tokens: what programs show to the API in place of a person's password.

They are a small private file in the console's folder, which ``sluicegate console token`` edits. The
invariant: only digests are kept, so who reads the file can be nobody by it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import pathlib
import re
import secrets
from typing import Final, Literal

import msgspec

from sluicegate.documents import Wrong

from .accounts import Account
from .roles import Role

__all__ = ["Token", "Tokens"]

_NAME: Final = "tokens.json"
_TITLE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)
_PREFIX: Final = "sgt_"
"""By which scanners for secrets know one that was published."""
_TOKENS_MAX: Final = 200


class Token(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One, without what is shown."""

    name: str
    role: Literal["viewer", "operator", "administrator"]
    digest: str
    """SHA-256 of it, hexadecimal: it is random, so a slow hash adds nothing."""


class Tokens:
    """All of one console; the file is read again when it has changed."""

    def __init__(self, folder: str | pathlib.Path) -> None:
        self._path = pathlib.Path(folder) / _NAME
        self._version: tuple[int, int, int] | None = None
        self._known: list[Token] = []

    def read(self) -> list[Token]:
        """Return them; none where there is no file, or none that can be read."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            self._known, self._version = [], None
            return []
        version = (status.st_ino, status.st_mtime_ns, status.st_size)
        if version != self._version:
            try:
                self._known = msgspec.json.decode(self._path.read_bytes(), type=list[Token])
            except (OSError, msgspec.DecodeError):
                self._known = []
            self._version = version
        return self._known

    def find(self, shown: str) -> Account | None:
        """Return whose token was shown; None: nobody's."""
        digest = _digest(shown)
        found = None
        for token in self.read():
            if hmac.compare_digest(token.digest, digest):
                found = _account_of(token)
        return found

    def stands(self, account: Account) -> bool:
        """Tell whether a token that was found is there still, with the same role."""
        return any(_account_of(token) == account for token in self.read())

    def add(self, name: str, role: Role) -> str:
        """Make one, and return what is shown: it is known only now.

        Raises:
            Wrong: The name is none, or is taken.
            OSError: The file cannot be written.
        """
        known = self.read()
        if _TITLE.fullmatch(name) is None:
            raise Wrong(f"{name!r} is not a name", "letters, digits, dots, hyphens and _")
        if any(token.name == name for token in known):
            raise Wrong(f"there is a token {name!r} already", "remove it, or choose another name")
        if len(known) >= _TOKENS_MAX:
            raise Wrong(f"there are {_TOKENS_MAX} tokens already", "remove one")
        shown = _PREFIX + secrets.token_urlsafe(32)
        kind: Literal["viewer", "operator", "administrator"]
        kind = (
            "viewer"
            if role is Role.VIEWER
            else "operator"
            if role is Role.OPERATOR
            else "administrator"
        )
        self._write([*known, Token(name, kind, _digest(shown))])
        return shown

    def remove(self, name: str) -> bool:
        """Remove one; tell whether it was there.

        Raises:
            OSError: The file cannot be written.
        """
        known = self.read()
        left = [token for token in known if token.name != name]
        if len(left) == len(known):
            return False
        self._write(left)
        return True

    def _write(self, tokens: list[Token]) -> None:
        fresh = self._path.with_suffix(".new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(tokens))
            os.fsync(descriptor)
            if self._path.exists():
                status = self._path.stat()
                os.fchown(descriptor, status.st_uid, status.st_gid)
            else:
                folder = self._path.parent.stat()
                os.fchown(descriptor, folder.st_uid, folder.st_gid)
        fresh.replace(self._path)


def _account_of(token: Token) -> Account:
    return Account(f"token {token.name}", Role[token.role.upper()])


def _digest(shown: str) -> str:
    return hashlib.sha256(shown.encode()).hexdigest()
