"""Where filters come from: an entry point, ``module:Class``, or a path to a ``.py`` file.

``filters`` asks for a class by what the operator wrote after ``use``. The invariant: a class that
is returned is a filter that can be made; everything else is a ``FilterUnusable`` with its cure.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import pathlib
import re
import sys
import traceback
import types
from typing import Any, Final, TypeAlias

from sluicegate.documents import suggest
from sluicegate.errors import FILTER_ERRORS
from sluicegate.filterapi import (
    CallbackDataFilter,
    ContentFilter,
    DataFilter,
    DatagramFilter,
    Filter,
    StreamFilter,
    WebFilter,
)
from sluicegate.gate.settings import InstalledFilter, PerConnection, PerRule

__all__ = [
    "FILTER_ERRORS",
    "FilterClass",
    "FilterUnusable",
    "declared_model",
    "file_of",
    "filter_names",
    "find_filter_class",
    "make_filter",
    "tier_of",
]

FilterClass: TypeAlias = (
    type[Filter]
    | type[ContentFilter]
    | type[DataFilter]
    | type[CallbackDataFilter]
    | type[StreamFilter]
    | type[DatagramFilter]
    | type[WebFilter]
)

_GROUP: Final = "sluicegate.filters"
_KINDS: Final = (
    Filter,
    ContentFilter,
    DataFilter,
    CallbackDataFilter,
    StreamFilter,
    DatagramFilter,
    WebFilter,
)
_PATH: Final = re.compile(r"(?P<path>.*\.py):(?P<name>[A-Za-z_]\w*)", re.ASCII)
_MODULE: Final = re.compile(r"(?P<module>[A-Za-z_][\w.]*):(?P<name>[A-Za-z_]\w*)", re.ASCII)


class FilterUnusable(Exception):
    """A filter cannot be had; ``cause`` and ``cure`` are for the operator."""

    def __init__(self, cause: str, cure: str) -> None:
        super().__init__(cause)
        self.cause = cause
        self.cure = cure


def find_filter_class(use: str, folder: pathlib.Path) -> tuple[FilterClass, str]:
    """Return the class that ``use`` means, and where it was found, for people.

    Args:
        use: What the operator wrote.
        folder: What relative paths are relative to.

    Raises:
        FilterUnusable: There is none, or it cannot be loaded.
    """
    if found := _PATH.fullmatch(use):
        path = folder / found["path"]
        return _checked(_load_file(path), found["name"], str(path)), f"{path}:{found['name']}"
    if found := _MODULE.fullmatch(use):
        return _checked(_load_module(found["module"]), found["name"], found["module"]), use
    entry = {one.name: one for one in importlib.metadata.entry_points(group=_GROUP)}.get(use)
    if entry is None:
        raise FilterUnusable(
            f"there is no filter {use!r}",
            f'{suggest(use, filter_names())}; or say "use" = "module:Class" or "path.py:Class"',
        )
    return _checked(_load_module(entry.module), entry.attr, entry.module), entry.value


def tier_of(filter_class: FilterClass) -> str:
    """Return what kind of filter a class is: ``filter``, ``content``, ``stream`` …."""
    found = [tier for kind, tier in _TIERS.items() if kind in filter_class.__mro__]
    return found[0]


_TIERS: Final[dict[type, str]] = {
    Filter: "filter",
    ContentFilter: "content",
    StreamFilter: "stream",
    DatagramFilter: "datagram",
    CallbackDataFilter: "callback",
    DataFilter: "data",
    WebFilter: "web",
}


def file_of(use: str, folder: pathlib.Path) -> pathlib.Path | None:
    """Return the file that ``use`` names; None where it names a module or an entry point."""
    found = _PATH.fullmatch(use)
    return None if found is None else folder / found["path"]


def declared_model(filter_class: FilterClass, name: str) -> type[object] | None:
    """Return the model that a filter class declares under a name (``Settings``)."""
    declared: object = getattr(filter_class, name, None)
    return declared if isinstance(declared, type) else None


def make_filter(filter_class: FilterClass, settings: object) -> InstalledFilter:
    """Make a filter, or what makes one per connection.

    Args:
        filter_class: Its class.
        settings: An instance of its ``Settings``; None for one that takes none.

    Raises:
        FILTER_ERRORS: Whatever it raises.
    """
    # How a filter takes its settings is between it and its ``Settings``; no type can say it.
    make: Any = filter_class
    if settings is not None:
        make = functools.partial(make, settings)
    rule_settings = declared_model(filter_class, "RuleSettings")
    if issubclass(filter_class, WebFilter) and rule_settings is not None:
        # It is made for each rule, with the rule's settings in place of the filter's.
        return PerRule(filter_class, rule_settings, settings)
    if issubclass(filter_class, Filter | ContentFilter | WebFilter):
        made: InstalledFilter = make()
        return made
    if rule_settings is not None:
        # It is made with the rule's settings in place of the filter's.
        return PerConnection(filter_class, rule_settings, settings)
    return PerConnection(make)


def filter_names() -> list[str]:
    """Return the names of the filters that are installed as entry points."""
    return sorted({one.name for one in importlib.metadata.entry_points(group=_GROUP)})


def _load_module(name: str) -> types.ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise FilterUnusable(
                f"there is no module {name!r}",
                "install it where the gate is installed, or name a file: path/to/filter.py:Class",
            ) from error
        raise _failed_import(name, error) from error
    except FILTER_ERRORS as error:
        raise _failed_import(name, error) from error


def _load_file(path: pathlib.Path) -> types.ModuleType:
    """Import a file under a name made of its place and content: a changed file is a new module."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FilterUnusable(
            f"{path} cannot be read: {error.strerror}",
            "relative paths begin at the folder of sluicegate.toml",
        ) from error
    digest = hashlib.sha256(bytes(path.absolute()) + b"\0" + content).hexdigest()
    name = f"sluicegate_filter_{path.stem}_{digest[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None, "the name ends with .py, for which there is a loader"
    assert spec.loader is not None, "a loader made the spec"
    module = importlib.util.module_from_spec(spec)
    # Before it runs: dataclasses and pydantic look their own module up.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except FILTER_ERRORS as error:
        del sys.modules[name]
        raise _failed_import(str(path), error) from error
    return module


def _failed_import(place: str, error: BaseException) -> FilterUnusable:
    frames = traceback.extract_tb(error.__traceback__)
    line = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else place
    if isinstance(error, SyntaxError):
        line = f"{error.filename}:{error.lineno}"
    return FilterUnusable(
        f"{place} cannot be imported: {type(error).__name__}: {error}", f"see {line}"
    )


def _checked(module: types.ModuleType, name: str, place: str) -> FilterClass:
    found = getattr(module, name, None)
    if found is None:
        known = [
            key
            for key, value in vars(module).items()
            if isinstance(value, type) and issubclass(value, _KINDS) and value not in _KINDS
        ]
        raise FilterUnusable(f"{place} has no {name!r}", suggest(name, known))
    if not (isinstance(found, type) and issubclass(found, _KINDS)):
        raise FilterUnusable(
            f"{place}:{name} is not a filter",
            f"derive it from one of: {', '.join(kind.__name__ for kind in _KINDS)}",
        )
    if inspect.isabstract(found):
        missing: frozenset[str] = getattr(found, "__abstractmethods__", frozenset())
        raise FilterUnusable(
            f"{place}:{name} is not complete", f"define {', '.join(sorted(missing))}"
        )
    return found
