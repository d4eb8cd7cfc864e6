"""Who blocks the loop: found in the frames of its thread."""

from __future__ import annotations

import functools
import sys
import types

from sluicegate.filterapi import StreamFilter
from sluicegate.gate.registry import ContentStep, Installed
from sluicegate.gate.settings import Installation, OnFailure, PerConnection
from sluicegate.gate.watchdog import Blocking, find_blocking

SOURCE = """
from sluicegate.filterapi import StreamFilter

def deep(look):
    return look()

class One(StreamFilter):
    def on_data(self, side, window):
        return deep(side)

class Other(One):
    pass
"""


def make_module(name: str) -> types.ModuleType:
    module = types.ModuleType(name)
    exec(compile(SOURCE, f"{name}.py", "exec"), module.__dict__)
    return module


def install(name: str, make) -> Installation:
    return Installation(name, PerConnection(make), OnFailure.DENY, "test")


def seen_by(target: StreamFilter, *installations: Installation) -> Blocking:
    """Let a filter be called, and look at the stack from inside."""
    return target.on_data(lambda: find_blocking(sys._getframe(), installations), None)  # type: ignore[arg-type, return-value]


def test_filter_is_told_by_its_module_and_the_line_is_its_own() -> None:
    module = make_module("guilty")
    seen = seen_by(module.One(), install("innocent", StreamFilter), install("bad", module.One))
    assert seen == Blocking("bad", "guilty.py:5 in deep", "")


def test_filters_of_one_module_are_told_apart_by_whose_method_it_is() -> None:
    module = make_module("shared")
    one, other = install("one", module.One), install("other", functools.partial(module.Other))
    assert seen_by(module.Other(), install("plain", StreamFilter), other).filter_name == "other"
    assert seen_by(module.One(), one, other).filter_name == "one"


def test_two_installations_of_one_class_are_both_named() -> None:
    module = make_module("twice")
    both = install("left", module.One), install("right", module.One)
    assert seen_by(module.One(), *both).filter_name == "left or right"


def test_filter_whose_code_is_elsewhere_is_told_by_the_gates_own_frame() -> None:
    helper = make_module("helper")
    step = ContentStep(Installed(install("judge", StreamFilter)), object())  # type: ignore[arg-type]

    def call(one: ContentStep) -> Blocking:
        assert one
        return seen_by(helper.One())

    assert call(step).filter_name == "judge"


def test_loop_without_a_filter_is_nobodys() -> None:
    seen = find_blocking(sys._getframe(), ())
    assert seen.filter_name == ""
    assert "test_watchdog.py" in seen.where
    assert find_blocking(None, ()) == Blocking("", "", "")
