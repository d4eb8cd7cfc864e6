"""Landlock: what a process may do with files, enforced by the kernel whatever its user may.

``confinement`` lets sandboxed processes read a little, ``app.confinement`` lets the gate's write a
little. The invariant: of the rights that a ruleset handles, a process has those that were allowed
beneath a path and no others, for good.

The calls have no wrapper in the C library; their numbers are those of every architecture. See
``Documentation/userspace-api/landlock.rst`` of the kernel.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from types import TracebackType
from typing import Final, Self

__all__ = [
    "EXECUTE",
    "MAKE_DEVICE",
    "NETWORK_SINCE",
    "READ_DIR",
    "READ_FILE",
    "SCOPE_ALL",
    "SCOPE_SIGNAL",
    "TCP",
    "WRITING",
    "Ruleset",
    "abi_version",
    "known_rights",
]

_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_CREATE_RULESET_VERSION: Final = 1
_RULE_PATH_BENEATH: Final = 1
_RULE_NETWORK_PORT: Final = 2

EXECUTE: Final = 1 << 0
_WRITE_FILE: Final = 1 << 1
READ_FILE: Final = 1 << 2
READ_DIR: Final = 1 << 3
MAKE_DEVICE: Final = 1 << 6 | 1 << 11
"""Character and block devices."""
_REFER: Final = 1 << 13
_TRUNCATE: Final = 1 << 14
_IOCTL_DEVICE: Final = 1 << 15

WRITING: Final = _WRITE_FILE | sum(1 << bit for bit in range(4, 13)) | _REFER | _TRUNCATE
"""WRITE_FILE, REMOVE_DIR to MAKE_SYM, REFER, TRUNCATE."""
_OF_FILES: Final = EXECUTE | _WRITE_FILE | READ_FILE | _TRUNCATE | _IOCTL_DEVICE
"""What makes sense for a file that is no folder; the kernel refuses more."""

_KNOWN_SINCE: Final = {1: 1 << 13, 2: 1 << 14, 3: 1 << 15, 5: 1 << 16}
"""By version of the interface: all rights below this bit are known."""

TCP: Final = 0b11
"""Binding and connecting TCP sockets (version 4)."""
NETWORK_SINCE: Final = 4
_CONNECT_TCP: Final = 0b10

SCOPE_SIGNAL: Final = 0b10
"""Signals stay among the confined (version 6)."""
SCOPE_ALL: Final = 0b11
"""Abstract Unix sockets, too."""
_SCOPES_SINCE: Final = 6

_LIBC: Final = ctypes.CDLL(None, use_errno=True)


def abi_version() -> int:
    """Return the version of the kernel's interface; 0 where there is none (before 5.13, or off)."""
    version: int = _LIBC.syscall(
        _CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_CREATE_RULESET_VERSION)
    )
    return max(version, 0)


def known_rights(version: int) -> int:
    """Return all rights over files that a version of the interface knows."""
    return max(bound for since, bound in _KNOWN_SINCE.items() if since <= version) - 1


class Ruleset:
    """What is taken from a process, and allowed all the same; a context manager.

    What the kernel's version does not know is left out.
    """

    def __init__(self, rights: int, *, network: int = 0, scopes: int = 0) -> None:
        """Make one that is not in force.

        Args:
            rights: Over files, which the process loses where it is not allowed them.
            network: What it loses of the network.
            scopes: What stays among the confined.

        Raises:
            OSError: The kernel refuses, or has no Landlock.
        """
        version = abi_version()
        self._rights = rights & known_rights(max(version, 1))
        attributes = struct.pack("<Q", self._rights)
        if version >= NETWORK_SINCE:
            attributes += struct.pack("<Q", network)
        if version >= _SCOPES_SINCE:
            attributes += struct.pack("<Q", scopes)
        self._descriptor = _call(
            _CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0)
        )

    def allow(self, path: str | os.PathLike[str], rights: int) -> None:
        """Allow these rights, as far as they are handled, to a file or all beneath a folder.

        Raises:
            OSError: It cannot be opened, or the kernel refuses.
        """
        rights &= self._rights
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
                rights &= _OF_FILES
            rule = struct.pack("<Qi", rights, descriptor)
            _call(_ADD_RULE, self._descriptor, _RULE_PATH_BENEATH, rule, ctypes.c_uint32(0))
        finally:
            os.close(descriptor)

    def allow_connecting(self, port: int) -> None:
        """Allow to connect TCP sockets to a port, wherever; before version 4 there is no telling.

        Raises:
            OSError: The kernel refuses.
        """
        if abi_version() < NETWORK_SINCE:
            return
        rule = struct.pack("<QQ", _CONNECT_TCP, port)
        _call(_ADD_RULE, self._descriptor, _RULE_NETWORK_PORT, rule, ctypes.c_uint32(0))

    def enforce(self) -> None:
        """Put it in force on this thread and those that it starts; needs ``no_new_privs``.

        Raises:
            OSError: The kernel refuses.
        """
        _call(_RESTRICT_SELF, self._descriptor, ctypes.c_uint32(0))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)


def _call(number: int, *arguments: int | bytes | ctypes.c_size_t | ctypes.c_uint32) -> int:
    result: int = _LIBC.syscall(number, *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), "landlock")
    return result
