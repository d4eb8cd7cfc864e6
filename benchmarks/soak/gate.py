"""The gate of a soak: started as operators start it, asked by its control socket, killed in parts.

The invariant: a reload always changes something, and what the gate is told it has answered.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.processes import BenchmarkError
from benchmarks.soak.kind import Kind
from sluicegate.gate.control_client import GateUnreachable, ask_gate
from sluicegate.gate.control_messages import ReloadRequest, Request, StatusRequest

WORKERS = 2
FLOOD = """
[flood]
rule_udp_sessions_per_minute = 1_000_000
[[flood.exception]]
clients = ["127.0.0.0/8"]
connects_per_minute = 1_000_000
requests_per_minute = 1_000_000
connections_max = 10_000
half_open_max = 10_000
udp_sessions_max = 10_000
"""
"""Some client addresses are all the load; they are counted, and come near no bound."""
START_TIMEOUT_S = 30.0
ASK_TIMEOUT_S = 30.0


class SoakGate:
    """A supervisor, its workers and its audit writer."""

    def __init__(self, folder: Path, kinds: Sequence[Kind]) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.config = folder / "sluicegate.toml"
        self._kinds = kinds
        self._process: asyncio.subprocess.Process | None = None
        self.reloads = 0
        self.killed: list[int] = []
        #: The processes that were.

    def write(self) -> None:
        """Writes both files; every other time with one more rule and other limits."""
        odd = self.reloads % 2
        main = [
            f'[service]\nstate_dir = "{self.state}"\n[spool]\ndir = "{self.folder}/spool"\n',
            # One file, which the ledger reads whole.
            '[log]\nrotate_bytes = "64GiB"\n',
            f"[limits]\nidle_timeout_s = {60 + odd}\nudp_idle_timeout_s = 5\n",
            "web_servers_idle_s = 3\n",
        ]
        policy = [
            f'[[publish]]\nname = "nobody-{number}"\nlistener = "{self._kinds[0].name}"\n'
            'server = "127.0.0.1:9"\nclients = ["192.0.2.1"]\n'
            for number in range(odd)
        ]
        policy.append(FLOOD)
        main += [kind.main_toml() for kind in self._kinds]
        policy += [kind.policy_toml() for kind in self._kinds]
        self.config.write_text("\n".join(main))
        (self.folder / "policy.toml").write_text("\n".join(policy))

    async def start(self) -> None:
        """Starts it, and waits until it lets clients in."""
        (self.folder / "spool").mkdir(mode=0o700)
        self.write()
        with (self.folder / "output.txt").open("w") as output:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "sluicegate", "run", "-c", str(self.config),
                "--workers", str(WORKERS), stdout=output, stderr=output,
            )  # fmt: skip
        deadline = asyncio.get_running_loop().time() + START_TIMEOUT_S
        while asyncio.get_running_loop().time() < deadline:
            self.check_alive()
            with contextlib.suppress(GateUnreachable):
                rows = (await self.status())["workers"]
                if rows and all(row["state"] == "ready" for row in rows):
                    return
            await asyncio.sleep(0.1)
        raise BenchmarkError(f"the gate is not ready:\n{self.output()}")

    def check_alive(self) -> None:
        """Fails when the supervisor has ended."""
        assert self._process is not None
        if self._process.returncode is not None:
            raise BenchmarkError(f"the gate has ended:\n{self.output()}")

    def output(self) -> str:
        """What it said, the end of it."""
        return (self.folder / "output.txt").read_text()[-3000:]

    async def ask(self, request: Request) -> dict[str, Any]:
        """Asks one thing."""
        socket_path = self.state / "control.sock"
        reply = await ask_gate(socket_path, request, timeout_s=ASK_TIMEOUT_S)
        fields: dict[str, Any] = msgspec.to_builtins(reply)
        return fields

    async def status(self) -> dict[str, Any]:
        """How it is."""
        status: dict[str, Any] = (await self.ask(StatusRequest()))["status"]
        return status

    async def reload(self) -> None:
        """Changes the files and has them read."""
        self.reloads += 1
        self.write()
        reply = await self.ask(ReloadRequest())
        if reply.get("errors") or reply.get("causes"):
            raise BenchmarkError(f"the reload was refused: {reply}")

    async def kill_worker(self, number: int) -> None:
        """Kills one worker as the kernel does when memory is short."""
        for row in (await self.status())["workers"]:
            if row["name"] == f"worker {number}" and row["pid"]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(row["pid"], signal.SIGKILL)
                    self.killed.append(row["pid"])

    async def processes(self) -> dict[str, int]:
        """The process of each part by its name."""
        return processes_of(await self.status())

    async def end(self) -> int:
        """Ends it, patiently; returns its status."""
        process = self._process
        assert process is not None
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        try:
            return await asyncio.wait_for(process.wait(), 60)
        except TimeoutError:
            process.kill()
            await process.wait()
            return -9


def processes_of(status: dict[str, Any]) -> dict[str, int]:
    """The process of each part by its name, as a status says."""
    rows = {row["name"]: row["pid"] for row in status["workers"] if row["pid"]}
    return {"supervisor": status["pid"], **rows}
