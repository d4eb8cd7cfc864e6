"""The pytest plug-in as authors meet it: a run of pytest in a folder of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.repo.source_tree import ROOT

FILTER = """\
from sluicegate.filterapi import FORWARD, StreamFilter

class Through(StreamFilter):
    name = "through"

    def on_data(self, side, window):
        if b"boom" in bytes(window):
            raise ValueError("boom")
        return FORWARD
"""

#: The entry point, for a clone in which Sluicegate was installed before the plug-in existed.
PLUGIN = ("-p", "sluicegate.testing.pytest_plugin")


def run_pytest(folder: Path, test: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "through.py").write_text(FILTER, encoding="utf-8")
    (folder / "test_through.py").write_text(test, encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", *PLUGIN, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_fixtures_need_no_import(tmp_path: Path) -> None:
    done = run_pytest(
        tmp_path,
        """
from through import Through

def test_through(playbook, manual_clock):
    play = playbook(Through)
    play.client.sends(b"hello")
    play.server.receives(b"hello")
    before = manual_clock.monotonic()
    manual_clock.advance(5)
    assert manual_clock.monotonic() == before + 5
""",
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_playbook_that_leaves_a_failure_fails_the_test_at_its_end(tmp_path: Path) -> None:
    done = run_pytest(
        tmp_path,
        """
from through import Through

def test_through(playbook):
    playbook(Through).client.sends(b"boom")

def test_two(playbook):
    playbook(Through).client.sends(b"boom")
    assert False
""",
    )
    assert done.returncode == 1
    assert "no expect_failed said so: ValueError: boom" in done.stdout
    assert "1 failed, 1 passed, 1 error" in done.stdout, "the second tells its own failure only"


def test_frames_of_the_kit_are_left_out_of_a_failure(tmp_path: Path) -> None:
    done = run_pytest(
        tmp_path,
        """
from through import Through

def test_through(playbook):
    play = playbook(Through)
    play.client.sends(b"hello")
    play.server.receives(b"help")
""",
    )
    assert "they part at byte 3 (4 expected, 5 came)" in done.stdout
    assert "scripted_peer.py" not in done.stdout
    assert '- "help"' in done.stdout


GOLDEN = """
from through import Through

def test_golden(golden):
    golden(Through, "a.conversation")
"""


def test_golden_file_is_renewed_by_the_flag_and_compared_without_it(tmp_path: Path) -> None:
    path = tmp_path / "a.conversation"
    path.write_text('client sends "hello"\n', encoding="utf-8")
    assert "nothing was recorded yet" in run_pytest(tmp_path, GOLDEN).stdout
    assert "1 passed" in run_pytest(tmp_path, GOLDEN, "--update-conversations").stdout
    assert 'server receives "hello"' in path.read_text(encoding="utf-8")
    assert "1 passed" in run_pytest(tmp_path, GOLDEN).stdout


def test_plug_in_is_an_entry_point_of_the_same_name() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    name = "sluicegate.testing.pytest_plugin"
    assert project["project"]["entry-points"]["pytest11"] == {name: name}


@pytest.mark.parametrize("module", ["sluicegate.testing", "sluicegate.cli.main"])
def test_kit_and_command_line_need_neither_pytest_nor_hypothesis(module: str) -> None:
    code = (
        f"import sys, {module}; "
        "print([name for name in ('pytest', 'hypothesis') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=True
    )
    assert done.stdout.strip() == "[]"
