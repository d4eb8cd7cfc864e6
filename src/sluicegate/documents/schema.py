"""JSON Schemas of operators' files, for editors and for whoever writes the files by program.

``policy`` and ``app`` publish those of their models. The invariant: the schema is made of the very
model that the check uses; what a file means beyond types, only the check says.
"""

from __future__ import annotations

from typing import Any, cast

import pydantic

__all__ = ["either", "json_schema"]


def json_schema(kind: type[pydantic.BaseModel], title: str, description: str) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a file.

    Dates and times are texts in it, as TOML tools for editors convert them.

    Args:
        kind: The model of the file.
        title: How editors call it.
        description: What it is.
    """
    schema = _plain(pydantic.TypeAdapter(kind).json_schema(mode="validation"))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **cast("dict[str, Any]", schema),
        "title": title,
        "description": description,
    }


def either(form: dict[str, Any], table: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of what is written in a short form, or as a table."""
    described: dict[str, Any] = {
        key: table.pop(key) for key in ("description", "title") if key in table
    }
    return {"anyOf": [form, table], **described}


def _plain(value: object) -> Any:
    """Leave out what TOML has not (null), and what says nothing (titles made of keys)."""
    if isinstance(value, list):
        return list(map(_plain, cast("list[object]", value)))
    if not isinstance(value, dict):
        return value.replace("``", "`") if isinstance(value, str) else value
    table = cast("dict[str, Any]", value)
    plain = {
        key: _plain(inner)
        for key, inner in table.items()
        if not (key == "title" and isinstance(inner, str)) and not (key == "default" and not inner)
    }
    alternatives = [one for one in plain.get("anyOf", []) if one != {"type": "null"}]
    if len(alternatives) == 1:
        del plain["anyOf"]
        return {**alternatives[0], **plain}
    if alternatives:
        plain["anyOf"] = alternatives
    return plain
