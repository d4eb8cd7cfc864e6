"""``[log]`` of ``sluicegate.toml``: where records are written, and the store that is made of them.

``config`` reads it. The invariant: the log is written whatever becomes of the store.
"""

from __future__ import annotations

import pathlib
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import pydantic

from sluicegate.documents import Model, parse_size

__all__ = ["LogTable", "StoreSettings", "log_path", "to_store"]

_Size = Annotated[
    int,
    pydantic.BeforeValidator(parse_size, json_schema_input_type=int | str),
    pydantic.Field(ge=1 << 20),
]


class LogTable(Model):
    """``[log]``."""

    path: str = pydantic.Field(default="", description="default: records.jsonl in state_dir")
    store: Literal["none", "sqlite"] = "none"
    """What records are put into beside the file, to be asked for fast."""
    store_dir: str = pydantic.Field(default="", description="default: records in state_dir")
    keep_days: int = pydantic.Field(default=90, ge=1, le=3650)
    """How long the store keeps records."""
    keep_bytes: _Size = 20 << 30
    """How large the store may be."""
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
    return StoreSettings(path, table.keep_days, table.keep_bytes)


_LOG_NAME: Final = "records.jsonl"
_STORE_NAME: Final = "records"
