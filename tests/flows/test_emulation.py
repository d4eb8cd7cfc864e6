"""Emulation of outbound connections: a filter is the server, and nobody is dialled."""

from __future__ import annotations

import asyncio
import errno
import random
from collections.abc import Callable
from typing import Any

import pytest

from sluicegate.errors import BadContext, Side
from sluicegate.filterapi import (
    ConnectionTerminating,
    ConnectRequested,
    DataSocket,
    Deny,
    Emulate,
    Events,
    Pass,
    Position,
)
from sluicegate.testing import FaultPlan
from sluicegate.testing.peers import PeerStream, _Signal
from tests.flows.chain_filters import Callbacks, Passing, Stream, Witness
from tests.flows.gate_kit import (
    Gate,
    installation,
    play,
    publication,
    sends,
    settings,
)
from tests.flows.model_kit import Playing, PlayingEcho, Telling, echo

DATA = random.Random(11).randbytes(300_000)


def emulating(make: Callable[[], Any], context: Any = None) -> Telling:
    """A filter that emulates every connection with what ``make`` makes."""
    made: list[Any] = []

    def answer(event: Any) -> Any:
        if not isinstance(event, ConnectRequested):
            return Pass()
        made.append(make())
        return Emulate(made[-1], context)

    telling = Telling(answer, Events.of(ConnectRequested, ConnectionTerminating, secondary=True))
    telling.made = made  # type: ignore[attr-defined]
    return telling


def plan_of(*filters: Any) -> Any:
    names = [f"f{number}" for number in range(len(filters))]
    return settings(
        publication(*names),
        filters=[installation(one, name) for one, name in zip(filters, names, strict=True)],
    )


def emulate(
    playing: Callable[[], Any],
    peer: Any = None,
    *others: Any,
    context: Any = None,
    **more: Any,
) -> tuple[Gate, Any, Telling]:
    """Let a client meet an emulated server: the gate, what the client returned, the filter."""
    telling = emulating(playing, context)
    returned: list[Any] = []

    async def scenario(gate: Gate) -> None:
        returned.extend(await gate.ended(gate.call(peer or sends(DATA)), within_s=4000))
        await gate.idle()

    gate = play(scenario, plan_of(telling, *others), **more)
    return gate, returned[0], telling


@pytest.mark.parametrize("make", [lambda: Playing(echo), PlayingEcho], ids=["coroutine", "calls"])
@pytest.mark.parametrize("seed", range(4))
def test_filter_plays_the_server_and_nobody_is_dialled(make: Any, seed: int) -> None:
    # Nobody listens at the server's address: a dial would fail the connection.
    gate, received, telling = emulate(make, seed=seed, faults=FaultPlan.disorder())
    assert received == DATA
    (end,) = gate.ends
    assert (end.outcome, end.reason, end.connect_ms) == ("released", "", 0.0)
    assert (end.bytes_to_server, end.bytes_to_client) == (len(DATA), len(DATA))
    assert end.filters == (telling.made[0].name,)  # type: ignore[attr-defined]
    (decision,) = gate.decisions
    assert (decision.verdict, decision.emulated_by) == ("allowed", telling.made[0].name)  # type: ignore[attr-defined]
    assert telling.made[0].detached == 1  # type: ignore[attr-defined]
    assert telling.names() == ["ConnectRequested", "ConnectionTerminating"]


def test_context_reaches_a_callback_filter() -> None:
    _, _, telling = emulate(PlayingEcho, context="hello")
    assert telling.made[0].context == "hello"  # type: ignore[attr-defined]


def test_answer_to_a_half_closed_client_arrives_whole() -> None:
    async def answer(client: DataSocket, connection: Any) -> None:
        while len(await client.receive()):
            continue
        await client.send(DATA)

    _, received, _ = emulate(lambda: Playing(answer), sends(b"a request"))
    assert received == DATA


def test_server_that_leaves_ends_the_stream_after_what_it_sent() -> None:
    async def answer(client: DataSocket, connection: Any) -> None:
        await client.send(b"220 no\r\n")

    async def peer(stream: PeerStream) -> bytes:
        received = bytearray()
        while piece := await stream.receive():
            received += piece
            # What it says after that has no reader; it must not cost it the answer.
            await stream.send_all(b"QUIT\r\n")
        stream.end_stream()
        return bytes(received)

    gate, received, _ = emulate(lambda: Playing(answer), peer)
    assert received == b"220 no\r\n"
    assert gate.ends[0].outcome == "released"


def test_client_that_stays_after_the_server_left_is_ended_by_the_half_closed_time_out() -> None:
    async def answer(client: DataSocket, connection: Any) -> None:
        await client.send(b"bye")

    async def peer(stream: PeerStream) -> None:
        assert await stream.receive_all() == b"bye"
        await _Signal()

    async def scenario(gate: Gate) -> None:
        gate.call(peer)
        await gate.until(lambda: gate.ends)

    telling = emulating(lambda: Playing(answer))
    (end,) = play(scenario, plan_of(telling), half_closed_timeout_s=7).ends
    assert end.reason == "half-closed time-out"
    assert 6.9 < end.duration_s < 9


def test_silent_server_is_ended_by_the_idle_time_out() -> None:
    async def answer(client: DataSocket, connection: Any) -> None:
        await client.receive()
        await asyncio.Event().wait()

    gate, received, _ = emulate(lambda: Playing(answer), sends(b"x", end=False), idle_timeout_s=5)
    assert received.endswith(f"<{errno.ECONNRESET}>".encode())
    assert gate.ends[0].reason == "idle time-out"


def test_abort_resets_the_client() -> None:
    async def answer(client: DataSocket, connection: Any) -> None:
        await client.receive()
        client.close(abortive=True)

    gate, received, telling = emulate(lambda: Playing(answer), sends(b"x", end=False))
    assert received == f"<{errno.ECONNRESET}>".encode()
    assert (gate.ends[0].outcome, gate.ends[0].reason) == ("failed", "aborted by a filter")
    assert telling.made[0].detached == 1  # type: ignore[attr-defined]


def test_refusal_out_of_the_emulation_is_recorded() -> None:
    async def answer(client: DataSocket, connection: Any) -> None:
        await client.receive()
        connection.refuse("not here")

    gate, _, _ = emulate(lambda: Playing(answer), sends(b"x", end=False))
    assert (gate.ends[0].outcome, gate.ends[0].reason) == ("refused", "not here")


def test_emulation_that_raises_ends_its_connection_and_is_named() -> None:
    async def answer(client: DataSocket, connection: Any) -> None:
        await client.receive()
        raise ValueError("boom")

    gate, received, telling = emulate(lambda: Playing(answer), sends(b"x", end=False))
    assert received == f"<{errno.ECONNRESET}>".encode()
    assert gate.ends[0].reason == "filter failure: playing"
    assert [one.filter for one in gate.failures] == ["playing"]
    assert telling.made[0].detached == 1  # type: ignore[attr-defined]


def test_client_that_resets_is_told_to_the_emulation() -> None:
    seen: list[Any] = []

    async def answer(client: DataSocket, connection: Any) -> None:
        await client.receive()
        await client.send(b"ready")
        try:
            await client.receive()
        except Exception as error:
            seen.append(error)
            raise

    async def peer(stream: PeerStream) -> None:
        await stream.send_all(b"x")
        assert await stream.receive() == b"ready"
        stream.reset()

    gate, _, _ = emulate(lambda: Playing(answer), peer)
    assert (seen[0].error, seen[0].side) == (errno.ECONNRESET, Side.CLIENT)
    assert (gate.ends[0].outcome, gate.ends[0].side) == ("failed", "client")
    assert gate.failures == []


@pytest.mark.parametrize(
    "kind",
    [Passing, Callbacks, Stream, lambda w: Stream(w, hold=300)],
    ids=["coroutine", "callbacks", "stream", "holder"],
)
@pytest.mark.parametrize("make", [lambda: Playing(echo), PlayingEcho], ids=["coroutine", "calls"])
def test_filters_in_front_of_the_emulation_see_both_directions(kind: Any, make: Any) -> None:
    witness = Witness()
    gate, received, telling = emulate(make, sends(DATA[:50_000]), lambda: kind(witness))
    assert received == DATA[:50_000]
    assert witness.faults() == []
    assert witness.seen[Side.CLIENT] == witness.seen[Side.SERVER] == DATA[:50_000]
    assert (gate.ends[0].bytes_to_server, gate.ends[0].outcome) == (50_000, "released")
    assert gate.ends[0].filters == ("f1", telling.made[0].name)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("kind", "after"),
    [
        (kind, after)
        for kind in (Passing, Callbacks, Stream)
        for after in (0, 1, 40_000)
        # A stream filter cannot leave before it saw something.
        if kind is not Stream or after
    ],
)
def test_filter_in_front_may_leave_and_the_emulation_plays_on(kind: Any, after: int) -> None:
    _, received, telling = emulate(
        lambda: Playing(echo), sends(DATA), lambda: kind(Witness(), leave_after=after)
    )
    assert received == DATA
    assert telling.made[0].detached == 1  # type: ignore[attr-defined]


def test_emulation_stands_behind_every_other_filter() -> None:
    witness = Witness()

    class Behind(Passing):
        position = Position.EMULATION

    _, received, telling = emulate(lambda: Playing(echo), sends(b"x"), lambda: Behind(witness))
    assert (received, witness.seen[Side.CLIENT]) == (b"x", b"x")
    assert telling.made[0].detached == 1  # type: ignore[attr-defined]


def test_emulation_counts_what_it_sent_for_the_client() -> None:
    async def answer(client: DataSocket, connection: Any) -> None:
        connection.count_sent(40)
        connection.count_sent(2)
        await echo(client, connection)

    gate, _, _ = emulate(lambda: Playing(answer), sends(b"x"))
    assert gate.ends[0].bytes_to_server == 42


def test_only_an_emulation_counts_and_it_dials_nobody() -> None:
    errors: list[BaseException] = []

    async def answer(client: DataSocket, connection: Any) -> None:
        try:
            connection.dial_server(connection.server_address)
        except BadContext as error:
            errors.append(error)

    _, _, _ = emulate(lambda: Playing(answer), sends(b"x"))
    assert len(errors) == 1

    def ask(event: Any) -> Any:
        with pytest.raises(BadContext):
            event.connection.count_sent(1)
        return Deny("no")

    async def scenario(gate: Gate) -> None:
        await gate.ended(gate.call(sends(b"x")))

    play(scenario, plan_of(Telling(ask)))


@pytest.mark.parametrize("what", [None, Stream()], ids=["nothing", "stream filter"])
def test_only_data_filters_can_emulate_a_server(what: Any) -> None:
    gate, received, _ = emulate(lambda: what, sends(b"x"))
    assert received == f"<{errno.ECONNRESET}>".encode()
    assert [one.cause.partition(":")[0] for one in gate.failures] == ["TypeError"]
    assert [one.verdict for one in gate.decisions] == ["denied"]


def test_second_emulator_is_a_failure_and_neither_plays() -> None:
    other = emulating(PlayingEcho)
    gate, received, telling = emulate(PlayingEcho, sends(b"x"), other)
    assert received == f"<{errno.ECONNRESET}>".encode()
    assert [one.filter for one in gate.failures] == ["f1"]
    assert "emulates what filter f0 emulates already" in gate.failures[0].cause
    assert (telling.made[0].detached, other.made[0].detached) == (1, 1)  # type: ignore[attr-defined]


def test_deny_of_another_filter_wins_over_emulation() -> None:
    gate, _, telling = emulate(PlayingEcho, sends(b"x"), Telling(lambda event: Deny("no")))
    assert [(one.verdict, one.reason) for one in gate.decisions] == [("denied", "no")]
    assert telling.made[0].detached == 1  # type: ignore[attr-defined]
    assert gate.failures == []


def test_emulation_of_a_client_that_left_while_others_thought_is_let_go() -> None:
    async def slow(event: Any) -> Any:
        await asyncio.sleep(1)
        event.connection.refuse("meanwhile")
        return Pass()

    gate, _, telling = emulate(PlayingEcho, sends(b"x"), Telling(slow))
    assert gate.decisions[0].reason == "meanwhile"
    assert telling.made[0].detached == 1  # type: ignore[attr-defined]


def test_gate_that_stops_ends_emulations() -> None:
    telling = emulating(PlayingEcho)

    async def scenario(gate: Gate) -> None:
        gate.call(sends(b"x", end=False))
        await gate.until(lambda: gate.service.connection_count)
        await asyncio.sleep(1)

    gate = play(scenario, plan_of(telling))
    assert gate.ends[0].reason == "service stopping"
    assert telling.made[0].detached == 1  # type: ignore[attr-defined]


def test_emulated_connection_is_shown_as_one() -> None:
    telling = emulating(PlayingEcho)
    seen: list[Any] = []

    async def scenario(gate: Gate) -> None:
        gate.call(sends(b"x", end=False))
        await gate.until(lambda: telling.seen)
        await asyncio.sleep(1)
        seen.extend(gate.service.connections())
        seen.append(telling.seen[0].connection.is_emulated)

    play(scenario, plan_of(telling))
    assert (seen[0].filters, seen[0].state, seen[1]) == (["playing-echo"], "open", True)
