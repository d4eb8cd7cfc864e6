"""What stream filters may answer: parts, replacements, waits, leaving, last words; in any mix."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from sluicegate.audit import ConnectionRecord
from sluicegate.filterapi import (
    FORWARD,
    HOLD,
    LEAVE,
    AnyDataFilter,
    Connection,
    Cut,
    DataFilter,
    DataSocket,
    Forward,
    Rewrite,
    Side,
    StreamFilter,
    StreamVerdict,
    Wait,
    Window,
)
from sluicegate.limits import LAST_WORDS_BYTES_MAX, LAST_WORDS_S
from sluicegate.testing import BulkBytes, FaultPlan, Playbook, fuzz_splits

from .chain_filters import Passing, Stream
from .gate_kit import Gate, echoes, play, sends, what_comes
from .test_chain import DATA, LEAVERS, collect

BESIDE: dict[str, tuple[Callable[[], AnyDataFilter], ...]] = {
    "alone": (),
    "in a chain": (Passing,),
}
"""A stream filter alone runs in the pump; beside a data filter in a relay."""


def beside(*makes: Any, others: str) -> list[Any]:
    return [*makes, *BESIDE[others]]


both_places = pytest.mark.parametrize("others", BESIDE)


# -- parts and replacements ------------------------------------------------------------------------


class Numbers(StreamFilter):
    """Adds one to each decimal line; holds the last, unfinished one in the gate."""

    name = "numbers"

    def on_data(self, side: Side, window: Window) -> StreamVerdict:
        data = bytes(window)
        done = data.rfind(b"\n") + 1
        lines = data[:done].splitlines()
        return Rewrite(b"".join(b"%d\n" % (int(line) + 1) for line in lines), done)


@both_places
def test_rewriting_a_part_holds_the_rest_wherever_the_stream_is_cut(others: str) -> None:
    with Playbook(*beside(Numbers, others=others)) as play_it:
        play_it.client.sends(b"1\n99\n1")
        play_it.server.receives(b"2\n100\n")
        play_it.client.sends(b"0\n7")
        play_it.server.receives(b"11\n")
        play_it.client.ends()
        play_it.server.receives(b"7")  # half a line, released at the end
    assert fuzz_splits(beside(Numbers, others=others), b"1\n99\n123456\n9\n") > 15


def test_rewriting_nothing_puts_bytes_in_front_of_what_is_held() -> None:
    class Banner(StreamFilter):
        is_said = False

        def on_data(self, side: Side, window: Window) -> StreamVerdict:
            if side is Side.SERVER or self.is_said:
                return FORWARD
            self.is_said = True
            return Rewrite(b"hello ", 0)

    with Playbook(Banner) as play_it:
        play_it.client.sends(b"wor")
        play_it.server.receives(b"hello ")
        play_it.client.sends(b"ld")
        play_it.server.receives(b"world")
        assert play_it.server.received_count == len(b"hello world")


@both_places
@pytest.mark.parametrize("count", [-1, 4])
@pytest.mark.parametrize("verdict", [Forward, lambda n: Rewrite(b"x", n), lambda n: Wait(1, n)])
def test_part_that_was_not_shown_fails_the_filter(verdict: Any, count: int, others: str) -> None:
    class Wrong(StreamFilter):
        def on_data(self, side: Side, window: Window) -> StreamVerdict:
            answer: StreamVerdict = verdict(count)
            return answer

    with Playbook(*beside(Wrong, others=others)) as play_it:
        play_it.client.sends(b"abc")
        play_it.expect_failed()
        assert play_it.server.received_count == 0


# -- leaving ---------------------------------------------------------------------------------------


class HoldsServer(StreamFilter):
    """Holds what the server says until the client says a line; then leaves."""

    name = "holds-server"

    def on_data(self, side: Side, window: Window) -> StreamVerdict:
        if side is Side.SERVER:
            return HOLD
        return LEAVE if b"\n" in bytes(window) else FORWARD


@both_places
def test_filter_that_leaves_releases_what_it_holds_of_the_other_direction(others: str) -> None:
    with Playbook(*beside(HoldsServer, HoldsServer, others=others)) as play_it:
        play_it.client.sends(b"x")
        play_it.server.sends(b"secret")
        play_it.client.receives_nothing()
        play_it.client.sends(b"y\n")
        play_it.client.receives(b"secret")
        play_it.server.sends(b" more")
        play_it.client.receives(b" more")
        play_it.server.receives(b"xy\n")
        assert play_it.client.received_count == len(b"secret more")


@both_places
def test_filter_that_leaves_stops_its_own_wait_of_the_other_direction(others: str) -> None:
    class Waits(StreamFilter):
        def on_data(self, side: Side, window: Window) -> StreamVerdict:
            return Wait(1000) if side is Side.SERVER else LEAVE

    with Playbook(*beside(Waits, others=others)) as play_it:
        play_it.exchange  # noqa: B018 - connects
        play_it.server.sends(b"early ")
        play_it.server.sends(b"late")
        play_it.client.receives_nothing()
        play_it.client.sends(b"go")
        play_it.client.receives(b"early late")
        play_it.server.receives(b"go")
        assert play_it.client.received_count == len(b"early late")


@both_places
def test_what_one_filter_held_when_it_left_is_shown_to_those_behind_it(others: str) -> None:
    class Upper(StreamFilter):
        def on_data(self, side: Side, window: Window) -> StreamVerdict:
            return Rewrite(bytes(window).upper())

    with Playbook(*beside(Upper, HoldsServer, others=others)) as play_it:
        play_it.client.sends(b"x")
        play_it.server.sends(b"secret")
        play_it.client.sends(b"\n")
        play_it.client.receives(b"SECRET")
        assert play_it.client.received_count == len(b"SECRET")


# -- waiting ---------------------------------------------------------------------------------------


class Pacer(StreamFilter):
    """Releases three bytes per second and direction."""

    name = "pacer"

    def __init__(self) -> None:
        self.shown: list[int] = []

    def on_data(self, side: Side, window: Window) -> StreamVerdict:
        self.shown.append(len(window))
        return Wait(1.0, min(3, len(window))) if len(window) else FORWARD


@both_places
def test_filter_that_waits_is_asked_again_and_nothing_overtakes(others: str) -> None:
    with Playbook(*beside(Pacer, others=others)) as play_it:
        play_it.client.sends(b"0123456")
        play_it.client.sends(b"789")
        play_it.client.ends()
        came = []
        for _ in range(5):
            came.append(play_it.server.reads())
            play_it.wait(1.0)
        assert came == [b"012", b"345", b"6", b"789", b""]
        play_it.server.receives_end()
        play_it.server.ends()
        play_it.expect_released()


@both_places
def test_while_a_filter_waits_its_sender_is_not_read(others: str) -> None:
    class Once(StreamFilter):
        def on_data(self, side: Side, window: Window) -> StreamVerdict:
            return FORWARD if side is Side.SERVER else Wait(100.0)

    with Playbook(*beside(Once, others=others)) as play_it:
        play_it.client.sends(BulkBytes(4 << 20))
        # The kernels' buffers are full, and little more was received.
        assert play_it.client.unsent > 3 << 20
        play_it.client.resets()


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), 1e9])
def test_wait_without_end_fails_the_filter(seconds: float) -> None:
    class Forever(StreamFilter):
        def on_data(self, side: Side, window: Window) -> StreamVerdict:
            return Wait(seconds)

    with Playbook(Forever) as play_it:
        play_it.client.sends(b"abc")
        play_it.expect_failed()


@both_places
def test_end_of_the_stream_waits_for_a_filter_behind_one_that_held_to_the_end(others: str) -> None:
    class Holder(StreamFilter):
        def on_data(self, side: Side, window: Window) -> StreamVerdict:
            return HOLD

    with Playbook(*beside(Holder, Pacer, others=others)) as play_it:
        play_it.client.sends(b"01234")
        play_it.client.ends()
        play_it.server.receives(b"012")
        play_it.wait(1.0)
        play_it.server.receives(b"34")
        play_it.wait(1.0)
        play_it.server.receives_end()
        assert play_it.server.received_count == len(b"01234")


@both_places
def test_connection_that_ends_while_a_filter_waits_leaves_nothing_behind(others: str) -> None:
    for how in ("resets", "stops"):
        with Playbook(*beside(Pacer, others=others)) as play_it:
            play_it.client.sends(b"0123456")
            play_it.server.receives(b"012")
            if how == "resets":
                play_it.server.resets()
                play_it.wait(5.0)
                play_it.client.receives_reset()
            assert play_it.server.received_count == len(b"012"), how


@both_places
def test_filter_that_raises_after_its_wait_ends_its_connection(others: str) -> None:
    class Late(StreamFilter):
        count = 0

        def on_data(self, side: Side, window: Window) -> StreamVerdict:
            self.count += 1
            if self.count > 1:
                raise ValueError("boom")
            return Wait(1.0)

    with Playbook(*beside(Late, others=others)) as play_it:
        play_it.client.sends(b"abc")
        play_it.expect_open()
        play_it.wait(1.0)
        play_it.expect_failed()


# -- any mix ---------------------------------------------------------------------------------------


class Wilful(Stream):
    """Answers whatever it may; every byte passes, once and in order."""

    name = "wilful"

    def __init__(self, seed: int, witness: Any) -> None:
        super().__init__(witness)
        self._dice = random.Random(seed)
        self._has_left = False

    def on_data(self, side: Side, window: Any) -> StreamVerdict:
        data, dice = bytes(window), self._dice
        count = dice.randint(0, len(data))
        choice = dice.random()
        if choice < 0.03:
            self.witness.seen[side] += data
            return LEAVE
        if choice < 0.3:
            self.witness.note(side, data)
            return FORWARD
        self.witness.note(side, data[:count])
        if choice < 0.5:
            return Forward(count)
        if choice < 0.75:
            return Rewrite(data[:count], count)
        return Wait(dice.choice([1e-6, 0.001, 0.3]), count)


@pytest.mark.parametrize("seed", range(80))
def test_any_mix_of_answers_passes_every_byte_once_and_in_order(seed: int) -> None:
    chance = random.Random(seed)
    makes: list[Any] = []
    for place in range(chance.randint(1, 4)):
        kind = chance.random()
        if kind < 0.7:
            makes.append(lambda w, n=seed * 10 + place: Wilful(n, w))
        elif kind < 0.85:
            name = chance.choice(sorted(LEAVERS))
            makes.append(lambda w, name=name: LEAVERS[name](5000, w))
        else:
            makes.append(Passing)
    plan, witnesses = collect(*makes)
    data = DATA[: chance.choice([1, 300, 6000, 60_000])]

    async def scenario(gate: Gate) -> None:
        servers = gate.serve(echoes)
        (received,) = await gate.ended(gate.call(sends(data)), within_s=2000)
        assert (len(received), received) == (len(data), data)
        assert await gate.ended(*servers) == [len(data)]
        await gate.idle()

    gate = play(scenario, plan, seed=seed, faults=FaultPlan.disorder(), idle_timeout_s=10_000)
    for witness in witnesses:
        assert witness.faults(is_whole=False) == []
    assert gate.ends[0].outcome == "released"


# -- last words ------------------------------------------------------------------------------------


class Refuses(StreamFilter):
    name = "refuses"
    words = (b"", b"")

    def on_data(self, side: Side, window: Window) -> StreamVerdict:
        if b"bad" in bytes(window):
            return Cut("bad", to_client=self.words[0], to_server=self.words[1])
        return FORWARD


def refusing(to_client: bytes = b"", to_server: bytes = b"") -> type[Refuses]:
    return type("Refusing", (Refuses,), {"words": (to_client, to_server)})


@both_places
def test_side_that_is_told_something_gets_it_whole_and_a_clean_end(others: str) -> None:
    with Playbook(*beside(refusing(b"554 no\r\n"), others=others)) as play_it:
        play_it.server.sends(b"220 hello\r\n")
        play_it.client.receives(b"220 hello\r\n")
        play_it.client.sends(b"bad")
        play_it.client.receives(b"554 no\r\n")
        play_it.client.receives_end()
        play_it.server.receives_reset()
        play_it.client.ends()
        play_it.expect_refused("bad")


@both_places
def test_both_sides_may_be_told(others: str) -> None:
    with Playbook(*beside(refusing(b"no", b"QUIT"), others=others)) as play_it:
        play_it.client.sends(b"bad")
        play_it.client.receives(b"no")
        play_it.server.receives(b"QUIT")
        play_it.client.receives_end()
        play_it.client.ends()
        play_it.server.ends()
        play_it.expect_refused("bad")


@both_places
def test_peer_that_goes_on_after_it_was_told_is_reset_in_time(others: str) -> None:
    with Playbook(*beside(refusing(b"no"), others=others)) as play_it:
        play_it.client.sends(b"bad")
        play_it.client.sends(b"and more")
        play_it.client.receives(b"no")
        play_it.wait(LAST_WORDS_S + 0.1)
        play_it.expect_refused("bad")
        play_it.server.receives_reset()


@both_places
def test_where_bytes_wait_to_be_sent_nobody_is_told_anything(others: str) -> None:
    received: list[bytes] = []

    async def scenario(gate: Gate) -> None:
        async def client(stream: Any) -> bytes:
            await gate.peers.sleep(5)  # it does not read: the gate cannot send all that it has
            await stream.send_all(b"bad")
            await gate.peers.sleep(5)
            return await what_comes(stream)

        gate.serve(sends(b"x" * (3 << 20), end=False))
        received.extend(await gate.ended(gate.call(client)))

    refuses = refusing(b"554 no")
    plan, _ = collect(
        lambda _: refuses(), *(lambda _, make=make: make() for make in BESIDE[others])
    )
    gate = play(scenario, plan)
    assert gate.ends[0].reason == "bad"
    assert received[0].strip(b"x") == b"<104>"


def test_data_filter_tells_the_client_why() -> None:
    class Asks(DataFilter):
        async def run(
            self, client: DataSocket, server: DataSocket | None, connection: Connection
        ) -> None:
            await client.receive()
            connection.refuse("no", to_client=b"go away")

    with Playbook(Asks) as play_it:
        play_it.client.sends(b"hello")
        play_it.client.receives(b"go away")
        play_it.client.receives_end()
        play_it.client.ends()
        play_it.expect_refused("no")


def test_last_words_that_are_too_long_fail_the_filter() -> None:
    with Playbook(refusing(b"x" * (LAST_WORDS_BYTES_MAX + 1))) as play_it:
        play_it.client.sends(b"bad")
        play_it.expect_failed()


@pytest.mark.parametrize("seed", range(40))
def test_last_words_arrive_whole_or_not_at_all_in_any_world(seed: int) -> None:
    message = b"<" + b"m" * 9000 + b">"
    plan, _ = collect(lambda w: refusing(message)(), *([] if seed % 2 else [Passing]))
    received: list[Any] = []

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes)
        received.extend(await gate.ended(gate.call(sends(b"a" * 3000 + b"bad" + b"b" * 3000))))
        await gate.idle()

    gate = play(scenario, plan, seed=seed, faults=FaultPlan.disorder())
    assert gate.recorder.of(ConnectionRecord)[0].reason == "bad"
    _, _, told = received[0].partition(b"<")
    assert told == message[1:] or not told or told.startswith((b"104>", b"32>"))
