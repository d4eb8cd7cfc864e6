"""The console against browsers and programs that mean no good: hostile.md, group Q."""

from __future__ import annotations

import pathlib
import re
import socket
import ssl
import threading

import httpx
import pytest
from cryptography import x509
from playwright.sync_api import Browser, expect

from sluicegate.console.entries import ENTRIES
from sluicegate.console.guard import SECURITY_HEADERS
from sluicegate.console.roles import Role
from sluicegate.console_limits import LOGIN_BURST, REQUEST_BURST
from sluicegate.identity import hash_password
from tests.kernel.test_gate_process import EchoServer, echoed
from tests.pki import authority
from tests.real.console.conftest import run_gate
from tests.real.console.console_kit import (
    CHEAP,
    PASSWORD,
    ConsoleGate,
    csrf_of,
    log_in,
    open_page,
)
from tests.waiting import wait_until

pytestmark = [pytest.mark.real, pytest.mark.either_driver]


# -- headers -----------------------------------------------------------------------------------

ANSWERS = ["/login", "/", "/no-such-page", "/first?token=x", "/static/no-such-file"]


@pytest.mark.parametrize("path", ANSWERS)
def test_every_answer_carries_the_headers(gate: ConsoleGate, path: str) -> None:
    answer = gate.program().get(path)
    assert {name: answer.headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS
    assert "server" not in answer.headers
    assert "unsafe" not in answer.headers["content-security-policy"]


def test_pages_are_kept_by_nobody_and_files_for_good(gate: ConsoleGate) -> None:
    program = gate.program()
    page = program.get("/login")
    assert page.headers["cache-control"] == "no-store"
    (path,) = re.findall(r'href="(/static/console\.[^"]+\.css)"', page.text)
    assert "immutable" in program.get(path).headers["cache-control"]


def test_no_page_has_inline_script_or_style(gate: ConsoleGate) -> None:
    program = gate.logged_in("administrator")
    for entry in ENTRIES:
        if entry.method == "GET" and not entry.is_live:
            text = program.get(entry.path).text
            assert not re.search(
                r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=|javascript:", text
            )


# -- other sites -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1", "evil.example:{port}", "[::1]:{port}"]
)
def test_rebound_name_reaches_nothing(gate: ConsoleGate, host: str) -> None:
    port = gate.origin.rpartition(":")[2]
    answer = gate.logged_in("viewer").get("/", headers={"host": host.format(port=port)})
    assert answer.status_code == 421
    assert "Overview" not in answer.text


def test_two_hosts_and_none_are_refused(gate: ConsoleGate) -> None:
    host, port = gate.origin.removeprefix("http://").split(":")
    for heads in ("", f"Host: {host}:{port}\r\nHost: evil.example\r\n"):
        with socket.create_connection((host, int(port))) as raw:
            raw.sendall(f"GET /login HTTP/1.1\r\n{heads}Connection: close\r\n\r\n".encode())
            assert re.match(rb"HTTP/1.1 4\d\d ", raw.makefile("rb").readline())


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "", "http://localhost", "http://127.0.0.1:1"]
)
def test_form_of_another_site_does_nothing(gate: ConsoleGate, origin: str) -> None:
    program = gate.logged_in("administrator")
    csrf = csrf_of(program.get("/").text)
    answer = program.post("/logout", data={"csrf": csrf}, headers={"origin": origin})
    assert answer.status_code == 403
    assert program.get("/").status_code == 200, "it is logged in still"


@pytest.mark.parametrize("csrf", ["", "x", "other"])
def test_form_without_the_session_s_own_token_does_nothing(gate: ConsoleGate, csrf: str) -> None:
    program = gate.logged_in("operator")
    if csrf == "other":
        csrf = csrf_of(gate.logged_in("operator").get("/").text)
    answer = program.post("/logout", data={"csrf": csrf})
    assert answer.status_code == 403
    assert program.get("/").status_code == 200, "it is logged in still"


def test_what_changes_something_cannot_be_asked_by_a_link(gate: ConsoleGate) -> None:
    program = gate.logged_in("administrator")
    for entry in ENTRIES:
        gets = [one for one in ENTRIES if (one.path, one.method) == (entry.path, "GET")]
        if entry.method != "GET" and not gets:
            # 404: it reads as the name of something, of which there is none.
            assert program.get(entry.path).status_code in {404, 405}, entry.path


def test_page_of_another_site_cannot_post_in_a_browser(browser: Browser, gate: ConsoleGate) -> None:
    page = open_page(browser, gate)
    log_in(page, "operator")
    page.route("http://evil.example/**", lambda route: route.fulfill(
        content_type="text/html",
        body=f'<form method="post" action="{gate.origin}/logout"><button>win</button></form>',
    ))  # fmt: skip
    page.goto("http://evil.example/")
    page.get_by_role("button").click()
    expect(page.get_by_text("This was sent from another site.")).to_be_visible()
    page.goto(f"{gate.origin}/")
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    page.context.close()


# -- sizes and rates ---------------------------------------------------------------------------


def test_too_long_a_body_is_refused_with_and_without_a_length(gate: ConsoleGate) -> None:
    program = gate.program()
    assert program.post("/login", content=b"a" * (3 << 20)).status_code == 413
    chunks = (b"a" * 65536 for _ in range(64))
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert program.post("/login", content=chunks, headers=form).status_code == 413


@pytest.mark.parametrize("content", [b"\xff=\xfe", b"{}", b"a=1&" * 1000])
def test_form_that_is_none_is_refused(gate: ConsoleGate, content: bytes) -> None:
    kind = "application/json" if content == b"{}" else "application/x-www-form-urlencoded"
    answer = gate.program().post("/login", content=content, headers={"content-type": kind})
    assert answer.status_code == 400


def test_passwords_are_tried_slowly_by_address_and_even_the_right_one_waits(
    own_gate: ConsoleGate,
) -> None:
    program = own_gate.program()
    wrong = {"name": "administrator", "password": "wrong"}
    codes: list[int] = []
    while 429 not in codes:  # slowly is one more every ten seconds
        assert len(codes) < 10 * LOGIN_BURST
        codes.append(program.post("/login", data=wrong).status_code)
    assert codes[:LOGIN_BURST] == [403] * LOGIN_BURST
    right = program.post("/login", data={"name": "administrator", "password": PASSWORD})
    assert right.status_code == 429
    tried = own_gate.recorded(
        "operator", lambda one: one["action"] == "login", len([*codes, right])
    )
    assert {one["result"] for one in tried} == {"refused"}
    assert not [one for one in tried if "wrong" in str(one.get("facts", ""))]


def test_wrong_name_and_wrong_password_look_alike(own_gate: ConsoleGate) -> None:
    program = own_gate.program()
    texts = {
        re.sub(r'value="(administrator|nobody)"', "", answer.text)
        for name in ("administrator", "nobody")
        if (answer := program.post("/login", data={"name": name, "password": "x"})).status_code
        == 403
    }
    assert len(texts) == 1


def test_requests_are_bounded_by_address(own_gate: ConsoleGate) -> None:
    program = own_gate.program()
    codes = [program.get("/static/x").status_code for _ in range(REQUEST_BURST)]
    assert codes == [404] * REQUEST_BURST
    with own_gate.flooded():
        wait_until(lambda: program.get("/static/x").status_code == 429, "requests are not bounded")


# -- rights ------------------------------------------------------------------------------------

EXPECTED = {
    (entry.method, entry.path, role): entry.role is None or role >= entry.role
    for entry in ENTRIES
    for role in Role
    if not entry.is_live and entry.path not in {"/logout", "/login", "/confirm", "/first"}
    and not entry.path.startswith("/first/")
}  # fmt: skip


def test_each_role_may_what_its_row_says_and_nothing_more(gate: ConsoleGate) -> None:
    programs = {role: gate.logged_in(str(role)) for role in Role}
    tokens = {role: csrf_of(program.get("/").text) for role, program in programs.items()}
    waiting = threading.Event()
    wrong: list[str] = []
    for (method, path, role), may in EXPECTED.items():
        program, headers = programs[role], {"x-csrf-token": tokens[role]}
        answer = program.request(method, path, headers=headers)
        while answer.status_code == 429:
            waiting.wait(0.5)
            answer = program.request(method, path, headers=headers)
        needs_role = answer.status_code == 403 and "needs the role" in answer.text
        if needs_role is may:
            wrong.append(f"{method} {path} {role}: {answer.status_code}")
    assert wrong == []


def test_nobody_sees_anything_without_logging_in(gate: ConsoleGate) -> None:
    program = gate.program()
    waiting = threading.Event()
    for entry in ENTRIES:
        if entry.role is None:
            continue
        answer = program.request(entry.method, entry.path)
        while answer.status_code == 429:
            waiting.wait(0.5)
            answer = program.request(entry.method, entry.path)
        assert answer.status_code in {303, 401}, entry.path


def test_user_who_is_removed_or_loses_the_role_is_out_at_once(own_gate: ConsoleGate) -> None:
    program = own_gate.logged_in("operator")
    assert program.get("/status").status_code == 200
    own_gate.add_user("operator", Role.VIEWER)
    assert program.get("/status").status_code == 303


def test_another_password_ends_the_sessions_of_the_one_before(own_gate: ConsoleGate) -> None:
    stolen, others = own_gate.logged_in("operator"), own_gate.logged_in("viewer")
    own_gate.hashed = hash_password(b"another horse battery", CHEAP)
    own_gate.add_user("operator", Role.OPERATOR)
    assert stolen.get("/status").status_code == 303
    assert others.get("/status").status_code == 200


# -- through the gate --------------------------------------------------------------------------


def test_console_is_not_reached_through_the_gate(tmp_path_factory: pytest.TempPathFactory) -> None:
    running = run_gate(tmp_path_factory.mktemp("console"), has_users=True, has_proxy=True)
    gate = next(running)
    proxy = next(one["address"] for one in gate.status()["listeners"] if one["name"] == "proxy")
    port = gate.origin.rpartition(":")[2]
    with httpx.Client(proxy=f"http://{proxy}", timeout=60) as program:
        for host in ("127.0.0.1", "localhost"):
            answer = program.get(f"http://{host}:{port}/login")
            assert answer.status_code in {403, 502}, answer.text
            assert "Log in" not in answer.text
    assert {one["verdict"] for one in gate.recorded("request", count=2)} == {"denied"}
    running.close()


# -- tls ---------------------------------------------------------------------------------------


def test_console_speaks_tls_with_a_certificate(tmp_path: pathlib.Path) -> None:
    trusted = authority()
    trusted.issue([], [x509.DNSName("localhost")]).write(tmp_path, "console")
    (tmp_path / "ca.pem").write_text(trusted.pem)
    server = EchoServer()
    made = ConsoleGate(tmp_path, server.port)
    made.write_main('hosts = ["localhost"]\ncertificate = "console.pem"\nkey = "console.key"\n')
    made.add_users()
    try:
        made.start()
        assert made.origin.startswith("https://localhost:")
        context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        with httpx.Client(verify=context, base_url=made.origin, timeout=60) as program:
            answer = program.get("/login")
        assert answer.status_code == 200
        assert answer.headers["strict-transport-security"].startswith("max-age=")
        with pytest.raises(httpx.HTTPError):
            httpx.get(made.origin.replace("https", "http") + "/login", timeout=60)
    finally:
        made.close()
        server.close()


def test_gate_in_one_process_has_a_console_too(tmp_path: pathlib.Path) -> None:
    class Inline(ConsoleGate):
        mode = ("--inline",)

    server = EchoServer()
    made = Inline(tmp_path, server.port)
    made.add_users()
    try:
        made.start()
        with made.connect() as client:
            assert echoed(client, b"hello") == b"hello"
            program = made.logged_in("operator")
            assert "127.0.0.1" in program.get("/connections").text
        assert made.end() == 0
        assert "Traceback" not in "".join(made.lines)
    finally:
        made.close()
        server.close()
