"""Learning: what no rule speaks of passes, every destination of it is on record, and it ends."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections import Counter

import pytest

from sluicegate.address import SocketAddress
from sluicegate.app.learning import LearnLog
from sluicegate.audit import LearnRecord
from sluicegate.clock import Clock
from sluicegate.filterapi import EntryMode
from sluicegate.policy_limits import CLOCK_LOOKED_AT_S
from tests.flows.entry_kit import WEB, Ask, Names, asks, proxy_settings
from tests.flows.gate_kit import Gate, echoes, play
from tests.flows.test_socks_associate import ONE, TWO, Client, Server, frame

DENY = """
[[rule]]
name = "no"
action = "deny"
to = ["93.184.216.99"]
clients = ["10.0.0.0/8"]
protocols = []
"""
ELSEWHERE = SocketAddress.parse("93.184.216.34:5353")


class SetClock:
    """A clock whose time of day somebody sets."""

    def __init__(self, clock: Clock) -> None:
        self.monotonic = clock.monotonic
        self.ahead_s = 0.0
        self._clock = clock

    def wall(self) -> float:
        return self._clock.wall() + self.ahead_s


def learn(end: float, clients: str = "10.0.0.0/8") -> str:
    until = dt.datetime.fromtimestamp(end, dt.UTC).isoformat().replace("+00:00", "Z")
    return f'{DENY}[[learn]]\nname = "runner"\nclients = ["{clients}"]\nuntil = {until}\n'


def test_datagrams_pass_while_learning_and_every_destination_of_them_is_recorded() -> None:
    async def scenario(gate: Gate) -> None:
        await gate.service.apply(proxy_settings(learn(gate.clock.wall() + 3600)))
        for address in (ONE, TWO, ELSEWHERE):
            Server(gate, address)
        client = Client(gate)
        assert await client.associate() == 0
        for to in (ONE, TWO, ONE, ELSEWHERE, TWO, ("two.example", 53)):
            client.send(frame(to, b"q"))
        await client.answered(6)
        client.leave()
        await gate.idle()

    names = Names().put("two.example", TWO.host)
    gate = play(scenario, proxy_settings(), exchange=names)
    recorded = [(it.target, it.reason, it.rule) for it in gate.decisions]
    targets = ["udp-associate", str(ONE), str(TWO), str(ELSEWHERE), "two.example:53"]
    assert recorded == [(target, "learning", "learn:runner") for target in targets]
    assert gate.decisions[-1].addresses == (TWO.host,)
    assert gate.service.learned.total() == 2, "the association, and the connection under its entry"


# what the client sends to, why it does not pass while learning
REFUSED = [
    (("93.184.216.99", 53), "denied-by-rule"),
    (("10.0.0.1", 53), "no-rule"),
    (("127.0.0.1", 53), "no-rule"),
    (("169.254.169.254", 80), "no-rule"),
    (("metadata.google.internal", 80), "name-special"),
    (("inner.example", 53), "address-denied"),
]


@pytest.mark.parametrize(("to", "reason"), REFUSED)
def test_p9_learning_lets_no_datagram_pass_that_is_refused(
    to: tuple[str, int], reason: str
) -> None:
    async def scenario(gate: Gate) -> None:
        await gate.service.apply(proxy_settings(learn(gate.clock.wall() + 3600)))
        client = Client(gate)
        assert await client.associate() == 0
        client.send(frame(to, b"q"))
        await gate.until(lambda: len(gate.decisions) == 2)
        client.leave()
        await gate.idle()

    names = Names().put("inner.example", "10.3.3.3")
    gate = play(scenario, proxy_settings(), exchange=names)
    refusal = gate.decisions[1]
    assert (refusal.verdict, refusal.reason.partition(":")[0]) == ("denied", reason)


def test_association_of_a_client_that_nothing_is_learned_of_is_refused() -> None:
    async def scenario(gate: Gate) -> None:
        text = learn(gate.clock.wall() + 3600, "10.200.0.0/16")
        await gate.service.apply(proxy_settings(text))
        assert await Client(gate).associate() == 2
        await gate.idle()

    gate = play(scenario, proxy_settings(), exchange=Names())
    assert [(it.verdict, it.reason) for it in gate.decisions] == [("denied", "no-rule")]


def test_end_of_learning_ends_datagrams_then_and_the_association_with_them() -> None:
    async def scenario(gate: Gate) -> None:
        await gate.service.apply(proxy_settings(learn(gate.clock.wall() + 20)))
        Server(gate, ONE)
        client = Client(gate)
        assert await client.associate() == 0
        client.send(frame(ONE, b"before"))
        await client.answered(1)
        await asyncio.sleep(21)
        client.send(frame(ONE, b"after"))
        await gate.idle()
        assert [data for data, _ in client.got] == [b"re:before"]
        assert client.is_over
        assert await Client(gate, SocketAddress(client.address.host, 4001)).associate() == 2

    gate = play(scenario, proxy_settings(), exchange=Names())
    assert {end.reason for end in gate.ends} == {"revoked: no-rule"}


def test_records_of_learning_say_how_many_connections_each_entry_let_in() -> None:
    records: list[LearnRecord] = []

    async def scenario(gate: Gate) -> None:
        async def count() -> Counter[str]:
            return gate.service.learned

        log = LearnLog(gate.clock, records.append, count)

        async def put_in_force(text: str) -> None:
            settings = proxy_settings(text)
            await gate.service.apply(settings)
            await log.follow(settings.policy)

        async def ask(times: int) -> None:
            for _ in range(times):
                await gate.ended(gate.call(asks(Ask(EntryMode.SOCKS5, WEB.host))))

        gate.serve(echoes, address=WEB)
        now = gate.clock.wall()
        await put_in_force(learn(now + 100))
        await ask(2)
        await put_in_force(learn(now + 60))
        await ask(1)
        await asyncio.sleep(61)
        assert records[-1].event == "ended"
        await ask(1)
        await put_in_force(learn(now + 200))
        await ask(1)
        await put_in_force(DENY)
        await log.close()
        await gate.idle()

    gate = play(scenario, proxy_settings(), exchange=Names())
    assert [(it.event, it.connections) for it in records] == [
        ("began", 0),
        ("goes-on", 2),
        ("ended", 3),
        ("began", 0),
        ("ended", 1),
    ]
    assert {it.entry for it in records} == {"runner"}
    assert gate.service.learned == {"learn:runner": 4}


def test_clock_that_is_set_forward_ends_learning_on_the_record() -> None:
    records: list[LearnRecord] = []

    async def scenario(gate: Gate) -> None:
        async def count() -> Counter[str]:
            return gate.service.learned

        clock = SetClock(gate.clock)
        log = LearnLog(clock, records.append, count)
        await log.follow(proxy_settings(learn(gate.clock.wall() + 86400)).policy)
        clock.ahead_s = 86401
        await asyncio.sleep(CLOCK_LOOKED_AT_S)
        await log.close()

    play(scenario, proxy_settings(), exchange=Names())
    assert [it.event for it in records] == ["began", "ended"]
