"""The completion port: sockets, files, timers and tasks complete on one queue.

Usable on its own: ``run`` is the door, ``CompletionPort`` the queue. This file only re-exports.
"""

from .handle import Handle
from .listener import AcceptCompletion, Accepted, Listener
from .overlapped import ExternalIoCompletion, Overlapped
from .port import CompletionPort, PortStatistics, TaskCompletion
from .scope import FailureScope
from .pending import SocketCompletion
from .stream import StreamSocket
from .timers import Timer
from .workers import heavy_blocking

__all__ = [
    "AcceptCompletion",
    "Accepted",
    "CompletionPort",
    "ExternalIoCompletion",
    "FailureScope",
    "Handle",
    "Listener",
    "Overlapped",
    "PortStatistics",
    "SocketCompletion",
    "StreamSocket",
    "TaskCompletion",
    "Timer",
    "heavy_blocking",
]
