"""The race for a connection on virtual time: order, delays, losers, and the judge at the dial."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

from sluicegate.address import SocketAddress
from sluicegate.errors import LimitExceeded
from sluicegate.limits import DIAL_ATTEMPTS_MAX
from sluicegate.names import canonical_host, classify
from sluicegate.names.destination import Destination, JudgedAddress
from sluicegate.names.eyeballs import DialFailed, Won, interleave, race
from sluicegate.port import PortEventLoop
from sluicegate.testing import SimulatedBackend, simulated_completion_port
from sluicegate.verdict import Deny

DELAY_S = 0.25


def judged(text: str, denial: Deny | None = None) -> JudgedAddress:
    return JudgedAddress(classify(ipaddress.ip_address(text)), denial)


def destination(*addresses: str | JudgedAddress) -> Destination:
    made = tuple(judged(one) if isinstance(one, str) else one for one in addresses)
    return Destination(canonical_host("www.example"), 443, made)


class Network:
    """Addresses that answer after a time, refuse after a time, or never say anything."""

    def __init__(self, **options: Any) -> None:
        self.plan: dict[str, tuple[float, Exception | None]] = {}
        self.denied: dict[str, str] = {}
        self.stubborn: set[str] = set()
        self.dialled: list[tuple[float, str]] = []
        self.judged: list[str] = []
        self.discarded: list[str] = []
        self.opened: list[str] = []
        self.now: Callable[[], float] = lambda: 0.0

    def answers(self, host: str, after_s: float, failure: Exception | None = None) -> None:
        self.plan[host] = (after_s, failure)

    async def dial(self, address: SocketAddress) -> str:
        self.dialled.append((round(self.now(), 2), address.host))
        after_s, failure = self.plan.get(address.host, (3600.0, None))
        try:
            await asyncio.sleep(after_s)
        except asyncio.CancelledError:
            if address.host not in self.stubborn:
                raise
        if failure is not None:
            raise failure
        self.opened.append(address.host)
        return f"connection to {address.host}"

    def judge(self, one: JudgedAddress) -> Deny | None:
        host = one.socket_address(443).host
        self.judged.append(host)
        return Deny(self.denied[host]) if host in self.denied else None

    def run(
        self, target: Destination, main: Callable[[Any], Any] | None = None
    ) -> Won[str] | DialFailed:
        port = simulated_completion_port(SimulatedBackend())
        start = port.clock.monotonic()
        self.now = lambda: port.clock.monotonic() - start

        async def raced() -> Any:
            racing = race(
                target, self.dial, self.judge, self.discarded.append, attempt_delay_s=DELAY_S
            )
            try:
                return await (main(racing) if main is not None else racing)
            except DialFailed as failed:
                return failed

        with asyncio.Runner(loop_factory=lambda: PortEventLoop(port)) as runner:
            return runner.run(raced())


@pytest.fixture
def network() -> Network:
    return Network()


@hypothesis.given(st.lists(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)), max_size=12))
def test_families_take_turns_and_keep_their_order(addresses: list[Any]) -> None:
    ones = [JudgedAddress(classify(address)) for address in addresses]
    ordered = interleave(ones)
    versions = [one.judgement.address.version for one in ordered]
    for version in (4, 6):
        own = [one for one in ones if one.judgement.address.version == version]
        assert [one for one in ordered if one.judgement.address.version == version] == own
    pairs = 2 * min(versions.count(4), versions.count(6))
    assert versions[:pairs] == [6, 4] * (pairs // 2)
    assert len(set(versions[pairs:])) <= 1


def test_first_address_that_answers_wins_and_no_other_is_dialled(network: Network) -> None:
    network.answers("2001:db8::1", 0.1)
    won = network.run(destination("192.0.2.1", "2001:db8::1"))
    assert isinstance(won, Won)
    assert (str(won.address), won.failed) == ("[2001:db8::1]:443", ())
    assert won.connection == "connection to 2001:db8::1"
    assert network.dialled == [(0.0, "2001:db8::1")]
    assert network.discarded == []


def test_next_address_is_dialled_after_the_delay_while_the_last_one_goes_on(
    network: Network,
) -> None:
    network.answers("192.0.2.1", 0.1)
    won = network.run(destination("192.0.2.1", "2001:db8::1"))
    assert isinstance(won, Won)
    assert won.address.host == "192.0.2.1"
    assert network.dialled == [(0.0, "2001:db8::1"), (0.25, "192.0.2.1")]


def test_slow_first_address_may_still_win(network: Network) -> None:
    network.answers("2001:db8::1", 0.3)
    network.answers("192.0.2.1", 0.2)
    won = network.run(destination("192.0.2.1", "2001:db8::1"))
    assert isinstance(won, Won)
    assert won.address.host == "2001:db8::1"
    assert network.opened == ["2001:db8::1"]


def test_failure_starts_the_next_dial_at_once(network: Network) -> None:
    network.answers("2001:db8::1", 0.05, ConnectionRefusedError(111, "refused"))
    network.answers("192.0.2.1", 0.05)
    won = network.run(destination("192.0.2.1", "2001:db8::1"))
    assert isinstance(won, Won)
    assert network.dialled == [(0.0, "2001:db8::1"), (0.05, "192.0.2.1")]
    assert [str(one.address) for one in won.failed] == ["[2001:db8::1]:443"]


def test_each_address_is_judged_again_right_before_its_dial(network: Network) -> None:
    network.denied["2001:db8::1"] = "it is the gate's own by now"
    network.answers("192.0.2.1", 0.1)
    won = network.run(destination("192.0.2.1", "2001:db8::1", "2001:db8::2"))
    assert isinstance(won, Won)
    assert network.judged == ["2001:db8::1", "192.0.2.1"]
    assert network.dialled == [(0.0, "192.0.2.1")]
    assert won.failed[0].failure == Deny("it is the gate's own by now")


def test_judgement_of_a_later_attempt_is_of_its_own_time(network: Network) -> None:
    target = destination("192.0.2.1", "192.0.2.2")

    async def deny_meanwhile(racing: Any) -> Any:
        task = asyncio.ensure_future(racing)
        await asyncio.sleep(0.1)
        network.denied["192.0.2.2"] = "a listener was opened there"
        network.plan["192.0.2.1"] = (0.0, OSError("gone"))
        await asyncio.sleep(1.0)
        task.cancel()
        return await asyncio.gather(task, return_exceptions=True)

    network.run(target, deny_meanwhile)
    assert [host for _, host in network.dialled] == ["192.0.2.1"]
    assert network.judged == ["192.0.2.1", "192.0.2.2"]


def test_address_that_was_refused_in_the_lookup_is_never_dialled(network: Network) -> None:
    refused = judged("192.0.2.9", Deny("private"))
    network.answers("192.0.2.1", 0.1)
    network.run(destination(refused, "192.0.2.1"))
    assert [host for _, host in network.dialled] == ["192.0.2.1"]


def test_when_all_fail_each_failure_is_told(network: Network) -> None:
    network.answers("2001:db8::1", 0.1, TimeoutError("too slow"))
    network.answers("192.0.2.1", 0.2, ConnectionRefusedError(111, "refused"))
    network.denied["192.0.2.2"] = "refused by a rule"
    failed = network.run(destination("192.0.2.1", "2001:db8::1", "192.0.2.2"))
    assert isinstance(failed, DialFailed)
    assert {str(one.address) for one in failed.attempts} == {
        "[2001:db8::1]:443", "192.0.2.1:443", "192.0.2.2:443"
    }  # fmt: skip
    assert "192.0.2.2:443: refused by a rule" in str(failed)
    assert "too slow" in str(failed)


def test_destination_without_an_address_that_passes_fails_at_once(network: Network) -> None:
    network.denied["192.0.2.1"] = "no"
    failed = network.run(destination("192.0.2.1"))
    assert isinstance(failed, DialFailed)
    assert network.dialled == []


def test_no_more_addresses_are_tried_than_the_limit(network: Network) -> None:
    many = [f"192.0.2.{i}" for i in range(DIAL_ATTEMPTS_MAX + 5)]
    for host in many:
        network.answers(host, 0.01, ConnectionRefusedError(111, "refused"))
    failed = network.run(destination(*many))
    assert isinstance(failed, DialFailed)
    assert len(network.dialled) == DIAL_ATTEMPTS_MAX
    assert isinstance(failed.attempts[-1].failure, LimitExceeded)


def test_two_that_connect_at_once_leave_one(network: Network) -> None:
    network.answers("2001:db8::1", 0.25 + 0.1)
    network.answers("192.0.2.1", 0.1)
    won = network.run(destination("192.0.2.1", "2001:db8::1"))
    assert isinstance(won, Won)
    losers = [host for host in network.opened if host != won.address.host]
    assert network.discarded == [f"connection to {host}" for host in losers]


def test_loser_that_connects_although_cancelled_is_discarded(network: Network) -> None:
    network.stubborn.add("2001:db8::1")
    network.answers("192.0.2.1", 0.1)
    won = network.run(destination("192.0.2.1", "2001:db8::1"))
    assert isinstance(won, Won)
    assert won.address.host == "192.0.2.1"
    assert network.discarded == ["connection to 2001:db8::1"]


@pytest.mark.parametrize("after_s", [0.1, 0.3, 0.36])
def test_race_that_is_cancelled_leaves_no_connection(network: Network, after_s: float) -> None:
    network.stubborn |= {"2001:db8::1", "192.0.2.1"}
    network.answers("192.0.2.1", 0.5)

    async def cancel(racing: Any) -> Any:
        task = asyncio.ensure_future(racing)
        await asyncio.sleep(after_s)
        task.cancel()
        return await asyncio.gather(task, return_exceptions=True)

    network.run(destination("192.0.2.1", "2001:db8::1"), cancel)
    assert sorted(network.discarded) == sorted(f"connection to {h}" for h in network.opened)
    assert len(network.opened) == len(network.dialled)


@hypothesis.settings(max_examples=100)
@hypothesis.given(
    st.lists(
        st.tuples(st.floats(0, 2), st.booleans(), st.booleans(), st.booleans()),
        min_size=1,
        max_size=8,
    ),
    st.one_of(st.none(), st.floats(0, 3)),
)
def test_every_connection_is_returned_or_discarded(
    plan: list[tuple[float, bool, bool, bool]], cancel_after_s: float | None
) -> None:
    network = Network()
    hosts = [f"2001:db8::{i:x}" if i % 3 else f"192.0.2.{i}" for i in range(1, len(plan) + 1)]
    for host, (after_s, fails, stubborn, denied) in zip(hosts, plan, strict=True):
        network.answers(host, after_s, OSError("failed") if fails else None)
        network.stubborn |= {host} if stubborn else set()
        network.denied.update({host: "denied"} if denied else {})

    async def cancel(racing: Any) -> Any:
        task = asyncio.ensure_future(racing)
        await asyncio.wait([task], timeout=cancel_after_s)
        task.cancel()
        return (await asyncio.gather(task, return_exceptions=True))[0]

    outcome = network.run(destination(*hosts), cancel)
    kept = [outcome.connection] if isinstance(outcome, Won) else []
    assert sorted([*network.discarded, *kept]) == sorted(
        f"connection to {h}" for h in network.opened
    )
    assert not set(network.denied) & {host for _, host in network.dialled}
