"""The hash chain over records, and the signed checkpoints on it.

``partition`` folds each batch into the chain, ``verification`` does so again. The invariant: a
link says which records are in it, in which order, byte by byte, and everything before; so whoever
changes, removes or moves one has to make every later link and every later signature anew.

Links: SHA-256 (FIPS 180-4); signatures: Ed25519 (RFC 8032).
"""

from __future__ import annotations

import hashlib
import os
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from sluicegate.errors import ConfigError

__all__ = ["FIRST_LINK", "ChainKey", "Checkpoint", "link_of"]

FIRST_LINK: Final = bytes(32)
"""What stands before the first record of a log."""

_CONTEXT: Final = b"sluicegate log checkpoint 1\0"


def link_of(before: bytes, first: int, lines: Sequence[bytes]) -> bytes:
    """Return the link of a batch.

    Args:
        before: The link that it follows.
        first: The number of its first record.
        lines: The records, without line ends.
    """
    digest = hashlib.sha256(before)
    digest.update(first.to_bytes(8, "big") + len(lines).to_bytes(4, "big"))
    for line in lines:
        digest.update(len(line).to_bytes(4, "big"))
        digest.update(line)
    return digest.digest()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A signed statement: how far the log was at a time, and where it begins."""

    last: int
    """The number of the last record."""
    link: bytes
    """The link that ends with it."""
    time: float
    """When it was signed, in seconds since the Unix epoch."""
    first: int
    """The number of the oldest record that is kept: what was before was let go on purpose."""
    signature: bytes = b""

    @property
    def signed(self) -> bytes:
        """What is signed."""
        numbers = f"{self.first} {self.last} {self.time!r} ".encode("ascii")
        return _CONTEXT + numbers + self.link


class ChainKey:
    """The key that signs checkpoints."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        #: What others check signatures with.

    @classmethod
    def generate(cls) -> ChainKey:
        """Make a new one."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def open(cls, path: pathlib.Path) -> ChainKey:
        """Read the key of a file, which is made if there is none, for its owner alone.

        Raises:
            ConfigError: It cannot be read or made, or others may read it.
        """
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return cls._make(path)
        except OSError as error:
            raise ConfigError(str(path), f"cannot be read: {error.strerror}", _CURE) from error
        with os.fdopen(descriptor, "rb") as file:
            if os.fstat(descriptor).st_mode & 0o077:
                raise ConfigError(str(path), "others may read it", f"chmod 600 {path}")
            try:
                private = load_pem_private_key(file.read(_KEY_BYTES_MAX), None)
            except (ValueError, TypeError) as error:
                raise ConfigError(str(path), "holds no private key", _CURE) from error
        if not isinstance(private, Ed25519PrivateKey):
            raise ConfigError(str(path), "holds a key that is not Ed25519", _CURE)
        return cls(private)

    @classmethod
    def _make(cls, path: pathlib.Path) -> ChainKey:
        private = Ed25519PrivateKey.generate()
        text = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        partial = path.with_name(f"{path.name}.{os.getpid()}")
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with os.fdopen(os.open(partial, flags, 0o600), "wb") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            partial.rename(path)
        except OSError as error:
            raise ConfigError(str(path), f"cannot be made: {error.strerror}", _CURE) from error
        return cls(private)

    def sign(self, last: int, link: bytes, time: float, first: int) -> Checkpoint:
        """Say how far the log is."""
        unsigned = Checkpoint(last, link, time, first)
        return Checkpoint(last, link, time, first, self._private.sign(unsigned.signed))


def is_signed_by(public: bytes, checkpoint: Checkpoint) -> bool:
    """Tell whether a checkpoint is signed by the owner of a public key."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(checkpoint.signature, checkpoint.signed)
    except (InvalidSignature, ValueError):
        return False
    return True


_KEY_BYTES_MAX: Final = 4096
_CURE: Final = "an Ed25519 key in PEM, for the log's user alone; move it away for a new one"
