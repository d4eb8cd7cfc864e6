"""Landlock: which folders a process may write in, enforced by the kernel.

``confinement`` calls it. The invariant: after ``restrict_writing`` nothing outside the named paths
is made, changed, renamed or removed by this process, whatever the permissions of its user say.

Reading and executing are left to permissions: an interpreter imports from many places. The calls
have no wrapper in the C library; their numbers are those of every architecture.
"""

from __future__ import annotations

import ctypes
import os
import pathlib
import stat
import struct
from collections.abc import Iterable
from typing import Final

__all__ = ["abi_version", "restrict_writing"]

_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_CREATE_RULESET_VERSION: Final = 1
_RULE_PATH_BENEATH: Final = 1

_WRITE_FILE: Final = 1 << 1
#: WRITE_FILE, and REMOVE_DIR to MAKE_SYM.
_WRITING: Final = _WRITE_FILE | sum(1 << bit for bit in range(4, 13))
_MAKE_DEVICE: Final = 1 << 6 | 1 << 11
"""Character and block devices: nowhere."""
_REFER: Final = 1 << 13
_TRUNCATE: Final = 1 << 14

_REFER_SINCE: Final = 2
_TRUNCATE_SINCE: Final = 3
_SCOPE_SINCE: Final = 6
_SCOPE_SIGNAL: Final = 1 << 1

_libc = ctypes.CDLL(None, use_errno=True)


def abi_version() -> int:
    """Return the version of the kernel's interface; 0 where there is none (before 5.13, or off)."""
    version: int = _libc.syscall(_CREATE_RULESET, None, 0, _CREATE_RULESET_VERSION)
    return max(version, 0)


def restrict_writing(paths: Iterable[pathlib.Path]) -> list[str]:
    """Let this thread, and those that it starts, write beneath these paths only.

    Also, where the kernel can (6.12), no signal reaches a process outside. ``no_new_privs`` must be
    set.

    Returns:
        The paths that exist, as they are now in force.

    Raises:
        OSError: The kernel refuses, or a path cannot be opened.
    """
    version = abi_version()
    rights = _WRITING
    rights |= _REFER if version >= _REFER_SINCE else 0
    rights |= _TRUNCATE if version >= _TRUNCATE_SINCE else 0
    attributes = struct.pack("<Q", rights)
    if version >= _SCOPE_SINCE:
        attributes = struct.pack("<QQQ", rights, 0, _SCOPE_SIGNAL)
    ruleset = _call(_CREATE_RULESET, attributes, len(attributes), 0)
    allowed: list[str] = []
    try:
        for path in paths:
            if path.exists():
                _allow(ruleset, path, rights & ~_MAKE_DEVICE)
                allowed.append(str(path))
        _call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return allowed


def _allow(ruleset: int, path: pathlib.Path, rights: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _WRITE_FILE | _TRUNCATE  # the kernel refuses more on a file
        rule = struct.pack("<Qi", rights, descriptor)
        _call(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0)
    finally:
        os.close(descriptor)


def _call(number: int, *arguments: int | bytes) -> int:
    result: int = _libc.syscall(number, *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), "landlock")
    return result
