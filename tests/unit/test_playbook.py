"""Playbooks: they do what the test says, expect what it says, and leave nothing unsaid."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest

from sluicegate.audit import ConnectionRecord, NoteRecord
from sluicegate.filterapi import (
    Connection,
    ContentFilter,
    ContentVerdict,
    DataFilter,
    DataSocket,
    Direction,
    Filter,
    Pass,
    Refuse,
    Release,
    Replace,
    SessionFilter,
    Transfer,
)
from sluicegate.testing import (
    BulkBytes,
    CeilingExceeded,
    FaultPlan,
    Playbook,
    PlaybookError,
    inspect_object,
    memory_ceiling,
    offer_of,
)
from sluicegate.testing.sizes import parse_size
from tests.unit.kit_filters import (
    EndsNever,
    Greeting,
    Hoarding,
    Keeping,
    NoScripts,
    OneServerPerClient,
    OnlySsh,
    Raising,
    Relay,
    RelayByCallbacks,
    Shouting,
)


@pytest.mark.parametrize("kind", [Relay, RelayByCallbacks, Shouting, Greeting])
def test_exchange_goes_through_a_filter_of_any_tier(kind: Any) -> None:
    with Playbook(kind) as play:
        play.server.sends(b"220 HI\r\n")
        play.client.receives(b"220 HI\r\n")
        play.client.sends(b"QUIT\r\n")
        play.server.receives(b"QUIT\r\n")
        play.client.ends()
        play.server.receives_end()
        play.server.ends()
        play.client.receives_end()
        play.expect_released()


def test_filters_stand_in_the_order_given() -> None:
    with Playbook(Shouting, OnlySsh) as play:
        play.client.sends(b"ssh-2.0\r\n")
        play.server.receives(b"SSH-2.0\r\n")
        assert play.server.received_count == 9


def test_what_is_held_reaches_nobody() -> None:
    with Playbook(OnlySsh) as play:
        play.client.sends(b"SS")
        play.server.receives_nothing()
        assert play.server.received_count == 0
        play.client.sends(b"H-")
        play.server.receives(b"SSH-")


def test_instance_serves_one_connection() -> None:
    instance = OnlySsh()
    with Playbook(instance) as play:
        play.client.sends(b"SSH-")
        play.connect().expect_failed()


def test_what_is_no_filter_is_refused_with_its_cure() -> None:
    with pytest.raises(TypeError, match="makes 'text', which is no filter"):
        Playbook(lambda: "text")  # type: ignore[arg-type,return-value]


# -- expectations that fail -----------------------------------------------------------------------


def failing(step: Any) -> str:
    with Playbook(OnlySsh) as play:
        play.client.sends(b"SSH-2.0-me\r\nmore\r\n")
        with pytest.raises(PlaybookError) as failure:
            step(play)
        return str(failure.value)


def test_other_bytes_are_shown_side_by_side() -> None:
    message = failing(lambda play: play.server.receives(b"SSH-2.0-me\r\nless\r\n"))
    assert message == (
        "the server was to receive something else\n"
        "they part at byte 12 (18 expected, 18 came):\n"
        '  "SSH-2.0-me\\r\\n"\n'
        '- "less\\r\\n"\n'
        '+ "more\\r\\n"\n'
        "so far:\n"
        '  client sends "SSH-2.0-me\\r\\n"\n'
        '               "more\\r\\n"\n'
        '  server receives "SSH-2.0-me\\r\\n"\n'
        '                  "more\\r\\n"'
    )


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (lambda play: play.client.receives(b"x"), "nothing came to the client"),
        (lambda play: play.server.receives(re.compile(rb"HTTP.*")), "was to receive what matches"),
        (lambda play: play.server.receives_nothing(), "nothing was to reach the server yet"),
        (lambda play: play.server.receives_end(), "was to receive the end of the stream; before"),
        (lambda play: play.client.receives_end(), "the end of the stream; it is open"),
        (lambda play: play.client.receives_reset(), "was to receive a reset; it is open"),
        (lambda play: play.expect_refused(), "- refused\n+ open"),
        (lambda play: play.expect_released(), "- released\n+ open"),
        (lambda play: play.expect_verdict(Release()), "it was not asked"),
        (lambda play: play.expect_filter_failure(), "a filter was to fail, and none did"),
        (lambda play: play.server.receives(BulkBytes(18)), "behind 0 equal bytes they part"),
    ],
)
def test_expectation_that_fails_says_what_came_instead(step: Any, message: str) -> None:
    assert message in failing(step)


def test_peer_that_cannot_act_says_why() -> None:
    with Playbook(OneServerPerClient(), rule_settings={"only": "10.0.0.9"}) as play:
        with pytest.raises(PlaybookError, match="the gate has not connected to it"):
            play.server.sends(b"x")
        with pytest.raises(PlaybookError, match="the connection was broken off"):
            play.client.sends(b"x")
        play.expect_refused(re.compile("another server.*"))
        with pytest.raises(PlaybookError, match=r"- refused: other\n\+ refused: another server"):
            play.expect_refused("other")


def test_peer_sends_nothing_behind_its_end() -> None:
    with Playbook(OnlySsh) as play:
        play.client.ends()
        with pytest.raises(PlaybookError, match="it has ended its stream"):
            play.client.sends(b"x")


# -- what a playbook leaves ------------------------------------------------------------------------


def play_once(kind: Any, step: Callable[[Playbook], object], **options: Any) -> None:
    with Playbook(kind, **options) as play:
        step(play)


def test_filter_that_raises_fails_the_test_with_its_own_traceback() -> None:
    with pytest.raises(PlaybookError, match="no expect_failed said so: ValueError: boom") as failed:
        play_once(Raising, lambda play: play.client.sends(b"x"))
    assert isinstance(failed.value.__cause__, ValueError)


def test_filter_that_raises_as_expected_fails_nothing() -> None:
    with Playbook(Raising) as play:
        play.client.sends(b"x")
        play.server.receives_reset()
        play.expect_failed("filter failure: raising")


def test_cause_of_an_unmet_expectation_is_what_the_filter_raised() -> None:
    def step(play: Playbook) -> None:
        play.client.sends(b"x")
        play.server.receives(b"x")

    with pytest.raises(PlaybookError, match="something else") as failed:
        play_once(Raising, step)
    assert isinstance(failed.value.__cause__, ValueError)


def test_slice_that_was_kept_is_found() -> None:
    with pytest.raises(PlaybookError, match=r"copy what you keep with bytes\(window\)"):
        play_once(Keeping, lambda play: play.client.sends(b"x" * 100))


def test_playbook_that_failed_tells_the_first_failure_only() -> None:
    def step(play: Playbook) -> None:
        play.client.sends(b"x")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        play_once(Raising, step)


def test_coroutine_that_never_ends_does_not_hold_the_test_up() -> None:
    with Playbook(EndsNever) as play:
        play.client.sends(b"x")
        play.server.receives(b"x")
        play.client.ends()
        play.server.receives_nothing()
        play.expect_open()


class Patient(DataFilter):
    name = "patient"

    async def run(
        self, client: DataSocket, server: DataSocket | None, connection: Connection
    ) -> None:
        assert server is not None
        data = bytes(await client.receive())
        await asyncio.sleep(3600)
        await server.send(data)


class Stuck(ContentFilter):
    name = "stuck"

    async def inspect(self, transfer: Transfer) -> ContentVerdict:
        await transfer.run_blocking(len, transfer.head)
        await asyncio.get_running_loop().create_future()
        return Release()


@pytest.mark.parametrize("kind", [Stuck, EndsNever, Patient, RelayByCallbacks])
def test_playbook_that_fails_in_the_middle_of_something_leaves_no_warning(kind: Any) -> None:
    def step(play: Playbook) -> None:
        play.server.sends(b"x" * 400_000)
        play.client.sends(b"x")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        play_once(kind, step)


class Unstartable(OneServerPerClient):
    name = "unstartable"

    def start(self, firewall: Any) -> Any:
        raise OSError("no such file")


def test_filter_that_cannot_start_refuses_everything_and_fails_the_test() -> None:
    def step(play: Playbook) -> None:
        play.expect_refused("filter unstartable failed: OSError: no such file")

    with pytest.raises(PlaybookError, match="no such file") as failed:
        play_once(Unstartable, step)
    assert isinstance(failed.value.__cause__, OSError)

    def expecting(play: Playbook) -> None:
        step(play)
        play.expect_filter_failure()

    play_once(Unstartable, expecting)


def test_playbook_in_a_coroutine_says_what_is_right() -> None:
    async def main() -> None:
        Playbook(OnlySsh)

    with pytest.raises(TypeError, match="use it in a plain function, not async"):
        asyncio.run(main())


@pytest.mark.parametrize("seed", range(40))
def test_hostile_network_leaves_nothing_behind(seed: int) -> None:
    with Playbook(Relay, faults=FaultPlan.hostile(), seed=seed) as play:
        if play.client.can_act:
            play.client.sends(b"x" * 100_000)
        if play.server.can_act:
            play.server.sends(b"y" * 100_000)
        play.client.reads()
        play.server.reads()
    # What it finds left behind, it raises: nothing more is to be asked of it.
    assert not play.filter_errors


# -- time ------------------------------------------------------------------------------------------


def test_an_hour_takes_no_time() -> None:
    with Playbook(Patient, limits={"idle_timeout_s": 9999.0}) as play:
        play.client.sends(b"late")
        play.wait(3590)
        play.server.receives_nothing()
        assert play.server.received_count == 0
        play.wait(20)
        play.server.receives(b"late")


def test_deadline_of_the_gate_falls_due() -> None:
    with Playbook(Relay, limits={"idle_timeout_s": 5.0}) as play:
        play.client.sends(b"x")
        play.server.receives(b"x")
        play.wait(30)
        play.expect_failed(re.compile("idle.*"))


# -- events ----------------------------------------------------------------------------------------


class Noting(Filter):
    name = "noting"

    def start(self, firewall: Any) -> Any:
        from sluicegate.filterapi import ConnectRequested, Events

        self.firewall = firewall
        return Events.of(ConnectRequested)

    def attach(self, session: Any) -> Any:
        outer = self

        class Each(SessionFilter):
            def on_event(self, event: Any) -> Any:
                outer.firewall.note("noting", "seen", {"port": event.target.port})
                return Pass()

        return Each(session)


def test_records_that_a_filter_makes_are_there() -> None:
    with Playbook(Noting()) as play:
        play.connect(server="10.9.9.9:81")
        assert [note.facts for note in play.records_of(NoteRecord)] == [{"port": 81}]


def test_session_knows_its_client_by_address() -> None:
    with Playbook(OneServerPerClient) as play:
        first = play.connect(server="10.9.9.1:80")
        second = play.connect(server="10.9.9.2:80")
        first.client.sends(b"a")
        first.server.receives(b"a")
        second.expect_refused()
        assert not second.server.is_connected
        first.client.ends()
        first.server.ends()
        first.expect_released()
    assert len(play.records_of(ConnectionRecord)) == 2


# -- objects ---------------------------------------------------------------------------------------


def test_byte_that_was_delivered_before_the_verdict_is_told() -> None:
    def step(play: Playbook) -> None:
        play.sightings.delivered = lambda transfer: 3  # no gate of ours does that
        play.server.sends(b"object")
        play.server.ends()

    with pytest.raises(PlaybookError, match="3 bytes reached the receiver before the verdict of"):
        play_once(NoScripts, step)


class Late(ContentFilter):
    name = "late"

    async def inspect(self, transfer: Transfer) -> ContentVerdict:
        await asyncio.sleep(10)
        return Replace(b"instead of " + transfer.head)


def test_nothing_reaches_the_client_before_the_verdict() -> None:
    with Playbook(Late()) as play:
        play.server.sends(b"object")
        play.server.ends()
        play.client.receives_nothing()
        assert play.verdict is None
        play.wait(10)
        play.expect_verdict(Replace(b"instead of object"))
        play.client.receives(b"instead of object")


@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize("memory", [0, 1 << 20])
def test_object_is_judged_both_ways_in_memory_and_in_a_file(
    direction: Direction, memory: int
) -> None:
    limits = {"spool_memory_bytes_max": memory}
    offer = offer_of("script", direction)
    refused = inspect_object(NoScripts, b"#! " + b"x" * 9000, offer, limits=limits)
    assert (refused.verdict, refused.outcome) == (Refuse("a script"), "refused")
    assert (refused.received, refused.reason) == (b"", "a script")
    released = inspect_object(NoScripts, b"text " * 9000, offer, limits=limits)
    assert (released.verdict, released.outcome) == (Release(), "released")
    assert released.received == b"text " * 9000
    assert released.record is not None
    assert released.record.direction == direction


class Broken(ContentFilter):
    name = "broken"

    async def inspect(self, transfer: Transfer) -> ContentVerdict:
        raise KeyError("boom")


def test_object_whose_filter_raises_is_refused_and_the_error_is_told() -> None:
    seen = inspect_object(Broken, b"object")
    assert (seen.verdict, seen.outcome, seen.received) == (None, "refused", b"")
    assert isinstance(seen.error, KeyError)
    with Playbook(Broken) as play:
        play.server.sends(b"object")
        play.server.ends()
        play.expect_filter_failure()
        play.expect_refused("filter failure: broken: KeyError: 'boom'")


def test_large_object_is_not_kept_by_the_kit() -> None:
    with memory_ceiling("8 MiB"):
        seen = inspect_object(NoScripts, BulkBytes.of("24 MiB"))
    assert seen.received_count == 24 << 20


# -- memory and faults -----------------------------------------------------------------------------


def test_ceiling_holds_for_a_filter_that_passes_bulk() -> None:
    with Playbook(Relay, memory="4 MiB") as play:
        bulk = BulkBytes.of("16 MiB")
        play.client.sends(bulk)
        assert play.client.unsent > 10 << 20, "the server does not read, so the client must wait"
        play.server.receives(bulk)


def test_ceiling_finds_a_filter_that_hoards() -> None:
    with pytest.raises(CeilingExceeded, match=r"allocated at the peak, the ceiling is 4\.00 MiB"):
        play_once(Hoarding, lambda play: play.client.sends(BulkBytes.of("16 MiB")), memory="4 MiB")


@pytest.mark.parametrize(
    ("outer", "sizes", "inner", "broken"),
    [
        ("2 MiB", (3 << 20, 1 << 19), "1 MiB", "2.00 MiB"),
        ("8 MiB", (1 << 19, 3 << 20), "1 MiB", "1.00 MiB"),
        ("2 MiB", (1 << 19, 3 << 20), "4 MiB", "2.00 MiB"),
    ],
)
def test_ceilings_may_stand_in_each_other(
    outer: str, sizes: tuple[int, int], inner: str, broken: str
) -> None:
    def allocate(size: int) -> None:
        assert len(bytearray(size)) == size

    def blocks() -> None:
        with memory_ceiling(outer):
            allocate(sizes[0])
            with memory_ceiling(inner):
                allocate(sizes[1])

    with pytest.raises(CeilingExceeded, match=f"the ceiling is {broken}"):
        blocks()


@pytest.mark.parametrize(
    ("text", "size"), [("8 MiB", 8 << 20), ("1.5KiB", 1536), ("7", 7), ("2 B", 2), (12, 12)]
)
def test_sizes_are_read_as_people_write_them(text: str | int, size: int) -> None:
    assert parse_size(text) == size


def test_size_without_a_known_unit_is_refused() -> None:
    with pytest.raises(ValueError, match="8 MB' is no size: write a number and B, KiB"):
        parse_size("8 MB")


@pytest.mark.parametrize("seed", range(5))
def test_slow_and_small_network_changes_nothing(seed: int) -> None:
    with Playbook(Relay, faults=FaultPlan.disorder(), seed=seed) as play:
        bulk = BulkBytes.of("300 KiB")
        play.client.sends(bulk)
        play.server.receives(bulk)
        play.client.ends()
        play.server.receives_end()
        assert play.server.received_count == 300 << 10


def test_conversation_holds_what_happened() -> None:
    with Playbook(OnlySsh) as play:
        play.client.sends(b"SSH-1\r\n")
        play.server.sends(b'"\\\xff')
        play.wait(1.5)
        play.client.ends()
        lines = play.conversation.lines()
    assert lines == [
        'client sends "SSH-1\\r\\n"',
        'server receives "SSH-1\\r\\n"',
        'server sends "\\"\\\\\\xff"',
        'client receives "\\"\\\\\\xff"',
        "wait 1.5",
        "client ends",
        "server receives end",
        "outcome open",
    ]


def test_bulk_is_in_no_conversation() -> None:
    with Playbook(OnlySsh) as play:
        play.server.sends(BulkBytes(10))
        with pytest.raises(PlaybookError, match="bulk was sent"):
            _ = play.conversation
        play.client.receives(BulkBytes(10))
