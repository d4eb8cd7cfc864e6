"""Passwords and their argon2id hashes (RFC 9106), in the encoding that every tool shares.

``users`` reads hashes with it, ``authenticator`` and ``sluicegate user`` run it: hashing takes a
tenth of a second of CPU and tens of MiB, so never on the loop. The invariant: no hash is taken from
a file that is weak, or that costs more than ``limits.py`` allows to compute.
"""

from __future__ import annotations

import base64
import errno
import re
import secrets
import unicodedata
from dataclasses import dataclass
from typing import Final

from argon2.exceptions import HashingError, VerificationError, VerifyMismatchError
from argon2.low_level import Type, hash_secret, verify_secret
from typing_extensions import override

from sluicegate.access_limits import (
    PASSWORD_BYTES_MAX,
    PASSWORD_CHARACTERS_MIN,
    PASSWORD_HASH_LANES_MAX,
    PASSWORD_HASH_MEMORY_KIB_MAX,
    PASSWORD_HASH_MEMORY_KIB_MIN,
    PASSWORD_HASH_PASSES_MAX,
)
from sluicegate.documents import Wrong
from sluicegate.errors import TransportError

__all__ = [
    "DEFAULT_COST",
    "HashCost",
    "PasswordHash",
    "check_new_password",
    "hash_password",
    "make_dummy_hash",
    "parse_hash",
    "verify_password",
]


@dataclass(frozen=True, slots=True, order=True)
class HashCost:
    """What one computation takes: argon2's parameters m, t and p."""

    memory_kib: int
    passes: int
    lanes: int

    @override
    def __str__(self) -> str:
        """Write it as encoded hashes do."""
        return f"m={self.memory_kib},t={self.passes},p={self.lanes}"


DEFAULT_COST: Final = HashCost(65536, 3, 4)
"""The second recommended set of RFC 9106, section 4: 64 MiB for a tenth of a second."""


@dataclass(frozen=True, slots=True)
class PasswordHash:
    """One encoded argon2id hash, checked."""

    text: str
    cost: HashCost

    @override
    def __repr__(self) -> str:
        """Leave the hash out: it is a secret, if a lesser one."""
        return f"PasswordHash({self.cost})"


def parse_hash(text: object) -> PasswordHash:
    """Read an encoded hash, ``$argon2id$v=19$m=65536,t=3,p=4$salt$hash``.

    Raises:
        Wrong: It is none, another kind, too weak, or too costly.
    """
    found = _ENCODED.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        # What stands there may be a password: it is not repeated.
        raise Wrong("is not an argon2id hash", _CURE)
    memory_kib, passes, lanes = (int(found[name]) for name in "mtp")
    if not PASSWORD_HASH_MEMORY_KIB_MIN <= memory_kib <= PASSWORD_HASH_MEMORY_KIB_MAX:
        bounds = f"{PASSWORD_HASH_MEMORY_KIB_MIN} to {PASSWORD_HASH_MEMORY_KIB_MAX}"
        raise Wrong(f"has m={memory_kib}, must be {bounds} (KiB)", _CURE)
    if passes > PASSWORD_HASH_PASSES_MAX or lanes > PASSWORD_HASH_LANES_MAX:
        bounds = f"at most t={PASSWORD_HASH_PASSES_MAX} and p={PASSWORD_HASH_LANES_MAX}"
        raise Wrong(f"has t={passes},p={lanes}, must be {bounds}", _CURE)
    assert isinstance(text, str), "the pattern matched it"
    return PasswordHash(text, HashCost(memory_kib, passes, lanes))


def hash_password(password: bytes, cost: HashCost = DEFAULT_COST) -> PasswordHash:
    """Hash a password with a fresh salt; blocks for about a tenth of a second.

    Raises:
        TransportError: There is not enough memory.
    """
    try:
        encoded = hash_secret(
            _normalized(password),
            secrets.token_bytes(_SALT_BYTES),
            time_cost=cost.passes,
            memory_cost=cost.memory_kib,
            parallelism=cost.lanes,
            hash_len=_HASH_BYTES,
            type=Type.ID,
        )
    except HashingError as error:
        raise TransportError(errno.ENOMEM, doing="hash a password") from error
    return PasswordHash(encoded.decode("ascii"), cost)


def verify_password(known: PasswordHash, password: bytes) -> bool:
    """Tell whether a password is the one that was hashed; blocks for about a tenth of a second.

    Raises:
        TransportError: There is not enough memory; nothing was found out.
    """
    try:
        return verify_secret(known.text.encode("ascii"), _normalized(password), Type.ID)
    except VerifyMismatchError:
        return False
    except VerificationError as error:
        raise TransportError(errno.ENOMEM, doing="verify a password") from error


def make_dummy_hash(cost: HashCost) -> PasswordHash:
    """Return a hash that no password has, without computing one.

    To verify against it costs what it costs for a real user.
    """
    salt, tag = (
        base64.b64encode(secrets.token_bytes(count)).decode("ascii").rstrip("=")
        for count in (_SALT_BYTES, _HASH_BYTES)
    )
    return PasswordHash(f"$argon2id$v=19${cost}${salt}${tag}", cost)


def check_new_password(password: bytes) -> None:
    """Refuse what no client could send, and what is guessed in no time.

    Raises:
        Wrong: It is too short, too long, not UTF-8, or has control characters.
    """
    try:
        text = password.decode("utf-8")
    except UnicodeDecodeError:
        raise Wrong("the password is not UTF-8", "set the terminal to UTF-8") from None
    if len(text) < PASSWORD_CHARACTERS_MIN:
        cure = f"at least {PASSWORD_CHARACTERS_MIN} characters; several words do well"
        raise Wrong("the password is too short", cure)
    if len(password) > PASSWORD_BYTES_MAX:
        raise Wrong("the password is too long", f"at most {PASSWORD_BYTES_MAX} bytes")
    if any(unicodedata.category(one) == "Cc" for one in text):
        raise Wrong("the password has a control character", "clients cannot send those")


def _normalized(password: bytes) -> bytes:
    """Return the one form of a password: "é" may be typed as one character or as two (RFC 8265)."""
    try:
        return unicodedata.normalize("NFC", password.decode("utf-8")).encode("utf-8")
    except UnicodeDecodeError:
        return password


_SALT_BYTES: Final = 16
_HASH_BYTES: Final = 32
#: Salt and hash of 16 to 64 bytes, as unpadded base64.
_ENCODED: Final = re.compile(
    r"\$argon2id\$v=19\$m=(?P<m>[1-9][0-9]{0,7}),t=(?P<t>[1-9][0-9]{0,3}),p=(?P<p>[1-9][0-9]{0,2})"
    r"\$[A-Za-z0-9+/]{22,86}\$[A-Za-z0-9+/]{22,86}",
    re.ASCII,
)
_CURE: Final = 'let "sluicegate user add --replace" make it'
