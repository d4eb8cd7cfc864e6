"""The JSON Schema of ``policy.toml``.

``cli`` prints it. The invariant: every file that ``parse`` takes fits it.
"""

from __future__ import annotations

from typing import Any

from sluicegate.documents import json_schema

from .tables import MainTables

__all__ = ["policy_schema"]


def policy_schema() -> dict[str, Any]:
    """Return the JSON Schema of the main file; included files have fewer keys."""
    return json_schema(MainTables, "policy.toml", "The policy of a Sluicegate gate.")
