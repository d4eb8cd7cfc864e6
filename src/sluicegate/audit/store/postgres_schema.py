"""The tables of a store in PostgreSQL, and how those of an earlier version become ours.

``postgres_partition`` brings them up to date before it writes; readers look at the version. The
invariant: a version is reached by all its steps in one transaction, or not at all.
"""

from __future__ import annotations

import datetime as dt
from typing import Final

from psycopg import sql

from sluicegate.audit.search.sql import COLUMNS, INDEXED_CHARACTERS
from sluicegate.errors import ConfigError

from .partition import PartitionName
from .place import PostgresPlace
from .postgres_connection import Connection
from .row import KEYS

__all__ = ["STEPS", "TABLES", "check_version", "migrate", "suffix_of"]

TABLES: Final = ("records", "links", "minutes", "hours", "latencies", "checkpoints")
"""Each has a table for each partition."""

_TEXTS: Final = ", ".join(f'"{name}" text COLLATE "C" NOT NULL' for name in COLUMNS)
_ADDRESSES: Final = ", ".join(f"{name}_key bytea" for name in KEYS)
_OF: Final = "day date NOT NULL, piece integer NOT NULL"
_BY: Final = "PARTITION BY RANGE (day, piece)"

_FIRST: Final = (
    (
        "CREATE TABLE partitions (day date NOT NULL, piece integer NOT NULL,"
        " first bigint NOT NULL, before bytea NOT NULL, PRIMARY KEY (day, piece))"
    ),
    (
        "CREATE TABLE state (one boolean PRIMARY KEY DEFAULT true CHECK (one),"
        " last bigint NOT NULL, link bytea NOT NULL, at text NOT NULL)"
    ),
    # Texts are in lower case, as questions compare them; the line itself is in body. What the
    # server's JSON cannot take of a line is replaced in fields, and what its word index cannot
    # take is in searched.
    (
        f"CREATE TABLE records ({_OF}, seq bigint NOT NULL, time double precision NOT NULL,"
        f" {_TEXTS}, {_ADDRESSES}, request text, parent text,"
        " words tsvector, searched text, fields text, body text NOT NULL,"
        f" PRIMARY KEY (seq, day, piece)) {_BY}"
    ),
    "CREATE INDEX ON records (client_key, seq) WHERE client_key IS NOT NULL",
    f"CREATE INDEX ON records (left(host, {INDEXED_CHARACTERS}), seq) WHERE host <> ''",
    f"CREATE INDEX ON records (left(reverse(host), {INDEXED_CHARACTERS})) WHERE host <> ''",
    (
        f'CREATE INDEX ON records (left("connection", {INDEXED_CHARACTERS}), seq)'
        " WHERE \"connection\" <> ''"
    ),
    *(
        f"CREATE INDEX ON records (left({name}, {INDEXED_CHARACTERS})) WHERE {name} IS NOT NULL"
        for name in ("request", "parent")
    ),
    "CREATE INDEX ON records USING gin (words)",
    "CREATE INDEX ON records (seq) WHERE searched IS NOT NULL",
    (
        f"CREATE TABLE links ({_OF}, first bigint NOT NULL, last bigint NOT NULL,"
        " link bytea NOT NULL, time_min double precision NOT NULL,"
        f" time_max double precision NOT NULL, PRIMARY KEY (first, day, piece)) {_BY}"
    ),
    (
        f"CREATE TABLE minutes ({_OF}, minute bigint NOT NULL, kind text NOT NULL,"
        " result text NOT NULL, rule text NOT NULL, count bigint NOT NULL,"
        " bytes_to_client bigint NOT NULL, bytes_to_server bigint NOT NULL,"
        f" PRIMARY KEY (minute, kind, result, rule, day, piece)) {_BY}"
    ),
    (
        f"CREATE TABLE hours ({_OF}, hour bigint NOT NULL, subject text NOT NULL,"
        " value text NOT NULL, kind text NOT NULL, result text NOT NULL,"
        " count bigint NOT NULL, bytes bigint NOT NULL,"
        f" PRIMARY KEY (hour, subject, value, kind, result, day, piece)) {_BY}"
    ),
    (
        f"CREATE TABLE latencies ({_OF}, hour bigint NOT NULL, kind text NOT NULL,"
        " bucket integer NOT NULL, count bigint NOT NULL,"
        f" PRIMARY KEY (hour, kind, bucket, day, piece)) {_BY}"
    ),
    "CREATE SEQUENCE checkpoint_numbers",
    (
        f"CREATE TABLE checkpoints ({_OF}, last bigint NOT NULL, link bytea NOT NULL,"
        " time double precision NOT NULL, first bigint NOT NULL, signature bytea NOT NULL,"
        f" number bigint NOT NULL DEFAULT nextval('checkpoint_numbers')) {_BY}"
    ),
)

STEPS: list[tuple[str, ...]] = [_FIRST]
"""What leads to each version from the one before it; the first makes an empty schema version 1."""


def migrate(connection: Connection, place: PostgresPlace) -> None:
    """Make the schema, or bring it up to this version, in one transaction.

    Raises:
        ConfigError: A later version made it.
        psycopg.Error: It cannot be done; nothing is changed.
    """
    with connection.transaction():
        schema = sql.Identifier(place.schema)
        if not _has_schema(connection, place):
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(schema))
        connection.execute("CREATE TABLE IF NOT EXISTS about (version integer NOT NULL)")
        version = _version_of(connection)
        if version > len(STEPS):
            raise _later(place, version)
        for step in STEPS[version:]:
            for statement in step:
                connection.execute(statement.encode())
        if version < len(STEPS):
            connection.execute("DELETE FROM about")
            connection.execute("INSERT INTO about VALUES (%s)", (len(STEPS),))


def check_version(connection: Connection, place: PostgresPlace) -> bool:
    """Tell whether there is a store, for whoever reads it.

    Raises:
        ConfigError: A later version made it, or an earlier one that nobody has brought up to date.
        psycopg.Error: It cannot be asked.
    """
    row = connection.execute(
        "SELECT to_regclass(%s) IS NOT NULL", (f'"{place.schema}".about',)
    ).fetchone()
    if row is None or not row[0]:
        return False
    version = _version_of(connection)
    if version > len(STEPS):
        raise _later(place, version)
    if 0 < version < len(STEPS):
        cause = f"the tables are of version {version}, this one reads {len(STEPS)}"
        raise ConfigError(place.name, cause, "start the gate: its store's keeper converts them")
    return version > 0


def suffix_of(name: PartitionName) -> str:
    """Return what the names of a partition's tables end with."""
    day = dt.date.fromisoformat(name.day)
    return f"_{day:%Y%m%d}_{name.number}"


def _has_schema(connection: Connection, place: PostgresPlace) -> bool:
    found = connection.execute(
        "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = %s", (place.schema,)
    )
    return found.fetchone() is not None


def _version_of(connection: Connection) -> int:
    row = connection.execute("SELECT version FROM about").fetchone()
    return int(row[0]) if row is not None else 0


def _later(place: PostgresPlace, version: int) -> ConfigError:
    cause = f"the tables are of version {version}, this one knows {len(STEPS)}"
    return ConfigError(place.name, cause, "use the version of Sluicegate that made them, or later")
