"""The demonstration, as people start it: one JSON object, right outcomes, nothing left behind."""

from __future__ import annotations

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

from click.testing import CliRunner

from sluicegate.cli.main import cli

RELEASED, REFUSED = "released", "refused"


def demo(*arguments: str, folder: pathlib.Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sluicegate", "demo", *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, "TMPDIR": str(folder)},
    )


def test_demo_prints_one_object_with_every_outcome_and_leaves_nothing(tmp_path, backend_name):
    ended = demo("--json", folder=tmp_path)
    assert ended.returncode == 0, ended.stderr
    report = json.loads(ended.stdout)
    assert report.keys() == {"backend", "outcomes"}
    assert report["backend"] == backend_name
    rows = [
        (one["name"], one["verdict"], one["sha256_ok"], one["bytes_to_client"])
        for one in report["outcomes"]
    ]
    assert rows == [
        ("ftp clean", RELEASED, True, 64 << 20),
        ("ftp pe", REFUSED, None, 0),
        ("ftp elf", REFUSED, None, 0),
        ("ftp empty", RELEASED, True, 0),
    ]
    wanted = {"name", "bytes", "verdict", "reason", "sha256_ok", "bytes_to_client", "held_ms"}
    assert all(one.keys() == wanted for one in report["outcomes"])
    assert list(tmp_path.iterdir()) == []


def test_demo_tells_people_what_was_held_and_shows_the_records(tmp_path):
    ended = demo(folder=tmp_path)
    assert ended.returncode == 0, ended.stderr
    for told in (
        "ftp clean: released",
        "64.0 MiB of it written to the spool",
        "550 Refused: Windows (PE) executable",
        "the same SHA-256 as at the server",
        " transfer ",
        " connection ",
        "Every outcome was right.",
    ):
        assert told in ended.stdout


def test_missing_server_library_is_an_error_with_its_cure(monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, *more: None if name == "pyftpdlib" else find_spec(name, *more),
    )
    ended = CliRunner().invoke(cli, ["demo"])
    assert ended.exit_code == 2
    assert "pip install 'sluicegate[demo]'" in ended.output
