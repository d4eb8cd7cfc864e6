"""One rule's settings for a filter: what the rule says, and the filter's own for the rest.

The gate merges them once per policy, the checks of a policy have found before what is wrong. The
invariant: what is written is read by the same model, as strictly, as when it was checked.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, TypeVar, cast

import msgspec
import pydantic

from .shape import keys_of

__all__ = ["merged"]

ModelT = TypeVar("ModelT")


def merged(kind: type[ModelT], written: Mapping[str, object], base: object = None) -> ModelT:
    """Return the model of a table; a key that it leaves out is the base's, where that has it.

    Args:
        kind: A pydantic model, a dataclass or a msgspec Struct.
        written: The table; a key without a default must be in it, unless nothing is and ``base`` is
            of this kind.
        base: A model with more or less the same keys.

    Raises:
        ValueError: The table does not fit the model.
    """
    if not written and isinstance(base, kind):
        return base
    text = json.dumps(dict(written), default=str)
    taken = {
        name: getattr(base, name)
        for name in keys_of(kind) or {}
        if name not in written and hasattr(base, name)
    }
    if issubclass(kind, msgspec.Struct):
        made = msgspec.json.decode(text, type=kind)
        return msgspec.structs.replace(made, **taken)
    model = pydantic.TypeAdapter(kind).validate_json(text, strict=True)
    if isinstance(model, pydantic.BaseModel):
        return model.model_copy(update=taken)
    return cast("ModelT", dataclasses.replace(cast("Any", model), **taken))
