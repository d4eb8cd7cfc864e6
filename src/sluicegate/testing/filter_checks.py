"""What every stream and data filter must do, whatever its purpose: one call checks all of it.

``check_stream_filter``, ``check_data_filter`` and ``check_filter`` are for the tests of filter
authors. The invariant: a check asks only what holds for every filter, so a failure is the filter's.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sluicegate.filterapi import CallbackDataFilter, DataFilter, Filter, StreamFilter

from .check_report import CheckReport, SkipCheck, run_checks
from .conversation import Action, Conversation, ConversationLike, Step, Who
from .faults import FaultPlan
from .playbook import Playbook
from .replay import Replayed, replay
from .scripted_peer import PlaybookError
from .sizes import BulkBytes, memory_ceiling
from .splits import fuzz_splits
from .watched import check_factory

__all__ = ["check_data_filter", "check_filter", "check_stream_filter"]

_SAMPLE: Final = (
    ("server", b"220 welcome\r\n"),
    ("client", b"HELLO gate\r\n"),
    ("server", bytes(range(256))),
    ("client", b"QUIT\r\n"),
)
_GARBAGE_SEEDS: Final = 12
_DISORDER_SEEDS: Final = 6
_SPLITS_MAX: Final = 60

_SILENCE: Final = Step("", Action.WAIT, seconds=100.0)
_IMPATIENT: Final = {"idle_timeout_s": 50.0}
"""Limits under which a connection that nobody uses has ended after the silence."""


@dataclass(frozen=True, slots=True)
class _Subject:
    """The filter under check and what its author says of it."""

    make: Callable[[], Any]
    conversation: Conversation
    is_transparent: bool
    bulk: BulkBytes
    memory: int | str
    rule_settings: Mapping[str, object]

    def replay(self, conversation: Conversation, **options: Any) -> Replayed:
        """Replay against a new instance."""
        return replay(self.make, conversation, rule_settings=self.rule_settings, **options)

    def check_clean(self, came: Replayed, when: str) -> None:
        """Check that nothing was raised or left."""
        for error in came.filter_errors:
            raise PlaybookError(f"{when}, it raised {type(error).__name__}: {error}") from error
        if came.problem:
            raise PlaybookError(f"{when}: {came.problem}")


def check_stream_filter(
    make: Callable[[], StreamFilter],
    conversation: ConversationLike = _SAMPLE,
    *,
    is_transparent: bool = True,
    bulk: int | str = "2 MiB",
    memory: int | str = "6 MiB",
    rule_settings: Mapping[str, object] | None = None,
) -> CheckReport:
    """Check what every stream filter must do.

    Args:
        make: The class, or what makes an instance for a connection.
        conversation: What its protocol looks like, and it lets pass.
        is_transparent: Whether it claims to pass this conversation unchanged.
        bulk: How much is sent each way behind the conversation; 0 for protocols without bulk.
        memory: A ceiling for what is allocated meanwhile (the kit's own part is about 2 MiB).
        rule_settings: As for ``Playbook``.

    Returns:
        The names of the checks.

    Raises:
        ChecksFailed: It broke promises; all of them are named.
        TypeError: ``make`` makes no stream filter.
    """
    __tracebackhide__ = True
    return _check(
        make, (StreamFilter,), conversation, is_transparent, (bulk, memory), rule_settings or {}
    )


def check_data_filter(
    make: Callable[[], DataFilter | CallbackDataFilter],
    conversation: ConversationLike = _SAMPLE,
    *,
    is_transparent: bool = True,
    bulk: int | str = "2 MiB",
    memory: int | str = "6 MiB",
    rule_settings: Mapping[str, object] | None = None,
) -> CheckReport:
    """Check what every data filter must do, written as a coroutine or with callbacks.

    The arguments are those of ``check_stream_filter``.

    Raises:
        ChecksFailed: It broke promises; all of them are named.
        TypeError: ``make`` makes no data filter.
    """
    __tracebackhide__ = True
    kinds = (DataFilter, CallbackDataFilter)
    return _check(make, kinds, conversation, is_transparent, (bulk, memory), rule_settings or {})


def check_filter(
    make: Callable[[], Filter],
    conversation: ConversationLike = _SAMPLE,
    *,
    is_transparent: bool = True,
    bulk: int | str = "2 MiB",
    memory: int | str = "6 MiB",
    rule_settings: Mapping[str, object] | None = None,
) -> CheckReport:
    """Check what every filter must do that attaches data or stream filters by events.

    The arguments are those of ``check_stream_filter``; a connection that it denies, or answers
    itself, is no conversation for this.

    Raises:
        ChecksFailed: It broke promises; all of them are named.
        TypeError: ``make`` makes no ``Filter``.
    """
    __tracebackhide__ = True
    return _check(
        make, (Filter,), conversation, is_transparent, (bulk, memory), rule_settings or {}
    )


def _check(
    make: Callable[[], Any],
    kinds: tuple[type, ...],
    conversation: ConversationLike,
    is_transparent: bool,
    sizes: tuple[int | str, int | str],
    rule_settings: Mapping[str, object],
) -> CheckReport:
    __tracebackhide__ = True
    check_factory(make, kinds)
    subject = _Subject(
        make=make,
        conversation=Conversation.of(conversation),
        is_transparent=is_transparent,
        bulk=BulkBytes.of(sizes[0]),
        memory=sizes[1],
        rule_settings=rule_settings,
    )
    return run_checks(_CHECKS, subject)


# -- the checks; their names are what an author reads --------------------------------------------


def _lets_its_conversation_pass(subject: _Subject) -> None:
    came = subject.replay(subject.conversation)
    subject.check_clean(came, "in its own conversation")
    outcome, reason = came.outcome
    if outcome != "released":
        raise PlaybookError(f"its own conversation ended {outcome}: {reason}\n{came.conversation}")


def _passes_bytes_unchanged(subject: _Subject) -> None:
    if not subject.is_transparent:
        raise SkipCheck("it does not claim to be transparent")
    came = subject.replay(subject.conversation)
    for sender, receiver in (("client", "server"), ("server", "client")):
        sent = _sent(subject.conversation, sender)
        received = came.received(receiver)
        if sent != received:
            raise PlaybookError(
                f"the {receiver} received {len(received)} bytes that differ from the "
                f"{len(sent)} bytes that the {sender} sent\n{came.conversation}"
            )


def _passes_each_end_of_stream_on_once(subject: _Subject) -> None:
    with Playbook(subject.make, rule_settings=subject.rule_settings) as play:
        for step in subject.conversation.given:
            if step.action is Action.SENDS:
                (play.client if step.who == "client" else play.server).sends(step.data)
        play.client.reads()
        play.server.reads()
        play.client.ends()
        play.server.reads()
        play.server.receives_end()
        if play.client.came_to_end:
            raise PlaybookError("the client's end came back to the client: it is half closed only")
        play.server.ends()
        play.client.reads()
        play.client.receives_end()
        play.expect_released()


def _does_not_care_where_the_network_cuts(subject: _Subject) -> None:
    fuzz_splits(
        subject.make,
        subject.conversation,
        splits_max=_SPLITS_MAX,
        rule_settings=subject.rule_settings,
    )


def _does_not_care_for_disorder(subject: _Subject) -> None:
    wanted = subject.replay(subject.conversation)
    for seed in range(_DISORDER_SEEDS):
        came = subject.replay(subject.conversation, faults=FaultPlan.disorder(), seed=seed)
        subject.check_clean(came, f"in disorder {seed}")
        for who in ("client", "server"):
            if wanted.received(who) != came.received(who):
                raise PlaybookError(
                    f"on a slow network (disorder {seed}) the {who} received something else\n"
                    f"{came.conversation}"
                )


def _survives_that_a_side_breaks_off(subject: _Subject) -> None:
    given = subject.conversation.given
    sides: tuple[Who, Who] = ("client", "server")
    for who in sides:
        for count in range(len(given)):
            if Step(who, Action.ENDS) in given[:count]:
                break  # TCP tells nobody who only waits for the other side
            steps = (*given[:count], Step(who, Action.RESETS), _SILENCE)
            came = subject.replay(Conversation(steps), limits=_IMPATIENT)
            when = f"when the {who} breaks off after {count} steps"
            subject.check_clean(came, when)
            if came.outcome[0] == "open":
                raise PlaybookError(f"{when}, the connection stays open")


def _survives_silence(subject: _Subject) -> None:
    given = subject.conversation.given
    for count in (0, 1):
        came = subject.replay(Conversation((*given[:count], _SILENCE)), limits=_IMPATIENT)
        when = f"when both sides are silent after {count} steps"
        subject.check_clean(came, when)
        if came.outcome[0] == "open":
            raise PlaybookError(f"{when}, idle_timeout_s does not end the connection")


def _survives_garbage(subject: _Subject) -> None:
    for seed in range(_GARBAGE_SEEDS):
        dice = random.Random(seed)  # noqa: S311 - must be repeatable
        who = "client" if seed % 2 else "server"
        pieces = [(who, dice.randbytes(dice.choice((1, 7, 300, 5000)))) for _ in range(3)]
        came = subject.replay(Conversation.of(pieces))
        subject.check_clean(came, f"when the {who} sends garbage (seed {seed})")


def _serves_two_connections_at_once(subject: _Subject) -> None:
    alone = subject.replay(subject.conversation)
    with Playbook(subject.make, rule_settings=subject.rule_settings) as play:
        pair = [play.connect(client="10.1.1.1:0"), play.connect(client="10.1.1.2:0")]
        for step in subject.conversation.given:
            for exchange in pair:
                peer = exchange.client if step.who == "client" else exchange.server
                if step.action is Action.SENDS and peer.can_act:
                    peer.sends(step.data)
                elif step.action is Action.ENDS and peer.can_act:
                    peer.ends()
        for exchange in pair:
            for who, peer in (("client", exchange.client), ("server", exchange.server)):
                if peer.reads() != alone.received(who):
                    raise PlaybookError(f"with two connections at once, a {who} gets other bytes")


def _passes_bulk_in_bounded_memory(subject: _Subject) -> None:
    if not subject.is_transparent or not subject.bulk.size:
        raise SkipCheck("nothing is said about bulk")
    with Playbook(subject.make, rule_settings=subject.rule_settings) as play:
        for step in subject.conversation.given:
            if step.action is Action.SENDS:
                (play.client if step.who == "client" else play.server).sends(step.data)
        play.client.reads()
        play.server.reads()
        with memory_ceiling(subject.memory):
            # Nobody reads at first: what the filter would hoard meanwhile is on the account.
            play.client.sends(subject.bulk)
            play.server.sends(subject.bulk)
            play.server.receives(subject.bulk)
            play.client.receives(subject.bulk)
        play.client.ends()
        play.server.ends()
        play.expect_released()


def _lets_go_when_the_gate_stops(subject: _Subject) -> None:
    given = subject.conversation.given
    for count in range(len(given)):
        came = subject.replay(Conversation(given[:count]))
        subject.check_clean(came, f"when the gate stops after {count} steps")


def _sent(conversation: Conversation, who: str) -> bytes:
    return b"".join(step.data for step in conversation.given if step.who == who)


_CHECKS: Final = (
    _lets_its_conversation_pass,
    _passes_bytes_unchanged,
    _passes_each_end_of_stream_on_once,
    _does_not_care_where_the_network_cuts,
    _does_not_care_for_disorder,
    _survives_that_a_side_breaks_off,
    _survives_silence,
    _survives_garbage,
    _serves_two_connections_at_once,
    _passes_bulk_in_bounded_memory,
    _lets_go_when_the_gate_stops,
)
