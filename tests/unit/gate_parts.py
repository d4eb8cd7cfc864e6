"""Small stand-ins for parts of the gate, for tests of one part."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Coroutine
from typing import Any

from sluicegate.address import SocketAddress
from sluicegate.filterapi import ConnectRequested, EntryMode, Event, Events, Filter, SessionFilter
from sluicegate.gate.registry import EventStep, Installed, RulePlan
from sluicegate.gate.session import GateSession
from sluicegate.gate.settings import Installation, OnFailure
from sluicegate.gate.slow import SlowFilters
from sluicegate.gate.steps import StepRecords
from sluicegate.limits import Limits
from sluicegate.port.timers import DeadlineWheel, Timers
from sluicegate.testing import ManualClock
from sluicegate.testing.recorder import MemoryRecorder
from tests.flows.gate_kit import publication

CLIENT = SocketAddress.parse("192.0.2.7:0")


class Answers(Filter):
    """Answers every event as a function says."""

    def __init__(
        self,
        answer: Callable[[Event], Any] = lambda event: None,
        events: Events | None = None,
        narrowed: Events | None = None,
    ) -> None:
        self.answer = answer
        self.events = events or Events.of(ConnectRequested)
        self.narrowed = narrowed
        self.attached: list[Any] = []
        self.log: list[str] = []

    def start(self, firewall: Any) -> Events:
        self.log.append("start")
        return self.events

    def attach(self, session: Any) -> SessionFilter | None:
        self.attached.append(session)
        return AnswersSession(self, session)

    def stop(self) -> None:
        self.log.append("stop")


class AnswersSession(SessionFilter):
    def __init__(self, parent: Answers, session: Any) -> None:
        super().__init__(session, parent.narrowed)
        self.parent = parent

    def on_event(self, event: Event) -> Any:
        self.parent.log.append(type(event).__name__)
        return self.parent.answer(event)

    def detach(self) -> None:
        self.parent.log.append("detach")


class Service:
    """What dispatch and sessions use of the service."""

    def __init__(self, **limits: Any) -> None:
        self.limits = Limits(**limits)
        self.clock = ManualClock()
        self.timers = Timers(self.clock)
        self.wheel = DeadlineWheel(self.timers, self.clock)
        self.port = self
        self.slow = SlowFilters(self.clock.monotonic, self.limits.drain_timeout_s)
        self.failures: list[tuple[str, str]] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.forgotten: list[GateSession] = []
        self.records = types.SimpleNamespace(steps=StepRecords(MemoryRecorder(), self.clock))

    @property
    def now(self) -> float:
        return self.clock.monotonic()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        self.tasks.append(asyncio.ensure_future(work))
        return self.tasks[-1]

    def on_filter_error(
        self, installed: Installed, error: Exception, *, is_refused: bool = False
    ) -> None:
        self.failures.append((installed.name, f"{type(error).__name__}: {error}"))

    def find_connection(self, identifier: str) -> Any:
        return None

    def forget_session(self, session: GateSession) -> None:
        self.forgotten.append(session)


class Connection:
    """What dispatch uses of a connection."""

    id = "c-1"
    is_secondary = False
    entry_mode = EntryMode.PUBLISHED

    def __init__(self, service: Service, *steps: EventStep) -> None:
        self.plan = RulePlan(publication(), events=steps)
        self.session: Any = GateSession(service, "s-1", CLIENT, service.now)  # type: ignore[arg-type]
        self.is_closing = False
        self.attached: list[Any] = []

    def attach_data_filter(self, *attached: Any, peer: Any = None) -> None:
        self.attached.append(attached[0])

    def on_filter_failure(self, error: BaseException) -> None:
        raise AssertionError(f"a failure of the data path: {error!r}")


def step_of(
    target: Filter,
    name: str = "one",
    on_failure: OnFailure = OnFailure.DENY,
    settings: dict[str, object] | None = None,
) -> EventStep:
    installed = Installed(Installation(name, target, on_failure, "test"))
    installed.start(None, lambda *_: None)  # type: ignore[arg-type]
    return EventStep(installed, target, settings or {})
