"""The desk of alerts: what a crash at any moment leaves, and what is done about it afterwards."""

from __future__ import annotations

import pathlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate import alert_limits
from sluicegate.app.alert_conditions import ConditionWatch, conditions_in
from sluicegate.app.alerts.desk import AlertDesk, Delivery
from sluicegate.app.spool_room import SpoolRoom
from sluicegate.audit.alerts import AlertRule, Condition
from sluicegate.audit.alerts.action import ActionSettings, CommandSettings
from sluicegate.audit.store import LogPosition
from sluicegate.gate.views import CertificateView, Phase, WorkerView
from sluicegate.scan import ScannerView
from tests.status_views import status_view

RULES = [AlertRule(name="a", query="kind:transfer", by="client", actions=("log", "page"))]
PAGE = [ActionSettings(name="page", what=CommandSettings(run=("/bin/true",)))]


def desk_of(folder: pathlib.Path, since: float = 0.0) -> AlertDesk:
    return AlertDesk(folder / "alerts.json", RULES, PAGE, since)


def transfer(time: float, client: str = "10.0.0.1") -> dict[str, object]:
    return {"kind": "transfer", "time": time, "client": f"{client}:1"}


def line_of(record: msgspec.Struct) -> dict[str, object]:
    fields: dict[str, object] = msgspec.json.decode(msgspec.json.encode(record))
    return fields


def test_what_was_raised_is_known_after_a_restart_with_what_is_to_be_done(
    tmp_path: pathlib.Path,
) -> None:
    desk = desk_of(tmp_path)
    (step,) = desk.take(transfer(1.0))
    desk.move(LogPosition(7, 100, "m"))
    assert desk.is_changed
    desk.save()
    again = desk_of(tmp_path)
    assert again.position == LogPosition(7, 100, "m")
    assert again.unseen() == [step.record]
    assert [one.key for one in again.deliveries()] == [f"{step.raising.raising}.1/page"]
    assert again.raisings() == [step.raising]


def test_record_that_is_seen_in_the_log_is_offered_no_more(tmp_path: pathlib.Path) -> None:
    desk = desk_of(tmp_path)
    (step,) = desk.take(transfer(1.0))
    (seen,) = desk.acknowledge(["a"], "ann", 2.0)
    desk.take(line_of(step.record))
    assert desk.unseen() == [seen.record]
    desk.take(line_of(seen.record))
    assert desk.unseen() == []


def test_records_of_before_there_were_alerts_raise_none(tmp_path: pathlib.Path) -> None:
    desk = desk_of(tmp_path, since=100.0)
    assert desk.take(transfer(99.0)) == []
    assert len(desk.take(transfer(100.0))) == 1


def test_clock_that_is_put_back_hides_no_record_of_a_log_that_was_read(
    tmp_path: pathlib.Path,
) -> None:
    desk = desk_of(tmp_path, since=100.0)
    desk.catch_up()
    assert len(desk.take(transfer(1.0))) == 1


def test_nothing_is_written_again_while_nothing_happens(tmp_path: pathlib.Path) -> None:
    desk = desk_of(tmp_path)
    assert desk.is_behind, "since when records count is not kept yet"
    desk.save()
    assert not desk.is_behind
    desk.look([], 1.0)
    assert not desk.is_behind
    desk.move(LogPosition(7, 100, "m"))
    assert desk.is_behind
    desk.save()
    desk.look([Condition(name="scanner-down")], 2.0)
    assert desk.is_behind, "it is known what was so"
    desk.save()
    desk.look([], 3.0)
    assert desk.is_behind, "it is known what is not so any more"


def test_action_that_fails_for_good_is_recorded_with_its_alert(tmp_path: pathlib.Path) -> None:
    desk = desk_of(tmp_path)
    (step,) = desk.take(transfer(1.0))
    (delivery,) = desk.deliveries()
    delivery.attempts = 5
    desk.fail(delivery, "no modem", 9.0)
    assert desk.deliveries() == []
    assert step.raising.failures == {"page": "no modem"}
    failed = desk.unseen()[-1]
    assert (failed.event, failed.facts) == (
        "action-failed",
        {"action": "page", "cause": "no modem", "attempts": 5},
    )


def test_more_actions_than_may_wait_fail_and_are_recorded(tmp_path: pathlib.Path) -> None:
    desk = desk_of(tmp_path)
    for number in range(alert_limits.ALERT_DELIVERIES_MAX + 1):
        desk.take(transfer(60.0 * number, f"10.{number >> 8}.{number & 255}.1"))
    assert len(desk.deliveries()) == alert_limits.ALERT_DELIVERIES_MAX
    events = [one.event for one in desk.unseen()]
    assert events.count("action-failed") == 1


def test_actions_that_are_not_configured_any_more_are_forgotten(tmp_path: pathlib.Path) -> None:
    desk = desk_of(tmp_path)
    desk.take(transfer(1.0))
    desk.save()
    without = AlertDesk(tmp_path / "alerts.json", RULES, [], 0.0)
    assert without.deliveries() == []
    assert without.open_count == 1


@pytest.mark.parametrize("content", [b"", b"{", b'{"position": "x"}', b"\xff"])
def test_file_that_cannot_be_read_is_begun_anew_and_that_is_said(
    tmp_path: pathlib.Path, content: bytes
) -> None:
    (tmp_path / "alerts.json").write_bytes(content)
    desk = desk_of(tmp_path)
    assert "alerts begin anew" in desk.trouble
    assert desk.raisings() == []


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["take", "save", "crash", "done"]), st.integers(1, 4)),
        max_size=30,
    )
)
def test_whatever_crashes_every_record_raises_once_and_every_action_is_done(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    """A log that is read again from where the file says; each client raises one alert."""
    folder = tmp_path_factory.mktemp("desk")
    log = [transfer(60.0 * number, f"10.0.0.{number}") for number in range(40)]
    desk, done = desk_of(folder), set[str]()
    for what, count in steps:
        if what == "take":
            at = desk.position.offset
            for fields in log[at : at + count]:
                desk.take(fields)
            desk.move(LogPosition(1, min(at + count, len(log)), ""))
        elif what == "save":
            desk.save()
        elif what == "crash":
            desk = desk_of(folder)
        else:
            desk.save()  # before anybody is told
            for delivery in desk.deliveries()[:count]:
                done.add(delivery.notice.about)
                desk.finish(delivery)
    read = desk.position.offset
    assert [one.about for one in reversed(desk.raisings())] == [
        f"10.0.0.{number}" for number in range(read)
    ]
    left = {one.notice.about for one in desk.deliveries()}
    assert left | done >= {f"10.0.0.{number}" for number in range(read)}
    assert len({one.raising for one in desk.raisings()}) == read


def test_delivery_is_told_by_its_key_whatever_else_changed(tmp_path: pathlib.Path) -> None:
    desk = desk_of(tmp_path)
    desk.take(transfer(1.0))
    desk.save()
    (begun,) = desk.deliveries()
    begun.attempts += 1
    other = desk_of(tmp_path)
    other.finish(begun)
    assert other.deliveries() == []
    assert isinstance(begun, Delivery)


# -- conditions --------------------------------------------------------------------------------

ROOM = SpoolRoom(folder="/", bytes_max=1000, free_bytes_min=100)
CALM = status_view()
DAY_S = 86_400.0

CONDITIONS = [
    ({}, 1000, []),
    ({"records_failure": "ENOSPC"}, 1000, [("log-unwritable", "")]),
    ({"store_failure": "no server"}, 1000, [("store-failing", "")]),
    ({"spool_bytes": 901}, 1000, [("spool-nearly-full", "spool_bytes_max")]),
    ({"spool_bytes": 900}, 1000, []),
    ({}, 110, [("spool-nearly-full", "spool_free_bytes_min")]),
    (
        {"workers": [WorkerView(name="worker 0", pid=0, state="waiting")]},
        1000,
        [("process-missing", "worker 0")],
    ),
    ({"workers": [WorkerView(name="worker 0", pid=1, state="draining")]}, 1000, []),
    (
        {"scanners": [ScannerView(name="yara", kind="yara", state="failed", problem="ended")]},
        1000,
        [("scanner-down", "yara")],
    ),
    (
        {
            "certificates": [
                CertificateView(listener="web", names=["a.example"], expires=DAY_S, serial="1"),
                CertificateView(listener="web", names=["b.example"], expires=1e9, serial="2"),
            ]
        },
        1000,
        [("authority-expires", "listener web: a.example")],
    ),
    ({"phase": Phase.REFUSING}, 1000, [("log-unwritable", "")]),
]


@pytest.mark.parametrize(("more", "free", "expected"), CONDITIONS)
def test_conditions_are_read_from_the_status(
    more: dict[str, object], free: int, expected: list[tuple[str, str]]
) -> None:
    status = msgspec.structs.replace(CALM, **more)
    found = conditions_in(status, ROOM, free, 0.0)
    assert found is not None
    assert [(one.name, one.about) for one in found] == expected


@pytest.mark.parametrize("state", ["waiting", "silent"])
def test_last_worker_that_is_gone_is_told_and_ends_no_other_condition(state: str) -> None:
    watch = ConditionWatch()
    scanner = ScannerView(name="yara", kind="yara", state="failed", problem="ended")
    with_scanner = msgspec.structs.replace(CALM, scanners=[scanner])
    found = conditions_in(with_scanner, ROOM, 1000, 0.0)
    assert found is not None
    watch.steady(found)
    worker = WorkerView(name="worker 0", pid=0, state=state)
    alone = msgspec.structs.replace(CALM, phase=Phase.STARTING, workers=[worker])
    for expected in (["scanner-down"], ["process-missing", "scanner-down"]):
        found = conditions_in(alone, ROOM, 1000, 0.0)
        assert found is not None
        steady = watch.steady(found, is_whole=False)
        assert steady is not None
        assert [one.name for one in steady] == expected
    found = conditions_in(CALM, ROOM, 1000, 0.0)
    assert found == []
    assert watch.steady(found) == []


@pytest.mark.parametrize("phase", [Phase.DRAINING, Phase.STOPPED])
def test_gate_that_ends_says_nothing_of_conditions(phase: Phase) -> None:
    status = msgspec.structs.replace(CALM, phase=phase, records_failure="ENOSPC")
    assert conditions_in(status, ROOM, 1000, 0.0) is None


def test_condition_counts_when_two_looks_have_seen_it() -> None:
    watch = ConditionWatch()
    down = Condition(name="scanner-down", about="yara")
    assert watch.steady([down]) is None
    assert watch.steady([down]) == [down]
    assert watch.steady([]) == []
    assert watch.steady([down]) == []
