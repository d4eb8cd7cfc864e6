"""What every test shares: the backend under test, Hypothesis profiles, and the proof of both.

``tools/test`` runs what may open a port with ``SLUICEGATE_BACKEND`` set to ``io_uring`` and again
with ``epoll``; such a test asks for the fixture ``backend_name``. One that needs a port and tries
nothing that depends on the driver is marked ``either_driver``, and runs on the first alone. What
was opened is counted at the driver's own constructor, printed, and written into the JUnit report,
where ``tools/test_report.py`` reads it: a silent fall-back cannot pass for a test of io_uring.
"""

from __future__ import annotations

import collections
import gc
import os
import sys
from collections.abc import Callable, Generator, Iterator
from typing import Any

import hypothesis
import pytest

from sluicegate.collector import THRESHOLDS
from sluicegate.port.backend import Backend

BACKENDS = ("io_uring", "epoll")

ON_PORT = ("conformance", "kernel", "real")
"""Folders whose tests may open a real port, besides those that ask for ``backend_name``: they run
on each backend, the others once."""

# No deadline: the machine's load is not the code's fault, and no test reads the wall clock.
hypothesis.settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
hypothesis.settings.register_profile(
    "long", deadline=None, print_blob=True, max_examples=10_000, derandomize=False
)
hypothesis.settings.load_profile("ci")  # ``pytest --hypothesis-profile=long`` overrides

opened: collections.Counter[str] = collections.Counter()
#: How many backends of each name this process made.


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--backend",
        choices=BACKENDS,
        default=os.environ.get("SLUICEGATE_BACKEND") or "io_uring",
        help="the completion port's driver under test (default: SLUICEGATE_BACKEND, or io_uring)",
    )
    parser.addoption(
        "--only-on-port",
        action="store_true",
        help="leave out what cannot depend on the driver",
    )
    parser.addoption(
        "--without-port",
        action="store_true",
        help="leave out what may depend on the driver",
    )
    parser.addoption(
        "--again",
        action="store_true",
        help="after a run on the other driver: leave out what is marked either_driver",
    )


def pytest_configure(config: pytest.Config) -> None:
    # For the code under test and for the processes that tests start.
    os.environ["SLUICEGATE_BACKEND"] = config.getoption("--backend")

    def count_and_make(cls: type[Backend], *_args: object, **_settings: object) -> Backend:
        opened[cls.name] += 1
        return object.__new__(cls)

    Backend.__new__ = count_and_make  # type: ignore[method-assign,assignment]


def may_open_port(item: pytest.Item) -> bool:
    folders = (f"tests/{folder}/" for folder in ON_PORT)
    return "backend_name" in getattr(item, "fixturenames", ()) or item.nodeid.startswith(
        tuple(folders)
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark by folder, so that ``-m 'not real'`` works without a line in each file."""
    for item in items:
        for folder in ("real", "kernel"):
            if f"tests/{folder}/" in item.nodeid:
                item.add_marker(folder)
    for option, is_wanted in (("--only-on-port", True), ("--without-port", False)):
        if config.getoption(option):
            left_out = [item for item in items if may_open_port(item) is not is_wanted]
            items[:] = [item for item in items if may_open_port(item) is is_wanted]
            config.hook.pytest_deselected(items=left_out)
    if config.getoption("--again"):
        left_out = [item for item in items if item.get_closest_marker("either_driver")]
        items[:] = [item for item in items if not item.get_closest_marker("either_driver")]
        config.hook.pytest_deselected(items=left_out)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Refuse a test that opens a real port where only one backend would run it."""
    before = sum(opened[name] for name in BACKENDS)
    yield
    if not may_open_port(item) and sum(opened[name] for name in BACKENDS) > before:
        raise AssertionError("it opened a real port without asking for backend_name")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Let the collector wait, and keep the bytecode of tests, while tests are collected.

    Everything that is made meanwhile is kept, and never gone through again: tests that call the
    collector are many. Of itself it looks as seldom as in a gate. Bytecode is kept also where the
    environment says that none is to be written: ``tools/test`` collects most tests three times, and
    most of that is to compile them. What tests import later is another matter: they may write it
    twice in a second.
    """
    gc.disable()
    writes_none, sys.dont_write_bytecode = sys.dont_write_bytecode, False
    try:
        return (yield)
    finally:
        sys.dont_write_bytecode = writes_none
        gc.freeze()
        gc.set_threshold(*THRESHOLDS)
        gc.enable()


def pytest_report_header(config: pytest.Config) -> str:
    return f"backend asked for: {config.getoption('--backend')}"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    terminalreporter.section("backends")
    terminalreporter.line(f"backend used: {backends_used()}")


def backends_used() -> str:
    return ", ".join(f"{name} ({count})" for name, count in sorted(opened.items())) or "none"


@pytest.fixture(scope="session")
def backend_name(pytestconfig: pytest.Config) -> str:
    """The driver this run is about: ``io_uring`` or ``epoll``. Never fall back from it."""
    return str(pytestconfig.getoption("--backend"))


@pytest.fixture(scope="session", autouse=True)
def report_backends(
    pytestconfig: pytest.Config, record_testsuite_property: Callable[[str, object], None]
) -> Iterator[None]:
    yield
    if pytestconfig.getoption("--without-port"):
        return
    record_testsuite_property("backend_asked", pytestconfig.getoption("--backend"))
    for name, count in opened.items():
        record_testsuite_property(f"backend_opened_{name}", count)
