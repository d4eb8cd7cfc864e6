"""Judgement: asks the content filters about one whole object, until one refuses.

``gate/holding`` starts it when an object is complete. Filters are asked in order; neighbours that
say so (``ContentFilter.runs_beside``) at the same time, and the first refusal ends the others'
work. Where one replaces the object, those behind it are asked about what stands in its place. The
invariant: what is delivered was released by every filter that wants it, except by those before the
one that made it; a filter that raises, is late or answers nonsense refuses it, unless the operator
wrote ``on_failure = "bypass"`` for that filter.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import fnmatch
import inspect
import itertools
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sluicegate.errors import BadContext
from sluicegate.filterapi import (
    Connection,
    ContentVerdict,
    Refuse,
    Release,
    Replace,
    Transfer,
    TransferFile,
    TransferOffer,
    Wants,
)
from sluicegate.spool import SpooledBody, SpooledFile, SpoolStore

from .replaced_object import ReplacedObject

if TYPE_CHECKING:
    from .registry import ContentStep
    from .verdict_cache import VerdictCache

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
    is_failure: bool = False
    """Whether a filter gave no verdict, which refuses."""


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
    kept: VerdictCache | None = None,
    on_answer: Callable[[str, float], None] = lambda _name, _seconds: None,
) -> Judgement:
    """Ask the filters; the first refusal ends it.

    Args:
        steps: The filters that want the object, in order.
        held: The object.
        timeout_s: What each may take.
        on_failure: Told of a filter that failed, and how, before anything follows from it.
        kept: Verdicts of before.
        on_answer: Told which filter has answered, or failed, and how many seconds it took.
    """
    asking = _Asking(held, timeout_s, on_failure, kept, on_answer)
    replaced: list[ReplacedObject] = []
    decided = Judgement(Release(), "released by every content filter" if steps else UNWANTED)
    try:
        for members in _groups(steps):
            judgement = _too_large(members, asking.held) if replaced else None
            judgement = judgement or await _judge_beside(members, asking)
            if judgement is None:
                continue
            if not isinstance(judgement.verdict, Replace):
                return judgement
            decided = judgement
            replaced.append(ReplacedObject(held, judgement.verdict.body))
            asking = dataclasses.replace(asking, held=replaced[-1])
    finally:
        for one in replaced:
            one.end()
    return decided


def _groups(steps: Sequence[ContentStep]) -> Iterator[list[ContentStep]]:
    """Yield who is asked at the same time, in order."""
    for side_by_side, group in itertools.groupby(steps, lambda step: step.filter.runs_beside):
        if side_by_side:
            yield list(group)
        else:
            yield from ([one] for one in group)


def _too_large(steps: Sequence[ContentStep], held: Transfer) -> Judgement | None:
    """Refuse what stands in an object's place if a filter could not judge it."""
    limit = bytes_limit(steps)
    if limit is None or held.size <= limit[0]:
        return None
    bound, name = limit
    reason = f"larger than the {bound} bytes that {name} can judge"
    return Judgement(Refuse(reason), reason, name)


@dataclass(frozen=True, slots=True)
class _Asking:
    """What every filter is asked about, and how."""

    held: Transfer
    timeout_s: float
    on_failure: Callable[[ContentStep, str], None]
    kept: VerdictCache | None
    on_answer: Callable[[str, float], None]


async def _judge_beside(steps: Sequence[ContentStep], asking: _Asking) -> Judgement | None:
    """Ask filters at the same time; of refusals that come together, the first in order counts."""
    if len(steps) == 1:
        return await _judge_by(steps[0], asking)
    loop = asyncio.get_running_loop()
    asked = [loop.create_task(_judge_by(step, asking)) for step in steps]
    try:
        waiting = set(asked)
        while waiting:
            _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in asked:
                judgement = task.result() if task.done() else None
                if judgement is not None:
                    return judgement
    finally:
        for task in asked:
            task.cancel()
    return None


async def _judge_by(step: ContentStep, asking: _Asking) -> Judgement | None:
    """Ask one filter; None: it has nothing against the object."""
    name = step.installed.name
    step.installed.calls += 1
    loop = asyncio.get_running_loop()
    begun = loop.time()
    answer, cause = await _ask(step, asking)
    taken_s = loop.time() - begun
    step.installed.time.observe(taken_s)
    asking.on_answer(name, taken_s)
    match answer:
        case Release():
            return None
        case Refuse(reason):
            return Judgement(answer, reason, name)
        case Replace():
            return Judgement(answer, "replaced", name)
        case None:
            step.installed.failures += 1
            asking.on_failure(step, cause)
            if step.is_bypassed_on_failure:
                return None
            reason = f"filter failure: {name}: {cause}"
            return Judgement(Refuse(reason), reason, name, is_failure=True)


async def _ask(step: ContentStep, asking: _Asking) -> tuple[ContentVerdict | None, str]:
    """Return a filter's verdict, or None and why there is none."""
    timeout_s = asking.timeout_s
    task = asyncio.get_running_loop().create_task(_inspected(step, asking.held, asking.kept))
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
    if step.filter.runs_beside and isinstance(answer, Replace):
        return None, "replaced the object, which a filter that runs beside others may not"
    if isinstance(answer, Release | Refuse | Replace):
        return answer, ""
    return None, f"answered {answer!r}, which is no verdict"


async def _inspected(step: ContentStep, held: Transfer, kept: VerdictCache | None) -> object:
    """Return what a filter answers, or answered before about the same bytes."""
    try:
        version = None if kept is None else await step.filter.verdict_version(held)
        if kept is None or version is None:
            return await _inspect(step, held)
        if kept.is_released(step, version, held):
            return Release()
        answer = await _inspect(step, held)
        if isinstance(answer, Release):
            kept.note_release(step, version, held)
        return answer
    except SystemExit as error:
        # Out of a task it would end the loop.
        raise RuntimeError(f"it called sys.exit({error.code!r})") from error


async def _inspect(step: ContentStep, held: Transfer) -> object:
    asked: object = step.filter.inspect(held)
    if not inspect.isawaitable(asked):
        raise _NoCoroutineError(f"inspect is not a coroutine: it returned {asked!r}")
    return await asked


class _NoCoroutineError(Exception):
    """A filter's ``inspect`` is an ordinary function."""


def _forget(task: asyncio.Task[object]) -> None:
    """Take a late end: its verdict was given without it, and its failure is recorded."""
    if not task.cancelled():
        task.exception()


def _describe(error: BaseException) -> str:
    if isinstance(error, _NoCoroutineError):
        return str(error)
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
