"""Gauges: numbers with their last minutes as a line, beside each other above the tables.

The invariant: what cannot be known now is shown as a dash, never as nothing happening.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Sparkline, Static
from typing_extensions import override

from sluicegate.cli.display import format_bytes
from sluicegate.console_limits import TOP_SAMPLES_MAX

from .look import Look, Rates

__all__ = ["Gauges", "drawn"]


@dataclass(frozen=True, slots=True)
class _Measure:
    name: str
    title: str
    value: Callable[[Look, Rates], float]
    shown: Callable[[float], str]


def _per_second(value: float) -> str:
    return f"{value:.1f}/s" if value < 100 else f"{value:.0f}/s"  # noqa: PLR2004 - digits that fit


def _bytes_per_second(value: float) -> str:
    return f"{format_bytes(value)}/s"


def _whole(value: float) -> str:
    return f"{value:.0f}"


_MEASURES: Final = (
    _Measure("open", "open", lambda look, _: look.status.connections, _whole),
    _Measure("allowed", "let in", lambda _, rates: rates.allowed, _per_second),
    _Measure("denied", "refused", lambda _, rates: rates.denied, _per_second),
    _Measure("down", "down", lambda _, rates: rates.bytes_to_client, _bytes_per_second),
    _Measure("up", "up", lambda _, rates: rates.bytes_to_server, _bytes_per_second),
)


def drawn(kept: Sequence[float], columns: int) -> list[float]:
    """Return what a line of so many columns shows: the last moments, one each, at its right.

    The widget stretches what it is given, and has the least of it at the bottom: so its first
    column is always nothing, as are those of moments before the first.
    """
    shown = list(kept)[-(columns - 1) :] if columns > 1 else []
    return [0.0] * (columns - len(shown)) + shown


class Gauges(Horizontal):
    """The gauges, with what they remember."""

    def __init__(self) -> None:
        super().__init__(id="gauges")
        self._kept: Mapping[str, deque[float]] = {
            one.name: deque(maxlen=TOP_SAMPLES_MAX) for one in _MEASURES
        }

    @override
    def compose(self) -> ComposeResult:
        for one in _MEASURES:
            with Vertical(classes="gauge"):
                yield Static(f"{one.title} -", markup=False, id=f"now-{one.name}")
                yield Sparkline([], id=f"line-{one.name}")

    def forget(self) -> None:
        """Begin anew: the gate was started again."""
        for kept in self._kept.values():
            kept.clear()

    def show(self, look: Look, rates: Rates | None) -> None:
        """Take over one more moment; without rates it is the first one."""
        for one in _MEASURES:
            now = self.query_one(f"#now-{one.name}", Static)
            if rates is None:
                now.update(f"{one.title} -")
                continue
            value = one.value(look, rates)
            kept = self._kept[one.name]
            kept.append(value)
            now.update(f"{one.title} {one.shown(value)}")
            line = self.query_one(f"#line-{one.name}", Sparkline)
            line.data = drawn(kept, line.size.width)

    def silence(self) -> None:
        """Show that nothing is known."""
        for one in _MEASURES:
            self.query_one(f"#now-{one.name}", Static).update(f"{one.title} -")
