"""The certificates of a listener: pairs of files, by name or out of a folder, and their names.

``tls_config`` asks for them. The invariant: each pair that is returned has been tried in OpenSSL
with its key, and is for a name that a client can ask for where the name chooses.
"""

from __future__ import annotations

import datetime as dt
import pathlib
from typing import TYPE_CHECKING, Final

import pydantic
from cryptography import x509

from sluicegate.access_limits import TLS_CERTIFICATES_MAX, TLS_EXPIRY_WARNING_DAYS
from sluicegate.documents import Document, Findings, Model
from sluicegate.documents.places import KeyPath
from sluicegate.errors import ConfigError
from sluicegate.names import CanonicalHost, HostRefused, canonical_host
from sluicegate.tls import OwnPair, TlsContext, TlsSettings, canonical_names

if TYPE_CHECKING:
    from .secret_files import SecretFiles

__all__ = ["OwnCertificates", "PairTable", "covers", "leaf_of"]


class PairTable(Model):
    """One of ``certificates`` of a listener's ``tls``."""

    certificate: str = pydantic.Field(min_length=1, examples=["www.pem"])
    """It, and what leads from it to an authority that clients know."""
    key: str = pydantic.Field(min_length=1, examples=["www.key"])


class OwnCertificates:
    """Reads those of one listener; what is wrong is a finding."""

    def __init__(self, document: Document, files: SecretFiles, findings: Findings) -> None:
        self.pairs: list[OwnPair] = []
        self._document = document
        self._files = files
        self._findings = findings
        self._at: dict[str, str] = {}
        #: Which names were seen, and in which file.

    def add(self, table: PairTable, at: KeyPath, *, needs_name: bool) -> None:
        """Read one pair.

        Args:
            table: Where it is.
            at: Under which key.
            needs_name: Whether it is only shown to who asks for a name that it is for.
        """
        self._read(table, (*at, "certificate"), (*at, "key"), needs_name=needs_name)

    def add_folder(self, folder: str, at: KeyPath, *, needs_name: bool) -> None:
        """Read every ``NAME.pem`` or ``NAME.crt`` of a folder, with ``NAME.key``."""
        names = self._files.list_folder(folder, self._document, at, self._findings)
        if names is None:
            return
        found = [name for name in names if pathlib.PurePath(name).suffix in _CERTIFICATES]
        if not found:
            self._refuse(at, f"{folder} has no certificates", "NAME.pem, with NAME.key beside it")
        for name in found:
            stem = pathlib.PurePath(name).stem
            table = PairTable(certificate=f"{folder}/{name}", key=f"{folder}/{stem}.key")
            self._read(table, at, at, needs_name=needs_name)
        lonely = {pathlib.PurePath(one).stem for one in names if one.endswith(".key")}
        for stem in sorted(lonely - {pathlib.PurePath(one).stem for one in found}):
            self._warn(at, f"{folder}/{stem}.key has no certificate beside it", f"{stem}.pem")

    def _read(self, table: PairTable, at: KeyPath, key_at: KeyPath, *, needs_name: bool) -> None:
        document, findings, files = self._document, self._findings, self._files
        certificate = files.read_file(table.certificate, document, at, findings)
        key = files.read_file(table.key, document, key_at, findings, holds="the private key")
        if certificate is None or key is None:
            return
        if len(self.pairs) >= TLS_CERTIFICATES_MAX:
            if len(self.pairs) == TLS_CERTIFICATES_MAX:
                self._refuse(at, f"are more than {TLS_CERTIFICATES_MAX} certificates")
            return
        try:
            TlsContext(TlsSettings(certificate, key))
        except ConfigError as error:
            place, path = (key_at, table.key) if error.where == "key" else (at, table.certificate)
            self._refuse(place, f"{path} {error.cause}", error.cure)
            return
        self._check_names(certificate, table.certificate, at, needs_name=needs_name)
        self.pairs.append(OwnPair(certificate, key))
        _check_expiry(certificate, table.certificate, document.where(at), findings)

    def _check_names(self, text: str, path: str, at: KeyPath, *, needs_name: bool) -> None:
        """Refuse what nobody can ask for, and warn of what is never shown."""
        try:
            names = canonical_names(leaf_of(text))
        except ValueError:
            self._refuse(at, f"{path} has names that cannot be read")
            return
        hosts = [name for name in names if not _is_address(name)]
        if needs_name and not hosts:
            cure = "a certificate with an alternative name (DNS), or name it with default"
            self._refuse(at, f"{path} is for no name that a client can ask for", cure)
        for name in hosts:
            before = self._at.setdefault(name, path)
            if before != path and needs_name:
                self._warn(
                    at, f"{path} is for {name}, as is {before}, which is shown", "remove one"
                )

    def _refuse(self, at: KeyPath, cause: str, cure: str = "") -> None:
        self._findings.refuse(self._document.where(at), cause, cure)

    def _warn(self, at: KeyPath, cause: str, cure: str) -> None:
        self._findings.warn(self._document.where(at), cause, cure)


def leaf_of(text: str) -> x509.Certificate:
    """Return the first certificate of a text: the one that is ours."""
    return x509.load_pem_x509_certificates(text.encode("utf-8"))[0]


def covers(pair: OwnPair, host: CanonicalHost) -> bool:
    """Tell whether a certificate is for a host."""
    rest = host.text.partition(".")[2]
    names = canonical_names(leaf_of(pair.certificate))
    return host.text in names or (not host.is_address and f"*.{rest}" in names)


def _is_address(name: str) -> bool:
    try:
        return canonical_host(name.removeprefix("*."), allow_underscore=True).is_address
    except HostRefused:
        return True


def _check_expiry(text: str, path: str, where: str, findings: Findings) -> None:
    """Warn of a certificate that has expired, or soon will."""
    chain = x509.load_pem_x509_certificates(text.encode("utf-8"))
    ends = min(one.not_valid_after_utc for one in chain)
    left = ends - dt.datetime.now(dt.UTC)
    if left < dt.timedelta(days=TLS_EXPIRY_WARNING_DAYS):
        has = "has expired" if left < dt.timedelta(0) else "expires"
        findings.warn(where, f"{path} {has} on {ends:%Y-%m-%d}", "renew it, and reload")


_CERTIFICATES: Final = frozenset({".pem", ".crt"})
