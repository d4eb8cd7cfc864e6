"""Stream, data and callback filters behind the wire: the kit's batteries, verdicts and ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from examples.filters.protocol_detector import ProtocolDetector, ProtocolDetectorSettings
from examples.filters.secret_redactor import SecretRedactor, SecretRedactorSettings
from sluicegate.audit import FilterFailureRecord
from sluicegate.filterapi import (
    FORWARD,
    HOLD,
    LEAVE,
    Connection,
    Cut,
    DataFilter,
    DataSocket,
    Forward,
    Side,
    StreamFilter,
    StreamVerdict,
    Wait,
    Window,
)
from sluicegate.gate.rule_settings import maker_of
from sluicegate.gate.settings import PerConnection
from sluicegate.testing import Playbook, check_data_filter
from sluicegate.testing.inline_cell import InlineCell, isolated
from tests.unit.kit_filters import Relay, RelayByCallbacks, Shouting

HTTP = [
    ("client", b"GET / HTTP/1.1\r\nHost: example.test\r\n\r\n"),
    ("server", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
]

MAKERS: dict[str, tuple[Callable[[], Any], Any, bool]] = {
    "protocol_detector": (
        lambda: ProtocolDetector(ProtocolDetectorSettings(allow=("http",))), HTTP, True,
    ),
    "secret_redactor": (lambda: SecretRedactor(SecretRedactorSettings()), HTTP, True),
    "shouting": (Shouting, HTTP, False),
    "relay": (Relay, HTTP, True),
    "callbacks": (RelayByCallbacks, HTTP, True),
}  # fmt: skip


@pytest.mark.parametrize("name", MAKERS)
def test_isolated_filter_does_what_every_data_filter_must(name: str) -> None:
    make, conversation, is_transparent = MAKERS[name]
    check_data_filter(isolated(make), conversation, is_transparent=is_transparent, memory="16 MiB")


class Verdicts(StreamFilter):
    """Answers what the first bytes say."""

    name = "verdicts"

    def on_data(self, side: Side, window: Window) -> StreamVerdict:
        data = bytes(window)
        if data.startswith(b"cut"):
            return Cut("as it says", to_client=b"sorry\n")
        if data.startswith(b"raise"):
            raise ValueError("as it says")
        if data.startswith(b"wait"):
            return Wait(1.0, 4)
        if data.startswith(b"half"):
            return Forward(4)
        if data.startswith(b"leave"):
            return LEAVE
        return HOLD if data.startswith(b"hold") and b"!" not in data else FORWARD


class LeavesAfterGreeting(DataFilter):
    """Reads the client's first chunk, passes it on and leaves."""

    name = "greeter"

    async def run(
        self, client: DataSocket, server: DataSocket | None, connection: Connection
    ) -> None:
        assert server is not None
        await server.send(b"seen: " + bytes(await client.receive()))


class HandsOver(DataFilter):
    """Leaves the rest to another filter in its place."""

    name = "first"

    async def run(
        self, client: DataSocket, server: DataSocket | None, connection: Connection
    ) -> None:
        assert server is not None
        await server.send(bytes(await client.receive()))
        connection.hand_over(self, LeavesAfterGreeting())


class Emulated(DataFilter):
    """Counts what it is sent."""

    name = "emulated"

    async def run(
        self, client: DataSocket, server: DataSocket | None, connection: Connection
    ) -> None:
        total = 0
        while window := await client.receive():
            total += len(window)
            await client.send(b"%d\n" % total)


def in_cell(make: Callable[..., Any], **limits: Any) -> tuple[InlineCell, Callable[[], Any]]:
    """A cell, and what makes its stand-ins."""
    cell = InlineCell(make, **limits)
    stand_in = cell.stand_in
    assert isinstance(stand_in, PerConnection)
    assert stand_in.rule_settings is not None
    return cell, lambda: stand_in.make(stand_in.rule_settings())  # type: ignore[misc]


@pytest.mark.parametrize("where", [lambda make: make, isolated], ids=["in the gate", "in a cell"])
def test_every_verdict_of_a_stream_filter_is_kept(where: Callable[[Any], Any]) -> None:
    with Playbook(where(Verdicts)) as play:
        play.client.sends(b"plain")
        play.server.receives(b"plain")
        play.client.sends(b"hold")
        play.client.sends(b" on")
        assert play.server.reads() == b""
        play.client.sends(b"!")
        play.server.receives(b"hold on!")
        play.client.sends(b"half of it")
        play.server.receives(b"half")
        play.client.sends(b".")
        play.server.receives(b" of it.")
        play.client.sends(b"wait for me")
        play.server.receives(b"wait")
        assert play.server.reads() == b""
        play.wait(1.1)
        play.server.receives(b" for me")
        play.server.sends(b"cut")
        play.client.receives(b"sorry\n")
        play.client.receives_end()
        play.client.ends()
        play.expect_refused("as it says")


@pytest.mark.parametrize("where", [lambda make: make, isolated], ids=["in the gate", "in a cell"])
def test_filter_that_leaves_sees_nothing_more_and_nothing_is_lost(
    where: Callable[[Any], Any],
) -> None:
    with Playbook(where(Verdicts)) as play:
        play.client.sends(b"leave")
        play.server.receives(b"leave")
        for data in (b"cut", b"raise", b"hold"):
            play.client.sends(data)
            play.server.receives(data)
            play.server.sends(data)
            play.client.receives(data)
        play.client.ends()
        play.server.receives_end()
        play.server.ends()
        assert play.server.received_count == len(b"leavecutraisehold")


@pytest.mark.parametrize("where", [lambda make: make, isolated], ids=["in the gate", "in a cell"])
@pytest.mark.parametrize("make", [LeavesAfterGreeting, HandsOver])
def test_data_filter_returns_and_the_rest_passes_without_it(
    make: Callable[[], Any], where: Callable[[Any], Any]
) -> None:
    with Playbook(where(make)) as play:
        if make is HandsOver:
            play.client.sends(b"first")
            play.server.receives(b"first")
        play.client.sends(b"hello")
        play.server.receives(b"seen: hello")
        play.client.sends(b"more")
        play.server.receives(b"more")
        play.server.sends(b"x" * 100_000)
        play.client.receives(b"x" * 100_000)
        play.server.ends()
        play.client.receives_end()
        play.client.ends()
        assert play.client.received_count == 100_000


def test_filter_that_raises_in_its_cell_ends_its_connection_by_its_name() -> None:
    with Playbook(isolated(Verdicts)) as play:
        play.client.sends(b"raise")
        play.client.receives_reset()
        (failure,) = play.records_of(FilterFailureRecord)
        assert failure.filter == "verdicts"
        assert "ValueError: as it says" in failure.cause
        play.filter_errors.clear()


def test_killed_cell_ends_the_connections_it_had_and_the_next_one_is_served() -> None:
    cell, make = in_cell(Verdicts)
    with Playbook(make) as play:
        play.client.sends(b"hold")
        play.settle()
        cell.launched[0].kill()
        play.client.receives_reset()
        play.server.receives_reset()
        (failure,) = play.records_of(FilterFailureRecord)
        assert "was killed by SIGKILL" in failure.cause
        play.filter_errors.clear()
        after = play.connect()
        after.client.sends(b"plain")
        play.wait(0.5)
        assert after.server.reads() == b"plain"
        after.client.ends()
        after.server.ends()
    assert len(cell.launched) == 2


def test_cell_that_stays_away_refuses_connections_without_a_wait() -> None:
    cell, make = in_cell(Verdicts)
    with Playbook(make) as play:
        play.client.sends(b"plain")
        play.server.receives(b"plain")
        for _ in range(6):
            cell.launched[-1].kill()
            play.wait(4)
        cell.launched[-1].kill()
        play.wait(0.1)
        after = play.connect()
        play.settle()
        assert after.outcome == "failed"
        assert "filter failure" in after.reason
        play.filter_errors.clear()


def test_chunks_beyond_one_message_arrive_whole() -> None:
    seen: list[int] = []

    class Sizes(StreamFilter):
        name = "sizes"

        def on_data(self, side: Side, window: Window) -> StreamVerdict:
            seen.append(len(window))
            return FORWARD

    with Playbook(isolated(Sizes)) as play:
        play.client.sends(b"x" * 1_000_000)
        received = b""
        while more := play.server.reads():
            received += more
        assert received == b"x" * 1_000_000
        play.client.ends()
        play.server.ends()
    assert sum(seen) == 1_000_000


class PerRule(StreamFilter):
    """Says what its rule says to it."""

    name = "per_rule"

    class RuleSettings(BaseModel):
        greeting: str = "none"

    def __init__(self, settings: Any = None) -> None:
        self.settings = settings or self.RuleSettings()

    def on_data(self, side: Side, window: Window) -> StreamVerdict:
        return Cut(self.settings.greeting)


def test_rule_settings_reach_the_cell() -> None:
    cell = InlineCell(PerRule)
    stand_in = cell.stand_in
    assert isinstance(stand_in, PerConnection)
    with Playbook(maker_of(stand_in, {"greeting": "good morning"})) as play:
        play.client.sends(b"x")
        play.expect_refused("good morning")
