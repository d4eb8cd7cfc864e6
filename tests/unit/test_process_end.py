"""The end of a process: no thread keeps it, nothing that it began is left, and a fault shows."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_LIFE = """
import asyncio, threading
from sluicegate.app.processes.start import live_and_end

begun = threading.Event()

def wait_for_ever():
    begun.set()
    threading.Event().wait()

async def program():
    try:
        await asyncio.Event().wait()
    finally:
        print("killed", flush=True)

async def live():
    waiting = asyncio.create_task(asyncio.to_thread(wait_for_ever))
    running = asyncio.create_task(program())
    while not begun.is_set():
        await asyncio.sleep(0)
    {fault}

live_and_end(live())
"""


@pytest.mark.parametrize(
    ("fault", "status", "said"),
    [("pass", 0, ""), ("raise ValueError('a fault')", 1, "ValueError: a fault")],
    ids=["done", "fault"],
)
def test_process_ends_whatever_its_threads_wait_for(fault: str, status: int, said: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _LIFE.format(fault=fault)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (status, "killed\n")
    assert ended.stderr.strip().endswith(said)


_PROGRAM = """
import atexit, threading
from sluicegate import collector

class Kept:
    def __del__(self):
        print("freed")

kept = Kept()
atexit.register(print, "left there")
{more}
collector.end({status})
print("goes on")
"""


def run_program(more: str, status: int = 0, to: int = subprocess.PIPE) -> tuple[int, list[str]]:
    """Return how a program ends, and what it has said."""
    environment = {name: os.environ[name] for name in os.environ if name != "PYTHONUNBUFFERED"}
    ended = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(more=more, status=status)],
        stdout=to,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
        timeout=120,
        check=False,
    )
    return ended.returncode, (ended.stdout or "").splitlines()


@pytest.mark.parametrize("status", [0, 2])
def test_end_does_what_was_left_for_it_and_frees_nothing(status: int) -> None:
    assert run_program("print('said')", status) == (status, ["said", "left there"])


def test_end_waits_for_a_thread_that_works() -> None:
    work = "threading.main_thread().join(), print('worked')"
    started = f"threading.Thread(target=lambda: ({work})).start()"
    assert run_program(started) == (0, ["goes on", "worked", "left there", "freed"])


def test_end_after_what_cannot_be_written_is_no_success() -> None:
    with open("/dev/full", "w") as full:
        status, _ = run_program("print('said')", to=full.fileno())
    assert status != 0
