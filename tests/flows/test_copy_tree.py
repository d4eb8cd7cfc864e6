"""The examples of the port copy a tree whole, on the driver under test."""

from __future__ import annotations

import filecmp
import random
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples" / "port"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    seeded = random.Random(7)
    for folder in range(4):
        (source / f"folder{folder}" / "inner").mkdir(parents=True)
        for number, size in enumerate((0, 1, 4096, 262143, 262144, 262145, 1_000_000)):
            path = source / f"folder{folder}" / "inner" / f"file{number}"
            path.write_bytes(seeded.randbytes(size))
    (source / "link").symlink_to("folder0")
    (source / "folder0" / "inner" / "file1").chmod(0o750)
    return source


def copy(example: str, source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(EXAMPLES / example), str(source), str(target)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.mark.parametrize("example", ["copy_tree_await.py", "copy_tree_callbacks.py"])
def test_tree_is_copied_whole(example: str, tree: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    run = copy(example, tree, target)
    assert run.returncode == 0, run.stderr
    assert run.stdout == f"{4 * (1 + 4096 + 262143 + 262144 + 262145 + 1_000_000)} bytes copied\n"
    names = sorted(path.relative_to(tree) for path in tree.rglob("*"))
    assert sorted(path.relative_to(target) for path in target.rglob("*")) == names
    files = [str(name) for name in names if (tree / name).is_file()]
    assert filecmp.cmpfiles(tree, target, files, shallow=False) == (files, [], [])
    assert (target / "link").is_symlink()
    assert (target / "folder0" / "inner" / "file1").stat().st_mode & 0o777 == 0o750


@pytest.mark.parametrize("example", ["copy_tree_await.py", "copy_tree_callbacks.py"])
def test_nothing_is_overwritten(example: str, tree: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "mine").write_text("mine")
    run = copy(example, tree, target)
    assert run.returncode != 0
    assert "FileExistsError" in run.stderr
    assert [path.name for path in target.iterdir()] == ["mine"]
