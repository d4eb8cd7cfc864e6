"""What a model's type says of its keys: the shape that a table must have.

``model`` asks it to find unknown keys and examples, for pydantic models, dataclasses and msgspec
Structs alike. The invariant: where a type does not fix its keys, the answer is None, and the
model's own validation decides.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Collection, Mapping
from typing import Any, cast

import msgspec
import pydantic

__all__ = ["element_of", "keys_of", "value_of"]


def keys_of(kind: object) -> dict[str, object] | None:
    """Return the keys of a table type with their types, None where any key may stand."""
    kind = _plain(kind)
    if not isinstance(kind, type):
        return None
    kind = cast("type[Any]", kind)
    if issubclass(kind, pydantic.BaseModel):
        if kind.model_config.get("extra") == "allow":
            return None
        return {field.alias or name: field.annotation for name, field in kind.model_fields.items()}
    if dataclasses.is_dataclass(kind):
        hints = _hints_of(kind)
        return {field.name: hints.get(field.name) for field in dataclasses.fields(kind)}
    if issubclass(kind, msgspec.Struct):
        return {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
    return None


def element_of(kind: object) -> object:
    """Return the type of a list type's elements, None where it does not say."""
    kind = _plain(kind)
    origin = typing.get_origin(kind)
    arguments = typing.get_args(kind)
    if isinstance(origin, type) and issubclass(origin, Collection) and arguments:
        return arguments[0]
    return None


def value_of(kind: object) -> object:
    """Return the type of the values of a table type that takes any key, None where it has none."""
    kind = _plain(kind)
    origin = typing.get_origin(kind)
    arguments = typing.get_args(kind)
    if isinstance(origin, type) and issubclass(origin, Mapping) and len(arguments) > 1:
        return arguments[1]
    return None


def _plain(kind: object) -> object:
    """Take off ``Annotated`` and an alternative of ``None``."""
    if typing.get_origin(kind) is typing.Annotated:
        kind = typing.get_args(kind)[0]
    if typing.get_origin(kind) in {typing.Union, types.UnionType}:
        alternatives = [one for one in typing.get_args(kind) if one is not type(None)]
        kind = _plain(alternatives[0]) if len(alternatives) == 1 else None
    return kind


def _hints_of(kind: type) -> dict[str, object]:
    try:
        return typing.get_type_hints(kind, include_extras=True)
    except NameError:
        return {}  # a name imported for type checkers only: ``typed`` reports it
