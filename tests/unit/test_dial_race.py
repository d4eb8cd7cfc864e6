"""The race on the port's callbacks: order, delay, losers, and the judge right before each dial."""

from __future__ import annotations

import errno
import ipaddress
from collections.abc import Callable, Container
from typing import Any

from sluicegate.address import SocketAddress
from sluicegate.gate.dial_race import DialRace
from sluicegate.limits import DIAL_ATTEMPTS_MAX, Limits
from sluicegate.names import JudgedAddress, classify
from sluicegate.port.backend import Operation
from sluicegate.port.timers import Timer
from sluicegate.verdict import Deny


def judged(host: str) -> JudgedAddress:
    return JudgedAddress(classify(ipaddress.ip_address(host)))


class Sock:
    def __init__(self) -> None:
        self.closed = ""

    def close(self) -> None:
        self.closed = "closed"


class Port:
    """What a race uses of a port; the test completes its dials."""

    limits = Limits()

    def __init__(self) -> None:
        self.backend = self
        self.operations = self
        self.dials: dict[str, tuple[Operation, Sock]] = {}
        self.cancelled: list[Operation] = []
        self.taken = 0
        self.no_descriptors = False
        self.timers: list[Timer] = []
        self.posted: list[Callable[[], None]] = []

    def take(self, complete: Any) -> Operation:
        self.taken += 1
        return Operation(complete)

    def give(self, operation: Operation) -> None:
        self.taken -= 1

    def redirect(self, operation: Operation, complete: Any) -> None:
        operation.complete = complete

    def create_socket(self, family: int) -> Any:
        if self.no_descriptors:
            raise OSError(errno.EMFILE, "none left")
        return Sock()

    def connect(self, operation: Operation, sock: Any, address: SocketAddress) -> None:
        operation.in_flight = True
        self.dials[address.host] = operation, sock

    def cancel(self, operation: Operation) -> None:
        self.cancelled.append(operation)

    def abort(self, sock: Any) -> None:
        sock.closed = "aborted"

    def call_after(self, delay_s: float, action: Callable[[], None]) -> Timer:
        self.timers.append(Timer(delay_s, action))
        return self.timers[-1]

    def post(self, action: Callable[[], None]) -> None:
        self.posted.append(action)

    # -- what the test does ----------------------------------------------------------------------

    def complete(self, host: str, result: int) -> None:
        operation = self.dials[host][0]
        operation.in_flight = False
        operation.complete(result, 0)

    def wait(self) -> None:
        self.timers[-1].fire()

    def socket(self, host: str) -> Sock:
        return self.dials[host][1]


def race(
    port: Port, *hosts: str, denied: Container[str] = ()
) -> tuple[DialRace, list[tuple[Any, str, int]]]:
    ends: list[tuple[Any, str, int]] = []

    def judge(one: JudgedAddress) -> Deny | None:
        return Deny("no") if str(one.judgement.address) in denied else None

    running = DialRace(
        port,  # type: ignore[arg-type]
        [judged(host) for host in hosts],
        443,
        judge,
        lambda raw, address, error: ends.append((raw, address.host, error)),
    )
    running.start()
    return running, ends


def test_first_address_that_connects_wins_and_no_other_is_dialled() -> None:
    port = Port()
    _, ends = race(port, "1.1.1.1", "1.1.1.2")
    port.complete("1.1.1.1", 0)
    assert ends == [(port.socket("1.1.1.1"), "1.1.1.1", 0)]
    assert (list(port.dials), port.timers[0].is_pending, port.taken) == (["1.1.1.1"], False, 0)


def test_silent_address_does_not_hold_the_next_up_and_is_closed_when_it_comes_late() -> None:
    port = Port()
    _, ends = race(port, "1.1.1.1", "1.1.1.2")
    port.wait()
    port.complete("1.1.1.2", 0)
    assert [host for _, host, _ in ends] == ["1.1.1.2"]
    assert port.cancelled == [port.dials["1.1.1.1"][0]]
    port.complete("1.1.1.1", 0)
    assert (port.socket("1.1.1.1").closed, port.socket("1.1.1.2").closed) == ("aborted", "")
    assert (len(ends), port.taken) == (1, 0)


def test_slow_first_address_may_still_win() -> None:
    port = Port()
    _, ends = race(port, "1.1.1.1", "1.1.1.2")
    port.wait()
    port.complete("1.1.1.1", 0)
    port.complete("1.1.1.2", -errno.ECANCELED)
    assert [host for _, host, _ in ends] == ["1.1.1.1"]
    assert (port.socket("1.1.1.2").closed, port.taken) == ("closed", 0)


def test_failure_starts_the_next_dial_at_once() -> None:
    port = Port()
    _, ends = race(port, "1.1.1.1", "1.1.1.2")
    port.complete("1.1.1.1", -errno.ECONNREFUSED)
    assert list(port.dials) == ["1.1.1.1", "1.1.1.2"]
    port.complete("1.1.1.2", -errno.ENETUNREACH)
    assert ends == [(None, "1.1.1.2", errno.ENETUNREACH)]


def test_address_that_its_judge_refuses_is_never_dialled() -> None:
    port = Port()
    race(port, "1.1.1.1", "1.1.1.2", denied=("1.1.1.1",))
    assert list(port.dials) == ["1.1.1.2"]


def test_each_address_is_judged_again_right_before_its_dial() -> None:
    port, denied = Port(), set[str]()
    _, ends = race(port, "1.1.1.1", "1.1.1.2", "1.1.1.3", denied=denied)
    denied.add("1.1.1.2")  # a listener was opened there meanwhile
    port.complete("1.1.1.1", -errno.ECONNREFUSED)
    assert list(port.dials) == ["1.1.1.1", "1.1.1.3"]
    port.complete("1.1.1.3", 0)
    assert [host for _, host, _ in ends] == ["1.1.1.3"]


def test_when_every_address_is_refused_the_end_says_so_later() -> None:
    port = Port()
    _, ends = race(port, "1.1.1.1", "1.1.1.2", denied=("1.1.1.1", "1.1.1.2"))
    assert (port.dials, ends) == ({}, [])
    port.posted[0]()
    assert [(raw, error) for raw, _, error in ends] == [(None, errno.EACCES)]


def test_want_of_descriptors_is_told() -> None:
    port = Port()
    port.no_descriptors = True
    _, ends = race(port, "1.1.1.1", "1.1.1.2")
    port.posted[0]()
    assert [error for _, _, error in ends] == [errno.EMFILE]


def test_no_more_addresses_are_tried_than_the_limit() -> None:
    port = Port()
    hosts = [f"1.1.1.{number}" for number in range(1, DIAL_ATTEMPTS_MAX + 5)]
    _, ends = race(port, *hosts)
    for host in hosts[:DIAL_ATTEMPTS_MAX]:
        port.complete(host, -errno.ECONNREFUSED)
    assert (len(port.dials), len(ends)) == (DIAL_ATTEMPTS_MAX, 1)


def test_race_that_is_given_up_tells_nobody_and_leaves_nothing() -> None:
    port = Port()
    running, ends = race(port, "1.1.1.1", "1.1.1.2")
    port.wait()
    running.stop()
    port.complete("1.1.1.1", 0)
    port.complete("1.1.1.2", -errno.ECANCELED)
    assert (ends, port.taken) == ([], 0)
    assert [port.socket(host).closed for host in port.dials] == ["aborted", "closed"]


def test_what_is_left_is_dialled_when_a_failed_attempt_gives_its_descriptor_back() -> None:
    port = Port()
    _, ends = race(port, "1.1.1.1", "1.1.1.2")
    port.no_descriptors = True
    port.wait()
    assert (list(port.dials), ends) == (["1.1.1.1"], [])
    port.no_descriptors = False
    port.complete("1.1.1.1", -errno.ECONNREFUSED)
    port.complete("1.1.1.2", 0)
    assert [host for _, host, _ in ends] == ["1.1.1.2"]
