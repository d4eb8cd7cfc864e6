"""System calls that no process of the gate needs, and the filter that refuses them.

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

import errno
from typing import Final

from sluicegate.sandbox import seccomp
from sluicegate.sandbox.system_calls import this_machine

__all__ = ["REFUSED", "general_program", "ring_program"]

FAMILIES: Final = (1, 2, 10, 16)
"""AF_UNIX, AF_INET, AF_INET6, AF_NETLINK: what is left without AF_PACKET, AF_VSOCK and the rest."""

_CLONE_VM: Final = 0x100
_CLONE_NAMESPACES: Final = 0x7E020080
"""All ``CLONE_NEW*`` flags."""


def general_program(*, may_fork: bool = False) -> list[bytes]:
    """Return the filter for every process of the gate.

    Args:
        may_fork: Whether copies of the process are left alone: of one that has no clients, and
            starts operators' programs, which may be scripts of a shell.

    Raises:
        UnsupportedMachineError: There is no list for this architecture.
    """
    machine = this_machine()
    # A thread, or what is followed by an exec; a plain fork shares no memory.
    only_threads = [seccomp.any_bit(_CLONE_VM, 1, 0), seccomp.refuse()]
    refused = [one for one in REFUSED if not (may_fork and one == "fork")]
    clone = [
        seccomp.look_at_first_argument(),
        seccomp.any_bit(_CLONE_NAMESPACES, 0, 1),
        seccomp.refuse(),
        *([] if may_fork else only_threads),
        seccomp.returns(seccomp.ALLOW),
    ]
    families = [
        seccomp.look_at_first_argument(),
        *[seccomp.equals(one, len(FAMILIES) - place, 0) for place, one in enumerate(FAMILIES)],
        seccomp.refuse(errno.EAFNOSUPPORT),
        seccomp.returns(seccomp.ALLOW),
    ]
    return [
        *seccomp.opening(machine),
        seccomp.equals(machine.number("socket"), 0, len(families)),
        *families,
        seccomp.equals(machine.number("clone"), 0, len(clone)),
        *clone,
        # Its flags are in memory, where no filter can look; the C library then takes clone.
        seccomp.equals(machine.number("clone3"), 0, 1),
        seccomp.refuse(errno.ENOSYS),
        *seccomp.refuse_all(machine.numbers(refused)),
    ]


def ring_program() -> list[bytes]:
    """Return a filter that refuses another io_uring.

    Raises:
        UnsupportedMachineError: There is no list for this architecture.
    """
    machine = this_machine()
    return [*seccomp.opening(machine), *seccomp.refuse_all([machine.number("io_uring_setup")])]


REFUSED: Final = (
    "acct",
    "add_key",
    "adjtimex",
    "bpf",
    "chroot",
    "clock_adjtime",
    "clock_settime",
    "delete_module",
    "fanotify_init",
    "finit_module",
    "fork",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "init_module",
    "ioperm",
    "iopl",
    "kcmp",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "mknod",
    "mknodat",
    "modify_ldt",
    "mount",
    "mount_setattr",
    "move_mount",
    "name_to_handle_at",
    "nfsservctl",
    "open_by_handle_at",
    "open_tree",
    "perf_event_open",
    "personality",
    "pidfd_getfd",
    "pivot_root",
    "process_madvise",
    "process_vm_readv",
    "process_vm_writev",
    "ptrace",
    "quotactl",
    "quotactl_fd",
    "reboot",
    "request_key",
    "setdomainname",
    "setfsgid",
    "setfsuid",
    "setgid",
    "setgroups",
    "sethostname",
    "setns",
    "setregid",
    "setresgid",
    "setresuid",
    "setreuid",
    "settimeofday",
    "setuid",
    "swapoff",
    "swapon",
    "_sysctl",
    "syslog",
    "umount2",
    "unshare",
    "uselib",
    "userfaultfd",
    "vhangup",
)
