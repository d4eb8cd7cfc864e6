"""Operators' documents: TOML with places, checked against models. This file only re-exports."""

from .document import Document, read_document
from .findings import ConfigRefused, Findings
from .merging import merged
from .model import Model, Wrong, suggest, typed
from .schema import either, json_schema
from .sizes import parse_size

__all__ = [
    "ConfigRefused",
    "Document",
    "Findings",
    "Model",
    "Wrong",
    "either",
    "json_schema",
    "merged",
    "parse_size",
    "read_document",
    "suggest",
    "typed",
]
