"""One Chromium for all tests of the console, and a gate with users for each file of them."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.kernel.test_gate_process import EchoServer
from tests.real.console.console_kit import (
    CHROMIUM,
    FLAGS,
    PATIENCE_MS,
    SHOWN,
    ConsoleGate,
    Faults,
    log_in,
    open_page,
)


@pytest.fixture(autouse=True)
def shown(request: pytest.FixtureRequest) -> Iterator[None]:
    """Hold a test to what it says that its pictures show."""
    SHOWN.begin()
    failed = request.session.testsfailed
    yield
    claimed = {entry for mark in request.node.iter_markers("shows") for entry in mark.args}
    if request.session.testsfailed == failed:
        assert claimed <= SHOWN.entries, "there is no picture of it"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real browser: the system's, for none is downloaded."""
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleGate]:
    """A gate with a console and a user of each role, for a file of tests."""
    yield from run_gate(tmp_path_factory.mktemp("console"))


@pytest.fixture
def bare_gate(tmp_path: pathlib.Path) -> Iterator[ConsoleGate]:
    """A gate of the test's own whose console has no users."""
    yield from run_gate(tmp_path, has_users=False)


@pytest.fixture
def own_gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleGate]:
    """A gate of the test's own, for what would hold up other tests."""
    yield from run_gate(tmp_path_factory.mktemp("console"))


@pytest.fixture
def restored(gate: ConsoleGate) -> Iterator[str]:
    """Give the gate back the policy that it had."""
    policy = gate.folder / "policy.toml"
    before = policy.read_text()
    yield before
    if policy.read_text() != before:
        policy.write_text(before)
        assert gate.ask("reload").returncode == 0


def run_gate(
    folder: pathlib.Path,
    *,
    has_users: bool = True,
    has_proxy: bool = False,
    more: str = "",
    prepare: Callable[[ConsoleGate], None] | None = None,
) -> Iterator[ConsoleGate]:
    """Run a gate with a console, and see that nothing in it fails.

    Args:
        folder: Its own.
        has_users: Whether the console has a user of each role.
        has_proxy: Whether the gate has a proxy that leads everywhere on this machine.
        more: Of its configuration.
        prepare: What is to be done before it starts.
    """
    server = EchoServer()
    made = ConsoleGate(folder, server.port)
    if more:
        made.write_main(more)
    if prepare is not None:
        prepare(made)
    if has_proxy:
        made.add_proxy()
    if has_users:
        made.add_users()
    made.start()
    try:
        yield made
    finally:
        made.close()
        server.close()
    assert "Traceback" not in "".join(made.lines)


@pytest.fixture
def page(browser: Browser, gate: ConsoleGate) -> Iterator[Page]:
    """A window in which nobody is logged in; what its pages complain about fails the test."""
    yield from watched(open_page(browser, gate))


@pytest.fixture
def viewer(page: Page) -> Page:
    log_in(page, "viewer")
    return page


@pytest.fixture
def operator(page: Page) -> Page:
    log_in(page, "operator")
    return page


@pytest.fixture
def administrator(page: Page) -> Page:
    log_in(page, "administrator")
    return page


def watched(page: Page) -> Iterator[Page]:
    faults = Faults(page.context)
    yield page
    page.context.close()
    assert faults.lines == []
