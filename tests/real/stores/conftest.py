"""One suite for both kinds of stores: each test has an SQLite folder, and a PostgreSQL schema."""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Iterator

import pytest

from sluicegate.audit.store import LogStore, SqlitePlace, StorePlace, StoreReader
from sluicegate.testing.clock import ManualClock
from tests.real.postgres_parts import Cluster, cluster
from tests.unit.store.store_kit import KEPT


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "real/stores" in str(item.path):
            item.add_marker(pytest.mark.either_driver)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder, cluster(pathlib.Path(folder)) as it:
        yield it


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> StorePlace:
    folder = tmp_path / "records"
    if request.param == "sqlite":
        return SqlitePlace(folder=str(folder))
    server: Cluster = request.getfixturevalue("postgres")
    return server.place(folder)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1000.0, 1_750_000_000.0)


@pytest.fixture
def store(place: StorePlace, clock: ManualClock) -> Iterator[LogStore]:
    store = LogStore(place, clock, KEPT)
    yield store
    store.close()


@pytest.fixture
def reader(store: LogStore, place: StorePlace, clock: ManualClock) -> Iterator[StoreReader]:
    reader = StoreReader(place, clock)
    yield reader
    reader.close()
