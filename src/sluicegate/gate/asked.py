"""What filters ask of a connection that it answers from what it is, without doing anything.

``GateConnection`` is one. The invariant: nothing here changes the connection.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from .attached import Attached
    from .registry import RulePlan
    from .secondary import ExpectedConnection
    from .service import FirewallService

__all__ = ["AskedConnection"]


class AskedConnection:
    """The questions of ``filterapi.Connection`` that need no more than attributes."""

    __slots__ = ()

    has_datagrams = False
    entry_protocol: ClassVar[str] = "tcp"
    """What its client asked for, as rules name it."""
    found: tuple[str, ...] = ()
    """The addresses of the name that its client asked for, as records write them."""

    if TYPE_CHECKING:
        id: str
        plan: RulePlan
        expected: ExpectedConnection | None
        _attached: list[Attached] | None
        _service: FirewallService

    @property
    def rule(self) -> str:
        """Name of the rule that admitted it."""
        return self.plan.rule.name

    @property
    def is_secondary(self) -> bool:
        """Whether another connection announced it."""
        return self.expected is not None

    @property
    def firewall(self) -> FirewallService:
        """The running service."""
        return self._service

    def note(self, by: object, message: str, facts: Mapping[str, str | int] | None = None) -> None:
        """As ``filterapi.Connection.note``."""
        kind = type(by)
        name: str = getattr(kind, "name", "") or kind.__name__
        for item in self._attached or ():
            if item.filter is by:
                name = item.name
        self._service.note(name, message, {"connection": self.id, **(facts or {})})

    def filter_names(self) -> tuple[str, ...]:
        """Return the names of the data filters that were attached, client to server."""
        attached = self._attached
        return tuple([item.name for item in attached]) if attached is not None else ()
