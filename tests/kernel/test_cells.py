"""Cells as real processes: what their filters can reach, how they end, and who notices."""

from __future__ import annotations

import asyncio
import os
import pathlib
import signal
import socket
import subprocess
import sys

import pytest

from sluicegate.filterapi import Refuse, Release
from sluicegate.isolation.cell import CellFailed, Phase
from sluicegate.isolation.content import IsolatedFilterError
from tests.kernel.cell_kit import FILTERS, MEMORY_BYTES_MAX, RealCell, in_loop, inspect


def test_object_is_judged_in_another_process(backend_name: str) -> None:
    async def work() -> None:
        async with RealCell("Judge") as cell:
            assert await inspect(cell, b"plain" * 100_000) == Release()
            assert await inspect(cell, b"refuse") == Refuse("says so")
            assert cell.pid != os.getpid()
            assert 0 < cell.memory_bytes() < MEMORY_BYTES_MAX
        assert cell.pid == 0
        assert cell.failures == []

    in_loop(work, backend_name)


def test_filter_in_a_cell_reaches_nothing_but_its_object(
    backend_name: str, tmp_path: pathlib.Path
) -> None:
    """R4: neither the gate's files and memory nor the network nor other processes."""
    secret = tmp_path / "policy.toml"
    secret.write_text("secret")
    gate = os.getpid()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "control.sock"))
    listener.listen()
    refused = [
        f"read {secret}",
        f"list {tmp_path}",
        f"create {tmp_path}/new",
        "create /dev/shm/new",
        "create /tmp/new",
        "read /etc/passwd",
        "list /",
        "read /etc/hostname",
        f"read /proc/{gate}/environ",
        f"memory {gate}",
        "memory self",
        "write-object",
        "map-object",
        "truncate-object",
        f"signal {gate}",
        "signal 0",
        "signal -1",
        f"limit {gate}",
        f"renice {gate}",
        "fork",
        "run /bin/true",
        "tcp",
        f"unix {tmp_path}/control.sock",
        "memfd",
    ]

    async def work() -> dict[str, str]:
        async with RealCell("Nosy", secret=(str(tmp_path),)) as cell:
            answers = [await inspect(cell, one.encode()) for one in refused]
            assert cell.failures == []
            return {one: answer.reason for one, answer in zip(refused, answers, strict=True)}

    with listener:
        answers = in_loop(work, backend_name)
    reached = {one: answer for one, answer in answers.items() if answer.startswith("done")}
    assert reached == {}
    assert not list(tmp_path.glob("new"))


def test_filter_in_a_cell_has_threads_and_little_else(backend_name: str) -> None:
    async def work() -> None:
        async with RealCell("Nosy") as cell:
            assert (await inspect(cell, b"thread")).reason == "done: [1]"
            environment = (await inspect(cell, b"environment")).reason
            assert environment == "done: ['LANG', 'MALLOC_ARENA_MAX', 'PATH']"
            inside = (await inspect(cell, b"descriptors")).reason
            # Standard streams, the wire, the loop's own, and the object, twice.
            assert len(inside.split(",")) <= 12, inside

    in_loop(work, backend_name)


def test_folder_above_the_gates_files_is_not_readable_even_if_code_is_there(
    backend_name: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    state = tmp_path / "state"
    state.mkdir()
    (tmp_path / "policy.toml").write_text("secret")

    async def work(*secret: str) -> str:
        async with RealCell("Nosy", secret=secret) as cell:
            return (await inspect(cell, f"read {tmp_path}/policy.toml".encode())).reason

    assert in_loop(work, backend_name) == "done: b'secret'"
    assert "Permission denied" in in_loop(lambda: work(str(state)), backend_name)


@pytest.mark.parametrize(
    ("order", "cause"),
    [
        ("die", "was killed by SIGKILL"),
        ("crash", "was killed by SIGSEGV"),
        ("exit", "ended with status 3"),
        ("hang", "did not react for 0.5 s (isolated_hang_s)"),
    ],
)
def test_cell_that_fails_in_the_middle_of_an_object_is_replaced(
    backend_name: str, order: str, cause: str
) -> None:
    """R8, N11: whoever waits is told; the next object is judged by the next process."""

    async def work() -> None:
        async with RealCell("Misbehaving", isolated_hang_s=0.5) as cell:
            await cell.wait_ready()
            first = cell.pid
            waiting = asyncio.ensure_future(inspect(cell, b"wait"))
            with pytest.raises(CellFailed, match="its process") as failure:
                await inspect(cell, order.encode())
            assert cause in str(failure.value)
            with pytest.raises(CellFailed):
                await waiting
            assert await inspect(cell) == Release()
            assert cell.pid != first
            assert cell.restarts == 1
            assert len(cell.failures) == 1
            assert cause in cell.failures[0]

    in_loop(work, backend_name)


def test_filter_that_wants_more_memory_than_there_is_fails_alone(backend_name: str) -> None:
    async def work() -> None:
        async with RealCell("Misbehaving") as cell:
            with pytest.raises(IsolatedFilterError, match="MemoryError"):
                await inspect(cell, b"allocate")
            assert await inspect(cell) == Release()
            assert cell.failures == []

    in_loop(work, backend_name)


def test_filter_that_cannot_be_loaded_fails_with_its_reason(backend_name: str) -> None:
    async def work() -> None:
        async with RealCell("Nobody") as cell:
            with pytest.raises(CellFailed, match="has no 'Nobody'"):
                await asyncio.wait_for(_until_failed(cell), 60)
            assert cell.phase is Phase.WAITING

    in_loop(work, backend_name)


async def _until_failed(cell: RealCell) -> None:
    await cell.failed.wait()
    cell._delay_s = 60
    await cell.wait_ready()


_GATE = f"""
import asyncio, os, sys
sys.path.insert(0, {str(FILTERS.parents[2])!r})
from tests.kernel.cell_kit import RealCell, in_loop

async def work():
    async with RealCell("Judge") as cell:
        await cell.wait_ready()
        print(cell.pid, flush=True)
        await asyncio.Event().wait()

in_loop(work, "epoll")
"""


def test_cell_never_outlives_its_gate() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _GATE], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    ) as gate:
        assert gate.stdout is not None
        pid = int(gate.stdout.readline())
        end = os.pidfd_open(pid)
        gate.send_signal(signal.SIGKILL)
        gate.wait()
    try:
        asyncio.run(_wait_readable(end))
    finally:
        os.close(end)


async def _wait_readable(descriptor: int) -> None:
    over = asyncio.Event()
    asyncio.get_running_loop().add_reader(descriptor, over.set)
    await asyncio.wait_for(over.wait(), 60)
