"""Operators' documents: TOML with places, checked against models. This file only re-exports."""

from .document import Document, read_document
from .findings import ConfigRefused, Findings
from .merging import merged
from .model import Model, Wrong, suggest, typed

__all__ = [
    "ConfigRefused",
    "Document",
    "Findings",
    "Model",
    "Wrong",
    "merged",
    "read_document",
    "suggest",
    "typed",
]
