"""Filter: one per installed filter, from the service's start to its stop.

``gate/registry`` starts, attaches and stops it. The invariant: a ``start`` that fails leaves the
filter installed and failed, and traffic that needs it is refused.
"""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, ClassVar

from .isolation import Isolation
from .registration import Events
from .session_filter import SessionFilter
from .shown import Shown

if TYPE_CHECKING:
    from .surroundings import PolicyChanged
    from .views import Firewall, Session

__all__ = ["Filter"]


class Filter(abc.ABC):
    """An installed filter; make one with its settings, the service does the rest.

    A class may declare ``Settings``, the model of ``[filter.settings]``, and is then made with one;
    and ``RuleSettings``, the model of what one rule says to it. Both are pydantic models,
    dataclasses or msgspec Structs. Where an instance keeps its settings as ``settings``, what a
    rule leaves out is taken from there.
    """

    name: ClassVar[str] = ""
    isolation: ClassVar[Isolation] = "none"
    shows: ClassVar[tuple[Shown, ...]] = ()
    """What it promises to show of every connection that it is attached to."""

    @abc.abstractmethod
    def start(self, firewall: Firewall) -> Events:
        """Get ready and register for events; raising means that the filter has failed."""

    @abc.abstractmethod
    def attach(self, session: Session) -> SessionFilter | None:
        """Make the session filter for a session; None takes no interest in it."""

    def on_policy_changed(self, notice: PolicyChanged) -> None:
        """Take that another policy is in force; told before the next connection is judged by it."""

    def stop(self) -> None:
        """Release everything; the service stops."""
