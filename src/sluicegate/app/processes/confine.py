"""Confine: what a process gives up before it works for anybody.

``worker`` and ``audit_writer`` call it once, when all that they need was opened or inherited, the
operator's files are read and filters are loaded, and before the loop runs. The invariant: what is
given up here cannot be got back by whatever runs in the process afterwards.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Final

from sluicegate.errors import errno_name

if TYPE_CHECKING:
    from sluicegate.app.config import Configuration  # the audit writer needs none of it

__all__ = ["confine"]

_PR_SET_NO_NEW_PRIVS: Final = 38
_libc = ctypes.CDLL(None, use_errno=True)


def confine(configuration: Configuration | None) -> list[str]:
    """Give up what is not needed; return a warning for each measure that could not be taken.

    Args:
        configuration: What a worker works by; None in the audit writer.
    """
    del configuration
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        return [f"no_new_privs cannot be set: {errno_name(ctypes.get_errno())}"]
    return []
