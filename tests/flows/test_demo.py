"""The demonstration, as people start it: one JSON object, right outcomes, nothing left behind."""

from __future__ import annotations

import importlib.util
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys

import httpx
from click.testing import CliRunner

from sluicegate.app.demo.scenario import find_clamd
from sluicegate.cli.main import cli

RELEASED, REFUSED = "released", "refused"


def demo(*arguments: str, folder: pathlib.Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sluicegate", "demo", *arguments],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env={**os.environ, "TMPDIR": str(folder)},
    )


PLAYED = [
    ("ftp clean", RELEASED, True, 64 << 20),
    ("ftp pe", REFUSED, None, 0),
    ("ftp elf", REFUSED, None, 0),
    ("ftp empty", RELEASED, True, 0),
    ("http clean", RELEASED, True, 64 << 20),
    ("http pe", REFUSED, None, 0),
    ("http eicar in zip", REFUSED, None, 0),
    ("http upload card number", REFUSED, None, 0),
    ("https inspected clean", RELEASED, True, 64 << 20),
    ("https inspected pe", REFUSED, None, 0),
    ("https spliced", RELEASED, True, 300_132),
    ("https expired", REFUSED, None, 0),
    ("https wrong host", REFUSED, None, 0),
    ("https fronted", REFUSED, None, 0),
]
LARGE = ("http 1 GiB", RELEASED, True, 1 << 30)
FIELDS = {
    "name",
    "bytes",
    "verdict",
    "reason",
    "sha256_ok",
    "bytes_to_client",
    "held_ms",
    "peak_rss_bytes",
}


def test_demo_prints_one_object_with_every_outcome_and_leaves_nothing(tmp_path, backend_name):
    ended = demo("--json", folder=tmp_path)
    assert ended.returncode == 0, ended.stderr
    report = json.loads(ended.stdout)
    assert report.keys() == {"backend", "outcomes"}
    assert report["backend"] == backend_name
    by_clamd = "http eicar in zip (clamd)"  # where the machine has one
    rows = [
        (one["name"], one["verdict"], one["sha256_ok"], one["bytes_to_client"])
        for one in report["outcomes"]
        if one["name"] != by_clamd
    ]
    assert rows == [*PLAYED, LARGE]
    assert all(one.keys() == FIELDS for one in report["outcomes"])
    # A gibibyte is held in no more memory than what came before it.
    peaks = {one["name"]: one["peak_rss_bytes"] for one in report["outcomes"]}
    assert peaks["http 1 GiB"] - peaks["http clean"] < 32 << 20
    assert list(tmp_path.iterdir()) == []


def test_demo_tells_people_what_was_held_and_shows_the_records(tmp_path):
    ended = demo("--quick", "--exit", folder=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr, "a server that is refused in its handshake is no news"
    assert "1 GiB" not in ended.stdout
    for told in (
        "ftp clean: released",
        "64.0 MiB of it written to the spool",
        "550 Refused: Windows (PE) executable",
        "the same SHA-256 as at the server",
        "malware: EICAR_Test_File in inner/test.com",
        "403 text/html; 403 application/problem+json",
        "secrets: 1 x payment card",
        " transfer ",
        " connection ",
        " request ",
        "Every outcome was right.",
    ):
        assert told in ended.stdout


def test_clamd_is_asked_only_where_one_listens(tmp_path, monkeypatch):
    path = tmp_path / "clamd.ctl"
    monkeypatch.setattr("sluicegate.app.demo.scenario.CLAMD_SOCKETS", (str(path),))
    assert not find_clamd()
    path.write_text("no socket")
    assert not find_clamd()
    path.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        assert find_clamd() == str(path)


def test_missing_server_library_is_an_error_with_its_cure(monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, *more: None if name == "pyftpdlib" else find_spec(name, *more),
    )
    ended = CliRunner().invoke(cli, ["demo"])
    assert ended.exit_code == 2
    assert "pip install 'sluicegate[demo]'" in ended.output


def test_demo_stays_with_a_link_to_its_console_until_it_is_interrupted(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "sluicegate", "demo", "--quick"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert process.stdout is not None
    with process.stdout as said:
        link = next(line for line in said if "first?token=" in line).split()[-1]
        with httpx.Client() as program:
            assert "Open the console" in program.get(link).text
        process.send_signal(signal.SIGINT)
        assert "Traceback" not in said.read()
    assert process.wait(timeout=600) == 0
    assert list(tmp_path.iterdir()) == []
