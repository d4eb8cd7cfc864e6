"""Events: what a filter registers for, at its start and, narrower, for one session.

``Filter.start`` returns it, a ``SessionFilter`` may carry its own. The invariant: nothing that was
not registered for reaches a filter, but for what it asked to be told itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from .events import ConnectionEstablished, EntryMode, Event

__all__ = ["Events"]


@dataclass(frozen=True, slots=True)
class Events:
    """Types of events, and from where; two phases: at start, and narrower for one session.

    Raises:
        ValueError: ``ConnectionEstablished`` is named, which only who expects a connection is told.
    """

    types: frozenset[type[Event]] = frozenset()
    secondary: bool = False
    """Whether secondary connections are wanted too."""
    sources: frozenset[EntryMode] | None = None
    """The entry modes whose clients are of interest; None: all of them."""

    def __post_init__(self) -> None:
        """Refuse what cannot be registered for."""
        if ConnectionEstablished in self.types:
            raise ValueError(
                "ConnectionEstablished cannot be registered for: give session_filter with the "
                "expectation, and it is told"
            )

    @classmethod
    def of(
        cls,
        *types: type[Event],
        secondary: bool = False,
        sources: frozenset[EntryMode] | None = None,
    ) -> Events:
        """Register for these types."""
        return cls(frozenset(types), secondary, sources)

    def has(self, event: Event) -> bool:
        """Tell whether an event is wanted."""
        return (
            type(event) in self.types
            and (self.secondary or not event.is_secondary)
            and (self.sources is None or event.source in self.sources)
        )
