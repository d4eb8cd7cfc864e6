"""The drivers on which the conformance suite runs; io_uring is never skipped silently."""

from __future__ import annotations

import pytest
from _pytest.mark import ParameterSet

from sluicegate.limits import Limits
from sluicegate.port import CompletionPort
from sluicegate.port.backend import Backend
from sluicegate.port.backends.epoll import EpollBackend
from sluicegate.testing import FaultPlan, SimulatedBackend, VirtualClock
from sluicegate.testing.conformance import BackendFactory, PortFactory


def make_uring(limits: Limits) -> Backend:
    from sluicegate.port.backends.uring import UringBackend

    return UringBackend(limits)


def make_uring_as_of_6_1(limits: Limits) -> Backend:
    from sluicegate.port.backends.uring import UringBackend
    from sluicegate.port.ring import FEATURES_OPTIONAL

    return UringBackend(limits, features_masked=FEATURES_OPTIONAL)


def make_epoll(limits: Limits) -> Backend:
    return EpollBackend(limits)


def simulated(seed: int, faults: FaultPlan) -> BackendFactory:
    return lambda limits: SimulatedBackend(seed, faults, VirtualClock(), limits)


FACTORIES: dict[str, BackendFactory] = {
    "io_uring": make_uring,
    "io_uring-6.1": make_uring_as_of_6_1,
    "epoll": make_epoll,
    "simulated": simulated(0, FaultPlan()),
    **{f"simulated-disorder-{seed}": simulated(seed, FaultPlan.disorder()) for seed in range(5)},
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run on all drivers, or without io_uring where the run is said to be about epoll."""
    if "make_backend" in metafunc.fixturenames:
        is_epoll_run = metafunc.config.getoption("--backend") == "epoll"
        names = [name for name in FACTORIES if not (is_epoll_run and name.startswith("io_uring"))]
        metafunc.parametrize("make_backend", [_on(name) for name in names])


def _on(name: str) -> ParameterSet:
    marks = (pytest.mark.either_driver,) if name.startswith("simulated") else ()
    return pytest.param(FACTORIES[name], id=name, marks=marks)


@pytest.fixture
def make_port(make_backend: BackendFactory) -> PortFactory:
    def make(limits: Limits) -> CompletionPort:
        backend = make_backend(limits)
        clock = backend.clock if isinstance(backend, SimulatedBackend) else None
        return CompletionPort(backend, clock=clock, limits=limits)

    return make
