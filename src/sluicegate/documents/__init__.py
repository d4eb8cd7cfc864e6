"""Operators' documents: TOML with places, checked against models. This file only re-exports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluicegate.front import front

if TYPE_CHECKING:
    from .document import Document, read_document
    from .findings import ConfigRefused, Findings
    from .merging import merged
    from .model import Model, Wrong, typed
    from .name import Name
    from .schema import either, json_schema
    from .sizes import parse_size
    from .suggestion import suggest
else:
    __getattr__ = front(
        __name__,
        document=("Document", "read_document"),
        findings=("ConfigRefused", "Findings"),
        merging=("merged",),
        model=("Model", "Wrong", "typed"),
        name=("Name",),
        schema=("either", "json_schema"),
        sizes=("parse_size",),
        suggestion=("suggest",),
    )

__all__ = [
    "ConfigRefused",
    "Document",
    "Findings",
    "Model",
    "Name",
    "Wrong",
    "either",
    "json_schema",
    "merged",
    "parse_size",
    "read_document",
    "suggest",
    "typed",
]
