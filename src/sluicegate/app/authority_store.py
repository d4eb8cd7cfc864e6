"""The files of the authorities, as ``sluicegate ca`` makes, shows and changes them.

``cli.ca`` calls it; a running gate only opens what is here (``authority_files``). The invariant: a
key is written for its owner alone before it has a name that anybody looks for, each file is
replaced whole, and nothing that exists is overwritten unless that was asked for.

In the folder: ``ca.pem`` and ``ca.key``, whom clients trust (with what its predecessor says of
it); ``untrusted.pem`` and ``untrusted.key``, whom nobody is to trust; ``next.pem`` and
``next.key``, what ``rotate --prepare`` has made; ``previous.pem``, whom clients may still go by.
"""

from __future__ import annotations

import datetime as dt
import os
import pathlib
import secrets
import socket
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from sluicegate.clock import Clock
from sluicegate.errors import ConfigError
from sluicegate.tls.authority import AuthorityUnusable, SigningKey, check_authority
from sluicegate.tls.authority_certificate import self_signed, vouched_for

from .authority_config import AuthoritySettings

__all__ = [
    "UNTRUSTED_NAME",
    "AuthorityStore",
    "KeyKind",
    "Shown",
    "chain_pem",
    "generate_key",
    "load_key",
    "owner_of",
]

ParsedT = TypeVar("ParsedT")

KeyKind = Literal["p256", "p384", "rsa3072", "rsa4096"]


@dataclass(frozen=True, slots=True)
class Shown:
    """What there is, by its part: ``current``, ``next``, ``previous`` or ``untrusted``."""

    part: str
    certificate: x509.Certificate


class AuthorityStore:
    """The folder."""

    def __init__(self, settings: AuthoritySettings, clock: Clock, owner: tuple[int, int]) -> None:
        """Look at it.

        Args:
            settings: Where it is.
            clock: For the validity of certificates.
            owner: Whose files are made there: user and group.
        """
        self.settings = settings
        self._clock = clock
        self._owner = owner

    # -- making --------------------------------------------------------------------------------

    def make(
        self,
        key: SigningKey,
        name: str,
        days: int,
        constraints: x509.NameConstraints | None,
    ) -> x509.Certificate:
        """Make an authority for a key, and the untrusted one; the key is written if it can be.

        Raises:
            ConfigError: There is one already, or files cannot be written.
        """
        certificate = self_signed(
            key, name or _name(self._clock), self._clock.wall(), days, constraints
        )
        self.put([certificate], key)
        return certificate

    def put(self, chain: Sequence[x509.Certificate], key: SigningKey) -> None:
        """Put an authority in its place, and make the untrusted one.

        Raises:
            ConfigError: It is none, there is one already, or files cannot be written.
        """
        try:
            check_authority(chain[0], key.public_key())
        except AuthorityUnusable as error:
            raise ConfigError("the certificate", str(error)) from error
        settings = self.settings
        for path in (settings.certificate_path, settings.key_path):
            if path.exists():
                raise ConfigError(
                    os.fspath(path), "is there already", "sluicegate ca rotate makes a successor"
                )
        self._make_folder()
        if settings.token is None:
            self._write(settings.key_path, _key_pem(key))
        self._write(settings.certificate_path, chain_pem(chain), is_public=True)
        if not settings.untrusted_key_path.exists():
            other = ec.generate_private_key(ec.SECP256R1())
            certificate = self_signed(other, UNTRUSTED_NAME, self._clock.wall(), _UNTRUSTED_DAYS)
            self._write(settings.untrusted_key_path, _key_pem(other))
            self._write(
                settings.untrusted_certificate_path, chain_pem([certificate]), is_public=True
            )

    def prepare(self, key: SigningKey, name: str, days: int) -> x509.Certificate:
        """Make a successor that does not sign yet, with the constraints of the present one.

        Raises:
            ConfigError: There is one already, or no present one.
        """
        if self._next_certificate.exists():
            raise ConfigError(
                os.fspath(self._next_certificate), "is there already", "sluicegate ca rotate"
            )
        (current, *_) = self._read(self.settings.certificate_path)
        constraints = next(
            (
                one.value
                for one in current.extensions
                if isinstance(one.value, x509.NameConstraints)
            ),
            None,
        )
        certificate = self_signed(
            key, name or _name(self._clock), self._clock.wall(), days, constraints
        )
        self._write(self._next_key, _key_pem(key))
        self._write(self._next_certificate, chain_pem([certificate]), is_public=True)
        return certificate

    def rotate(self) -> x509.Certificate:
        """Put the successor in the place of the present authority, which vouches for it.

        What was done before an interruption is done again with the same result.

        Raises:
            ConfigError: There is no successor, or files cannot be read or written.
        """
        (successor, *_) = self._read(self._next_certificate)
        next_key = self._read_key(self._next_key)
        chain = self._read(self.settings.certificate_path)
        if chain[0] != successor:
            vouching = vouched_for(successor, chain[0], self._read_key(self.settings.key_path))
            previous = [chain[0], *self._still_valid(self._read_if_there(self._previous))]
            self._write(self._previous, chain_pem(previous), is_public=True)
            self._write(
                self.settings.certificate_path, chain_pem([successor, vouching]), is_public=True
            )
        self._write(self.settings.key_path, _key_pem(next_key))
        self._next_certificate.unlink()
        self._next_key.unlink()
        return successor

    # -- asking --------------------------------------------------------------------------------

    @property
    def has_next(self) -> bool:
        """Whether a successor was prepared."""
        return self._next_certificate.exists()

    def shown(self) -> list[Shown]:
        """Return all authorities there are.

        Raises:
            ConfigError: There is none, or it cannot be read.
        """
        (current, *_) = self._read(self.settings.certificate_path)
        found = [Shown("current", current)]
        found += [Shown("next", one) for one in self._read_if_there(self._next_certificate)]
        previous = self._still_valid(self._read_if_there(self._previous))
        found += [Shown("previous", one) for one in previous]
        (untrusted, *_) = self._read(self.settings.untrusted_certificate_path)
        return [*found, Shown("untrusted", untrusted)]

    # -- private -------------------------------------------------------------------------------

    @property
    def _next_certificate(self) -> pathlib.Path:
        return self.settings.folder / "next.pem"

    @property
    def _next_key(self) -> pathlib.Path:
        return self.settings.folder / "next.key"

    @property
    def _previous(self) -> pathlib.Path:
        return self.settings.folder / "previous.pem"

    def _still_valid(self, found: Sequence[x509.Certificate]) -> list[x509.Certificate]:
        now = self._clock.wall()
        return [one for one in found if one.not_valid_after_utc.timestamp() > now]

    def _make_folder(self) -> None:
        folder = self.settings.folder
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            if not folder.exists():
                folder.mkdir(mode=0o700)
                self._give(folder)
        except OSError as error:
            raise ConfigError(os.fspath(folder), f"cannot be made: {error.strerror}") from error

    def _write(self, path: pathlib.Path, content: bytes, *, is_public: bool = False) -> None:
        try:
            # Made with mode 0600.
            descriptor, name = tempfile.mkstemp(prefix=".", dir=path.parent)
            made = pathlib.Path(name)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                if is_public:
                    made.chmod(0o644)
                self._give(made)
                made.replace(path)
            except BaseException:
                made.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise ConfigError(os.fspath(path), f"cannot be written: {error.strerror}") from error

    def _give(self, path: pathlib.Path) -> None:
        if os.geteuid() == 0:
            os.chown(path, *self._owner)

    def _read_if_there(self, path: pathlib.Path) -> list[x509.Certificate]:
        return self._read(path) if path.exists() else []

    def _read(self, path: pathlib.Path) -> list[x509.Certificate]:
        return _parsed(path, x509.load_pem_x509_certificates)

    def _read_key(self, path: pathlib.Path) -> SigningKey:
        return _parsed(path, load_key)


def owner_of(settings: AuthoritySettings, has_user: bool) -> tuple[int, int]:
    """Return whose the files are when root makes them.

    Root's, where the gate is started as root and changes its user, who then cannot read the keys;
    else of whoever has the folder above, as whom the gate is started.
    """
    if has_user:
        return 0, 0
    folder = settings.folder
    while not folder.exists():
        folder = folder.parent
    status = folder.stat()
    return status.st_uid, status.st_gid


def generate_key(kind: KeyKind) -> SigningKey:
    """Make the key of an authority."""
    match kind:
        case "p256":
            return ec.generate_private_key(ec.SECP256R1())
        case "p384":
            return ec.generate_private_key(ec.SECP384R1())
        case "rsa3072":
            return rsa.generate_private_key(65537, 3072)
        case "rsa4096":
            return rsa.generate_private_key(65537, 4096)


def load_key(content: bytes) -> SigningKey:
    """Read a key as PEM.

    Raises:
        ValueError: It is none that can sign.
    """
    try:
        key = serialization.load_pem_private_key(content, None)
    except TypeError as error:
        raise ValueError("it is encrypted (openssl pkey -in KEY -out PLAIN)") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise ValueError("it is neither EC nor RSA")  # noqa: TRY004 - content, not a type of ours
    return key


def _key_pem(key: SigningKey) -> bytes:
    """Return a key as it is kept."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def chain_pem(chain: Sequence[x509.Certificate]) -> bytes:
    """Return certificates as they are kept."""
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in chain)


def _parsed(path: pathlib.Path, parse: Callable[[bytes], ParsedT]) -> ParsedT:
    try:
        return parse(path.read_bytes())
    except OSError as error:
        cure = "sluicegate ca init" if isinstance(error, FileNotFoundError) else ""
        raise ConfigError(os.fspath(path), f"cannot be read: {error.strerror}", cure) from error
    except ValueError as error:
        raise ConfigError(os.fspath(path), f"cannot be used: {error}") from error


def _name(clock: Clock) -> str:
    """Return a name that no other authority has: one that vouches is not to be itself."""
    day = dt.datetime.fromtimestamp(clock.wall(), dt.UTC)
    return f"Sluicegate CA {socket.gethostname()[:24]} {day:%Y-%m-%d} {secrets.token_hex(2)}"


UNTRUSTED_NAME: Final = "Sluicegate: this server could not be verified"
_UNTRUSTED_DAYS: Final = 3650
