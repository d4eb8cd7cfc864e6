"""Every test says what it expects where one reads it."""

from __future__ import annotations

import ast
import re

import pytest

from tests.repo.source_tree import ROOT

FILES = sorted((ROOT / "tests").rglob("test_*.py")) + sorted(ROOT.glob("examples/*/test_*.py"))

SAYS = re.compile(r"(?:check|expect|receives|raises|warns|golden)(?:_\w+)?")
"""How functions are called that fail when what they are told is not so: ``check_…`` of the kits,
``expect_…`` and ``receives…`` of playbooks, pytest's own."""


def says_what_it_expects(test: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Tell whether a test asserts, or calls what is named for asserting."""
    for node in ast.walk(test):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call):
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if SAYS.fullmatch(name):
                return True
    return False


def test_every_test_says_what_it_expects() -> None:
    silent = [
        f"{path.relative_to(ROOT)}: {node.name}"
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not says_what_it_expects(node)
    ]
    assert FILES
    assert silent == [], "they cannot be seen to fail: assert, or name the helper check_ or expect_"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("assert run() == 3", True),
        ("with pytest.raises(ValueError): run()", True),
        ("play.client.receives(b'x')", True),
        ("check_filter(make)", True),
        ("run()", False),
        ("recheck(); received()", False),
    ],
)
def test_what_counts_as_saying_so(body: str, says: bool) -> None:
    (test,) = ast.parse(f"def test_x():\n    {body}").body
    assert isinstance(test, ast.FunctionDef)
    assert says_what_it_expects(test) is says
