"""OperatorLog: what operators do to a running gate, as records.

The control socket tells it of every order, whatever became of it; programs that act elsewhere (the
console, ``sluicegate user``) tell it through the socket. The invariant: an order that changes
something has exactly one record, and who gave it is the kernel's word where the kernel knows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias

from sluicegate.audit import OperatorRecord, Record
from sluicegate.clock import Clock

from .control_messages import (
    AcknowledgedReply,
    AcknowledgeRequest,
    ActedRequest,
    AnyReply,
    AnyRequest,
    KilledReply,
    KillRequest,
    PolicyRequest,
    RefusedReply,
    ReloadRequest,
    StopRequest,
    UpgradeRequest,
)
from .policy_orders import ChangePolicy, RollBack

__all__ = ["OperatorLog"]


_Result: TypeAlias = Literal["done", "refused", "failed"]


class _Order(NamedTuple):
    """What of a request is recorded."""

    action: str
    subjects: tuple[str, ...] = ()
    facts: dict[str, str | int] = {}  # noqa: RUF012 - nobody changes it


class OperatorLog:
    """Makes the records of one gate."""

    def __init__(self, write: Callable[[Record], object], clock: Clock) -> None:
        """Begin.

        Args:
            write: Takes records.
            clock: Tells when.
        """
        self._write = write
        self._clock = clock

    def note_order(self, request: AnyRequest, reply: AnyReply, by: str) -> None:
        """Record an order that came through the control socket; questions are none.

        Args:
            request: What was asked.
            reply: What was answered.
            by: Who asked, as the kernel says.
        """
        order = _order_in(request)
        if order is None:
            return
        causes: tuple[str, ...] = ()
        result: _Result = "done"
        if isinstance(reply, RefusedReply):
            causes, result = tuple(reply.causes), "refused"
        elif isinstance(reply, KilledReply) and not reply.killed:
            causes, result = ("nothing of that name was there",), "failed"
        elif isinstance(reply, AcknowledgedReply) and not reply.acknowledged:
            causes, result = ("no such alert was open",), "failed"
        claimed = request.by if isinstance(request, KillRequest | AcknowledgeRequest) else ""
        self._note(order, claimed or by, result, causes)

    def note_act(self, request: ActedRequest, by: str) -> None:
        """Record what a program says that it did.

        Args:
            request: Its words.
            by: Whose process it is, as the kernel says.
        """
        self._write(
            OperatorRecord(
                time=self._clock.wall(),
                action=request.action,
                by=request.by or by,
                origin=request.origin,
                result=request.result,
                client=request.client,
                subjects=tuple(request.subjects),
                causes=tuple(request.causes),
                facts=request.facts,
            )
        )

    def _note(
        self,
        order: _Order,
        by: str,
        result: _Result,
        causes: tuple[str, ...],
    ) -> None:
        self._write(
            OperatorRecord(
                time=self._clock.wall(),
                action=order.action,
                by=by,
                origin="command",
                result=result,
                subjects=order.subjects,
                causes=causes,
                facts=order.facts,
            )
        )


def _order_in(request: AnyRequest) -> _Order | None:
    """Return what a request changes; None: it only asks."""
    match request:
        case ReloadRequest():
            return _Order("reload")
        case KillRequest(identifiers=identifiers):
            return _Order("kill", tuple(identifiers))
        case AcknowledgeRequest(alerts=alerts):
            return _Order("alert-acknowledge", tuple(alerts))
        case UpgradeRequest(program=program):
            return _Order("upgrade", tuple(program))
        case PolicyRequest(order=ChangePolicy(files=files, note=note)):
            return _Order("policy-change", tuple(one.name for one in files), _noted(note))
        case PolicyRequest(order=RollBack(version=version, note=note)):
            return _Order("policy-roll-back", (f"version {version}",), _noted(note))
        case StopRequest(timeout_s=timeout_s):
            return _Order(
                "drain", facts={} if timeout_s is None else {"timeout": f"{timeout_s:g} s"}
            )
        case _:
            return None


def _noted(note: str) -> dict[str, str | int]:
    return {"note": note} if note else {}
