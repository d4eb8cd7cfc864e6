"""The console's pages in a real browser: what they show, and that anybody can use them."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect
from playwright.sync_api import TimeoutError as TakesTooLong

from sluicegate.console.navigation import NAVIGATION, Link
from tests.kernel.test_gate_process import echoed
from tests.real.console.console_kit import (
    PASSWORD,
    ConsoleGate,
    keep_screenshot,
    log_in,
    open_page,
    page_bytes,
)
from tests.waiting import wait_until

pytestmark = [pytest.mark.real, pytest.mark.either_driver]

PAGES = [link.path for group in NAVIGATION for link in group.links]
OTHERS = [
    "/policy/edit", "/policy/history", "/policy/version?n=1", "/log/record?seq=1", "/confirm",
    "/log?q=kind:decision&range=15m&follow=yes", "/log?q=verdikt:denied", "/connections/end?id=c-0",
]  # fmt: skip
"""Pages that others lead to."""

BYTES_MAX = 150_000

SHOWN_PAGES = [pytest.param(path, marks=pytest.mark.shows(f"GET {path}")) for path in PAGES]


@pytest.fixture(scope="module")
def clients(gate: ConsoleGate) -> Iterator[list[socket.socket]]:
    """Connections that stay open, behind some that have ended."""
    for _ in range(5):
        with gate.connect() as client:
            assert echoed(client, b"hello") == b"hello"
    open_ones = [gate.connect() for _ in range(3)]
    for client in open_ones:
        assert echoed(client, b"x" * 5000) == b"x" * 5000
    yield open_ones
    for client in open_ones:
        client.close()


def wait_for_records(page: Page, count: int) -> None:
    """Wait until the log's page has records: they are stored a moment later."""

    def are_shown() -> bool:
        page.goto("/log?range=15m")
        return page.locator("table.records tbody tr td a").count() >= count

    wait_until(are_shown, "records are not shown", 0.2)


@pytest.fixture(scope="module")
def everyone(browser: Browser, gate: ConsoleGate, clients: list[socket.socket]) -> Iterator[Page]:
    """An administrator's window, on a gate that has something to show."""
    page = open_page(browser, gate)
    log_in(page, "administrator")
    wait_for_records(page, 8)
    yield page
    page.context.close()


@pytest.fixture(scope="module")
def windows(browser: Browser, gate: ConsoleGate, everyone: Page) -> Iterator[dict[str, Page]]:
    """The same user's other windows, opened once: light, dark and narrow."""
    shared: dict[str, Any] = {"storage_state": everyone.context.storage_state()}
    # The check is a script of its own, which the pages' policy rightly forbids.
    wide = shared | {"bypass_csp": True, "viewport": {"width": 1280, "height": 800}}
    narrow = shared | {"viewport": {"width": 360, "height": 740}}
    opened = {
        "light": open_page(browser, gate, color_scheme="light", **wide),
        "dark": open_page(browser, gate, color_scheme="dark", **wide),
        "narrow": open_page(browser, gate, **narrow),
    }
    yield opened
    for page in opened.values():
        page.context.close()


@pytest.mark.parametrize("path", SHOWN_PAGES)
def test_page_is_accessible_light_and_dark_and_is_kept_as_a_picture(
    windows: dict[str, Page], path: str
) -> None:
    name = path.strip("/").replace("/", "-") or "overview"
    for scheme in ("light", "dark"):
        page = windows[scheme]
        page.goto(path)
        expect(page.locator("h1")).to_be_visible()
        found = Axe().run(page, options={"resultTypes": ["violations"]})
        keep_screenshot(page, f"{name}-{scheme}")
        assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize("path", PAGES)
def test_page_fits_a_narrow_window(windows: dict[str, Page], path: str) -> None:
    page = windows["narrow"]
    page.goto(path)
    name = path.strip("/").replace("/", "-") or "overview"
    keep_screenshot(page, f"{name}-narrow")
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 360


@pytest.mark.parametrize("path", PAGES + OTHERS)
def test_page_with_all_that_it_loads_is_light(
    browser: Browser, gate: ConsoleGate, everyone: Page, path: str
) -> None:
    page = open_page(browser, gate, storage_state=everyone.context.storage_state())
    sizes = page_bytes(page, path)
    page.context.close()
    assert len(sizes) > 3, "a style and scripts belong to it"
    assert sum(sizes.values()) <= BYTES_MAX, sizes


def focused(page: Page) -> str:
    """Return what the focused element says, which must be seen to have the focus."""
    found: str = page.evaluate(
        "() => { const one = document.activeElement; const style = getComputedStyle(one);"
        " const seen = style.outlineStyle !== 'none' || style.boxShadow !== 'none';"
        " return seen ? (one.innerText || one.value || one.id || one.tagName).trim() : ''; }"
    )
    assert found, "nobody sees what has the focus"
    return found


def tab_to(page: Page, words: str) -> None:
    """Press Tab until something has the focus."""
    for _ in range(80):
        page.keyboard.press("Tab")
        if focused(page) == words:
            return
    raise AssertionError(f"{words} never has the focus")


def go_by_keys(page: Page, key: str, url: str) -> None:
    """Press g and the key of a page, until it is there.

    The second is to come within a second and a half, which a busy machine may be late for.
    """

    def leads() -> bool:
        page.keyboard.press("g")
        page.keyboard.press(key)
        with contextlib.suppress(TakesTooLong):
            page.wait_for_url(url, timeout=10_000)
            return True
        return False

    wait_until(leads, f"g {key} leads nowhere")


def test_policy_is_written_and_checked_without_a_mouse(browser: Browser, gate: ConsoleGate) -> None:
    page = open_page(browser, gate)
    page.goto("/login")
    page.keyboard.type("administrator")
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url("**/")
    page.keyboard.press("Tab")
    assert focused(page) == "Skip to the page"
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    go_by_keys(page, "p", "**/policy")
    tab_to(page, "Edit")
    page.keyboard.press("Enter")
    page.wait_for_url("**/policy/edit")
    page.locator("textarea.code").focus()
    page.keyboard.press("Control+Home")
    page.keyboard.type("# by hand\n")
    tab_to(page, "Check and compare")
    page.keyboard.press("Enter")
    expect(page.locator("table.diff tr.plus")).to_contain_text("# by hand")
    page.context.close()


@pytest.mark.parametrize("link", [link for group in NAVIGATION for link in group.links])
def test_every_page_has_its_key(everyone: Page, gate: ConsoleGate, link: Link) -> None:
    everyone.goto("/about" if link.path != "/about" else "/")
    go_by_keys(everyone, link.key, f"{gate.origin}{link.path}")
    expect(everyone.locator("h1")).to_have_text(link.title)


def test_keys_lead_to_pages_and_to_the_search(everyone: Page, gate: ConsoleGate) -> None:
    everyone.goto("/")
    go_by_keys(everyone, "c", f"{gate.origin}/connections")
    everyone.keyboard.press("/")
    expect(everyone.locator("#filter")).to_be_focused()
    everyone.keyboard.type("no such thing")
    everyone.keyboard.press("Enter")
    expect(everyone.get_by_text("No open connection has these words.")).to_be_visible()


def test_overview_is_updated_live(everyone: Page, gate: ConsoleGate) -> None:
    everyone.goto("/")
    tile = everyone.locator(".tile", has_text="Open connections").locator(".value")
    expect(tile).to_have_text("3")
    line = everyone.locator(".tile", has_text="Open connections").locator("svg path.line")
    before = line.get_attribute("d") or ""  # there is one once there are two samples
    with gate.connect() as client:
        assert echoed(client, b"hello") == b"hello"
        expect(tile).to_have_text("4")
        expect(everyone.locator("[data-live=yes]")).to_be_visible()
        expect(line).not_to_have_attribute("d", before)
    expect(tile).to_have_text("3")


@pytest.mark.shows("GET /connections/end", "POST /connections/end")
def test_connection_is_ended_after_a_second_press(everyone: Page, gate: ConsoleGate) -> None:
    with gate.connect() as client:
        assert echoed(client, b"hello") == b"hello"
        host, port = client.getsockname()[:2]
        mine = f"{host}:{port}"
        everyone.goto(f"/connections?filter={mine}")
        expect(everyone.locator("tbody tr")).to_have_count(1)
        everyone.get_by_role("link", name="End c-").click()
        expect(everyone.get_by_text(mine)).to_be_visible()
        keep_screenshot(everyone, "end-connection")
        everyone.get_by_role("button", name="End the connection").click()
        everyone.wait_for_url("**/connections?ended=*")
        expect(everyone.get_by_role("status")).to_contain_text("Ended: c-")
        keep_screenshot(everyone, "connection-ended")
        with pytest.raises(ConnectionError):
            client.recv(1)
    record = gate.operated("kill")
    assert (record["by"], record["origin"], record["result"]) == (
        "administrator",
        "console",
        "done",
    )


@pytest.mark.shows("GET /log/record", "POST /log/queries", "POST /log/queries/remove")
def test_log_is_searched_saved_and_a_record_explained(everyone: Page, gate: ConsoleGate) -> None:
    everyone.goto("/log")
    everyone.get_by_role("textbox", name="Query").fill("kind:decision verdict:allowed")
    everyone.get_by_role("button", name="Search").click()
    rows = everyone.locator("table.records tbody tr")
    expect(rows.first).to_contain_text("decision")
    everyone.get_by_text("Save this query").click()
    everyone.get_by_label("Title").fill("Allowed")
    everyone.get_by_role("button", name="Save", exact=True).click()
    expect(everyone.get_by_role("link", name="Allowed")).to_be_visible()
    keep_screenshot(everyone, "log-saved-query")
    rows.first.get_by_role("link").click()
    expect(everyone.get_by_role("heading", name="Decision record")).to_be_visible()
    expect(everyone.get_by_text("a publication names the client")).to_be_visible()
    expect(everyone.locator(".tree .decided")).to_contain_text("echo")
    keep_screenshot(everyone, "record")
    everyone.goto("/log")
    everyone.get_by_role("button", name="Remove the saved query Allowed").click()
    expect(everyone.get_by_role("link", name="Allowed")).to_have_count(0)
    keep_screenshot(everyone, "log-query-removed")


def test_wrong_query_is_shown_with_its_place(everyone: Page) -> None:
    everyone.goto("/log?q=verdikt:denied")
    expect(everyone.get_by_role("alert")).to_contain_text("no record has a field 'verdikt'")
    keep_screenshot(everyone, "log-refused")


def test_log_is_followed_live(everyone: Page, gate: ConsoleGate) -> None:
    everyone.goto("/log?q=kind:decision&range=15m&follow=yes")
    with gate.connect() as client:
        host, port = client.getsockname()[:2]
        assert echoed(client, b"hello") == b"hello"
    rows = everyone.locator("table.records tbody tr")
    expect(rows.filter(has_text=f"{host}:{port}")).to_have_count(1)
