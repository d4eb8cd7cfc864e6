"""LdapLookup: one user in a directory: who it is, whether the password is right, which groups.

``directory`` runs it on a thread, for an operator's command as for clients. The invariant: there is
a user only where exactly one entry was found, its name is a user's name, and, if a password was
given, the server took it; everything unclear is a ``DirectoryFailed``, and nobody is let in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sluicegate.access_limits import LDAP_GROUPS_MAX
from sluicegate.documents import Wrong
from sluicegate.errors import DirectoryFailed

from .ldap_link import LdapEntry, LdapLink
from .ldap_pool import LdapPool
from .ldap_settings import Addresses, DirectorySettings, DirectoryUser
from .ldap_text import DistinguishedName, LdapTextError, fill_filter
from .users import check_user_name

__all__ = ["find_user"]

ResultT = TypeVar("ResultT")


def find_user(
    pool: LdapPool, addresses: Addresses, username: str, password: bytes | None, deadline: float
) -> DirectoryUser | None:
    """Find a user, verify the password, and find the groups; blocks until ``deadline`` at most.

    Args:
        pool: Where connections come from.
        addresses: Where the servers are.
        username: Checked: a user's name.
        password: None verifies nothing: something else vouches for the user.
        deadline: On the monotonic clock.

    Returns:
        The user; None where there is none of this name, or the password is another.

    Raises:
        DirectoryFailed: The directory does not say, or not clearly.
    """
    if password is not None and not _is_sendable(password):
        return None
    lookup = _Lookup(pool, addresses, deadline)
    entry = lookup.ask(lambda link: lookup.find_entry(link, username), searches=True)
    if entry is None:
        return None
    name = _canonical(entry, username, pool.settings)
    if password is not None and not lookup.ask(
        lambda link: link.bind(entry.name.text, password, deadline), searches=False
    ):
        return None
    groups = lookup.ask(lambda link: lookup.find_groups(link, entry, name), searches=True)
    names, unnamed = _names_of(groups, pool.settings)
    return DirectoryUser(name, names, entry.name.text, unnamed)


def _is_sendable(password: bytes) -> bool:
    """Tell whether a directory could take a password: UTF-8 (RFC 4513), and not empty.

    A bind with an empty one succeeds, and proves nothing (section 5.1.2).
    """
    try:
        return bool(password.decode("utf-8"))
    except UnicodeDecodeError:
        return False


class _Lookup:
    """The searches for one user."""

    def __init__(self, pool: LdapPool, addresses: Addresses, deadline: float) -> None:
        self._pool = pool
        self._settings = pool.settings
        self._addresses = addresses
        self._deadline = deadline

    def ask(self, question: Callable[[LdapLink], ResultT], *, searches: bool) -> ResultT:
        """Ask over a link that is there, or else, and when that one has died, over a new one."""
        pool, fresh = self._pool, False
        while True:
            link, was_there = pool.take(
                self._addresses, self._deadline, searches=searches, fresh=fresh
            )
            try:
                answer = question(link)
            except DirectoryFailed as error:
                link.close()
                if not was_there or not error.is_server:
                    raise
                fresh = True
            except BaseException:
                link.close()
                raise
            else:
                pool.give(link, searches=searches)
                return answer

    def find_entry(self, link: LdapLink, username: str) -> LdapEntry | None:
        """Return the only entry of a user."""
        settings = self._settings
        wanted = [settings.user_attribute]
        if settings.group_attribute:
            wanted.append(settings.group_attribute)
        found = link.search(
            settings.base.text,
            fill_filter(settings.user_filter, user=username),
            wanted,
            self._deadline,
            entries_max=1,
        )
        if len(found) > 1:
            raise DirectoryFailed(f"more than one entry is {username}: user_filter is not exact")
        return found[0] if found else None

    def find_groups(self, link: LdapLink, user: LdapEntry, name: str) -> list[LdapEntry]:
        """Return the groups of a user, and those that they are in, as deep as is configured."""
        known: dict[str, LdapEntry] = {}
        at, depth = [user], 0
        while at and depth <= self._settings.nested_groups_depth:
            found: list[LdapEntry] = []
            for entry in at:
                for group in self._groups_of(link, entry, name if depth == 0 else None):
                    key = group.name.text.casefold()
                    if key not in known:
                        known[key] = group
                        found.append(group)
                if len(known) > LDAP_GROUPS_MAX:
                    raise DirectoryFailed(f"{name} is in more than {LDAP_GROUPS_MAX} groups")
            at, depth = found, depth + 1
        return list(known.values())

    def _groups_of(self, link: LdapLink, entry: LdapEntry, name: str | None) -> list[LdapEntry]:
        """Return the groups that an entry is in itself; ``name`` is its own, if it is a user."""
        settings = self._settings
        groups: list[LdapEntry] = []
        if settings.group_attribute:
            for text in self._memberships(link, entry, is_user=name is not None):
                group = _group_name(text)
                if group.is_within(settings.groups_below):
                    groups.append(LdapEntry(group, {}))
        if settings.group_filter and (name is not None or "{dn}" in settings.group_filter):
            groups += link.search(
                settings.groups_below.text,
                fill_filter(settings.group_filter, dn=entry.name.text, user=name or ""),
                [settings.group_name_attribute],
                self._deadline,
                entries_max=LDAP_GROUPS_MAX,
            )
        return groups

    def _memberships(self, link: LdapLink, entry: LdapEntry, *, is_user: bool) -> list[str]:
        attribute = self._settings.group_attribute
        if is_user:
            return entry.texts(attribute)  # it came with the user
        found = link.search(
            entry.name.text,
            "(objectClass=*)",
            [attribute],
            self._deadline,
            entries_max=1,
            is_base_only=True,
        )
        return [text for one in found for text in one.texts(attribute)]


def _canonical(entry: LdapEntry, username: str, settings: DirectorySettings) -> str:
    """Return the name that the directory gives a user.

    Raises:
        DirectoryFailed: It gives none, or several, or one that cannot be a user's.
    """
    names = entry.texts(settings.user_attribute)
    same = [name for name in names if name.casefold() == username.casefold()]
    chosen = same or names
    if len(chosen) != 1:
        how_many = f"{len(chosen)} values" if chosen else "no value"
        raise DirectoryFailed(f"{entry.name.text} has {how_many} of {settings.user_attribute}")
    try:
        check_user_name(chosen[0])
    except Wrong as error:
        raise DirectoryFailed(f"{entry.name.text}: {error.cause}") from error
    return chosen[0]


def _group_name(text: str) -> DistinguishedName:
    try:
        return DistinguishedName.parse(text)
    except LdapTextError as error:
        raise DirectoryFailed(f"a group's name cannot be read: {error}") from error


def _names_of(
    groups: list[LdapEntry], settings: DirectorySettings
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what rules call the groups, and those that they cannot name."""
    names: dict[str, None] = {}
    unnamed: list[str] = []
    for group in groups:
        given = [one.name for one in settings.group_names if one.entry.is_same(group.name)]
        for name in given or _own_names(group, settings):
            try:
                check_user_name(name)
            except Wrong:
                unnamed.append(group.name.text)
            else:
                names[name] = None
    return tuple(sorted(names)), tuple(sorted(unnamed))


def _own_names(group: LdapEntry, settings: DirectorySettings) -> list[str]:
    kind, value = group.name.first_value
    if kind == settings.group_name_attribute.lower():
        return [value]
    values = group.texts(settings.group_name_attribute)
    return values if len(values) == 1 else [""]
