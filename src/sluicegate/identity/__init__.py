"""Who the gate's users are: names, groups and password hashes of a file; this one re-exports.

``app`` reads the file, entry modes ask an ``Authenticator``, ``sluicegate user`` edits the file.
The invariant: a password is known only by its argon2id hash, and whether a user exists cannot be
told from how long an answer takes.
"""

from .authenticator import Authenticator, AuthenticatorStatistics, RunBlocking
from .passwords import HashCost, PasswordHash, hash_password, verify_password
from .user_file import UserFile, read_users, read_users_text
from .users import User, Users, parse_users

__all__ = [
    "Authenticator",
    "AuthenticatorStatistics",
    "HashCost",
    "PasswordHash",
    "RunBlocking",
    "User",
    "UserFile",
    "Users",
    "hash_password",
    "parse_users",
    "read_users",
    "read_users_text",
    "verify_password",
]
