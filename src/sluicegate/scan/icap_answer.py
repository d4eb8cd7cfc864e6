"""IcapAnswer: what a service says of one object, compared with the object while it comes.

``icap_connection`` feeds it what ``protocols.icap_reader`` tells. The invariant: only what a
service has said after it had all of the object counts as said of all of it; and of a body that it
sends back no more is kept in memory than may be delivered.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from sluicegate.errors import LimitExceeded, ProtocolError
from sluicegate.protocols.icap import IcapMethod
from sluicegate.protocols.icap_reader import IcapBody, IcapEnd, IcapEvent, IcapHead
from sluicegate.protocols.text import printable

__all__ = ["IcapAnswer", "IcapVerdict", "Source", "Verdict"]


class Source(Protocol):
    """The bytes of an object."""

    async def read_at(self, offset: int, count: int) -> bytes:
        """Return up to ``count`` bytes at ``offset``."""
        ...


class IcapVerdict(enum.Enum):
    """What a service wants done."""

    UNCHANGED = enum.auto()
    """It has nothing against the object, and changes nothing."""
    FOUND = enum.auto()
    """It names what it found."""
    BLOCKED = enum.auto()
    """It answers in the object's place."""
    MODIFIED = enum.auto()
    """It has another body for it."""
    BROKEN_OFF = enum.auto()
    """It began to send the object back, and ended before the object does: c-icap does so where it
    finds something after it has begun (``StartSendPercentDataAfter``)."""
    FAILED = enum.auto()
    """It says that it could not."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a service said of one object."""

    verdict: IcapVerdict
    reason: str = ""
    body: bytes = b""
    """In place of the object, if it is modified."""


class IcapAnswer:
    """One answer, from its head to its end."""

    def __init__(
        self, method: IcapMethod, source: Source, size: int, *, bytes_max: int, is_204_allowed: bool
    ) -> None:
        """Begin.

        Args:
            method: What was asked.
            source: The object.
            size: Its bytes.
            bytes_max: The largest body that may stand in the object's place.
            is_204_allowed: Whether the request said that 204 would do.
        """
        self.head: IcapHead | None = None
        self.is_over = False
        self._method = method
        self._source = source
        self._size = size
        self._bytes_max = bytes_max
        self._is_204_allowed = is_204_allowed
        self._alike = 0
        #: Bytes that are the object's own, from its first on.
        self._changed: bytearray | None = None
        #: The body, from where it is another one.
        self._keeps_body = False

    async def take(self, event: IcapEvent) -> None:
        """Take what the connection told.

        Raises:
            LimitExceeded: The body in the object's place is larger than may be.
            ProtocolError: It makes no sense.
        """
        match event:
            case IcapHead():
                self.head = event
                self._keeps_body = event.status in _ADAPTED and not self._is_blocked(event)
            case IcapBody(data) if self._keeps_body:
                await self._compare(data)
            case IcapBody():
                pass
            case IcapEnd(original_from):
                if original_from is not None and self._keeps_body:
                    await self._append_original(original_from)
                self.is_over = True

    def verdict(self) -> Verdict:
        """Return what was said.

        Raises:
            ProtocolError: It is no answer to what was asked.
        """
        head = self.head
        assert head is not None, "an answer that is over had a head"
        found = _found(head.fields)
        if found:
            return Verdict(IcapVerdict.FOUND, found)
        if head.status == _UNCHANGED:
            if not self._is_204_allowed:
                raise ProtocolError("204 without Allow: 204")
            return Verdict(IcapVerdict.UNCHANGED)
        if head.status not in _ADAPTED:
            return Verdict(IcapVerdict.FAILED, f"{head.status} {printable(head.reason.encode())}")
        if self._is_blocked(head):
            assert head.response is not None
            line = printable(head.response.start_line.encode("latin-1"))
            return Verdict(IcapVerdict.BLOCKED, line)
        if self._changed is None and self._alike == self._size:
            return Verdict(IcapVerdict.UNCHANGED)
        if self._changed is None:
            return Verdict(IcapVerdict.BROKEN_OFF, f"{self._alike} of {self._size} bytes came back")
        return Verdict(IcapVerdict.MODIFIED, "", bytes(self._changed))

    def _is_blocked(self, head: IcapHead) -> bool:
        """Tell whether it answers itself: to a request, or with another status than the origin."""
        if self._method is IcapMethod.REQMOD:
            if head.response is None and head.request is None:
                raise ProtocolError(f"{head.status} without a message inside")
            return head.response is not None
        if head.response is None:
            raise ProtocolError(f"{head.status} without a response inside")
        return head.response.status != _OK

    # -- the body --------------------------------------------------------------------------------

    async def _compare(self, data: bytes) -> None:
        if self._changed is None:
            same = await self._source.read_at(self._alike, len(data))
            if same == data:
                self._alike += len(data)
                return
            await self._diverge()
        self._append(data)

    async def _diverge(self) -> None:
        """Take that from here on the body is another one; keep what came of it so far."""
        if self._alike > self._bytes_max:
            self._refuse()
        self._changed = bytearray()
        while len(self._changed) < self._alike:
            rest = self._alike - len(self._changed)
            piece = await self._source.read_at(len(self._changed), min(rest, _PIECE_BYTES))
            self._append(piece)

    async def _append_original(self, start: int) -> None:
        """Take that the object's own bytes follow, from a place on (206)."""
        if start > self._size:
            raise ProtocolError(f"use-original-body={start} of {self._size} bytes")
        if self._changed is None and start == self._alike:
            self._alike = self._size
            return
        if self._changed is None:
            await self._diverge()
        while start < self._size:
            piece = await self._source.read_at(start, _PIECE_BYTES)
            start += len(piece)
            self._append(piece)

    def _append(self, data: bytes) -> None:
        assert self._changed is not None
        if not data or len(self._changed) + len(data) > self._bytes_max:
            self._refuse()
        self._changed += data

    def _refuse(self) -> None:
        raise LimitExceeded("modified_bytes_max", self._bytes_max)


def _found(fields: Mapping[str, str]) -> str:
    """Return what a service says that it found; empty: nothing."""
    infection = fields.get("x-infection-found", "")
    if infection:
        threat = _THREAT.search(infection)
        return printable((threat[1] if threat else infection).strip().encode("latin-1"))
    for name in ("x-virus-id", "x-virus-name", "x-violations-found"):
        value = fields.get(name, "").strip()
        if value and value.lower() not in _NOTHING:
            return printable(value.encode("latin-1"))
    return ""


_THREAT: Final = re.compile(r"Threat=([^;]*)")
_NOTHING: Final = frozenset({"0", "no threats", "none"})
_OK, _UNCHANGED = 200, 204
_ADAPTED: Final = frozenset({200, 206})
_PIECE_BYTES: Final = 64 << 10
