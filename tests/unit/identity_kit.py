"""Users with real argon2 hashes of the least cost that a file may hold."""

from __future__ import annotations

import functools

from sluicegate.identity import HashCost, PasswordHash, User, Users, hash_password

CHEAP = HashCost(7168, 1, 1)


@functools.cache
def cheap_hash(password: str) -> PasswordHash:
    return hash_password(password.encode(), CHEAP)


def user(name: str, password: str = "open sesame", *groups: str) -> User:
    return User(name, cheap_hash(password), groups)


def users(*names: str) -> Users:
    return Users(user(name) for name in names)
