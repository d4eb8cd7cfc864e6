"""``[log]`` of ``sluicegate.toml``: where records are written, and the store that is made of them.

``config`` reads it. The invariant: the log is written whatever becomes of the store.
"""

from __future__ import annotations

import pathlib
from dataclasses import dataclass
from typing import Annotated, Final, Literal, TypeAlias

import msgspec
import pydantic

from sluicegate.audit.search import QueryRefused, parse_query
from sluicegate.audit.sinks.settings import SCHEMES, SinkSettings, read_place
from sluicegate.audit.store import PostgresPlace, SqlitePlace, StorePlace, require_psycopg
from sluicegate.documents import ConfigRefused, Document, Findings, Model, Name, Wrong, parse_size
from sluicegate.errors import ConfigError
from sluicegate.names import HostRefused

from .postgres_config import PostgresTable, to_postgres
from .secret_files import SecretFiles, SecretTable, read_secret_of
from .traces_config import TRACES_NAME

__all__ = [
    "LogTable",
    "StoreSettings",
    "WhenFull",
    "check_store",
    "known_place",
    "log_path",
    "open_place",
    "to_sinks",
    "to_store",
]

_Size = Annotated[
    int,
    pydantic.BeforeValidator(parse_size, json_schema_input_type=int | str),
    pydantic.Field(ge=1 << 20),
]


WhenFull: TypeAlias = Literal["refuse", "count"]
"""``refuse`` new traffic, or let it go on and ``count`` the records that are lost."""


def _parse_to(value: object) -> str:
    """Check where a sink sends to."""
    text = str(value)
    scheme, colon, rest = text.partition(":")
    if not colon or scheme not in SCHEMES or not rest.strip("/"):
        raise Wrong(f"{text!r} is nowhere to send records to", _TO_CURE)
    if scheme != "unix":
        try:
            read_place(text)
        except HostRefused as refused:
            raise Wrong(f"{text!r}: {refused.hint}", _TO_CURE) from None
    return text


_TO_CURE: Final = (
    '"unix:/dev/log", "tcp://HOST:PORT", "tls://HOST:PORT", or for OTLP "https://HOST/v1/logs"'
)


def _parse_query(value: object) -> str:
    """Check which records a sink is sent."""
    try:
        parse_query(str(value), 0.0)
    except QueryRefused as refused:
        raise Wrong(refused.cause, refused.cure) from None
    return str(value)


class SinkTable(Model):
    """One ``[[log.sink]]``."""

    name: Name = pydantic.Field(examples=["siem"])
    to: Annotated[str, pydantic.PlainValidator(_parse_to, json_schema_input_type=str)] = (
        pydantic.Field(examples=["unix:/dev/log"])
    )
    query: Annotated[str, pydantic.PlainValidator(_parse_query, json_schema_input_type=str)] = ""
    """Only records that it chooses; empty: all."""
    ca: str = ""
    """A file of certificates that the other side is verified with; empty: the system's."""
    headers: str = ""
    """Of OTLP: a file with headers of requests, one a line (``Authorization: Bearer …``)."""
    queue_bytes: _Size = 64 << 20
    """How much of the log may wait; beyond it, the oldest is left out and counted."""


class LogTable(Model):
    """``[log]``."""

    path: str = pydantic.Field(default="", description="default: records.jsonl in state_dir")
    store: Literal["none", "sqlite", "postgresql"] = "sqlite"
    """What records are put into beside the file, to be asked for fast."""
    store_dir: str = pydantic.Field(default="", description="default: records in state_dir")
    postgresql: PostgresTable | None = None
    keep_days: int = pydantic.Field(default=90, ge=1, le=3650)
    """How long the store keeps records."""
    keep_bytes: _Size = 20 << 30
    """How large the store may be."""
    rotate_bytes: _Size = 256 << 20
    """How large the file becomes before the gate begins another."""
    rotate_hours: int = pydantic.Field(default=24, ge=1, le=24 * 366)
    """How old it becomes before that; what is stored of it goes."""
    unstored_bytes: _Size = 8 << 30
    """How much of the log may wait to be stored; beyond it, it counts as full."""
    when_full: WhenFull = "refuse"
    """What becomes of new traffic while nothing can be recorded."""
    sink: tuple[SinkTable, ...] = ()
    sessions: bool = True
    """Whether the begin and the end of sessions are recorded."""
    lookups: bool = True
    """Whether questions to DNS servers are recorded."""


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """The store of records."""

    place: StorePlace
    keep_days: int
    keep_bytes: int
    rotate_bytes: int
    rotate_hours: int
    unstored_bytes: int
    config: pathlib.Path
    """The file that says so."""
    password: SecretTable | None = None
    """Where the password is; None: there is none."""


def log_path(table: LogTable, folder: pathlib.Path, state_dir: pathlib.Path) -> pathlib.Path:
    """Return where records are written; paths are relative to the folder of the file."""
    return folder / table.path if table.path else state_dir / _LOG_NAME


def to_sinks(
    table: LogTable, folder: pathlib.Path, document: Document, findings: Findings
) -> tuple[SinkSettings, ...]:
    """Return where records are sent; two of one name are a finding."""
    # One of the name is made where there are traces.
    names = {TRACES_NAME}
    for index, sink in enumerate(table.sink):
        if sink.name in names:
            place = document.where(("log", "sink", index, "name"))
            findings.refuse(place, f"the name {sink.name!r} is taken by another sink")
        names.add(sink.name)
    return tuple(
        SinkSettings(
            name=sink.name,
            to=sink.to,
            query=sink.query,
            ca=str(folder / sink.ca) if sink.ca else "",
            headers=str(folder / sink.headers) if sink.headers else "",
            queue_bytes=sink.queue_bytes,
        )
        for sink in table.sink
    )


def to_store(
    table: LogTable,
    path: pathlib.Path,
    state_dir: pathlib.Path,
    document: Document,
    findings: Findings,
) -> StoreSettings | None:
    """Return the store of records; None: there is none, or, with findings, it is wrong.

    Args:
        table: What the operator wrote.
        path: Of ``sluicegate.toml``; relative paths begin at its folder.
        state_dir: Where the store is unless something else is said.
        document: Where it was written.
        findings: Where errors go.
    """
    if table.store == "none":
        return None
    folder = path.absolute().parent
    own = folder / table.store_dir if table.store_dir else state_dir / _STORE_NAME
    place: StorePlace | None = SqlitePlace(folder=str(own))
    server = table.postgresql
    if table.store == "postgresql":
        if server is None:
            findings.refuse(document.where(("log", "store")), "no server is named", _SERVER_CURE)
            return None
        place = to_postgres(server, folder, own, document, findings)
    elif server is not None:
        where = document.where(("log", "postgresql"))
        findings.refuse(where, "is for a store that is not used", 'store = "postgresql" in [log]')
    if place is None:
        return None
    return StoreSettings(
        place,
        keep_days=table.keep_days,
        keep_bytes=table.keep_bytes,
        rotate_bytes=table.rotate_bytes,
        rotate_hours=table.rotate_hours,
        unstored_bytes=table.unstored_bytes,
        config=path.absolute(),
        password=server.password if server is not None else None,
    )


def check_store(
    settings: StoreSettings | None, document: Document, findings: Findings, secrets: SecretFiles
) -> None:
    """Find out whether the store can be used, without handing its password to workers."""
    if settings is None or secrets.is_given:
        return
    own = SecretFiles(settings.config.parent)
    if isinstance(settings.place, PostgresPlace):
        try:
            require_psycopg(document.where(("log", "store")))
        except ConfigError as error:
            findings.refuse(error.where, error.cause, error.cure)
        # A certificate that is not there is left out by libpq, which says nothing.
        for key, holds in (("ca", ""), ("certificate", ""), ("key", "the certificate's key")):
            path: str = getattr(settings.place, key)
            if path:
                own.read_file(path, document, ("log", "postgresql", key), findings, holds=holds)
    if settings.password is not None:
        own.read_secret(settings.password, document, _PASSWORD_KEY, findings)


def open_place(settings: StoreSettings) -> StorePlace:
    """Return where the store is, with its password, for whoever opens it.

    Raises:
        ConfigRefused: The password cannot be had.
    """
    if settings.password is None:
        return settings.place
    text = read_secret_of(settings.config, settings.password, _PASSWORD_KEY)
    return msgspec.structs.replace(settings.place, password=text)


def known_place(settings: StoreSettings) -> StorePlace:
    """Return where the store is, for a process that says by itself when it cannot be reached."""
    try:
        return open_place(settings)
    except ConfigRefused as refused:
        fault = "; ".join(str(error) for error in refused.errors)
        return msgspec.structs.replace(settings.place, fault=fault)


_PASSWORD_KEY: Final = ("log", "postgresql", "password")
_SERVER_CURE: Final = '[log.postgresql] with server = "postgresql://USER@HOST/DATABASE"'
_LOG_NAME: Final = "records.jsonl"
_STORE_NAME: Final = "records"
