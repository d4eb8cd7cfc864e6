"""The tests on the page about testing are tests that pass, and its conversation can be replayed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from sluicegate.testing import Conversation, replay
from tests.docs.page_runner import BLOCK
from tests.repo.source_tree import DOCS, ROOT
from tests.unit.kit_filters import OnlySsh

PAGE = DOCS / "howto" / "test-a-filter.md"


def blocks(path: Path, language: str) -> list[str]:
    found = BLOCK.finditer(path.read_text(encoding="utf-8"))
    return [block["body"] for block in found if block["language"] == language]


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_tests_on_the_page_pass(tmp_path: Path) -> None:
    tutorial = blocks(DOCS / "tutorial" / "testing-it.md", "python")
    fixed = next(block for block in tutorial if block.startswith("# no_private.py"))
    (tmp_path / "no_private.py").write_text(fixed, encoding="utf-8")
    run(tmp_path, "sluicegate", "new-filter", "no-scripts", "--tier", "content")
    run(tmp_path, "sluicegate", "new-filter", "one-server", "--tier", "session")
    one_server = tmp_path / "one_server.py"
    text = one_server.read_text(encoding="utf-8").replace("class OneServer(", "class Unnamed(")
    one_server.write_text(text.replace("Unnamed", "OneServerPerClient"), encoding="utf-8")
    written = blocks(DOCS / "howto" / "write-a-filter.md", "python")
    held_puts = next(block for block in written if "class HeldPuts" in block)
    (tmp_path / "held_puts.py").write_text(held_puts, encoding="utf-8")
    for path in tmp_path.glob("test_*.py"):
        path.unlink()
    tests = blocks(PAGE, "python")
    for number, block in enumerate(tests):
        (tmp_path / f"test_block_{number}.py").write_text(block, encoding="utf-8")
    done = run(tmp_path, "pytest", "-q", "-W", "error", "-p", "no:cacheprovider")
    count = sum(block.count("\ndef test_") for block in tests)
    assert f"{count} passed" in done.stdout, done.stdout + done.stderr


def test_conversation_on_the_page_goes_as_it_says() -> None:
    (text,) = blocks(PAGE, "text")
    recorded = Conversation.parse(text)
    assert replay(OnlySsh, recorded).conversation.lines() == recorded.lines()


def test_page_names_what_the_kit_exports() -> None:
    page = PAGE.read_text(encoding="utf-8")
    kit = __import__("sluicegate.testing", fromlist=["__all__"])
    functions = [
        name for name in kit.__all__ if re.match(r"(check|fuzz|replay|inspect|memory)", name)
    ]
    assert [name for name in functions if name not in page] == []
