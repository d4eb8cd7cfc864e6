"""A gate with a console, users of every role, and a real Chromium that looks at it."""

from __future__ import annotations

import contextlib
import pathlib
import re
import socket
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any, Final

import httpx
from playwright.sync_api import Browser, BrowserContext, Page, Request, Response

from sluicegate.audit.search import parse_query
from sluicegate.audit.store import SqlitePlace, StoreReader
from sluicegate.clock import SystemClock
from sluicegate.console.accounts import users_file
from sluicegate.console.roles import Role
from sluicegate.errors import ConfigError
from sluicegate.identity import HashCost, User, UserFile, hash_password
from tests.kernel.test_gate_process import EchoServer, GateProcess
from tests.ports import free_port
from tests.waiting import wait_until

PASSWORD = "correct horse battery"
PATIENCE_MS: Final = 60_000
"""For what a page is to come to show: a machine may be slow, and a page is fast by other tests."""
_FLOOD: Final = 50
"""Requests on one connection, none of which waits for the answer to the one before."""
CHEAP = HashCost(19456, 1, 1)
SCREENSHOTS = pathlib.Path("build/screenshots")
CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
    "--no-proxy-server",
)  # fmt: skip


class ConsoleGate(GateProcess):
    """A supervisor with one worker, a store of records and a console."""

    mode = ("--workers", "1")

    def __init__(self, folder: pathlib.Path, server_port: int) -> None:
        super().__init__(folder, server_port)
        self.origin = ""
        self.programs: list[httpx.Client] = []
        self.hashed = hash_password(PASSWORD.encode(), CHEAP)

    def write_main(self, more: str = "") -> None:
        super().write_main('[log]\nstore = "sqlite"\n[console]\nlisten = "127.0.0.1:0"\n' + more)

    def add_proxy(self) -> None:
        """Let everybody go everywhere on this machine, by a proxy; the console has its own port."""
        text = self.config.read_text().replace(
            'listen = "127.0.0.1:0"', f'listen = "127.0.0.1:{free_port()}"'
        )
        self.config.write_text(
            f'{text}[[listener]]\nname = "proxy"\naddress = "127.0.0.1:0"\nentry = "proxy"\n'
        )
        with (self.folder / "policy.toml").open("a") as policy:
            policy.write(
                '[[rule]]\nname = "everything"\naction = "allow"\nlistener = "proxy"\n'
                'clients = ["127.0.0.0/8"]\nto = ["127.0.0.0/8"]\nprotocols = ["tcp:1-65535"]\n'
            )

    def add_user(self, name: str, role: Role) -> None:
        path = users_file(self.folder / "state" / "console")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        UserFile(path).add(User(name, self.hashed, (str(role),)), may_replace=True)

    def add_users(self) -> None:
        """Add one of every role, with the role's name."""
        for role in Role:
            self.add_user(str(role), role)

    def start(self, *before: str, **environment: str) -> None:
        super().start(*before, **environment)
        self.origin = self.wait_for("console on ").removeprefix("console on ").strip()

    def operated(self, action: str, by: str = "", subject: str = "") -> dict[str, Any]:
        """Wait until an action, of somebody's, is recorded, and return the newest record of it.

        Args:
            action: Its name.
            by: Who did it, when others may have done it before.
            subject: One of what it was done to, when the same was done to others before.
        """

        def is_it(record: dict[str, Any]) -> bool:
            return (
                record["action"] == action
                and by in {"", record["by"]}
                and (not subject or subject in record["subjects"])
            )

        return self.recorded("operator", is_it)[-1]

    def wait_until_stored(self, query: str, count: int) -> None:
        """Wait until the store has so many records, which is a moment after they are written."""
        clock = SystemClock()
        place = SqlitePlace(folder=str(self.folder / "state" / "records"))

        def are_stored() -> bool:
            reader = StoreReader(place, clock)
            try:
                return len(list(reader.read(parse_query(query, clock.wall())))) >= count
            except ConfigError:  # there is no store yet
                return False
            finally:
                reader.close()

        wait_until(are_stored, f"{count} records are not stored: {query}")

    @contextlib.contextmanager
    def flooded(self) -> Iterator[None]:
        """Have somebody ask for nothing, and much faster than programs do, until the end of it."""
        host, port = self.origin.removeprefix("http://").split(":")
        asked = f"GET /static/x HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode() * _FLOOD
        is_over = threading.Event()

        def flood() -> None:
            while not is_over.is_set():
                with (
                    contextlib.suppress(ConnectionError),
                    socket.create_connection((host, int(port))) as client,
                ):
                    client.sendall(asked)
                    client.shutdown(socket.SHUT_WR)
                    while client.recv(65536):
                        pass

        thread = threading.Thread(target=flood)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()

    def first_link(self) -> str:
        return re.findall(r"http\S+", self.wait_for("the console has no users"))[0]

    def program(self, **more: Any) -> httpx.Client:
        """Return a program that asks without a browser; closed with the gate."""
        headers = {"origin": self.origin}
        made = httpx.Client(base_url=self.origin, headers=headers, timeout=60, **more)
        self.programs.append(made)
        return made

    def close(self) -> None:
        for program in self.programs:
            program.close()
        super().close()

    def logged_in(self, name: str) -> httpx.Client:
        """Return a program with the session of a user."""
        client = self.program()
        given = {"name": name, "password": PASSWORD}
        answer = client.post("/login", data=given)
        assert answer.status_code == 303, answer.text
        # It is a Secure cookie, and httpx takes loopback for any other plain address.
        client.headers["cookie"] = answer.headers["set-cookie"].partition(";")[0]
        return client


def csrf_of(text: str) -> str:
    """Return the token of a page's forms."""
    return re.findall(r'name="csrf" value="([^"]+)"', text)[0]


class Shown:
    """What is on the pictures of one test: pages, and actions by what became of them.

    They are named as ``console.entries`` has them: ``POST /connections/end``.
    """

    def __init__(self) -> None:
        self.entries: set[str] = set()
        self._pages: dict[BrowserContext, str] = {}
        self._asked: dict[BrowserContext, list[Request]] = {}

    def begin(self) -> None:
        """Begin another test; windows of the one before may go on."""
        self.entries.clear()
        for asked in self._asked.values():
            asked.clear()

    def watch(self, context: BrowserContext) -> None:
        """Follow what a window asks."""
        self._asked[context] = []
        context.on("request", lambda request: self._take(context, request))

    def _take(self, context: BrowserContext, request: Request) -> None:
        self._asked[context].append(request)
        if request.resource_type == "document":
            self._pages[context] = _entry_of(request)

    def keep(self, context: BrowserContext) -> None:
        """Take that there is a picture now: of the page, and of what led to it since the last."""
        asked = self._asked[context]
        leading = [one for one in asked if one.method != "GET" or _leads_elsewhere(one)]
        self.entries |= {self._pages[context], *map(_entry_of, leading)}
        asked.clear()


SHOWN: Final = Shown()


def _entry_of(request: Request) -> str:
    return f"{request.method} {urllib.parse.urlsplit(request.url).path}"


def _leads_elsewhere(request: Request) -> bool:
    """Tell whether a question is answered by leading to another site."""
    to = request.redirected_to
    places = [urllib.parse.urlsplit(one.url).netloc for one in (request, to) if one is not None]
    return len(set(places)) > 1


def open_page(browser: Browser, gate: ConsoleGate, **options: Any) -> Page:
    """Open a window of its own, which fails the test by what its console says."""
    context = browser.new_context(base_url=gate.origin, **options)
    SHOWN.watch(context)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    return page


def log_in(page: Page, name: str) -> None:
    page.goto("/login")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("**/")


def keep_screenshot(page: Page, name: str) -> None:
    """Keep a picture of a whole page among what CI puts out."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
    SHOWN.keep(page.context)


class Faults:
    """What a window's pages complained about: scripts, styles and what was blocked."""

    def __init__(self, context: BrowserContext) -> None:
        self.lines: list[str] = []
        context.on("console", lambda said: self._take(said.type, said.text))
        context.on("weberror", lambda error: self.lines.append(str(error.error)))

    def _take(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"}:
            self.lines.append(f"{kind}: {text}")


def page_bytes(page: Page, path: str) -> Mapping[str, int]:
    """Return what a page and all that belongs to it weigh, by address, from nothing."""
    answers: list[Response] = []
    page.on("response", lambda answer: answers.append(answer))  # noqa: PLW0108 - it takes no built-in
    page.goto(path)
    page.wait_for_load_state("load")
    # Not as they come: what is not read before the window closes would weigh nothing.
    return {
        answer.url: len(answer.body())
        for answer in answers
        if "/live/" not in answer.url and not 300 <= answer.status < 400
    }


__all__ = ["EchoServer"]
