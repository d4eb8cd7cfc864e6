"""The tree as the tests of this folder see it: modules, tracked files, pages.

A parsed module is many times its text: who goes through all of them keeps none.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import pathlib
import subprocess
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "sluicegate"
DOCS = ROOT / "docs"

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclasses.dataclass(frozen=True)
class Module:
    """One Python file, read and parsed once it is asked for."""

    path: pathlib.Path

    @functools.cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @functools.cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, str(self.path))

    @property
    def name(self) -> str:
        """Its path from the root, as people write it."""
        return self.path.relative_to(ROOT).as_posix()

    @property
    def dotted(self) -> str:
        """Its import name (for modules under ``src``)."""
        parts = self.path.relative_to(ROOT / "src").with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def functions(self) -> Iterator[tuple[str, Function]]:
        """Every function with its dotted name inside the module."""
        yield from functions_in(self.tree, "")

    def exported(self) -> list[str] | None:
        """What ``__all__`` lists, or None without one."""
        for node in self.tree.body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                return list(ast.literal_eval(node.value))
        return None


def functions_in(node: ast.AST, prefix: str) -> Iterator[tuple[str, Function]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function):
            yield prefix + child.name, child
            yield from functions_in(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.ClassDef):
            yield from functions_in(child, f"{prefix}{child.name}.")
        else:
            yield from functions_in(child, prefix)


def modules(*folders: str) -> Iterator[Module]:
    """Every Python file under these folders of the root."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield Module(path)


def package_modules() -> Iterator[Module]:
    return modules("src/sluicegate")


@functools.cache
def tracked_files() -> tuple[pathlib.Path, ...]:
    """Every text file that a clone would have (or would, once committed)."""
    listed = subprocess.run(
        [
            "git",
            "-c",
            "safe.directory=*",
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    paths = [ROOT / name for name in listed.split("\0") if name]
    return tuple(path for path in paths if path.is_file() and not is_binary(path))


def is_binary(path: pathlib.Path) -> bool:
    with path.open("rb") as file:
        return b"\0" in file.read(4096)


@functools.cache
def pages() -> tuple[pathlib.Path, ...]:
    """Every Markdown file of the tree, but the fragments of the change log."""
    return tuple(
        path for path in tracked_files() if path.suffix == ".md" and "changelog.d" not in path.parts
    )
