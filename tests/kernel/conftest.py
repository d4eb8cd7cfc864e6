"""A gate before a server that sends back what it gets, of whatever kind a module's tests need."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest

from tests.kernel.test_gate_process import EchoServer, GateProcess
from tests.kernel.test_processes import Gate


@pytest.fixture
def kind() -> type[GateProcess]:
    """Which gate ``gate`` makes; a module whose tests need another one says so."""
    return Gate


@pytest.fixture
def gate(tmp_path: pathlib.Path, kind: type[GateProcess]) -> Iterator[GateProcess]:
    """Make a gate that is not started yet; a module may write other files for it."""
    server = EchoServer()
    made = kind(tmp_path, server.port)
    yield made
    made.close()
    server.close()
