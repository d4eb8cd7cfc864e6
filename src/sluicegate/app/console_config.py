"""``[console]`` of ``sluicegate.toml``: pages and an API in the browser.

``config`` has it. The invariant: without the table there is no console, and one that is reached
from other machines has TLS, unless the operator says in so many words who else does that.
"""

from __future__ import annotations

import os
import pathlib
from typing import Annotated, Final

import pydantic

from sluicegate.address import SocketAddress
from sluicegate.console.link import ConsoleSettings, OidcSettings
from sluicegate.documents import Document, Findings, Model
from sluicegate.errors import ConfigError
from sluicegate.identity import read_private_file
from sluicegate.names import AddressClass, AddressClassifier
from sluicegate.policy.parse_values import parse_address

from .log_config import StoreSettings

__all__ = ["ConsoleTable", "console_folder", "to_console"]

_DEFAULT: Final = SocketAddress("127.0.0.1", 8643)
_SECRET_BYTES_MAX: Final = 4096
_FOLDER: Final = "console"
_HOST = Annotated[
    str, pydantic.StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$")
]


class OidcTable(Model):
    """``[console.oidc]``."""

    issuer: str = pydantic.Field(min_length=1, examples=["https://id.example.com"])
    client_id: str = pydantic.Field(min_length=1, examples=["sluicegate"])
    client_secret_file: str = ""
    """A private file with the secret in its first line; empty: there is none."""
    scopes: tuple[str, ...] = ("openid", "profile")
    name_claim: str = pydantic.Field(default="preferred_username", min_length=1)
    roles_claim: str = pydantic.Field(default="groups", min_length=1)
    administrators: tuple[str, ...] = ()
    """Values of the claim that give this role."""
    operators: tuple[str, ...] = ()
    viewers: tuple[str, ...] = ()


class ConsoleTable(Model, arbitrary_types_allowed=True):
    """``[console]``."""

    listen: Annotated[
        SocketAddress, pydantic.PlainValidator(parse_address, json_schema_input_type=str)
    ] = pydantic.Field(default_factory=lambda: _DEFAULT, examples=["127.0.0.1:8643"])
    """Where browsers reach it."""
    hosts: tuple[_HOST, ...] = pydantic.Field(default=(), examples=[["gate.example.com"]])
    """Names that browsers may use for it, beside the address."""
    certificate: str = ""
    """PEM, with the chain; empty: it speaks plain HTTP."""
    key: str = ""
    """PEM, of the certificate."""
    oidc: OidcTable | None = None
    behind_tls: bool = False
    """Something before it speaks TLS: it may listen beyond this machine without."""


def console_folder(state_dir: pathlib.Path) -> pathlib.Path:
    """Return where a console keeps its users."""
    return state_dir / _FOLDER


def _to_oidc(
    table: OidcTable, folder: pathlib.Path, document: Document, findings: Findings
) -> OidcSettings | None:
    where = document.where(("console", "oidc"))
    if not table.issuer.startswith(("https://", "http://127.0.0.1:", "http://[::1]:")):
        findings.refuse(where, "the issuer is reached without TLS", 'issuer = "https://…"')
        return None
    if not (table.administrators or table.operators or table.viewers):
        cure = 'for example administrators = ["gate-admins"]'
        findings.refuse(where, "gives nobody a role", cure)
        return None
    secret = ""
    if table.client_secret_file:
        try:
            secret = read_private_file(
                folder / table.client_secret_file,
                bytes_max=_SECRET_BYTES_MAX,
                holds="the secret",
                danger="could pass for this console",
            ).text.partition("\n")[0]
        except ConfigError as error:
            findings.errors.append(error)
            return None
    named = table.model_dump(exclude={"client_secret_file"})
    return OidcSettings(client_secret=secret, **named)


def _is_of_this_machine(address: SocketAddress) -> bool:
    found = AddressClassifier().classify(address.ip).address_class
    return found is AddressClass.LOOPBACK


def to_console(
    table: ConsoleTable | None,
    folder: pathlib.Path,
    state_dir: pathlib.Path,
    store: StoreSettings | None,
    document: Document,
    findings: Findings,
) -> ConsoleSettings | None:
    """Return the settings of a console; None: there is none, or, with findings, it is wrong."""
    if table is None:
        return None
    if bool(table.certificate) is not bool(table.key):
        given = "certificate" if table.certificate else "key"
        findings.refuse(
            document.where(("console", given)), "is one half", 'give "certificate" and "key"'
        )
        return None
    if not table.certificate and not table.behind_tls and not _is_of_this_machine(table.listen):
        findings.refuse(
            document.where(("console", "listen")),
            "would be reached from other machines, and passwords could be read on the way",
            'give "certificate" and "key", or listen on 127.0.0.1',
        )
        return None
    oidc = _to_oidc(table.oidc, folder, document, findings) if table.oidc else None
    return ConsoleSettings(
        folder=os.fspath(console_folder(state_dir)),
        listen=str(table.listen),
        hosts=table.hosts,
        certificate=os.fspath(folder / table.certificate) if table.certificate else "",
        key=os.fspath(folder / table.key) if table.key else "",
        store=store.place if store is not None else None,
        keep_days=store.keep_days if store is not None else 0,
        oidc=oidc,
    )
