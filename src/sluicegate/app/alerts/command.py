"""Runs a program for an alert: facts in its environment and as JSON on its input.

It inherits what the process that raises alerts has given up: it is nobody's child that may more.
The invariant: no text of a client is an argument, no shell reads anything, and a program that does
not end in time is killed with all that it has started.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import Final

from sluicegate.alert_limits import ALERT_OUTPUT_BYTES_MAX
from sluicegate.audit.alerts.action import CommandSettings

from .fault import ActionFailed
from .notice import Notice, clean_line

__all__ = ["run_command"]

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_READ_BYTES: Final = 65_536


async def run_command(settings: CommandSettings, notice: Notice) -> None:
    """Run it to its end.

    Raises:
        ActionFailed: It cannot be started, is late, or its exit code is not 0.
    """
    environment = {"PATH": _PATH, "LANG": "C.UTF-8", **notice.to_environment()}
    try:
        process = await asyncio.create_subprocess_exec(
            *settings.run,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        cause = f"{settings.run[0]} cannot be started: {error.strerror}"
        raise ActionFailed(cause) from error
    try:
        async with asyncio.timeout(settings.timeout_s):
            told = await _talk(process, notice.to_json() + b"\n")
            status = await process.wait()
    except TimeoutError:
        cause = f"{settings.run[0]} did not end within {settings.timeout_s:g} s"
        raise ActionFailed(cause) from None
    finally:
        await _end(process)
    if status:
        how = f"status {status}" if status > 0 else f"signal {-status}"
        words = clean_line(" ".join(told.decode("utf-8", "replace").split()))
        raise ActionFailed(f"{settings.run[0]} ended with {how}" + (f": {words}" if words else ""))


async def _talk(process: asyncio.subprocess.Process, text: bytes) -> bytes:
    """Give it its input, and return the first bytes of what it says went wrong."""
    assert process.stdin is not None, "it has a pipe"
    assert process.stderr is not None, "it has a pipe"
    with contextlib.suppress(ConnectionError):  # it need not read what it is told
        process.stdin.write(text)
        process.stdin.close()
        await process.stdin.wait_closed()
    kept = b""
    while block := await process.stderr.read(_READ_BYTES):
        kept = (kept + block)[:ALERT_OUTPUT_BYTES_MAX]
    return kept


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill what is left of it; its group is its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
