"""The family of errors: one screen, each with what its log record needs.

Every layer raises these for errors of the world; verdicts are values (``verdict.py``), bugs are
asserts. The invariant: each error carries facts, and the prose is made where it is shown.
"""

from __future__ import annotations

import enum
import errno as errno_names
import os
from typing import Final

from typing_extensions import override

__all__ = [
    "FILTER_ERRORS",
    "BadContext",
    "ConfigError",
    "DirectoryFailed",
    "FilterFailed",
    "LimitExceeded",
    "OperationPending",
    "OverlappedBusy",
    "ProtocolError",
    "Side",
    "SluicegateError",
    "TransportError",
    "WindowExpired",
    "WrongThread",
    "errno_name",
    "win32_error",
]


FILTER_ERRORS: Final = (Exception, SystemExit)
"""What the code of others may raise where the gate calls it: one filter's ``sys.exit()`` must end
its connection, not the gate. (``KeyboardInterrupt`` is the operator's.)"""


class Side(enum.StrEnum):
    """Which end of a connection something concerns."""

    CLIENT = "client"
    SERVER = "server"
    INTERNAL = "internal"


class SluicegateError(Exception):
    """Root of everything this package raises on purpose."""


class TransportError(SluicegateError):
    """The network or a file failed: ``error`` is an errno."""

    def __init__(self, error: int, side: Side = Side.INTERNAL, doing: str = "") -> None:
        super().__init__(error, side, doing)
        self.error = error
        self.side = side
        self.doing = doing

    @override
    def __str__(self) -> str:
        """Name the operation, the side and the errno."""
        what = f"{self.doing}: " if self.doing else ""
        return f"{what}{os.strerror(self.error)} ({errno_name(self.error)}, {self.side} side)"


class ProtocolError(SluicegateError):
    """A peer broke its protocol: ``hint`` says how, ``side`` who."""

    def __init__(self, hint: str, side: Side = Side.INTERNAL) -> None:
        super().__init__(hint)
        self.hint = hint
        self.side = side


class LimitExceeded(SluicegateError):
    """A limit of ``limits.py`` was reached: ``limit`` is its name, ``bound`` its value."""

    def __init__(self, limit: str, bound: float) -> None:
        super().__init__(f"{limit} reached ({bound})")
        self.limit = limit
        self.bound = bound


class ConfigError(SluicegateError):
    """An operator's file is wrong: ``where`` is ``file:line: key``, ``cure`` what is right."""

    def __init__(self, where: str, cause: str, cure: str = "") -> None:
        super().__init__(f"{where}: {cause}" + (f" ({cure})" if cure else ""))
        self.where = where
        self.cause = cause
        self.cure = cure


class DirectoryFailed(SluicegateError):
    """A directory of users did not say, or not clearly: ``cause`` is for operators.

    ``is_server`` is true when it was one server's failure, and another might answer.
    """

    def __init__(self, cause: str, *, is_server: bool = False) -> None:
        super().__init__(f"directory: {cause}")
        self.cause = cause
        self.is_server = is_server


class FilterFailed(SluicegateError):
    """A filter raised, timed out or answered nonsense; its traffic is refused."""

    def __init__(self, filter_name: str, cause: str) -> None:
        super().__init__(f"filter {filter_name}: {cause}")
        self.filter_name = filter_name
        self.cause = cause


class OverlappedBusy(SluicegateError):
    """An overlapped already has an operation in flight."""


class OperationPending(SluicegateError):
    """A second receive (or send) was started while one is in flight on the same socket."""


class WrongThread(SluicegateError):
    """A port operation was started off the port's thread, or a blocking one on it."""


class BadContext(SluicegateError):
    """A method was called outside the events or calls for which it is valid."""


class WindowExpired(SluicegateError):
    """A window was used after the call (or the next receive) that ended its validity."""


def errno_name(error: int) -> str:
    """Return the symbolic name of an errno, or its number as text."""
    return errno_names.errorcode.get(error, str(error))


#: The Win32 codes that application filters of the SDK compare against.
_WIN32 = {
    0: 0,
    errno_names.ENOENT: 2,
    errno_names.EACCES: 5,
    errno_names.EBADF: 6,
    errno_names.ENOMEM: 8,
    errno_names.EINVAL: 87,
    errno_names.ENOSPC: 112,
    errno_names.EIO: 1117,
    errno_names.ECANCELED: 995,
    errno_names.EPIPE: 10058,
    errno_names.EADDRINUSE: 10048,
    errno_names.ECONNABORTED: 10053,
    errno_names.ECONNRESET: 10054,
    errno_names.ENOBUFS: 10055,
    errno_names.ETIMEDOUT: 10060,
    errno_names.ECONNREFUSED: 10061,
    errno_names.EHOSTUNREACH: 10065,
    errno_names.ENETUNREACH: 10051,
}


def win32_error(error: int) -> int:
    """Return the Win32 code for an errno (31, "general failure", where none corresponds)."""
    return _WIN32.get(error, 31)
