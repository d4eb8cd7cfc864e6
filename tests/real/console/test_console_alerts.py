"""Alerts in the console: listed, shown with their records, acknowledged by operators alone."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from sluicegate.console.roles import Role
from sluicegate.console.tokens import Tokens
from tests.kernel.test_gate_process import echoed
from tests.real.console.conftest import run_gate
from tests.real.console.console_kit import (
    ConsoleGate,
    csrf_of,
    keep_screenshot,
    log_in,
    open_page,
)
from tests.waiting import wait_until

pytestmark = [pytest.mark.real, pytest.mark.either_driver]

MESSAGE = "somebody was here: <b>not bold</b>"


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleGate]:
    """A gate that raises an alert for each connection."""
    alert = (
        '[[alert]]\nname = "visit"\nquery = "kind:connection"\nby = "connection"\n'
        f'severity = "error"\nmessage = "{MESSAGE}"\n'
    )
    yield from run_gate(tmp_path_factory.mktemp("console"), more=alert)


def raise_alert(gate: ConsoleGate) -> dict[str, str]:
    """Cause one; return its record."""
    before = {one["raising"] for one in gate.records("alert")}
    with gate.connect() as client:
        assert echoed(client, b"hello") == b"hello"
    found = gate.recorded("alert", lambda one: one["raising"] not in before)
    return {name: str(value) for name, value in found[0].items()}


def until_stored(page: Page, path: str) -> None:
    """Wait until the records that raised an alert are in the store."""

    def is_shown() -> bool:
        page.goto(path)
        return page.locator("table.records tbody td a").count() > 0

    wait_until(is_shown, "its records are not shown", 0.2)


@pytest.mark.shows("GET /alerts/one", "POST /alerts/acknowledge")
def test_alert_is_shown_with_its_records_and_acknowledged(
    browser: Browser, gate: ConsoleGate
) -> None:
    record = raise_alert(gate)
    page = open_page(browser, gate, bypass_csp=True)
    log_in(page, "operator")
    until_stored(page, f"/alerts/one?id={record['raising']}")
    expect(page.get_by_role("heading", name="visit")).to_be_visible()
    expect(page.get_by_text(MESSAGE)).to_be_visible()
    expect(page.locator("table.records tbody tr")).to_have_count(1)
    assert Axe().run(page).violations_count == 0
    keep_screenshot(page, "alert-light")
    page.get_by_role("link", name="In the log").click()
    expect(page.locator("table.records tbody tr")).to_have_count(1)
    page.goto("/alerts")
    page.get_by_role("button", name="Acknowledge the chosen").click()
    expect(page.get_by_text("None was chosen")).to_be_visible()
    page.goto(f"/alerts/one?id={record['raising']}")
    page.get_by_role("button", name="Acknowledge").click()
    page.wait_for_url("**/alerts?acknowledged=1")
    expect(page.get_by_text("Acknowledged: 1.")).to_be_visible()
    expect(page.get_by_text("console user operator").first).to_be_visible()
    keep_screenshot(page, "alert-acknowledged")
    page.context.close()
    act = gate.operated("alert-acknowledge", "operator", record["raising"])
    assert (act["result"], act["subjects"]) == ("done", [record["raising"]])


def test_chosen_alerts_are_acknowledged_at_once_and_the_others_stay(
    browser: Browser, gate: ConsoleGate
) -> None:
    raisings = [raise_alert(gate)["raising"] for _ in range(3)]
    page = open_page(browser, gate, bypass_csp=True)
    log_in(page, "operator")
    page.goto("/alerts")
    assert Axe().run(page).violations_count == 0
    keep_screenshot(page, "alerts-open-light")
    for raising in raisings[:2]:
        page.locator(f'input[value="{raising}"]').check()
    page.get_by_role("button", name="Acknowledge the chosen").click()
    page.wait_for_url("**/alerts?acknowledged=2")
    expect(page.locator(f'input[value="{raisings[2]}"]')).to_be_visible()
    expect(page.locator(f'input[value="{raisings[0]}"]')).to_have_count(0)
    page.goto("/")
    expect(page.get_by_text("Open alerts")).to_be_visible()
    page.context.close()


def test_alert_pages_fit_a_narrow_window(browser: Browser, gate: ConsoleGate) -> None:
    raising = raise_alert(gate)["raising"]
    page = open_page(browser, gate, viewport={"width": 360, "height": 740})
    log_in(page, "operator")
    for path in ("/alerts", f"/alerts/one?id={raising}"):
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
    keep_screenshot(page, "alert-narrow")
    page.context.close()


def test_viewer_sees_alerts_and_acknowledges_none(gate: ConsoleGate) -> None:
    raising = raise_alert(gate)["raising"]
    viewer = gate.logged_in("viewer")
    page = viewer.get(f"/alerts/one?id={raising}")
    assert page.status_code == 200
    assert "/alerts/acknowledge" not in page.text
    form = {"csrf": csrf_of(viewer.get("/").text), "id": raising}
    assert viewer.post("/alerts/acknowledge", data=form).status_code == 403


def test_acknowledging_needs_the_session_s_token(gate: ConsoleGate) -> None:
    raising = raise_alert(gate)["raising"]
    operator = gate.logged_in("operator")
    assert operator.post("/alerts/acknowledge", data={"id": raising}).status_code == 403


@pytest.mark.parametrize("identifier", ["a-0-0", "", "<script>"])
def test_alert_that_is_not_known_is_not_found(gate: ConsoleGate, identifier: str) -> None:
    operator = gate.logged_in("operator")
    page = operator.get("/alerts/one", params={"id": identifier})
    assert page.status_code == 404
    assert "<script>" not in page.text.partition("<main")[2]


def test_program_lists_reads_and_acknowledges(gate: ConsoleGate) -> None:
    raising = raise_alert(gate)["raising"]
    token = Tokens(gate.folder / "state" / "console").add("alerts", Role.OPERATOR)
    program = gate.program()
    program.headers["authorization"] = f"Bearer {token}"
    rows = program.get("/api/v1/alerts", params={"state": "open", "limit": 500}).json()["rows"]
    assert raising in [row["raising"] for row in rows]
    found = program.get(f"/api/v1/alerts/{raising}").json()
    assert (found["alert"], found["state"], found["message"]) == ("visit", "open", MESSAGE)
    answer: httpx.Response = program.post(
        "/api/v1/acknowledge", json={"alerts": [raising, "nothing"]}
    )
    assert answer.json() == {"acknowledged": [raising]}
    assert program.get(f"/api/v1/alerts/{raising}").json()["state"] == "acknowledged"
    assert program.get("/api/v1/alerts/nothing").status_code == 404


def test_picture_of_an_alert_is_kept_for_the_guide(browser: Browser, gate: ConsoleGate) -> None:
    raise_alert(gate)
    page = open_page(browser, gate, color_scheme="dark", viewport={"width": 1280, "height": 800})
    log_in(page, "viewer")
    page.goto("/alerts")
    expect(page.get_by_role("heading", name="Alerts")).to_be_visible()
    keep_screenshot(page, "alerts-open-dark")
    page.context.close()
