"""Where a filter's code runs, as its class may demand and the operator may, too.

``app`` reads it when it installs a filter. The invariant: what either of them demands is done, and
neither can take back what the other demanded.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

__all__ = ["Isolation"]

Isolation: TypeAlias = Literal["none", "process"]
"""``none``: in the gate. ``process``: in a process of its own, which may fail without the gate."""
