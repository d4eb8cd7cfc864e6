"""What the console's process may write: the queries that people save, and no user, ever."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import pytest

from sluicegate.console.accounts import users_file
from sluicegate.console.saved_queries import queries_folder

PROGRAM = """
import json, pathlib, sys
from sluicegate.app.processes.console import confine

folder = pathlib.Path(sys.argv[1])
confine(folder, has_sandbox=True)
tried = {}
for path in map(pathlib.Path, sys.argv[2:]):
    try:
        path.write_text("mine")
        tried[str(path)] = "written"
    except OSError as error:
        tried[str(path)] = type(error).__name__
tried["read"] = (folder / "users.toml").read_text()
print(json.dumps(tried))
"""


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    made = tmp_path / "console"
    made.mkdir(mode=0o700)
    users_file(made).write_text("# users\n")
    return made


def test_console_writes_queries_and_reads_its_users(
    folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    query = queries_folder(folder) / "queries.new"
    others = [users_file(folder), folder / "tokens.json", folder / "users.new", tmp_path / "other"]
    # Everything of this test is below the temporary folder, in which every process may write.
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    tried = json.loads(
        subprocess.run(
            [sys.executable, "-c", PROGRAM, *map(str, (folder, query, *others))],
            check=True,
            capture_output=True,
            text=True,
            env=os.environ | {"TMPDIR": str(temporary)},
        ).stdout
    )
    assert tried.pop("read") == "# users\n"
    assert tried.pop(str(query)) == "written"
    assert tried == dict.fromkeys(map(str, others), "PermissionError")
