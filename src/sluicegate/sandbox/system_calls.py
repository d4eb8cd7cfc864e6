"""System calls that a cell may not make, with their numbers on the machines that are known.

``confinement`` makes a filter of them. The invariant: what is listed here leads out of the process
(to the network, to other processes, to the kernel's insides, to memory that nobody counts); what
only touches the process's own memory and descriptors is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

__all__ = ["ABI", "SystemCalls"]


@dataclass(frozen=True, slots=True)
class SystemCalls:
    """One machine: where its numbers stand in the table, and how seccomp names it."""

    audit_architecture: int
    column: int

    def number(self, name: str) -> int:
        """Return a call's number."""
        found = _BESIDES[name][self.column]
        assert found is not None, name
        return found

    def forbidden(self) -> Iterator[int]:
        """Yield the numbers of everything that is forbidden, whatever its arguments."""
        for numbers in _FORBIDDEN.values():
            number = numbers[self.column]
            if number is not None:
                yield number


ABI: Final = {
    "x86_64": SystemCalls(0xC000003E, 0),
    "aarch64": SystemCalls(0xC00000B7, 1),
}

_Numbers = tuple[int | None, int | None]

_BESIDES: Final[dict[str, _Numbers]] = {
    "capset": (126, 91),
    "clone": (56, 220),
    "clone3": (435, 435),
    "kill": (62, 129),
    "prlimit64": (302, 261),
    "tgkill": (234, 131),
}
"""Calls that are allowed in part, or needed to get there."""

_FORBIDDEN: Final[dict[str, _Numbers]] = {
    # Sockets: the wire and loops of one's own (socketpair) are there already.
    "socket": (41, 198),
    "connect": (42, 203),
    "accept": (43, 202),
    "accept4": (288, 242),
    "bind": (49, 200),
    "listen": (50, 201),
    # Programs and processes.
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    "ptrace": (101, 117),
    "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "kcmp": (312, 272),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    # Other ways to files and sockets.
    "open_by_handle_at": (304, 265),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    # Namespaces and mounts.
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    # Memory that the limit on address space does not count, and that may outlive the process.
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    # The kernel's insides.
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
}
"""Names and numbers: ``arch/x86/entry/syscalls/syscall_64.tbl`` and ``asm-generic/unistd.h``."""
