"""Runs the blocks of a page as its reader would: writes the files, types the commands, compares.

A block of a file begins with ``# name`` (or ``# added to name``); a console block has commands
behind ``$`` and what they print below them, where ``…`` stands for anything, in a line or as lines.
A command that ends with ``&`` goes on, once it has printed what the page says.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.ports import free_port
from tests.repo.source_tree import ROOT

BLOCK = re.compile(r"^```(?P<language>[\w{}-]+)\n(?P<body>.*?)^```", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (?P<added>added to )?(?P<name>[\w-]+\.(?:py|toml|conversation))\n")
ANYTHING = "…"
READS_LOG = ("sluicegate log ", "sluicegate why ")
_WITHIN_S = 240
_READINGS_MAX = 60


class PageRunner:
    """One folder, one environment, and the processes that pages leave running."""

    def __init__(self, folder: Path, ports: dict[str, str]) -> None:
        self.folder = folder
        self.ports = ports
        #: Ports on the page, and free ones of this machine.
        self.ran: list[str] = []
        self.running: list[subprocess.Popen[str]] = []
        self.environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT / "src"),
            "PYTHONUNBUFFERED": "1",
            # For a clone in which Sluicegate was installed before the plug-in existed.
            "PYTEST_PLUGINS": "sluicegate.testing.pytest_plugin",
            "PYTEST_ADDOPTS": "-p no:cacheprovider",
            "COLUMNS": "200",
        }

    def run_page(self, path: Path) -> None:
        """Run every block of a page, in order."""
        text = path.read_text(encoding="utf-8")
        for page, here in self.ports.items():
            text = text.replace(page, here)
        for block in BLOCK.finditer(text):
            if block["language"] == "{toctree}":
                continue
            if block["language"] == "console":
                self.run_console(block["body"], path.name)
            else:
                self.write_file(block["body"], f"{path.name}: {block[0][:60]!r}")
            self.ran.append(block["language"])

    def write_file(self, body: str, where: str) -> None:
        """Write what a block is the content of."""
        found = FILE.match(body)
        assert found, f"{where}: a block names its file in its first line, or is a console"
        path = self.folder / found["name"]
        if found["added"]:
            path.write_text(path.read_text(encoding="utf-8") + body[found.end() :], "utf-8")
        else:
            path.write_text(body, encoding="utf-8")

    def run_console(self, body: str, where: str) -> None:
        """Type the commands of a block, and compare what they print."""
        for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
            command, _, expected = part.partition("\n")
            said = self.start(command[:-1]) if command.endswith("&") else self.call(command)
            if command.startswith(READS_LOG):
                # What a client's command led to is written a moment after its end.
                for _ in range(_READINGS_MAX):
                    if fits(expected, said):
                        break
                    said = self.call(command)
            if command.endswith("&"):
                assert self.waited_for(expected), f"{where}: {command!r} never said {expected!r}"
            else:
                same = fits(expected, said)
                assert same, f"{where}: {command!r} printed\n{said}\nthe page says\n{expected}"

    def call(self, command: str) -> str:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_WITHIN_S,
            check=False,
        )
        return done.stdout

    def start(self, command: str) -> str:
        self.running.append(
            subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                cwd=self.folder,
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        return ""

    def waited_for(self, expected: str) -> bool:
        """Read what the last process says until it is what the page says."""
        process = self.running[-1]
        assert process.stdout is not None
        watchdog = threading.Timer(_WITHIN_S, process.kill)
        watchdog.start()
        said = ""
        try:
            while not fits(expected, said):
                line = process.stdout.readline()
                if not line:
                    return False
                said += line
        finally:
            watchdog.cancel()
        return True

    def stop(self) -> None:
        """End what still runs."""
        for process in self.running:
            process.terminate()
        for process in self.running:
            process.communicate(timeout=_WITHIN_S)


def fits(expected: str, said: str) -> bool:
    """Tell whether a text is what a page says, with ``…`` for anything."""
    pattern = ""
    for line in expected.strip().splitlines():
        if line.strip() == ANYTHING:
            pattern += r"(?:[^\n]*\n)*"
        else:
            pattern += "[^\n]*".join(map(re.escape, line.rstrip().split(ANYTHING))) + r"[ ]*\n"
    return re.fullmatch(pattern, said.strip() + "\n" if said.strip() else "") is not None


@contextlib.contextmanager
def page_runner(folder: Path, *ports: str) -> Iterator[PageRunner]:
    """Run pages in a folder, with free ports in place of the pages' own."""
    runner = PageRunner(folder, {port: str(free_port()) for port in ports})
    try:
        yield runner
    finally:
        runner.stop()
