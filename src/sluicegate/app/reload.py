"""What a reload cannot change: settings that are fixed when a gate starts.

``Gate.reload`` tells the operator about them. The invariant: a setting that was changed and is not
in force is named, never silently ignored.
"""

from __future__ import annotations

import dataclasses
from typing import Final

from .config import Configuration
from .load import Loaded

__all__ = ["settings_for_restart"]

_FIXED: Final = {
    "state_dir": "state_dir",
    "backend": "backend",
    "workers": "workers",
    "user": "user",
    "group": "group",
    "has_sandbox": "sandbox",
    "writable": "writable",
    "spool_dir": "dir",
    "log_path": "path",
}
"""Attributes of ``Configuration`` that a running gate keeps, with their keys."""


def settings_for_restart(before: Loaded, after: Loaded) -> list[str]:
    """Return a line for each setting that changed and waits for a restart."""
    return [
        f"{key} was changed; it is in force after a restart"
        for key in _changed(before.configuration, after.configuration)
    ]


def _changed(before: Configuration, after: Configuration) -> list[str]:
    keys = [
        f'"{key}"'
        for attribute, key in _FIXED.items()
        if getattr(before, attribute) != getattr(after, attribute)
    ]
    keys += [
        f"limits.{field.name}"
        for field in dataclasses.fields(before.limits)
        if getattr(before.limits, field.name) != getattr(after.limits, field.name)
    ]
    return keys
