"""Split-point fuzzing: a network may cut a stream anywhere, so no filter may care where.

``fuzz_splits`` is one line of a test. The invariant: the cuts that are tried depend on the
conversation and the seed alone, and a failure names the cuts that show it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, Final

from .conversation import Action, Conversation, ConversationLike, Step
from .difference import difference_of_lines, shown
from .replay import Replayed, replay
from .scripted_peer import PlaybookError
from .watched import Filters

__all__ = ["SplitMatters", "check_split", "fuzz_splits"]

Cuts = tuple[tuple[int, int], ...]

_CUTS: Final = (2, 8)
"""How many cuts a way drawn by chance has."""

_BYTEWISE_MAX: Final = 512
"""A conversation up to this size is also sent byte by byte."""


class SplitMatters(AssertionError):
    """A filter answered otherwise because of where the network cut the stream."""


def fuzz_splits(
    filters: Filters,
    conversation: ConversationLike,
    *,
    splits_max: int = 200,
    seed: int = 0,
    strict: bool = False,
    rule_settings: Mapping[str, object] | None = None,
    limits: Mapping[str, Any] | None = None,
) -> int:
    """Play a conversation cut at every place, byte by byte, and at random; return how many ways.

    It must always end alike and, unless it is refused or fails, every byte must arrive as it does
    uncut. How much had passed before a refusal may depend on the cut, unless ``strict``.

    Args:
        filters: A class or factory (an instance serves one connection), or several in order.
        conversation: What is said; ``b"…"`` is what the client says before both sides end.
        splits_max: How many ways at most; where there are more places they are drawn by chance.
        seed: Decides what is drawn.
        strict: What passes before a refusal must not depend on the cut either: for filters that
            hold everything until they are sure.
        rule_settings: As for ``Playbook``.
        limits: As for ``Playbook``.

    Raises:
        SplitMatters: The way it is cut changed what came of it.
        PlaybookError: It fails without any cut.
    """
    __tracebackhide__ = True
    whole = Conversation.of(conversation)
    options = {"rule_settings": rule_settings, "limits": limits}
    uncut = replay(filters, whole, **options)  # type: ignore[arg-type]  # two mappings or None
    _check_uncut(uncut)
    ways = _ways(whole, splits_max, random.Random(seed))  # noqa: S311 - must be repeatable
    for cuts in ways:
        cut = replay(filters, whole.split(cuts), **options)  # type: ignore[arg-type]  # as above
        _compare(whole, cuts, uncut, cut, strict=strict)
    return len(ways)


def check_split(
    filters: Filters,
    conversation: ConversationLike,
    cuts: Cuts | Sequence[tuple[int, int]],
) -> None:
    """Play one way of cutting: replays what ``fuzz_splits`` found, or what Hypothesis draws.

    Args:
        filters: As for ``fuzz_splits``.
        conversation: As for ``fuzz_splits``.
        cuts: Which of the given steps (0 is the first), and behind how many of its bytes.

    Raises:
        SplitMatters: The cut changed what came of it.
    """
    __tracebackhide__ = True
    whole = Conversation.of(conversation)
    uncut = replay(filters, whole)
    _check_uncut(uncut)
    _compare(whole, tuple(cuts), uncut, replay(filters, whole.split(cuts)), strict=False)


def _check_uncut(uncut: Replayed) -> None:
    __tracebackhide__ = True
    outcome, reason = uncut.outcome
    if outcome == "failed" or uncut.problem:
        error = PlaybookError(f"it fails without any cut: {uncut.problem or reason}")
        raise error from (uncut.filter_errors[-1] if uncut.filter_errors else None)


def _ways(whole: Conversation, splits_max: int, dice: random.Random) -> list[Cuts]:
    points = whole.cut_points()
    singles = points
    if len(points) > splits_max // 2:
        singles = sorted(dice.sample(points, splits_max // 2))
    # One cut first: the shortest explanation of a failure.
    ways: list[Cuts] = [(point,) for point in singles]
    if 1 < len(points) <= _BYTEWISE_MAX:
        ways.append(tuple(points))
    while len(points) > _CUTS[0] and len(ways) < min(splits_max, 2 * len(points)):
        ways.append(
            tuple(sorted(dice.sample(points, dice.randint(_CUTS[0], min(_CUTS[1], len(points))))))
        )
    return list(dict.fromkeys(ways))[:splits_max]


def _compare(
    whole: Conversation, cuts: Cuts, uncut: Replayed, cut: Replayed, *, strict: bool
) -> None:
    __tracebackhide__ = True
    expected, came = _results(whole, uncut, ()), _results(whole, cut, cuts)
    if uncut.outcome == cut.outcome and uncut.outcome[0] == "refused" and not strict:
        return
    if expected != came or cut.problem:
        difference = cut.problem or difference_of_lines(expected, came)
        error = SplitMatters(
            f"the cut matters (- uncut, + cut {_where(whole, cuts)}):\n{difference}\n"
            f"replay it with check_split(…, {list(cuts)})"
        )
        raise error from (cut.filter_errors[-1] if cut.filter_errors else None)


def _results(whole: Conversation, replayed: Replayed, cuts: Cuts) -> list[str]:
    """Return what came of each of the whole's steps, with the pieces of a send put together."""
    lengths = [
        len({at for index, at in cuts if index == number and 0 < at < len(step.data)}) + 1
        for number, step in enumerate(whole.given)
    ]
    merged: list[Step] = []
    given = iter(whole.given)
    left = 0
    for step in replayed.conversation.steps:
        if not step.action.is_given:
            merged.append(step)
        elif left:
            left -= 1  # one more piece of the same send
        else:
            merged.append(next(given))
            left = lengths.pop(0) - 1
    return Conversation(tuple(merged)).settled().lines()


def _where(whole: Conversation, cuts: Cuts) -> str:
    if len(cuts) > 1:
        return "byte by byte" if len(cuts) == len(whole.cut_points()) else f"at {list(cuts)}"
    index, at = next(iter(cuts))
    step = whole.given[index]
    assert step.action is Action.SENDS, "only sends are cut"
    before, after = step.data[max(0, at - 12) : at], step.data[at : at + 12]
    return f"between {shown(before)} and {shown(after)}"
