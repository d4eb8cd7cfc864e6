"""The most memory that this process had since it was last asked to forget.

The demonstration tells it beside each object. The invariant: a figure is the kernel's own
(proc_pid_status(5), ``VmHWM``), or there is none.
"""

from __future__ import annotations

import pathlib
from typing import Final

__all__ = ["forget_peak", "peak_rss_bytes"]


def forget_peak() -> bool:
    """Begin again at what is resident now; False where the kernel does not let us.

    Linux 4.0 and newer, ``/proc/self/clear_refs`` (proc_pid_clear_refs(5)).
    """
    try:
        pathlib.Path("/proc/self/clear_refs").write_text(_RESET_PEAK, encoding="ascii")
    except OSError:
        return False
    return True


def peak_rss_bytes() -> int | None:
    """Return the most bytes that were resident at once; None where the kernel does not tell."""
    try:
        lines = pathlib.Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = next((line for line in lines if line.startswith("VmHWM:")), "")
    return int(found.split()[1]) * 1024 if found else None


_RESET_PEAK: Final = "5"
