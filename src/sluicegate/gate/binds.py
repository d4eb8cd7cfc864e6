"""Binds on behalf of clients: filters are asked, then the gate binds, listens and lets in.

``session`` begins one for ``bind_for_client``, ``entry`` one for a client's own request. The
invariant: nobody gets in before the bind was allowed, and a bind that was denied or is emulated
leaves no socket behind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sluicegate.address import SocketAddress
from sluicegate.filterapi import (
    Deny,
    Emulate,
    EventVerdict,
    ListenRequested,
    TcpBindRequested,
)
from sluicegate.port import Listener

from .dispatch import dispatch

if TYPE_CHECKING:
    from .secondary import ExpectedConnection
    from .service import FirewallService

__all__ = ["Arriving", "BindState", "begin_bind"]


@dataclass(frozen=True, slots=True)
class Arriving:
    """A connection that an emulating filter brings to its bind."""

    emulation: Emulate
    local: SocketAddress
    """What the client is told as its own end."""


class BindState:
    """What a bind has beside its expectation."""

    __slots__ = ("arriving", "denial", "is_asking", "is_emulated", "is_secondary", "on_denied")

    def __init__(self, *, is_secondary: bool) -> None:
        self.is_secondary = is_secondary
        #: Whether a filter asked for it, and not the client itself.
        self.is_asking = True
        #: Whether filters are being asked; its address is not told to anybody before.
        self.is_emulated = False
        self.denial = ""
        #: Why it was denied.
        self.on_denied: Callable[[str], None] | None = None
        #: Told of a denial that comes later.
        self.arriving: Arriving | None = None
        #: What an emulating filter brings now.


def begin_bind(
    service: FirewallService,
    expected: ExpectedConnection,
    wanted: SocketAddress,
    make_listener: Callable[[], Listener],
    *,
    is_secondary: bool = True,
) -> BindState:
    """Ask about a bind; bind and listen when it is allowed.

    A filter that answers later leaves the bind bound, and nobody let in, until it has.

    Args:
        service: The gate.
        expected: What is bound for; its address is known when this returns.
        wanted: The address asked for, port 0 for any.
        make_listener: Binds and listens.
        is_secondary: Whether a filter asked for it, and not the client itself.

    Raises:
        TransportError: Binding failed.
        LimitExceeded: No port is free.
    """
    state = expected.bind = BindState(is_secondary=is_secondary)
    expected.address = wanted
    primary = expected.primary
    event = TcpBindRequested(primary, wanted, expected, is_secondary=is_secondary)
    answers: list[EventVerdict] = []

    def on_verdict(verdict: EventVerdict) -> None:
        answers.append(verdict)
        if not state.is_asking:
            _carry_out(service, expected, state, verdict)

    dispatch(service, primary, event, on_verdict)
    answer = answers[0] if answers else None
    try:
        if not isinstance(answer, Deny | Emulate) and expected.is_pending:
            expected.listen(make_listener())
    except BaseException:
        expected.cancel()
        raise
    finally:
        state.is_asking = False
    if answer is not None:
        _carry_out(service, expected, state, answer)
    return state


def _carry_out(
    service: FirewallService,
    expected: ExpectedConnection,
    state: BindState,
    verdict: EventVerdict,
) -> None:
    """Do as the filters said."""
    if not expected.is_pending:
        return
    if isinstance(verdict, Emulate):
        state.is_emulated = True
        expected.stop_listening()
        if not expected.address.port:
            verdict = Deny("the emulated bind was not given a name (set_socket_name)")
    if isinstance(verdict, Deny):
        state.denial = verdict.reason
        expected.cancel()
        if state.on_denied is not None:
            state.on_denied(verdict.reason)
        return
    event = ListenRequested(
        expected.primary, expected.address, expected, is_secondary=state.is_secondary
    )
    # Only told: what a filter answers is judged, and changes nothing.
    dispatch(service, expected.primary, event, lambda _: expected.begin_accepting())
