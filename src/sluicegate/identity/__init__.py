"""Who the gate's users are, by a file and by a directory (LDAP); this one re-exports.

``app`` reads the file, entry modes ask an ``Authenticator``, ``sluicegate user`` edits the file.
The invariant: a password is known only by its argon2id hash, or to the directory; and without a
directory, whether a user exists cannot be told from how long an answer takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluicegate.front import front

if TYPE_CHECKING:
    from .authenticator import Authenticator, AuthenticatorStatistics, KnownUser, RunBlocking
    from .directory import Directory, DirectoryStatistics, FindAddresses
    from .ldap_settings import (
        Addresses,
        DirectoryServer,
        DirectorySettings,
        DirectoryUser,
        GroupName,
    )
    from .ldap_text import DistinguishedName, LdapTextError, fill_filter
    from .passwords import HashCost, PasswordHash, hash_password, verify_password
    from .private_file import PrivateContent, read_private_file
    from .user_file import UserFile, read_users, read_users_text
    from .users import User, Users, check_user_name, parse_users
else:
    __getattr__ = front(
        __name__,
        authenticator=("Authenticator", "AuthenticatorStatistics", "KnownUser", "RunBlocking"),
        directory=("Directory", "DirectoryStatistics", "FindAddresses"),
        ldap_settings=(
            "Addresses",
            "DirectoryServer",
            "DirectorySettings",
            "DirectoryUser",
            "GroupName",
        ),
        ldap_text=("DistinguishedName", "LdapTextError", "fill_filter"),
        passwords=("HashCost", "PasswordHash", "hash_password", "verify_password"),
        private_file=("PrivateContent", "read_private_file"),
        user_file=("UserFile", "read_users", "read_users_text"),
        users=("User", "Users", "check_user_name", "parse_users"),
    )

__all__ = [
    "Addresses",
    "Authenticator",
    "AuthenticatorStatistics",
    "Directory",
    "DirectoryServer",
    "DirectorySettings",
    "DirectoryStatistics",
    "DirectoryUser",
    "DistinguishedName",
    "FindAddresses",
    "GroupName",
    "HashCost",
    "KnownUser",
    "LdapTextError",
    "PasswordHash",
    "PrivateContent",
    "RunBlocking",
    "User",
    "UserFile",
    "Users",
    "check_user_name",
    "fill_filter",
    "hash_password",
    "parse_users",
    "read_private_file",
    "read_users",
    "read_users_text",
    "verify_password",
]
