"""Typed models of operators' documents, and messages that people can act on.

``policy`` and ``app`` declare pydantic models, filter authors pydantic models, dataclasses or
msgspec Structs; ``typed`` checks a table against one and reports everything that is wrong with it.
The invariant: no key is ignored: what the model does not know is refused, with a suggestion.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final, NamedTuple, TypeVar, cast

import msgspec
import pydantic
from pydantic import TypeAdapter
from pydantic_core import ErrorDetails

from .document import Document, format_key
from .findings import Findings
from .places import KeyPath
from .shape import element_of, keys_of, value_of
from .suggestion import suggest

__all__ = ["Model", "Wrong", "typed"]

ModelT = TypeVar("ModelT")


class Model(pydantic.BaseModel):
    """Base of our own models: frozen, and closed to unknown keys."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Wrong(ValueError):
    """Raised by validators: the cause, and the cure where there is one."""

    def __init__(self, cause: str, cure: str = "") -> None:
        super().__init__(cause)
        self.cause = cause
        self.cure = cure


def typed(
    document: Document, kind: type[ModelT], findings: Findings, at: KeyPath = ()
) -> ModelT | None:
    """Check the table at ``at`` against a model; None, with every finding, when it is wrong.

    Args:
        document: The file.
        kind: A pydantic model, a dataclass or a msgspec Struct.
        findings: Where errors go.
        at: The path of a table (default: the whole document); a missing one counts as empty.
    """
    table = document.table(at)
    found: list[_Fault] = []
    meant: set[KeyPath] = set()
    for path, known in _unknown_keys(table, kind, at):
        cure = suggest(str(path[-1]), known)
        found.append(_Fault(path, "unknown key", cure))
        meant.update((*path[:-1], key) for key in known if cure == f"did you mean {key!r}?")
    unknown = {fault.path for fault in found}
    check = _convert_struct if _is_struct(kind) else _validate
    model, faults = check(kind, table, at)
    # A key that is missing because it was misspelt is one mistake, not two.
    found += [
        fault
        for fault in faults
        if fault.path not in unknown and not (fault.cause == _MISSING and fault.path in meant)
    ]
    found.sort(key=lambda fault: document.line(fault.path))
    for fault in found:
        findings.refuse(document.where(fault.path), fault.cause, fault.cure)
    assert found or model is not None, "what is refused has a reason"
    return None if found else model


class _Fault(NamedTuple):
    """One thing that is wrong, before it has a line."""

    path: KeyPath
    cause: str
    cure: str = ""


def _validate(kind: type[ModelT], table: object, at: KeyPath) -> tuple[ModelT | None, list[_Fault]]:
    # Through JSON, because pydantic is strict there in the way TOML means it: "21" is no number,
    # but an address or a list may become what the model says.
    try:
        adapter = TypeAdapter(kind)
        return adapter.validate_json(json.dumps(table, default=str), strict=True), []
    except pydantic.ValidationError as error:
        return None, [
            _Fault((*at, *_keys_only(details["loc"], table)), *_explain(details, kind))
            for details in error.errors(include_url=False)
            if not _is_consequence(details)
        ]
    except (pydantic.PydanticUserError, NameError) as error:
        name = f"{kind.__module__}.{kind.__qualname__}"
        cure = "use types that pydantic knows, imported at run time"
        return None, [_Fault(at, f"{name} cannot be read as a model: {error}", cure)]


def _convert_struct(
    kind: type[ModelT], table: object, at: KeyPath
) -> tuple[ModelT | None, list[_Fault]]:
    try:
        return msgspec.convert(table, kind), []
    except msgspec.ValidationError as error:
        cause, _, place = str(error).partition(" - at `$")
        path = [part for part in place.rstrip("`").split(".") if part]
        return None, [_Fault((*at, *path), cause[0].lower() + cause[1:])]


def _is_struct(kind: type) -> bool:
    return issubclass(kind, msgspec.Struct)


def _unknown_keys(
    value: object, kind: object, path: KeyPath
) -> Iterator[tuple[KeyPath, list[str]]]:
    """Yield the path of each key that the model does not know, with the keys that it knows."""
    if isinstance(value, dict):
        table = cast("dict[str, object]", value)
        known = keys_of(kind)
        if known is None:
            for key, inner in table.items():
                yield from _unknown_keys(inner, value_of(kind), (*path, key))
            return
        for key, inner in table.items():
            if key in known:
                yield from _unknown_keys(inner, known[key], (*path, key))
            else:
                yield (*path, key), sorted(known)
    elif isinstance(value, list):
        element = element_of(kind)
        for index, inner in enumerate(cast("list[object]", value)):
            yield from _unknown_keys(inner, element, (*path, index))


def _explain(details: ErrorDetails, kind: object) -> tuple[str, str]:
    """Turn pydantic's words into a cause and a cure."""
    wrong = details.get("ctx", {}).get("error")
    if isinstance(wrong, Wrong):
        return wrong.cause, wrong.cure
    if details["type"] == "missing":
        return _MISSING, _example(details["loc"], kind)
    shown = json.dumps(details["input"], default=str)
    shown = shown if len(shown) <= _SHOWN_CHARACTERS else shown[:_SHOWN_CHARACTERS] + "…"
    wanted = _WANTED.get(details["type"], "").format(**details.get("ctx", {}))
    if not wanted:
        message = details["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        wanted = message[0].lower() + message[1:]
    return f"is {shown}, must be {wanted}", _example(details["loc"], kind)


def _is_consequence(details: ErrorDetails) -> bool:
    """Tell whether a list is called too short only because elements of it are wrong."""
    written = details["input"]
    return (
        details["type"] == "too_short"
        and isinstance(written, list)
        and len(cast("list[object]", written)) >= details.get("ctx", {})["min_length"]
    )


def _keys_only(location: KeyPath, table: object) -> KeyPath:
    """Leave out what pydantic puts between the keys: the alternatives of a union."""
    keys: list[str | int] = []
    for place, part in enumerate(location):
        if isinstance(table, dict) and part in table:
            keys.append(part)
            table = cast("dict[object, object]", table)[part]
        elif isinstance(table, list) and isinstance(part, int):
            keys.append(part)
            table = cast("list[object]", table)[part]
        elif isinstance(table, dict) and place == len(location) - 1:
            keys.append(part)  # the key that is missing
    return tuple(keys)


def _example(location: KeyPath, kind: object) -> str:
    """Return an example of a field, if its model has one."""
    for part in location[:-1]:
        kind = element_of(kind) if isinstance(part, int) else _value_kind(kind, part)
    if not (isinstance(kind, type) and issubclass(kind, pydantic.BaseModel)):
        return ""
    field = kind.model_fields.get(str(location[-1])) if location else None
    if field is None or not field.examples:
        return ""
    return f"for example: {format_key(location[-1:])} = {json.dumps(field.examples[0])}"


def _value_kind(kind: object, key: str) -> object:
    known = keys_of(kind)
    return value_of(kind) if known is None else known.get(key)


_MISSING: Final = "is missing"

_SHOWN_CHARACTERS: Final = 60

_WANTED: Final = {
    "greater_than_equal": "at least {ge:.15g}",
    "less_than_equal": "at most {le:.15g}",
    "greater_than": "above {gt:.15g}",
    "less_than": "below {lt:.15g}",
    "too_short": "a list of at least {min_length}",
    "string_type": "a text in quotes",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "dataclass_type": "a table",
    "finite_number": "a finite number",
}
