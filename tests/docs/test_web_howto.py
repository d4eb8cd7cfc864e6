"""The filters and tests on the page about web filters are filters and tests that work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.docs.page_runner import BLOCK, FILE
from tests.repo.source_tree import DOCS, ROOT

PAGE = DOCS / "howto" / "write-a-web-filter.md"


def test_tests_on_the_page_pass(tmp_path: Path) -> None:
    for block in BLOCK.finditer(PAGE.read_text(encoding="utf-8")):
        found = FILE.match(block["body"])
        assert found is not None
        (tmp_path / found["name"]).write_text(block["body"], encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "8 passed" in done.stdout, done.stdout + done.stderr


def test_page_names_every_hook_and_answer() -> None:
    page = PAGE.read_text(encoding="utf-8")
    kit = __import__("sluicegate.filterapi.web_filter", fromlist=["WebFilter"])
    hooks = [name for name in vars(kit.WebFilter) if name.startswith("on_")]
    verdicts = __import__("sluicegate.filterapi.web_verdicts", fromlist=["__all__"])
    made = [name for name in verdicts.__all__ if not name.endswith("Verdict")]
    assert [name for name in (*hooks, *made) if name not in page] == []
