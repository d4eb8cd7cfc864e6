"""A gate's status, for tests of whoever shows it or acts by it."""

from __future__ import annotations

from typing import Any

from sluicegate.gate.views import Phase, StatusView

__all__ = ["status_view"]


def status_view(**more: Any) -> StatusView:
    """The status of a gate that is ready and has done nothing, but for what is said otherwise."""
    plain: dict[str, Any] = {
        "phase": Phase.READY,
        "version": "1",
        "pid": 1,
        "boot": "b",
        "backend": "epoll",
        "diagnosis": "",
        "started": 0.0,
        "policy": "00",
    }
    return StatusView(**plain | more)
