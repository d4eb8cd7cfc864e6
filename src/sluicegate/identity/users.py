"""The users file: from text to ``Users``, and back to text for the commands that edit it.

``user_file`` hands over the text; nothing is read or hashed here. The invariant: two users never
share a name, and an edit changes the user that it names and nothing else, comments included.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import Field, PlainValidator, StringConstraints

from sluicegate.access_limits import (
    USER_GROUPS_MAX,
)
from sluicegate.documents import Document, Findings, Model, Wrong, read_document, typed
from sluicegate.errors import ConfigError

from .passwords import DEFAULT_COST, PasswordHash, make_dummy_hash, parse_hash

__all__ = ["User", "Users", "check_user_name", "parse_users", "with_user", "without_user"]


@dataclass(frozen=True, slots=True)
class User:
    """One user as the file says."""

    name: str
    password: PasswordHash
    groups: tuple[str, ...] = ()
    comment: str = ""


class Users:
    """All users of one reading of the file; immutable, so a reload puts another in its place."""

    __slots__ = ("_by_name", "_lowered", "dummy")

    def __init__(self, users: Iterable[User] = ()) -> None:
        self._by_name = {user.name: user for user in users}
        self._lowered = frozenset(name.lower() for name in self._by_name)
        costs = collections.Counter(user.password.cost for user in self)
        commonest = max(costs, key=lambda cost: (costs[cost], cost), default=DEFAULT_COST)
        self.dummy: Final = make_dummy_hash(commonest)
        #: What names that do not exist are verified against; it costs what most users' hashes do.

    def find(self, name: bytes) -> User | None:
        """Return the user that a client names, byte for byte."""
        # What is not ASCII is nobody's name.
        return self._by_name.get(name.decode("ascii")) if name.isascii() else None

    def has_name_like(self, name: str) -> bool:
        """Tell whether a user has this name, in whatever case."""
        return name.lower() in self._lowered

    def __iter__(self) -> Iterator[User]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)


def parse_users(text: str, name: str, findings: Findings) -> Users | None:
    """Read a users file; None, with every finding, when it is wrong. An empty one has no users."""
    parsed = _parse(text, name, findings)
    return Users(parsed[1]) if parsed is not None else None


def check_user_name(name: str) -> None:
    """Refuse what cannot be a user's or a group's name.

    Raises:
        Wrong: It is none.
    """
    if _NAME.fullmatch(name) is None:
        raise Wrong(f"{name!r} is not a name", _NAME_CURE)


def with_user(text: str, user: User, name: str) -> str:
    """Return the text of a users file with one user added, or put in the place of its namesake.

    Raises:
        ConfigRefused: The file is wrong already.
        ConfigError: It is written in a way that cannot be edited line by line.
    """
    document, users = _read(text, name)
    block = _block_of(user)
    index = next((place for place, one in enumerate(users) if one.name == user.name), None)
    if index is None:
        gap = "\n" if text.strip() else ""
        edited = text + ("" if text.endswith("\n") or not text else "\n") + gap + block
        return _checked(edited, [*users, user], name)
    edited = _cut(text, document, index, len(users), block)
    return _checked(edited, [*users[:index], user, *users[index + 1 :]], name)


def without_user(text: str, user_name: str, name: str) -> str:
    """Return the text of a users file without one user.

    Raises:
        ConfigRefused: The file is wrong already.
        ConfigError: It has no such user, or cannot be edited line by line.
    """
    document, users = _read(text, name)
    index = next((place for place, one in enumerate(users) if one.name == user_name), None)
    if index is None:
        raise ConfigError(name, f"there is no user {user_name!r}")
    edited = _cut(text, document, index, len(users), "")
    return _checked(edited, users[:index] + users[index + 1 :], name)


_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}", re.ASCII)
_NAME_CURE: Final = "a letter or digit, then up to 63 letters, digits, dots, hyphens, _ or @"

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}$")]
"""A user's or a group's name: what records, Basic and SOCKS all can carry."""


class _UserTable(Model, arbitrary_types_allowed=True):
    """One ``[[user]]``."""

    name: Name = Field(examples=["ann"])
    password_hash: Annotated[PasswordHash, PlainValidator(parse_hash)]
    groups: Annotated[tuple[Name, ...], Field(max_length=USER_GROUPS_MAX)] = Field(
        default=(), examples=[["staff"]]
    )
    comment: str = ""


class _UsersTables(Model):
    """The whole of the users file."""

    user: tuple[_UserTable, ...] = ()


def _parse(text: str, name: str, findings: Findings) -> tuple[Document, list[User]] | None:
    before = len(findings.errors)
    document = read_document(text, name, findings)
    tables = typed(document, _UsersTables, findings) if document is not None else None
    if document is None or tables is None:
        return None
    first: dict[str, int] = {}
    for index, table in enumerate(tables.user):
        if table.name in first:
            findings.refuse(
                document.where(("user", index, "name")),
                f"the name {table.name!r} is taken by user[{first[table.name]}]",
                "give each user one table, with all its groups",
            )
        first.setdefault(table.name, index)
    if len(findings.errors) > before:
        return None
    return document, [
        User(table.name, table.password_hash, table.groups, table.comment) for table in tables.user
    ]


def _read(text: str, name: str) -> tuple[Document, list[User]]:
    findings = Findings()
    parsed = _parse(text, name, findings)
    findings.raise_errors()
    assert parsed is not None, "a file that cannot be parsed is a finding"
    return parsed


def _cut(text: str, document: Document, index: int, count: int, block: str) -> str:
    """Put ``block`` in the place of one table, up to its last line that says something."""
    lines = _LINES.findall(text)
    start = document.line(("user", index)) - 1
    end = document.line(("user", index + 1)) - 1 if index + 1 < count else len(lines)
    while end > start + 1 and (not lines[end - 1].strip() or lines[end - 1].lstrip()[0] == "#"):
        end -= 1
    if not block and lines[end : end + 1] and not lines[end].strip():
        end += 1  # the gap that stood behind it
    return "".join([*lines[:start], block, *lines[end:]])


def _checked(edited: str, users: list[User], name: str) -> str:
    """Return an edited text that means exactly what was intended.

    Raises:
        ConfigError: It does not.
    """
    parsed = _parse(edited, name, Findings())
    if parsed is None or parsed[1] != users:
        raise ConfigError(
            name,
            "it cannot be edited line by line",
            "write every user as a [[user]] table, or edit the file by hand",
        )
    return edited


def _block_of(user: User) -> str:
    lines = [
        "[[user]]",
        f"name = {_quoted(user.name)}",
        f"password_hash = {_quoted(user.password.text)}",
    ]
    if user.groups:
        lines.append(f"groups = [{', '.join(_quoted(group) for group in user.groups)}]")
    if user.comment:
        lines.append(f"comment = {_quoted(user.comment)}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """Write a TOML basic string."""
    return '"' + _TO_ESCAPE.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + '"'


#: As TOML counts them: ``splitlines`` knows line ends that TOML does not.
_LINES: Final = re.compile(r"[^\n]*\n|[^\n]+")
_TO_ESCAPE: Final = re.compile(r'["\\\x00-\x1f\x7f]')
