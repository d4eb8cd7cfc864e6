"""Whom a client's certificate names: which part of it is the user's name, and which are groups.

``gate`` asks with a certificate that OpenSSL has verified. No I/O. The invariant: a certificate
names exactly one user, or it names nobody and the reason is told; whether the name is one that a
user can have is the caller's to check.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID

from sluicegate.errors import SluicegateError

__all__ = ["CertificateRefused", "ClientNames", "NameSource", "groups_of"]


class CertificateRefused(SluicegateError):
    """A certificate names nobody: ``cause`` says why."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


class NameSource(enum.StrEnum):
    """Where in a certificate the user's name stands."""

    COMMON_NAME = "cn"
    """CN of the subject."""
    EMAIL = "email"
    """An e-mail address among the alternative names (rfc822Name)."""
    PRINCIPAL = "upn"
    """A user principal name among them, as Windows writes it."""
    URI = "uri"
    """A URI among them."""


@dataclass(frozen=True, slots=True)
class ClientNames:
    """How a listener reads a user out of a certificate."""

    source: NameSource = NameSource.COMMON_NAME
    prefix: str = ""
    """What a value must begin with, and which is no part of the name (``spiffe://example.org/``)."""
    suffix: str = ""
    """What a value must end with, and which is no part of the name (``@example.org``)."""

    def user_of(self, certificate: x509.Certificate) -> str:
        """Return the name.

        Raises:
            CertificateRefused: There is none, or several.
        """
        names = {
            value[len(self.prefix) : len(value) - len(self.suffix)]
            for value in self._values(certificate)
            if value.startswith(self.prefix)
            and value.endswith(self.suffix)
            and len(value) > len(self.prefix) + len(self.suffix)
        }
        if len(names) != 1:
            how_many = "several names" if names else "no name"
            raise CertificateRefused(f"the certificate has {how_many} as {self.source.value}")
        return names.pop()

    def _values(self, certificate: x509.Certificate) -> list[str]:
        if self.source is NameSource.COMMON_NAME:
            return _subject(certificate, NameOID.COMMON_NAME)
        try:
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        except x509.ExtensionNotFound:
            return []
        except (ValueError, x509.DuplicateExtension) as error:
            raise CertificateRefused(f"its extensions cannot be read: {error}") from error
        if self.source is NameSource.EMAIL:
            return names.value.get_values_for_type(x509.RFC822Name)
        if self.source is NameSource.URI:
            return names.value.get_values_for_type(x509.UniformResourceIdentifier)
        others = names.value.get_values_for_type(x509.OtherName)
        return [_utf8_string(one.value) for one in others if one.type_id.dotted_string == _UPN]


def groups_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the organizational units of the subject, which may be taken for groups."""
    return tuple(dict.fromkeys(_subject(certificate, NameOID.ORGANIZATIONAL_UNIT_NAME)))


def _subject(certificate: x509.Certificate, kind: x509.ObjectIdentifier) -> list[str]:
    try:
        found = certificate.subject.get_attributes_for_oid(kind)
    except ValueError as error:
        raise CertificateRefused(f"its subject cannot be read: {error}") from error
    return [value for one in found if isinstance(value := one.value, str)]


def _utf8_string(encoded: bytes) -> str:
    """Read a DER UTF8String with a short length, which is all that a name needs."""
    if len(encoded) < _HEAD_BYTES or encoded[0] != _UTF8_STRING or encoded[1] != len(encoded) - 2:
        raise CertificateRefused("its user principal name cannot be read")
    try:
        return encoded[_HEAD_BYTES:].decode("utf-8")
    except UnicodeDecodeError as error:
        raise CertificateRefused("its user principal name is not UTF-8") from error


_UPN: Final = "1.3.6.1.4.1.311.20.2.3"
_UTF8_STRING: Final = 0x0C
_HEAD_BYTES: Final = 2
