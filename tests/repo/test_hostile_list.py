"""The list of hostile cases names tests that exist."""

from __future__ import annotations

import re

from tests.repo.source_tree import ROOT

TESTS = ROOT / "tests"
REFERENCE = re.compile(r"`(?P<file>(?:[a-z0-9]+/)+test_\w+\.py)?(?:::(?P<name>test_\w+))?`")


def test_every_test_that_the_list_names_is_there() -> None:
    missing: list[str] = []
    for line in (TESTS / "hostile" / "README.md").read_text(encoding="utf-8").split("\n"):
        file = ""
        for found in REFERENCE.finditer(line):
            file = found["file"] or file  # ``::test_x`` alone is in the file named before it
            path = TESTS / file
            text = path.read_text(encoding="utf-8") if path.is_file() else ""
            if not text or (found["name"] and f"def {found['name']}(" not in text):
                missing.append(found[0])
    assert missing == []
