"""What operators have set, as texts for people: of filters and of scanners.

``build`` puts them into the views of a running gate. The invariant: what by its name may be a
secret is not shown, and what is longer than is read at a glance says by how much.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Final, cast

from sluicegate.documents import Model
from sluicegate.gate.views import FilterView, ScannerView
from sluicegate.process_limits import SHOWN_SETTING_CHARACTERS_MAX, SHOWN_SETTINGS_MAX

from .config import Configuration
from .scanners import keys_of

__all__ = ["show_filter_settings", "show_scanner_settings", "shown"]

_SECRET: Final = re.compile(
    r"pass(word|phrase|wd)?$|secret|token|credential|(^|_)(api_?)?key$|(^|_)auth(orization)?($|_)"
)
_HIDDEN: Final = "(not shown)"
_MORE: Final = "and more"


def show_filter_settings(rows: list[FilterView], configuration: Configuration) -> list[FilterView]:
    """Add to filters what ``[filter.settings]`` has; what is not there has its default."""
    settings = {table.name: table.settings for table in configuration.filters}
    for row in rows:
        row.settings = shown(settings.get(row.name, {}))
    return rows


def show_scanner_settings(
    rows: list[ScannerView], configuration: Configuration
) -> list[ScannerView]:
    """Add to scanners all that is set for their kind, defaults too."""
    tables = {table.name: table for table in configuration.scanners}
    for row in rows:
        table = tables.get(row.name)
        if table is not None:
            row.settings = shown({key: getattr(table, key) for key in keys_of(table.kind)})
    return rows


def shown(settings: Mapping[str, object]) -> dict[str, str]:
    """Return settings as texts; tables in them with a dot, and nothing of what is empty."""
    found: dict[str, str] = {}
    left_out = 0
    for name, value in _flatten(settings, ""):
        if len(found) < SHOWN_SETTINGS_MAX:
            found[name] = _HIDDEN if _SECRET.search(name.lower()) else _text(value)
        else:
            left_out += 1
    if left_out:
        found[_MORE] = f"{left_out} settings"
    return found


def _flatten(settings: Mapping[str, object], prefix: str) -> Iterator[tuple[str, object]]:
    for key, value in settings.items():
        if isinstance(value, Model):
            value = value.model_dump()  # noqa: PLW2901 - a table inside
        if isinstance(value, Mapping):
            yield from _flatten(cast("Mapping[str, object]", value), f"{prefix}{key}.")
        elif value not in (None, "", (), []):
            yield f"{prefix}{key}", value


def _text(value: object) -> str:
    if isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, list | tuple):
        text = json.dumps(value, default=str, ensure_ascii=False)
    else:
        text = str(value)
    beyond = len(text) - SHOWN_SETTING_CHARACTERS_MAX
    return text if beyond <= 0 else f"{text[:SHOWN_SETTING_CHARACTERS_MAX]}… ({beyond} more)"
