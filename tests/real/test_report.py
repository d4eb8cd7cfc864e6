"""A report in a real browser: it prints as it is, and the browser has nothing to complain of."""

from __future__ import annotations

import datetime as dt
import pathlib
import shutil
import subprocess

import pytest
from click.testing import CliRunner

from sluicegate.audit.store import LogPosition
from sluicegate.cli.main import cli
from sluicegate.testing.clock import ManualClock
from tests.unit.store.store_kit import line_of, open_store

pytestmark = pytest.mark.skipif(
    shutil.which("chromium") is None, reason="needs a browser: apt-get install chromium"
)
DAY = dt.date(2026, 11, 25)


@pytest.fixture
def page(tmp_path: pathlib.Path) -> pathlib.Path:
    config = tmp_path / "sluicegate.toml"
    config.write_text('[[listener]]\nname = "web"\naddress = "127.0.0.1:0"\n', encoding="utf-8")
    (tmp_path / "state").mkdir()
    noon = dt.datetime.combine(DAY, dt.time(12)).astimezone().timestamp()
    store = open_store(tmp_path / "state" / "records", ManualClock(0.0, noon + 86_400))
    lines = [
        line_of(
            number,
            noon - 30_000 + number * 60,
            url=f"http://site-{number % 20}.example/",
            rule=f"rule-{number % 7}",
            outcome="refused" if number % 9 == 0 else "released",
            reason="denied-by-rule",
            duration_ms=float(number),
        )
        for number in range(900)
    ]
    store.append(lines, LogPosition(7, 1))
    store.close()
    made = tmp_path / "day.html"
    arguments = ["report", "-c", str(config), "--day", DAY.isoformat(), "-o", str(made)]
    assert CliRunner().invoke(cli, arguments).exit_code == 0
    return made


def chromium(page: pathlib.Path, *arguments: str) -> str:
    done = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
         f"--user-data-dir={page.parent}/profile", *arguments, page.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return done.stderr


def test_report_prints_on_few_pages_without_a_complaint(page: pathlib.Path) -> None:
    made = page.with_suffix(".pdf")
    said = chromium(page, f"--print-to-pdf={made}", "--no-pdf-header-footer")
    assert made.read_bytes().startswith(b"%PDF-")
    assert 1 <= made.read_bytes().count(b"/Type /Page\n") <= 4
    assert "CONSOLE" not in said, said


@pytest.mark.parametrize("width", [360, 1200])
def test_report_fits_into_the_window(page: pathlib.Path, width: int) -> None:
    picture = page.with_name(f"report-{width}.png")
    said = chromium(page, f"--screenshot={picture}", f"--window-size={width},1600")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "CONSOLE" not in said, said
