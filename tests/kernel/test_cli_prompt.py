"""``sluicegate user`` on a terminal: it asks twice, and shows nothing of what is typed."""

from __future__ import annotations

import os
import pathlib
import pty
import re
import select
import subprocess
import sys

PATIENCE_S = 60
PROMPT = re.compile(rb"(?:for ann|for confirmation): ")


def converse(path: pathlib.Path, command: list[str], answers: list[bytes]) -> tuple[int, bytes]:
    """Run a command on a terminal of its own; give an answer to each question."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "sluicegate", "user", *command, "--file", str(path)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    shown = b""
    waiting = list(answers)
    asked = 0
    while True:
        ready, _, _ = select.select([ours], [], [], PATIENCE_S)
        assert ready, f"nothing more came after {shown!r}"
        try:
            part = os.read(ours, 4096)
        except OSError:  # EIO: the other end is closed
            break
        if not part:
            break
        shown += part
        while waiting and len(PROMPT.findall(shown)) > asked:
            asked += 1
            os.write(ours, waiting.pop(0) + b"\n")
    os.close(ours)
    return process.wait(PATIENCE_S), shown


def test_password_is_asked_for_twice_and_not_shown(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "users.toml"

    code, shown = converse(path, ["add", "ann"], [b"open sesame", b"open sesame"])

    assert (code, len(PROMPT.findall(shown))) == (0, 2)
    assert b"sesame" not in shown
    code, shown = converse(path, ["verify", "ann"], [b"open sesame"])
    assert code == 0
    assert b"accepted" in shown
    assert b"sesame" not in shown


def test_two_different_passwords_are_asked_for_again(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "users.toml"
    answers = [b"open sesame", b"open sesamE", b"other words", b"other words"]

    code, _ = converse(path, ["add", "ann"], answers)

    assert code == 0
    assert converse(path, ["verify", "ann"], [b"other words"])[0] == 0
