"""A seccomp filter of our own: system calls that no process of the gate needs.

``confinement`` installs it. The invariant: a call in the list fails with EPERM for this process and
everything that it starts, for good, whatever user it is; everything else is left alone.

It is a list of what is refused, not of what is allowed: filters are Python of other people, and no
list of ours could know what their libraries call. What is in it opens the kernel (modules, bpf,
perf, userfaultfd), other processes (ptrace), other namespaces (mount, unshare, setns), identities
(set*id) and the clock; ``fork`` without ``exec``, because a copy of a worker would go on serving
its clients a second time; and sockets of families that no service speaks. The kernel remembers
which calls are always allowed (5.11), so they cost nothing measurable.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import Final

__all__ = [
    "ARCHITECTURES",
    "RING_SETUP",
    "Architecture",
    "UnsupportedMachine",
    "general_program",
    "install",
    "refusing_program",
]


class UnsupportedMachine(Exception):
    """There is no list for this architecture."""


class Architecture:
    """The numbers of one architecture."""

    __slots__ = ("audit", "clone", "refused", "socket")

    def __init__(self, audit: int, *, clone: int, socket: int, refused: dict[str, int]) -> None:
        self.audit = audit
        #: ``AUDIT_ARCH_*``, which the kernel puts before each call.
        self.clone = clone
        self.socket = socket
        self.refused = refused


#: The same number everywhere (calls since Linux 5.1).
_NEW: Final = {
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "pidfd_getfd": 438,
    "process_madvise": 440,
    "mount_setattr": 442,
    "quotactl_fd": 443,
}

RING_SETUP: Final = 425
_CLONE3: Final = 435

_COMMON: Final = {
    # name: (x86_64, aarch64)
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "init_module": (175, 105),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "mknodat": (259, 33),
    "mount": (165, 40),
    "name_to_handle_at": (303, 264),
    "nfsservctl": (180, 42),
    "open_by_handle_at": (304, 265),
    "perf_event_open": (298, 241),
    "personality": (135, 92),
    "pivot_root": (155, 41),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "setdomainname": (171, 162),
    "setfsgid": (123, 152),
    "setfsuid": (122, 151),
    "setgid": (106, 144),
    "setgroups": (116, 159),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "setregid": (114, 143),
    "setresgid": (119, 149),
    "setresuid": (117, 147),
    "setreuid": (113, 145),
    "settimeofday": (164, 170),
    "setuid": (105, 146),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
    "vhangup": (153, 58),
}

_X86_ONLY: Final = {
    "_sysctl": 156,
    "fork": 57,
    "ioperm": 173,
    "iopl": 172,
    "mknod": 133,
    "modify_ldt": 154,
    "uselib": 134,
}

ARCHITECTURES: Final = {
    "x86_64": Architecture(
        0xC000003E,
        clone=56,
        socket=41,
        refused=_NEW | _X86_ONLY | {name: pair[0] for name, pair in _COMMON.items()},
    ),
    "aarch64": Architecture(
        0xC00000B7,
        clone=220,
        socket=198,
        refused=_NEW | {name: pair[1] for name, pair in _COMMON.items()},
    ),
}

FAMILIES: Final = (1, 2, 10, 16)
"""AF_UNIX, AF_INET, AF_INET6, AF_NETLINK: what is left without AF_PACKET, AF_VSOCK and the rest."""

_X32: Final = 0x40000000
"""Calls of the x32 interface have other meanings under the same architecture."""

_CLONE_VM: Final = 0x100
_CLONE_NAMESPACES: Final = 0x7E020080
"""All ``CLONE_NEW*`` flags."""

# Classic BPF (linux/bpf_common.h).
_LOAD: Final = 0x20
_EQUAL: Final = 0x15
_AT_LEAST: Final = 0x35
_ANY_BIT: Final = 0x45
_RETURN: Final = 0x06

_ALLOW: Final = 0x7FFF0000
_KILL_PROCESS: Final = 0x80000000
_ERRNO: Final = 0x00050000

_AT_NUMBER: Final = 0
_AT_ARCHITECTURE: Final = 4
_AT_FIRST_ARGUMENT: Final = 16
"""Its low half: both architectures are little-endian."""

_INSTRUCTION: Final = struct.Struct("<HBBI")

_PR_SET_SECCOMP: Final = 22
_SECCOMP_MODE_FILTER: Final = 2
_libc = ctypes.CDLL(None, use_errno=True)


def general_program() -> bytes:
    """Return the filter for every process of the gate.

    Raises:
        UnsupportedMachine: There is no list for this architecture.
    """
    machine = _here()
    refuse = _return(_ERRNO | errno.EPERM)
    clone = [
        _op(_LOAD, _AT_FIRST_ARGUMENT),
        _op(_ANY_BIT, _CLONE_NAMESPACES, 0, 1),
        refuse,
        # A thread, or what is followed by an exec; a plain fork shares no memory.
        _op(_ANY_BIT, _CLONE_VM, 1, 0),
        refuse,
        _return(_ALLOW),
    ]
    families = [
        _op(_LOAD, _AT_FIRST_ARGUMENT),
        *[_op(_EQUAL, one, len(FAMILIES) - place, 0) for place, one in enumerate(FAMILIES)],
        _return(_ERRNO | errno.EAFNOSUPPORT),
        _return(_ALLOW),
    ]
    return b"".join(
        [
            *_opening(machine),
            _op(_EQUAL, machine.socket, 0, len(families)),
            *families,
            _op(_EQUAL, machine.clone, 0, len(clone)),
            *clone,
            # Its flags are in memory, where no filter can look; the C library then takes clone.
            _op(_EQUAL, _CLONE3, 0, 1),
            _return(_ERRNO | errno.ENOSYS),
            *_refusing(sorted(machine.refused.values())),
        ]
    )


def refusing_program(numbers: list[int]) -> bytes:
    """Return a filter that refuses a few more calls.

    Raises:
        UnsupportedMachine: There is no list for this architecture.
    """
    return b"".join([*_opening(_here()), *_refusing(numbers)])


def install(program: bytes) -> None:
    """Put a filter in force on this thread and those that it starts; ``no_new_privs`` must be set.

    Raises:
        OSError: The kernel refuses it.
    """
    memory = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: a length, padding, a pointer.
    header = ctypes.create_string_buffer(
        struct.pack("<H6xQ", len(program) // _INSTRUCTION.size, ctypes.addressof(memory)), 16
    )
    if _libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, header, 0, 0):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), "prctl(PR_SET_SECCOMP)")


def _here() -> Architecture:
    name = os.uname().machine
    if name not in ARCHITECTURES:
        raise UnsupportedMachine(f"no list of system calls for {name}")
    return ARCHITECTURES[name]


def _opening(machine: Architecture) -> list[bytes]:
    return [
        _op(_LOAD, _AT_ARCHITECTURE),
        _op(_EQUAL, machine.audit, 1, 0),
        # The 32-bit interface, where numbers mean other calls.
        _return(_KILL_PROCESS),
        _op(_LOAD, _AT_NUMBER),
        _op(_AT_LEAST, _X32, 0, 1),
        _return(_ERRNO | errno.EPERM),
    ]


def _refusing(numbers: list[int]) -> list[bytes]:
    count = len(numbers)
    assert count < 1 << 8, "a jump has one byte"
    return [
        *[_op(_EQUAL, number, count - place, 0) for place, number in enumerate(numbers)],
        _return(_ALLOW),
        _return(_ERRNO | errno.EPERM),
    ]


def _op(code: int, value: int, on_true: int = 0, on_false: int = 0) -> bytes:
    return _INSTRUCTION.pack(code, on_true, on_false, value)


def _return(value: int) -> bytes:
    return _op(_RETURN, value)
