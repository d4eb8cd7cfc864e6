"""``tls`` of a ``[[listener]]``: from a table and the files it names to the settings of TLS.

``config`` puts the table into its model. The invariant: what is returned has been tried in OpenSSL,
so a reload cannot fail half way for a certificate; and a key that others can read is refused.
"""

from __future__ import annotations

import datetime as dt
import ssl
from typing import Final, Literal

import pydantic
from cryptography import x509

from sluicegate.access_limits import TLS_EXPIRY_WARNING_DAYS
from sluicegate.documents import Document, Findings, Model
from sluicegate.documents.places import KeyPath
from sluicegate.errors import ConfigError
from sluicegate.tls import ClientCertificates, ClientNames, NameSource, TlsContext, TlsSettings

from .secret_files import SecretFiles

__all__ = ["TlsTable", "to_tls"]


class TlsTable(Model):
    """``tls`` of one ``[[listener]]``."""

    certificate: str = pydantic.Field(min_length=1, examples=["gate.pem"])
    key: str = pydantic.Field(min_length=1, examples=["gate.key"])
    minimum: Literal["1.2", "1.3"] = "1.2"
    client_certificates: ClientCertificates = ClientCertificates.OFF
    client_ca: str = ""
    client_crl: str = ""
    user_from: NameSource = NameSource.COMMON_NAME
    user_prefix: str = ""
    user_suffix: str = ""
    groups_from: Literal["users", "ou"] = "users"


def to_tls(
    table: TlsTable, document: Document, at: KeyPath, files: SecretFiles, findings: Findings
) -> TlsSettings | None:
    """Read the files and make the settings; None, with every finding, when something is wrong."""
    before = len(findings.errors)
    _check_keys(table, document, at, findings)
    certificate = files.read_file(table.certificate, document, (*at, "certificate"), findings)
    key = files.read_file(table.key, document, (*at, "key"), findings, holds="the private key")
    authorities = revocations = ""
    if table.client_ca:
        authorities = files.read_file(table.client_ca, document, (*at, "client_ca"), findings) or ""
    if table.client_crl:
        path = table.client_crl
        revocations = files.read_file(path, document, (*at, "client_crl"), findings) or ""
    if certificate is None or key is None or len(findings.errors) > before:
        return None
    settings = TlsSettings(
        certificate=certificate,
        key=key,
        minimum=_VERSIONS[table.minimum],
        client_certificates=table.client_certificates,
        client_authorities=authorities,
        revocations=revocations,
        client_names=ClientNames(table.user_from, table.user_prefix, table.user_suffix),
        has_groups_in_certificate=table.groups_from == "ou",
    )
    try:
        TlsContext(settings)
    except ConfigError as error:
        findings.refuse(document.where((*at, error.where)), error.cause, error.cure)
        return None
    _check_expiry(certificate, document, (*at, "certificate"), findings)
    return settings


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


def _check_expiry(text: str, document: Document, at: KeyPath, findings: Findings) -> None:
    """Warn of a certificate that has expired, or soon will."""
    ends = min(
        one.not_valid_after_utc for one in x509.load_pem_x509_certificates(text.encode("utf-8"))
    )
    left = ends - dt.datetime.now(dt.UTC)
    if left < dt.timedelta(days=TLS_EXPIRY_WARNING_DAYS):
        has = "has expired" if left < dt.timedelta(0) else "expires"
        findings.warn(document.where(at), f"{has} on {ends:%Y-%m-%d}", "renew it, and reload")


_OF_CLIENTS: Final = (
    "client_ca", "client_crl", "user_from", "user_prefix", "user_suffix", "groups_from",
)  # fmt: skip
_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
