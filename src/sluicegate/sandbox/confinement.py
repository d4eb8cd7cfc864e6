"""What a sandboxed process does to itself first: it gives up all but its work.

``app.cell`` and ``app.scanner_process`` call ``confine`` first of all, on the only thread. The
invariant: afterwards the process can open no file but code to import, no socket, no other process,
and get none of it back; where the kernel cannot promise that, it refuses to run.

Three belts: Landlock (which files, no TCP, no signals out), seccomp (which calls at all), and
resource limits; all of it without privileges, so that it works whoever runs the gate.
"""

from __future__ import annotations

import ctypes
import errno
import os
import pathlib
import platform
import resource
import signal
import struct
import threading
from collections.abc import Iterable, Sequence
from typing import Final

from .system_calls import ABI, SystemCalls

__all__ = ["CannotConfineError", "confine"]


class CannotConfineError(Exception):
    """This kernel cannot keep a cell in; ``cure`` says what would."""

    def __init__(self, cause: str, cure: str) -> None:
        super().__init__(cause)
        self.cause = cause
        self.cure = cure


def confine(
    parent: int, *, readable: Iterable[str], secret: Iterable[str], memory_bytes_max: int
) -> None:
    """Give up everything that a filter does not need; from now on no thread may miss it.

    Args:
        parent: The gate's process; the cell never outlives it.
        readable: Files and folders with code and its data.
        secret: Paths that must not be readable; a folder above one is not.
        memory_bytes_max: Address space of the whole process.

    Raises:
        CannotConfineError: The kernel does not offer what that takes.
    """
    assert threading.active_count() == 1, "threads that run already would stay outside"
    calls = ABI.get(platform.machine())
    if calls is None:
        raise CannotConfineError(
            f"filters cannot be isolated on {platform.machine()}",
            "x86_64 and aarch64 are known",
        )
    _die_with(parent)
    _bound(memory_bytes_max)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _drop_capabilities(calls)
    _restrict_files(calls, readable, [os.path.realpath(one) for one in secret])
    _restrict_calls(calls)


_LIBC: Final = ctypes.CDLL(None, use_errno=True)

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_SECCOMP: Final = 22
_PR_SET_NO_NEW_PRIVS: Final = 38


def _prctl(option: int, first: object, second: object = 0) -> None:
    arguments = (first, second, 0, 0)
    values = [ctypes.c_ulong(one) if isinstance(one, int) else one for one in arguments]
    if _LIBC.prctl(option, *values):
        error = ctypes.get_errno()
        raise CannotConfineError(f"prctl {option}: {os.strerror(error)}", _CURE)


_CURE: Final = 'a Linux kernel from 5.13 with Landlock and seccomp, or no "isolation" here'


def _die_with(parent: int) -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL.value)
    if os.getppid() != parent:
        os._exit(0)  # it ended before the kernel knew what to do then


def _bound(memory_bytes_max: int) -> None:
    for which, wanted in (
        (resource.RLIMIT_AS, memory_bytes_max),
        (resource.RLIMIT_CORE, 0),  # objects of clients do not belong into dumps
        (resource.RLIMIT_FSIZE, 0),  # there is nothing to write to
        (resource.RLIMIT_NOFILE, _DESCRIPTORS_MAX),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        _, hard = resource.getrlimit(which)
        bound = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(which, (bound, bound))


_DESCRIPTORS_MAX: Final = 1024
"""One per object that is judged, two while it is looked at from a thread."""


def _drop_capabilities(calls: SystemCalls) -> None:
    """Keep the user, lose its privileges; root without them is an ordinary owner of files."""
    header = struct.pack("=Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this thread
    if _LIBC.syscall(calls.number("capset"), header, bytes(24)):
        error = ctypes.get_errno()
        raise CannotConfineError(f"capset: {os.strerror(error)}", _CURE)


# -- Landlock (kernel 5.13, Documentation/userspace-api/landlock.rst) ------------------------------

_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446

_EXECUTE: Final = 1 << 0
_READ_FILE: Final = 1 << 2
_READ_DIR: Final = 1 << 3

_FILE_RIGHTS: Final = {1: 1 << 13, 2: 1 << 14, 3: 1 << 15, 5: 1 << 16}
"""By version of the interface: all rights below this bit are handled, so denied."""

_NETWORK: Final = 0b11
"""Binding and connecting TCP sockets (version 4)."""

_SCOPES: Final = 0b11
"""Abstract Unix sockets and signals stay among the confined (version 6)."""


def _restrict_files(calls: SystemCalls, readable: Iterable[str], secret: Sequence[str]) -> None:
    del calls  # these numbers are the same everywhere
    version = _LIBC.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    if version < 1:
        error = ctypes.get_errno()
        raise CannotConfineError(
            f"the kernel has no Landlock ({os.strerror(error)}): the filter could read every file",
            'boot with "landlock" in lsm=, or leave "isolation" out',
        )
    rights = max(bound for known, bound in _FILE_RIGHTS.items() if known <= version) - 1
    attributes = struct.pack("=Q", rights)
    if version >= 4:  # noqa: PLR2004 - see above
        attributes += struct.pack("=Q", _NETWORK)
    if version >= 6:  # noqa: PLR2004 - see above
        attributes += struct.pack("=Q", _SCOPES)
    ruleset = _LIBC.syscall(
        _CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0)
    )
    if ruleset < 0:
        raise CannotConfineError(f"Landlock: {os.strerror(ctypes.get_errno())}", _CURE)
    try:
        for path in readable:
            _let_read(ruleset, path, secret)
        if _LIBC.syscall(_RESTRICT_SELF, ruleset, ctypes.c_uint32(0)):
            raise CannotConfineError(f"Landlock: {os.strerror(ctypes.get_errno())}", _CURE)
    finally:
        os.close(ruleset)


def _let_read(ruleset: int, path: str, secret: Sequence[str]) -> None:
    real = pathlib.Path(os.path.realpath(path))
    if any(pathlib.Path(one).is_relative_to(real) for one in secret):
        return  # code that lies above the gate's own files is not worth them
    try:
        descriptor = os.open(real, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.EACCES}:
            return  # not there, or not to be read anyway
        raise
    try:
        rights = _READ_FILE | _EXECUTE | (_READ_DIR if real.is_dir() else 0)
        rule = struct.pack("=Qi", rights, descriptor)
        if _LIBC.syscall(_ADD_RULE, ruleset, 1, rule, ctypes.c_uint32(0)):
            raise CannotConfineError(f"Landlock: {os.strerror(ctypes.get_errno())}", _CURE)
    finally:
        os.close(descriptor)


# -- seccomp (Documentation/userspace-api/seccomp_filter.rst) --------------------------------------

_SECCOMP_MODE_FILTER: Final = 2
_ALLOW: Final = 0x7FFF0000
_ERRNO: Final = 0x00050000
_KILL_PROCESS: Final = 0x80000000

_LOAD: Final = 0x20
_EQUAL: Final = 0x15
_AT_LEAST: Final = 0x35
_HAS_BITS: Final = 0x45
_RETURN: Final = 0x06

_AT_NUMBER: Final = 0
_AT_ARCHITECTURE: Final = 4
_AT_FIRST_ARGUMENT: Final = 16

_CLONE_THREAD: Final = 0x00010000
_X32_BIT: Final = 0x40000000


def _restrict_calls(calls: SystemCalls) -> None:
    program = _program(calls, os.getpid())
    filters = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HxxxxxxP", len(program) // 8, ctypes.addressof(filters))
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, header)


def _program(calls: SystemCalls, process: int) -> bytes:
    """Assemble the filter: everything but what is named is allowed.

    A list of what is allowed would be shorter to reason about, and would break on the next libc or
    the first library with native code; files are Landlock's business, so what is left to forbid is
    what leads out of the process.
    """
    steps = [
        _step(_LOAD, _AT_ARCHITECTURE),
        _step(_EQUAL, calls.audit_architecture, 1, 0),
        _step(_RETURN, _KILL_PROCESS),
        _step(_LOAD, _AT_NUMBER),
        _step(_AT_LEAST, _X32_BIT, 0, 1),
        _step(_RETURN, _KILL_PROCESS),
    ]
    for number in calls.forbidden():
        steps += [_step(_EQUAL, number, 0, 1), _step(_RETURN, _ERRNO | errno.EPERM)]
    # Its flags are behind a pointer; glibc takes clone instead when it is not there.
    steps += [
        _step(_EQUAL, calls.number("clone3"), 0, 1),
        _step(_RETURN, _ERRNO | errno.ENOSYS),
        _step(_EQUAL, calls.number("clone"), 0, 4),
        _step(_LOAD, _AT_FIRST_ARGUMENT),
        _step(_HAS_BITS, _CLONE_THREAD, 1, 0),
        _step(_RETURN, _ERRNO | errno.EPERM),
        _step(_RETURN, _ALLOW),
    ]
    for name in ("kill", "tgkill", "prlimit64"):
        steps += [
            _step(_EQUAL, calls.number(name), 0, 5),
            _step(_LOAD, _AT_FIRST_ARGUMENT),
            _step(_EQUAL, process, 2, 0),
            _step(_EQUAL, 0, 1 if name == "prlimit64" else 0, 0),
            _step(_RETURN, _ERRNO | errno.EPERM),
            _step(_RETURN, _ALLOW),
        ]
    steps.append(_step(_RETURN, _ALLOW))
    return b"".join(steps)


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value & 0xFFFFFFFF)
