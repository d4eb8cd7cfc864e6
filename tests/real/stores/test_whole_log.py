"""A log read whole: its files, or a store and what only the log has, give the same."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator

import pytest

from sluicegate.audit.log_source import FileLogs, LogSource
from sluicegate.audit.query import LogLine, rotated_files
from sluicegate.audit.search import EVERYTHING
from sluicegate.audit.store import Filler, Retention, StorePlace, reader
from sluicegate.audit.stored_log import StoredLog
from sluicegate.audit.whole_log import WholeLog
from sluicegate.clock import SystemClock
from tests.unit.store.store_kit import line_of

COUNT = 25


@pytest.fixture
def log(tmp_path: pathlib.Path, place: StorePlace, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Return a log all of which but the last five records is stored, in slices of three."""
    monkeypatch.setattr(reader, "SEARCH_SLICE_RECORDS", 3)
    path = tmp_path / "records.jsonl"
    lines = [line_of(number, 100.0 + number, user="é") + b"\n" for number in range(COUNT)]
    path.write_bytes(b"".join(lines[:-5]))
    Filler(path, place, Retention(90, 1 << 40), SystemClock(), print).close()
    with path.open("ab") as file:
        file.writelines(lines[-5:])
    return path


@pytest.fixture
def sources(log: pathlib.Path, place: StorePlace) -> Iterator[tuple[LogSource, LogSource]]:
    whole = WholeLog(log, place, SystemClock())
    yield FileLogs([log]), whole
    whole.close()


@pytest.mark.parametrize("texts", [(), ("r-7",), ("r-2", "c-11"), ("nowhere",), ("é",)])
def test_both_give_the_same_lines_in_the_same_order(
    sources: tuple[LogSource, LogSource], texts: tuple[str, ...]
) -> None:
    by_files, by_store = ([line.raw for line in it.lines(*texts)] for it in sources)
    assert by_files == by_store
    assert len(by_files) == {(): COUNT, ("nowhere",): 0, ("é",): COUNT}.get(texts, len(by_files))


@pytest.mark.parametrize(
    "wanted",
    [
        lambda line: True,
        lambda line: line.text("request") == "r-22",
        lambda line: line.text("request") in {"r-3", "r-9"},
        lambda line: False,
    ],
)
def test_both_give_the_same_last_line(
    sources: tuple[LogSource, LogSource], wanted: Callable[[LogLine], bool]
) -> None:
    by_files, by_store = (it.last(wanted) for it in sources)
    assert by_files == by_store


def test_how_much_was_read_grows_to_all_of_it(sources: tuple[LogSource, LogSource]) -> None:
    for source in sources:
        for _ in source.lines():
            pass
        assert 0 < source.read <= source.size


def test_file_that_goes_between_two_looks_is_read_from_the_store(
    log: pathlib.Path, place: StorePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that was stored to its end goes right after somebody has asked where it ends."""
    stored = StoredLog(log, place, SystemClock())
    whole = log.read_bytes().splitlines()
    unstored = stored._unstored
    is_first = True

    def goes_first(*arguments: object) -> list[LogLine]:
        nonlocal is_first
        if is_first:
            is_first = False
            moved = log.rename(log.with_name("records.jsonl-20261128183000"))
            log.write_bytes(line_of(99, 200.0) + b"\n")
            Filler(log, place, Retention(90, 1 << 40), SystemClock(), print).close()
            moved.unlink()
        return unstored(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(stored, "_unstored", goes_first)
    found = [line.raw for line in stored.read(EVERYTHING)]
    stored.close()
    assert found == [*whole, line_of(99, 200.0)]


def test_file_that_is_moved_before_it_is_opened_is_read_under_its_new_name(
    log: pathlib.Path, place: StorePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = log.read_bytes().splitlines()

    def moves_once(path: pathlib.Path) -> list[pathlib.Path]:
        found = rotated_files(path)
        if path.exists():
            path.rename(path.with_name("records.jsonl-20261128183000"))
        return found

    monkeypatch.setattr("sluicegate.audit.store.follower.rotated_files", moves_once)
    stored = StoredLog(log, place, SystemClock())
    found = [line.raw for line in stored.read(EVERYTHING)]
    stored.close()
    assert found == whole


def test_what_is_about_a_connection_is_found_by_indexes(
    place: StorePlace, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "records.jsonl"
    lines = [line_of(number, 100.0 + number) for number in range(40)]
    lines += [
        line_of(41, 141.0, connection="c-99", primary="c-7"),
        line_of(42, 142.0, connection="", facts={"connection": "c-7", "size": "1"}),
        line_of(43, 143.0, connection="c-7", session="s-1"),
        line_of(44, 144.0, reason="it has c-7 in its reason alone"),
    ]
    path.write_bytes(b"".join(line + b"\n" for line in lines[:-2]))
    Filler(path, place, Retention(90, 1 << 40), SystemClock(), print).close()
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    whole = WholeLog(path, place, SystemClock())
    by_text = list(whole.about("s-1"))
    limits = list(whole.around(141.5, 1.0, "c-7"))

    def is_slow(*_: object, **__: object) -> None:
        raise AssertionError("the texts of all records are looked through")

    monkeypatch.setattr(reader.StoreReader, "holding", is_slow)
    numbers = [int(line.text("request")[2:]) for line in whole.about("c-7")]
    assert numbers == [14, 15, 41, 42, 43, 44]
    assert [line.text("request") for line in whole.about("r-17")] == ["r-17"]
    whole.close()
    assert [line.text("request") for line in by_text] == ["r-43"]
    assert {"r-41", "r-42"} <= {line.text("request") for line in limits}
