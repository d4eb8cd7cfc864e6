"""``[log]`` of ``sluicegate.toml``: where records are written, and the store that is made of them.

``config`` reads it. The invariant: the log is written whatever becomes of the store.
"""

from __future__ import annotations

import pathlib
from dataclasses import dataclass
from typing import Annotated, Final, Literal, TypeAlias

import pydantic

from sluicegate.audit.search import QueryRefused, parse_query
from sluicegate.audit.sinks.settings import SCHEMES, SinkSettings, read_place
from sluicegate.documents import Document, Findings, Model, Wrong, parse_size
from sluicegate.names import HostRefused
from sluicegate.policy.parse_values import Name

__all__ = ["LogTable", "StoreSettings", "WhenFull", "log_path", "to_sinks", "to_store"]

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
    store: Literal["none", "sqlite"] = "sqlite"
    """What records are put into beside the file, to be asked for fast."""
    store_dir: str = pydantic.Field(default="", description="default: records in state_dir")
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

    folder: pathlib.Path
    keep_days: int
    keep_bytes: int
    rotate_bytes: int
    rotate_hours: int
    unstored_bytes: int


def log_path(table: LogTable, folder: pathlib.Path, state_dir: pathlib.Path) -> pathlib.Path:
    """Return where records are written; paths are relative to the folder of the file."""
    return folder / table.path if table.path else state_dir / _LOG_NAME


def to_sinks(
    table: LogTable, folder: pathlib.Path, document: Document, findings: Findings
) -> tuple[SinkSettings, ...]:
    """Return where records are sent; two of one name are a finding."""
    names: set[str] = set()
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
    table: LogTable, folder: pathlib.Path, state_dir: pathlib.Path
) -> StoreSettings | None:
    """Return the store of records; None: there is none."""
    if table.store == "none":
        return None
    path = folder / table.store_dir if table.store_dir else state_dir / _STORE_NAME
    return StoreSettings(
        path,
        keep_days=table.keep_days,
        keep_bytes=table.keep_bytes,
        rotate_bytes=table.rotate_bytes,
        rotate_hours=table.rotate_hours,
        unstored_bytes=table.unstored_bytes,
    )


_LOG_NAME: Final = "records.jsonl"
_STORE_NAME: Final = "records"
