"""The files of a policy: what is read from the disk, in which order, and what is a finding."""

from __future__ import annotations

import pathlib

from sluicegate.app.policy_files import read_policy_texts
from sluicegate.documents import Findings

MAIN = """
include = { before = ["head.d"], after = ["tail.toml", "policy.d"] }
[objects.networks]
blocked = { file = "lists/blocked.txt" }
"""


def write(folder: pathlib.Path, **files: str) -> pathlib.Path:
    for name, text in {"policy.toml": MAIN, **files}.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder / "policy.toml"


TREE = {
    "head.d/2.toml": "# 2",
    "head.d/10.toml": "# 10",
    "head.d/notes.txt": "not a policy",
    "tail.toml": "# tail",
    "policy.d/a.toml": '[objects.networks]\nx = { file = "lists/x.txt" }',
    "lists/blocked.txt": "192.0.2.0/24",
    "lists/x.txt": "10.0.0.0/8",
}


def test_folders_are_read_in_the_order_of_their_names_and_lists_with_them(
    tmp_path: pathlib.Path,
) -> None:
    findings = Findings()
    texts = read_policy_texts(write(tmp_path, **TREE), findings)
    assert findings.errors == []
    assert texts is not None
    assert [one.name for one in texts.before] == ["head.d/10.toml", "head.d/2.toml"]
    assert [one.name for one in texts.after] == ["tail.toml", "policy.d/a.toml"]
    assert texts.lists == {"lists/blocked.txt": "192.0.2.0/24", "lists/x.txt": "10.0.0.0/8"}


def test_missing_and_unreadable_files_are_findings(tmp_path: pathlib.Path) -> None:
    files = {**TREE, "lists/blocked.txt": ""}
    path = write(tmp_path, **files)
    (tmp_path / "tail.toml").unlink()
    (tmp_path / "lists/blocked.txt").unlink()
    (tmp_path / "lists/x.txt").write_bytes(b"10.0.0.0/8\n\xff")
    findings = Findings()
    assert read_policy_texts(path, findings) is None
    found = [str(error) for error in findings.errors]
    assert len(found) == 3
    assert "tail.toml: cannot be read: No such file" in found[0]
    assert "blocked.txt: cannot be read: No such file" in found[1]
    assert "x.txt:2: not UTF-8" in found[2]


def test_list_that_is_too_large_is_a_finding(tmp_path: pathlib.Path) -> None:
    path = write(tmp_path, **TREE)
    with (tmp_path / "lists/blocked.txt").open("wb") as file:
        file.truncate((64 << 20) + 1)
    findings = Findings()
    assert read_policy_texts(path, findings) is None
    assert "67108864 are the most" in str(findings.errors[0])
