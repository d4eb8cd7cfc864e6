"""The operator's guide, step by step: an incident, from its alert to a rule, and back.

Each step of ``docs/howto/an-incident.md`` is a function, in its order, which does what the page
says and keeps the picture that stands there; a step that cannot be done fails the one test.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Callable, Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect

from tests.real.clamd_parts import eicar
from tests.real.console.console_kit import (
    PASSWORD,
    SCREENSHOTS,
    keep_screenshot,
    log_in,
    open_page,
)
from tests.real.console.web_kit import WebConsoleGate, web_console_gate
from tests.waiting import wait_until

pytestmark = [pytest.mark.real, pytest.mark.either_driver]

GUIDE = pathlib.Path(__file__).parents[3] / "docs" / "howto" / "an-incident.md"
HOST = "downloads.names.test"
WIDTH = 1200
"""Of the pictures, in pixels: what stands beside a text is still read."""

PICTURES = re.findall(
    r"!\[(?P<words>[^\]]*)\]\(\.\./\.\./build/screenshots/(?P<name>[a-z0-9-]+)\.png\)",
    GUIDE.read_text("utf-8"),
)
RULE = re.findall(r"```toml\n(\[\[rule\]\].*?)```", GUIDE.read_text("utf-8"), re.DOTALL)[0]


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebConsoleGate]:
    """A gate at which somebody got files, and then was to get another one."""
    with web_console_gate(tmp_path_factory.mktemp("incident")) as gate:
        gate.offer("invoice-4711.txt", eicar())
        for name in ("report.txt", "text.txt", "random.bin"):
            assert gate.download(name) == 200
        assert gate.download("report.txt", HOST) == 200
        assert gate.download("invoice-4711.txt", HOST) == 403
        yield gate
    assert "Traceback" not in "".join(gate.lines)


@pytest.fixture(scope="module")
def window(browser: Browser, gate: WebConsoleGate) -> Iterator[Page]:
    """The administrator's, from the first step to the last."""
    page = open_page(browser, gate, bypass_csp=True, viewport={"width": WIDTH, "height": 700})
    log_in(page, "administrator")
    yield page
    page.context.close()


def keep(page: Page, name: str) -> None:
    """Keep a picture of a step, whose page anybody can use."""
    found = Axe().run(page, options={"resultTypes": ["violations"]})
    assert found.violations_count == 0, found.generate_report()
    keep_screenshot(page, name)


def search(page: Page, query: str) -> None:
    """Ask the log, until it has an answer: records are stored a moment later."""

    def is_found() -> bool:
        page.goto("/log")
        page.get_by_role("textbox", name="Query").fill(query)
        page.get_by_role("button", name="Search").click()
        page.wait_for_url("**/log?q=*")
        return page.locator("table.records tbody tr td a").count() > 0

    wait_until(is_found, f"nothing is found by {query}", 0.2)


def reload_until(page: Page, shown: Locator, what: str) -> None:
    """Load a page until it shows something: the log is stored a moment after it is written."""

    def is_shown() -> bool:
        page.reload()
        return shown.count() > 0

    wait_until(is_shown, what, 0.2)


def open_first(page: Page) -> None:
    page.locator("table.records tbody tr").first.get_by_role("link").first.click()


def test_guide_names_each_picture_and_says_what_is_on_it() -> None:
    names = [name for _, name in PICTURES]
    assert names == [
        "incident-alert",
        "incident-object",
        "incident-explained",
        "incident-host",
        "incident-edit",
        "incident-trial",
        "incident-history",
        "incident-refused",
        "incident-acknowledged",
        "incident-roll-back",
    ]
    assert all(len(words) > 20 for words, _ in PICTURES)


def alert_names_what_was_found_and_where(_gate: WebConsoleGate, window: Page) -> None:
    row = window.get_by_role("region", name="Open alerts").locator("tr", has_text="malware-found")
    window.goto("/alerts")
    reload_until(window, row, "there is no alert")
    row.get_by_role("link").click()
    expect(window.get_by_role("heading", name="malware-found")).to_be_visible()
    raised = window.get_by_role("region", name="Records that raised it")
    reload_until(window, raised.locator("tbody tr td a"), "its records are not shown")
    expect(raised).to_contain_text("invoice-4711.txt")
    keep(window, "incident-alert")


def object_is_one_of_the_records_that_raised_it(_gate: WebConsoleGate, window: Page) -> None:
    raised = window.get_by_role("region", name="Records that raised it")
    raised.locator("tbody tr").first.get_by_role("link").first.click()
    main = window.locator("main")
    expect(main).to_contain_text("Eicar-Test")
    records = main.get_by_role("region", name="Records of this connection")
    requests = records.locator("tbody tr", has_text="request").get_by_role("link")
    reload_until(window, requests, "the request is not shown")
    expect(records).to_contain_text(HOST)
    keep(window, "incident-object")


def request_is_explained_rule_by_rule(_gate: WebConsoleGate, window: Page) -> None:
    records = window.get_by_role("region", name="Records of this connection")
    request = records.locator("tbody tr", has_text="request")
    request.get_by_role("link").first.click()
    expect(window.locator(".tree .decided")).to_contain_text("web")
    keep(window, "incident-explained")


def overview_leads_to_what_else_the_host_sent(_gate: WebConsoleGate, window: Page) -> None:
    window.goto("/")
    window.get_by_role("link", name=HOST).click()
    expect(window.get_by_role("textbox", name="Query")).to_have_value(f'host:"{HOST}"')
    expect(window.locator("table.records")).to_contain_text("report.txt")
    keep(window, "incident-host")


def rule_is_written_before_the_one_that_let_it_pass(_gate: WebConsoleGate, window: Page) -> None:
    window.goto("/policy")
    window.get_by_role("link", name="Edit").click()
    text = window.locator("textarea.code")
    text.fill(f"{RULE}\n{text.input_value()}")
    keep(window, "incident-edit")
    window.get_by_role("button", name="Check and compare").click()
    expect(window.locator("table.diff tr.plus").first).to_contain_text("inc-4711")


def rule_is_tried_on_what_the_log_has(_gate: WebConsoleGate, window: Page) -> None:
    window.get_by_role("button", name="Try it on them").click()
    trial = window.locator("#trial")
    expect(trial).to_contain_text("Allowed then, refused by this policy", timeout=60_000)
    expect(trial).to_contain_text(HOST)
    expect(trial).not_to_contain_text("web.names.test")
    keep(window, "incident-trial")


def rule_is_put_in_force_with_its_reason(_gate: WebConsoleGate, window: Page) -> None:
    window.get_by_label("Why, for the history").fill("INC-4711: malware in downloads")
    window.wait_for_load_state()
    if window.get_by_label("Your password").count():
        window.get_by_label("Your password").fill(PASSWORD)
    window.get_by_role("button", name="Put in force").click()
    expect(window.get_by_role("status")).to_contain_text("is in force")
    expect(window.locator("tbody tr").first).to_contain_text("INC-4711")
    keep(window, "incident-history")


def rule_refuses_the_host_and_nothing_else(gate: WebConsoleGate, window: Page) -> None:
    assert gate.download("report.txt", HOST) == 403
    assert gate.download("report.txt") == 200
    search(window, "kind:request rule:inc-4711")
    open_first(window)
    expect(window.locator(".tree .decided")).to_contain_text("inc-4711")
    expect(window.locator(".head .badge").first).to_contain_text("denied")
    keep(window, "incident-refused")


def alert_is_acknowledged(_gate: WebConsoleGate, window: Page) -> None:
    window.goto("/alerts")
    row = window.get_by_role("region", name="Open alerts").locator("tr", has_text="malware-found")
    row.get_by_role("checkbox").check()
    window.get_by_role("button", name="Acknowledge the chosen").click()
    expect(window.get_by_role("status")).to_contain_text("Acknowledged")
    closed = window.get_by_role("region", name="Alerts that need nobody")
    expect(closed.locator("tr", has_text="malware-found")).to_contain_text("administrator")
    keep(window, "incident-acknowledged")


def policy_is_rolled_back_when_all_is_well(gate: WebConsoleGate, window: Page) -> None:
    window.goto("/policy/history")
    window.locator("tbody tr").nth(1).get_by_role("link").click()
    expect(window.locator("table.diff tr.minus").first).to_contain_text("inc-4711")
    keep(window, "incident-roll-back")
    window.get_by_role("button", name="in force again").click()
    expect(window.get_by_role("status")).to_contain_text("is in force")
    assert gate.download("report.txt", HOST) == 200


STEPS: tuple[Callable[[WebConsoleGate, Page], None], ...] = (
    alert_names_what_was_found_and_where,
    object_is_one_of_the_records_that_raised_it,
    request_is_explained_rule_by_rule,
    overview_leads_to_what_else_the_host_sent,
    rule_is_written_before_the_one_that_let_it_pass,
    rule_is_tried_on_what_the_log_has,
    rule_is_put_in_force_with_its_reason,
    rule_refuses_the_host_and_nothing_else,
    alert_is_acknowledged,
    policy_is_rolled_back_when_all_is_well,
)


def test_each_step_of_the_guide_leads_to_the_next(gate: WebConsoleGate, window: Page) -> None:
    for _, name in PICTURES:
        (SCREENSHOTS / f"{name}.png").unlink(missing_ok=True)
    for step in STEPS:
        step(gate, window)
    heads = [(SCREENSHOTS / f"{name}.png").read_bytes()[:24] for _, name in PICTURES]
    assert {head[:8] for head in heads} == {b"\x89PNG\r\n\x1a\n"}
    assert {int.from_bytes(head[16:20]) for head in heads} == {WIDTH}
