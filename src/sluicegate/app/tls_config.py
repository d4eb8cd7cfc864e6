"""``tls`` of a ``[[listener]]``: from a table and the files it names to the settings of TLS.

``config`` puts the table into its model. The invariant: what is returned has been tried in OpenSSL,
so a reload cannot fail half way for a certificate; a key that others can read is refused; and a
published server's client gets no certificate for a name that it did not ask for, unless an operator
has named one.
"""

from __future__ import annotations

import dataclasses
import ssl
from typing import Final, Literal

import pydantic

from sluicegate.documents import Document, Findings, Model
from sluicegate.documents.places import KeyPath
from sluicegate.errors import ConfigError
from sluicegate.names import HostRefused, canonical_host
from sluicegate.tls import (
    ClientCertificates,
    ClientNames,
    NameSource,
    OwnPair,
    TlsContext,
    TlsSettings,
)

from .own_certificates import OwnCertificates, PairTable, covers
from .secret_files import SecretFiles

__all__ = ["TlsTable", "to_tls"]


class TlsTable(Model):
    """``tls`` of one ``[[listener]]``."""

    certificate: str = pydantic.Field(
        default="", examples=["gate.pem"], description="the first certificate"
    )
    key: str = pydantic.Field(default="", examples=["gate.key"], description="its key")
    certificates: tuple[PairTable, ...] = ()
    """Further certificates, each for who asks for a name that it is for."""
    folder: str = pydantic.Field(default="", examples=["certificates"])
    """More of them: every ``NAME.pem`` or ``NAME.crt`` with ``NAME.key`` beside it."""
    default: str = pydantic.Field(default="", examples=["www.example.org"])
    """Of a listener that publishes: the name whose certificate is shown to who asks for an unknown
    name, or for none; left out: such clients are refused."""
    minimum: Literal["1.2", "1.3"] = "1.2"
    client_certificates: ClientCertificates = ClientCertificates.OFF
    client_ca: str = ""
    client_crl: str = ""
    user_from: NameSource = NameSource.COMMON_NAME
    user_prefix: str = ""
    user_suffix: str = ""
    groups_from: Literal["users", "ou"] = "users"


def to_tls(
    table: TlsTable,
    document: Document,
    at: KeyPath,
    files: SecretFiles,
    findings: Findings,
    *,
    is_proxy: bool,
) -> TlsSettings | None:
    """Read the files and make the settings; None, with every finding, when something is wrong."""
    before = len(findings.errors)
    _check_keys(table, document, at, findings)
    _check_kind(table, document, at, findings, is_proxy=is_proxy)
    pairs = _read_pairs(table, document, at, files, findings, is_proxy=is_proxy)
    authorities = revocations = ""
    if table.client_ca:
        authorities = files.read_file(table.client_ca, document, (*at, "client_ca"), findings) or ""
    if table.client_crl:
        path = table.client_crl
        revocations = files.read_file(path, document, (*at, "client_crl"), findings) or ""
    if not pairs or len(findings.errors) > before:
        return None
    first, *others = pairs
    settings = TlsSettings(
        certificate=first.certificate,
        key=first.key,
        minimum=_VERSIONS[table.minimum],
        client_certificates=table.client_certificates,
        client_authorities=authorities,
        revocations=revocations,
        client_names=ClientNames(table.user_from, table.user_prefix, table.user_suffix),
        has_groups_in_certificate=table.groups_from == "ou",
        others=tuple(others),
        reads_hellos=bool(others) or not is_proxy,
        needs_known_name=not (is_proxy or table.default),
    )
    try:
        # Each pair was tried by itself: what is wrong now is what they have in common.
        TlsContext(dataclasses.replace(settings, others=()))
    except ConfigError as error:
        findings.refuse(document.where((*at, error.where)), error.cause, error.cure)
        return None
    return settings


def _read_pairs(
    table: TlsTable,
    document: Document,
    at: KeyPath,
    files: SecretFiles,
    findings: Findings,
    *,
    is_proxy: bool,
) -> list[OwnPair]:
    """Return all certificates, the one first that is shown where no name chooses."""
    before = len(findings.errors)
    found = OwnCertificates(document, files, findings)
    needs_name = not (is_proxy or table.default)
    if table.certificate and table.key:
        first = PairTable(certificate=table.certificate, key=table.key)
        found.add(first, at, needs_name=needs_name)
    for index, one in enumerate(table.certificates):
        found.add(one, (*at, "certificates", index), needs_name=needs_name or is_proxy)
    if table.folder:
        found.add_folder(table.folder, (*at, "folder"), needs_name=needs_name or is_proxy)
    pairs = found.pairs
    if not table.default or len(findings.errors) > before:
        return pairs
    where = document.where((*at, "default"))
    try:
        host = canonical_host(table.default, allow_underscore=True)
    except HostRefused as refused:
        findings.refuse(where, refused.hint, 'for example "www.example.org"')
        return pairs
    chosen = next((one for one in pairs if covers(one, host)), None)
    if chosen is None:
        findings.refuse(where, f"no certificate here is for {host}", "a name that one is for")
        return pairs
    return [chosen, *(one for one in pairs if one is not chosen)]


def _check_kind(
    table: TlsTable, document: Document, at: KeyPath, findings: Findings, *, is_proxy: bool
) -> None:
    """Refuse what one kind of listener cannot do, and what is half of a pair."""
    cure = 'certificate = "gate.pem", key = "gate.key"'
    for key, other in (("certificate", table.key), ("key", table.certificate)):
        if not getattr(table, key) and (other or is_proxy):
            findings.refuse(document.where((*at, key)), "is missing", cure)
    if is_proxy:
        if table.default:
            cause = "has no effect: clients of a proxy get the first certificate"
            findings.refuse(document.where((*at, "default")), cause, "remove it")
        return
    if not (table.certificate or table.key or table.certificates or table.folder):
        cure = 'certificate and key, [[listener.tls.certificates]], or folder = "certificates"'
        findings.refuse(document.where(at), "has no certificate", cure)
    if "groups_from" in table.model_fields_set:
        cause = "has no effect: at a listener that publishes the certificate says who comes"
        findings.refuse(document.where((*at, "groups_from")), cause, "remove it")


def _check_keys(table: TlsTable, document: Document, at: KeyPath, findings: Findings) -> None:
    """Refuse what has no effect, and what would let anybody in."""
    if table.client_certificates is not ClientCertificates.OFF:
        if not table.client_ca:
            findings.refuse(
                document.where((*at, "client_certificates")),
                "needs client_ca: nobody would vouch for clients",
                'client_ca = "clients.pem"',
            )
        return
    for key in _OF_CLIENTS:
        if key in table.model_fields_set:
            findings.refuse(
                document.where((*at, key)),
                "has no effect: no client is asked for a certificate",
                'client_certificates = "optional" or "required"',
            )


_OF_CLIENTS: Final = (
    "client_ca", "client_crl", "user_from", "user_prefix", "user_suffix", "groups_from",
)  # fmt: skip
_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
