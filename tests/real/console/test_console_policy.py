"""The policy in the console: seen, changed, tried and rolled back by a real browser."""

from __future__ import annotations

from contextlib import closing

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.kernel.test_gate_process import echoed
from tests.real.console.console_kit import (
    PASSWORD,
    ConsoleGate,
    csrf_of,
    keep_screenshot,
    log_in,
    open_page,
)
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.real,
    pytest.mark.either_driver,
    pytest.mark.usefixtures("restored"),
]

SECOND = """
[[publish]]
name = "late"
listener = "echo"
server = "127.0.0.1:1"
clients = ["127.0.0.0/16"]
comment = "never reached: echo has its clients"
"""


@pytest.fixture(scope="module", autouse=True)
def clients(gate: ConsoleGate) -> None:
    """Have decisions in the store."""
    for _ in range(4):
        with gate.connect() as client:
            assert echoed(client, b"hello") == b"hello"
    gate.wait_until_stored("kind:decision", 4)


def edit(page: Page, text: str) -> None:
    page.goto("/policy/edit")
    page.locator("textarea.code").fill(text)
    page.get_by_role("button", name="Check and compare").click()


def save(page: Page, note: str = "") -> None:
    page.get_by_label("Why, for the history").fill(note)
    page.wait_for_load_state()
    if page.get_by_label("Your password").count():
        page.get_by_label("Your password").fill(PASSWORD)
    page.get_by_role("button", name="Put in force").click()


def unconfirmed(browser: Browser, gate: ConsoleGate, name: str) -> Page:
    page = open_page(browser, gate, bypass_csp=True)
    log_in(page, name)
    return page


def assert_accessible(page: Page) -> None:
    # The check is a script of its own, which the pages' policy forbids: these windows let it in.
    found = Axe().run(page, options={"resultTypes": ["violations"]})
    assert found.response["violations"] == []


def test_rules_stand_in_order_with_their_hits(viewer: Page) -> None:
    row = viewer.locator("#rule-echo")

    def has_hits() -> bool:
        viewer.goto("/policy?days=1")
        return row.locator("td.number").nth(1).inner_text().strip() not in {"0", "\u2013"}

    wait_until(has_hits, "its hits are not shown", 0.2)
    row.locator("summary").click()
    expect(row.locator("pre")).to_contain_text('name = "echo"')
    expect(viewer.get_by_role("link", name="Edit")).to_have_count(0)


@pytest.mark.shows(
    "POST /policy/review",
    "POST /policy/try",
    "POST /policy/save",
    "GET /policy/history",
    "GET /policy/version",
    "POST /policy/rollback",
)
def test_policy_is_changed_after_check_comparison_and_trial_and_rolled_back(
    browser: Browser, gate: ConsoleGate, restored: str
) -> None:
    page = unconfirmed(browser, gate, "administrator")
    edit(page, restored.replace("127.0.0.0/8", "192.0.2.0/24"))
    expect(page.locator("table.diff tr.plus")).to_contain_text("192.0.2.0/24")
    page.get_by_role("button", name="Try it on them").click()
    expect(page.locator("#trial")).to_contain_text("refused by this policy", timeout=60_000)
    expect(page.locator("#trial")).to_contain_text("127.0.0.1")
    assert_accessible(page)
    keep_screenshot(page, "policy-review")
    save(page, "TICKET-4711")
    expect(page.get_by_role("status")).to_contain_text("is in force")
    expect(page.locator("tbody tr").first).to_contain_text("TICKET-4711")
    assert "192.0.2.0/24" in (gate.folder / "policy.toml").read_text()
    assert_accessible(page)
    keep_screenshot(page, "policy-history")

    page.locator("tbody tr").nth(1).get_by_role("link").click()
    expect(page.locator("table.diff tr.minus")).to_contain_text("192.0.2.0/24")
    assert_accessible(page)
    keep_screenshot(page, "policy-version")
    page.get_by_role("button", name="in force again").click()
    expect(page.get_by_role("status")).to_contain_text("is in force")
    expect(page.locator("tbody tr").filter(has_text="in force")).to_have_count(1)
    keep_screenshot(page, "policy-rolled-back")
    assert (gate.folder / "policy.toml").read_text() == restored
    page.context.close()
    for action in ("policy-change", "policy-roll-back"):
        assert gate.operated(action, "administrator")["origin"] == "console"


@pytest.mark.parametrize("number", ["9" * 30, "²", "-1", "x"])
def test_history_before_a_number_that_is_none_is_the_newest(gate: ConsoleGate, number: str) -> None:
    page = gate.logged_in("viewer").get("/policy/history", params={"before": number})
    assert page.status_code == 200
    assert "in force" in page.text


@pytest.mark.shows("POST /policy/edit")
def test_text_is_edited_further_after_its_comparison(
    browser: Browser, gate: ConsoleGate, restored: str
) -> None:
    page = unconfirmed(browser, gate, "administrator")
    edit(page, "# mine\n" + restored)
    page.get_by_role("button", name="Go on editing").click()
    expect(page.locator("textarea.code")).to_have_value("# mine\n" + restored)
    keep_screenshot(page, "policy-edited-further")
    page.context.close()
    assert (gate.folder / "policy.toml").read_text() == restored


def test_wrong_policy_comes_back_into_the_editor_with_its_errors(
    browser: Browser, gate: ConsoleGate, restored: str
) -> None:
    page = unconfirmed(browser, gate, "administrator")
    edit(page, restored.replace("server =", "sever ="))
    expect(page.get_by_role("alert")).to_contain_text("sever")
    expect(page.locator("textarea.code")).to_have_value(restored.replace("server =", "sever ="))
    assert_accessible(page)
    keep_screenshot(page, "policy-errors")
    page.context.close()
    assert (gate.folder / "policy.toml").read_text() == restored


def test_rule_that_never_decides_is_warned_of_before_and_shown_afterwards(
    browser: Browser, gate: ConsoleGate, restored: str
) -> None:
    page = unconfirmed(browser, gate, "administrator")
    edit(page, restored + SECOND)
    expect(page.locator("ul.findings.warn")).to_contain_text("never matches")
    save(page)
    expect(page.get_by_role("status")).to_contain_text("is in force")
    page.goto("/policy")
    expect(page.locator("#rule-late")).to_contain_text("never decides")
    assert_accessible(page)
    keep_screenshot(page, "policy-never-decides")
    page.context.close()


def test_nothing_is_put_in_force_for_somebody_who_is_not_logged_in(
    gate: ConsoleGate, restored: str
) -> None:
    text = "# mine\n" + restored
    with closing(gate.logged_in("administrator")) as client:
        form = {"csrf": csrf_of(client.get("/policy/edit").text), "file": "policy.toml"}
        shown = client.post("/policy/review", data=form | {"text": text})
        assert shown.status_code == 200
    with closing(gate.program()) as client:
        answer = client.post("/policy/save", data=form | {"text": text})
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/login")
    assert (gate.folder / "policy.toml").read_text() == restored


@pytest.mark.parametrize(
    "path", ["/policy/review", "/policy/save", "/policy/rollback", "/policy/try"]
)
@pytest.mark.parametrize("name", ["viewer", "operator"])
def test_only_administrators_change_the_policy(gate: ConsoleGate, name: str, path: str) -> None:
    with closing(gate.logged_in(name)) as client:
        token = csrf_of(client.get("/policy").text)
        answer = client.post(
            path, data={"csrf": token, "file": "policy.toml", "text": "", "n": "1"}
        )
        assert answer.status_code == 403
        assert client.get("/policy/edit").status_code == 403


def test_change_that_was_made_from_something_else_is_refused(
    gate: ConsoleGate, restored: str
) -> None:
    with closing(gate.logged_in("administrator")) as client:
        token = csrf_of(client.get("/policy/edit").text)
        form = {"csrf": token, "file": "policy.toml", "base": "0" * 64, "password": PASSWORD}
        answer = client.post("/policy/save", data=form | {"text": "# mine\n" + restored})
        assert answer.status_code == 409
        assert "meanwhile" in answer.text
    assert (gate.folder / "policy.toml").read_text() == restored


@pytest.mark.shows("GET /policy/edit")
@pytest.mark.parametrize("width", [360, 1280])
def test_policy_pages_fit_and_look_right(
    browser: Browser, gate: ConsoleGate, restored: str, width: int
) -> None:
    page = open_page(browser, gate, viewport={"width": width, "height": 800})
    log_in(page, "administrator")
    for path in ("/policy", "/policy/edit", "/policy/history", "/policy/version?n=1"):
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        keep_screenshot(page, f"{path.strip('/').replace('/', '-').partition('?')[0]}-{width}")
    page.context.close()
