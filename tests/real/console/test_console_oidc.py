"""Logging in to the console at a real provider: who is let in, as what, and who is not."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.ports import free_port
from tests.real.console.conftest import run_gate
from tests.real.console.console_kit import ConsoleGate, keep_screenshot, open_page
from tests.waiting import wait_until

pytestmark = [pytest.mark.real, pytest.mark.either_driver]


USERS = {
    "ann": ["gate-admins"], "bob": ["helpdesk"], "eve": ["strangers"], "zoe": [],
}  # fmt: skip


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    """A provider in a process of its own."""
    port = free_port()
    users = [
        json.dumps({"sub": name, "preferred_username": name, "groups": groups})
        for name, groups in USERS.items()
    ]
    claims = [part for user in users for part in ("--user-claims", user)]
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "--port", str(port), *claims],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip

    def issuer() -> str:
        assert process.poll() is None, "the provider has ended"
        about = f"http://127.0.0.1:{port}/.well-known/openid-configuration"
        try:
            with urllib.request.urlopen(about) as answer:
                return str(json.load(answer)["issuer"]).rstrip("/")
        except OSError:
            return ""

    try:
        yield wait_until(issuer, "the provider does not begin")
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory, provider: str) -> Iterator[ConsoleGate]:
    table = (
        f'[console.oidc]\nissuer = "{provider}"\nclient_id = "gate"\n'
        'client_secret_file = "secret"\n'
        'administrators = ["gate-admins"]\noperators = ["helpdesk"]\n'
    )

    def keep_secret(made: ConsoleGate) -> None:
        secret = made.folder / "secret"
        secret.write_text("a secret of ours\n")
        secret.chmod(0o600)

    yield from run_gate(tmp_path_factory.mktemp("console"), more=table, prepare=keep_secret)


def go_to_provider(page: Page) -> None:
    page.goto("/login?next=/connections")
    page.get_by_role("link", name="Log in at").click()


def authorize(page: Page, name: str) -> None:
    page.locator("input[name=sub]").fill(name)
    page.get_by_role("button", name="Authorize").click()


@pytest.mark.parametrize(("name", "role"), [("ann", "administrator"), ("bob", "operator")])
def test_groups_of_the_provider_give_a_role(
    browser: Browser, gate: ConsoleGate, name: str, role: str
) -> None:
    page = open_page(browser, gate)
    go_to_provider(page)
    authorize(page, name)
    page.wait_for_url(f"{gate.origin}/connections")
    who = page.locator("header .who summary")
    expect(who).to_contain_text(f"oidc:{name}")
    expect(who).to_contain_text(role)
    page.context.close()
    assert gate.operated("login", f"oidc:{name}")["result"] == "done"


@pytest.mark.shows("GET /login/oidc", "GET /login/oidc/return")
@pytest.mark.parametrize("name", ["eve", "zoe"])
def test_who_has_no_role_is_not_let_in(browser: Browser, gate: ConsoleGate, name: str) -> None:
    page = open_page(browser, gate)
    go_to_provider(page)
    authorize(page, name)
    expect(page.get_by_role("alert")).to_contain_text(f"{name} has no role here")
    keep_screenshot(page, "oidc-refused")
    page.goto("/")
    expect(page).to_have_url(f"{gate.origin}/login?next=/")
    page.context.close()


def test_provider_that_refuses_lets_nobody_in(browser: Browser, gate: ConsoleGate) -> None:
    page = open_page(browser, gate)
    go_to_provider(page)
    page.get_by_role("button", name="Deny").click()
    expect(page.get_by_role("alert")).to_contain_text("the provider refuses: access_denied")
    page.context.close()


def test_answer_for_another_browser_lets_nobody_in(browser: Browser, gate: ConsoleGate) -> None:
    """Login CSRF: an attacker's own answer is put before somebody else's browser."""
    attacker = gate.program()
    sent = attacker.get("/login/oidc")
    cookie = sent.headers["set-cookie"].partition(";")[0]
    place = httpx.URL(sent.headers["location"])
    back = httpx.post(str(place), data={"sub": "ann"}, timeout=60).headers["location"]
    victim = gate.program()
    assert victim.get(back).status_code == 403
    other = gate.program().get("/login/oidc").headers["set-cookie"].partition(";")[0]
    assert victim.get(back, headers={"cookie": other}).status_code == 403
    assert attacker.get(back, headers={"cookie": cookie}).status_code == 200
    assert attacker.get(back, headers={"cookie": cookie}).status_code == 403, "it is spent"


def test_question_to_the_provider_has_what_guards_it(gate: ConsoleGate) -> None:
    sent = httpx.URL(gate.program().get("/login/oidc").headers["location"])
    assert sent.params["code_challenge_method"] == "S256"
    assert len(sent.params["code_challenge"]) == 43
    assert sent.params["state"]
    assert sent.params["nonce"]
    assert "a secret of ours" not in str(sent)
