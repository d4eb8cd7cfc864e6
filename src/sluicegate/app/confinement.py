"""Confinement: what a process that meets clients' bytes, or filters, gives up for good.

Called once in each worker (and in a gate of one process) when all that it needs was opened or
inherited, before the loop runs and before there is a second thread. The invariant: what is given up
cannot be got back by whatever runs in the process afterwards, and ``status`` says what is in force
and what this kernel lacks.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from sluicegate.errors import errno_name
from sluicegate.sandbox import landlock, seccomp
from sluicegate.sandbox.system_calls import UnsupportedMachineError

from .privileges import capabilities_in_force, drop_capabilities, hide_memory
from .refused_calls import general_program, ring_program

__all__ = ["Confinement", "confine_process", "refuse_new_rings"]


@dataclass(slots=True)
class Confinement:
    """What was done."""

    in_force: list[str] = field(default_factory=list[str])
    lacking: list[str] = field(default_factory=list[str])


def confine_process(
    writable: Iterable[pathlib.Path],
    *,
    capabilities: int = 0,
    has_sandbox: bool = True,
    unreadable: pathlib.Path | None = None,
    ports: Collection[int] | None = None,
    may_fork: bool = False,
) -> Confinement:
    """Give up capabilities, writing elsewhere, and calls that nobody needs.

    Args:
        writable: Folders and files that the process writes in, beside the temporary folder.
        capabilities: A mask of those to keep.
        has_sandbox: False leaves Landlock and seccomp out, because the operator said so.
        unreadable: A folder with what the process must not read.
        ports: TCP ports that it may connect to, and it listens nowhere; None: it may anything.
        may_fork: Whether it starts programs of operators, which may fork.

    Raises:
        OSError: Capabilities cannot be given up.
    """
    done = Confinement()
    drop_capabilities(capabilities)
    hide_memory()
    done.in_force.append(f"uid {os.getuid()}, no new privileges")
    if os.getuid() == 0:
        done.lacking.append('user: it works as root (set "user" in [service])')
    left = ", ".join(capabilities_in_force())
    done.in_force.append(f"capabilities: {left or 'none'}")
    if not has_sandbox:
        done.lacking.append('Landlock and seccomp: "sandbox" in [service] is false')
        return done
    _restrict_files(writable, unreadable, ports, done)
    _refuse_calls(done, may_fork=may_fork)
    return done


def _restrict_files(
    writable: Iterable[pathlib.Path],
    unreadable: pathlib.Path | None,
    ports: Collection[int] | None,
    done: Confinement,
) -> None:
    version = landlock.abi_version()
    if not version:
        done.lacking.append("Landlock: this kernel has none (Linux 5.13, and lsm=landlock)")
        return
    paths = [*writable, pathlib.Path(tempfile.gettempdir()), pathlib.Path(os.devnull)]
    allowed: list[str] = []
    # Reading and executing are left to permissions: an interpreter imports from many places.
    rights = landlock.WRITING | (landlock.READ_FILE if unreadable is not None else 0)
    try:
        network = landlock.TCP if ports is not None else 0
        with landlock.Ruleset(rights, network=network, scopes=landlock.SCOPE_SIGNAL) as ruleset:
            for port in ports or ():
                ruleset.allow_connecting(port)
            for path in dict.fromkeys(paths):
                if path.exists():
                    ruleset.allow(path, landlock.WRITING & ~landlock.MAKE_DEVICE)
                    allowed.append(str(path))
            if unreadable is not None:
                _allow_reading_beside(unreadable, ruleset)
            ruleset.enforce()
    except OSError as error:
        done.lacking.append(f"Landlock: {errno_name(error.errno or 0)}")
        return
    done.in_force.append(f"Landlock (version {version}): writes only in {', '.join(allowed)}")
    if ports is not None and version >= landlock.NETWORK_SINCE:
        where = ", ".join(map(str, ports)) or "none"
        done.in_force.append(f"Landlock: connects to no TCP port but {where}")
    elif ports is not None:
        done.lacking.append("Landlock: this kernel does not tell TCP ports apart (Linux 6.7)")
    if unreadable is not None:
        done.in_force.append(f"Landlock: reads nothing in {unreadable}")


def _allow_reading_beside(unreadable: pathlib.Path, ruleset: landlock.Ruleset) -> None:
    """Allow to read all files but those in one folder.

    The kernel knows no exceptions from what is allowed beneath a folder, so it is what lies beside
    the way there that is allowed. What is put directly into one of the folders on the way
    afterwards cannot be read: the folder should not lie beneath one where much changes.
    """
    way = pathlib.Path(os.path.realpath(unreadable))
    for folder in way.parents:
        for one in folder.iterdir():
            # What a link leads to is allowed, or not, where it lies.
            if one != way and one not in way.parents and not one.is_symlink():
                with contextlib.suppress(FileNotFoundError, PermissionError):
                    ruleset.allow(one, landlock.READ_FILE)


def _refuse_calls(done: Confinement, *, may_fork: bool) -> None:
    try:
        seccomp.install(general_program(may_fork=may_fork))
    except UnsupportedMachineError as error:
        done.lacking.append(f"seccomp: {error}")
    except OSError as error:
        done.lacking.append(f"seccomp: {errno_name(error.errno or 0)}")
    else:
        fork = "" if may_fork else "fork, "
        done.in_force.append(f"seccomp: no {fork}ptrace, mount, modules, bpf, or raw sockets")


def refuse_new_rings(confinement: Confinement) -> None:
    """Refuse another io_uring: ours is restricted to its operations, another would not be.

    For the thread of the loop, when the port has its ring.
    """
    try:
        seccomp.install(ring_program())
    except (UnsupportedMachineError, OSError):
        return  # said already: the first filter was refused, too
    confinement.in_force.append("io_uring: the port's restricted ring, and no other")
