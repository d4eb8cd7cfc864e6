"""``sluicegate report``: numbers that are those of the records, on a page that harms nobody."""

from __future__ import annotations

import datetime as dt
import html.parser
import json
import pathlib

import pytest
from click.testing import CliRunner, Result
from typing_extensions import override

from sluicegate.app.report import Period
from sluicegate.audit.store import LogPosition
from sluicegate.cli.main import cli
from sluicegate.testing.clock import ManualClock
from tests.unit.store.store_kit import line_of, open_store

DAY = dt.date(2026, 11, 25)
"""A Wednesday."""
HOSTILE = "<script>alert(1)</script>\x1b\u202e"
MAIN = '[[listener]]\nname = "web"\naddress = "127.0.0.1:0"\n'


def at(hour: float, day: dt.date = DAY) -> float:
    return dt.datetime.combine(day, dt.time()).astimezone().timestamp() + hour * 3600


def records() -> list[bytes]:
    def refused(hour: float, **fields: object) -> bytes:
        return line_of(9, at(hour), **{"outcome": "refused", "verdict": "denied", **fields})

    passed = [line_of(number, at(9 + number / 10), duration_ms=4.0) for number in range(20)]
    moved = [
        line_of(1, at(10), kind="connection", url="", host="big.example", client="10.9.9.9:1",
                bytes_to_client=5 << 20, bytes_to_server=1 << 20)
    ]  # fmt: skip
    return [
        *passed,
        *moved,
        refused(12, reason="denied-by-rule", rule="no-social", duration_ms=900.0),
        refused(13, reason=HOSTILE, rule=HOSTILE, url=f"http://{HOSTILE}/", client="10.6.6.6:1"),
        line_of(3, at(14), kind="transfer", verdict="refused", outcome="", reason="Eicar", url=""),
        line_of(4, at(14), kind="transfer", verdict="released", outcome="", url=""),
        line_of(5, at(15), kind="limit", verdict="", outcome="", url="", client=""),
        line_of(6, at(24.5), duration_ms=4.0),  # on the next day
        line_of(7, at(-0.5), duration_ms=4.0),  # on the day before
    ]


@pytest.fixture
def config(tmp_path: pathlib.Path) -> pathlib.Path:
    """Return the file of a gate with records of a day, and of two others."""
    path = tmp_path / "sluicegate.toml"
    path.write_text(MAIN, encoding="utf-8")
    (tmp_path / "state").mkdir()
    store = open_store(tmp_path / "state" / "records", ManualClock(0.0, at(25)))
    store.append(records(), LogPosition(7, 1))
    store.close()
    return path


def invoke(config: pathlib.Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["report", "--config", str(config), *arguments])


def test_figures_of_a_day_are_those_of_its_records(config: pathlib.Path) -> None:
    found = json.loads(invoke(config, "--day", DAY.isoformat(), "--json").stdout)
    assert (found["asked"], found["refused"]) == (22, 2)
    assert (found["bytes_to_client"], found["bytes_to_server"]) == (5 << 20, 1 << 20)
    assert (found["objects"], found["objects_refused"], found["limits"]) == (2, 1, 1)
    assert found["clients"] == [{"name": "10.9.9.9", "count": 1, "bytes": 6 << 20}]
    assert [one["name"] for one in found["findings"]] == ["Eicar"]
    rules = {one["rule"]: (one["refused"], one["allowed"]) for one in found["rules"]}
    assert rules == {"no-social": (1, 0), HOSTILE: (1, 0), "web": (0, 20)}
    assert sum(one["allowed"] for one in found["steps"]) == 20
    assert {one["time"] for one in found["steps"] if one["refused"]} == {at(12), at(13)}
    bounds = [one["below_ms"] for one in found["latencies"]]
    assert bounds == [bounds[0] * 2**step for step in range(len(bounds))]
    assert sum(one["records"] for one in found["latencies"]) == 22
    assert found["percentiles_ms"]["p50"] < 9 < found["percentiles_ms"]["p99"]


def test_week_has_the_days_from_monday_on(config: pathlib.Path) -> None:
    found = json.loads(invoke(config, "--week", DAY.isoformat(), "--json").stdout)
    assert found["asked"] == 24
    monday = dt.datetime.fromtimestamp(found["since"]).astimezone()
    assert (monday.date(), monday.weekday()) == (dt.date(2026, 11, 23), 0)
    assert found["until"] - found["since"] == 7 * 86_400


def test_week_is_that_of_its_sunday_too() -> None:
    period = Period.week_of(dt.date(2026, 11, 29), dt.UTC)
    assert (period.first, period.days) == (dt.date(2026, 11, 23), 7)


class Page(html.parser.HTMLParser):
    """Every element, attribute and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.feed(text)

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    @override
    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_page_runs_nothing_and_loads_nothing_whatever_clients_wrote(config: pathlib.Path) -> None:
    page = config.parent / "day.html"
    assert invoke(config, "--day", DAY.isoformat(), "-o", str(page)).exit_code == 0
    text = page.read_text(encoding="utf-8")
    read = Page(text)
    assert not {"script", "link", "img", "iframe", "object", "a"} & set(read.tags)
    names = {name for name, _ in read.attributes}
    assert not {name for name in names if name.startswith("on")} | {"src", "href"} & names
    shown = "<script>alert(1)</script>\\x1b\\u202e"
    assert read.texts.count(shown) == 2  # as a rule and a reason
    assert read.texts.count("<script>alert(1)<") == 2  # as a site, and as one that was refused
    assert all(one.isprintable() or one == "\n" for one in text.replace("\u202f", ""))
    assert text.count("<svg") == 3


def test_day_without_records_says_so(config: pathlib.Path) -> None:
    text = invoke(config, "--day", "2026-01-01").stdout
    for words in ("No client came.", "Nothing was refused.", "Nothing was decided."):
        assert words in text


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--day", "tomorrow"), "'tomorrow' is no date such as"),
        (("--week", "2026-W48-9"), "is no date such as"),
        (("--day", "2026-11-25", "--week", "2026-11-25"), "choose one"),
        (("-o", "/nowhere/day.html"), "cannot be written"),
    ],
)
def test_mistakes_are_explained(
    config: pathlib.Path, arguments: tuple[str, ...], expected: str
) -> None:
    result = invoke(config, *arguments)
    assert result.exit_code != 0
    assert expected in result.output


def test_gate_without_a_store_has_no_report(config: pathlib.Path) -> None:
    config.write_text('[log]\nstore = "none"\n' + MAIN, encoding="utf-8")
    result = invoke(config)
    assert result.exit_code == 2
    assert 'store = "sqlite"' in result.output
