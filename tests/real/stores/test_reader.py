"""Questions to the store: the newest first, in slices, and totals without counting."""

from __future__ import annotations

import json

import pytest

from sluicegate.audit.search import parse_query
from sluicegate.audit.search.matching import predicate_of
from sluicegate.audit.store import (
    LogPosition,
    LogStore,
    SqlitePlace,
    StorePlace,
    StoreReader,
    has_store,
)
from sluicegate.audit.store.totals import HOUR_S, OTHERS, latency_bucket
from sluicegate.errors import ConfigError
from sluicegate.testing.clock import ManualClock
from tests.unit.store.store_kit import DAY_S, KEPT, fill, line_of


@pytest.fixture(params=["walked", "by index", "neither"])
def found_how(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let everything be in the first slice, or be left to indexes, or to slices of a few."""
    if request.param != "walked":
        monkeypatch.setattr("sluicegate.audit.store.reading.SEARCH_FIRST_RECORDS", 5)
    if request.param == "neither":
        monkeypatch.setattr("sluicegate.audit.store.reading.SEARCH_SLICE_RECORDS", 7)
        monkeypatch.setattr("sluicegate.audit.store.sqlite_reading.SEARCH_INDEXED_RECORDS", 3)


QUERIES = [
    "",
    "host:h1.example.com",
    "host:*.example.com client:10.0.0.2",
    "file-17",
    "host:*.example.com file-17",
    "host:h1.exa*",
    "host:*1.example.com",
    "host:*xample.com",
    "url:*/file-3*",
    "host!=*.example.com",
    "host:*.example.com,*.example.org",
    "example file-1",
    "not file-1",
    "file-1 or client:10.0.0.3",
    "(example file-2) not client:10.0.0.3",
    "connection:c-4",
    "connection:C-4,c-12",
    "session:s-3",
    "user:user-2 session:S-1,s-4",
    "client:10.0.0.2/31 kind:request",
    "client:10.0.0.0/8",
    "client:0.0.0.0/0",
    "since:20s",
    "time<30s time>=70s",
    "status:404",
    "client:10.0.0.0/24 rule:web kind:request",
    "client:10.0.0.0/24 rule:none",
    "client:10.9.0.0/16 kind:request",
    "client:10.9.0.0/16 kind:session",
    "rule:WEB kind:request client:10.0.0.1,10.0.0.2",
    "file-17 host:*.example.com verdict:allowed",
    "host:H1.example.COM not client:10.0.0.1",
    "fil",
    '"example com" "file"',
]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def filled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[StorePlace, list[bytes], float]:
    """Return a store of two days with forty records each, them, and the time; nobody changes it."""
    folder = tmp_path_factory.mktemp("filled")
    place: StorePlace = SqlitePlace(folder=str(folder))
    if request.param == "postgresql":
        place = request.getfixturevalue("postgres").place(folder)
    clock = ManualClock(1000.0, 1_750_000_000.0)
    store = LogStore(place, clock, KEPT)
    lines = fill(store, clock, 40)
    clock.advance(DAY_S)
    lines += fill(store, clock, 40)
    store.close()
    return place, lines, clock.wall()


@pytest.mark.usefixtures("found_how")
@pytest.mark.parametrize("text", QUERIES)
def test_store_finds_what_the_query_chooses_the_newest_first_and_goes_on_where_it_ended(
    filled: tuple[StorePlace, list[bytes], float], clock: ManualClock, text: str
) -> None:
    place, lines, now = filled
    query = parse_query(text, now)
    passes = predicate_of(query)
    expected = [number for number, line in enumerate(lines, 1) if passes(json.loads(line))]
    reader = StoreReader(place, clock)
    whole = reader.search(query, 1000, seconds_max=60)
    read = [record.seq for record in reader.read(query)]
    pieces: list[int] = []
    before = None
    while True:
        found = reader.search(query, 4, before=before, seconds_max=60)
        pieces += [record.seq for record in found.records]
        before = found.before
        if found.is_complete:
            break
        assert len(found.records) == 4
    reader.close()
    assert [record.seq for record in whole.records] == expected[::-1]
    assert whole.is_complete
    assert read == expected
    assert pieces == expected[::-1]


def test_search_whose_time_is_over_says_how_far_it_looked(
    store: LogStore, reader: StoreReader, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sluicegate.audit.store.reading.SEARCH_SLICE_RECORDS", 10)
    began = clock.wall()
    fill(store, clock, 100)
    query = parse_query("facts.none:x", clock.wall())
    found = reader.search(query, 10, seconds_max=0)
    assert (found.records, found.is_complete, found.before) == ([], False, 91)
    assert found.searched_to == began + 90
    rounds = 1
    while not found.is_complete:
        found = reader.search(query, 10, before=found.before, seconds_max=0)
        rounds += 1
    assert rounds == 11


def test_new_records_and_partitions_are_seen_by_an_open_reader(
    store: LogStore, reader: StoreReader, clock: ManualClock
) -> None:
    assert reader.end == (0, LogPosition())
    fill(store, clock, 3)
    assert reader.end == (3, store.position)
    clock.advance(DAY_S)
    fill(store, clock, 3)
    assert reader.end == (6, store.position)
    assert [one.seq for one in reader.read(parse_query("", 0), after=4)] == [5, 6]


def test_place_without_a_store_is_an_error_with_a_cure(
    place: StorePlace, clock: ManualClock
) -> None:
    assert not has_store(place)
    with pytest.raises(ConfigError, match="there is no store"):
        StoreReader(place, clock)


def test_minutes_are_what_the_records_say(
    store: LogStore, reader: StoreReader, clock: ManualClock
) -> None:
    begin = clock.wall()
    fill(store, clock, 200)
    store.append(
        [line_of(0, begin, kind="decision", verdict="denied", outcome="")], LogPosition(7, 0)
    )
    totals = reader.minutes(begin, clock.wall() + 60)
    assert sum(total.records for total in totals) == 201
    assert {(total.kind, total.result, total.rule) for total in totals} == {
        ("request", "released", "web"),
        ("decision", "denied", "web"),
    }
    requests = [total for total in totals if total.kind == "request"]
    assert sum(total.bytes_to_client for total in requests) == 200 * 100
    assert all(total.time % 60 == 0 for total in totals)
    assert len(reader.minutes(begin, clock.wall() + 60, 3600)) == 2


def test_top_values_are_those_of_most_records(
    store: LogStore, reader: StoreReader, clock: ManualClock
) -> None:
    begin = clock.wall()
    fill(store, clock, 10)
    store.append(
        [
            line_of(
                0,
                begin,
                client="[2001:db8::1]:4",
                user="ann",
                outcome="refused",
                filter="antivirus",
                ended="eicar",
            )
        ]
        * 7,
        LogPosition(7, 0),
    )
    until = clock.wall()
    top = reader.top("client", begin, until, 2)
    assert [(one.value, one.records) for one in top] == [("2001:db8::1", 7), ("10.0.0.1", 3)]
    refused = reader.top("reason", begin, until, 5, results=("refused",))
    assert [(one.value, one.records, one.bytes_moved) for one in refused] == [("eicar", 7, 700)]
    assert reader.top("user", begin, until, 5, kinds=("connection",)) == []
    assert [one.value for one in reader.top("filter", begin, until, 5)] == ["antivirus"]


def test_clients_of_ipv6_without_a_port_are_told_apart(
    store: LogStore, reader: StoreReader, clock: ManualClock
) -> None:
    begin = clock.wall()
    lines = [line_of(number, begin, client=f"2001:db8::{number}") for number in (1, 2, 2)]
    store.append(lines, LogPosition(7, 1))
    top = reader.top("client", begin, begin, 5)
    assert [(one.value, one.records) for one in top] == [("2001:db8::2", 2), ("2001:db8::1", 1)]
    found = reader.search(parse_query("client:2001:db8::2", begin), 5, seconds_max=60)
    assert [one.seq for one in found.records] == [3, 2]


def test_hour_counts_only_so_many_values_by_their_names(
    store: LogStore, reader: StoreReader, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sluicegate.audit.store.totals.TOTALS_VALUES_MAX", 3)
    begin = clock.wall() // HOUR_S * HOUR_S
    for number in range(9):
        line = line_of(number, begin, url=f"http://random-{number}.example/")
        store.append([line], LogPosition(7, number))
    values = {one.value: one.records for one in reader.top("host", begin, begin, 10)}
    assert len(values) == 4
    assert values[OTHERS] == 6


def test_latencies_are_in_steps_of_two(
    store: LogStore, reader: StoreReader, clock: ManualClock
) -> None:
    begin = clock.wall()
    lines = [line_of(0, begin, duration_ms=ms) for ms in (0, 0.5, 0.4, 3.0, 900)]
    store.append(lines, LogPosition(7, 0))
    found = reader.latencies(begin, begin)
    assert [(one.below_ms, one.records) for one in found] == [
        (0.001, 1),
        (0.512, 2),
        (4.096, 1),
        (1048.576, 1),
    ]
    assert latency_bucket(-1) == 0
