"""A filter that tries everything, and answers its client with what came of it.

``test_privileges`` copies it beside a gate's configuration; it runs inside the gate.
"""

from __future__ import annotations

import ctypes
import json
import os
import pathlib
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

from sluicegate.filterapi import FORWARD, Rewrite, StreamFilter

libc = ctypes.CDLL(None, use_errno=True)

IS_X86 = os.uname().machine == "x86_64"
IO_URING_SETUP = 425
PTRACE = 101 if IS_X86 else 117
UNSHARE = 272 if IS_X86 else 97
PTRACE_ATTACH = 16
CLONE_NEWUSER = 0x10000000
MASKS = ("CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")

LIST_DESCRIPTORS = """
import os
for number in os.listdir("/proc/self/fd"):
    try:
        print(os.readlink(f"/proc/self/fd/{number}"))
    except FileNotFoundError:
        pass  # of the listing itself
"""


def attempt(what: Callable[[], Any]) -> Any:
    """Return what came of it, or a negative errno."""
    try:
        return what()
    except OSError as error:
        return -(error.errno or 0)


def call(number: int, *arguments: Any) -> int:
    return -ctypes.get_errno() if libc.syscall(number, *arguments) < 0 else 0


def write(path: str) -> int:
    return pathlib.Path(path).write_text("x") and 0


def socket_of(family: int, kind: int, protocol: int = 0) -> int:
    with socket.socket(family, kind, protocol):
        return 0


def low_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 1))
    return 0


def threads() -> int:
    ran: list[int] = []
    thread = threading.Thread(target=ran.append, args=(1,))
    thread.start()
    thread.join()
    return len(ran)


def child_descriptors() -> list[str]:
    """Return what is open in a program that was started carelessly."""
    command = [sys.executable, "-c", LIST_DESCRIPTORS]
    done = subprocess.run(command, capture_output=True, text=True, close_fds=False, check=True)
    return done.stdout.splitlines()


def try_everything(paths: list[str], forks: bool) -> dict[str, Any]:
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    status = dict(line.split(":\t", 1) for line in lines)
    return {
        "uid": os.getresuid(),
        "gid": os.getresgid(),
        "groups": os.getgroups(),
        "status": {name: status[name] for name in MASKS},
        "fork": attempt(os.fork) if forks else None,
        "threads": threads(),
        "packet": attempt(lambda: socket_of(socket.AF_PACKET, socket.SOCK_RAW)),
        "vsock": attempt(lambda: socket_of(socket.AF_VSOCK, socket.SOCK_STREAM)),
        "raw": attempt(lambda: socket_of(socket.AF_INET, socket.SOCK_RAW, 1)),
        "tcp": attempt(lambda: socket_of(socket.AF_INET, socket.SOCK_STREAM)),
        "ring": call(IO_URING_SETUP, 8, ctypes.create_string_buffer(120)),
        "ptrace": call(PTRACE, PTRACE_ATTACH, os.getppid(), 0, 0),
        "unshare": call(UNSHARE, CLONE_NEWUSER),
        "root": attempt(lambda: os.setuid(0)),
        "parent": attempt(lambda: os.kill(os.getppid(), 0)),
        "low_port": attempt(low_port),
        "writes": [attempt(lambda path=path: write(path)) for path in paths],
        "descriptors": child_descriptors(),
    }


class Probe(StreamFilter):
    """The client sends what to try: files to write, and whether to fork."""

    def on_data(self, side, window):
        if side != "client":
            return FORWARD
        return Rewrite(json.dumps(try_everything(**json.loads(bytes(window)))).encode() + b"\n")
