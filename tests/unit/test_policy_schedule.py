"""Schedules: what the clocks of a zone show decides, also when they are changed."""

# ruff: noqa: E501 - one line a case

from __future__ import annotations

import datetime as dt
import zoneinfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.policy.parse_values import parse_week
from sluicegate.policy.schedule import Schedule


def schedule(zone: str, *weekly: str, off: tuple[str, ...] = ()) -> Schedule:
    spans = {span for text in weekly for span in parse_week(text)}
    dates = frozenset(map(dt.date.fromisoformat, off))
    return Schedule("s", zoneinfo.ZoneInfo(zone), zone, tuple(sorted(spans)), dates)


def at(text: str) -> float:
    return dt.datetime.fromisoformat(text).timestamp()


NIGHT = ("Europe/Berlin", "sun 01:30-02:30")
CASES = [
    # spring: 02:00 becomes 03:00, so the half hour from 02:00 never comes
    (NIGHT, "2026-03-29T00:29:59Z", False, "2026-03-29T00:30:00Z"),
    (NIGHT, "2026-03-29T00:30:00Z", True, "2026-03-29T01:00:00Z"),
    (NIGHT, "2026-03-29T01:00:00Z", False, "2026-04-04T23:30:00Z"),
    # autumn: 03:00 becomes 02:00, so the half hour from 02:00 comes twice
    (NIGHT, "2026-10-24T23:30:00Z", True, "2026-10-25T00:30:00Z"),
    (NIGHT, "2026-10-25T00:30:00Z", False, "2026-10-25T01:00:00Z"),
    (NIGHT, "2026-10-25T01:00:00Z", True, "2026-10-25T01:30:00Z"),
    (NIGHT, "2026-10-25T01:30:00Z", False, "2026-11-01T00:30:00Z"),
    # the same hours on the clock, whatever the offset
    (("Europe/Berlin", "mon-fri 09:00-17:00"), "2026-03-27T08:00:00Z", True, "2026-03-27T16:00:00Z"),
    (("Europe/Berlin", "mon-fri 09:00-17:00"), "2026-03-27T16:00:00Z", False, "2026-03-30T07:00:00Z"),
    # half an hour of change, and a day's change of date
    (("Australia/Lord_Howe", "sun 01:45-02:15"), "2026-04-04T14:45:00Z", True, "2026-04-04T15:00:00Z"),
    (("Pacific/Apia", "mon 00:00-24:00"), "2026-11-22T11:00:00Z", True, "2026-11-23T11:00:00Z"),
    # across midnight
    (("UTC", "fri 22:00-02:00"), "2026-11-28T01:59:59Z", True, "2026-11-28T02:00:00Z"),
    (("UTC", "sun 22:00-02:00"), "2026-11-30T00:00:00Z", True, "2026-11-30T02:00:00Z"),
    (("UTC", "sat-mon 00:00-24:00"), "2026-11-28T00:00:00Z", True, "2026-12-01T00:00:00Z"),
]  # fmt: skip


@pytest.mark.parametrize(("of", "now", "active", "until"), CASES)
def test_clocks_of_the_zone_decide(of: tuple[str, ...], now: str, active: bool, until: str) -> None:
    one = schedule(*of)
    assert one.is_active(at(now)) == active
    found = dt.datetime.fromtimestamp(one.until(at(now)), dt.UTC)
    assert found == dt.datetime.fromisoformat(until)


def test_day_off_is_off_from_midnight_to_midnight_of_the_zone() -> None:
    one = schedule("Europe/Berlin", "mon-sun 00:00-24:00", off=("2026-12-25",))
    assert one.is_active(at("2026-12-24T22:59:59Z"))
    assert one.until(at("2026-12-24T20:00:00Z")) == at("2026-12-24T23:00:00Z")
    assert not one.is_active(at("2026-12-24T23:00:00Z"))
    assert one.until(at("2026-12-25T10:00:00Z")) == at("2026-12-25T23:00:00Z")


def test_schedule_that_is_always_active_is_asked_again_after_days() -> None:
    one = schedule("UTC", "mon-sun 00:00-24:00")
    now = at("2026-11-25T12:00:00Z")
    assert now + 7 * 86400 < one.until(now) < now + 10 * 86400


zones = st.sampled_from(["Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "UTC"])
weeks = st.lists(
    st.sampled_from(["mon-fri 09:00-17:00", "sun 01:30-03:30", "sat 22:00-02:15", "tue 00:00-24:00"]),
    min_size=1, max_size=3,
)  # fmt: skip
instants = st.integers(int(at("2026-01-01T00:00:00Z")), int(at("2027-12-31T00:00:00Z")))


@given(zones, weeks, instants, st.lists(st.floats(0, 1), max_size=20))
def test_answer_holds_until_the_instant_that_is_named(
    zone: str, weekly: list[str], now: int, parts: list[float]
) -> None:
    one = schedule(zone, *weekly)
    active, until = one.is_active(now), one.until(now)
    assert until > now
    for part in parts:
        between = now + (until - now) * part
        if between < until:
            assert schedule(zone, *weekly).is_active(between) == active
    if until < now + 7 * 86400:
        assert one.is_active(until) != active
