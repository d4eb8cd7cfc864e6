"""The soak's judges: what they complain of, and what they excuse."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

import pytest

from benchmarks.soak.kind import WrongAnswer, check
from benchmarks.soak.ledger import Ledger
from benchmarks.soak.watch import Watch, descriptors_left, files_of


def allowed(name: str) -> dict[str, Any]:
    return {"kind": "decision", "verdict": "allowed", "connection": name}


def ended(name: str) -> dict[str, Any]:
    return {"kind": "connection", "connection": name, "outcome": "released"}


def died(pid: int, connections: int = 0, records_lost: int = 0) -> dict[str, Any]:
    counts = {"connections": connections, "records_lost": records_lost}
    return {"kind": "process", "process": "worker 1", "pid": pid, "cause": "signal", **counts}


def complaints(folder: pathlib.Path, records: list[dict[str, Any]], killed: list[int]) -> list[str]:
    path = folder / "records.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return Ledger.read(path).complaints(killed)


@pytest.mark.parametrize(
    ("records", "killed", "expected"),
    [
        ([allowed("a"), ended("a")], [], []),
        ([allowed("a")], [], ["1 connections have no end record"]),
        ([allowed("a"), ended("a"), ended("a")], [], ["a has 2 end records"]),
        ([ended("a")], [], ["1 connections ended that no record let in"]),
        ([{"kind": "request", "connection": "a"}, ended("a")], [], []),
        ([allowed("a"), died(7, 1)], [7], []),
        ([allowed("a"), allowed("b"), died(7, 1)], [7], ["2 connections have no end record"]),
        ([allowed("a"), allowed("b"), died(7, 1, 1)], [7], []),
        ([died(7, 3)], [7], ["0 connections have no end record"]),
        ([died(7)], [], ["processes that nobody killed ended: [7]"]),
        ([allowed("a"), {**died(7, 1), "cause": "replaced: it was late"}], [], []),
        ([allowed("a"), died(7, 1)], [], ["processes that nobody killed ended: [7]"]),
        ([], [7], ["no record tells of the end of [7]"]),
        ([{"kind": "filter-failure", "filter": "f", "cause": "x"}], [], ["filter f: x"]),
    ],
)
def test_records_must_add_up(
    tmp_path: pathlib.Path, records: list[dict[str, Any]], killed: list[int], expected: list[str]
) -> None:
    found = complaints(tmp_path, records, killed)
    assert len(found) == len(expected)
    assert all(one.startswith(text) for one, text in zip(found, expected, strict=True))


def test_content_that_is_cut_short_broke_off_and_other_content_is_wrong() -> None:
    assert check(b"abc", b"abc") == 3
    with pytest.raises(ConnectionError):
        check(b"ab", b"abc")
    with pytest.raises(WrongAnswer):
        check(b"abx", b"abc")


def test_process_that_grows_when_it_is_warm_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = iter([100 << 20] * 100 + [120 << 20] * 100)
    monkeypatch.setattr("benchmarks.soak.watch._rss", lambda _pid: next(sizes))
    watch = Watch()
    for second in range(200):
        watch.take({"worker 0": os.getpid()}, second)
    assert watch.complaints() == [f"worker 0 ({os.getpid()}) grew from 100.0 MiB to 120.0 MiB"]


def test_descriptors_and_files_that_stay_are_noticed(tmp_path: pathlib.Path) -> None:
    assert descriptors_left({"a": 10}, {"a": 20}) == []
    assert descriptors_left({"a": 10}, {"a": 40}) == [
        "a has 40 descriptors at rest, and had 10 before"
    ]
    (tmp_path / "left").write_text("")
    assert files_of(tmp_path) == {"left"}
