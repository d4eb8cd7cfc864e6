"""Every page and every action of the console has a browser test that keeps a picture of it.

Tests name what they show (``shows``), and ``conftest`` holds each to it while it runs. Here the
names are read where they stand, so it is all the same which tests run, and in which order.
"""

from __future__ import annotations

import importlib
import pathlib
from collections.abc import Iterator
from types import FunctionType

import pytest

from sluicegate.console.entries import ENTRIES

pytestmark = [pytest.mark.real, pytest.mark.either_driver]

HERE = pathlib.Path(__file__).parent


def marks_of(test: FunctionType) -> Iterator[pytest.Mark]:
    """Yield the marks of a test, and those of its cases."""
    for mark in getattr(test, "pytestmark", ()):
        yield mark
        if mark.name == "parametrize":
            for case in mark.args[1]:
                yield from getattr(case, "marks", ())


def shown_by_tests() -> set[str]:
    found: set[str] = set()
    for path in HERE.glob("test_*.py"):
        module = importlib.import_module(f"tests.real.console.{path.stem}")
        for name, value in vars(module).items():
            if name.startswith("test_") and isinstance(value, FunctionType):
                shows = [mark for mark in marks_of(value) if mark.name == "shows"]
                found |= {entry for mark in shows for entry in mark.args}
    return found


def test_every_page_and_every_action_has_a_picture() -> None:
    """What pages ask by themselves is on their pictures, and programs look at none."""
    wanted = {f"{one.method} {one.path}" for one in ENTRIES if not (one.is_api or one.is_live)}
    assert wanted == shown_by_tests()
