"""Pages for people: links resolve, code compiles, what the code has the pages explain."""

from __future__ import annotations

import ast
import doctest
import importlib
import pathlib
import re
import shutil
import textwrap

import pytest

from docs.generate import describe_limits, describe_records
from sluicegate import (
    access_limits,
    alert_limits,
    limits,
    log_limits,
    policy_limits,
    process_limits,
    protocol_limits,
    scan_limits,
    web_limits,
)
from sluicegate.app.load import load
from sluicegate.documents import Findings
from sluicegate.identity import HashCost, User, UserFile, hash_password
from tests.repo.source_tree import DOCS, ROOT, package_modules, pages

FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>[\w{}-]*)[^\n]*\n(?P<body>.*?)^ *```", re.MULTILINE | re.DOTALL
)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s]+)\)")
CLASS_IN_GLOSSARY = re.compile(r"\{py:class\}`~?(?P<name>[\w.]+)`")

each_page = pytest.mark.parametrize(
    "page", pages(), ids=lambda path: path.relative_to(ROOT).as_posix()
)


@each_page
def test_relative_links_lead_somewhere(page: pathlib.Path) -> None:
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    targets = [found["target"].partition("#")[0] for found in LINK.finditer(prose)]
    dead = [
        target
        for target in targets
        if target
        and "://" not in target
        and "generated/" not in target
        and not (page.parent / target).exists()
    ]
    assert dead == []


@each_page
def test_python_on_the_page_compiles(page: pathlib.Path) -> None:
    for block in FENCE.finditer(page.read_text(encoding="utf-8")):
        if block["language"] == "python":
            source = textwrap.dedent(block["body"])
            flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
            assert compile(source, str(page), "exec", flags) is not None


def test_configuration_on_the_pages_is_accepted(tmp_path: pathlib.Path) -> None:
    shutil.copytree(ROOT / "examples" / "filters", tmp_path / "filters")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    filters = [b["body"] for b in FENCE.finditer(readme) if b["language"] == "python"]
    (tmp_path / "filters" / "no_macros.py").write_text(filters[0], encoding="utf-8")
    (tmp_path / "yara").mkdir()
    ann = User("ann", hash_password(b"open sesame", HashCost(7168, 1, 1)), ("staff",))
    UserFile(tmp_path / "users.toml").add(ann)
    checked = []
    for page in pages():
        files = [
            found
            for block in FENCE.finditer(page.read_text(encoding="utf-8"))
            if (found := re.match(r"# ([a-z]+\.toml)\n", textwrap.dedent(block["body"])))
        ]
        for found in files:
            (tmp_path / found[1]).write_text(found.string, encoding="utf-8")
        if files:
            findings = Findings()
            load(tmp_path / "sluicegate.toml", findings)
            assert (page.name, findings.errors, findings.warnings) == (page.name, [], [])
            checked.append(page.name)
    assert "configuration.md" in checked


def test_every_limit_is_explained_in_the_reference() -> None:
    page = describe_limits()
    names = [
        *limits.Limits.__dataclass_fields__,
        *limits.__all__,
        *log_limits.__all__,
        *policy_limits.__all__,
        *process_limits.__all__,
        *access_limits.__all__,
        *alert_limits.__all__,
        *protocol_limits.__all__,
        *scan_limits.__all__,
        *web_limits.__all__,
    ]
    assert [
        name for name in names if name not in {"Limits", "WebLimits"} and f"`{name}`" not in page
    ] == []


def test_every_record_is_explained_in_the_reference() -> None:
    page = describe_records()
    records = importlib.import_module("sluicegate.audit.records")
    classes = [name for name in records.__all__ if isinstance(getattr(records, name), type)]
    assert classes
    assert [name for name in classes if f"## {name}" not in page] == []


def test_every_page_of_the_documentation_is_in_a_table_of_contents() -> None:
    listed = set()
    for page in DOCS.rglob("*.md"):
        for block in FENCE.finditer(page.read_text(encoding="utf-8")):
            if block["language"] == "{toctree}":
                entries = [line.strip() for line in block["body"].split("\n") if line.strip()]
                for entry in entries:
                    if entry == "*":
                        listed |= {found.with_suffix("") for found in page.parent.glob("*.md")}
                    elif not entry.startswith(":"):
                        listed.add((page.parent / entry).resolve())
    written = {
        page.with_suffix("").resolve()
        for page in DOCS.rglob("*.md")
        if not {"_build", "generated"} & set(page.parts) and page != DOCS / "index.md"
    }
    assert {path.relative_to(DOCS).as_posix() for path in written - listed} == set()


def test_classes_that_the_glossary_names_exist() -> None:
    glossary = (DOCS / "glossary.md").read_text(encoding="utf-8")
    named = [found["name"] for found in CLASS_IN_GLOSSARY.finditer(glossary)]
    assert named, "a term that is a class says which"
    for name in named:
        module, _, cls = name.rpartition(".")
        assert isinstance(getattr(importlib.import_module(module), cls), type), name


def test_examples_in_docstrings_run() -> None:
    for module in package_modules():
        if ">>>" in module.text:
            outcome = doctest.testmod(importlib.import_module(module.dotted))
            assert outcome.attempted > 0, module.name
            assert outcome.failed == 0, module.name
