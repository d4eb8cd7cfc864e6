"""Judgement: asks the content filters about one whole object, in order, until one refuses.

``gate/transfer_filter`` starts it when an object is complete. The invariant: an object is released
only when every filter that wants it answered ``Release`` (or one replaced it); a filter that
raises, is late or answers nonsense refuses it, unless the operator wrote ``on_failure = "bypass"``
for that filter.
"""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sluicegate.errors import FILTER_ERRORS, BadContext
from sluicegate.filterapi import (
    Connection,
    ContentVerdict,
    Refuse,
    Release,
    Replace,
    TransferFile,
    TransferOffer,
    Wants,
)
from sluicegate.spool import SpooledBody, SpooledFile, SpoolStore

if TYPE_CHECKING:
    from .registry import ContentStep

__all__ = ["UNWANTED", "HeldObject", "Judgement", "bytes_limit", "judge", "wanting"]

ResultT = TypeVar("ResultT")

UNWANTED: Final = "no content filter asks for such objects"
"""Why an object is released that nobody looks at."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the content filters decided together, and who decided it."""

    verdict: ContentVerdict
    reason: str
    filter_name: str = ""


class HeldObject:
    """One whole object at rest, as content filters see it (``filterapi.Transfer``)."""

    __slots__ = ("_body", "_files", "_is_over", "_store", "connection", "offer")

    def __init__(
        self, store: SpoolStore, body: SpooledBody, connection: Connection, offer: TransferOffer
    ) -> None:
        self.offer = offer
        self.connection = connection
        self._store = store
        self._body = body
        self._files: list[SpooledFile] = []
        self._is_over = False

    @property
    def size(self) -> int:
        """Its bytes."""
        return self._body.size

    @property
    def sha256(self) -> str:
        """The digest of its bytes, hexadecimal."""
        return self._body.sha256

    @property
    def head(self) -> bytes:
        """Its first bytes (up to 4 KiB), in memory."""
        return self._body.head

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncGenerator[TransferFile]:
        """Open it for reading.

        Raises:
            BadContext: The verdict was given.
        """
        self._check()
        file = SpooledFile(self._store, self._body)
        self._files.append(file)
        try:
            yield file
        finally:
            file.close()

    async def run_blocking(self, function: Callable[..., ResultT], *args: Any) -> ResultT:
        """Run a blocking look at the object on the service's pool."""
        self._check()
        return await self._store.port.run_blocking(function, *args)

    def end(self) -> None:
        """Take that the verdict was given: nothing can be read any more."""
        self._is_over = True
        for file in self._files:
            file.close()

    def _check(self) -> None:
        if self._is_over:
            raise BadContext("the verdict was given: look at the object inside inspect only")


def wanting(steps: Sequence[ContentStep], offer: TransferOffer) -> tuple[ContentStep, ...]:
    """Return the steps whose filters ask for an object like this, in order."""
    return tuple(step for step in steps if _is_wanted(step.filter.wants, offer))


def bytes_limit(steps: Sequence[ContentStep]) -> tuple[int, str] | None:
    """Return the largest object that all of them can judge, and whose bound that is."""
    bounds = [
        (step.filter.wants.bytes_max, step.installed.name)
        for step in steps
        if step.filter.wants.bytes_max is not None
    ]
    return min(bounds) if bounds else None


async def judge(
    steps: Sequence[ContentStep],
    held: HeldObject,
    timeout_s: float,
    on_failure: Callable[[ContentStep, str], None],
) -> Judgement:
    """Ask each filter; the first refusal or replacement ends it.

    Args:
        steps: The filters that want the object, in order.
        held: The object.
        timeout_s: What each may take.
        on_failure: Told of a filter that failed, and how, before anything follows from it.
    """
    for step in steps:
        name = step.installed.name
        step.installed.calls += 1
        answer, cause = await _ask(step, held, timeout_s)
        match answer:
            case Release():
                continue
            case Refuse(reason):
                return Judgement(answer, reason, name)
            case Replace():
                return Judgement(answer, "replaced", name)
            case None:
                step.installed.failures += 1
                on_failure(step, cause)
                if not step.is_bypassed_on_failure:
                    reason = f"filter failure: {name}: {cause}"
                    return Judgement(Refuse(reason), reason, name)
    return Judgement(Release(), "released by every content filter" if steps else UNWANTED)


async def _ask(
    step: ContentStep, held: HeldObject, timeout_s: float
) -> tuple[ContentVerdict | None, str]:
    """Return a filter's verdict, or None and why there is none."""
    try:
        asked: object = step.filter.inspect(held)
    except FILTER_ERRORS as error:
        return None, _describe(error)
    if not inspect.isawaitable(asked):
        return None, f"inspect is not a coroutine: it returned {asked!r}"
    task = asyncio.get_running_loop().create_task(_awaited(asked))
    try:
        await asyncio.wait({task}, timeout=timeout_s)
    finally:
        # Not awaited: a filter that swallows its cancellation must not hold the client up.
        task.cancel()
    if not task.done():
        task.add_done_callback(_forget)
        return None, f"gave no verdict for {timeout_s:g} s (inspect_timeout_s)"
    if task.cancelled():
        return None, "inspect was cancelled"
    failure = task.exception()
    if failure is not None:
        return None, _describe(failure)
    answer = task.result()
    if isinstance(answer, Release | Refuse | Replace):
        return answer, ""
    return None, f"answered {answer!r}, which is no verdict"


async def _awaited(asked: Awaitable[object]) -> object:
    try:
        return await asked
    except SystemExit as error:
        # Out of a task it would end the loop.
        raise RuntimeError(f"it called sys.exit({error.code!r})") from error


def _forget(task: asyncio.Task[object]) -> None:
    """Take a late end: its verdict was given without it, and its failure is recorded."""
    if not task.cancelled():
        task.exception()


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _is_wanted(wants: Wants, offer: TransferOffer) -> bool:
    if offer.direction not in wants.directions:
        return False
    if wants.protocols and offer.protocol not in wants.protocols:
        return False
    if not wants.content_types:
        return True
    essence = offer.content_type.partition(";")[0].strip().lower()
    return any(fnmatch.fnmatchcase(essence, pattern.lower()) for pattern in wants.content_types)
