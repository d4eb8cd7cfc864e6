"""What packages show: the names that a type checker reads are the names that are loaded.

A front (``sluicegate.front``) says its names twice, to the type checker and to the interpreter.
"""

from __future__ import annotations

import ast
import importlib
import pathlib
import types

import pytest

from tests.repo.source_tree import PACKAGE, Module

Names = dict[str, list[str]]

PACKAGES = [
    path.parent for path in sorted(PACKAGE.rglob("__init__.py")) if "front(" in path.read_text()
]


def package_name(folder: pathlib.Path) -> str:
    return ".".join(folder.relative_to(PACKAGE.parent).parts)


def names_for_checkers(tree: ast.Module) -> Names:
    (choice,) = [node for node in tree.body if isinstance(node, ast.If)]
    return {
        str(node.module): [alias.name for alias in node.names]
        for node in choice.body
        if isinstance(node, ast.ImportFrom)
    }


def names_loaded(tree: ast.Module) -> Names:
    (choice,) = [node for node in tree.body if isinstance(node, ast.If)]
    (call,) = [node for node in ast.walk(choice) if isinstance(node, ast.Call)]
    return {str(word.arg): list(ast.literal_eval(word.value)) for word in call.keywords}


@pytest.mark.parametrize("folder", PACKAGES, ids=package_name)
def test_front_loads_what_it_tells_type_checkers(folder: pathlib.Path) -> None:
    tree = Module(folder / "__init__.py").tree
    assert names_loaded(tree) == names_for_checkers(tree)
    package = importlib.import_module(package_name(folder))
    told = [name for names in names_loaded(tree).values() for name in names]
    assert sorted(told) == sorted(package.__all__)
    for module, names in names_loaded(tree).items():
        source = importlib.import_module(f"{package.__name__}.{module}")
        for name in names:
            assert getattr(package, name) is getattr(source, name)


@pytest.mark.parametrize("folder", PACKAGES, ids=package_name)
def test_no_name_of_a_front_is_that_of_a_module(folder: pathlib.Path) -> None:
    # The import system would put the module in the name's place.
    package = importlib.import_module(package_name(folder))
    modules = {path.stem for path in folder.glob("*.py")} | {path.name for path in folder.iterdir()}
    assert modules & set(package.__all__) == set()


def test_front_refuses_a_name_that_it_does_not_have() -> None:
    package = importlib.import_module("sluicegate.documents")
    assert isinstance(package, types.ModuleType)
    with pytest.raises(AttributeError, match=r"'sluicegate\.documents' has no attribute 'absent'"):
        _ = package.absent


def test_no_module_holds_a_package_whose_names_would_be_loaded_late() -> None:
    # ``from sluicegate import policy`` and then ``policy.decide`` loads when a gate works already.
    fronts = {package_name(folder) for folder in PACKAGES}
    held = [
        f"{path.relative_to(PACKAGE)}: {name}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for name in packages_held(Module(path))
        if name in fronts
    ]
    assert held == []


def packages_held(module: Module) -> list[str]:
    parts = module.path.relative_to(PACKAGE.parent).parts[:-1]
    held: list[str] = []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            held += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = parts[: len(parts) - node.level + 1] if node.level else ()
            start = ".".join([*base, *([node.module] if node.module else [])])
            held += [f"{start}.{alias.name}" for alias in node.names]
    return held
