"""What filters are told of the world around them: the policy, the network, what runs short."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
from typing import Any

from sluicegate.filterapi import (
    EntryMode,
    NetworkChange,
    NetworkInterface,
    PolicyChanged,
    Shortage,
)
from sluicegate.gate.entry_dialogue import Authenticate
from sluicegate.testing import FaultPlan
from tests.flows.entry_kit import RULES, WEB, Ask, Names, asks, proxy_settings, says_hello
from tests.flows.gate_kit import Gate, echoes, installation, play, publication, sends, settings
from tests.flows.model_kit import Telling


class Noticing(Telling):
    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.error = error
        self.notices: list[PolicyChanged] = []

    def on_policy_changed(self, notice: PolicyChanged) -> None:
        self.notices.append(notice)
        if self.error is not None:
            raise self.error


def plan_of(noticing: Noticing, *rules: str, others: Any = ()) -> Any:
    installed = noticing_installation(noticing)
    named = [publication("f", name=rule, listener="web") for rule in rules]
    return settings(*named, filters=[installed, *others])


_INSTALLED: dict[Noticing, Any] = {}


def noticing_installation(noticing: Noticing) -> Any:
    return _INSTALLED.setdefault(noticing, installation(noticing, "f"))


def test_filters_are_told_of_a_policy_that_is_another_one() -> None:
    noticing = Noticing()
    seen: list[tuple[str, str]] = []

    async def scenario(gate: Gate) -> None:
        assert noticing.notices == []
        before = gate.service.policy.hash
        await gate.service.apply(plan_of(noticing, "one"))
        assert noticing.notices == [], "the same policy again is no change"
        await gate.service.apply(plan_of(noticing, "one", "two"))
        seen.append((before, gate.service.policy.hash))

    play(scenario, plan_of(noticing, "one"))
    (notice,) = noticing.notices
    assert (notice.before, notice.after) == seen[0]
    assert notice.rules == ("one", "two")


def test_filter_that_fails_to_take_the_notice_is_named_and_the_policy_is_in_force() -> None:
    failing, other = Noticing(ValueError("boom")), Noticing()
    second = installation(other, "second")

    async def scenario(gate: Gate) -> None:
        await gate.service.apply(plan_of(failing, "one", "two", others=[second]))
        gate.serve(echoes)
        assert await gate.ended(gate.call(sends(b"x"))) == [b"x"]

    gate = play(scenario, plan_of(failing, "one", others=[second]))
    assert [(one.filter, one.cause) for one in gate.failures] == [("f", "ValueError: boom")]
    assert [one.rules for one in other.notices] == [()]


def test_filters_are_told_of_the_network() -> None:
    telling = Telling()
    told: list[NetworkChange] = []
    address = ipaddress.ip_address("192.0.2.7")
    there = NetworkInterface(2, "eth0", True, frozenset({address}))

    async def scenario(gate: Gate) -> None:
        network = telling.firewall.network
        subscription = network.subscribe(told.append)
        gate.service.network.show((there,))
        assert (network.interfaces, network.addresses) == ((there,), {address})
        gate.service.network.show((there,))
        gate.service.network.show(())
        subscription.cancel()
        gate.service.network.show((there,))

    play(scenario, settings(publication("f"), filters=[installation(telling, "f")]))
    assert [(sorted(one.added), sorted(one.removed)) for one in told] == [
        ([address], []),
        ([], [address]),
    ]
    assert told[0].interfaces == (there,)


def test_listener_that_found_no_descriptor_has_filters_give_back_and_goes_on() -> None:
    telling = Telling()
    asked: list[Shortage] = []

    def recover(shortage: Shortage) -> bool:
        asked.append(shortage)
        return True

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes)
        recoverer = telling.firewall.recovery.register(recover)
        gate.service.on_accept_paused(None, errno.EMFILE)  # type: ignore[arg-type]
        assert asked == [], "not inside the call that found out"
        await asyncio.sleep(0.01)
        assert asked == [Shortage.DESCRIPTORS]
        assert await gate.ended(gate.call(sends(b"x"))) == [b"x"]
        recoverer.cancel()

    gate = play(scenario, settings(publication("f"), filters=[installation(telling, "f")]))
    limits = [one.limit for one in gate.recorder.records if hasattr(one, "limit")]
    assert "resource_low_percent (descriptors)" in limits


def test_failure_while_being_told_of_the_network_is_recorded() -> None:
    telling = Telling()

    def fail(change: NetworkChange) -> None:
        raise ValueError("boom")

    async def scenario(gate: Gate) -> None:
        telling.firewall.network.subscribe(fail)
        gate.service.network.show((NetworkInterface(1, "lo", True),))

    gate = play(
        scenario,
        settings(publication("f"), filters=[installation(telling, "f")]),
        faults=FaultPlan(),
    )
    assert [one.cause for one in gate.failures] == ["ValueError: boom"]


def test_user_of_a_session_is_who_the_client_proved_to_be() -> None:
    telling = Telling()

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes, address=WEB)
        for user in ("", "ann"):
            ask = Ask(EntryMode.SOCKS5, WEB.host, user=user, password="open sesame")
            (reply,) = await gate.ended(gate.call(asks(ask, says_hello)))
            assert reply.tunnelled == b"hello"

    plan = proxy_settings(
        RULES + 'filters = ["f"]\n',
        authenticate=Authenticate.OPTIONAL,
        filters=[installation(telling, "f")],
    )
    play(scenario, plan, exchange=Names())
    nobody, ann = [event.session for event in telling.seen]
    assert nobody.user is None
    assert (ann.user.name, ann.user.groups, ann.user.scheme) == ("ann", ("staff",), "password")
    assert ann.id != nobody.id, "who has a name has a session of one's own"


def test_filters_are_stopped_with_the_service() -> None:
    stopped: list[int] = []

    class Stopping(Telling):
        def stop(self) -> None:
            stopped.append(len(self.sessions))

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes)
        assert await gate.ended(gate.call(sends(b"x"))) == [b"x"]
        assert stopped == []

    play(scenario, settings(publication("f"), filters=[installation(Stopping(), "f")]))
    assert stopped == [1]
