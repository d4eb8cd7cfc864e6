"""Plots: numbers as SVG, drawn here and not in the browser.

Templates call these. The invariant: what is returned is markup of numbers and escaped texts alone,
styled by classes, for inline style is forbidden; a table or a sentence says the same beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from markupsafe import Markup, escape

__all__ = ["bars", "lines", "spark"]

_WIDTH: Final = 600
_HEIGHT: Final = 120
_BASE: Final = 2.0
"""Room below the line of zero."""
_STEPS: Final = (1, 2, 5, 10)


def bars(series: Sequence[tuple[str, Sequence[float]]], label: str) -> Markup:
    """Return stacked bars.

    Args:
        series: Classes of style, each with its numbers; all of one length; the first is lowest.
        label: What is seen, for those who do not see it.
    """
    count = max((len(numbers) for _, numbers in series), default=0)
    if not count:
        return _svg("", label)
    totals = [sum(numbers[at] for _, numbers in series) for at in range(count)]
    top = _round_up(max(totals, default=0.0))
    width = _WIDTH / count
    gap = 1.0 if width > 3 else 0.2  # noqa: PLR2004 - pixels
    parts: list[str] = [_grid()]
    levels = [0.0] * count
    for style, numbers in series:
        path: list[str] = []
        for at, number in enumerate(numbers):
            if number <= 0:
                continue
            height = number / top * (_HEIGHT - _BASE)
            y = _HEIGHT - _BASE - levels[at] - height
            levels[at] += height
            x = at * width
            path.append(f"M{x:.1f} {y:.1f}h{width - gap:.1f}v{height:.1f}h-{width - gap:.1f}z")
        parts.append(f'<path class="bar {escape(style)}" d="{"".join(path)}"/>')
    return _svg("".join(parts), label)


def lines(series: Sequence[tuple[str, Sequence[float]]], label: str, length: int = 0) -> Markup:
    """Return lines over one axis; the newest number stands at the right.

    Args:
        series: Classes of style, each with its numbers.
        label: What is seen, for those who do not see it.
        length: How many numbers are the whole width; 0: as many as there are.
    """
    count = length or max((len(numbers) for _, numbers in series), default=0)
    top = _round_up(max((max(numbers, default=0.0) for _, numbers in series), default=0.0))
    parts: list[str] = [_grid()]
    for style, numbers in series:
        if len(numbers) < 2:  # noqa: PLR2004 - a line has two ends
            continue
        points = _points(numbers, count, top, _WIDTH, _HEIGHT - _BASE)
        left = _WIDTH - (len(numbers) - 1) * _WIDTH / max(count - 1, 1)
        ground = _HEIGHT - _BASE
        parts.append(
            f'<path class="area {escape(style)}" d="M{left:.1f} {ground}L{points}'
            f'L{_WIDTH} {ground}z"/><path class="line {escape(style)}" d="M{points}"/>'
        )
    return _svg("".join(parts), label)


def spark(numbers: Sequence[float], label: str, length: int = 0) -> Markup:
    """Return one small line without an axis."""
    if len(numbers) < 2:  # noqa: PLR2004 - a line has two ends
        return _svg("", label, "spark", 100, 24)
    top = max(*numbers, 1.0)
    points = _points(numbers, length or len(numbers), top, 100, 22)
    return _svg(f'<path class="line" d="M{points}"/>', label, "spark", 100, 24)


def _points(numbers: Sequence[float], count: int, top: float, width: float, height: float) -> str:
    step = width / max(count - 1, 1)
    left = width - (len(numbers) - 1) * step
    return " ".join(
        f"{left + at * step:.1f} {height - number / top * (height - 2) + 1:.1f}"
        for at, number in enumerate(numbers)
    )


def _round_up(number: float) -> float:
    """Return the next round number, so that the axis stays where it is for a while."""
    size = 1.0
    while size * 10 < number:
        size *= 10
    return next((size * step for step in _STEPS if size * step >= number), size * 10)


def _grid() -> str:
    lines_ = "".join(
        f"M0 {_HEIGHT - _BASE - part * (_HEIGHT - _BASE - 1):.1f}h{_WIDTH}"
        for part in (0.0, 0.5, 1.0)
    )
    return f'<path class="grid" d="{lines_}"/>'


def _svg(
    content: str, label: str, style: str = "plot", width: int = _WIDTH, height: int = _HEIGHT
) -> Markup:
    # Only numbers and escaped classes get in there.
    return Markup(  # noqa: S704 - made of escaped texts, see above
        f'<svg class="{style}" viewBox="0 0 {width} {height}" preserveAspectRatio="none" '
        f'role="img" aria-label="{escape(label)}">{content}</svg>'
    )
