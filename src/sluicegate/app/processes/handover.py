"""Handover: what one version of the supervisor leaves to the next, in the same process.

``supervisor`` writes one and starts the other program in its own place (``execve``), so the process
keeps its number, its children and its descriptors; the other program finds the handover by a
variable of its environment. The invariant: who reads one is of the same ``PROTOCOL`` (``preflight``
has asked before), and every descriptor that is named here is open there.
"""

from __future__ import annotations

import asyncio
import os
import pathlib
import signal
import sys
from collections.abc import Sequence
from typing import Final

import msgspec

from sluicegate.app.authority_config import AuthoritySettings, TokenSettings
from sluicegate.app.authority_files import OpenAuthority
from sluicegate.process_limits import PREFLIGHT_TIMEOUT_S
from sluicegate.version import VERSION

from .orders import PROTOCOL

__all__ = [
    "AuthorityLeft",
    "ChildLeft",
    "DoorLeft",
    "Handover",
    "PreflightFailed",
    "WorkerLeft",
    "preflight",
    "say_preflight",
    "start_program",
    "take_handover",
    "take_signals",
]

VARIABLE: Final = "SLUICEGATE_HANDOVER"
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_PASSED: Final = "sluicegate-preflight"


class DoorLeft(msgspec.Struct, frozen=True):
    """One address that is listened on."""

    address: str
    descriptors: list[int]
    """By slot."""


class ChildLeft(msgspec.Struct, frozen=True):
    """One process, and the channel to it."""

    pid: int
    channel: int
    unread: bytes
    """What it has said and was not whole yet."""
    started: float
    version: str


class WorkerLeft(msgspec.Struct, frozen=True):
    """One worker."""

    slot: int
    row: int
    number: int
    child: ChildLeft
    policy: str
    is_draining: bool


class AuthorityLeft(msgspec.Struct, frozen=True):
    """``OpenAuthority``, whose files the next version may not be able to open."""

    chain: str
    untrusted: str
    key: int
    untrusted_key: int
    folder: str
    token: str
    module: str
    pin: str

    @classmethod
    def of(cls, opened: OpenAuthority) -> AuthorityLeft:
        """Describe what is open."""
        token = opened.settings.token
        return cls(
            opened.chain,
            opened.untrusted,
            opened.key,
            opened.untrusted_key,
            os.fspath(opened.settings.folder),
            token.uri if token else "",
            token.module if token else "",
            opened.pin,
        )

    def open(self) -> OpenAuthority:
        """Return it as the version before had it."""
        token = TokenSettings(self.token, self.module, None) if self.token else None
        settings = AuthoritySettings(pathlib.Path(self.folder), token)
        return OpenAuthority(
            self.chain, self.untrusted, self.key, self.untrusted_key, settings, self.pin
        )


class Handover(msgspec.Struct, frozen=True, kw_only=True):
    """All of it."""

    lock: int
    control: int
    tallies: int
    census: int
    journal: int
    log: int
    slots: int
    seed: int
    unsteered: str
    doors: list[DoorLeft]
    audit: ChildLeft
    workers: list[WorkerLeft]
    next_number: int
    drain_timeout_s: float
    """How long the old workers may drain."""
    signer: ChildLeft | None = None
    authority: AuthorityLeft | None = None
    """Who signs leaves; both, or none."""

    def descriptors(self) -> list[int]:
        """Return every descriptor that must stay open."""
        return [
            self.lock,
            self.control,
            self.tallies,
            self.census,
            self.journal,
            self.log,
            self.audit.channel,
            *(worker.child.channel for worker in self.workers),
            *(one for door in self.doors for one in door.descriptors),
            *([self.signer.channel] if self.signer else ()),
            *self._keys(),
        ]

    def _keys(self) -> list[int]:
        authority = self.authority
        if authority is None:
            return []
        return [one for one in (authority.key, authority.untrusted_key) if one >= 0]


class PreflightFailed(Exception):
    """The other program cannot take over: ``causes`` says why."""

    def __init__(self, causes: list[str]) -> None:
        super().__init__("; ".join(causes))
        self.causes = causes


def say_preflight() -> None:
    """Tell a supervisor that asks, by what it reads from us, that this program could take over."""
    sys.stdout.write(f"{_PASSED} {PROTOCOL} {VERSION}\n")


async def preflight(program: Sequence[str], path: str) -> str:
    """Let the other program read the files, and return its version.

    Raises:
        PreflightFailed: It cannot be started, it refuses the files, or it speaks otherwise.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *program,
            "run",
            "--config",
            path,
            "--preflight",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        raise PreflightFailed([f"{program[0]} cannot be started: {error.strerror}"]) from error
    try:
        async with asyncio.timeout(PREFLIGHT_TIMEOUT_S):
            output, errors = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise PreflightFailed([f"no answer within {PREFLIGHT_TIMEOUT_S:g} s"]) from None
    words = output.decode(errors="replace").split()
    if process.returncode or len(words) != len([_PASSED, PROTOCOL, VERSION]) or words[0] != _PASSED:
        causes = errors.decode(errors="replace").splitlines()
        raise PreflightFailed(causes or ["it is no version that can take over"])
    if words[1] != str(PROTOCOL):
        raise PreflightFailed(
            [f"version {words[2]} cannot work with the processes of {VERSION}: start it again"]
        )
    return words[2]


def start_program(program: Sequence[str], arguments: Sequence[str], left: Handover) -> None:
    """Become the other program; returns only if that fails.

    Raises:
        OSError: It cannot be started; everything is as it was.
    """
    text = msgspec.msgpack.encode(left)
    memory = os.memfd_create("sluicegate-handover", 0)
    try:
        os.write(memory, text)
        for descriptor in left.descriptors():
            os.set_inheritable(descriptor, True)
        # None of them may find a program that has not got to its handlers yet.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        environment = os.environ | {VARIABLE: str(memory)}
        os.execve(program[0], [*program, *arguments], environment)  # noqa: S606 - no shell wanted
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        for descriptor in left.descriptors():
            os.set_inheritable(descriptor, False)
        os.close(memory)


def take_handover() -> Handover | None:
    """Return what the program before left in this process; None when there was none."""
    variable = os.environ.pop(VARIABLE, "")
    if not variable:
        return None
    memory = int(variable)
    text = os.pread(memory, os.fstat(memory).st_size, 0)
    os.close(memory)
    left = msgspec.msgpack.decode(text, type=Handover)
    for descriptor in left.descriptors():
        os.set_inheritable(descriptor, False)
    return left


def take_signals() -> None:
    """Let signals in that have waited since before this program began: there are handlers now."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
