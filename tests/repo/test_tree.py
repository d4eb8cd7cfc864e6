"""What may not be in any file of the tree, and what its front door must offer."""

from __future__ import annotations

import pathlib
import re
import tomllib

from tests.repo.source_tree import ROOT, tracked_files

MAIL = re.compile(r"\b[\w.+-]+@(?P<domain>(?:[\w-]+\.)+[a-z]{2,})\b")
#: Names that RFC 2606 and RFC 6761 keep for examples.
EXAMPLE_DOMAIN = re.compile(r"(^|\.)(example|invalid|test|localhost|example\.(com|net|org))$")
# Brackets keep these patterns from matching this file.
REGISTRY = re.compile(r"pypi[.]org|python[h]osted|npmjs[.]org|debian[.]org|index[-]url")
MACHINE_PATH = re.compile(r"(?<![\w.$}/-])/(work|root|home/\w+|tmp/\w+_jobs)(?=/)")


def test_no_file_names_a_person_a_registry_or_a_path_of_a_machine() -> None:
    told = {path.relative_to(ROOT).as_posix(): names_told(path) for path in tracked_files()}
    assert told
    assert {path: names for path, names in told.items() if names} == {}


def names_told(path: pathlib.Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    mails = [m[0] for m in MAIL.finditer(text) if not EXAMPLE_DOMAIN.search(m["domain"])]
    return mails + REGISTRY.findall(text) + [found[0] for found in MACHINE_PATH.finditer(text)]


def test_make_offers_the_targets_that_the_readme_promises() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):.*##", makefile, re.MULTILINE))
    assert targets >= {"setup", "demo", "test", "check", "bench", "docs", "help"}


def test_every_dependency_has_its_exact_version_in_the_constraints() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = [*project["project"]["dependencies"]]
    for extra in project["project"]["optional-dependencies"].values():
        wanted += extra
    for group in project["dependency-groups"].values():
        wanted += [entry for entry in group if isinstance(entry, str)]
    pinned = {
        normalized(line.partition("==")[0])
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").split("\n")
        if "==" in line
    }
    names = {normalized(re.split(r"[\[<>=!~ ;]", entry)[0]) for entry in wanted}
    assert names - pinned == set(), "set up a fresh environment and freeze it: CONTRIBUTING.md"


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_change_log_knows_the_version_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    version = project["project"]["version"]
    log = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    fragments = list((ROOT / "changelog.d").glob("*.md"))
    assert f"## {version}" in log or fragments, "a version without a line about it"


def test_change_log_fragments_are_of_a_known_kind() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    kinds = {kind["directory"] for kind in project["tool"]["towncrier"]["type"]}
    fragments = [p for p in (ROOT / "changelog.d").glob("*.md") if p.name != "README.md"]
    assert {p.name.split(".")[1] for p in fragments} <= kinds


def test_every_decision_has_a_number_of_its_own_and_stands_in_the_index_in_their_order() -> None:
    folder = ROOT / "docs" / "decisions"
    names = sorted(path.stem for path in folder.glob("0*.md"))
    numbers = [name.partition("-")[0] for name in names]
    assert len(set(numbers)) == len(numbers), names
    index = (folder / "index.md").read_text(encoding="utf-8")
    assert re.findall(r"^(0\d{3}-\S+)$", index, re.MULTILINE) == names
