"""The certificate authority and held objects in the console of a gate that opens TLS."""

from __future__ import annotations

import pathlib
import subprocess
from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from playwright.sync_api import Browser, Page, expect

from tests.kernel.test_gate_process import SLUICEGATE
from tests.real.console.conftest import run_gate
from tests.real.console.console_kit import PASSWORD, ConsoleGate, keep_screenshot, log_in, open_page

pytestmark = [pytest.mark.real, pytest.mark.either_driver]


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleGate]:
    """A gate with an authority, which may certify one domain only."""

    def make_authority(made: ConsoleGate) -> None:
        init = [*SLUICEGATE, "ca", "init", "-c", str(made.config), "--permit", "example.org"]
        subprocess.run(init, check=True, capture_output=True)

    yield from run_gate(tmp_path_factory.mktemp("authority"), more="[ca]\n", prepare=make_authority)


def certificate_of(gate: ConsoleGate) -> x509.Certificate:
    path = gate.folder / "own.pem"
    export = [*SLUICEGATE, "ca", "export", "-c", str(gate.config), "-o", str(path)]
    subprocess.run(export, check=True, capture_output=True)
    return x509.load_pem_x509_certificate(path.read_bytes())


def watched(browser: Browser, gate: ConsoleGate, name: str) -> Page:
    page = open_page(browser, gate, bypass_csp=True)
    log_in(page, name)
    page.goto("/authority")
    return page


def test_certificate_is_shown_with_what_people_compare(browser: Browser, gate: ConsoleGate) -> None:
    page = watched(browser, gate, "viewer")
    sha256 = certificate_of(gate).fingerprint(hashes.SHA256()).hex(":").upper()
    expect(page.locator("main")).to_contain_text(sha256)
    expect(page.locator("main")).to_contain_text("only example.org")
    page.get_by_text("Debian, Ubuntu").click()
    expect(page.get_by_text("update-ca-certificates").first).to_be_visible()
    expect(page.get_by_role("button", name="PEM")).to_have_count(0)
    assert Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"] == []
    keep_screenshot(page, "authority-hints")
    page.context.close()


@pytest.mark.shows("POST /authority/export")
@pytest.mark.parametrize("form", ["PEM", "DER"])
def test_certificate_is_exported_once_the_password_was_given_and_that_is_recorded(
    browser: Browser, gate: ConsoleGate, tmp_path: pathlib.Path, form: str
) -> None:
    page = watched(browser, gate, "administrator")
    with page.expect_download() as download:
        page.get_by_role("button", name=form).click()
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    keep_screenshot(page, f"authority-exported-{form.lower()}")
    load = x509.load_pem_x509_certificate if form == "PEM" else x509.load_der_x509_certificate
    assert load(path.read_bytes()) == certificate_of(gate)
    assert b"PRIVATE" not in path.read_bytes()
    page.context.close()
    export = gate.operated("ca-export", "administrator", path.name)
    assert export["subjects"] == [path.name]


@pytest.mark.parametrize("name", ["viewer", "operator"])
def test_only_administrators_export_it(gate: ConsoleGate, name: str) -> None:
    client = gate.logged_in(name)
    token = client.get("/authority").text.partition('name="csrf" value="')[2].partition('"')[0]
    answer = client.post("/authority/export", data={"csrf": token, "form": "pem"})
    client.close()
    assert answer.status_code == 403
    assert "CERTIFICATE" not in answer.text


def test_key_is_on_no_page(gate: ConsoleGate) -> None:
    client = gate.logged_in("administrator")
    pages = [client.get(path).text for path in ("/authority", "/status", "/about")]
    client.close()
    assert PASSWORD not in "".join(pages)
    assert "PRIVATE KEY" not in "".join(pages)
