"""The console: pages and an API that show what the gate does, and let people act on it.

A process of its own runs it (``app.processes.console``). It sees the gate only as commands do, by
the words of ``gate.control_messages``, and reads the store of records. The invariant: it needs a
package extra (``sluicegate[console]``), so nothing outside imports its pages before it is wanted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluicegate.front import front

if TYPE_CHECKING:
    from .link import ConsoleSettings, GateLink, GateLost
else:
    __getattr__ = front(
        __name__,
        link=("ConsoleSettings", "GateLink", "GateLost"),
    )

__all__ = ["ConsoleSettings", "GateLink", "GateLost"]
