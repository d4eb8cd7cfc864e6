"""What holds for every sample: the public API alone, a page, and a class that can be installed."""

from __future__ import annotations

import ast
import pathlib

import pytest

from sluicegate.app.filter_source import find_filter_class
from tests.repo.source_tree import DOCS, ROOT

FOLDER = ROOT / "examples" / "filters"
#: But for the first filter of the README, and tests that stand beside what they test.
SAMPLES = sorted(
    path
    for path in FOLDER.glob("*.py")
    if path.name != "no_macros.py" and not path.name.startswith("test_")
)

each_sample = pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)


@each_sample
def test_sample_imports_the_public_api_and_errors_alone(sample: pathlib.Path) -> None:
    tree = ast.parse(sample.read_text(encoding="utf-8"))
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {
        name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names
    }
    ours = {module for module in modules if module and module.startswith("sluicegate")}
    assert ours <= {"sluicegate.filterapi", "sluicegate.errors"}


@each_sample
def test_sample_has_a_page_that_shows_it(sample: pathlib.Path) -> None:
    page = (DOCS / "examples" / f"{sample.stem.replace('_', '-')}.md").read_text(encoding="utf-8")
    assert f"{{literalinclude}} ../../examples/filters/{sample.name}" in page


@each_sample
def test_sample_is_a_filter_with_typed_settings(sample: pathlib.Path) -> None:
    name = "".join(part.capitalize() for part in sample.stem.split("_"))
    found, _ = find_filter_class(f"{sample.name}:{name}", FOLDER)
    assert found.name == sample.stem
    settings = found.Settings  # type: ignore[union-attr]
    assert (settings.model_config["frozen"], settings.model_config["extra"]) == (True, "forbid")
