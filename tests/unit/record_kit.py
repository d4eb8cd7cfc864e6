"""A record of every kind, with something in every field."""

from __future__ import annotations

import typing
from typing import Any, Literal, get_args, get_origin

import msgspec

from sluicegate.audit import Record
from sluicegate.audit.records import AnyRecord

KINDS: tuple[type[Record], ...] = get_args(AnyRecord)


def tag_of(kind: type[Record]) -> str:
    return str(kind.__struct_config__.tag)


def full_record(kind: type[Record]) -> Any:
    """Return a record none of whose fields is left out of its line."""
    hints = typing.get_type_hints(kind)
    values = {
        field.name: _value(field.name, hints[field.name]) for field in msgspec.structs.fields(kind)
    }
    return kind(**values)


def _value(name: str, written: Any) -> object:
    origin = get_origin(written)
    if origin is Literal:
        return get_args(written)[-1]
    if origin is tuple:
        return (f"{name}-1", f"{name}-2")
    if origin is dict:
        return {"key": 7} if int in get_args(get_args(written)[1]) else _table(written)
    if name in {"client", "server", "peer"}:
        return "192.0.2.7:4000"
    return {str: f"the-{name}", int: 7, float: 7.5, bool: True}[written]


def _table(written: Any) -> dict[str, object]:
    return {"key": 7 if get_args(written)[1] is int else "fact"}
