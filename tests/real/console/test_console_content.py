"""What looks at content, in the console of a gate with real filters, a real clamd and real objects.

Order, settings, failures and times of filters; queues and times of scanners; what is held.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from sluicegate.console.roles import Role
from sluicegate.console.tokens import Tokens
from tests.real.console.console_kit import keep_screenshot, log_in, open_page
from tests.real.console.web_kit import WebConsoleGate, web_console_gate
from tests.waiting import wait_until

pytestmark = [pytest.mark.real, pytest.mark.either_driver]

API = "/api/v1"


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebConsoleGate]:
    """A gate that has let through, refused and failed at something."""
    with web_console_gate(tmp_path_factory.mktemp("content")) as gate:
        assert [gate.download(name) for name in ("report.txt", "text.txt")] == [200, 200]
        assert gate.download("invoice.txt") == 403, "clamd finds the test file of EICAR in it"
        assert gate.download("moody.txt") == 503, "a filter has failed at it"
        yield gate
    assert "Traceback" not in "".join(gate.lines)


@pytest.fixture(scope="module")
def program(gate: WebConsoleGate) -> httpx.Client:
    made = gate.program()
    token = Tokens(gate.folder / "state" / "console").add("program", Role.VIEWER)
    made.headers["authorization"] = f"Bearer {token}"
    return made


@pytest.fixture
def window(browser: Browser, gate: WebConsoleGate) -> Iterator[Page]:
    """An operator's, which lets the check of accessibility in."""
    page = open_page(browser, gate, bypass_csp=True, viewport={"width": 1440, "height": 900})
    log_in(page, "operator")
    yield page
    page.context.close()


def assert_accessible(page: Page) -> None:
    found = Axe().run(page, options={"resultTypes": ["violations"]})
    assert found.violations_count == 0, found.generate_report()


# -- filters -----------------------------------------------------------------------------------


def test_filters_stand_in_order_with_failures_settings_and_the_time_they_took(
    gate: WebConsoleGate, window: Page
) -> None:
    def shows_the_failure() -> bool:  # records are stored a moment later
        window.goto("/filters")
        return window.get_by_text("no opinion about this one").count() > 0

    wait_until(shows_the_failure, "the failure is not shown", 0.2)
    order = window.get_by_role("region", name="Filters in order").locator("tbody tr strong")
    expect(order).to_have_text(["exe_block", "antivirus", "judge", "moody"])
    failed = window.get_by_role("region", name="Filters in order").locator("tr", has_text="moody")
    expect(failed.get_by_role("link", name="1")).to_be_visible()
    spent = window.get_by_role("region", name="Time spent").locator("tbody tr")
    expect(spent.first).to_contain_text("antivirus")  # it waits for scanners
    expect(spent.filter(has_text="judge")).to_contain_text("ms")
    window.get_by_text("1 setting").click()
    expect(window.get_by_text('["clamd", "patterns"]')).to_be_visible()
    assert_accessible(window)
    keep_screenshot(window, "filters-at-work")
    failed.get_by_role("link", name="1").click()
    expect(window.locator("table.records tbody tr").first).to_contain_text("moody")


def test_program_reads_the_time_that_filters_took(program: httpx.Client) -> None:
    def seen() -> dict[str, Any]:  # the gate is asked every two seconds
        rows = {row["name"]: row for row in program.get(f"{API}/filters").json()["rows"]}
        return rows if rows["moody"]["failures"] else {}

    rows = wait_until(seen, "the failure is not shown", 0.2)
    assert list(rows) == ["exe_block", "antivirus", "judge", "moody"]
    assert rows["antivirus"]["answer_s"] > 0
    assert sum(rows["antivirus"]["answer_buckets"]) >= 3
    assert rows["antivirus"]["settings"] == {"scanners": '["clamd", "patterns"]'}
    assert rows["moody"]["failures"] == 1


# -- the overview ------------------------------------------------------------------------------


def test_what_stands_out_on_the_overview_leads_to_its_records(
    gate: WebConsoleGate, window: Page
) -> None:
    gate.wait_until_stored("kind:request", 4)

    def shows_the_refusals() -> bool:  # what stands out is counted every two seconds
        window.goto("/")
        return window.locator("#overview td a", has_text="web").count() > 1  # a host, and a rule

    wait_until(shows_the_refusals, "refusals are not shown", 0.2)
    found = window.locator("#overview tbody tr").evaluate_all(
        "(rows) => rows.map((row) => [row.querySelector('a').getAttribute('href'),"
        " row.querySelector('td.number').innerText])"
    )
    assert len(found) >= 3
    for path, count in found:
        window.goto(path)
        shown = window.locator("table.records tbody tr td a").count()
        assert shown >= int(count), path
        if "denied" in path:
            assert shown == int(count), path


# -- scanners ----------------------------------------------------------------------------------


def test_scanners_show_what_they_found_their_times_and_their_settings(
    gate: WebConsoleGate, window: Page
) -> None:
    window.goto("/scanners")
    expect(window.locator("[data-scanner=clamd] .badge.warn")).to_have_text("1")
    spent = window.get_by_role("region", name="Time for an object").locator("tbody tr")
    expect(spent.filter(has_text="clamd")).to_contain_text("ms")
    expect(spent.filter(has_text="patterns")).to_contain_text("s")
    window.locator("summary", has_text="clamd").click()
    expect(window.get_by_text(str(gate.clamd.socket))).to_be_visible()
    assert_accessible(window)
    keep_screenshot(window, "scanners-at-work")


def test_program_reads_queues_and_times_of_scanners(program: httpx.Client) -> None:
    rows = {row["name"]: row for row in program.get(f"{API}/scanners").json()["rows"]}
    assert set(rows) == {"clamd", "patterns"}
    for row in rows.values():
        assert row["answer_s"] > 0
        assert sum(row["answer_buckets"]) == row["asked"] - row["waiting"]
    assert rows["clamd"]["settings"]["timeout_s"] == "60.0"
    assert "rules" not in rows["clamd"]["settings"]


# -- what is held ------------------------------------------------------------------------------


def test_held_object_is_shown_while_it_is_judged(
    gate: WebConsoleGate, window: Page, program: httpx.Client
) -> None:
    gate.offer("slow-300.zip", bytes(100_000))
    with gate.downloading("slow-300.zip"):
        window.goto("/transfers")
        row = window.locator("tbody tr", has_text="slow-300.zip")
        expect(row).to_contain_text("being judged")
        expect(row).to_contain_text("none yet")
        expect(row).to_contain_text("antivirus, judge, moody")
        assert_accessible(window)
        keep_screenshot(window, "transfers-judging")
        (held,) = program.get(f"{API}/transfers", params={"filter": "slow-300"}).json()["rows"]
        assert (held["stage"], held["verdict"], held["rule"]) == ("judging", "", "web")
        assert held["bytes_held"] == 100_000
        none = program.get(f"{API}/transfers", params={"filter": "nothing"}).json()
        assert (none["rows"], none["total"], none["held"]) == ([], 0, 1)
        row.get_by_role("link", name="End c-").click()
        window.get_by_role("button", name="End the connection").click()
        expect(window.get_by_role("heading", name="Connections")).to_be_visible()


def test_object_that_arrives_shows_how_far_it_is(gate: WebConsoleGate, window: Page) -> None:
    size = 256 << 20
    gate.offer("long.bin", bytes(size))
    with gate.downloading("limited/long.bin"):  # at one MiB a second
        window.goto("/transfers")
        row = window.locator("tbody tr", has_text="long.bin")
        expect(row).to_contain_text("of 256.0 MiB")
        arrived = row.get_by_role("progressbar")
        first = int(arrived.get_attribute("value") or "0")
        assert 0 < first < size
        expect(arrived).not_to_have_attribute("value", str(first))
        assert_accessible(window)
        keep_screenshot(window, "transfers-arriving")
    expect(row).to_have_count(0)


def test_scanner_that_is_gone_is_said_in_red(gate: WebConsoleGate, window: Page) -> None:
    gate.offer("other.txt", b"something else\n" * 300)
    window.goto("/scanners")
    gate.clamd.kill()
    try:
        assert gate.download("other.txt") == 403
        alert = window.get_by_role("alert")
        expect(alert).to_contain_text("clamd")  # live, without loading again
        keep_screenshot(window, "scanners-failed")
    finally:
        gate.clamd.start()
