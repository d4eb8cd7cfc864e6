"""Connections to the PostgreSQL server that keeps a store, and what its errors mean for people.

``postgres_partition`` writes over one, ``postgres_reading`` reads over another. The invariant: what
psycopg raises leaves here as ``ConfigError`` with a cause and a cure, and no call waits for ever.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Generator
from typing import Any, Final, TypeAlias

import psycopg
from psycopg import errors, pq, sql

from sluicegate.errors import ConfigError
from sluicegate.log_limits import (
    POSTGRES_CONNECT_S,
    POSTGRES_LOCK_S,
    POSTGRES_QUESTION_S,
    POSTGRES_SILENCE_S,
)

from .place import PostgresPlace

__all__ = ["Connection", "connect", "said_of", "telling"]

Connection: TypeAlias = "psycopg.Connection[tuple[Any, ...]]"

_VERSION_MIN: Final = 130_000
_REQUIRE_AUTH_SINCE: Final = 160_000
_MODES: Final = {"off": "disable"}


def connect(place: PostgresPlace, *, is_writer: bool) -> Connection:
    """Connect, to a schema that need not be there yet.

    Args:
        place: The server.
        is_writer: False: nothing can be changed over it.

    Raises:
        ConfigError: The server cannot be reached, does not take us, or cannot be used.
    """
    if place.fault:
        raise ConfigError(place.name, place.fault)
    with telling(place):
        connection = psycopg.connect(autocommit=True, **_parameters(place))
    try:
        with telling(place):
            _prepare(connection, place, is_writer=is_writer)
    except BaseException:
        connection.close()
        raise
    return connection


def _parameters(place: PostgresPlace) -> dict[str, Any]:
    """Return what libpq is told; everything, so that no variable of the environment counts."""
    mode = "disable" if place.is_local else _MODES.get(place.tls, place.tls)
    parameters: dict[str, Any] = {
        "host": place.host,
        "port": place.port,
        "user": place.user,
        "dbname": place.database,
        "password": place.password,
        "sslmode": mode,
        "sslcert": place.certificate,
        "sslkey": place.key,
        "sslrootcert": place.ca or _system_authorities(),
        "gssencmode": "disable",
        "target_session_attrs": "any",
        "client_encoding": "utf-8",
        "application_name": "sluicegate",
        "connect_timeout": POSTGRES_CONNECT_S,
        # A server that is gone without a word is noticed: nobody waits for it for hours.
        "keepalives_idle": POSTGRES_SILENCE_S,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": POSTGRES_SILENCE_S * 1000,
    }
    if mode in {"disable", "require"} and not place.is_local:
        # Whoever answers is not verified: the password itself is not for it.
        if pq.version() >= _REQUIRE_AUTH_SINCE:
            parameters["require_auth"] = "!password"
        if mode == "require":
            parameters["sslrootcert"] = ""  # with one, libpq would verify with it
    return parameters


def _system_authorities() -> str:
    """Return the file of the system's authorities: a bundled OpenSSL may look elsewhere."""
    paths = ssl.get_default_verify_paths()
    return paths.cafile or _DEBIAN_AUTHORITIES


_DEBIAN_AUTHORITIES: Final = "/etc/ssl/certs/ca-certificates.crt"


def _prepare(connection: Connection, place: PostgresPlace, *, is_writer: bool) -> None:
    """See what server it is, and set the session up.

    Raises:
        ConfigError: It is too old, or its database has another encoding.
    """
    version = connection.info.server_version
    if version < _VERSION_MIN:
        cause = f"the server is PostgreSQL {version // 10_000}"
        raise ConfigError(place.name, cause, "13 or newer is needed")
    row = connection.execute("SHOW server_encoding").fetchone()
    if row is not None and row[0] != "UTF8":
        cure = "CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
        raise ConfigError(place.name, f"the database is encoded in {row[0]}", cure)
    set_to = sql.SQL("SET search_path TO {}").format(sql.Identifier(place.schema))
    connection.execute(set_to)
    settings: dict[str, str] = {"lock_timeout": f"{POSTGRES_LOCK_S}s"}
    if is_writer:
        # What the log's file may lose once it is stored is on the server's disk by then.
        settings |= {"synchronous_commit": "on"}
    else:
        settings |= {"default_transaction_read_only": "on"}
        connection.prepare_threshold = None  # each question is planned for its own values
    settings |= {"statement_timeout": f"{POSTGRES_QUESTION_S}s"}
    for name, value in settings.items():
        connection.execute("SELECT set_config(%s, %s, false)", (name, value))


@contextlib.contextmanager
def telling(place: PostgresPlace) -> Generator[None]:
    """Turn what psycopg raises into what an operator can act on.

    Raises:
        ConfigError: Something went wrong.
    """
    try:
        yield
    except psycopg.Error as error:
        cause, cure = said_of(error)
        raise ConfigError(place.name, cause, cure) from error


def said_of(error: psycopg.Error) -> tuple[str, str]:
    """Return what went wrong in one line, and what to do about it."""
    text = " ".join(str(error).split()) or type(error).__name__
    for kind, cure in _CURES_BY_KIND:
        if isinstance(error, kind):
            return text, cure
    for words, cure in _CURES_BY_WORDS:
        if words in text:
            return text, cure
    return text, ""


_NOT_OURS: Final = 'schema_name = "…" in [log.postgresql]: what is in this schema is not ours'
_OWNER: Final = (
    "GRANT CREATE ON DATABASE … TO … for its user, who also owns the schema if it is there"
)

_CURES_BY_KIND: Final[tuple[tuple[type[psycopg.Error], str], ...]] = (
    (errors.InsufficientPrivilege, _OWNER),
    (errors.InvalidSchemaName, _OWNER),
    (errors.UndefinedTable, _NOT_OURS),
    (errors.UndefinedColumn, _NOT_OURS),
    (errors.DuplicateTable, _NOT_OURS),
    (errors.DiskFull, "make room on the server, or keep less: keep_days, keep_bytes in [log]"),
    (errors.ReadOnlySqlTransaction, "name the server that takes writes, not a standby"),
    (errors.QueryCanceled, "the server is too slow for it, or somebody there cancelled it"),
    (errors.LockNotAvailable, "somebody there holds a lock on our tables for long"),
)
_CURES_BY_WORDS: Final = (
    ("password authentication failed", "password in [log.postgresql], as in ALTER ROLE"),
    ("no password supplied", 'password = { file = "…" } in [log.postgresql]'),
    ("no pg_hba.conf entry", "a line for us in the server's pg_hba.conf"),
    ("certificate verify failed", 'ca = "…" in [log.postgresql], the server\'s authority'),
    ("root certificate file", 'ca = "…" in [log.postgresql], a file of certificates in PEM'),
    ("private key file", 'key = "…" in [log.postgresql], a file of the gate\'s user alone'),
    ("certificate file", 'certificate = "…" in [log.postgresql], a certificate in PEM'),
    ("valid client certificate", 'certificate = "…" and key = "…" in [log.postgresql]'),
    ("does not match host name", "the name in server must be one of its certificate"),
    ("server does not support SSL", 'set the server up for TLS, or tls = "off" on a safe network'),
    ("too many connections", "ALTER ROLE … or ALTER DATABASE … CONNECTION LIMIT"),
    ("too many clients", "the server's max_connections"),
    ("connection slots", "the server's max_connections"),
    ("does not exist", "make it: CREATE ROLE, CREATE DATABASE … OWNER …"),
    ("resolve host", "the name in server, and the DNS of this machine"),
    ("refused", "is it running, and does it listen there?"),
    ("timeout", "is it running, and does a firewall let us through?"),
    ("No such file", "is it running, and is its socket in that folder?"),
)
