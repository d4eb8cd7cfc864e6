"""``[ldap]`` of ``sluicegate.toml``: from a table to the settings of a directory.

``config`` puts the table into its model, ``load`` asks what it means. The invariant: what would let
somebody in by mistake (a filter without the user in it, a password in clear on the wire) cannot be
written.
"""

from __future__ import annotations

import ssl
from typing import Annotated, Final

import pydantic

from sluicegate.access_limits import (
    LDAP_CONNECTIONS_MAX,
    LDAP_KEPT_S_MAX,
    LDAP_NESTING_MAX,
    LDAP_SERVERS_MAX,
    LDAP_TIMEOUT_S_MAX,
)
from sluicegate.documents import Document, Findings, Model, Wrong
from sluicegate.documents.places import KeyPath
from sluicegate.identity import (
    DirectoryServer,
    DirectorySettings,
    DistinguishedName,
    GroupName,
    LdapTextError,
    check_user_name,
    fill_filter,
)
from sluicegate.names import HostRefused, canonical_host
from sluicegate.names.authority import parse_authority

from .secret_files import SecretFiles, SecretTable

__all__ = ["LdapTable", "to_directory"]


def _parse_server(text: object) -> DirectoryServer:
    if not isinstance(text, str):
        raise Wrong(f"is {text!r}, must be a URL in quotes", _SERVER_CURE)
    for scheme, port in _SCHEMES.items():
        if text.startswith(scheme):
            try:
                found = parse_authority(text.removeprefix(scheme), default_port=port)
            except HostRefused as error:
                raise Wrong(f"is {text!r}: {error.hint}", _SERVER_CURE) from error
            return DirectoryServer(found.host.text, found.port, starts_tls=scheme == "ldap://")
    raise Wrong(f"is {text!r}, which is no URL of a directory", _SERVER_CURE)


def _parse_name(text: object) -> DistinguishedName:
    try:
        return DistinguishedName.parse(text if isinstance(text, str) else "")
    except LdapTextError as error:
        raise Wrong(f"is {text!r}: {error}", _NAME_CURE) from error


def _parse_attribute(text: object) -> str:
    if not isinstance(text, str) or not text.isascii() or not text.replace("-", "a").isalnum():
        raise Wrong(f"is {text!r}, which is no attribute", 'for example "uid" or "memberOf"')
    return text


Name = Annotated[DistinguishedName, pydantic.PlainValidator(_parse_name)]
Attribute = Annotated[str, pydantic.PlainValidator(_parse_attribute)]
Seconds = Annotated[float, pydantic.Field(gt=0, le=LDAP_TIMEOUT_S_MAX)]


class LdapTable(Model, arbitrary_types_allowed=True):
    """``[ldap]``."""

    servers: tuple[Annotated[DirectoryServer, pydantic.PlainValidator(_parse_server)], ...] = (
        pydantic.Field(
            min_length=1, max_length=LDAP_SERVERS_MAX, examples=[["ldaps://ldap.example.org"]]
        )
    )
    base_dn: Name = pydantic.Field(examples=["ou=people,dc=example,dc=org"])
    bind_dn: Name | None = None
    bind_password: SecretTable | None = None
    ca_file: str = ""
    tls_name: str = ""
    user_attribute: Attribute = "uid"
    user_filter: str = ""
    group_attribute: Attribute | None = None
    group_filter: str = ""
    group_base_dn: Name | None = None
    group_name_attribute: Attribute = "cn"
    groups: dict[str, Name] = pydantic.Field(default_factory=dict)
    nested_groups_depth: int = pydantic.Field(default=0, ge=0, le=LDAP_NESTING_MAX)
    connect_timeout_s: Seconds = 2.0
    timeout_s: Seconds = 5.0
    cache_s: float = pydantic.Field(default=60.0, ge=0, le=LDAP_KEPT_S_MAX)
    connections_max: int = pydantic.Field(default=4, ge=1, le=LDAP_CONNECTIONS_MAX)


def to_directory(
    table: LdapTable, document: Document, files: SecretFiles, findings: Findings
) -> DirectorySettings | None:
    """Make the settings of a directory; None, with every finding, when something is wrong."""
    before = len(findings.errors)
    user_filter = table.user_filter or f"({table.user_attribute}={{user}})"
    _check_filter("user_filter", user_filter, ("user",), document, findings)
    if table.group_filter:
        _check_filter("group_filter", table.group_filter, ("dn", "user"), document, findings)
    password = _read_password(table, document, files, findings)
    ca_pem: str | None = ""
    if table.ca_file:
        ca_pem = files.read_file(table.ca_file, document, ("ldap", "ca_file"), findings)
    tls_name = _checked_tls_name(table, document, findings)
    for name in table.groups:
        _check_group(name, document, ("ldap", "groups", name), findings)
    if len(findings.errors) > before or ca_pem is None or password is None:
        return None
    settings = DirectorySettings(
        servers=table.servers,
        base=table.base_dn,
        user_filter=user_filter,
        user_attribute=table.user_attribute,
        bind_name=table.bind_dn.text if table.bind_dn else "",
        bind_password=password.encode("utf-8"),
        ca_pem=ca_pem,
        tls_name=tls_name,
        group_attribute=table.group_attribute or "",
        group_filter=table.group_filter,
        group_base=table.group_base_dn,
        group_name_attribute=table.group_name_attribute,
        group_names=tuple(GroupName(name, entry) for name, entry in table.groups.items()),
        nested_groups_depth=table.nested_groups_depth,
        connect_timeout_s=table.connect_timeout_s,
        timeout_s=table.timeout_s,
        cache_s=table.cache_s,
        connections_max=table.connections_max,
    )
    _check_authorities(settings, document, findings)
    return settings if len(findings.errors) == before else None


def _read_password(
    table: LdapTable, document: Document, files: SecretFiles, findings: Findings
) -> str | None:
    """Return the password of ``bind_dn``; empty without one; None when it is wrong."""
    at = ("ldap", "bind_password")
    if (table.bind_dn is None) != (table.bind_password is None):
        findings.refuse(
            document.where(("ldap", "bind_dn")),
            "bind_dn and bind_password go together: a name without a password proves nothing",
            'bind_password = { file = "ldap.password" }',
        )
        return None
    if table.bind_password is None:
        return ""
    password = files.read_secret(table.bind_password, document, at, findings)
    if password == "":
        findings.refuse(document.where(at), "is empty: the gate would search as nobody")
        return None
    return password


def _check_filter(
    key: str, text: str, places: tuple[str, ...], document: Document, findings: Findings
) -> None:
    where = document.where(("ldap", key))
    if not any(f"{{{place}}}" in text for place in places):
        wanted = " or ".join(f"{{{place}}}" for place in places)
        findings.refuse(where, f"has no {wanted} in it: it would find anybody", _EXAMPLES[key])
        return
    # Loaded only where there is a directory: the library costs a tenth of a second.
    from sluicegate.identity.ldap_link import check_filter  # noqa: PLC0415 - it loads ldap3

    wrong = check_filter(fill_filter(text, user="ann", dn="cn=ann"))
    if wrong:
        findings.refuse(where, f"is no search filter (RFC 4515): {wrong}", _EXAMPLES[key])


def _checked_tls_name(table: LdapTable, document: Document, findings: Findings) -> str:
    if not table.tls_name:
        return ""
    try:
        return canonical_host(table.tls_name).text
    except HostRefused as error:
        findings.refuse(document.where(("ldap", "tls_name")), error.hint, '"ldap.example.org"')
        return ""


def _check_group(name: str, document: Document, at: KeyPath, findings: Findings) -> None:
    try:
        check_user_name(name)
    except Wrong as error:
        findings.refuse(document.where(at), error.cause, error.cure)


def _check_authorities(settings: DirectorySettings, document: Document, findings: Findings) -> None:
    from sluicegate.identity.ldap_link import make_context  # noqa: PLC0415 - it loads ldap3

    try:
        make_context(settings)
    except (ssl.SSLError, ValueError):
        findings.refuse(
            document.where(("ldap", "ca_file")),
            "has no certificate that can be read",
            "it holds the authority's certificate as PEM (-----BEGIN CERTIFICATE-----)",
        )


_SCHEMES: Final = {"ldaps://": 636, "ldap://": 389}
_SERVER_CURE: Final = '"ldaps://ldap.example.org", or "ldap://192.0.2.7:389", which begins TLS'
_NAME_CURE: Final = 'for example "ou=people,dc=example,dc=org"'
_EXAMPLES: Final = {
    "user_filter": 'for example "(&(objectClass=person)(uid={user}))"',
    "group_filter": 'for example "(&(objectClass=groupOfNames)(member={dn}))"',
}
