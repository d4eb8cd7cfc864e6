"""Errors of ours, raised on purpose: a gate on the simulated port, broken in one place at a time.

``Breaker`` lets any function of the gate raise in its first line, when it is first called. The
place is found by running without a fault first, so nothing has to be listed here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from types import CodeType, FrameType
from typing import Any

from sluicegate.gate.settings import ServiceSettings
from tests.flows.entry_kit import Names
from tests.flows.gate_kit import Gate, Peer, play

OURS = tuple(f"/sluicegate/{one}/" for one in ("gate", "tls", "protocols", "names"))

WITHIN_S = 3.0
"""Shorter than every time limit that a client may be left to."""


class Broken(Exception):
    """What is raised."""


def is_of_completion(caller: FrameType | None) -> bool:
    """Tell whether it is called by something that the port, or somebody behind it, has told.

    (What the port itself calls is not tried: it has what the port gives it in its first line.)
    """
    if caller is None or not any(one in caller.f_code.co_filename for one in OURS):
        return False
    return caller.f_code.co_name.lstrip("_").startswith(("on_", "complete"))


class Breaker:
    """Notes which functions are called, and lets one of them raise."""

    def __init__(self, place: CodeType | None = None) -> None:
        self.called: dict[CodeType, None] = {}
        self.has_raised = False
        self._place = place

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        before = sys.gettrace()
        sys.settrace(self._on_call)
        try:
            yield
        finally:
            sys.settrace(before)

    def _on_call(self, frame: FrameType, _event: str, _argument: object) -> Any:
        code = frame.f_code
        if not any(one in code.co_filename for one in OURS):
            return None
        if code not in self.called and is_of_completion(frame.f_back):
            self.called[code] = None
        return self._on_line if code is self._place and not self.has_raised else None

    def _on_line(self, _frame: FrameType, event: str, _argument: object) -> Any:
        if event == "line" and not self.has_raised:
            self.has_raised = True
            raise Broken
        return self._on_line


@dataclasses.dataclass
class Flow:
    """One client at one gate."""

    plan: ServiceSettings
    client: Callable[[], Peer]
    serve: Callable[[Gate], object]
    names: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    spools: bool = False
    """Whether objects are held."""


@dataclasses.dataclass
class Met:
    """What came of it."""

    gate: Gate
    result: Any
    errors: list[BaseException]
    took_s: float


def is_shut(socket: Any) -> bool:
    return socket.incoming is not None and socket.incoming.is_ended and socket.outgoing.is_ended


def meet(flow: Flow, breaker: Breaker) -> Met:
    """Let the client come, and check what must hold after every end."""
    met: list[Met] = []

    async def scenario(gate: Gate) -> None:
        flow.serve(gate)
        began = gate.clock.monotonic()
        with breaker.watching():
            client = gate.call(flow.client())
            await gate.until(lambda: client.is_done, WITHIN_S)
            took_s = gate.clock.monotonic() - began
            await gate.until(lambda: not gate.service.connection_count, WITHIN_S)
        errors, gate.errors[:] = list(gate.errors), []
        # What nobody refers to is closed by Python, which a simulated network knows nothing of.
        gate.sockets[:] = [one for one in gate.sockets if not is_shut(one)]
        met.append(Met(gate, client.error or client.result(), errors, took_s))

    names = Names()
    for name, rows in flow.names.items():
        names.put(name, *rows)
    with tempfile.TemporaryDirectory() as folder:
        spool = pathlib.Path(folder) if flow.spools else None
        limits = {"spool_free_bytes_min": 0, "spool_free_inodes_min": 0}
        play(scenario, flow.plan, exchange=names, spool=spool, **limits)
    return met[0]
