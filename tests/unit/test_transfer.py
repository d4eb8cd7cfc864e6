"""Held transfers: nobody gets a byte before the verdict, and every end is clean and recorded."""

from __future__ import annotations

import asyncio
import hashlib
import random
from pathlib import Path
from typing import Any, ClassVar

import pytest

from sluicegate.errors import BadContext
from sluicegate.filterapi import (
    ContentFilter,
    ContentVerdict,
    Direction,
    Outcome,
    Refuse,
    Release,
    Replace,
    Transfer,
    Wants,
)
from sluicegate.gate.settings import OnFailure
from sluicegate.gate.views import TransferView
from sluicegate.testing import FaultPlan
from sluicegate.testing.peers import PeerStream
from tests.unit.transfer_kit import Scripted, World, receives, sends, step

DATA = random.Random(2).randbytes(300_000)
RESET = b"<104>"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize("size", [0, 1, 49_999, 50_001, 300_000])
def test_released_object_arrives_whole_and_is_recorded(
    directory: Path, size: int, direction: Direction
) -> None:
    scripted = Scripted()
    result = World(directory, [step(scripted)], direction=direction).run(
        sends(DATA[:size]), receives
    )
    digest = hashlib.sha256(DATA[:size]).hexdigest()
    assert result.sink == DATA[:size]
    assert result.source == b""
    assert scripted.seen == [(size, digest, DATA[:size])]
    assert result.connection.ended == "closed"
    (record,) = result.records
    assert (record.verdict, record.bytes, record.sha256) == ("released", size, digest)
    assert record.bytes_delivered == size
    assert record.bytes_written == (size if size > 50_000 else 0)
    assert record.direction == direction
    assert record.user == "ada"
    assert result.outcome.outcome is Outcome.RELEASED
    assert result.outcome.bytes_delivered == size
    assert result.judged.outcome is Outcome.RELEASED


def test_held_object_is_described_as_it_is_until_it_is_over(directory: Path) -> None:
    worlds: list[World] = []
    seen: list[TransferView] = []

    class Looking(ContentFilter):
        async def inspect(self, transfer: Transfer) -> ContentVerdict:
            seen.extend(worlds[0].service.views())
            return Release()

    world = World(directory, [step(Looking(), "looking")])
    worlds.append(world)
    stages: list[str] = []
    world.on_turn = lambda _: stages.extend(one.stage for one in world.service.views())
    world.run(sends(DATA), receives)
    (view,) = seen
    assert (view.stage, view.filters, view.bytes_held) == ("judging", ["looking"], len(DATA))
    assert (view.client, view.rule, view.user) == ("192.0.2.7:4000", "ftp", "ada")
    assert (view.name, view.direction, view.verdict) == ("a/file", "download", "")
    assert list(dict.fromkeys(stages)) == ["filling", "storing", "delivering"]
    assert world.service.views() == []


@pytest.mark.parametrize("size", [0, 1000, 300_000])
def test_refused_object_is_not_delivered_and_both_sides_are_reset(
    directory: Path, size: int
) -> None:
    result = World(directory, [step(Scripted(Refuse("macro")), "no-macros")]).run(
        sends(DATA[:size]), receives
    )
    assert result.sink == result.source == RESET
    assert result.connection.ended == "refused: macro"
    (record,) = result.records
    assert (record.verdict, record.reason, record.filter) == ("refused", "macro", "no-macros")
    assert record.bytes_delivered == 0
    assert record.bytes == size
    assert result.judged == result.outcome


def test_replacement_arrives_in_place_of_the_object(directory: Path) -> None:
    result = World(directory, [step(Scripted(Replace(b"cleaned")))]).run(sends(DATA), receives)
    assert result.sink == b"cleaned"
    (record,) = result.records
    assert (record.verdict, record.reason, record.filter) == ("released", "replaced", "scripted")
    assert (record.bytes, record.bytes_delivered) == (len(DATA), 7)


def test_filters_are_asked_in_order_until_one_refuses(directory: Path) -> None:
    filters = [Scripted(), Scripted(Refuse("second")), Scripted()]
    steps = [step(item, f"f{index}") for index, item in enumerate(filters)]
    result = World(directory, steps).run(sends(DATA), receives)
    assert [len(item.seen) for item in filters] == [1, 1, 0]
    assert [item.installed.calls for item in steps] == [1, 1, 0]
    assert result.records[0].filter == "f1"


# -- which objects -----------------------------------------------------------------------------


class OnlyUploads(Scripted):
    wants = Wants(directions=frozenset({Direction.UPLOAD}))


class OnlyMail(Scripted):
    wants = Wants(protocols=frozenset({"smtp"}))


class OnlyOffice(Scripted):
    wants = Wants(content_types=("application/vnd.ms-*",))


class OnlySmall(Scripted):
    wants = Wants(bytes_max=100_000)


@pytest.mark.parametrize("kind", [OnlyUploads, OnlyMail, OnlyOffice])
def test_object_that_no_filter_wants_passes_without_being_held(
    directory: Path, kind: type[Scripted]
) -> None:
    result = World(directory, [step(kind())]).run(sends(DATA), receives)
    assert result.connection.ended == "left"
    assert result.outcome.outcome is Outcome.RELEASED
    assert result.outcome.bytes_held == 0


def test_filter_that_does_not_want_an_object_is_not_asked(directory: Path) -> None:
    unasked, asked = OnlyMail(Refuse("never")), Scripted()
    result = World(directory, [step(unasked), step(asked)]).run(sends(DATA), receives)
    assert result.sink == DATA
    assert (len(unasked.seen), len(asked.seen)) == (0, 1)


def test_object_larger_than_a_filter_can_judge_is_refused(directory: Path) -> None:
    result = World(directory, [step(OnlySmall(), "small")]).run(sends(DATA), receives)
    assert result.sink == RESET
    (record,) = result.records
    assert record.verdict == "refused"
    assert record.reason == "larger than the 100000 bytes that small can judge"


# -- filters that fail -------------------------------------------------------------------------


class NotACoroutine(ContentFilter):
    def inspect(self, transfer: Transfer) -> ContentVerdict:  # type: ignore[override]
        return Release()


class NeverAnswers(ContentFilter):
    async def inspect(self, transfer: Transfer) -> ContentVerdict:
        await asyncio.get_running_loop().create_future()
        return Release()


class IgnoresCancellation(ContentFilter):
    async def inspect(self, transfer: Transfer) -> ContentVerdict:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
        return Release()


FAILING: list[tuple[ContentFilter, str]] = [
    (Scripted(ValueError("boom")), "ValueError: boom"),
    (Scripted(SystemExit(3)), "RuntimeError: it called sys.exit(3)"),
    (Scripted("yes"), "answered 'yes', which is no verdict"),
    (NotACoroutine(), "inspect is not a coroutine: it returned Release()"),
    (NeverAnswers(), "gave no verdict for 0 s (inspect_timeout_s)"),
    (IgnoresCancellation(), "gave no verdict for 0 s (inspect_timeout_s)"),
]


@pytest.mark.parametrize(("failing", "cause"), FAILING, ids=lambda item: str(item)[:20])
def test_filter_that_fails_refuses_the_object(
    directory: Path, failing: ContentFilter, cause: str
) -> None:
    timeout_s = 0.0 if "inspect_timeout_s" in cause else 300.0
    world = World(directory, [step(failing, "bad")], inspect_timeout_s=timeout_s)
    result = world.run(sends(DATA), receives)
    assert result.sink == RESET
    assert result.records[0].reason == f"filter failure: bad: {cause}"
    (failure,) = result.failures
    assert (failure.filter, failure.cause, failure.action) == ("bad", cause, "refused")


def test_failing_filter_is_bypassed_where_the_operator_wrote_so(directory: Path) -> None:
    failing = step(Scripted(ValueError("boom")), "bad", OnFailure.BYPASS)
    following = Scripted()
    result = World(directory, [failing, step(following)]).run(sends(DATA), receives)
    assert result.sink == DATA
    assert len(following.seen) == 1
    assert result.failures[0].action == "bypassed"
    assert failing.installed.failures == 1


class KeepsTheTransfer(ContentFilter):
    kept: ClassVar[list[Transfer]] = []

    async def inspect(self, transfer: Transfer) -> ContentVerdict:
        self.kept.append(transfer)
        return Release()


def test_object_cannot_be_read_after_the_verdict(directory: Path) -> None:
    World(directory, [step(KeepsTheTransfer())]).run(sends(DATA), receives)

    async def look() -> None:
        async with KeepsTheTransfer.kept[0].open():
            pass

    with pytest.raises(BadContext):
        asyncio.run(look())


# -- peers that misbehave ----------------------------------------------------------------------


async def talks_back(stream: PeerStream) -> None:
    await stream.send_all(b"more")


async def resets(stream: PeerStream) -> None:
    stream.reset()


async def never_reads(stream: PeerStream) -> None:
    return


def sends_half_and_resets(data: bytes) -> Any:
    async def peer(stream: PeerStream) -> None:
        await stream.send_all(data)
        stream.reset()

    return peer


async def sends_nothing(stream: PeerStream) -> None:
    return


def test_data_from_the_receiving_side_is_refused(directory: Path) -> None:
    result = World(directory, [step(Scripted())]).run(sends_nothing, talks_back)
    assert result.connection.ended.startswith("refused: client sent data")
    assert [record.verdict for record in result.records] == ["refused"]


def test_receiver_that_resets_while_the_object_is_held_fails_it(directory: Path) -> None:
    result = World(directory, [step(Scripted())]).run(sends_nothing, resets)
    assert result.connection.ended == "failed: client ECONNRESET"
    assert [record.verdict for record in result.records] == ["failed"]


def test_source_that_resets_fails_the_object(directory: Path) -> None:
    result = World(directory, [step(Scripted())]).run(
        sends_half_and_resets(DATA[:100_000]), receives
    )
    assert result.connection.ended == "failed: server ECONNRESET"
    assert result.sink == RESET
    (record,) = result.records
    assert (record.verdict, record.sha256) == ("failed", "")


def test_receiver_that_does_not_read_fails_after_send_stall(directory: Path) -> None:
    result = World(directory, [step(Scripted())], send_stall_s=7.0).run(sends(DATA), never_reads)
    assert result.connection.ended == "failed: client stalled"
    (record,) = result.records
    assert record.verdict == "failed"
    assert record.bytes_delivered < len(DATA)
    assert result.judged.outcome is Outcome.RELEASED


def test_receiver_that_keeps_its_side_open_is_closed_after_half_closed_timeout(
    directory: Path,
) -> None:
    result = World(directory, [step(Scripted())], half_closed_timeout_s=5.0).run(
        sends(DATA[:1000]), never_reads
    )
    assert result.connection.ended == "closed"
    assert result.outcome.outcome is Outcome.RELEASED


# -- limits, the disk, cancellation ------------------------------------------------------------


@pytest.mark.parametrize(
    "limit", ["spool_object_bytes_max", "spool_client_bytes_max", "spool_bytes_max"]
)
def test_quota_ends_in_a_refusal_with_its_name(directory: Path, limit: str) -> None:
    result = World(directory, [step(Scripted())], **{limit: 100_000}).run(sends(DATA), receives)
    assert result.sink == RESET
    assert [(item.verdict, item.reason) for item in result.records] == [
        ("refused", f"limit {limit}")
    ]


@pytest.mark.parametrize(
    ("faults", "name"), [(FaultPlan(no_space=1.0), "ENOSPC"), (FaultPlan(io_error=1.0), "EIO")]
)
def test_failing_disk_ends_in_a_refusal_with_its_name(
    directory: Path, faults: FaultPlan, name: str
) -> None:
    result = World(directory, [step(Scripted())], faults=faults).run(sends(DATA), receives)
    assert result.sink == RESET
    (record,) = result.records
    assert record.verdict == "refused"
    assert name in record.reason


@pytest.fixture(params=[False, True], ids=["shared-slots", "large-buffers"])
def receives_large(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to receive: into shared slots, and into the spool's own large buffers."""
    if request.param:
        monkeypatch.setattr("sluicegate.spool.body._BULKY_BYTES", 0)


@pytest.mark.usefixtures("receives_large")
@pytest.mark.parametrize("turn", [0, 1, 3, 5, 8, 12, 16, 20, 25, 30, 40, 50, 60, 80])
def test_transfer_may_be_cancelled_at_any_moment(directory: Path, turn: int) -> None:
    world = World(directory, [step(Scripted())])

    def on_turn(now: int) -> None:
        if now == turn:
            world.transfer.cancel("aborted by the client")

    world.on_turn = on_turn
    result = world.run(sends(DATA), receives)
    if result.outcome.outcome is Outcome.RELEASED:
        assert result.sink == DATA
    else:
        assert result.outcome.reason == "aborted by the client"
        assert len(result.records) <= 1
        assert result.sink in (RESET, None) or DATA.startswith(result.sink.removesuffix(RESET))


def test_one_transfer_holds_one_object(directory: Path) -> None:
    world = World(directory, [step(Scripted())])
    world.transfer.factory(world.connection)  # type: ignore[arg-type]
    with pytest.raises(BadContext):
        world.transfer.factory(world.connection)  # type: ignore[arg-type]
    world.port.close()


# -- chance ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("receives_large")
@pytest.mark.parametrize("seed", range(25))
def test_correct_peers_get_what_was_sent_whatever_the_order_of_things(
    directory: Path, seed: int
) -> None:
    direction = list(Direction)[seed % 2]
    size = random.Random(seed).choice([0, 1, 5000, 49_999, 50_001, 200_000, 300_000])
    world = World(
        directory, [step(Scripted())], seed=seed, faults=FaultPlan.disorder(), direction=direction
    )
    result = world.run(sends(DATA[:size]), receives)
    assert result.sink == DATA[:size]
    assert [record.verdict for record in result.records] == ["released"]


@pytest.mark.usefixtures("receives_large")
@pytest.mark.parametrize("seed", range(40))
def test_hostile_world_leaves_nothing_behind_and_one_record(directory: Path, seed: int) -> None:
    size = random.Random(seed).choice([1, 49_999, 50_001, 300_000])
    verdict = [Release(), Refuse("no"), ValueError("boom")][seed % 3]
    faults = FaultPlan(
        cut=0.3,
        partial_send=0.3,
        short_read=0.2,
        short_write=0.2,
        late_result=0.1,
        no_space=0.02,
        io_error=0.02,
        cancelled=0.02,
        reset=0.01,
    )
    world = World(directory, [step(Scripted(verdict))], seed=seed, faults=faults)
    result = world.run(sends(DATA[:size]), receives)
    assert len(result.records) <= 1
    received = (result.sink or b"").removesuffix(RESET) if isinstance(result.sink, bytes) else b""
    if result.judged.outcome is not Outcome.RELEASED:
        assert received == b""
    assert DATA[:size].startswith(received)
