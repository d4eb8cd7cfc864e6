"""IcapConnection: one connection to an ICAP server, and the exchange of one request on it.

``scan/icap`` keeps those that may be used again. The invariant: a connection on which anything went
otherwise than agreed is never used again.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import AsyncGenerator
from typing import Final

from sluicegate.errors import ProtocolError
from sluicegate.protocols.icap import (
    END_OF_BODY,
    END_OF_PREVIEW_AND_BODY,
    IcapTarget,
    InnerMessage,
    chunk,
    options_request,
    request_head,
)
from sluicegate.protocols.icap_reader import IcapBody, IcapEnd, IcapEvent, IcapHead, IcapReader
from sluicegate.scan_limits import ICAP_CHUNK_BYTES, ICAP_RECEIVE_BYTES

from .icap_answer import IcapAnswer, Source
from .scanner_link import ScannerLink

__all__ = ["IcapConnection"]


class IcapConnection:
    """One connection; closed by whoever has it, unless it ``is_reusable``."""

    def __init__(self, link: ScannerLink) -> None:
        self.is_fresh = True
        #: Whether nothing was asked on it before.
        self.has_answered = False
        #: Whether the present question has had an answer, if only its beginning.
        self._link = link
        self._reader = IcapReader()
        self._is_kept = True

    @property
    def is_reusable(self) -> bool:
        """Whether another request may be sent: the last one went as agreed, to its end."""
        return self._is_kept and self._reader.is_idle

    def close(self) -> None:
        """End it."""
        self._is_kept = False
        self._link.close()

    async def ask_options(self, target: IcapTarget) -> IcapHead:
        """Ask what the service is like; return the head of the answer.

        Raises:
            OSError: The connection broke.
            ProtocolError: It is no answer.
        """
        self._begin()
        await self._send(options_request(target))
        head: IcapHead | None = None
        while True:
            for event in await self._receive():
                match event:
                    case IcapHead(status=100):
                        raise ProtocolError("100 Continue to OPTIONS")
                    case IcapHead():
                        head = event
                        self._note_head(event)
                    case IcapBody():
                        pass
                    case IcapEnd():
                        assert head is not None, "a head comes before the end"
                        return head

    async def exchange(
        self,
        target: IcapTarget,
        message: InnerMessage,
        source: Source,
        answer: IcapAnswer,
        *,
        preview_bytes: int | None,
        allows: tuple[int, ...],
    ) -> bool:
        """Show an object, and have an answer take what is said of it.

        Returns:
            Whether the server had all of the object before it said its last word.

        Raises:
            LimitExceeded: What comes in the object's place is larger than may be.
            OSError: The connection broke.
            ProtocolError: It is no answer.
        """
        self._begin()
        head = request_head(target, message, preview_bytes=preview_bytes, allows=allows)
        sending = _Sending(self._link, source, message.size)
        is_promised = preview_bytes is not None and preview_bytes < message.size
        if preview_bytes is None:
            first = head
        else:
            shown = await source.read_at(0, preview_bytes) if preview_bytes else b""
            end = END_OF_BODY if is_promised else END_OF_PREVIEW_AND_BODY
            first = head + (chunk(shown) if shown else b"") + end
            sending.is_whole = not is_promised
        async with sending.running():
            if preview_bytes is None:
                sending.start(first, 0)
            else:
                await self._send(first)
            while not answer.is_over:
                for event in await self._receive():
                    if isinstance(event, IcapHead) and event.status == _CONTINUE:
                        if not is_promised:
                            raise ProtocolError("100 Continue, and there is no more")
                        is_promised = False
                        sending.start(b"", preview_bytes or 0)
                        continue
                    if isinstance(event, IcapHead):
                        self._note_head(event)
                    await answer.take(event)
            is_whole = await sending.settle()
        if not is_whole and sending.was_started:
            # It would take what is still to come for the next request.
            self._is_kept = False
        return is_whole

    def _begin(self) -> None:
        self.has_answered = False
        self._reader.expect()

    def _note_head(self, head: IcapHead) -> None:
        tokens = {one.strip().lower() for one in head.fields.get("connection", "").split(",")}
        if "close" in tokens or head.status >= _ERROR_MIN:
            self._is_kept = False

    async def _send(self, data: bytes) -> None:
        await self._link.send(data)

    async def _receive(self) -> list[IcapEvent]:
        data = await self._link.receive(ICAP_RECEIVE_BYTES)
        self.has_answered = self.has_answered or bool(data)
        self.is_fresh = self.is_fresh and not self.has_answered
        if not data and not self.has_answered:
            raise OSError(errno.ECONNRESET, "the ICAP server went away")
        return self._reader.receive_data(data)


class _Sending:
    """The body of one request, sent while the answer is read: a server may send it back at once."""

    def __init__(self, link: ScannerLink, source: Source, size: int) -> None:
        self.is_whole = False
        #: Whether all of it was sent.
        self._link = link
        self._source = source
        self._size = size
        self._task: asyncio.Task[None] | None = None

    @property
    def was_started(self) -> bool:
        """Whether more than a preview was to be sent."""
        return self._task is not None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """End it with what it is for."""
        try:
            yield
        finally:
            if self._task is not None:
                self._task.cancel()
                await asyncio.wait({self._task})

    def start(self, first: bytes, offset: int) -> None:
        """Begin to send some bytes, and then the object from a place on."""
        assert self._task is None, "a body is sent once"
        self._task = asyncio.get_running_loop().create_task(self._send(first, offset))

    async def settle(self) -> bool:
        """Return whether all of it was sent; what is on its way has a moment to arrive.

        Raises:
            SluicegateError: The object could not be read.
        """
        task = self._task
        if task is not None:
            await asyncio.wait({task}, timeout=_SETTLE_S)
            if task.done() and not task.cancelled() and (failure := task.exception()):
                raise failure
        return self.is_whole

    async def _send(self, first: bytes, offset: int) -> None:
        try:
            await self._link.send(first)
            while offset < self._size:
                piece = await self._source.read_at(offset, ICAP_CHUNK_BYTES)
                if not piece:
                    raise ProtocolError("the object is shorter than it was")
                offset += len(piece)
                await self._link.send(chunk(piece))
            await self._link.send(END_OF_BODY)
            self.is_whole = True
        except (BrokenPipeError, ConnectionResetError):
            # It reads no more; what it says of that is there to be read.
            return


_CONTINUE: Final = 100
_ERROR_MIN: Final = 400
_SETTLE_S: Final = 1.0
"""The last bytes are in the kernel before a server can have answered to them; this is for the loop
to notice."""
