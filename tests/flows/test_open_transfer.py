"""Transfers inside a dialogue: nobody gets a byte before the verdict, and every end is clean."""

from __future__ import annotations

import asyncio
import hashlib
import re
from typing import Any

import pytest

from sluicegate.audit import FilterFailureRecord, LimitRecord, TransferRecord
from sluicegate.errors import BadContext, LimitExceeded, OperationPending
from sluicegate.filterapi import (
    FORWARD,
    Connection,
    ContentFilter,
    ContentVerdict,
    DataFilter,
    DataSocket,
    Direction,
    OpenTransfer,
    Outcome,
    Refuse,
    Release,
    Replace,
    Side,
    StreamFilter,
    StreamVerdict,
    Transfer,
    TransferOffer,
    TransferOutcome,
    Wants,
    Window,
    relay,
)
from sluicegate.testing import BulkBytes, FaultPlan
from sluicegate.testing import Playbook as AnyPlaybook
from sluicegate.testing.inline_cell import isolated

SEEDS = range(8)
BODY = b"0123456789abcdef" * 10_000
"""More than stays in memory, and less than a scripted peer reads ahead."""


class Playbook(AnyPlaybook):
    """One whose spool keeps little in memory, and whose data filters may run behind a wire."""

    is_isolated = False

    def __init__(self, *filters: Any, limits: Any = None, **more: Any) -> None:
        bounds = {"spool_memory_bytes_max": 50_000} | (limits or {})
        placed = [in_a_cell(one) for one in filters] if self.is_isolated else filters
        super().__init__(*placed, limits=bounds, **more)


def in_a_cell(one: Any) -> Any:
    """Return what makes the stand-in of a data filter; content filters stay in the gate."""
    if isinstance(one, ContentFilter):
        return one
    return isolated(one if isinstance(one, type) else lambda: one)


@pytest.fixture(autouse=True, params=["in the gate", "in a cell"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Playbook, "is_isolated", request.param == "in a cell")


class Parcels(DataFilter):
    """A protocol of its own: ``length\\r\\n`` and a body go to the server when they are released.

    The client is told what became of each; what the server says is passed on.
    """

    name = "parcels"

    def __init__(self) -> None:
        self.transfers: list[OpenTransfer] = []
        self.outcomes: list[TransferOutcome] = []
        self.delivered: list[TransferOutcome] = []
        self.encode: Any = None

    async def run(
        self, client: DataSocket, server: DataSocket | None, connection: Connection
    ) -> None:
        assert server is not None
        self.connection = connection
        await relay(client, server, self.move)

    async def move(self, client: DataSocket, server: DataSocket) -> None:
        ahead = b""
        while True:
            while b"\r\n" not in ahead:
                came = bytes(await client.receive())
                if not came:
                    server.shutdown()
                    return
                ahead += came
            line, _, ahead = ahead.partition(b"\r\n")
            offer = TransferOffer(f"parcel {line.decode()}", Direction.UPLOAD, "parcels")
            with self.connection.open_transfer(offer) as transfer:
                self.transfers.append(transfer)
                ahead = await self.take(client, transfer, int(line), ahead)
                outcome = await transfer.finish()
                self.outcomes.append(outcome)
                if outcome.outcome is Outcome.RELEASED:
                    await server.send(b"%d\r\n" % transfer.size)
                    self.delivered.append(await transfer.deliver(server, self.encode))
                    await client.send(b"delivered\r\n")
                else:
                    await client.send(f"no: {outcome.reason}\r\n".encode())
                if outcome.outcome is Outcome.FAILED:
                    server.shutdown()
                    return

    async def take(
        self, client: DataSocket, transfer: OpenTransfer, rest: int, ahead: bytes
    ) -> bytes:
        """Feed the body; return what came behind it."""
        await transfer.feed(ahead[:rest])
        rest, ahead = rest - len(ahead[:rest]), ahead[rest:]
        while rest:
            window = await client.receive()
            if not len(window):
                transfer.cancel("the client ended its stream inside it")
                return b""
            await transfer.feed(window.window(0, min(rest, len(window))))
            ahead = bytes(window)[rest:]
            rest -= min(rest, len(window))
        return ahead


class Judge(ContentFilter):
    """Answers as it is told, and notes what it saw."""

    name = "judge"

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer or Release()
        self.seen: list[bytes] = []
        self.transfers: list[Transfer] = []

    async def inspect(self, transfer: Transfer) -> ContentVerdict:
        self.transfers.append(transfer)
        async with transfer.open() as file:
            self.seen.append(await file.read())
        if isinstance(self.answer, BaseException):
            raise self.answer
        if callable(self.answer):
            return await self.answer()  # type: ignore[no-any-return]
        return self.answer  # type: ignore[no-any-return]


def record_of(play: Playbook) -> TransferRecord:
    (record,) = play.records_of(TransferRecord)
    return record


def parcel(body: bytes) -> bytes:
    return b"%d\r\n" % len(body) + body


# -- verdicts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("body", [b"", b"x", BODY], ids=["empty", "one", "bulky"])
def test_released_object_is_judged_whole_and_delivered(body: bytes, seed: int) -> None:
    judge = Judge()
    with Playbook(Parcels, judge, faults=FaultPlan.disorder(), seed=seed) as play:
        play.client.sends(parcel(body))
        play.server.receives(parcel(body))
        play.client.receives(b"delivered\r\n")
        assert judge.seen == [body]
        record = record_of(play)
    assert (record.verdict, record.direction, record.protocol) == ("released", "upload", "parcels")
    assert (record.bytes, record.bytes_delivered) == (len(body), len(body))
    assert record.sha256 == hashlib.sha256(body).hexdigest()
    assert record.bytes_written == (len(body) if body is BODY else 0)


def test_content_filter_sees_the_dialogue_as_the_connection() -> None:
    judge = Judge()
    with Playbook(Parcels, judge) as play:
        play.client.sends(parcel(b"x"))
        play.server.receives(parcel(b"x"))
        play.client.receives(b"delivered\r\n")
        assert judge.transfers[0].offer.name == "parcel 1"
        assert not judge.transfers[0].connection.is_secondary


def test_nothing_reaches_the_server_before_the_verdict() -> None:
    async def late() -> ContentVerdict:
        await asyncio.sleep(60)
        return Release()

    with Playbook(Parcels, Judge(late)) as play:
        play.client.sends(parcel(BODY))
        play.wait(30)
        play.server.receives_nothing()
        play.wait(31)
        play.server.receives(parcel(BODY))
        play.client.receives(b"delivered\r\n")
        assert record_of(play).verdict == "released"


@pytest.mark.parametrize("seed", SEEDS)
def test_refused_object_is_told_in_the_protocol_and_the_dialogue_goes_on(seed: int) -> None:
    judge = Judge(Refuse("a macro"))
    filters = Parcels()
    with Playbook(filters, judge, faults=FaultPlan.disorder(), seed=seed) as play:
        play.client.sends(parcel(BODY))
        play.client.receives(b"no: a macro\r\n")
        play.server.receives_nothing()
        judge.answer = Release()
        play.client.sends(parcel(b"clean"))
        play.server.receives(parcel(b"clean"))
        play.client.receives(b"delivered\r\n")
        play.client.ends()
        play.server.ends()
        play.expect_released()
        refused, released = play.records_of(TransferRecord)
    assert (refused.verdict, refused.reason, refused.filter) == ("refused", "a macro", "judge")
    assert (refused.bytes_delivered, released.bytes_delivered) == (0, 5)
    with pytest.raises(BadContext):
        asyncio.run(filters.transfers[0].deliver(None))  # type: ignore[arg-type]


def test_replacement_is_delivered_with_its_own_size() -> None:
    with Playbook(Parcels, Judge(Replace(b"cleaned"))) as play:
        play.client.sends(parcel(BODY))
        play.server.receives(parcel(b"cleaned"))
        play.client.receives(b"delivered\r\n")
        record = record_of(play)
    assert (record.reason, record.bytes, record.bytes_delivered) == ("replaced", len(BODY), 7)


def test_encoded_object_arrives_encoded_and_counts_as_what_it_is() -> None:
    class Shouting(Parcels):
        def __init__(self) -> None:
            super().__init__()
            self.encode = lambda piece: bytes(piece).upper() + b"!"

    with Playbook(Shouting, Judge()) as play:
        play.client.sends(parcel(b"hello"))
        play.server.receives(b"5\r\nHELLO!")
        play.client.receives(b"delivered\r\n")
        assert record_of(play).bytes_delivered == 5


# -- objects that nobody asks for ------------------------------------------------------------------


class OnlyFtp(Judge):
    wants = Wants(protocols=frozenset({"ftp"}))


def test_unwanted_object_that_is_held_all_the_same_is_released() -> None:
    judge = OnlyFtp()
    with Playbook(Parcels, judge) as play:
        play.client.sends(parcel(b"x"))
        play.server.receives(parcel(b"x"))
        play.client.receives(b"delivered\r\n")
        assert record_of(play).reason == "no content filter asks for such objects"
    assert judge.seen == []


class Idle(DataFilter):
    """Runs a scenario in the place of a protocol."""

    name = "idle"

    def __init__(self, scenario: Any) -> None:
        self.scenario = scenario

    async def run(
        self, client: DataSocket, server: DataSocket | None, connection: Connection
    ) -> None:
        await self.scenario(client, server, connection)


OFFER = TransferOffer("one", Direction.UPLOAD, "test")


def scene(scenario: Any, *filters: Any, **more: Any) -> Playbook:
    return Playbook(Idle(scenario), *filters, **more)


def test_unwanted_object_passes_by_and_is_recorded() -> None:
    async def scenario(client: DataSocket, server: DataSocket, connection: Connection) -> None:
        with connection.open_transfer(OFFER) as transfer:
            assert not transfer.is_wanted
            transfer.pass_by()
            assert not await transfer.feed(b"dropped")
            assert (await transfer.finish()).outcome is Outcome.RELEASED

    with scene(scenario) as play:
        play.client.sends(b"x")
        play.server.receives(b"x")
        record = record_of(play)
    assert (record.verdict, record.bytes) == ("released", 0)


def test_wanted_object_does_not_pass_by() -> None:
    async def scenario(client: DataSocket, server: DataSocket, connection: Connection) -> None:
        with connection.open_transfer(OFFER) as transfer:
            assert transfer.is_wanted
            transfer.pass_by()

    with scene(scenario, Judge()) as play:
        play.client.receives_reset()
        play.expect_failed(re.compile("filter failure: idle"))
        assert record_of(play).verdict == "failed"


# -- what goes wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_content_filter_that_raises_refuses(seed: int) -> None:
    with Playbook(
        Parcels, Judge(ValueError("boom")), faults=FaultPlan.disorder(), seed=seed
    ) as play:
        play.client.sends(parcel(BODY))
        play.client.receives(b"no: filter failure: judge: ValueError: boom\r\n")
        play.server.receives_nothing()
        play.expect_filter_failure()
        assert play.records_of(FilterFailureRecord)[0].action == "refused"


def test_content_filter_that_never_answers_refuses_in_time_and_is_not_called_idle() -> None:
    async def never() -> ContentVerdict:
        await asyncio.get_running_loop().create_future()
        return Release()

    limits = {"inspect_timeout_s": 100.0, "idle_timeout_s": 10.0}
    with Playbook(Parcels, Judge(never), limits=limits) as play:
        play.client.sends(parcel(b"x"))
        play.wait(99)
        play.client.receives_nothing()
        play.expect_open()
        play.wait(2)
        play.client.receives(
            b"no: filter failure: judge: gave no verdict for 100 s (inspect_timeout_s)\r\n"
        )
        play.expect_filter_failure()


def test_full_disk_refuses() -> None:
    with Playbook(Parcels, Judge(), faults=FaultPlan(no_space=1.0)) as play:
        play.client.sends(parcel(BODY))
        play.client.receives(re.compile(rb"no: spool failure: .*ENOSPC.*\r\n"))
        play.server.receives_nothing()
        assert record_of(play).verdict == "refused"


@pytest.mark.parametrize("limit", ["spool_object_bytes_max", "spool_client_bytes_max"])
def test_quota_refuses_and_the_rest_of_the_object_is_dropped(limit: str) -> None:
    with Playbook(Parcels, Judge(), limits={limit: 100_000}) as play:
        play.client.sends(parcel(BODY))
        play.client.receives(f"no: limit {limit}\r\n".encode())
        play.client.sends(parcel(b"small"))
        play.server.receives(parcel(b"small"))
        play.client.receives(b"delivered\r\n")
        verdicts = [record.verdict for record in play.records_of(TransferRecord)]
    assert verdicts == ["refused", "released"]


class OnlySmall(Judge):
    wants = Wants(bytes_max=1000)


def test_object_that_a_filter_cannot_judge_is_refused() -> None:
    with Playbook(Parcels, OnlySmall()) as play:
        play.client.sends(parcel(BODY))
        play.client.receives(b"no: larger than the 1000 bytes that judge can judge\r\n")
        play.server.receives_nothing()
        assert record_of(play).verdict == "refused"


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("who", ["client", "server"])
@pytest.mark.parametrize("sent", [1000, len(BODY)], ids=["filling", "judging"])
def test_side_that_goes_fails_the_transfer_and_nothing_is_left(
    who: str, sent: int, seed: int
) -> None:
    async def late() -> ContentVerdict:
        await asyncio.sleep(60)
        return Release()

    with Playbook(Parcels, Judge(late), faults=FaultPlan.disorder(), seed=seed) as play:
        play.client.sends(parcel(BODY)[:sent])
        play.wait(5)
        getattr(play, who).resets()
        play.wait(1)
        play.expect_failed()
        assert record_of(play).verdict == "failed"
        assert not play.server.unread


def test_client_that_ends_inside_an_object_delivers_nothing() -> None:
    with Playbook(Parcels, Judge()) as play:
        play.client.sends(parcel(BODY)[:1000])
        play.client.ends()
        play.client.receives(b"no: the client ended its stream inside it\r\n")
        play.server.receives_end()
        assert record_of(play).reason == "the client ended its stream inside it"


def test_filter_that_raises_while_it_feeds_leaves_nothing() -> None:
    async def scenario(client: DataSocket, server: DataSocket, connection: Connection) -> None:
        with connection.open_transfer(OFFER) as transfer:
            await transfer.feed(BODY)
            raise ValueError("a bug")

    with scene(scenario, Judge()) as play:
        play.client.receives_reset()
        play.server.receives_reset()
        play.expect_failed("filter failure: idle")
        assert record_of(play).reason == "given up: ValueError('a bug')"


def test_filter_that_raises_without_a_block_leaves_nothing() -> None:
    async def scenario(client: DataSocket, server: DataSocket, connection: Connection) -> None:
        await connection.open_transfer(OFFER).feed(BODY)
        raise ValueError("a bug")

    with scene(scenario, Judge()) as play:
        play.client.receives_reset()
        play.expect_failed("filter failure: idle")
        assert record_of(play).reason == "the connection ended"


def test_encoding_that_raises_breaks_the_delivery_off() -> None:
    def breaks(piece: Window) -> bytes:
        raise ValueError("cannot")

    class Broken(Parcels):
        def __init__(self) -> None:
            super().__init__()
            self.encode = breaks

    with Playbook(Broken, Judge()) as play:
        play.client.sends(parcel(BODY))
        play.client.receives_reset()
        play.expect_failed("filter failure: parcels")
        assert record_of(play).reason == "encoding it failed: ValueError: cannot"
        assert record_of(play).bytes_delivered == 0


def test_object_that_cannot_be_read_back_is_never_whole() -> None:
    with Playbook(Parcels, Silent(), faults=FaultPlan(short_read=0.5, io_error=0.4)) as play:
        play.client.sends(parcel(BODY * 8))
        play.settle()
        record = record_of(play)
        assert record.verdict != "released"
        assert len(play.server.reads()) < len(BODY) * 8
        play.filter_errors.clear()


class Silent(ContentFilter):
    """Looks at nothing."""

    name = "silent"

    async def inspect(self, transfer: Transfer) -> ContentVerdict:
        return Release()


# -- back-pressure ---------------------------------------------------------------------------------


def test_receiver_that_does_not_read_makes_the_delivery_wait() -> None:
    bulk = BulkBytes.of("2 MiB")
    with Playbook(Parcels, Silent(), memory="16 MiB") as play:
        play.client.sends(b"%d\r\n" % len(bulk))
        play.client.sends(bulk)
        play.wait(1)
        play.client.receives_nothing()
        came = bytearray()
        while piece := play.server.reads():
            came += piece
        assert came == b"%d\r\n" % len(bulk) + bulk.piece(0, len(bulk))
        play.client.receives(b"delivered\r\n")


def test_receiver_that_never_reads_is_given_up_as_stalled() -> None:
    bulk = BulkBytes.of("2 MiB")
    with Playbook(Parcels, Silent(), limits={"send_stall_s": 20.0}) as play:
        play.client.sends(b"%d\r\n" % len(bulk))
        play.client.sends(bulk)
        play.wait(30)
        play.expect_failed(re.compile("server .*stalled|server stalled"))
        record = record_of(play)
    assert record.verdict == "failed"
    assert 0 < record.bytes_delivered < len(bulk)


# -- rules of use ----------------------------------------------------------------------------------


def test_at_most_so_many_are_open_at_a_time() -> None:
    async def scenario(client: DataSocket, server: DataSocket, connection: Connection) -> None:
        connection.open_transfer(OFFER)
        connection.open_transfer(OFFER).cancel("not needed")
        connection.open_transfer(OFFER)
        with pytest.raises(LimitExceeded):
            connection.open_transfer(OFFER)
        await client.receive()

    with scene(scenario, limits={"open_transfers_per_connection_max": 2}) as play:
        play.client.sends(b"x")
        play.client.ends()
        play.server.ends()
        play.client.receives_end()
        assert len(play.records_of(TransferRecord)) == 3
        assert not play.records_of(LimitRecord)


def test_what_is_not_done_in_order_is_refused() -> None:
    async def scenario(client: DataSocket, server: DataSocket, connection: Connection) -> None:
        with connection.open_transfer(OFFER) as transfer:
            with pytest.raises(BadContext):
                await transfer.deliver(server)
            feeding = asyncio.ensure_future(transfer.feed(BODY))
            await asyncio.sleep(0)
            with pytest.raises(OperationPending):
                await transfer.finish()
            with pytest.raises(OperationPending):
                await transfer.feed(b"x")
            await feeding
            first = await transfer.finish()
            assert await transfer.finish() is first or first.outcome is Outcome.RELEASED
            with pytest.raises(BadContext):
                await transfer.feed(b"more")
            await transfer.deliver(server)
            with pytest.raises(BadContext):
                await transfer.deliver(server)

    with scene(scenario, Judge()) as play:
        play.server.receives(BODY)


def test_wait_for_the_verdict_can_be_given_up_and_taken_up_again() -> None:
    async def late() -> ContentVerdict:
        await asyncio.sleep(10)
        return Release()

    async def scenario(client: DataSocket, server: DataSocket, connection: Connection) -> None:
        with connection.open_transfer(OFFER) as transfer:
            await transfer.feed(b"body")
            while True:
                try:
                    async with asyncio.timeout(3):
                        await transfer.finish()
                    break
                except TimeoutError:
                    await client.send(b"patience\r\n")
            await transfer.deliver(server)

    with scene(scenario, Judge(late)) as play:
        play.client.receives_nothing()
        play.wait(11)
        play.client.receives(b"patience\r\n" * 3)
        play.server.receives(b"body")
        assert record_of(play).verdict == "released"


class Opening(StreamFilter):
    """A stream filter, which has no socket to deliver to."""

    name = "opening"
    error: BaseException | None = None

    def on_start(self, connection: Connection) -> None:
        try:
            connection.open_transfer(OFFER)
        except BadContext as error:
            Opening.error = error

    def on_data(self, side: Side, window: Window) -> StreamVerdict:
        return FORWARD


def test_filter_without_sockets_opens_none() -> None:
    with Playbook(Opening) as play:
        play.client.sends(b"x")
        play.server.receives(b"x")
    assert isinstance(Opening.error, BadContext)
