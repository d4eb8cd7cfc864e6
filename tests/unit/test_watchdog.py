"""Who blocks the loop: found in the frames of its thread, or noted by the loop itself."""

from __future__ import annotations

import functools
import sys
import threading
import types
from collections.abc import Iterable, Iterator

import pytest

from sluicegate.audit import LoopBlockedRecord, Record
from sluicegate.filterapi import StreamFilter
from sluicegate.gate.registry import ContentStep, Installed
from sluicegate.gate.settings import Installation, OnFailure, PerConnection
from sluicegate.gate.watchdog import Blocking, LoopWatchdog, find_blocking
from sluicegate.limits import WATCHDOG_BEAT_S, Limits
from sluicegate.port import CompletionPort
from sluicegate.testing.simulated_port import SimulatedBackend

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


class Watched:
    """A loop whose time stands still until a test moves it, and its watchdog."""

    def __init__(self) -> None:
        backend = SimulatedBackend(1)
        limits = Limits(loop_block_s=0.5, loop_block_kill_s=0)
        self.clock = backend.clock
        self.port = CompletionPort(backend, clock=self.clock, limits=limits)
        self.records: list[Record] = []
        self.said: list[str] = []
        self.looks = threading.Event()
        #: The thread is in the middle of a look.
        self.may_go_on = threading.Event()
        self.spoke = threading.Event()
        self.watchdog = LoopWatchdog(
            self.port, self, self.installations, say=self.say, on_beat=lambda: None
        )

    def write(self, record: Record) -> None:
        self.records.append(record)

    def say(self, line: str) -> None:
        self.said.append(line)
        self.spoke.set()

    def installations(self) -> Iterable[Installation]:
        self.looks.set()
        assert self.may_go_on.wait(20)
        return ()

    def block(self, seconds: float) -> None:
        self.clock.advance(WATCHDOG_BEAT_S + seconds)

    def beat(self) -> None:
        self.port.turn(0)


@pytest.fixture
def watched() -> Iterator[Watched]:
    made = Watched()
    made.watchdog.start()
    yield made
    made.may_go_on.set()
    made.watchdog.stop()
    made.port.close()


def test_silence_that_the_thread_did_not_get_to_see_is_noted_by_the_loop_itself(
    watched: Watched,
) -> None:
    watched.block(2.0)
    watched.beat()

    [record] = watched.records
    assert isinstance(record, LoopBlockedRecord)
    assert (record.filter, record.where) == ("", "gone when the watchdog looked")
    assert record.blocked_s == 2.0
    assert watched.said == [
        "warning: the loop did not turn for 2.0 s: code that was gone when the watchdog looked"
    ]
    [warning] = watched.watchdog.warnings()
    assert warning.endswith("the last time by code that was gone when the watchdog looked")


def test_beat_in_time_is_no_silence(watched: Watched) -> None:
    watched.block(0.4)
    watched.beat()
    assert (watched.records, watched.said) == ([], [])


def test_silence_that_was_seen_is_noted_once_with_what_was_seen(watched: Watched) -> None:
    watched.may_go_on.set()
    watched.block(2.0)
    assert watched.spoke.wait(20)
    watched.beat()
    watched.block(0)
    watched.beat()

    [record] = watched.records
    assert isinstance(record, LoopBlockedRecord)
    assert "threading.py" in record.where
    [said] = watched.said
    assert "the loop has not turned for 2.0 s" in said


def test_look_that_the_loop_overtook_blames_nobody(watched: Watched) -> None:
    watched.block(2.0)
    assert watched.looks.wait(20)
    watched.beat()
    watched.looks.clear()
    watched.spoke.clear()
    watched.may_go_on.set()
    # The next look shows that the first one is over.
    watched.block(3.0)
    assert watched.looks.wait(20)
    assert watched.spoke.wait(20)
    watched.beat()

    assert [(type(one), getattr(one, "blocked_s", 0)) for one in watched.records] == [
        (LoopBlockedRecord, 2.0),
        (LoopBlockedRecord, 3.0),
    ]
    assert "did not turn for 2.0 s" in watched.said[0]
    assert "has not turned for 3.0 s" in watched.said[1]
    assert len(watched.said) == 2
