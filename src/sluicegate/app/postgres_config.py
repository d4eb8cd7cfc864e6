"""``[log.postgresql]`` of ``sluicegate.toml``: which PostgreSQL server keeps the records.

``log_config`` reads it. The invariant: a password is in a private file and never in the address,
and a server beyond this machine is verified unless the operator says otherwise.
"""

from __future__ import annotations

import pathlib
import re
import urllib.parse
from typing import Annotated, Final, NamedTuple

import pydantic

from sluicegate.audit.store import PostgresPlace
from sluicegate.audit.store.place import TlsMode
from sluicegate.documents import Document, Findings, Model, Wrong
from sluicegate.names import HostRefused, parse_authority

from .secret_files import SecretTable

__all__ = ["PostgresTable", "place_at", "to_postgres"]

_PORT: Final = 5432
_CURE: Final = (
    '"postgresql://USER@HOST:PORT/DATABASE", or "postgresql://USER@/DATABASE?host=/run/postgresql"'
)


class _Server(NamedTuple):
    """What an address says."""

    user: str
    host: str
    port: int
    database: str


def _read_server(text: str) -> _Server:
    """Read an address as libpq writes it.

    Raises:
        Wrong: It is none, or has what does not belong into it.
    """
    found = _ADDRESS.fullmatch(text)
    if found is None:
        raise Wrong(f"{text!r} is no address of a PostgreSQL server", _CURE)
    user, colon, _ = found["user"].partition(":")
    if colon:
        raise Wrong("a password does not belong into the address", 'password = { file = "…" }')
    database = urllib.parse.unquote(found["database"] or found["local"])
    user = urllib.parse.unquote(user)
    if not user.isprintable() or not database.isprintable():
        raise Wrong(f"{text!r} has names that nobody can read", _CURE)
    if found["folder"]:
        folder = urllib.parse.unquote(found["folder"])
        return _Server(user, folder, int(found["number"] or _PORT), database)
    try:
        authority = parse_authority(found["authority"], default_port=_PORT)
    except HostRefused as refused:
        raise Wrong(f"{text!r}: {refused.hint}", _CURE) from None
    return _Server(user, str(authority.host).strip("[]"), authority.port or _PORT, database)


_ADDRESS: Final = re.compile(
    r"postgres(?:ql)?://(?P<user>[^@/?#]+)@"
    r"(?:(?P<authority>[^@/?#]+)/(?P<database>[^/?#]+)"
    r"|/(?P<local>[^/?#]+)\?host=(?P<folder>/[^&#]*)(?:&port=(?P<number>[0-9]{1,5}))?)"
)


def _parse_server(value: object) -> str:
    _read_server(str(value))
    return str(value)


class PostgresTable(Model):
    """``[log.postgresql]``."""

    server: Annotated[str, pydantic.PlainValidator(_parse_server, json_schema_input_type=str)] = (
        pydantic.Field(examples=["postgresql://sluicegate@db.example.com/audit"])
    )
    """User, host, port and database, without a password; the host may be a folder with a socket."""
    password: SecretTable | None = None
    """Where the password is; without it, the server asks for none."""
    tls: TlsMode = "verify-full"
    """Whether the connection is encrypted, and how the server is verified; sockets have no TLS."""
    ca: str = ""
    """A file of certificates that the server is verified with; empty: the system's."""
    certificate: str = ""
    """A file with a certificate that the server knows us by, PEM."""
    key: str = ""
    """Its key; a file for the gate's user alone."""
    schema_name: str = pydantic.Field(
        default="sluicegate", pattern=r"^[a-z_][a-z0-9_]{0,62}$", examples=["gate_1"]
    )
    """The schema that the tables are in, which is made; two gates in one database have two."""


def to_postgres(
    table: PostgresTable,
    folder: pathlib.Path,
    keys: pathlib.Path,
    document: Document,
    findings: Findings,
) -> PostgresPlace | None:
    """Return where records are kept, without the password; None, with findings, when it is wrong.

    Args:
        table: What the operator wrote.
        folder: Where relative paths begin.
        keys: The folder of the chain's key.
        document: Where it was written.
        findings: Where errors go.
    """
    at = ("log", "postgresql")
    if bool(table.certificate) is not bool(table.key):
        given = "certificate" if table.certificate else "key"
        findings.refuse(document.where((*at, given)), "is one half", 'give "certificate" and "key"')
        return None
    return place_at(table, folder, keys)


def place_at(table: PostgresTable, folder: pathlib.Path, keys: pathlib.Path) -> PostgresPlace:
    """Return where records are kept, without the password.

    Args:
        table: What the operator wrote, which is right.
        folder: Where relative paths begin.
        keys: The folder of the chain's key.
    """
    server = _read_server(table.server)
    return PostgresPlace(
        folder=str(keys),
        host=server.host,
        port=server.port,
        user=server.user,
        database=server.database,
        schema=table.schema_name,
        tls="off" if server.host.startswith("/") else table.tls,
        ca=str(folder / table.ca) if table.ca else "",
        certificate=str(folder / table.certificate) if table.certificate else "",
        key=str(folder / table.key) if table.key else "",
    )
