"""The list of hostile cases names tests that exist."""

from __future__ import annotations

import re

import pytest

from tests.hostile.cases import groups_in, listed
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


@pytest.mark.parametrize(
    ("case", "groups"),
    [
        ("H1 to H3, H6: lengths", {"H1", "H2", "H3", "H6"}),
        ("A12, B3 to B5, B10: zones, A and B", {"A12", "B3", "B4", "B5", "B10"}),
        ("D12: bytes behind it; D13: answered 200", {"D12", "D13"}),
        ("A to C, N7, P: policies", {"A", "B", "C", "N7", "P"}),
        ("B1 to B2, and the text of B17", {"B1", "B2", "B17"}),
        ("L5, L6 by ICAP", {"L5", "L6"}),
        ("P over HTTP: rules; A form", {"P"}),
        ("a filter that allocates 10 GiB", set[str]()),
        ("A client that leaves, A `REST`", set[str]()),
        ("CR NUL, bare LF, inside `MODE B`", set[str]()),
        ("S, in words", {"S"}),
    ],
)
def test_groups_are_those_that_a_row_begins_with(case: str, groups: set[str]) -> None:
    assert groups_in(case) == groups


def test_no_group_is_counted_that_the_list_does_not_reach() -> None:
    assert {group[0] for group in listed()} == set("ABCDEFGHIJKLMNOPQRS")
