"""What a sandboxed process does to itself first: it gives up all but its work.

``arrival`` calls ``confine`` first of all, on the only thread. The
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
import resource
import signal
import struct
import threading
from collections.abc import Iterable, Sequence
from typing import Final

from . import landlock, seccomp
from .system_calls import Machine, UnsupportedMachineError, this_machine

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
    try:
        machine = this_machine()
    except UnsupportedMachineError as error:
        raise CannotConfineError(str(error), _CURE) from error
    _die_with(parent)
    _bound(memory_bytes_max)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _drop_capabilities(machine)
    _restrict_files(readable, [os.path.realpath(one) for one in secret])
    _restrict_calls(machine)


_LIBC: Final = ctypes.CDLL(None, use_errno=True)

_PR_SET_PDEATHSIG: Final = 1
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


def _drop_capabilities(machine: Machine) -> None:
    """Keep the user, lose its privileges; root without them is an ordinary owner of files."""
    header = struct.pack("=Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this thread
    if _LIBC.syscall(machine.number("capset"), header, bytes(24)):
        error = ctypes.get_errno()
        raise CannotConfineError(f"capset: {os.strerror(error)}", _CURE)


# -- files -----------------------------------------------------------------------------------------


def _restrict_files(readable: Iterable[str], secret: Sequence[str]) -> None:
    version = landlock.abi_version()
    if not version:
        raise CannotConfineError(
            "the kernel has no Landlock: the filter could read every file",
            'boot with "landlock" in lsm=, or leave "isolation" out',
        )
    everything = landlock.known_rights(version)
    try:
        with landlock.Ruleset(
            everything, network=landlock.TCP, scopes=landlock.SCOPE_ALL
        ) as ruleset:
            for path in readable:
                _let_read(ruleset, path, secret)
            ruleset.enforce()
    except OSError as error:
        raise CannotConfineError(f"Landlock: {error.strerror}", _CURE) from error


def _let_read(ruleset: landlock.Ruleset, path: str, secret: Sequence[str]) -> None:
    real = pathlib.Path(os.path.realpath(path))
    if any(pathlib.Path(one).is_relative_to(real) for one in secret):
        return  # code that lies above the gate's own files is not worth them
    try:
        ruleset.allow(real, landlock.READ_FILE | landlock.EXECUTE | landlock.READ_DIR)
    except OSError as error:
        if error.errno not in {errno.ENOENT, errno.ENOTDIR, errno.EACCES}:
            raise
        # It is not there, or not to be read anyway.


# -- calls -----------------------------------------------------------------------------------------

_CLONE_THREAD: Final = 0x00010000


def _restrict_calls(machine: Machine) -> None:
    try:
        seccomp.install(_program(machine, os.getpid()))
    except OSError as error:
        raise CannotConfineError(f"seccomp: {error.strerror}", _CURE) from error


def _program(machine: Machine, process: int) -> list[bytes]:
    """Assemble the filter: everything but what is named is allowed.

    A list of what is allowed would be shorter to reason about, and would break on the next libc or
    the first library with native code; files are Landlock's business, so what is left to forbid is
    what leads out of the process.
    """
    steps = [
        *seccomp.opening(machine),
        # Its flags are behind a pointer; glibc takes clone instead when it is not there.
        seccomp.equals(machine.number("clone3"), 0, 1),
        seccomp.refuse(errno.ENOSYS),
        seccomp.equals(machine.number("clone"), 0, 4),
        seccomp.look_at_first_argument(),
        seccomp.any_bit(_CLONE_THREAD, 1, 0),
        seccomp.refuse(),
        seccomp.returns(seccomp.ALLOW),
    ]
    for name in ("kill", "tgkill", "prlimit64"):
        steps += [
            seccomp.equals(machine.number(name), 0, 5),
            seccomp.look_at_first_argument(),
            seccomp.equals(process, 2, 0),
            seccomp.equals(0, 1 if name == "prlimit64" else 0, 0),
            seccomp.refuse(),
            seccomp.returns(seccomp.ALLOW),
        ]
    return [*steps, *seccomp.refuse_all(machine.numbers(_FORBIDDEN))]


_FORBIDDEN: Final = (
    # Sockets: the wire and loops of one's own (socketpair) are there already.
    "socket",
    "connect",
    "accept",
    "accept4",
    "bind",
    "listen",
    # Programs and processes.
    "fork",
    "vfork",
    "execve",
    "execveat",
    "ptrace",
    "tkill",
    "rt_sigqueueinfo",
    "rt_tgsigqueueinfo",
    "process_vm_readv",
    "process_vm_writev",
    "process_madvise",
    "process_mrelease",
    "kcmp",
    "pidfd_open",
    "pidfd_getfd",
    "pidfd_send_signal",
    "setpriority",
    "ioprio_set",
    "sched_setparam",
    "sched_setscheduler",
    "sched_setaffinity",
    "sched_setattr",
    "migrate_pages",
    "move_pages",
    # Other ways to files and sockets.
    "open_by_handle_at",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    # Namespaces and mounts.
    "unshare",
    "setns",
    "mount",
    "umount2",
    "pivot_root",
    "chroot",
    "open_tree",
    "move_mount",
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "mount_setattr",
    # Memory that the limit on address space does not count, and that may outlive the process.
    "memfd_create",
    "memfd_secret",
    "shmget",
    "msgget",
    "semget",
    "mq_open",
    # The kernel's insides.
    "bpf",
    "perf_event_open",
    "userfaultfd",
    "keyctl",
    "add_key",
    "request_key",
    "init_module",
    "finit_module",
    "delete_module",
    "kexec_load",
    "kexec_file_load",
    "reboot",
    "swapon",
    "swapoff",
)
"""What leads out of the process: to the network, to other processes, to the kernel's insides, to
memory that nobody counts. What only touches the process's own memory and descriptors is not here.
"""
