"""Rules of the source tree that no linter knows; CONTRIBUTING.md gives their reasons.

A rule yields what it has against a module. All rules are asked about a module while it is parsed,
so that the tree is read once; each rule is a test, which shows every breach of it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator

import pytest

from tests.repo.source_tree import ROOT, Module, modules

VAGUE_MODULES = {
    "base", "common", "core", "helper", "helpers", "manager", "managers", "misc", "util", "utils",
}  # fmt: skip
VAGUE_CLASS = re.compile(r"(Manager|Helpers?|Utils?|Info)$")
#: ``selectors.BaseSelector`` and ``click.Group`` ask for these names.
GETTERS_OF_LIBRARIES = {"get_command", "get_key", "get_map"}

FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 600

CLOCK_READERS = {
    "time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns", "time.perf_counter",
    "time.perf_counter_ns", "time.sleep", "datetime.now", "datetime.utcnow", "datetime.today",
    "datetime.datetime.now", "datetime.datetime.utcnow", "datetime.date.today", "date.today",
}  # fmt: skip

Rule = Callable[[Module], Iterator[str]]


def module_has_a_docstring(module: Module) -> Iterator[str]:
    if not ast.get_docstring(module.tree):
        yield "say what it is, where it sits, its one invariant"


def module_and_class_names_are_not_vague(module: Module) -> Iterator[str]:
    yield from VAGUE_MODULES & set(module.dotted.split("."))
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ClassDef) and VAGUE_CLASS.search(node.name):
            yield f"{node.name}: name it after the one thing it holds"


def functions_are_verbs_without_get(module: Module) -> Iterator[str]:
    for _, function in module.functions():
        if function.name.startswith("get_") and function.name not in GETTERS_OF_LIBRARIES:
            yield f"{function.name}: make it a property, or a noun"


def public_module_says_what_it_exports(module: Module) -> Iterator[str]:
    if module.path.name.startswith("_") and module.path.name != "__init__.py":
        return
    defined = any(
        isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and not node.name.startswith("_")
        for node in module.tree.body
    )
    exported = module.exported()
    if exported is None:
        if defined:
            yield "list its public names in __all__"
        return
    known = set(names_bound_by(module.tree))
    for name in exported:
        if exported.count(name) > 1:
            yield f"{name}: listed twice"
        if name.startswith("_") and name != "__version__":
            yield f"{name}: private"
        if name not in known:
            yield f"{name}: unknown"


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
            case ast.If(test=ast.Name(id="TYPE_CHECKING"), orelse=[_, *_]):
                # A front: ``test_fronts`` holds what is loaded to what is told here.
                yield from names_bound_by(ast.Module(node.body, []))
            case _:
                yield from (
                    n.id
                    for n in ast.walk(node)
                    if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
                )


def only_clock_py_reads_the_clock(module: Module) -> Iterator[str]:
    if module.dotted == "sluicegate.clock":
        return
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in CLOCK_READERS:
            yield f"line {node.lineno}: take a sluicegate.clock.Clock as an argument"
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            yield f"line {node.lineno}: import the module, so that its readers are seen"


def functions_and_files_are_short(module: Module) -> Iterator[str]:
    for name, function in module.functions():
        lines = (function.end_lineno or 0) - function.lineno + 1
        if lines > FUNCTION_LINES_MAX:
            yield f"{name}: {lines} lines"
    lines = module.text.count("\n")
    if lines > FILE_LINES_MAX and not module.name.startswith("tests/"):
        yield f"{lines} lines"


def no_exception_is_swallowed(module: Module) -> Iterator[str]:
    broad = {"everything", "Exception", "BaseException"}
    for node in ast.walk(module.tree):
        if (isinstance(node, ast.ExceptHandler) and is_silent(node) and kind_of(node) in broad) or (
            isinstance(node, ast.Call)
            and ast.unparse(node.func).endswith("suppress")
            and broad & {ast.unparse(argument) for argument in node.args}
        ):
            yield f"line {node.lineno}"


def kind_of(handler: ast.ExceptHandler) -> str:
    return ast.unparse(handler.type) if handler.type else "everything"


def is_silent(handler: ast.ExceptHandler) -> bool:
    return all(
        isinstance(node, ast.Pass | ast.Continue)
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        for node in handler.body
    )


def an_exemption_from_a_check_carries_its_reason(module: Module) -> Iterator[str]:
    exemption = re.compile(r"#\s*(?:noqa(?:: [A-Z0-9, ]+)?|type: ignore(?:\[[\w, -]+\])?)\s*(.*)$")
    if "tests" in module.path.parts:
        return
    for number, line in enumerate(module.text.split("\n"), 1):
        if (found := exemption.search(line)) and len(found[1].strip(" -#:")) < 3:
            yield f"line {number}: {line.strip()}"


def what_is_left_to_do_names_an_issue(module: Module) -> Iterator[str]:
    marks = re.compile(r"#\s*(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b(?!\(#\d+\): )")
    yield from (line for line in module.text.split("\n") if marks.search(line))


OF_THE_PACKAGE: tuple[Rule, ...] = (
    module_has_a_docstring,
    module_and_class_names_are_not_vague,
    functions_are_verbs_without_get,
    public_module_says_what_it_exports,
    only_clock_py_reads_the_clock,
)
OF_EVERYTHING: tuple[Rule, ...] = (
    functions_and_files_are_short,
    no_exception_is_swallowed,
    an_exemption_from_a_check_carries_its_reason,
    what_is_left_to_do_names_an_issue,
)


def breaches(rules: tuple[Rule, ...], *folders: str) -> dict[Rule, list[str]]:
    found: dict[Rule, list[str]] = {rule: [] for rule in rules}
    asked = 0
    for module in modules(*folders):
        asked += 1
        for rule in rules:
            found[rule] += [f"{module.name}: {said}" for said in rule(module)]
    assert asked, folders
    return found


@pytest.fixture(scope="module")
def breaches_in_the_package() -> dict[Rule, list[str]]:
    return breaches(OF_THE_PACKAGE, "src/sluicegate")


@pytest.fixture(scope="module")
def breaches_anywhere() -> dict[Rule, list[str]]:
    return breaches(OF_EVERYTHING, "src", "tests", "benchmarks", "examples", "tools", "docs")


@pytest.mark.parametrize("rule", OF_THE_PACKAGE, ids=lambda rule: rule.__name__)
def test_package_keeps(rule: Rule, breaches_in_the_package: dict[Rule, list[str]]) -> None:
    assert breaches_in_the_package[rule] == []


@pytest.mark.parametrize("rule", OF_EVERYTHING, ids=lambda rule: rule.__name__)
def test_every_module_keeps(rule: Rule, breaches_anywhere: dict[Rule, list[str]]) -> None:
    assert breaches_anywhere[rule] == []


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (module_has_a_docstring, "import ast\n"),
        (module_and_class_names_are_not_vague, "class SocketManager: pass\n"),
        (functions_are_verbs_without_get, "class A:\n    def get_size(self): ...\n"),
        (public_module_says_what_it_exports, "def run(): ...\n"),
        (public_module_says_what_it_exports, "__all__ = ['gone']\n"),
        (public_module_says_what_it_exports, "__all__ = ['run', 'run']\ndef run(): ...\n"),
        (only_clock_py_reads_the_clock, "import time\nthen = time.time()\n"),
        (only_clock_py_reads_the_clock, "from time import monotonic\n"),
        (functions_and_files_are_short, "def run():\n" + "    run()\n" * 71),
        (functions_and_files_are_short, "A = 1\n" * 601),
        (no_exception_is_swallowed, "try:\n    run()\nexcept Exception:\n    pass\n"),
        (no_exception_is_swallowed, "with contextlib.suppress(Exception):\n    run()\n"),
        (an_exemption_from_a_check_carries_its_reason, "import ast  # no" + "qa: F401\n"),
        (what_is_left_to_do_names_an_issue, "# TO" + "DO: later\n"),
    ],
)
def test_rule_sees_a_breach(rule: Rule, text: str) -> None:
    module = Module(ROOT / "src" / "sluicegate" / "example.py")
    vars(module)["text"] = text
    assert len(list(rule(module))) >= 1
