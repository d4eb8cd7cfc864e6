"""How long filters and scanners took, and what is set for them, as the console says it."""

from __future__ import annotations

import pytest

from sluicegate.app.shown_settings import shown
from sluicegate.console.environment import format_short
from sluicegate.console.times import times_of
from sluicegate.gate.views import FilterView
from sluicegate.metrics import CATALOGUE, Histogram
from sluicegate.process_limits import SHOWN_SETTING_CHARACTERS_MAX, SHOWN_SETTINGS_MAX

METRIC = "sluicegate_filter_seconds"


def view(name: str, *answers_s: float) -> FilterView:
    time = Histogram(CATALOGUE[METRIC].bounds)
    for answer_s in answers_s:
        time.observe(answer_s)
    return FilterView(
        name=name, source="", tier="", answer_s=time.total, answer_buckets=time.buckets
    )


def test_times_say_below_which_bound_most_answers_were_and_whose_time_it_was() -> None:
    found = times_of(
        [view("quick", 0.0005, 0.0005), view("idle"), view("slow", *[0.05] * 18, 3.0, 99.0)],
        METRIC,
    )
    assert [one.name for one in found] == ["slow", "quick"]
    slow, quick = found
    assert (slow.answers, slow.half_s, slow.most_s) == (20, 0.1, 5.0)
    assert (quick.half_s, quick.most_s, quick.mean_s) == (0.001, 0.001, 0.0005)
    assert slow.share == pytest.approx(102.9 / 102.901)


def test_answers_above_every_bound_have_none() -> None:
    (one,) = times_of([view("endless", 100.0, 200.0)], METRIC)
    assert (one.half_s, one.most_s, one.bound_s) == (None, None, 30.0)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0001, "100 µs"), (0.0123, "12.3 ms"), (0.5, "500 ms"), (1.25, "1.2 s"), (90, "1 min 30 s")],
)
def test_short_durations_are_written_with_three_digits(seconds: float, text: str) -> None:
    assert format_short(seconds) == text


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "api_token",
        "client_secret",
        "key",
        "api_key",
        "smtp.passphrase",
        "authorization",
    ],
)
def test_what_may_be_a_secret_is_not_shown(name: str) -> None:
    table, _, last = name.rpartition(".")
    settings: dict[str, object] = {table: {last: "hunter2"}} if table else {name: "hunter2"}
    assert shown(settings) == {name: "(not shown)"}


def test_settings_are_shown_as_they_are_written() -> None:
    settings: dict[str, object] = {
        "scanners": ["clamd", "b"], "is_strict": True, "limit": 5, "name": "", "absent": None,
        "inner": {"key_file": "x.pem", "depth": {"max": 3}},
    }  # fmt: skip
    assert shown(settings) == {
        "scanners": '["clamd", "b"]', "is_strict": "true", "limit": "5",
        "inner.key_file": "x.pem", "inner.depth.max": "3",
    }  # fmt: skip


def test_what_is_too_much_to_be_shown_is_said() -> None:
    found = shown({f"n{at}": at for at in range(SHOWN_SETTINGS_MAX + 7)})
    assert len(found) == SHOWN_SETTINGS_MAX + 1
    assert found["and more"] == "7 settings"
    long = shown({"text": "x" * (SHOWN_SETTING_CHARACTERS_MAX + 9)})["text"]
    assert long == "x" * SHOWN_SETTING_CHARACTERS_MAX + "… (9 more)"
