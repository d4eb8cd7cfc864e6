"""What one web filter sees of one exchange, and keeps of it.

``filtered_exchange`` makes one for each filter that is asked. The invariant: filters share the
messages, and nothing else: what one of them keeps in ``state`` no other one sees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .interim import informational

if TYPE_CHECKING:
    from sluicegate.filterapi import Connection, User, WebRequest, WebResponse
    from sluicegate.gate.registry import WebStep

    from .filtered_exchange import FilteredExchange

__all__ = ["ExchangeView"]


class ExchangeView:
    """Satisfies ``filterapi.WebExchange``."""

    __slots__ = ("_part", "_step", "request", "response", "state")

    def __init__(self, part: FilteredExchange, step: WebStep) -> None:
        self._part = part
        self._step = step
        self.request: WebRequest = part.request
        #: As ``WebExchange.request``, and the next one as ``WebExchange.response``.
        self.response: WebResponse | None = part.response
        self.state: Any = None

    @property
    def id(self) -> str:
        """As ``WebExchange.id``."""
        return self._part.exchange.id

    @property
    def connection(self) -> Connection:
        """As ``WebExchange.connection``."""
        return self._part.exchange.connection

    @property
    def user(self) -> User | None:
        """As ``WebExchange.user``."""
        return self._part.exchange.user

    @property
    def rule(self) -> str:
        """As ``WebExchange.rule``."""
        return self._part.exchange.rule.name

    def inform(self, status: int, headers: Mapping[str, str | Sequence[str]]) -> bool:
        """As ``WebExchange.inform``."""
        return self._part.exchange.inform(informational(status, headers))

    def note(self, message: str, facts: Mapping[str, str | int] | None = None) -> None:
        """As ``WebExchange.note``."""
        exchange = self._part.exchange
        about: dict[str, str | int] = {
            "connection": exchange.connection.id,
            "exchange": exchange.id,
        }
        self._part.service.note(self._step.installed.name, message, {**about, **(facts or {})})
