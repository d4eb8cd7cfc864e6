"""Name: how operators call an entry of a document, and how records and tables call it.

Models of documents type keys with it. The invariant: it needs no quoting anywhere.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

__all__ = ["Name"]

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
"""A name that appears in records, tables and other files."""
