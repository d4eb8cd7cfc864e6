"""CPU time and memory of a relay: everything its processes and threads have used.

Called before and after each unit of load.  The invariant is that nothing escapes: threads that have
ended, kernel workers of io_uring (threads of the process), child processes, living or reaped.
"""

import dataclasses
import os
import time
from pathlib import Path

CPUCLOCK_SCHED = 2
"""The clock of `clock_getcpuclockid`: user and system time of a whole process, in nanoseconds."""


def process_tree(pid: int) -> list[int]:
    """The process and all its living descendants."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found.extend(int(child) for child in task.read_text().split())
            except OSError:
                continue  # the thread ended between listing and reading; it has no children then
    return found


def cpu_time_s(pid: int) -> float:
    """User and system time of the process and its descendants, living and reaped.

    The process clock is used rather than `/proc/PID/task/*/stat`: it counts in nanoseconds, and
    keeps the time of threads that have ended (io_uring's workers come and go).
    """
    total_ns = 0
    for member in process_tree(pid):
        try:
            total_ns += time.clock_gettime_ns((~member << 3) | CPUCLOCK_SCHED)
            total_ns += reaped_children_ns(member)
        except OSError:
            if member == pid:
                raise
    return total_ns / 1e9


def user_and_system_s(pid: int) -> tuple[float, float]:
    """User and system time of the process and its living descendants, in the kernel's split.

    Coarser than `cpu_time_s`: good for the proportion of the two over a second or more.
    """
    user = system = 0
    for member in process_tree(pid):
        fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        user += int(fields[11])
        system += int(fields[12])
    per_second = os.sysconf("SC_CLK_TCK")
    return user / per_second, system / per_second


def reaped_children_ns(pid: int) -> int:
    """Time of the children that the process has waited for, in the kernel's coarse ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[13]) + int(fields[14])
    return ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


@dataclasses.dataclass(frozen=True)
class Memory:
    """Resident and proportional memory of a process tree."""

    rss_bytes: int
    pss_bytes: int


def memory(pid: int) -> Memory:
    """The memory of the process and its living descendants."""
    rss_kib = pss_kib = 0
    for member in process_tree(pid):
        for line in Path(f"/proc/{member}/smaps_rollup").read_text().splitlines():
            if line.startswith("Rss:"):
                rss_kib += int(line.split()[1])
            elif line.startswith("Pss:"):
                pss_kib += int(line.split()[1])
    return Memory(rss_kib * 1024, pss_kib * 1024)


def reset_peak_rss(pid: int) -> None:
    """Lets the peak of the resident memory start again from what is resident now."""
    for member in process_tree(pid):
        Path(f"/proc/{member}/clear_refs").write_text("5")


def peak_rss_bytes(pid: int) -> int:
    """The most that was resident since the last reset, over the process and its descendants."""
    total_kib = 0
    for member in process_tree(pid):
        for line in Path(f"/proc/{member}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                total_kib += int(line.split()[1])
    return total_kib * 1024
