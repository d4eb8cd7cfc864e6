"""Past: questions to the store of records, asked beside the loop and one after the other.

Pages and the API ask it. The invariant: a question never holds up the console's other pages, and
no more questions wait than are worth waiting for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sluicegate.audit.store import StorePlace, StoreReader
from sluicegate.clock import Clock
from sluicegate.console_limits import CONSOLE_QUESTIONS_MAX
from sluicegate.errors import ConfigError, SluicegateError

__all__ = ["Past", "PastUnknown"]

AnswerT = TypeVar("AnswerT")


class PastUnknown(SluicegateError):
    """The store cannot be asked: ``cause`` and ``cure`` are for people."""

    def __init__(self, cause: str, cure: str = "") -> None:
        super().__init__(f"{cause} ({cure})" if cure else cause)
        self.cause = cause
        self.cure = cure


class Past:
    """The store of one gate, if it has one."""

    def __init__(self, place: StorePlace | None, clock: Clock) -> None:
        self._place = place
        self._clock = clock
        self._reader: StoreReader | None = None
        self._thread = ThreadPoolExecutor(1, "store")
        self._waiting = 0

    @property
    def is_kept(self) -> bool:
        """Whether the gate has a store."""
        return self._place is not None

    async def ask(self, question: Callable[[StoreReader], AnswerT]) -> AnswerT:
        """Return the answer to a question, which runs in a thread of its own.

        Raises:
            PastUnknown: There is no store, it cannot be read, or too many questions wait.
        """
        if self._place is None:
            raise PastUnknown("this gate keeps no store of records", _NO_STORE)
        if self._waiting >= CONSOLE_QUESTIONS_MAX:
            raise PastUnknown("too many questions to the store wait", "ask again in a moment")
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, self._ask, question)
        except ConfigError as error:
            raise PastUnknown(error.cause, error.cure) from error
        finally:
            self._waiting -= 1

    def move(self, place: StorePlace) -> None:
        """Reach the store so from now on; what is being asked is answered first."""
        if place != self._place:
            self._thread.submit(self._move, place)

    def close(self) -> None:
        """Answer what is being asked, and let go of the store."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        if self._reader is not None:
            self._reader.close()

    def _move(self, place: StorePlace) -> None:
        self._place = place
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def _ask(self, question: Callable[[StoreReader], AnswerT]) -> AnswerT:
        if self._reader is None:
            assert self._place is not None, "who has no store is not asked"
            self._reader = StoreReader(self._place, self._clock)
        return question(self._reader)


_NO_STORE = 'store = "sqlite" in [log] makes one'
