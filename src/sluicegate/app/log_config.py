"""``[log]`` of ``sluicegate.toml``: where records are written, and the store that is made of them.

``config`` reads it. The invariant: the log is written whatever becomes of the store.
"""

from __future__ import annotations

import pathlib
from dataclasses import dataclass
from typing import Annotated, Final, Literal, TypeAlias

import pydantic

from sluicegate.documents import Model, parse_size

__all__ = ["LogTable", "StoreSettings", "WhenFull", "log_path", "to_store"]

_Size = Annotated[
    int,
    pydantic.BeforeValidator(parse_size, json_schema_input_type=int | str),
    pydantic.Field(ge=1 << 20),
]


WhenFull: TypeAlias = Literal["refuse", "count"]
"""``refuse`` new traffic, or let it go on and ``count`` the records that are lost."""


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
