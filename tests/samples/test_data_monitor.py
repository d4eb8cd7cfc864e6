"""The data monitor: patterns over chunk borders, alerts as records, and their limit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.filters.data_monitor import AlertBudget, DataMonitor, DataMonitorSettings, Finder
from tests.flows.gate_kit import Gate, play, sends
from tests.samples.sample_kit import SEEDS, cut_up, exchange, notes, plan_with

PATTERNS = {"one": b"ab", "long": b"abcabd", "inside": b"bca", "never": b"zz"}


def found_in(pieces: list[bytes]) -> list[tuple[str, int]]:
    finder = Finder(PATTERNS)
    return [hit for piece in pieces for hit in finder.feed(piece)]


def test_each_pattern_is_found_where_it_comes_first():
    assert found_in([b"xxabcabdab"]) == [("one", 2), ("inside", 3), ("long", 2)]


@given(st.data(), st.lists(st.sampled_from([b"a", b"b", b"c", b"d", b"abcab"])).map(b"".join))
def test_every_cut_finds_the_same(data, stream):
    assert found_in(data.draw(cut_up(stream))) == found_in([stream])
    assert dict(found_in([stream])) == {
        name: stream.find(one) for name, one in PATTERNS.items() if one in stream
    }


def test_alerts_above_the_limit_are_counted_and_time_brings_new_ones():
    now = 0.0
    budget = AlertBudget(60, lambda: now)
    assert [budget.take() for _ in range(62)] == [True] * 60 + [False] * 2
    assert budget.suppressed == 2
    now = 1.0
    assert [budget.take(), budget.take()] == [True, False]
    now = 1000.0
    assert sum(budget.take() for _ in range(100)) == 60


def monitor(**more) -> DataMonitor:
    patterns = {"passwd file": "root:x:0:0", "marker": "TOP SECRET"}
    return DataMonitor(DataMonitorSettings.model_validate({"patterns": patterns, **more}))


@pytest.mark.parametrize("seed", SEEDS)
def test_alert_is_raised_once_per_direction_and_nothing_is_stopped(seed):
    request, answer = b"GET /etc/passwd\r\n", b"x" * 3000 + b"root:x:0:0\n" * 300
    done = exchange(monitor(), request, answer, seed=seed)
    assert (done.at_server, done.at_client) == (request, answer)
    facts = {"client": "10.1.1.1", "sent_by": "server", "offset": 3000, "suppressed_before": 0}
    assert notes(done.gate) == [("found passwd file", facts)]


def test_case_is_ignored_if_the_operator_says_so():
    assert notes(exchange(monitor(), b"top secret").gate) == []
    ((message, facts),) = notes(exchange(monitor(ignore_case=True), b"is Top Secret").gate)
    assert (message, facts["offset"], facts["sent_by"]) == ("found marker", 3, "client")


def test_suppressed_alerts_are_told_with_the_next_one_and_at_the_end():
    async def scenario(gate: Gate) -> None:
        gate.serve(sends(b""))
        for number in range(5):
            await gate.ended(gate.call(sends(b"TOP SECRET"), name=f"client {number}"))
        await gate.idle()
        before = gate.clock.monotonic()
        await gate.until(lambda: gate.clock.monotonic() > before + 30)
        for number in range(2):
            await gate.ended(gate.call(sends(b"TOP SECRET"), name=f"late client {number}"))
        await gate.idle()

    gate = play(scenario, plan_with(monitor(alerts_per_minute=2)))
    told = [(message, facts["suppressed_before"]) for message, facts in notes(gate)]
    assert told == [
        ("found marker", 0),
        ("found marker", 0),
        ("found marker", 3),
        ("alerts suppressed", 1),
    ]


def test_empty_pattern_is_refused():
    with pytest.raises(ValueError, match="at least 1 character"):
        monitor(patterns={"all": ""})
