"""The completion port: sockets, files, timers and tasks complete on one queue.

Usable on its own: ``run`` is the door, ``CompletionPort`` the queue. This file only re-exports.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluicegate.front import front

if TYPE_CHECKING:
    from .datagram import DatagramSocket
    from .diagnosis import BackendUnavailable, Diagnosis, choose_backend, diagnose
    from .handle import Handle
    from .listener import AcceptCompletion, Accepted, Listener
    from .loop import PortEventLoop, current_port, run
    from .overlapped import ExternalIoCompletion, Overlapped
    from .pending import SocketCompletion
    from .port import CompletionPort, PortStatistics, TaskCompletion
    from .scope import FailureScope
    from .stream import StreamSocket
    from .timers import Timer
    from .workers import heavy_blocking
else:
    __getattr__ = front(
        __name__,
        datagram=("DatagramSocket",),
        diagnosis=("BackendUnavailable", "Diagnosis", "choose_backend", "diagnose"),
        handle=("Handle",),
        listener=("AcceptCompletion", "Accepted", "Listener"),
        loop=("PortEventLoop", "current_port", "run"),
        overlapped=("ExternalIoCompletion", "Overlapped"),
        pending=("SocketCompletion",),
        port=("CompletionPort", "PortStatistics", "TaskCompletion"),
        scope=("FailureScope",),
        stream=("StreamSocket",),
        timers=("Timer",),
        workers=("heavy_blocking",),
    )

__all__ = [
    "AcceptCompletion",
    "Accepted",
    "BackendUnavailable",
    "CompletionPort",
    "DatagramSocket",
    "Diagnosis",
    "ExternalIoCompletion",
    "FailureScope",
    "Handle",
    "Listener",
    "Overlapped",
    "PortEventLoop",
    "PortStatistics",
    "SocketCompletion",
    "StreamSocket",
    "TaskCompletion",
    "Timer",
    "choose_backend",
    "current_port",
    "diagnose",
    "heavy_blocking",
    "run",
]
