"""Body stages: what may stand between one end's message and the other end, each way of an exchange.

The two ends of an exchange are a source and a sink; stages are both, joined in a row between them:
``source -> stage -> stage -> sink``. A held body is one stage, each stream filter is one. The
invariant: a sink sees ``begin``, then ``feed`` any number of times, then ``finish`` or ``abort``
once, and nothing after it; what was aborted never looks like a message that ended.

How a stage is driven:

- Everything is a plain call on the port's thread; nothing is awaited. A stage that has to wait (for
  a disk, a task, a verdict) returns, and calls its ``sink`` later, from its own completion.
- ``begin(head)`` hands over the head. A stage may change it or keep it back: nothing of a message
  is on its way before the last stage has called ``sink.begin``.
- ``feed(data)`` hands over bytes of the body, decoded from the transfer coding only. A view is
  valid during the call and no longer, its memory belongs to the next client after it: whoever keeps
  bytes, or shows them to somebody's filter, makes ``bytes`` of them. An empty piece is never fed.
- **Back-pressure.** ``feed`` returns whether more may come at once. False is not a refusal: the
  piece was taken, and no other one comes until the stage has called ``source.resume()``, once. A
  stage that passes bytes on returns what its sink returned, and passes ``resume`` on.
- ``finish(trailers)`` is the end of a message that is whole. A stage gives out what it holds, then
  finishes its sink; if its sink is full, later.
- ``abort(reason)`` is the end of one that is not: its source has failed. A stage passes it on
  before anything else that it holds.
- A stage that refuses calls ``exchange.refuse``; one that fails, ``exchange.abort``. Either ends
  the exchange, and no more calls come from then on but ``close``.
- ``close()`` comes last, exactly once, however the exchange ended: give everything back (files,
  tasks, quota). Nothing may be called on sink or source from there on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from sluicegate.protocols.http1 import Fields, Request, Response

__all__ = [
    "BodySink",
    "BodySource",
    "BodyStage",
    "OwnSource",
    "RequestSink",
    "ResponseSink",
    "join_stages",
]

HeadT = TypeVar("HeadT", Request, Response)
HeadT_contra = TypeVar("HeadT_contra", Request, Response, contravariant=True)


class BodySource(Protocol):
    """Where a message comes from."""

    def resume(self) -> None:
        """Send on: after a ``feed`` that returned False there is room again.

        What comes by it may be fed inside this call.
        """
        ...


class OwnSource(BodySource, Protocol):
    """Where an answer of the gate's own comes from."""

    def close(self) -> None:
        """Give everything back: the exchange is over. Called once."""
        ...


class BodySink(Protocol[HeadT_contra]):
    """Where a message goes; see the module for the order of calls."""

    def begin(self, head: HeadT_contra) -> None:
        """Take the head."""
        ...

    def feed(self, data: bytes | memoryview) -> bool:
        """Take bytes of the body; False: no more before ``resume``."""
        ...

    def finish(self, trailers: Fields) -> None:
        """Take the end of a message that is whole."""
        ...

    def abort(self, reason: str) -> None:
        """Take the end of one that is not."""
        ...


RequestSink = BodySink[Request]
ResponseSink = BodySink[Response]


class BodyStage(Protocol[HeadT]):
    """A sink that is the source of the next one; ``join_stages`` sets both neighbours."""

    source: BodySource
    sink: BodySink[HeadT]

    def begin(self, head: HeadT) -> None:
        """Take the head."""
        ...

    def feed(self, data: bytes | memoryview) -> bool:
        """Take bytes of the body; False: no more before ``source.resume``."""
        ...

    def finish(self, trailers: Fields) -> None:
        """Take the end of a message that is whole."""
        ...

    def abort(self, reason: str) -> None:
        """Take the end of one that is not, and pass it on."""
        ...

    def resume(self) -> None:
        """Take that the sink has room again."""
        ...

    def close(self) -> None:
        """Give everything back: the exchange is over. Called once."""
        ...


def join_stages(
    source: BodySource, stages: Sequence[BodyStage[HeadT]], sink: BodySink[HeadT]
) -> BodySink[HeadT]:
    """Join stages in their order between two ends; return what the source is to feed."""
    before, first = source, sink
    for place, stage in enumerate(stages):
        stage.source = before
        stage.sink = sink if place == len(stages) - 1 else stages[place + 1]
        before = stage
        if not place:
            first = stage
    return first
