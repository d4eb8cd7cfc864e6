"""Rules of the source tree that no linter knows; CONTRIBUTING.md gives their reasons."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.repo.source_tree import Module, modules, package_modules

VAGUE_MODULES = {
    "base", "common", "core", "helper", "helpers", "manager", "managers", "misc", "util", "utils",
}  # fmt: skip
VAGUE_CLASS = re.compile(r"(Manager|Helpers?|Utils?|Info)$")
#: ``selectors.BaseSelector`` and ``click.Group`` ask for these names.
GETTERS_OF_LIBRARIES = {"get_command", "get_key", "get_map"}

FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 600
#: May only shrink: dotted name -> lines it still has.
LONG_FUNCTIONS: dict[str, int] = {}

CLOCK_READERS = {
    "time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns", "time.perf_counter",
    "time.perf_counter_ns", "time.sleep", "datetime.now", "datetime.utcnow", "datetime.today",
    "datetime.datetime.now", "datetime.datetime.utcnow", "datetime.date.today", "date.today",
}  # fmt: skip

package = pytest.mark.parametrize("module", package_modules(), ids=lambda m: m.name)
everything = pytest.mark.parametrize(
    "module",
    modules("src", "tests", "benchmarks", "examples", "tools", "docs"),
    ids=lambda m: m.name,
)


@package
def test_module_has_a_docstring(module: Module) -> None:
    assert ast.get_docstring(module.tree), "say what it is, where it sits, its one invariant"


@package
def test_module_and_class_names_are_not_vague(module: Module) -> None:
    assert not VAGUE_MODULES & set(module.dotted.split(".")), "name it after the one thing it holds"
    classes = [n.name for n in ast.walk(module.tree) if isinstance(n, ast.ClassDef)]
    assert not [name for name in classes if VAGUE_CLASS.search(name)]


@package
def test_functions_are_verbs_without_get(module: Module) -> None:
    named = {function.name for _, function in module.functions()}
    getters = {name for name in named if name.startswith("get_")}
    assert not getters - GETTERS_OF_LIBRARIES, "make it a property, or a noun"


@everything
def test_functions_and_files_are_short(module: Module) -> None:
    longer = {
        f"{module.name}:{name}": lines
        for name, function in module.functions()
        if (lines := (function.end_lineno or 0) - function.lineno + 1) > FUNCTION_LINES_MAX
    }
    assert {k: v for k, v in longer.items() if v > LONG_FUNCTIONS.get(k, 0)} == {}
    if not module.name.startswith("tests/"):
        assert module.text.count("\n") <= FILE_LINES_MAX


def test_list_of_long_functions_has_no_entry_that_became_short() -> None:
    lengths = {
        f"{module.name}:{name}": (function.end_lineno or 0) - function.lineno + 1
        for module in modules("src", "tests", "benchmarks", "examples", "tools", "docs")
        for name, function in module.functions()
    }
    assert {k: lengths.get(k) for k in LONG_FUNCTIONS} == LONG_FUNCTIONS


@package
def test_public_module_says_what_it_exports(module: Module) -> None:
    defined = [
        node.name
        for node in module.tree.body
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and not node.name.startswith("_")
    ]
    if module.path.name.startswith("_") and module.path.name != "__init__.py":
        return
    exported = module.exported()
    assert exported is not None or not defined, "list its public names in __all__"
    assert sorted(set(exported or [])) == sorted(exported or []), "a name is listed twice"
    assert not [name for name in exported or [] if name.startswith("_") and name != "__version__"]
    known = set(names_bound_by(module.tree))
    assert not [name for name in exported or [] if name not in known]


def names_bound_by(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        match node:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                yield node.name
            case ast.Import() | ast.ImportFrom():
                yield from (alias.asname or alias.name for alias in node.names)
            case ast.Assign():
                yield from (n.id for n in ast.walk(node) if isinstance(n, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name
            case _:
                yield from (
                    n.id
                    for n in ast.walk(node)
                    if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
                )


@package
def test_only_clock_py_reads_the_clock(module: Module) -> None:
    if module.dotted == "sluicegate.clock":
        return
    readers = {
        f"line {node.lineno}: {ast.unparse(node.func)}"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in CLOCK_READERS
    }
    imported = {
        f"line {node.lineno}: from {node.module} import {alias.name}"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ImportFrom) and node.module == "time"
        for alias in node.names
    }
    assert readers | imported == set(), "take a sluicegate.clock.Clock as an argument"


@everything
def test_no_exception_is_swallowed(module: Module) -> None:
    broad = {"everything", "Exception", "BaseException"}
    swallowed = [
        f"line {node.lineno}"
        for node in ast.walk(module.tree)
        if (isinstance(node, ast.ExceptHandler) and is_silent(node) and kind_of(node) in broad)
        or (
            isinstance(node, ast.Call)
            and ast.unparse(node.func).endswith("suppress")
            and broad & {ast.unparse(argument) for argument in node.args}
        )
    ]
    assert swallowed == []


def kind_of(handler: ast.ExceptHandler) -> str:
    return ast.unparse(handler.type) if handler.type else "everything"


def is_silent(handler: ast.ExceptHandler) -> bool:
    return all(
        isinstance(node, ast.Pass | ast.Continue)
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        for node in handler.body
    )


@everything
def test_an_exemption_from_a_check_carries_its_reason(module: Module) -> None:
    exemption = re.compile(r"#\s*(?:noqa(?:: [A-Z0-9, ]+)?|type: ignore(?:\[[\w, -]+\])?)\s*(.*)$")
    if "tests" in module.path.parts:
        return
    bare = [
        f"line {number}: {line.strip()}"
        for number, line in enumerate(module.text.split("\n"), 1)
        if (found := exemption.search(line)) and len(found[1].strip(" -#:")) < 3
    ]
    assert bare == []


@everything
def test_what_is_left_to_do_names_an_issue(module: Module) -> None:
    marks = re.compile(r"#\s*(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b(?!\(#\d+\): )")
    assert [line for line in module.text.split("\n") if marks.search(line)] == []
