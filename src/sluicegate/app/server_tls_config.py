"""``[tls]`` of ``sluicegate.toml``: how servers are verified that are spoken to inside TLS.

``config`` puts the table into its model, ``load`` makes settings of it. The invariant: what is
returned has been tried in OpenSSL; without authorities there are no settings, and so no such
server.
"""

from __future__ import annotations

import pathlib
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final, Literal

import pydantic

from sluicegate.documents import Document, Findings, Model
from sluicegate.documents.places import KeyPath
from sluicegate.errors import ConfigError
from sluicegate.gate.own_certificate import OwnCertificate
from sluicegate.names import HostPattern
from sluicegate.tls import MinimumKey, Revocation, ServerContext, ServerTlsSettings, Stapling

from .parent_proxies import parse_pattern
from .secret_files import SecretFiles

if TYPE_CHECKING:
    from .config import Configuration

__all__ = ["ServerTlsChoice", "ServerTlsTable", "to_server_tls"]

_Host = Annotated[HostPattern, pydantic.PlainValidator(parse_pattern)]


class ClientCertificateTable(Model, arbitrary_types_allowed=True):
    """One ``[[tls.client_certificate]]``: for servers that want one."""

    to: tuple[_Host, ...] = pydantic.Field(min_length=1, examples=[["api.example.org"]])
    """The servers that are shown it."""
    certificate: str = pydantic.Field(min_length=1, examples=["gate-client.pem"])
    key: str = pydantic.Field(min_length=1, examples=["gate-client.key"])


class ServerTlsTable(Model):
    """``[tls]``."""

    authorities: tuple[str, ...] = pydantic.Field(
        default=("system",), min_length=1, examples=[["system", "internal-ca.pem"]]
    )
    """Who vouches for servers: files, and ``system`` for the distribution's bundle."""
    revocation: Revocation | None = pydantic.Field(
        default=None, description='default: "known" with crl, else "off"'
    )
    """What lists of revoked certificates are asked about."""
    crl: tuple[str, ...] = pydantic.Field(default=(), examples=[["internal-ca.crl"]])
    """Files with lists, as PEM."""
    stapling: Stapling = Stapling.DEMANDED
    """When a server has to staple an answer to its certificate (OCSP)."""
    minimum: Literal["1.2", "1.3"] = "1.2"
    """The version of TLS that a server has to speak, or a higher one."""
    minimum_key: MinimumKey = MinimumKey.RSA_2048
    """The shortest keys that are believed in a chain."""
    client_certificate: tuple[ClientCertificateTable, ...] = ()
    """The gate's own, for servers that want one; the first that is for a server is shown to it."""
    share_servers: bool = True
    """Whether connections of one client whose TLS is opened may use the same connection to a
    server, one after the other; each has its own with false."""
    key_log: str = pydantic.Field(default="", examples=["keys.log"])
    """A file in ``state_dir`` for the keys of all TLS that the gate speaks, with servers and with
    clients, as protocol analyzers read them (``SSLKEYLOGFILE``): whoever has it can read them."""


@dataclass(frozen=True, slots=True)
class ServerTlsChoice:
    """What ``[tls]`` comes to."""

    settings: ServerTlsSettings | None
    own: tuple[OwnCertificate, ...] = ()
    key_log: str = ""


def to_server_tls(
    configuration: Configuration, files: SecretFiles, findings: Findings
) -> ServerTlsChoice:
    """Read the files and make the settings; what is wrong is a finding."""
    table, document = configuration.tls, configuration.document
    before = len(findings.errors)
    is_written = "tls" in document.tree
    authorities = [
        _authorities(name, document, ("tls", "authorities", index), files, findings, is_written)
        for index, name in enumerate(table.authorities)
    ]
    lists = [
        files.read_file(name, document, ("tls", "crl", index), findings)
        for index, name in enumerate(table.crl)
    ]
    revocation = table.revocation or (Revocation.KNOWN if table.crl else Revocation.OFF)
    if revocation is not Revocation.OFF and not table.crl:
        findings.refuse(
            document.where(("tls", "revocation")),
            "needs lists: nobody says what was revoked",
            'crl = ["internal-ca.crl"]',
        )
    elif revocation is Revocation.OFF and table.crl:
        cure = 'remove it, or set revocation = "known"'
        findings.refuse(document.where(("tls", "crl")), "has no effect", cure)
    key_log = _key_log(table.key_log, configuration.state_dir, document, findings)
    known = [one for one in authorities if one]
    if not known or len(findings.errors) > before:
        return ServerTlsChoice(None, key_log=key_log)
    settings = ServerTlsSettings(
        authorities="\n".join(known),
        revocation=revocation,
        revocations="\n".join(one or "" for one in lists),
        stapling=table.stapling,
        minimum=_VERSIONS[table.minimum],
        minimum_key=table.minimum_key,
        are_shared=table.share_servers,
    )
    _try(settings, document, ("tls",), findings)
    own = _own_certificates(table, settings, document, files, findings)
    return ServerTlsChoice(settings, own, key_log)


def _authorities(
    name: str,
    document: Document,
    at: KeyPath,
    files: SecretFiles,
    findings: Findings,
    is_written: bool,
) -> str | None:
    """Return authorities as PEM; None where there are none, which is a finding if it matters."""
    if name != _SYSTEM:
        return files.read_file(name, document, at, findings)
    found = files.read_first(_BUNDLES)
    if found is None and is_written:
        cure = "install ca-certificates, or name a file"
        findings.refuse(document.where(at), "the system has no bundle of authorities", cure)
    return found


def _key_log(name: str, state_dir: pathlib.Path, document: Document, findings: Findings) -> str:
    """Return where keys are logged, and warn of it."""
    if not name:
        return ""
    where = document.where(("tls", "key_log"))
    if "/" in name or name in {".", ".."}:
        cause = f"is {name!r}: the file is in state_dir, where workers may write"
        findings.refuse(where, cause, 'for example "keys.log"')
        return ""
    findings.warn(
        where,
        "logs the keys of TLS connections: whoever reads the file can read what is said on them",
        "remove it when you have seen enough",
    )
    return str(state_dir / name)


def _own_certificates(
    table: ServerTlsTable,
    settings: ServerTlsSettings,
    document: Document,
    files: SecretFiles,
    findings: Findings,
) -> tuple[OwnCertificate, ...]:
    found: list[OwnCertificate] = []
    for index, one in enumerate(table.client_certificate):
        at: KeyPath = ("tls", "client_certificate", index)
        certificate = files.read_file(one.certificate, document, (*at, "certificate"), findings)
        key = files.read_file(one.key, document, (*at, "key"), findings, holds="the private key")
        if certificate is None or key is None:
            continue
        own = OwnCertificate(one.to, certificate, key)
        _try(own.added_to(settings), document, at, findings)
        found.append(own)
    return tuple(found)


def _try(settings: ServerTlsSettings, document: Document, at: KeyPath, findings: Findings) -> None:
    try:
        ServerContext(settings)
    except ConfigError as error:
        findings.refuse(document.where((*at, error.where)), error.cause, error.cure)


_SYSTEM: Final = "system"
_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Arch, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",  # Alpine without the package
)
_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
