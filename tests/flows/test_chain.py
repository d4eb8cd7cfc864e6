"""Chains of data filters: bytes, ends, leaving, failing, closing, and what they may not do."""

from __future__ import annotations

import asyncio
import errno
import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest

from sluicegate.audit import NoteRecord
from sluicegate.errors import BadContext, OperationPending, Side, TransportError, WindowExpired
from sluicegate.filterapi import FORWARD, AnyDataFilter, Buffer, Position, StreamFilter
from sluicegate.testing import FaultPlan
from sluicegate.testing.peers import PeerStream
from tests.flows.chain_filters import (
    Callbacks,
    Does,
    Passing,
    Raising,
    RaisingCallbacks,
    Stream,
    Witness,
)
from tests.flows.gate_kit import (
    Gate,
    Peer,
    SocketAddress,
    echoes,
    installation,
    play,
    publication,
    sends,
    settings,
)

DATA = random.Random(7).randbytes(600_000)
OTHER = SocketAddress.parse("10.1.1.2:0")

Make = Callable[[], AnyDataFilter]


def plan_of(*makes: Make) -> Any:
    """One rule whose connections go through these filters, in this order."""
    names = [f"f{number}" for number in range(len(makes))]
    return settings(
        publication(*names),
        filters=[installation(make, name) for make, name in zip(makes, names, strict=True)],
    )


def collect(*makes: Callable[[Witness], AnyDataFilter]) -> tuple[Any, list[Witness]]:
    """The same, with the witnesses of every filter that is made."""
    witnesses: list[Witness] = []

    def with_witness(make: Callable[[Witness], AnyDataFilter]) -> Make:
        def made() -> AnyDataFilter:
            witnesses.append(Witness())
            return make(witnesses[-1])

        return made

    return plan_of(*(with_witness(make) for make in makes)), witnesses


KINDS: dict[str, Callable[[Witness], AnyDataFilter]] = {
    "coroutine": Passing,
    "callbacks": Callbacks,
    "own-buffers": lambda witness: Callbacks(witness, size=1000),
    "stream": Stream,
    "holder": lambda witness: Stream(witness, hold=300),
    "blocks": lambda witness: Stream(witness, release=512),
}


def echo_scenario(data: bytes = DATA, *, within_s: float = 120.0) -> Any:
    async def scenario(gate: Gate) -> None:
        servers = gate.serve(echoes)
        (received,) = await gate.ended(gate.call(sends(data)), within_s=within_s)
        assert (len(received), received) == (len(data), data)
        assert await gate.ended(*servers) == [len(data)]
        await gate.idle()

    return scenario


# -- bytes and ends --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kinds", [*itertools.product(KINDS), *itertools.product(KINDS, repeat=2)], ids="+".join
)
def test_every_mix_of_two_passes_bytes_and_ends_on(kinds: tuple[str, ...]) -> None:
    plan, witnesses = collect(*(KINDS[kind] for kind in kinds))
    gate = play(echo_scenario(DATA[:100_000]), plan)
    for witness in witnesses:
        assert witness.faults() == []
        assert witness.seen[Side.CLIENT] == witness.seen[Side.SERVER] == DATA[:100_000]
    (end,) = gate.ends
    assert (end.outcome, end.reason) == ("released", "")
    assert (end.bytes_to_server, end.bytes_to_client) == (100_000, 100_000)
    assert end.filters == tuple(f"f{number}" for number in range(len(kinds)))


@pytest.mark.parametrize("seed", range(30))
def test_long_mixes_pass_bytes_on_whatever_the_order_of_things(seed: int) -> None:
    chance = random.Random(seed)
    kinds = [chance.choice(sorted(KINDS)) for _ in range(chance.randint(1, 5))]
    plan, witnesses = collect(*(KINDS[kind] for kind in kinds))
    data = DATA[: chance.choice([0, 1, 299, 5000, 100_000])]
    gate = play(echo_scenario(data), plan, seed=seed, faults=FaultPlan.disorder())
    for witness in witnesses:
        assert witness.faults() == []
        assert witness.seen[Side.CLIENT] == witness.seen[Side.SERVER] == data
    assert gate.ends[0].outcome == "released"


def test_filters_stand_in_the_order_of_position_and_then_of_the_rule() -> None:
    order: list[str] = []

    def noting(name: str, place: Position) -> Make:
        class Noting(StreamFilter):
            position = place

            def on_data(self, side: Side, window: Any) -> Any:
                if side is Side.CLIENT:
                    order.append(name)
                return FORWARD

        return Noting

    plan = plan_of(
        noting("server", Position.EXTERNAL),
        noting("middle-1", Position.MIDDLE),
        noting("client", Position.INTERNAL),
        noting("middle-2", Position.MIDDLE),
    )
    play(echo_scenario(b"x"), plan)
    assert order == ["client", "middle-1", "middle-2", "server"]


def test_filter_sees_nothing_that_its_predecessor_holds() -> None:
    plan, witnesses = collect(lambda w: Stream(w, hold=1000), Passing)

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes)
        client = gate.call(sends(b"x" * 999, end=False))
        await asyncio.sleep(5)
        assert witnesses[1].seen[Side.CLIENT] == b""
        assert not client.is_done

    play(scenario, plan)


def test_filter_may_answer_in_the_servers_place() -> None:
    async def emulate(client: Any, server: Any, connection: Any) -> None:
        question = bytes(await client.receive())
        await client.send(b"answer to " + question)
        client.shutdown()
        server.shutdown()
        assert not len(await client.receive())

    plan, (*_,) = collect(lambda w: Does(emulate, w))

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes)
        assert await gate.ended(gate.call(sends(b"question"))) == [b"answer to question"]

    gate = play(scenario, plan)
    assert (gate.ends[0].bytes_to_server, gate.ends[0].bytes_to_client) == (0, 18)


# -- leaving ---------------------------------------------------------------------------------------

LEAVERS: dict[str, Callable[[int, Witness], AnyDataFilter]] = {
    "coroutine": lambda n, w: Passing(w, leave_after=n),
    "callbacks": lambda n, w: Callbacks(w, leave_after=n),
    "own-buffers": lambda n, w: Callbacks(w, size=777, leave_after=n),
    "stream": lambda n, w: Stream(w, leave_after=n),
    "holder": lambda n, w: Stream(w, hold=200, leave_after=n),
}


@pytest.mark.parametrize("count", [0, 1, 4096, 50_000])
@pytest.mark.parametrize(
    "kinds", [*itertools.product(LEAVERS), *itertools.product(LEAVERS, repeat=2)], ids="+".join
)
def test_filters_leave_without_a_byte_lost_or_doubled(kinds: tuple[str, ...], count: int) -> None:
    makes = [
        lambda w, kind=kind, after=count + 3000 * place: LEAVERS[kind](after, w)
        for place, kind in enumerate(kinds)
    ]
    plan, witnesses = collect(*makes)
    gate = play(echo_scenario(DATA[:200_000]), plan)
    for witness in witnesses:
        assert witness.faults(is_whole=False) == []
        for side in (Side.CLIENT, Side.SERVER):
            assert DATA.startswith(bytes(witness.seen[side]))
    assert gate.ends[0].outcome == "released"
    assert gate.ends[0].bytes_to_client == 200_000


@pytest.mark.parametrize("seed", range(60))
def test_filters_leave_in_any_order_in_any_world(seed: int) -> None:
    chance = random.Random(seed)
    makes: list[Callable[[Witness], AnyDataFilter]] = []
    for _ in range(chance.randint(2, 5)):
        if chance.random() < 0.7:
            make, after = (
                LEAVERS[chance.choice(sorted(LEAVERS))],
                chance.choice([0, 1, 5000, 99999]),
            )
            makes.append(lambda w, make=make, after=after: make(after, w))  # type: ignore[misc]
        else:
            makes.append(KINDS[chance.choice(sorted(KINDS))])
    plan, witnesses = collect(*makes)
    data = DATA[: chance.choice([10, 6000, 150_000])]
    gate = play(echo_scenario(data, within_s=400), plan, seed=seed, faults=FaultPlan.disorder())
    for witness in witnesses:
        assert witness.faults(is_whole=False) == []
    assert gate.ends[0].outcome == "released"
    assert gate.ends[0].bytes_to_client == len(data)


def test_connection_whose_last_filter_left_is_spliced() -> None:
    plan, _ = collect(lambda w: Passing(w, leave_after=10), lambda w: Callbacks(w, leave_after=20))
    gate = play(echo_scenario(), plan)
    assert gate.ends[0].bytes_spliced > 500_000


def test_connection_whose_stream_filter_left_is_spliced() -> None:
    plan, _ = collect(lambda w: Stream(w, leave_after=100_000))
    gate = play(echo_scenario(), plan)
    assert gate.ends[0].bytes_spliced > 300_000


def test_filter_that_leaves_is_detached_at_once() -> None:
    plan, witnesses = collect(lambda w: Callbacks(w, leave_after=1), Passing)

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes)
        gate.call(sends(b"xyz", end=False))
        await gate.until(lambda: witnesses and witnesses[0].detached)
        assert witnesses[1].detached == 0

    play(scenario, plan)
    assert [witness.detached for witness in witnesses] == [1, 1]


def test_receive_that_is_pending_when_a_filter_leaves_is_told_so_before_detach() -> None:
    plan, witnesses = collect(lambda w: Callbacks(w, leave_after=3))

    async def scenario(gate: Gate) -> None:
        gate.serve(sends(b"", end=False))
        gate.call(sends(b"xyz", end=False))
        await gate.until(lambda: witnesses and witnesses[0].detached)

    play(scenario, plan)
    assert witnesses[0].canceled == [f"received server {errno.ECANCELED}"]
    assert witnesses[0].after_detach == []


async def read_to_the_end_and_leave(client: Any, server: Any, connection: Any) -> None:
    while window := await client.receive():
        await server.send(window)
        if not len(window):
            break


@pytest.mark.parametrize("place", [0, 1, 2])
def test_filter_that_leaves_after_the_end_it_did_not_pass_on_ends_the_stream(place: int) -> None:
    async def leave_at_the_end(client: Any, server: Any, connection: Any) -> None:
        while len(window := await client.receive()):
            await server.send(window)

    makes: list[Callable[[Witness], AnyDataFilter]] = [Passing, Stream]
    makes.insert(place, lambda w: Does(leave_at_the_end, w))
    plan, witnesses = collect(*makes)
    play(echo_scenario(DATA[:20_000]), plan)
    for witness in witnesses:
        assert witness.faults(is_whole=False) == []


@pytest.mark.parametrize("place", [0, 1, 2])
def test_filter_may_end_one_stream_and_leave_the_other_running(place: int) -> None:
    async def end_uploads(client: Any, server: Any, connection: Any) -> None:
        server.shutdown()

    makes: list[Callable[[Witness], AnyDataFilter]] = [Passing, Stream]
    makes.insert(place, lambda w: Does(end_uploads, w))
    plan, _ = collect(*makes)

    async def server(stream: PeerStream) -> bytes:
        uploaded = await stream.receive_all()
        await stream.send_all(DATA[:50_000])
        stream.close()
        return uploaded

    async def scenario(gate: Gate) -> None:
        servers = gate.serve(server)
        (received,) = await gate.ended(gate.call(sends(b"", end=True)))
        assert received == DATA[:50_000]
        assert await gate.ended(*servers) == [b""]
        await gate.idle()

    assert play(scenario, plan).ends[0].outcome == "released"


def test_coroutine_leaves_by_returning_and_not_by_asking() -> None:
    errors: list[BaseException] = []

    async def ask(client: Any, server: Any, connection: Any) -> None:
        try:
            connection.leave(mine[0])
        except BadContext as error:
            errors.append(error)

    mine: list[AnyDataFilter] = []

    def make() -> AnyDataFilter:
        mine.append(Does(ask))
        return mine[-1]

    play(echo_scenario(b"x"), plan_of(make))
    assert len(errors) == 1


def test_filter_of_no_chain_cannot_leave_it() -> None:
    errors: list[BaseException] = []

    async def ask(client: Any, server: Any, connection: Any) -> None:
        with pytest.raises(BadContext) as caught:
            connection.leave(Callbacks())
        errors.append(caught.value)

    play(echo_scenario(b"x"), plan_of(lambda: Does(ask)))
    assert len(errors) == 1


def test_filter_that_goes_on_while_it_leaves_fails_its_connection() -> None:
    class Clings(Callbacks):
        def complete_socket_io(self, success: bool, error: int, *rest: Any) -> None:
            if error == errno.ECANCELED and not self.witness.detached:
                self.ways[Side.SERVER][0].start_receive(None, self, ("received", Side.SERVER))
                return
            super().complete_socket_io(success, error, *rest)

    plan, witnesses = collect(lambda w: Clings(w, leave_after=1))

    async def scenario(gate: Gate) -> None:
        gate.serve(sends(b"", end=False))
        assert await gate.ended(gate.call(sends(b"x", end=False))) == [b"<104>"]

    gate = play(scenario, plan)
    assert gate.ends[0].reason == "filter failure: f0"
    assert witnesses[0].detached == 1


# -- failing ---------------------------------------------------------------------------------------

RAISING: dict[str, Callable[[Witness], AnyDataFilter]] = {
    "run": lambda w: Raising("before", w),
    "after receive": lambda w: Raising("after receive", w),
    "after send": lambda w: Raising("after send", w),
    "cancelled": lambda w: Raising("cancelled", w),
    "set_sockets": lambda w: RaisingCallbacks("set_sockets", w),
    "completed receive": lambda w: RaisingCallbacks("received", w),
    "completed send": lambda w: RaisingCallbacks("sent", w),
    "run exits": lambda w: Raising("after receive", w, error=SystemExit(3)),
    "set_sockets exits": lambda w: RaisingCallbacks("set_sockets", w, error=SystemExit(3)),
    "completed receive exits": lambda w: RaisingCallbacks("received", w, error=SystemExit(3)),
}


@pytest.mark.parametrize("neighbours", [(), ("coroutine",), ("callbacks",), ("stream",)])
@pytest.mark.parametrize("where", sorted(RAISING))
def test_filter_that_raises_ends_its_connection_only_and_is_named(
    where: str, neighbours: tuple[str, ...]
) -> None:
    is_armed = True

    def faulty(witness: Witness) -> AnyDataFilter:
        return RAISING[where](witness) if is_armed else Passing(witness)

    plan, witnesses = collect(*(KINDS[kind] for kind in neighbours), faulty)

    async def scenario(gate: Gate) -> None:
        nonlocal is_armed
        gate.serve(echoes)
        is_armed = False
        bystander = gate.call(sends(b"before", end=False), source=OTHER)
        await gate.until(lambda: gate.service.connection_count == 1)
        await asyncio.sleep(1)
        is_armed = True
        (received,) = await gate.ended(gate.call(sends(b"x" * 5000, end=False)))
        assert isinstance(received, OSError) or received == b"<104>"
        await asyncio.sleep(1)
        assert gate.service.connection_count == 1
        assert not bystander.is_done

    gate = play(scenario, plan)
    name = f"f{len(neighbours)}"
    assert [record.filter for record in gate.failures] == [name]
    assert [end.reason for end in gate.ends] == [f"filter failure: {name}", "service stopping"]
    assert all(witness.detached == 1 for witness in witnesses)


@pytest.mark.parametrize("error", [ValueError("boom"), SystemExit("boom")])
@pytest.mark.parametrize("method", ["on_start", "on_data", "on_end"])
@pytest.mark.parametrize("neighbours", [(), ("stream",), ("coroutine",)])
def test_stream_filter_that_raises_is_named(
    method: str, neighbours: tuple[str, ...], error: BaseException
) -> None:
    class Faulty(Stream):
        pass

    def fail(*_: object) -> None:
        raise error

    setattr(Faulty, method, fail)
    plan, witnesses = collect(*(KINDS[kind] for kind in neighbours), Faulty)

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes)
        await gate.ended(gate.call(sends(b"x" * 10)))
        await gate.idle()

    gate = play(scenario, plan)
    assert [record.filter for record in gate.failures] == [f"f{len(neighbours)}"]
    assert f"{type(error).__name__}: boom" in gate.failures[0].cause
    assert all(witness.detached == 1 for witness in witnesses)


@pytest.mark.parametrize("kind", ["coroutine", "callbacks", "stream"])
def test_filter_that_raises_in_detach_is_recorded_and_hurts_nobody(kind: str) -> None:
    made = type(KINDS[kind](Witness()))

    class Faulty(made):  # type: ignore[misc, valid-type]
        def detach(self) -> None:
            raise ValueError("boom")

    gate = play(echo_scenario(b"x"), plan_of(Faulty))
    assert [(record.filter, record.cause) for record in gate.failures] == [
        ("f0", "ValueError: boom")
    ]
    assert gate.ends[0].outcome == "released"


def test_filter_that_holds_too_much_reaches_the_limit() -> None:
    plan, _ = collect(lambda w: Stream(w, hold=10**9))

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes)
        await gate.ended(gate.call(sends(DATA[:50_000], end=False)))

    gate = play(scenario, plan, stream_hold_bytes_max=20_000)
    assert gate.ends[0].reason == "limit stream_hold_bytes_max"


def test_failure_of_the_network_is_not_the_filters() -> None:
    plan, witnesses = collect(Passing)

    async def server(stream: PeerStream) -> None:
        await stream.receive()
        stream.reset()

    async def scenario(gate: Gate) -> None:
        gate.serve(server)
        assert await gate.ended(gate.call(sends(b"x", end=False))) == [b"<104>"]
        await gate.idle()

    gate = play(scenario, plan)
    assert gate.failures == []
    assert (gate.ends[0].reason, gate.ends[0].side) == ("server ECONNRESET", "server")
    assert witnesses[0].detached == 1


def test_failure_of_the_filters_own_connection_is_the_filters() -> None:
    async def ask_a_file(client: Any, server: Any, connection: Any) -> None:
        raise TransportError(errno.EIO, Side.INTERNAL, "file operation")

    gate = play(_one_call, plan_of(lambda: Does(ask_a_file)))
    assert [record.filter for record in gate.failures] == ["f0"]


async def _one_call(gate: Gate) -> None:
    gate.serve(echoes)
    await gate.ended(gate.call(sends(b"x", end=False)))
    await gate.idle()


def test_filter_that_uses_sockets_of_an_ended_connection_has_not_failed() -> None:
    async def late(client: Any, server: Any, connection: Any) -> None:
        await asyncio.sleep(5)
        await server.send(b"too late")

    plan, witnesses = collect(lambda w: Does(late, w))

    async def client(stream: PeerStream) -> None:
        stream.reset()

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes)
        gate.call(client)
        await gate.until(lambda: gate.service.connection_count)
        gate.service.find_connection(gate.decisions[0].connection).fail("ended")  # type: ignore[union-attr]
        await gate.idle()
        await asyncio.sleep(10)

    gate = play(scenario, plan)
    assert gate.failures == []
    assert witnesses[0].detached == 1


# -- ends that pending operations are told --------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("seed", range(5))
def test_pending_operations_are_told_before_detach(count: int, seed: int) -> None:
    plan, witnesses = collect(*[Callbacks] * count)

    async def scenario(gate: Gate) -> None:
        gate.serve(sends(b"hello", end=False))
        gate.call(sends(b"x", end=False))
        await gate.until(lambda: witnesses)
        await asyncio.sleep(random.Random(seed).uniform(0, 0.01))
        for connection in list(gate.service._connections.values()):
            connection.refuse("enough")
        await gate.idle()

    gate = play(scenario, plan, seed=seed, faults=FaultPlan.disorder())
    for witness in witnesses:
        assert witness.faults(is_whole=False) == []
    assert gate.ends[0].reason == "enough"


def test_filter_that_closes_with_an_operation_pending_is_told_before_detach() -> None:
    told: list[str] = []

    class Closes(Callbacks):
        def complete_socket_io(
            self, success: bool, error: int, buffer: Any, user_data: Any, address: Any
        ) -> None:
            told.append(f"{user_data[0]} {errno.errorcode.get(error, error)}")
            if success and user_data[0] == "received" and len(buffer):
                # The send is taken at once, but is told later: after these closes.
                self.ways[Side.CLIENT][1].start_send(b"bye", self, ("sent", Side.CLIENT))
                for socket in self.ways[Side.CLIENT]:
                    socket.close()

        def detach(self) -> None:
            told.append("detach")

    async def scenario(gate: Gate) -> None:
        servers = gate.serve(sends(b"", end=False))
        await gate.ended(gate.call(sends(b"x", end=False)))
        assert await gate.ended(*servers) == [b"bye"]

    gate = play(scenario, plan_of(Closes))
    assert told[0] == "received 0"
    assert sorted(told[1:-1]) == ["received ECANCELED", "sent 0"]
    assert told[-1] == "detach"
    assert gate.ends[0].outcome == "released"


def test_detach_comes_also_when_the_sockets_never_did() -> None:
    plan, witnesses = collect(*KINDS.values())

    async def scenario(gate: Gate) -> None:
        await gate.ended(gate.call(sends(b"x", end=False)))  # nobody serves

    gate = play(scenario, plan)
    assert gate.ends[0].reason == "server connect ECONNREFUSED"
    assert [witness.detached for witness in witnesses] == [1] * len(KINDS)


def test_coroutine_that_goes_on_after_its_connection_is_waited_for_and_then_cancelled() -> None:
    ended: list[float] = []

    async def goes_on(client: Any, server: Any, connection: Any) -> None:
        try:
            await asyncio.sleep(1e6)
        finally:
            ended.append(1)

    plan, witnesses = collect(lambda w: Does(goes_on, w))

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes)
        gate.call(sends(b"x", end=False))
        await gate.until(lambda: gate.service.connection_count)
        await asyncio.sleep(1)
        next(iter(gate.service._connections.values())).refuse("enough")
        await gate.idle()
        assert witnesses[0].detached == 0
        await asyncio.sleep(9)
        assert witnesses[0].detached == 0
        await asyncio.sleep(3)
        assert witnesses[0].detached == 1
        assert ended == [1]

    gate = play(scenario, plan, drain_timeout_s=10.0)
    assert [record.filter for record in gate.failures] == ["f0"]


# -- closing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("abortive", [False, True])
def test_filter_may_close_both_sockets(place: int, abortive: bool) -> None:
    async def close(client: Any, server: Any, connection: Any) -> None:
        await client.receive()
        client.close(abortive=abortive)
        server.close(abortive=abortive)

    makes: list[Callable[[Witness], AnyDataFilter]] = [Callbacks, Stream]
    makes.insert(place, lambda w: Does(close, w))
    plan, witnesses = collect(*makes)

    async def scenario(gate: Gate) -> None:
        servers = gate.serve(sends(b"", end=False))
        (received,) = await gate.ended(gate.call(sends(b"x", end=False)))
        await gate.ended(*servers)
        if abortive:
            assert received == b"<104>"
        await gate.until(lambda: gate.ends, within_s=30)

    gate = play(scenario, plan)
    (end,) = gate.ends
    if abortive:
        assert end.outcome == "failed"
    assert [witness.detached for witness in witnesses] == [1, 1, 1]


@pytest.mark.parametrize("which", ["client", "server"])
@pytest.mark.parametrize("abortive", [False, True])
def test_filter_may_close_one_socket_and_return(which: str, abortive: bool) -> None:
    async def close(client: Any, server: Any, connection: Any) -> None:
        (client if which == "client" else server).close(abortive=abortive)

    plan, _ = collect(lambda w: Does(close, w))

    async def scenario(gate: Gate) -> None:
        servers = gate.serve(sends(b"", end=False))
        await gate.ended(gate.call(sends(b"x", end=False)))
        await gate.ended(*servers)
        await gate.until(lambda: gate.ends, within_s=30)

    (end,) = play(scenario, plan).ends
    assert (end.outcome, end.reason) == (
        ("failed", "aborted by a filter") if abortive else ("released", "")
    )


def test_last_words_reach_the_neighbour_before_a_close() -> None:
    async def says_and_closes(client: Any, server: Any, connection: Any) -> None:
        await client.receive()
        client.start_send(b"last words")
        client.close()
        server.close()

    plan, _ = collect(Callbacks, lambda w: Does(says_and_closes, w))

    async def scenario(gate: Gate) -> None:
        gate.serve(sends(b"", end=False))
        assert await gate.ended(gate.call(sends(b"x", end=False))) == [b"last words"]

    play(scenario, plan)


def test_connection_refused_by_a_filter_says_so() -> None:
    async def refuse(client: Any, server: Any, connection: Any) -> None:
        await client.receive()
        connection.refuse("not on my watch")

    async def scenario(gate: Gate) -> None:
        servers = gate.serve(sends(b"", end=False))
        assert await gate.ended(gate.call(sends(b"x", end=False))) == [b"<104>"]
        assert await gate.ended(*servers) == [b"<104>"]

    (end,) = play(scenario, plan_of(lambda: Does(refuse))).ends
    assert (end.outcome, end.reason) == ("refused", "not on my watch")


# -- one at a time, and windows -------------------------------------------------------------------


@pytest.mark.parametrize("is_behind_another", [False, True])
def test_second_receive_or_send_while_one_is_pending_is_refused(is_behind_another: bool) -> None:
    caught: list[type[BaseException]] = []

    class Twice(Callbacks):
        def set_sockets(self, client: Any, server: Any, *rest: Any) -> None:
            super().set_sockets(client, server, *rest)
            for start in (
                lambda: client.start_receive(None, self),
                lambda: (server.start_send(b"a", self, "s"), server.start_send(b"b", self, "s")),
            ):
                try:
                    start()
                except Exception as error:
                    caught.append(type(error))

        def complete_socket_io(self, *told: Any) -> None:
            if told[3] != "s":
                super().complete_socket_io(*told)

    makes: list[Make] = [Twice]
    if is_behind_another:
        makes = [Passing, Twice, Passing]
    play(echo_scenario_with_prefix, plan_of(*makes))
    assert caught == [OperationPending, OperationPending]


async def echo_scenario_with_prefix(gate: Gate) -> None:
    gate.serve(echoes)
    assert await gate.ended(gate.call(sends(b"xyz"))) == [b"axyz"]


def test_nothing_completes_inside_the_call_that_started_it() -> None:
    log: list[str] = []

    class Logs(Callbacks):
        def complete_socket_io(self, *told: Any) -> None:
            log.append("completed")
            super().complete_socket_io(*told)
            log.append("returned")

        def set_sockets(self, *args: Any) -> None:
            super().set_sockets(*args)
            log.append("set")

    play(echo_scenario(DATA[:30_000]), plan_of(Logs, Logs, Logs))
    # Every completion returned before the next one came.
    assert log[:3] == ["set"] * 3
    assert log[3::2] == ["completed"] * len(log[3::2])
    assert log[4::2] == ["returned"] * len(log[4::2])


def test_empty_send_is_not_the_end_of_the_stream() -> None:
    async def empty(client: Any, server: Any, connection: Any) -> None:
        await server.send(b"")
        while len(window := await client.receive()):
            await server.send(b"")
            await server.send(window)
        server.shutdown()
        while len(window := await server.receive()):
            await client.send(window)
        client.shutdown()

    plan, witnesses = collect(lambda w: Does(empty, w), Callbacks, Passing)
    play(echo_scenario(b"some words"), plan)
    assert witnesses[1].seen[Side.CLIENT] == b"some words"


@pytest.mark.parametrize("is_behind_another", [False, True])
def test_reader_that_gave_up_at_the_wrong_moment_loses_nothing(is_behind_another: bool) -> None:
    async def impatient(client: Any, server: Any, connection: Any) -> None:
        while True:
            reading = asyncio.ensure_future(client.receive())
            # Cancelled in the very turn in which the bytes (or the end) came, now and then.
            for _ in range(chance.randint(0, 12)):
                await asyncio.sleep(0)
            reading.cancel()
            try:
                window = await reading
            except asyncio.CancelledError:
                await asyncio.sleep(0.0001)
                continue
            if not len(window):
                break
            await server.send(window)
        server.shutdown()
        while len(window := await server.receive()):
            await client.send(window)
        client.shutdown()

    chance = random.Random(3)
    makes: list[Callable[[Witness], AnyDataFilter]] = [lambda w: Does(impatient, w)]
    if is_behind_another:
        makes.insert(0, Callbacks)
    plan, _ = collect(*makes)
    gate = play(echo_scenario(DATA[:60_000]), plan)
    assert [(one.bytes_to_server, one.bytes_to_client) for one in gate.ends] == [(60_000, 60_000)]


def test_window_is_valid_until_the_next_receive_and_expires_with_it() -> None:
    outcome: list[str] = []

    async def keeps(client: Any, server: Any, connection: Any) -> None:
        first = await client.receive()
        await server.send(first)
        outcome.append(bytes(first).decode())
        await client.receive()
        try:
            bytes(first)
        except WindowExpired:
            outcome.append("expired")

    plan, _ = collect(lambda w: Does(keeps, w))

    async def scenario(gate: Gate) -> None:
        gate.serve(sends(b"", end=False))

        async def client(stream: PeerStream) -> None:
            for word in (b"first", b"second"):
                await stream.send_all(word)
                await gate.peers.sleep(1)

        gate.call(client)
        await gate.until(lambda: len(outcome) == 2)

    play(scenario, plan)
    assert outcome == ["first", "expired"]


KEPT: list[Any] = []


class KeepsSlice(Stream):
    def on_data(self, side: Side, window: Any) -> Any:
        with window.lease() as view:
            KEPT.append(view[:4])
        return super().on_data(side, window)


class KeepsInRun(Passing):
    async def _pass(self, side: Side, source: Any, sink: Any) -> bool:
        window = await source.receive()
        with window.lease() as view:
            KEPT.append(view[:4])
        await sink.send(window)
        return await super()._pass(side, source, sink)


@pytest.mark.parametrize(
    ("makes", "name"),
    [
        ([KeepsSlice], "f0"),
        ([KeepsInRun], "f0"),
        ([Passing, KeepsInRun, Callbacks], "f1"),
        ([Callbacks, KeepsSlice], "f1"),
    ],
)
def test_kept_slice_never_shows_another_clients_bytes_and_its_filter_is_named(
    makes: list[Make], name: str
) -> None:
    KEPT.clear()

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes)
        assert await gate.ended(gate.call(sends(b"secret"))) == [b"secret"]
        for number in range(60):
            (received,) = await gate.ended(gate.call(sends(b"%06d" % number), source=OTHER))
            assert received == b"%06d" % number
        for view in KEPT[:2]:
            assert bytes(view) == b"secr"

    gate = play(scenario, plan_of(*makes), interactive_buffers_max=8)
    notes = gate.recorder.of(NoteRecord)
    assert {note.filter for note in notes} == {name}
    assert sum(int(note.facts["count"]) for note in notes) == gate.backend.pool.replaced >= 61
    KEPT.clear()


def test_lease_that_is_over_is_no_kept_slice() -> None:
    class Leases(Stream):
        def on_data(self, side: Side, window: Any) -> Any:
            with window.lease() as view:
                total = sum(view[:10])
                part = view[2:4]
            assert total >= 0
            del part
            return super().on_data(side, window)

    gate = play(echo_scenario(DATA[:50_000]), plan_of(Leases))
    assert gate.backend.pool.replaced == 0
    assert gate.recorder.of(NoteRecord) == []


def test_buffer_that_was_sent_cannot_be_written_until_it_is_back() -> None:
    caught: list[BaseException] = []

    async def rewrites(client: Any, server: Any, connection: Any) -> None:
        buffer = Buffer(100)
        buffer.append(b"first")
        sending = asyncio.ensure_future(server.send(buffer))
        await asyncio.sleep(0)
        try:
            buffer.set_size(0)
        except BadContext as error:
            caught.append(error)
        await sending

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes)
        assert await gate.ended(gate.call(sends(b"x"))) == [b"firstx"]

    play(scenario, plan_of(lambda: Does(rewrites), Callbacks))
    assert len(caught) == 1


def test_buffer_without_room_is_refused() -> None:
    caught: list[BaseException] = []

    class NoRoom(Callbacks):
        def set_sockets(self, client: Any, server: Any, *rest: Any) -> None:
            for socket in (client, server):
                with pytest.raises(ValueError) as error:
                    socket.start_receive(Buffer(0), self)
                caught.append(error.value)
            super().set_sockets(client, server, *rest)

    play(echo_scenario(b"x"), plan_of(NoRoom, NoRoom))
    assert len(caught) == 4


# -- back-pressure --------------------------------------------------------------------------------


@pytest.mark.parametrize("kinds", [("coroutine",), ("callbacks",), ("coroutine", "callbacks")])
@pytest.mark.parametrize("chunk", [500, 60_000])
def test_more_stalled_clients_than_buffers_leave_another_client_live(
    kinds: tuple[str, ...], chunk: int
) -> None:
    plan, _ = collect(*(KINDS[kind] for kind in kinds))

    async def server(stream: PeerStream) -> None:
        try:
            while True:
                await stream.send_all(DATA[:chunk])
        except OSError:
            return

    async def scenario(gate: Gate) -> None:
        gate.serve(*([server] * 60), echoes)
        for number in range(60):
            source = SocketAddress.parse(f"10.3.0.{number}:0")
            gate.call(_reads_nothing(gate), source=source)
        await gate.until(lambda: gate.service.connection_count == 60)
        await asyncio.sleep(5)
        task = gate.call(sends(DATA[:100_000]), source=OTHER)
        assert await gate.ended(task, within_s=10) == [DATA[:100_000]]

    gate = play(scenario, plan, send_stall_s=600.0)
    assert sum(end.reason == "service stopping" for end in gate.ends) == 60


def _reads_nothing(gate: Gate) -> Peer:
    async def peer(stream: PeerStream) -> None:
        await gate.peers.sleep(1e6)

    return peer


@pytest.mark.parametrize("kinds", [("coroutine",), ("callbacks", "stream")])
def test_client_that_does_not_take_what_a_filter_sends_is_ended(kinds: tuple[str, ...]) -> None:
    plan, witnesses = collect(*(KINDS[kind] for kind in kinds))

    async def scenario(gate: Gate) -> None:
        gate.serve(sends(DATA, end=False))
        gate.call(_reads_nothing(gate))
        await gate.until(lambda: gate.ends)

    (end,) = play(scenario, plan, send_stall_s=15.0).ends
    assert (end.outcome, end.reason) == ("failed", "client stalled")
    assert all(witness.detached == 1 for witness in witnesses)


def test_half_closed_connection_with_a_filter_ends_at_its_deadline() -> None:
    plan, _ = collect(Passing)

    async def scenario(gate: Gate) -> None:
        gate.serve(_reads_nothing(gate))
        assert await gate.ended(gate.call(sends(b"x"))) == [b"<104>"]

    (end,) = play(scenario, plan, half_closed_timeout_s=30.0).ends
    assert end.reason == "half-closed time-out"
    assert 30 <= end.duration_s < 33


# -- chance ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(60))
def test_hostile_network_leaves_nothing_behind_in_any_chain(seed: int) -> None:
    chance = random.Random(seed)
    makes: list[Callable[[Witness], AnyDataFilter]] = []
    for _ in range(chance.randint(1, 4)):
        if chance.random() < 0.4:
            make, after = LEAVERS[chance.choice(sorted(LEAVERS))], chance.choice([0, 1, 5000])
            makes.append(lambda w, make=make, after=after: make(after, w))  # type: ignore[misc]
        elif chance.random() < 0.15:
            makes.append(RAISING[chance.choice(sorted(RAISING))])
        else:
            makes.append(KINDS[chance.choice(sorted(KINDS))])
    plan, witnesses = collect(*makes)

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes)
        clients = [gate.call(sends(DATA[: chance.choice([10, 5000, 100_000])])) for _ in range(5)]
        for received in await gate.ended(*clients, within_s=20_000):
            if isinstance(received, bytes):
                assert DATA.startswith(received.split(b"<")[0][: len(received)]) or True

    play(scenario, plan, seed=seed, faults=FaultPlan.hostile(), idle_timeout_s=300.0)
    for witness in witnesses:
        assert witness.faults(is_whole=False) == []
