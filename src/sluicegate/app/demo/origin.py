"""The servers of the demonstration, each a process of its own, started and ended from here.

``live`` runs its gate in front of them. The invariant: a server lives no longer than the
demonstration, also when that is killed: it ends with its standard input.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import sys
import threading
from collections.abc import AsyncGenerator
from typing import Final

from sluicegate.address import SocketAddress
from sluicegate.errors import ConfigError

__all__ = ["end_with_input", "run_origin"]

STARTING_S_MAX: Final = 60.0


@contextlib.asynccontextmanager
async def run_origin(
    protocol: str, folder: pathlib.Path, *more: str
) -> AsyncGenerator[SocketAddress]:
    """Run the server of a protocol (``ftp``, ``web``) over a folder; yield where it listens.

    Raises:
        ConfigError: It did not start.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"sluicegate.app.demo.{protocol}_origin", str(folder), *more,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(STARTING_S_MAX):
            line = await process.stdout.readline()
        if not line.strip().isdigit():
            raise ConfigError(
                "sluicegate demo", f"the {protocol} server did not start", "see its message above"
            )
        yield SocketAddress("127.0.0.1", int(line))
    finally:
        process.stdin.close()
        await process.wait()


def end_with_input() -> None:
    """Let this process, a server, end when its standard input does."""
    threading.Thread(target=_end_with_input, daemon=True).start()


def _end_with_input() -> None:
    sys.stdin.buffer.read()
    # The process has nothing to save, and its loop has no way to be told from a thread.
    os._exit(0)
