"""Rotation of the log: in time, and nothing goes that is not stored, or not the gate's."""

from __future__ import annotations

import pathlib

import pytest

from sluicegate.app.log_config import StoreSettings
from sluicegate.app.processes.log_rotation import LogRotation
from sluicegate.app.processes.orders import Stored
from sluicegate.testing.clock import ManualClock
from tests.unit.store.store_kit import line_of, sqlite

HOUR_S = 3600.0
STAMP = "-20261128183000"


class Scene:
    """A log, its rotation, and what it asks of the writer."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.path = folder / "records.jsonl"
        self.path.touch()
        self.clock = ManualClock()
        self.said: list[str] = []
        self.held: list[str] = []
        settings = StoreSettings(
            sqlite(folder / "records"), 90, 1 << 40, 4096, 24, 1 << 20, folder / "sluicegate.toml"
        )
        self.rotation = LogRotation(
            self.path, settings, self.clock, self.said.append,
            reopen=self.path.touch, hold=self.held.append,
        )  # fmt: skip

    def write(self, count: int) -> None:
        with self.path.open("ab") as file:
            for number in range(count):
                file.write(line_of(number, self.clock.wall()) + b"\n")

    def turn(self, stored: pathlib.Path | None = None, behind: int = 0) -> None:
        inode = stored.stat().st_ino if stored is not None else 0
        self.rotation.turn(Stored(last=1, bytes_behind=behind, inode=inode))

    def files(self) -> list[str]:
        return sorted(path.name for path in self.path.parent.iterdir())


@pytest.fixture
def scene(tmp_path: pathlib.Path) -> Scene:
    return Scene(tmp_path)


def test_file_that_is_neither_large_nor_old_stays(scene: Scene) -> None:
    scene.write(3)
    scene.clock.advance(23 * HOUR_S)
    scene.turn(scene.path)
    assert scene.files() == ["records.jsonl"]


def test_file_that_is_large_is_moved_and_goes_once_the_store_is_in_the_next(scene: Scene) -> None:
    scene.write(40)
    first = scene.path.read_bytes()
    scene.turn(scene.path)
    moved, now = scene.files()[1], scene.path
    assert moved.startswith("records.jsonl-")
    assert (scene.path.with_name(moved).read_bytes(), now.read_bytes()) == (first, b"")
    scene.turn(scene.path.with_name(moved))
    assert moved in scene.files()
    scene.turn(now)
    assert scene.files() == ["records.jsonl"]


def test_file_whose_first_record_is_a_day_old_is_moved(scene: Scene) -> None:
    scene.write(1)
    scene.turn(scene.path)
    scene.clock.advance(24 * HOUR_S)
    scene.turn(scene.path)
    assert len(scene.files()) == 2


def test_file_without_a_record_is_never_too_old(scene: Scene) -> None:
    scene.path.write_bytes(b"no record\n")
    scene.clock.advance(1000 * HOUR_S)
    scene.turn()
    assert scene.files() == ["records.jsonl"]


def test_what_somebody_else_has_moved_or_named_stays(scene: Scene) -> None:
    names = ["records.jsonl-20261128", "records.jsonl.1", "records.jsonl.2.gz"]
    for name in names:
        scene.path.with_name(name).write_bytes(b"{}\n")
    (ours := scene.path.with_name(f"records.jsonl{STAMP}")).write_bytes(b"{}\n")
    scene.path.unlink()
    scene.write(1)
    scene.turn(scene.path)
    assert not ours.exists()
    assert scene.files() == sorted(["records.jsonl", *names])


def test_nothing_goes_while_it_is_not_known_where_the_store_ends(scene: Scene) -> None:
    ours = scene.path.with_name(f"records.jsonl{STAMP}")
    ours.write_bytes(b"{}\n")
    scene.turn()
    scene.rotation.turn(Stored(last=1, bytes_behind=0, inode=1))  # of no file
    assert ours.exists()


def test_too_much_that_waits_counts_as_a_log_that_is_full(scene: Scene) -> None:
    scene.turn(scene.path, behind=1 << 20)
    scene.turn(scene.path, behind=(1 << 20) + 1)
    scene.turn(scene.path, behind=5)
    assert scene.held == ["", "unstored_bytes: more than 1048576 bytes wait to be stored", ""]


def test_log_that_cannot_be_moved_is_said_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: pathlib.Path, _target: pathlib.Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pathlib.Path, "rename", refuse)
    scene.write(40)
    scene.turn()
    scene.turn()
    assert scene.said == [f"{scene.path}: the log cannot be rotated: Permission denied"]
