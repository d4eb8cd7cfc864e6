"""The store's writer: numbers without a gap, partitions by day, retention; in either database."""

from __future__ import annotations

import pytest

from sluicegate.audit.search import EVERYTHING
from sluicegate.audit.store import (
    ChainKey,
    LogPosition,
    LogStore,
    Retention,
    StorePlace,
    StoreReader,
    verify_store,
)
from sluicegate.audit.store.reader import open_readings
from sluicegate.errors import ConfigError
from sluicegate.testing.clock import ManualClock
from tests.unit.store.store_kit import DAY_S, KEPT, fill, line_of


class SetClock(ManualClock):
    """A clock that somebody sets."""

    def __init__(self) -> None:
        super().__init__(1000.0, 1_750_000_000.0)
        self._set_back_s = 0.0

    def set_back(self, seconds: float) -> None:
        self._set_back_s += seconds

    def wall(self) -> float:
        return super().wall() - self._set_back_s


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


DAYS = ("20250615", "20250616", "20250617")


def open_at(place: StorePlace, clock: ManualClock, kept: Retention = KEPT) -> LogStore:
    return LogStore(place, clock, kept)


def numbers_in(place: StorePlace, clock: ManualClock) -> list[int]:
    reader = StoreReader(place, clock)
    found = [record.seq for record in reader.read(EVERYTHING)]
    reader.close()
    return found


def public_of(place: StorePlace) -> bytes:
    return ChainKey.open(place.path / "chain.key").public


def test_records_are_kept_as_they_came_and_numbered_from_one_on(
    place: StorePlace, clock: ManualClock
) -> None:
    store = open_at(place, clock)
    lines = fill(store, clock, 25)
    reader = StoreReader(place, clock)
    found = list(reader.read(EVERYTHING))
    assert [record.seq for record in found] == list(range(1, 26))
    assert [record.line.encode() for record in found] == lines
    assert store.position == LogPosition(7, sum(len(line) + 1 for line in lines))
    reader.close()
    store.close()


def test_store_goes_on_where_it_ended(place: StorePlace, clock: ManualClock) -> None:
    store = open_at(place, clock)
    fill(store, clock, 5)
    position = store.position
    store.close()
    again = open_at(place, clock)
    assert (again.last, again.position) == (5, position)
    fill(again, clock, 5)
    again.close()
    assert numbers_in(place, clock) == list(range(1, 11))


def test_batch_that_fails_leaves_nothing_of_it_behind(
    place: StorePlace, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_at(place, clock)
    fill(store, clock, 5)
    position = store.position

    def break_down(*_: object) -> None:
        raise BrokenPipeError("disk I/O error")

    with monkeypatch.context() as patched:
        patched.setattr("sluicegate.audit.store.totals.Totals.count", break_down)
        with pytest.raises(BrokenPipeError):
            store.append([line_of(6, clock.wall())], LogPosition(7, 9999))
    assert (store.last, store.position) == (5, position)
    fill(store, clock, 5)
    store.close()
    assert numbers_in(place, clock) == list(range(1, 11))
    public = public_of(place)
    assert verify_store(place, public).faults == []


def test_lines_that_are_no_records_are_counted_and_left_out(
    place: StorePlace, clock: ManualClock
) -> None:
    store = open_at(place, clock)
    wrong = [b"", b"{", b"[]", b'{"kind":"note"}', b'{"time":1,"x":"\xff"}', b"7", b"[" * 100_000]
    store.append([*wrong, line_of(1, clock.wall())], LogPosition(7, 1))
    store.append(wrong, LogPosition(7, 2))
    assert (store.skipped, store.last) == (2 * len(wrong), 1)
    store.close()


def test_each_day_has_a_partition_of_its_own_and_time_never_goes_back(
    place: StorePlace, clock: SetClock
) -> None:
    store = open_at(place, clock)
    fill(store, clock, 3)
    clock.advance(DAY_S)
    fill(store, clock, 3)
    clock.set_back(2 * DAY_S)
    fill(store, clock, 3)
    store.close()
    readings = open_readings(place)
    names = [partition.name.replace("-", "") for partition in readings.newest_first()]
    readings.close()
    assert all(day in name for day, name in zip(DAYS[1::-1], names, strict=True)), names
    assert numbers_in(place, clock) == list(range(1, 10))


def test_what_is_too_old_goes_and_the_chain_says_where_the_log_begins(
    place: StorePlace, clock: ManualClock
) -> None:
    store = open_at(place, clock, Retention(days=2, bytes_max=1 << 40))
    for _ in range(5):
        fill(store, clock, 4)
        clock.advance(DAY_S)
    gone = [name.replace("-", "") for name in store.retain()]
    assert all(day in name for day, name in zip(DAYS, gone, strict=True)), gone
    assert store.retain() == []
    store.close()
    assert numbers_in(place, clock) == list(range(13, 21))
    verification = verify_store(place, public_of(place))
    assert (verification.first, verification.last, verification.faults) == (13, 20, [])


def test_what_is_too_much_goes_but_never_the_newest(place: StorePlace, clock: ManualClock) -> None:
    store = open_at(place, clock, Retention(days=90, bytes_max=1))
    for _ in range(3):
        fill(store, clock, 4)
        clock.advance(DAY_S)
    assert len(store.retain()) == 2
    store.close()
    assert numbers_in(place, clock) == list(range(9, 13))


def test_partition_larger_than_one_may_become_is_read_and_another_one_is_begun(
    place: StorePlace, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Versions before filled a partition up to twice as much."""
    store = open_at(place, clock)
    fill(store, clock, 30)
    store.close()
    monkeypatch.setattr("sluicegate.audit.store.log_store.PARTITION_BYTES_MAX", 50_000)
    store = open_at(place, clock)
    assert store._newest.bytes_used > 50_000
    fill(store, clock, 5)
    names = [number for _, number in store._partitions.names()]
    store.close()
    assert names == [1, 2]
    assert numbers_in(place, clock) == list(range(1, 36))
    assert verify_store(place, public_of(place)).faults == []


def test_one_process_writes(place: StorePlace, clock: ManualClock) -> None:
    store = open_at(place, clock)
    with pytest.raises(ConfigError, match="another process"):
        open_at(place, clock)
    store.close()
    open_at(place, clock).close()
