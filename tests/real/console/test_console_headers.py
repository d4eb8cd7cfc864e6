"""The headers of all that the console answers, as scanners of web applications look at them.

Every entry is asked, by nobody and by an administrator; so is what is no entry, and each error.
"""

from __future__ import annotations

import re
import threading

import httpx
import pytest

from sluicegate.console.entries import ENTRIES
from sluicegate.console.guard import SECURITY_HEADERS
from tests.real.console.console_kit import ConsoleGate
from tests.waiting import wait_until

pytestmark = [pytest.mark.real, pytest.mark.either_driver]

PATHS = sorted({one.path.replace("{number}", "1").replace("{version}", "1") for one in ENTRIES})
SUBJECT = "{subject}"

LEAKS = {"server", "x-powered-by", "x-aspnet-version", "via", "x-runtime", "x-generator"}
"""What would say with which programs it was made."""

COOKIE = re.compile(r"__Host-[a-z-]+=[^;]*; .*", re.ASCII)


def ask(program: httpx.Client, method: str, path: str, **more: object) -> httpx.Response:
    """Ask for the head of an answer; once more, when it came too fast."""
    waiting = threading.Event()
    for _ in range(60):
        with program.stream(method, path, **more) as answer:  # type: ignore[arg-type]
            if answer.status_code != 429:
                return answer
        waiting.wait(0.5)
    raise AssertionError(f"{path} is never answered")


def assert_safe(answer: httpx.Response) -> None:
    headers = answer.headers
    where = f"{answer.request.method} {answer.request.url.path} {answer.status_code}"
    assert {name: headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS, where
    assert not LEAKS & set(headers), where
    assert "access-control-allow-origin" not in headers, where
    assert headers.get_list("cache-control") in (
        ["no-store"],
        ["public, max-age=31536000, immutable"],
    ), where
    if "text/" in headers.get("content-type", ""):
        assert "charset=utf-8" in headers["content-type"], where
    for cookie in headers.get_list("set-cookie"):
        assert COOKIE.fullmatch(cookie), where
        flags = {flag.strip().lower().partition("=")[0] for flag in cookie.split(";")[1:]}
        assert {"secure", "httponly", "samesite", "path"} <= flags, where
        assert "domain" not in flags, where


@pytest.mark.parametrize("name", ["", "administrator"])
def test_every_entry_answers_with_all_headers(gate: ConsoleGate, name: str) -> None:
    program = gate.logged_in(name) if name else gate.program()
    for path in PATHS:
        if path != "/logout":
            assert_safe(ask(program, "GET", path.replace(SUBJECT, "client")))
    assert len(PATHS) > 50


@pytest.mark.parametrize(
    ("method", "path", "more", "status"),
    [
        ("GET", "/no-such-page", {}, 404),
        ("GET", "/static/no-such-file", {}, 404),
        ("GET", "/static/..%2f..%2fetc%2fpasswd", {}, 404),
        ("GET", "/api/v1/no-such-operation", {}, 404),
        ("DELETE", "/policy", {}, 405),
        ("TRACE", "/", {}, 405),
        ("OPTIONS", "/", {}, 405),
        ("DELETE", "/api/v1/policy", {}, 405),
        ("GET", "/", {"headers": {"host": "evil.example"}}, 421),
        ("POST", "/login", {"headers": {"origin": "https://evil.example"}}, 403),
        ("POST", "/login", {"content": b"a" * (3 << 20)}, 413),
        ("POST", "/login", {"content": b"{}"}, 400),
        ("POST", "/login", {"data": {"name": "x", "password": "y"}}, 403),
        ("GET", "/api/v1/status", {}, 401),
        ("GET", "/log?q=verdikt:x", {}, 303),
    ],
    ids=lambda value: str(value)[:30],
)
def test_every_error_answers_with_all_headers(
    gate: ConsoleGate, method: str, path: str, more: dict[str, object], status: int
) -> None:
    answer = ask(gate.program(), method, path, **more)
    assert answer.status_code == status
    assert_safe(answer)


def test_too_many_requests_are_told_so_with_all_headers(own_gate: ConsoleGate) -> None:
    program = own_gate.program()

    def refusal() -> list[httpx.Response]:
        answer = program.get("/static/x")
        return [answer] if answer.status_code == 429 else []

    with own_gate.flooded():
        (refused,) = wait_until(refusal, "nobody is told to ask more slowly")
    assert_safe(refused)
    assert refused.headers["retry-after"] == "2"


def test_policy_of_content_lets_nothing_in_but_our_own_files(gate: ConsoleGate) -> None:
    policy = gate.program().get("/login").headers["content-security-policy"]
    found = {name: values for name, *values in (part.split() for part in policy.split(";"))}
    assert found["default-src"] == ["'none'"]
    assert found["frame-ancestors"] == found["base-uri"] == ["'none'"]
    assert {value for values in found.values() for value in values} == {"'none'", "'self'"}
    assert {"script-src", "style-src", "form-action", "connect-src", "img-src"} <= set(found)


def test_files_say_what_they_are_and_are_kept_for_good(gate: ConsoleGate) -> None:
    program = gate.program()
    kinds = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
    paths = re.findall(r'"(/static/[^"]+)"', program.get("/login").text)
    assert len(set(paths)) >= 4
    for path in paths:
        answer = program.get(path)
        assert_safe(answer)
        assert answer.headers["content-type"].startswith(kinds[path.rpartition(".")[2]])
        assert "immutable" in answer.headers["cache-control"]
