"""Judgement: filters beside each other, the first refusal ends it, and verdicts that are kept."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any

import pytest

from sluicegate.errors import BadContext
from sluicegate.filterapi import (
    ContentFilter,
    ContentVerdict,
    Direction,
    Refuse,
    Release,
    Replace,
    Transfer,
    TransferOffer,
    Wants,
)
from sluicegate.gate.judgement import Judgement, judge
from sluicegate.gate.registry import ContentStep, Installed
from sluicegate.gate.settings import Installation, OnFailure
from sluicegate.gate.verdict_cache import VerdictCache, VerdictCounts
from sluicegate.testing import VirtualClock


class Held:
    """A held object of which only the digest matters."""

    def __init__(self, sha256: str = "aa", size: int = 1, *, is_text: bool = False) -> None:
        self.sha256 = sha256
        self.size = size
        self.offer = TransferOffer("x", Direction.DOWNLOAD, "http", is_text=is_text)


class Named(ContentFilter):
    """Answers when it is told to, and notes what becomes of it."""

    def __init__(self, answer: Any, *, beside: bool = True, version: str | None = None) -> None:
        self.answer = answer
        self.runs_beside = beside  # type: ignore[misc]
        self.version = version
        self.asked = 0
        self.was_cancelled = False
        self.go = asyncio.Event()
        self.go.set()

    async def verdict_version(self, transfer: Transfer) -> str | None:
        return self.version

    async def inspect(self, transfer: Transfer) -> ContentVerdict:
        self.asked += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer  # type: ignore[no-any-return]


def steps_of(*filters: ContentFilter, on_failure: OnFailure = OnFailure.DENY) -> list[ContentStep]:
    return [
        ContentStep(Installed(Installation(f"f{place}", one, on_failure, "test")), one)
        for place, one in enumerate(filters)
    ]


async def ask(
    steps: Sequence[ContentStep], kept: VerdictCache | None = None, held: Held | None = None
) -> Judgement:
    failures: list[str] = []
    given: Any = held or Held()
    return await judge(steps, given, 5.0, lambda _step, cause: failures.append(cause), kept)


def test_filters_that_say_so_look_at_the_same_time() -> None:
    async def run() -> Judgement:
        first, second = Named(Release()), Named(Release())
        first.go.clear()
        asked = asyncio.ensure_future(ask(steps_of(first, second)))
        while not second.asked:
            await asyncio.sleep(0)
        assert first.asked == 1
        first.go.set()
        return await asked

    assert asyncio.run(run()).verdict == Release()


def test_the_first_refusal_ends_the_work_of_the_others() -> None:
    async def run() -> None:
        slow, quick = Named(Release()), Named(Refuse("macro"))
        slow.go.clear()
        judgement = await ask(steps_of(slow, quick))
        assert (judgement.reason, judgement.filter_name) == ("macro", "f1")
        while not slow.was_cancelled:
            await asyncio.sleep(0)

    asyncio.run(run())


def test_of_refusals_at_the_same_time_the_first_in_order_counts() -> None:
    async def run() -> Judgement:
        return await ask(steps_of(Named(Refuse("one")), Named(Refuse("two"))))

    assert asyncio.run(run()).reason == "one"


@pytest.mark.parametrize("places", [(True, False, True), (False, True, False)])
def test_a_filter_that_does_not_say_so_waits_for_those_before_it(places: tuple[bool, ...]) -> None:
    async def run() -> list[int]:
        filters = [Named(Release(), beside=beside) for beside in places]
        filters[0].answer = Refuse("stop")
        await ask(steps_of(*filters))
        return [one.asked for one in filters]

    assert asyncio.run(run()) == [1, 0, 0]


def test_a_filter_that_replaces_beside_others_has_failed() -> None:
    async def run() -> Judgement:
        return await ask(steps_of(Named(Release()), Named(Replace(b"x"))))

    judgement = asyncio.run(run())
    assert isinstance(judgement.verdict, Refuse)
    assert "may not" in judgement.reason


def test_a_failure_beside_others_refuses_unless_it_is_bypassed() -> None:
    async def run(on_failure: OnFailure) -> Judgement:
        filters = Named(Release()), Named(ValueError("broken"))
        return await ask(steps_of(*filters, on_failure=on_failure))

    assert asyncio.run(run(OnFailure.DENY)).reason == "filter failure: f1: ValueError: broken"
    assert asyncio.run(run(OnFailure.BYPASS)).verdict == Release()


# -- verdicts that are kept ------------------------------------------------------------------------


def cache(entries_max: int = 100, clock: VirtualClock | None = None) -> VerdictCache:
    return VerdictCache(clock or VirtualClock(), entries_max, 60.0)


def test_the_same_bytes_are_judged_once_by_the_same_version() -> None:
    async def run() -> tuple[int, VerdictCounts]:
        one, kept = Named(Release(), version="v1"), cache()
        steps = steps_of(one)
        for _ in range(3):
            assert (await ask(steps, kept)).verdict == Release()
        return one.asked, kept.counts()

    assert asyncio.run(run()) == (1, VerdictCounts(kept=1, hits=2, misses=1))


@pytest.mark.parametrize(
    "change",
    ["version", "no version", "bytes", "size", "text", "installation", "age"],
)
def test_anything_else_is_judged_again(change: str) -> None:
    async def run() -> int:
        clock = VirtualClock()
        one, kept, held = Named(Release(), version="v1"), cache(clock=clock), Held()
        steps = steps_of(one)
        await ask(steps, kept)
        match change:
            case "version":
                one.version = "v2"
            case "no version":
                one.version = None
            case "bytes":
                held = Held("bb")
            case "size":
                held = Held(size=2)
            case "text":
                held = Held(is_text=True)
            case "installation":
                steps = steps_of(one)
            case "age":
                clock.advance(60.0)
        await ask(steps, kept, held)
        return one.asked

    assert asyncio.run(run()) == 2


@pytest.mark.parametrize("answer", [Refuse("bad"), ValueError("broken"), "nonsense"])
def test_only_releases_are_kept(answer: Any) -> None:
    async def run() -> int:
        one, kept = Named(answer, version="v1"), cache()
        steps = steps_of(one)
        await ask(steps, kept)
        await ask(steps, kept)
        assert kept.counts().kept == 0
        return one.asked

    assert asyncio.run(run()) == 2


def test_what_was_asked_for_longest_ago_is_forgotten_first() -> None:
    async def run() -> int:
        one, kept = Named(Release(), version="v1"), cache(entries_max=2)
        steps = steps_of(one)
        for digest in ("a", "b", "a", "c", "a"):
            await ask(steps, kept, Held(digest))
        assert kept.counts() == VerdictCounts(kept=2, hits=2, misses=3)
        return one.asked

    assert asyncio.run(run()) == 3


def test_a_cache_of_no_entries_keeps_none() -> None:
    async def run() -> int:
        one, kept = Named(Release(), version="v1"), cache(entries_max=0)
        steps = steps_of(one)
        await ask(steps, kept)
        await ask(steps, kept)
        return one.asked

    assert asyncio.run(run()) == 2


# -- what stands in an object's place ------------------------------------------------------------


class Looking(ContentFilter):
    """Notes what it is shown, and answers by it."""

    def __init__(self, *answers: ContentVerdict, bytes_max: int | None = None) -> None:
        self.answers = list(answers)
        self.wants = Wants(bytes_max=bytes_max)  # type: ignore[misc]
        self.seen: list[tuple[bytes, int, str, bytes]] = []
        self.transfers: list[Transfer] = []

    async def inspect(self, transfer: Transfer) -> ContentVerdict:
        self.transfers.append(transfer)
        if isinstance(transfer, Held):
            self.seen.append((b"", transfer.size, transfer.sha256, b""))
        else:
            async with transfer.open() as file:
                whole = await file.read()
                with file.blocking_file() as opened:
                    assert opened.read() == whole == await file.read_at(0, 100)
            self.seen.append((whole, transfer.size, transfer.sha256, transfer.head))
        return self.answers.pop(0)


def seen_of(body: bytes) -> tuple[bytes, int, str, bytes]:
    return (body, len(body), hashlib.sha256(body).hexdigest(), body)


def test_filters_behind_a_replacement_are_asked_about_what_stands_there() -> None:
    first, second, third = (
        Looking(Replace(b"masked")),
        Looking(Release()),
        Looking(Replace(b"masked twice")),
    )
    judgement = asyncio.run(ask(steps_of(first, second, third)))
    assert second.seen == third.seen == [seen_of(b"masked")]
    assert judgement.verdict == Replace(b"masked twice")
    assert (judgement.reason, judgement.filter_name) == ("replaced", "f2")


def test_a_refusal_of_what_stands_in_its_place_refuses_it() -> None:
    judgement = asyncio.run(ask(steps_of(Looking(Replace(b"MZ")), Looking(Refuse("executable")))))
    assert (judgement.reason, judgement.filter_name) == ("executable", "f1")


def test_neighbours_that_run_beside_each_other_are_asked_about_it_too() -> None:
    beside = [Named(Release()), Named(Refuse("found"))]
    judgement = asyncio.run(ask(steps_of(Looking(Replace(b"x")), *beside)))
    assert (judgement.reason, [one.asked for one in beside]) == ("found", [1, 1])


def test_what_is_larger_than_a_filter_behind_can_judge_is_refused() -> None:
    behind = Looking(bytes_max=5)
    judgement = asyncio.run(ask(steps_of(Looking(Replace(b"masked")), behind)))
    assert judgement.reason == "larger than the 5 bytes that f1 can judge"
    assert behind.seen == []


def test_a_release_of_what_stands_there_is_kept_under_its_own_digest() -> None:
    kept = VerdictCache(VirtualClock(), 10, 60.0)
    behind = Named(Release(), version="1")
    steps = steps_of(Looking(Replace(b"a"), Replace(b"b"), Replace(b"a")), behind)
    for _ in range(3):
        asyncio.run(ask(steps, kept))
    assert behind.asked == 2


def test_nobody_looks_at_it_behind_the_verdict() -> None:
    behind = Looking(Release())

    async def main() -> None:
        await ask(steps_of(Looking(Replace(b"x")), behind))
        with pytest.raises(BadContext):
            async with behind.transfers[0].open():
                pass

    asyncio.run(main())
