"""Limits of one rule's connections: how many, how many bytes, how long; in every entry mode."""

from __future__ import annotations

from typing import Any

import pytest

from sluicegate.audit import LimitRecord
from sluicegate.filterapi import EntryMode
from sluicegate.gate.settings import ListenerSettings, ServiceSettings
from sluicegate.testing.peers import PeerStream
from tests.flows.chain_filters import Passing
from tests.flows.entry_kit import MODES, WEB, Ask, Names, Reply, asks, proxy_settings, rules, visit
from tests.flows.gate_kit import ENTRY, LIMITS, SERVER, Gate, echoes, installation, play, sends
from tests.flows.test_socks_associate import ONE, Client, Server, frame, moment

every_mode = pytest.mark.parametrize("mode", MODES)
FILTERS: dict[str, list[Any]] = {"alone": [], "beside a filter": [installation(Passing, "passing")]}
with_and_without_filters = pytest.mark.parametrize("filters", FILTERS)


def limited(limits: str, filters: str = "alone") -> ServiceSettings:
    installed = FILTERS[filters]
    names = ", ".join(f'"{one.name}"' for one in installed)
    policy = f'[[rule]]\nname = "few"\nto = ["*"]\nprotocols = ["tcp", "udp"]\nlimits = {{ {limits} }}\nfilters = [{names}]\n'  # noqa: E501
    return proxy_settings(policy, filters=installed)


def published(limits: str) -> ServiceSettings:
    policy = f"""
        [[publish]]
        name="few"
        listener = "web"
        server = "{SERVER}"
        clients = ["10.0.0.0/8"]
        limits = {{ {limits} }}
    """
    return ServiceSettings((ListenerSettings("web", ENTRY),), rules(policy), (), LIMITS)


def reached(gate: Gate) -> list[str]:
    return [one.limit for one in gate.recorder.of(LimitRecord)]


async def stays(stream: PeerStream) -> bytes:
    """Say a word, hear it, and stay until the gate ends it."""
    await stream.send_all(b"hello")
    assert await stream.receive_exactly(5) == b"hello"
    try:
        await stream.receive_all()
    except ConnectionResetError:
        return b"reset"
    return b"ended"


@every_mode
@pytest.mark.parametrize(("count", "limit"), [(100_000, 200_000), (5, 10)])
@with_and_without_filters
def test_bytes_pass_up_to_the_limit_and_not_one_more(
    mode: EntryMode, count: int, limit: int, filters: str
) -> None:
    for bound, passes in ((limit, True), (limit - 1, False)):
        plan = limited(f"bytes_max = {bound}", filters)

        async def scenario(gate: Gate, passes: bool = passes) -> None:
            gate.serve(echoes, address=WEB)
            talk = sends(b"x" * count)
            (reply,) = await gate.ended(gate.call(asks(Ask(mode, WEB.host), talk)))
            assert isinstance(reply, Reply)
            assert (reply.tunnelled == b"x" * count) is passes
            assert passes or reply.tunnelled.endswith(b"<104>")  # a reset, and no clean end
            await gate.idle()

        gate = play(scenario, plan, exchange=Names())
        (end,) = gate.ends
        assert end.bytes_to_server + end.bytes_to_client <= bound
        assert reached(gate) == ([] if passes else ["rule few bytes_max"])
        assert passes or (end.outcome, end.reason) == ("failed", "limit rule few bytes_max")


def test_what_is_bounded_in_bytes_is_never_spliced_past_the_bound() -> None:
    async def scenario(gate: Gate) -> None:
        gate.serve(echoes)
        (got,) = await gate.ended(gate.call(sends(b"x" * 4_000_000)))
        assert got.endswith(b"<104>")
        await gate.idle()

    gate = play(scenario, published("bytes_max = 3000000"))
    (end,) = gate.ends
    assert 0 < end.bytes_to_server + end.bytes_to_client <= 3_000_000
    assert reached(gate) == ["rule few bytes_max"]


@every_mode
@pytest.mark.parametrize(
    ("limits", "limit", "at_s"),
    [
        ("duration_s = 3", "duration_s", 3),
        ("idle_timeout_s = 2.5", "idle_timeout_s", 2.5),
        ("idle_timeout_s = 30, duration_s = 20", "duration_s", 20),
    ],
)
@with_and_without_filters
def test_time_of_a_connection_ends_with_a_reset(
    mode: EntryMode, limits: str, limit: str, at_s: float, filters: str
) -> None:
    async def scenario(gate: Gate) -> None:
        gate.serve(echoes, address=WEB)
        began = gate.clock.monotonic()
        (reply,) = await gate.ended(gate.call(asks(Ask(mode, WEB.host), stays)))
        assert reply.tunnelled == b"reset"
        assert at_s - 0.1 <= gate.clock.monotonic() - began <= at_s + 2.5
        await gate.idle()

    gate = play(scenario, limited(limits, filters), exchange=Names())
    assert reached(gate) == [f"rule few {limit}"]
    assert [one.reason for one in gate.ends] == [f"limit rule few {limit}"]


@every_mode
@with_and_without_filters
def test_connections_beyond_the_limit_are_refused_until_one_ends(
    mode: EntryMode, filters: str
) -> None:
    async def scenario(gate: Gate) -> None:
        gate.serve(echoes, address=WEB)
        first = gate.call(asks(Ask(mode, WEB.host), stays))
        await gate.until(lambda: gate.service.connection_count == 1)
        (second,) = await gate.ended(gate.call(asks(Ask(mode, WEB.host))))
        assert second.code not in {0, -1}
        await gate.ended(first)
        await gate.idle()
        (third,) = await gate.ended(gate.call(asks(Ask(mode, WEB.host))))
        assert third.code == 0
        await gate.idle()
        assert not gate.service.revocation.places.rule_of

    plan = limited("connections_max = 1, duration_s = 5", filters)
    gate = play(scenario, plan, exchange=Names())
    denied = [(one.reason, one.rule) for one in gate.decisions if one.verdict == "denied"]
    assert denied == [("limit rule few connections_max", "few")]
    assert "rule few connections_max" in reached(gate)


def test_published_connections_are_bounded_too() -> None:
    async def scenario(gate: Gate) -> None:
        gate.serve(echoes)
        first = gate.call(stays)
        await gate.until(lambda: gate.service.connection_count == 1)
        await moment()
        assert await gate.ended(gate.call(sends(b"hello"))) == [b"<104>"]
        assert await gate.ended(first) == [b"reset"]
        await gate.idle()

    gate = play(scenario, published("connections_max = 1, duration_s = 5"))
    assert set(reached(gate)) == {"rule few connections_max", "rule few duration_s"}


@pytest.mark.parametrize(
    ("limits", "limit"),
    [
        ("bytes_max = 4", "bytes_max"),
        ("duration_s = 3", "duration_s"),
        ("idle_timeout_s = 3", "idle_timeout_s"),
    ],
)
def test_datagrams_of_a_rule_are_bounded(limits: str, limit: str) -> None:
    async def scenario(gate: Gate) -> None:
        server = Server(gate, ONE)
        client = Client(gate)
        assert await client.associate() == 0
        client.send(frame(ONE, b"abc"))
        await moment()
        assert len(server.got) == 1
        await gate.until(lambda: reached(gate) == [f"rule few {limit}"])
        client.leave()
        await gate.idle()

    gate = play(scenario, limited(limits), exchange=Names())
    assert f"limit rule few {limit}" in [one.reason for one in gate.ends]


@every_mode
def test_rule_without_limits_counts_nothing(mode: EntryMode) -> None:
    found = visit(Ask(mode, WEB.host))
    assert (found.reply.code, reached(found.gate)) == (0, [])
