"""Replaying conversations against filters, and golden ones that stand beside the tests.

The pytest fixture ``golden`` and the command ``sluicegate test-filter`` call it. The invariant: a
replay does what the conversation says and nothing else, so two replays of one file are equal.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .conversation import Action, Conversation, ConversationLike, Step
from .difference import difference_of_lines
from .faults import FaultPlan
from .playbook import Playbook
from .scripted_peer import PlaybookError, ScriptedPeer
from .watched import Filters, several

__all__ = ["ConversationDiffers", "Replayed", "check_conversation", "replay"]


class ConversationDiffers(AssertionError):
    """A replay did not go as the conversation says."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of a replay."""

    conversation: Conversation
    """The steps as they went, with what came of them."""
    filter_errors: tuple[BaseException, ...] = ()
    """What filters raised."""
    problem: str = ""
    """What was left behind, or went wrong at the end; empty when nothing did."""

    @property
    def outcome(self) -> tuple[str, str]:
        """How the connection ended, and why."""
        last = self.conversation.steps[-1]
        return last.outcome, last.data.decode()

    def received(self, who: str) -> bytes:
        """Return all that one side received."""
        steps = self.conversation.steps
        return b"".join(
            step.data for step in steps if step.who == who and step.action is Action.RECEIVES
        )


def replay(
    filters: Filters,
    conversation: ConversationLike,
    *,
    rule_settings: Mapping[str, object] | None = None,
    limits: Mapping[str, Any] | None = None,
    faults: FaultPlan | None = None,
    seed: int = 0,
) -> Replayed:
    """Do what a conversation says to filters, and return what came of it.

    Steps of a side that was broken off are left out, as nobody could do them; what the
    conversation says about results is not looked at.
    """
    given = Conversation.of(conversation)
    play = Playbook(
        *several(filters),
        offer=given.offer,
        rule_settings=rule_settings,
        limits=limits,
        faults=faults,
        seed=seed,
    )
    with contextlib.closing(_Unchecked(play)):
        play.connect()
        for step in given.given:
            _do(play, step)
        went = replace(play.conversation, offer=given.offer)
        failed = tuple(play.filter_errors)
        play.filter_errors.clear()
        problem = ""
        try:
            play.close()
        except AssertionError as error:
            problem = str(error)
        return Replayed(went, failed + tuple(play.filter_errors), problem)


class _Unchecked:
    """Ends a playbook whatever happened, without a second opinion."""

    def __init__(self, play: Playbook) -> None:
        self._play = play

    def close(self) -> None:
        """End it."""
        self._play.close(check=False)


def _do(play: Playbook, step: Step) -> None:
    if step.action is Action.WAIT:
        play.wait(step.seconds)
        return
    peer: ScriptedPeer = play.client if step.who == "client" else play.server
    if not peer.can_act:
        return
    if step.action is Action.SENDS:
        peer.sends(step.data)
    elif step.action is Action.ENDS:
        peer.ends()
    else:
        peer.resets()
    for side in (play.client, play.server):
        side.reads()


def check_conversation(
    filters: Filters,
    path: Path | str,
    *,
    update: bool = False,
    rule_settings: Mapping[str, object] | None = None,
    limits: Mapping[str, Any] | None = None,
) -> Replayed:
    """Replay a golden file and compare, or write into it what came.

    Args:
        filters: One filter, or several in their order.
        path: The file; the first time it needs the given steps only.
        update: Write the file anew instead of comparing.
        rule_settings: As for ``Playbook``.
        limits: As for ``Playbook``.

    Raises:
        ConversationDiffers: Something else came than the file says.
        NotAConversation: The file is no conversation.
        PlaybookError: The filter left something behind.
    """
    __tracebackhide__ = True
    path = Path(path)
    golden = Conversation.of(path)
    came = replay(filters, golden, rule_settings=rule_settings, limits=limits)
    if update:
        path.write_text(_with_comments(path, came.conversation), encoding="utf-8")
    else:
        difference = differs(golden, came.conversation)
        if difference:
            error = ConversationDiffers(f"{path} went otherwise (- recorded, + now):\n{difference}")
            raise error from (came.filter_errors[-1] if came.filter_errors else None)
    if came.problem:
        raise PlaybookError(f"{path}: {came.problem}")
    return came


def differs(golden: Conversation, came: Conversation) -> str:
    """Return where a replay differs from what was recorded; empty when it does not."""
    if not golden.has_results:
        return (
            "  nothing was recorded yet: it holds only what is done to the filter\n"
            "  (pytest --update-conversations writes what comes of it)"
        )
    expected, actual = golden.settled().lines(), came.settled().lines()
    return "" if expected == actual else difference_of_lines(expected, actual)


def _with_comments(path: Path, came: Conversation) -> str:
    """Keep the comments that stand at the head of the file."""
    head: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            head.append(line)
        elif line.strip() and not line.startswith("sluicegate conversation"):
            break
    first, *rest = str(came).splitlines()
    return "\n".join([first, *head, *rest, ""])
