"""The end of a process: no thread keeps it, nothing that it began is left, and a fault shows."""

from __future__ import annotations

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
