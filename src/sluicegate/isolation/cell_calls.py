"""In a cell: calls to the gate, and what the cell keeps until the gate does not need it any more.

``server`` has one. Most methods of the filter API return at once with a value that only the gate
knows, so the cell stands still until the answer is there; the gate never waits. The invariant: each
call gets its answer or raises, in the order of the calls; what is awaited is given up in the gate,
too, when nobody waits for it here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from sluicegate.errors import BadContext
from sluicegate.sandbox.message import MESSAGE_BYTES_MAX, encode

from . import calls
from .calls import Call, Returned

if TYPE_CHECKING:
    from sluicegate.port import CompletionPort
    from sluicegate.sandbox.message import Message

    from .messages import ToCell

__all__ = ["NOTHING", "About", "CellCalls"]

ResultT = TypeVar("ResultT")


class About(NamedTuple):
    """What a call is about."""

    session: str = ""
    connection: str = ""
    place: int = 0


NOTHING = About()


class CellCalls:
    """The calls of one cell."""

    def __init__(self, port: CompletionPort, send: Callable[[Message], None]) -> None:
        """Make it.

        Args:
            port: The cell's own.
            send: Sends a message to the gate.
        """
        self.wait_for: Callable[[Callable[[ToCell], bool]], ToCell]
        #: Blocks until a message comes that is wanted; the wire's.
        self._port = port
        self._send = send
        self._calls = 0
        self._tokens = 0
        self._kept: dict[int, Any] = {}
        self._waiting: dict[int, asyncio.Future[Returned]] = {}
        self._dropped: deque[int] = deque()
        #: Held objects that nobody has any more; the collector may say so on any thread.

    # -- calling -------------------------------------------------------------------------------

    def now(self, errand: calls.Errand, wanted: type[ResultT], about: About = NOTHING) -> ResultT:
        """Have something done, and stand still until it is.

        Raises:
            WrongThread: Off the loop's thread, as in the gate.
            SluicegateError: What it raises in the gate.
        """
        self._port.check_thread()
        number = self._begin(errand, about)
        answer = self.wait_for(lambda one: isinstance(one, Returned) and one.call == number)
        assert isinstance(answer, Returned), "it was waited for"
        return _result(answer, wanted)

    def do(self, errand: calls.Errand, about: About = NOTHING) -> None:
        """As ``now``, of what has no result."""
        self.now(errand, type(None), about)

    async def later(
        self, errand: calls.Errand, wanted: type[ResultT], about: About = NOTHING
    ) -> ResultT:
        """Have something done, and let others go on until it is."""
        number = self._begin(errand, about)
        future: asyncio.Future[Returned] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            return _result(await future, wanted)
        except asyncio.CancelledError:
            if not future.done() or future.cancelled():
                self.tell(calls.CancelCall(number))
            raise
        finally:
            self._waiting.pop(number, None)

    def tell(self, errand: calls.Errand, about: About = NOTHING) -> None:
        """Have something done that has no answer."""
        self._say(0, errand, about)

    def on_returned(self, answer: Returned) -> None:
        """Take the answer to what is awaited."""
        future = self._waiting.get(answer.call)
        if future is not None and not future.done():
            future.set_result(answer)

    def _begin(self, errand: calls.Errand, about: About) -> int:
        self._tell_dropped()
        self._calls += 1
        self._say(self._calls, errand, about)
        return self._calls

    def _say(self, number: int, errand: calls.Errand, about: About) -> None:
        message = Call(number, about.place, about.connection, about.session, errand)
        if not isinstance(errand, calls.FeedObject) and len(encode(message)) > MESSAGE_BYTES_MAX:
            raise ValueError(f"more than {MESSAGE_BYTES_MAX} bytes to say at once")
        self._send(message)

    # -- held objects --------------------------------------------------------------------------

    def drop(self, number: int) -> None:
        """Take, on any thread, that nobody has a held object any more."""
        self._dropped.append(number)

    def _tell_dropped(self) -> None:
        if self._dropped:
            dropped: list[int] = []
            while self._dropped:
                dropped.append(self._dropped.popleft())
            self.tell(calls.Drop(dropped))

    # -- what the gate may ask for ---------------------------------------------------------------

    def keep(self, value: object) -> int:
        """Keep a value until the gate forgets its token."""
        self._tokens += 1
        self._kept[self._tokens] = value
        return self._tokens

    def kept(self, token: int) -> Any:
        """Return what is kept for a token.

        Raises:
            BadContext: Nothing is.
        """
        if token not in self._kept:
            raise BadContext("the gate asked for what it has forgotten")
        return self._kept[token]

    def forget(self, *tokens: int) -> None:
        """Keep it no more."""
        for token in tokens:
            self._kept.pop(token, None)
        self._tell_dropped()

    @property
    def kept_count(self) -> int:
        """How much is kept."""
        return len(self._kept)


def _result(answer: Returned, wanted: type[ResultT]) -> ResultT:
    if answer.failure is not None:
        raise answer.failure.error()
    result: object = answer.result
    assert isinstance(result, wanted), f"{wanted.__name__} was to come, not {result!r}"
    return result
