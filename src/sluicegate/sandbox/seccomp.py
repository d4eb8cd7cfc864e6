"""seccomp filters: programs that the kernel runs before each system call of a process.

``confinement`` makes the one of sandboxed processes of its instructions, ``app.refused_calls`` the
one of the gate's. The invariant: a call of another interface (32 bits, x32), whose number means
something else, never gets as far as the list.

See ``Documentation/userspace-api/seccomp_filter.rst`` of the kernel, and linux/bpf_common.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Sequence
from typing import Final

from .system_calls import Machine

__all__ = [
    "ALLOW",
    "any_bit",
    "equals",
    "install",
    "look_at_first_argument",
    "opening",
    "refuse",
    "refuse_all",
    "returns",
]

ALLOW: Final = 0x7FFF0000
_KILL_PROCESS: Final = 0x80000000
_ERRNO: Final = 0x00050000

_LOAD: Final = 0x20
_EQUAL: Final = 0x15
_AT_LEAST: Final = 0x35
_ANY_BIT: Final = 0x45
_RETURN: Final = 0x06

_AT_NUMBER: Final = 0
_AT_ARCHITECTURE: Final = 4
_AT_FIRST_ARGUMENT: Final = 16
"""Its low half: both architectures are little-endian."""

_X32: Final = 0x40000000
"""Calls of the x32 interface have other meanings under the same architecture."""

_INSTRUCTION: Final = struct.Struct("<HBBI")

_PR_SET_SECCOMP: Final = 22
_SECCOMP_MODE_FILTER: Final = 2
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


def opening(machine: Machine) -> list[bytes]:
    """Return the beginning of a program: afterwards the number of one of our calls is loaded."""
    return [
        _op(_LOAD, _AT_ARCHITECTURE),
        equals(machine.audit, 1, 0),
        returns(_KILL_PROCESS),
        _op(_LOAD, _AT_NUMBER),
        _op(_AT_LEAST, _X32, 0, 1),
        refuse(),
    ]


def refuse_all(numbers: Sequence[int]) -> list[bytes]:
    """Return the end of a program: calls of these numbers are refused, all others allowed."""
    count = len(numbers)
    assert count < 1 << 8, "a jump has one byte"
    return [
        *[equals(number, count - place, 0) for place, number in enumerate(numbers)],
        returns(ALLOW),
        refuse(),
    ]


def look_at_first_argument() -> bytes:
    """Load it in place of the number."""
    return _op(_LOAD, _AT_FIRST_ARGUMENT)


def equals(value: int, on_true: int, on_false: int) -> bytes:
    """Skip so many instructions when what is loaded is ``value``, or is not."""
    return _op(_EQUAL, value, on_true, on_false)


def any_bit(value: int, on_true: int, on_false: int) -> bytes:
    """Skip so many instructions when what is loaded has a bit of ``value``, or has none."""
    return _op(_ANY_BIT, value, on_true, on_false)


def refuse(error: int = errno.EPERM) -> bytes:
    """Let the call fail with an errno."""
    return returns(_ERRNO | error)


def returns(value: int) -> bytes:
    """End the program."""
    return _op(_RETURN, value)


def install(program: Sequence[bytes]) -> None:
    """Put a filter in force on this thread and those that it starts; ``no_new_privs`` must be set.

    Raises:
        OSError: The kernel refuses it.
    """
    whole = b"".join(program)
    memory = ctypes.create_string_buffer(whole, len(whole))
    # struct sock_fprog: a length, padding, a pointer.
    header = ctypes.create_string_buffer(
        struct.pack("<H6xQ", len(whole) // _INSTRUCTION.size, ctypes.addressof(memory)), 16
    )
    if _LIBC.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, header, 0, 0):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), "prctl(PR_SET_SECCOMP)")


def _op(code: int, value: int, on_true: int = 0, on_false: int = 0) -> bytes:
    return _INSTRUCTION.pack(code, on_true, on_false, value & 0xFFFFFFFF)
