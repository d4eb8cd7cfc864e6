"""What every process of a gate does at its start, before it works for anybody.

The ``main`` of each calls it. The invariant: a process whose supervisor is gone ends, also with its
loop blocked; signals of a terminal are the supervisor's to answer.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
import sys
import traceback
from collections.abc import Coroutine
from types import FrameType
from typing import Final, Generic, NamedTuple, NoReturn, TypeAlias, TypeVar

from sluicegate import collector
from sluicegate.app.early import load_early
from sluicegate.process_limits import WORKER_GRACE_S

from .channel import ChannelBroken, FrameReader, receive_first
from .orders import Message

__all__ = ["Arrived", "arrive", "live_and_end", "name_process"]

BeginT = TypeVar("BeginT", bound=Message)
_Socket: TypeAlias = socket.socket  # noqa: TID251 - it carries orders, not traffic

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NAME: Final = 15
_libc = ctypes.CDLL(None, use_errno=True)


class Arrived(NamedTuple, Generic[BeginT]):
    """What a process has when it begins."""

    supervisor: int
    """The process that started it."""
    connected: _Socket
    """To the supervisor."""
    begin: BeginT
    """What it is told first."""
    descriptors: list[int]
    """What it is given with that."""
    reader: FrameReader
    """What was read of the channel already."""


def arrive(
    channel: int, kind: type[BeginT], name: str = "", *, ends_by_signal: bool = False
) -> Arrived[BeginT] | None:
    """Take the place that the supervisor has for a process; None: the supervisor is gone.

    Args:
        channel: Descriptor of the socket to the supervisor.
        kind: What it says first.
        name: What ``ps`` shows; empty: it is named later.
        ends_by_signal: Whether SIGTERM has a meaning for it; else it ends by its channel alone.
    """
    load_early()
    collector.resume()
    if not ends_by_signal:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    supervisor = os.getppid()
    _follow_supervisor(supervisor)
    if name:
        name_process(name)
    connected = _Socket(fileno=channel)
    connected.set_inheritable(False)
    try:
        (begin, descriptors), reader = receive_first(connected)
    except ChannelBroken:
        return None
    assert isinstance(begin, kind), "it is the first that the supervisor says"
    return Arrived(supervisor, connected, begin, descriptors, reader)


def live_and_end(life: Coroutine[object, object, None]) -> NoReturn:
    """Live a life, cancel what it has left, and end the process, whatever its threads wait for.

    ``asyncio.run`` alone waits for them, also after a fault: the other side of a socket would say
    when the process ends.
    """
    asyncio.run(_live(life))
    raise AssertionError("it has ended")


async def _live(life: Coroutine[object, object, None]) -> None:
    status = 1
    try:
        await life
        status = 0
    except Exception:  # noqa: BLE001 - shown as the interpreter would; the process ends by it
        traceback.print_exc()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=WORKER_GRACE_S)
    os._exit(status)


def _follow_supervisor(supervisor: int) -> None:
    """Leave signals to the supervisor, and end soon after it.

    The end of its channel is what a process usually sees first, and then it ends in order; the
    kernel's signal is for one that does not get to look.
    """
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGUSR2, _on_supervisor_gone)
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGUSR2, 0, 0, 0)
    if os.getppid() != supervisor:
        sys.exit(1)  # it was gone before we asked to be told


def name_process(name: str) -> None:
    """Set what ``ps -o comm`` and ``top`` show; the kernel keeps 15 bytes."""
    _libc.prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


def _on_supervisor_gone(_number: int, _frame: FrameType | None) -> None:
    # SIGALRM has its default action: the kernel ends the process.
    signal.setitimer(signal.ITIMER_REAL, WORKER_GRACE_S)
