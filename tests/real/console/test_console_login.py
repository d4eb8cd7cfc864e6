"""Logging in to the console in a real browser: the first link, users, and giving the password."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.real.console.console_kit import (
    PASSWORD,
    ConsoleGate,
    keep_screenshot,
    log_in,
    open_page,
)

pytestmark = [pytest.mark.real, pytest.mark.either_driver]


@pytest.mark.shows("GET /first", "POST /first", "GET /first/user", "POST /first/user")
def test_first_link_lets_in_once_and_leads_to_a_user_who_logs_in(
    browser: Browser, bare_gate: ConsoleGate
) -> None:
    link = bare_gate.first_link()
    page = open_page(browser, bare_gate)
    page.goto(link)
    page.goto(link)  # to look at it spends nothing
    keep_screenshot(page, "first-link")
    page.get_by_role("button", name="Open the console").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    page.get_by_role("link", name="Make yourself a user").click()
    page.get_by_label("Name").fill("ann")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_label("The same again").fill(PASSWORD)
    keep_screenshot(page, "first-user")
    page.get_by_role("button", name="Make this user").click()
    expect(page.locator("header .who summary")).to_contain_text("ann")
    keep_screenshot(page, "first-user-made")
    page.context.close()
    other = open_page(browser, bare_gate)
    other.goto(link)
    expect(other.get_by_role("heading")).to_have_text("This link is spent")
    log_in(other, "ann")
    expect(other.get_by_role("heading", name="Overview")).to_be_visible()
    other.context.close()


@pytest.mark.shows("GET /login", "POST /logout")
def test_user_logs_in_is_led_on_and_logs_out(page: Page, gate: ConsoleGate) -> None:
    page.goto("/confirm?next=/")
    keep_screenshot(page, "login")
    page.get_by_label("Name").fill("viewer")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url(f"{gate.origin}/confirm?next=/")
    page.locator("header .who summary").click()
    page.get_by_role("button", name="Log out").click()
    expect(page).to_have_url(f"{gate.origin}/login")
    keep_screenshot(page, "logged-out")
    page.goto("/")
    expect(page).to_have_url(f"{gate.origin}/login?next=/")


def test_session_is_a_secure_cookie_that_scripts_cannot_read(viewer: Page) -> None:
    (cookie,) = viewer.context.cookies()
    assert (cookie["name"], cookie["path"]) == ("__Host-sluicegate", "/")
    assert cookie["secure"]
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"
    assert viewer.evaluate("document.cookie") == ""


@pytest.mark.shows("POST /login", "GET /confirm", "POST /confirm")
def test_pages_that_keep_people_out_say_why(browser: Browser, gate: ConsoleGate) -> None:
    page = open_page(browser, gate)
    page.goto("/login")
    page.get_by_label("Name").fill("viewer")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_have_text("Wrong name or password.")
    keep_screenshot(page, "login-refused")
    log_in(page, "viewer")
    page.goto("/confirm?next=/about")
    keep_screenshot(page, "confirm")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_label("Password").press("Enter")
    expect(page).to_have_url(f"{gate.origin}/about")
    keep_screenshot(page, "confirmed")
    page.goto("/policy/edit")
    expect(page.get_by_text("this needs the role administrator")).to_be_visible()
    keep_screenshot(page, "refused")
    page.goto("/no-such-page")
    expect(page.get_by_role("heading")).to_have_text("There is no such page")
    keep_screenshot(page, "no-such-page")
    page.context.close()


def test_who_came_by_the_first_link_changes_no_policy_before_there_is_a_user(
    browser: Browser, bare_gate: ConsoleGate
) -> None:
    before = (bare_gate.folder / "policy.toml").read_text()
    page = open_page(browser, bare_gate)
    page.goto(bare_gate.first_link())
    page.get_by_role("button", name="Open the console").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    page.goto("/policy/edit")
    page.locator("textarea.code").fill("# mine\n" + before)
    page.get_by_role("button", name="Check and compare").click()
    page.get_by_role("button", name="Put in force").click()
    expect(page.get_by_text("Make yourself a user first")).to_be_visible()
    page.context.close()
    assert (bare_gate.folder / "policy.toml").read_text() == before
