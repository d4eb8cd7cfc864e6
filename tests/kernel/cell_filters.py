"""Filters for cells in real processes: one that tries everything, and some that misbehave."""

from __future__ import annotations

import asyncio
import ctypes
import mmap
import os
import pathlib
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from sluicegate.filterapi import (
    DROP,
    FORWARD,
    Connection,
    ConnectionFilter,
    ConnectRequested,
    ContentFilter,
    ContentVerdict,
    DatagramFilter,
    DatagramVerdict,
    Deny,
    Direction,
    Event,
    Events,
    EventVerdict,
    Filter,
    Firewall,
    Pass,
    Refuse,
    Release,
    Rewrite,
    Session,
    SessionFilter,
    Side,
    SocketAddress,
    StreamFilter,
    StreamVerdict,
    Transfer,
    TransferOffer,
    Window,
)


class Judge(ContentFilter):
    """Refuses what says so."""

    name = "judge"

    async def inspect(self, transfer: Transfer) -> ContentVerdict:
        async with transfer.open() as file:
            body = await file.read()
        if b"note" in body:
            transfer.connection.note(self, "seen", {"size": len(body)})
        return Refuse("says so") if b"refuse" in body else Release()


class Misbehaving(ContentFilter):
    """Does what the object says."""

    name = "misbehaving"

    async def inspect(self, transfer: Transfer) -> ContentVerdict:
        async with transfer.open() as file:
            order = (await file.read()).decode()
        match order:
            case "hang":
                while True:
                    time.sleep(60)
            case "wait":
                await asyncio.Event().wait()
            case "crash":
                ctypes.string_at(0)
            case "exit":
                os._exit(3)
            case "allocate":
                return Refuse(str(len(bytearray(10 << 30))))
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
        return Release()


class Nosy(ContentFilter):
    """Tries what the object names, and answers what came of it."""

    name = "nosy"

    async def inspect(self, transfer: Transfer) -> ContentVerdict:
        async with transfer.open() as file:
            attempt, _, argument = (await file.read()).decode().partition(" ")
            opened = file.blocking_file()
        try:
            with opened:
                found = _ATTEMPTS[attempt](argument, opened)
        except (OSError, ValueError, RuntimeError) as error:
            return Refuse(f"{type(error).__name__}: {error}")
        return Refuse(f"done: {found!r}")


def _memory_of(process: str, _: Any) -> object:
    with open(f"/proc/{process}/mem", "rb") as file:
        return file.read(1)


def _write_object(_: str, opened: Any) -> object:
    descriptor = os.open(f"/proc/self/fd/{opened.fileno()}", os.O_RDWR)
    return os.write(descriptor, b"changed")


def _map_object(_: str, opened: Any) -> object:
    return mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ | mmap.PROT_WRITE)


def _fork(_: str, __: Any) -> object:
    child = os.fork()
    if not child:
        os._exit(0)
    return child


def _thread(_: str, __: Any) -> object:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(1))
    thread.start()
    thread.join()
    return found


def _connect(path: str, _: Any) -> object:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
    return None


def _memfd(_: str, __: Any) -> object:
    return os.memfd_create("more memory")


_ATTEMPTS: dict[str, Callable[[str, Any], object]] = {
    "read": lambda path, _: pathlib.Path(path).read_bytes(),
    "list": lambda path, _: os.listdir(path),
    "create": lambda path, _: pathlib.Path(path).write_bytes(b""),
    "memory": _memory_of,
    "write-object": _write_object,
    "map-object": _map_object,
    "truncate-object": lambda _, opened: os.ftruncate(opened.fileno(), 0),
    "descriptors": lambda _, __: sorted(number for number in range(256) if _is_open(number)),
    "environment": lambda _, __: sorted(os.environ),
    "signal": lambda process, _: os.kill(int(process), 0),
    "limit": lambda process, _: resource.prlimit(int(process), resource.RLIMIT_NOFILE, (1, 1)),
    "renice": lambda process, _: os.setpriority(os.PRIO_PROCESS, int(process), 19),
    "fork": _fork,
    "run": lambda path, _: subprocess.run([path], check=False),
    "tcp": lambda _, __: socket.create_connection(("127.0.0.1", 9), 1),
    "unix": _connect,
    "memfd": _memfd,
    "thread": _thread,
    "modules": lambda _, __: [one for one in sys.path if one == "/"],
}


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


class Demanding(Judge):
    """Runs nowhere but in a process of its own."""

    isolation = "process"


class Upper(StreamFilter):
    """What the server says, in capitals; ``die`` ends its process."""

    name = "upper"

    def on_data(self, side: Side, window: Window) -> StreamVerdict:
        data = bytes(window)
        if data == b"die":
            os.kill(os.getpid(), signal.SIGKILL)
        return Rewrite(data.upper()) if side is Side.SERVER else FORWARD


class Doorkeeper(ConnectionFilter[None]):
    """Denies whom its rule names, and counts for the rest."""

    name = "doorkeeper"

    class RuleSettings(BaseModel):
        denies: str = ""

    def __init__(self) -> None:
        super().__init__(None)

    def make(self, connection: Connection, settings: Any) -> Deny | StreamFilter:
        if settings.denies == connection.client_address.host:
            return Deny("not this one")
        self.firewall.note(self.name, "let in", {"limit": self.firewall.limits.connections_max})
        return Upper()

    def stop(self) -> None:
        self.firewall.note(self.name, "stopped", {})


class EachStream(Filter):
    """A protocol filter for the simplest protocol: what the server sends is one object."""

    name = "objects"

    def start(self, firewall: Firewall) -> Events:
        return Events.of(ConnectRequested)

    def attach(self, session: Session) -> SessionFilter:
        return _HoldEach(session)


class _HoldEach(SessionFilter):
    def on_event(self, event: Event) -> EventVerdict:
        offer = TransferOffer("stream", Direction.DOWNLOAD, "stream")
        held = self.session.hold_transfer(event.connection, offer)
        event.attach_data_filter(held.factory(event.connection))
        return Pass()


class Datagrams(DatagramFilter):
    """Puts a mark on each datagram, or drops it, or ends the process."""

    name = "datagrams"

    def on_datagram(self, side: Side, peer: SocketAddress, window: Window) -> DatagramVerdict:
        data = bytes(window)
        if data == b"die":
            os.kill(os.getpid(), signal.SIGSEGV)
        return DROP if data == b"drop" else Rewrite(data + b"!") if side is Side.CLIENT else FORWARD
