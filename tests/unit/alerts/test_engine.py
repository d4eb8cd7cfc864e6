"""The engine of alerts: thresholds, values apart, raising again, what a restart keeps."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate import alert_limits
from sluicegate.audit.alerts import AlertEngine, AlertRule, AlertState, Condition, Step
from sluicegate.audit.alerts.kinds import kinds_chosen
from sluicegate.audit.alerts.predefined import PREDEFINED
from sluicegate.audit.search import parse_query
from sluicegate.audit.search.matching import predicate_of


def refused(time: float, client: str = "10.0.0.1", **more: object) -> dict[str, object]:
    return {"kind": "transfer", "time": time, "verdict": "refused", "client": f"{client}:9", **more}


def engine_of(*rules: AlertRule) -> AlertEngine:
    return AlertEngine(rules, AlertState())


def told(steps: list[Step]) -> list[tuple[str, str, int]]:
    return [(step.record.event, step.record.about, step.record.times) for step in steps]


REFUSALS = AlertRule(name="refusals", query="kind:transfer verdict:refused")


def test_an_alert_is_raised_by_a_record_that_its_query_chooses() -> None:
    engine = engine_of(REFUSALS)
    assert engine.take({"kind": "transfer", "time": 1.0, "verdict": "released"}) == []
    (step,) = engine.take(refused(2.0, reason="malware: EICAR"))
    assert step.record.event == "raised"
    assert step.record.facts["reason"] == "malware: EICAR"
    assert step.actions == ("log",)
    assert engine.open_count == 1


def test_an_alert_waits_for_its_count_within_its_seconds() -> None:
    engine = engine_of(msgspec.structs.replace(REFUSALS, count=3, seconds=60))
    assert engine.take(refused(0.0)) == []
    assert engine.take(refused(1.0)) == []
    assert engine.take(refused(100.0)) == []  # the first two are long ago
    assert engine.take(refused(101.0)) == []
    (step,) = engine.take(refused(102.0))
    assert step.record.count == 3
    assert step.raising.first == pytest.approx(100.0, abs=1.0)


def test_without_seconds_records_count_for_ever() -> None:
    engine = engine_of(msgspec.structs.replace(REFUSALS, count=3))
    assert engine.take(refused(0.0)) == []
    assert engine.take(refused(1e6)) == []
    assert told(engine.take(refused(2e6))) == [("raised", "", 1)]


def test_values_of_the_field_are_counted_apart_without_their_ports() -> None:
    engine = engine_of(msgspec.structs.replace(REFUSALS, count=2, seconds=60, by="client"))
    assert engine.take(refused(0.0, "10.0.0.1")) == []
    assert engine.take(refused(1.0, "10.0.0.2")) == []
    assert told(engine.take(refused(2.0, "10.0.0.1"))) == [("raised", "10.0.0.1", 1)]
    assert told(engine.take(refused(3.0, "10.0.0.2"))) == [("raised", "10.0.0.2", 1)]


AGAIN = [
    # rule, minutes, times of records, events
    ("after-acknowledged", 0, [0, 10, 20], ["raised"]),
    ("immediately", 0, [0, 10, 20], ["raised", "raised-again", "raised-again"]),
    ("immediately", 0, [0, 0.5, 0.9, 1.1], ["raised", "raised-again"]),
    ("after-minutes", 1, [0, 10, 59, 60, 70, 121], ["raised", "raised-again", "raised-again"]),
    # Records of two processes out of their order, and a clock that is put back.
    ("after-minutes", 1, [0, -1, 1], ["raised"]),
    ("after-minutes", 1, [0, -3600, -3599], ["raised", "raised-again"]),
]


@pytest.mark.parametrize(("again", "minutes", "times", "events"), AGAIN)
def test_an_open_alert_is_raised_again_as_its_rule_says(
    again: str, minutes: float, times: list[float], events: list[str]
) -> None:
    rule = msgspec.convert(
        {"name": "a", "query": "kind:transfer", "again": again, "minutes": minutes}, AlertRule
    )
    engine = engine_of(rule)
    steps = [step for time in times for step in engine.take(refused(1e6 + time))]
    assert [step.record.event for step in steps] == events
    assert len({step.raising.raising for step in steps}) == 1
    assert steps[-1].raising.count == len(times)


def test_an_acknowledged_alert_is_raised_anew_under_another_identifier() -> None:
    engine = engine_of(REFUSALS)
    (first,) = engine.take(refused(1.0))
    (seen,) = engine.acknowledge([first.raising.raising], "ann", 2.0)
    assert (seen.record.event, seen.record.by) == ("acknowledged", "ann")
    assert seen.actions == ()
    assert engine.acknowledge([first.raising.raising], "ann", 2.0) == []
    (second,) = engine.take(refused(3.0))
    assert second.record.event == "raised"
    assert second.raising.raising != first.raising.raising


def test_an_alert_is_acknowledged_by_its_name_for_all_values() -> None:
    engine = engine_of(msgspec.structs.replace(REFUSALS, by="client"))
    engine.take(refused(1.0, "10.0.0.1"))
    engine.take(refused(1.0, "10.0.0.2"))
    assert len(engine.acknowledge(["refusals"], "ann", 2.0)) == 2
    assert engine.open_count == 0


def test_records_of_alerts_raise_none() -> None:
    engine = engine_of(AlertRule(name="loop", query="kind:alert or kind:transfer"))
    assert engine.take({"kind": "alert", "time": 1.0, "alert": "loop", "event": "raised"}) == []
    assert "alert" not in engine.signs


def test_a_condition_is_raised_once_and_over_when_it_is() -> None:
    engine = engine_of(AlertRule(name="down", condition="scanner-down"))
    down = Condition(name="scanner-down", about="clam", message="no process works")
    assert told(engine.look([down], 10.0)) == [("raised", "clam", 1)]
    assert engine.look([down], 20.0) == []
    assert told(engine.look([], 30.0)) == [("over", "clam", 1)]
    assert engine.open_count == 0
    assert told(engine.look([down], 40.0)) == [("raised", "clam", 1)]


def test_a_condition_that_goes_on_reminds_after_minutes() -> None:
    rule = AlertRule(name="full", condition="spool-nearly-full", again="after-minutes", minutes=1)
    engine = engine_of(rule)
    full = Condition(name="spool-nearly-full")
    seen = [step for at in range(0, 130, 10) for step in engine.look([full], 1000.0 + at)]
    assert [step.record.event for step in seen] == ["raised", "raised-again", "raised-again"]


def test_an_acknowledged_condition_that_goes_on_is_not_raised_again() -> None:
    engine = engine_of(AlertRule(name="down", condition="scanner-down"))
    down = Condition(name="scanner-down")
    engine.look([down], 10.0)
    engine.acknowledge(["down"], "ann", 15.0)
    assert engine.look([down], 20.0) == []


# -- bounds ------------------------------------------------------------------------------------


def test_values_are_forgotten_at_the_bound_and_an_alert_says_so() -> None:
    overflow = PREDEFINED["alert-overflow"]
    rule = msgspec.structs.replace(REFUSALS, count=2, seconds=3600, by="name")
    engine = engine_of(rule, overflow)
    steps: list[Step] = []
    for number in range(alert_limits.ALERT_KEYS_MAX + 5):
        steps += engine.take(refused(1000.0, name=f"h{number}.example"))
    assert len(engine.state.counters["refusals"].values) == alert_limits.ALERT_KEYS_MAX
    assert engine.state.counters["refusals"].forgotten == 5
    assert told(steps) == [("raised", "refusals", 1)]
    assert "more values" in steps[0].record.message


def test_an_alert_is_raised_so_often_a_minute_and_no_more() -> None:
    overflow = PREDEFINED["alert-overflow"]
    engine = engine_of(msgspec.structs.replace(REFUSALS, by="name"), overflow)
    steps: list[Step] = []
    for number in range(alert_limits.ALERT_RAISED_MAX + 20):
        steps += engine.take(refused(600.0, name=f"h{number}.example"))
    names = [step.record.alert for step in steps]
    assert names.count("refusals") == alert_limits.ALERT_RAISED_MAX
    assert names.count("alert-overflow") == 1


def test_more_open_alerts_than_anybody_reads_cost_the_oldest() -> None:
    engine = engine_of(msgspec.structs.replace(REFUSALS, by="name"))
    for number in range(alert_limits.ALERT_OPEN_MAX + 3):
        engine.take(refused(60.0 * number, name=f"h{number}.example"))
    assert engine.open_count == alert_limits.ALERT_OPEN_MAX
    assert len(engine.state.raisings) == alert_limits.ALERT_OPEN_MAX + 3
    closed = [one for one in engine.raisings() if one.state == "acknowledged"]
    assert {one.about for one in closed} == {"h0.example", "h1.example", "h2.example"}
    assert "too many" in closed[0].by


def test_closed_alerts_are_listed_up_to_a_bound() -> None:
    engine = engine_of(REFUSALS)
    for number in range(alert_limits.ALERT_ACKNOWLEDGED_MAX + 10):
        engine.take(refused(60.0 * number))
        engine.acknowledge(["refusals"], "ann", 60.0 * number + 1)
    assert len(engine.state.raisings) == alert_limits.ALERT_ACKNOWLEDGED_MAX


# -- properties --------------------------------------------------------------------------------


@given(
    gaps=st.lists(st.floats(0, 40), min_size=1, max_size=60),
    count=st.integers(1, 6),
    seconds=st.sampled_from([10.0, 60.0]),
)
def test_a_threshold_is_never_missed_and_never_early(
    gaps: list[float], count: int, seconds: float
) -> None:
    """Counting anew after each raise; a part of the time is what it may be wrong by."""
    rule = AlertRule(name="a", query="kind:transfer", count=count, seconds=seconds)
    engine = engine_of(rule)
    part_s = seconds / alert_limits.ALERT_SLOTS
    time, since = 1e6, []
    for gap in gaps:
        time += gap
        since.append(time)
        steps = engine.take(refused(time))
        certain = sum(time - one <= seconds for one in since) >= count
        possible = sum(time - one <= seconds + part_s for one in since) >= count
        assert bool(steps) <= possible
        assert bool(steps) >= certain
        if steps:
            since.clear()
            engine.acknowledge(["a"], "ann", time)


RECORDS = st.lists(
    st.tuples(st.floats(0, 5), st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3"])), max_size=40
)


@given(records=RECORDS, cut=st.integers(0, 40))
def test_a_restart_in_the_middle_raises_the_same(
    records: list[tuple[float, str]], cut: int
) -> None:
    rules = [
        msgspec.structs.replace(REFUSALS, count=2, seconds=10, by="client", again="immediately"),
        AlertRule(name="all", query="kind:transfer", count=5, seconds=7),
    ]
    lines, time = [], 1e6
    for gap, client in records:
        time += gap
        lines.append(refused(time, client))
    whole = AlertEngine(rules, AlertState())
    wanted = [step.record for line in lines for step in whole.take(line)]
    first = AlertEngine(rules, AlertState())
    found = [step.record for line in lines[:cut] for step in first.take(line)]
    kept = msgspec.json.decode(msgspec.json.encode(first.state), type=AlertState)
    second = AlertEngine(rules, kept)
    found += [step.record for line in lines[cut:] for step in second.take(line)]
    assert found == wanted
    assert second.state == whole.state


# -- queries -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", PREDEFINED.values(), ids=lambda rule: rule.name)
def test_predefined_alerts_have_a_sentence_and_something_to_look_for(rule: AlertRule) -> None:
    assert rule.message
    assert rule.category in {"service", "security", "content"}
    assert bool(rule.query) is not bool(rule.condition)
    if rule.query:
        assert kinds_chosen(parse_query(rule.query, 0.0)) < {"alert"} | KINDS


KINDS = {
    "connection",
    "filter-failure",
    "limit",
    "loop-blocked",
    "operator",
    "process",
    "request",
    "service",
    "transfer",
}

QUERIED = [
    ("client", {"client": "10.0.0.7:1234"}),
    ("client", {"client": "[2001:db8::1]:99"}),
    ("host", {"kind": "connection", "host": 'we"ird\\host'}),
    ("name", {"name": "a b (c)"}),
    ("name", {}),
    ("", {"client": "10.0.0.7:1234"}),
]


@pytest.mark.parametrize(("by", "more"), QUERIED)
def test_the_query_of_a_raising_finds_the_record_that_raised_it(
    by: str, more: dict[str, object]
) -> None:
    fields = {"kind": "transfer", "time": 1764365000.1234, "verdict": "refused", **more}
    engine = engine_of(AlertRule(name="a", query="kind:transfer or kind:connection", by=by))
    (step,) = engine.take(fields)
    passes = predicate_of(parse_query(step.raising.query, 0.0))
    assert passes(fields)
    assert not passes({**fields, "time": 1764365001.5})


def test_long_texts_of_clients_are_cut_in_facts_and_counted_whole_enough() -> None:
    engine = engine_of(msgspec.structs.replace(REFUSALS, by="name"))
    (step,) = engine.take(refused(1.0, name="x" * 5000))
    assert len(str(step.record.facts["name"])) == alert_limits.ALERT_VALUE_CHARACTERS_MAX
    assert "name:" not in step.raising.query
