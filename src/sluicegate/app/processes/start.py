"""What every process of a gate does at its start, before it works for anybody.

``worker`` and ``audit_writer`` call it. The invariant: a process whose supervisor is gone ends,
also with its loop blocked; signals of a terminal are the supervisor's to answer.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from types import FrameType
from typing import Final

from sluicegate.process_limits import WORKER_GRACE_S

__all__ = ["follow_supervisor", "name_process"]

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NAME: Final = 15
_libc = ctypes.CDLL(None, use_errno=True)


def follow_supervisor(supervisor: int) -> None:
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
