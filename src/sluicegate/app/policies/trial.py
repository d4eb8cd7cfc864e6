"""Trial: a policy that is not in force decides the records of the store again, in its own process.

``desk`` runs one at a time. The invariant: it costs the gate no turn of its loop, ends in bounded
time, and leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Final

import msgspec

from sluicegate.errors import ConfigError
from sluicegate.gate.policy_orders import PolicyFile
from sluicegate.policy_limits import POLICY_TRIAL_GRACE_S, POLICY_TRIAL_S
from sluicegate.process_limits import CONTROL_REPLY_BYTES_MAX

from .policy_texts import texts_from

__all__ = ["Trial"]

_SAID_MAX: Final = 1000


class Trial:
    """Runs trials for one gate."""

    def __init__(
        self,
        program: Sequence[str] = (sys.executable, "-m", "sluicegate"),
        *,
        seconds_max: float = POLICY_TRIAL_S,
        grace_s: float = POLICY_TRIAL_GRACE_S,
    ) -> None:
        """Have none running.

        Args:
            program: The command line of Sluicegate.
            seconds_max: Of deciding.
            grace_s: Of reading the files, beside it.
        """
        self._program = tuple(program)
        self._seconds_max = seconds_max
        self._grace_s = grace_s
        self._is_running = False

    async def run(self, config: pathlib.Path, files: Sequence[PolicyFile], since_s: int) -> str:
        """Return what came of it, in the words of ``sluicegate simulate --json``.

        Args:
            config: Path of ``sluicegate.toml``.
            files: Of the policy, those that are other than on disk.
            since_s: How far back the records go.

        Raises:
            ConfigError: It could not be done, or another one runs.
        """
        if self._is_running:
            raise ConfigError("the trial", "another one is running", "try again in a moment")
        self._is_running = True
        try:
            return await self._run(config, msgspec.json.encode(texts_from(files)), since_s)
        except OSError as error:
            raise ConfigError("the trial", f"cannot be run: {error.strerror}") from error
        finally:
            self._is_running = False

    async def _run(self, config: pathlib.Path, proposed: bytes, since_s: int) -> str:
        process = await asyncio.create_subprocess_exec(
            *self._program, "simulate", "--config", os.fspath(config), "--proposed", "-",
            "--since", f"{max(since_s, 1)}s", "--seconds-max", f"{self._seconds_max:g}", "--json",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            async with asyncio.timeout(self._seconds_max + self._grace_s):
                output, errors = await process.communicate(proposed)
        except TimeoutError:
            raise ConfigError("the trial", "it took too long", "ask for less of the past") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode or len(output) > CONTROL_REPLY_BYTES_MAX // 2:
            said = errors.decode("utf-8", "replace").strip()[-_SAID_MAX:]
            raise ConfigError("the trial", said or "it failed without a word")
        return output.decode("utf-8")
