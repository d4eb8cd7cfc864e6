"""Emulate: the verdict by which a filter takes the other end's place, and all verdicts on events.

Session filters answer it, ``gate/dispatch`` combines it, ``gate/emulation`` carries it out. The
invariant: nothing is dialled and nothing is bound for what is emulated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from sluicegate.verdict import Allow, Deny, Pass

if TYPE_CHECKING:
    from .data_filter import CallbackDataFilter, DataFilter

__all__ = ["Emulate", "EventVerdict"]


@dataclass(frozen=True, slots=True, eq=False)
class Emulate:
    """Take the place of the server, or of the bound socket; two filters cannot, and are refused.

    For ``ConnectRequested``, ``data_filter`` plays the server: it is run with the client's socket
    alone, behind every other filter of the connection. For ``TcpBindRequested`` there is none: the
    bind succeeds without a socket, and the filter brings connections to it
    (``event.bind.emulate_connection``). No other event can be emulated.
    """

    data_filter: DataFilter | CallbackDataFilter | None = None
    """Made for this connection; None for a bind."""
    context: Any = None
    """Handed to ``set_sockets`` of a callback filter."""


EventVerdict: TypeAlias = Allow | Deny | Pass | Emulate
