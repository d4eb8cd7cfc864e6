"""The whole gate in simulated worlds: fifty seeds hold, and the checks would notice."""

from __future__ import annotations

import pytest

from sluicegate.audit import ConnectionRecord, Record
from sluicegate.filterapi import FORWARD
from sluicegate.gate.stages import Stages
from sluicegate.port.pool import Slot
from sluicegate.testing.recorder import MemoryRecorder
from sluicegate.testing.simulator import InvariantBroken, main, simulate

SEEDS = range(50)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_world_of_faults_leaves_nothing_behind(seed: int) -> None:
    report = simulate(seed)
    assert sum(report.outcomes.values()) == report.connections


def test_one_seed_is_one_run() -> None:
    assert simulate(7) == simulate(7)


def broken_by_some_seed() -> str:
    for seed in SEEDS:
        try:
            simulate(seed)
        except InvariantBroken as error:
            return str(error)
    return ""


def test_a_byte_that_no_filter_released_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Stages._apply

    def leaky(self, index, data, verdict):
        return honest(self, index, data, verdict) and honest(self, index, data, FORWARD)

    monkeypatch.setattr(Stages, "_apply", leaky)
    assert "more than was released" in broken_by_some_seed()


def test_a_second_record_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    write = MemoryRecorder.write

    def write_twice(self, record: Record) -> None:
        write(self, record)
        if isinstance(record, ConnectionRecord):
            write(self, record)

    monkeypatch.setattr(MemoryRecorder, "write", write_twice)
    assert "two records" in broken_by_some_seed()


def test_a_lease_that_does_not_come_back_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    release = Slot.release

    def forget_some(self) -> None:
        if self.index % 5:
            release(self)

    monkeypatch.setattr(Slot, "release", forget_some)
    assert "leased" in broken_by_some_seed() or "Stalled" in broken_by_some_seed()


def test_command_names_the_failing_seed(monkeypatch, capsys) -> None:
    def fail(seed: int) -> None:
        raise InvariantBroken(f"seed {seed}: as told")

    monkeypatch.setattr("sluicegate.testing.simulator.simulate", fail)
    assert main(["--first", "3", "--seeds", "5"]) == 1
    assert "replay: --first 3 --seeds 1" in capsys.readouterr().err
