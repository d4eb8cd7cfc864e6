"""Parts of the console by themselves: sessions, links, limits, names, texts, plots, navigation."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.resources
import json
import pathlib
import xml.etree.ElementTree as ET
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.address import SocketAddress
from sluicegate.audit.search import EVERYTHING
from sluicegate.audit.store.reader import StoredRecord
from sluicegate.console.accounts import Account
from sluicegate.console.asked import local_path
from sluicegate.console.buckets import Buckets
from sluicegate.console.entries import ENTRIES
from sluicegate.console.environment import clear, format_bytes, format_duration
from sluicegate.console.first_link import FirstLink
from sluicegate.console.link import GateLink, GateLost
from sluicegate.console.live import Live, as_event
from sluicegate.console.navigation import NAVIGATION
from sluicegate.console.origins import Origins
from sluicegate.console.paging import part_of
from sluicegate.console.past import Past, PastUnknown
from sluicegate.console.plots import bars, lines, spark
from sluicegate.console.roles import Role, role_of
from sluicegate.console.sampler import Sampler
from sluicegate.console.saved_queries import SavedQueries, SavedQuery, queries_folder
from sluicegate.console.sessions import Sessions
from sluicegate.console.summary import summary_of
from sluicegate.console_limits import (
    CONSOLE_BUCKETS_MAX,
    CONSOLE_SAMPLE_S,
    CONSOLE_SESSIONS_MAX,
    FIRST_LINK_S,
    SESSION_ABSOLUTE_S,
    SESSION_IDLE_S,
    STEP_UP_S,
)
from sluicegate.documents import ConfigRefused, Wrong
from sluicegate.gate.control_messages import AnyReply, AnyRequest, StatusReply
from sluicegate.testing.clock import ManualClock
from tests.status_views import status_view
from tests.unit.store.store_kit import fill, open_store, sqlite

ANN = Account("ann", Role.OPERATOR)


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


# -- sessions ----------------------------------------------------------------------------------


def test_session_is_found_by_its_token_and_no_other(clock: Clock) -> None:
    sessions = Sessions(clock)
    session, token = sessions.begin(ANN, "192.0.2.1:1")
    assert sessions.find(token) is session
    assert sessions.find(token + "x") is None
    sessions.end(session)
    assert sessions.find(token) is None


def test_idle_session_is_over_and_one_that_asks_goes_on(clock: Clock) -> None:
    sessions = Sessions(clock)
    _, token = sessions.begin(ANN, "")
    for _ in range(3):
        clock.now += SESSION_IDLE_S - 1
        assert sessions.find(token) is not None
    clock.now += SESSION_IDLE_S + 1
    assert sessions.find(token) is None


def test_live_updates_keep_no_session_alive(clock: Clock) -> None:
    sessions = Sessions(clock)
    session, token = sessions.begin(ANN, "")
    clock.now += SESSION_IDLE_S - 1
    assert sessions.find(token, is_person=False) is session
    clock.now += 2
    assert not sessions.goes_on(session)
    assert sessions.find(token, is_person=False) is None


def test_session_ends_after_a_day_whatever_it_does(clock: Clock) -> None:
    sessions = Sessions(clock)
    _, token = sessions.begin(ANN, "")
    end = clock.now + SESSION_ABSOLUTE_S
    while clock.now + SESSION_IDLE_S < end:
        clock.now += SESSION_IDLE_S - 1
        assert sessions.find(token) is not None
    clock.now = end + 1
    assert sessions.find(token) is None


def test_most_idle_session_makes_room(clock: Clock) -> None:
    sessions = Sessions(clock)
    _, first = sessions.begin(ANN, "")
    clock.now += 1
    others = [sessions.begin(ANN, "")[1] for _ in range(CONSOLE_SESSIONS_MAX)]
    assert sessions.find(first) is None
    assert sessions.find(others[-1]) is not None
    assert len(sessions) == CONSOLE_SESSIONS_MAX


def test_password_counts_for_five_minutes(clock: Clock) -> None:
    sessions = Sessions(clock)
    session, _ = sessions.begin(ANN, "")
    assert sessions.is_proved(session)
    clock.now += STEP_UP_S + 1
    assert not sessions.is_proved(session)
    sessions.prove(session)
    assert sessions.is_proved(session)


def test_all_sessions_of_a_user_end_together(clock: Clock) -> None:
    sessions = Sessions(clock)
    tokens = [sessions.begin(ANN, "")[1] for _ in range(3)]
    _, bob = sessions.begin(Account("bob", Role.VIEWER), "")
    sessions.end_all_of("ann")
    assert [sessions.find(token) for token in tokens] == [None] * 3
    assert sessions.find(bob) is not None


# -- the first link ----------------------------------------------------------------------------


def test_first_link_lets_in_once_and_in_time(clock: Clock) -> None:
    link = FirstLink(clock)
    assert not link.is_good("")
    token = link.make("http://127.0.0.1:1").partition("token=")[2]
    assert link.is_good(token)
    assert not link.spend("another")
    assert link.spend(token)
    assert not link.spend(token)
    late = link.make("http://127.0.0.1:1").partition("token=")[2]
    clock.now += FIRST_LINK_S + 1
    assert not link.spend(late)


# -- limits ------------------------------------------------------------------------------------


def test_bucket_runs_empty_and_fills_again(clock: Clock) -> None:
    buckets = Buckets(clock, per_second=0.5, burst=3)
    assert [buckets.take("a") for _ in range(4)] == [True, True, True, False]
    assert buckets.take("b")
    clock.now += 2
    assert [buckets.take("a") for _ in range(2)] == [True, False]
    buckets.give_back("a")
    assert buckets.take("a")


def test_buckets_are_bounded(clock: Clock) -> None:
    buckets = Buckets(clock, per_second=0.0, burst=1)
    for number in range(CONSOLE_BUCKETS_MAX + 1):
        buckets.take(str(number))
    assert buckets.take("0"), "the oldest was forgotten"
    assert not buckets.take(str(CONSOLE_BUCKETS_MAX))


# -- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bound", "names", "has_tls", "good", "bad"),
    [
        ("127.0.0.1:8643", (), False, "127.0.0.1:8643", "127.0.0.1"),
        ("127.0.0.1:8643", (), False, "localhost:8643", "localhost:8644"),
        ("127.0.0.1:8643", (), False, "LOCALHOST:8643", "evil.example:8643"),
        ("[::1]:8643", (), False, "[::1]:8643", "::1:8643"),
        ("127.0.0.1:80", (), False, "127.0.0.1", "localhost.evil.example"),
        ("0.0.0.0:443", ("gate.example",), True, "gate.example", "0.0.0.0"),
        ("192.0.2.1:8643", ("gate.example",), True, "gate.example:8643", "localhost:8643"),
        ("127.0.0.1:8643", (), False, "127.0.0.1:8643", "127.0.0.1:8643.evil.example"),
        ("127.0.0.1:8643", (), False, "127.0.0.1:8643", ""),
    ],
)
def test_host_is_one_of_ours(
    bound: str, names: tuple[str, ...], has_tls: bool, good: str, bad: str
) -> None:
    origins = Origins(SocketAddress.parse(bound), names, has_tls=has_tls)
    assert origins.has_host(good)
    assert not origins.has_host(bad)
    scheme = "https" if has_tls else "http"
    other = "http" if has_tls else "https"
    assert origins.has_origin(f"{scheme}://{good}")
    for origin in (f"{other}://{good}", f"{scheme}://{bad}", "null", ""):
        assert not origins.has_origin(origin)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("/log?q=a", "/log?q=a"),
        ("//evil.example/", "/"),
        ("/\\evil.example/", "/"),
        ("/a\\b", "/"),
        ("https://evil.example/", "/"),
        ("javascript:alert(1)", "/"),
        ("", "/"),
        ("log", "/"),
        ("/a\nb", "/"),
    ],
)
def test_way_on_stays_here(given: str, meant: str) -> None:
    assert local_path(given) == meant


# -- texts -------------------------------------------------------------------------------------


@given(st.text())
def test_every_character_of_a_cleared_text_can_be_seen(text: str) -> None:
    cleared = clear(text)
    assert cleared.isprintable() or all(one.isspace() for one in cleared if not one.isprintable())
    assert not set(cleared) & {"\n", "\r", "\x1b", "\u202e", "\u200b", "\x00"}


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (1 << 40, "1.0 TiB")],
)
def test_bytes_are_written_for_people(count: int, text: str) -> None:
    assert format_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.25, "250 ms"), (59, "59 s"), (61, "1 min 1 s"), (3660, "1 h 1 min"), (90_000, "1 d 1 h")],
)
def test_durations_are_written_for_people(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_event_is_one_whatever_its_text_has(text: str) -> None:
    event = as_event("part", text)
    head, *data = event.removesuffix("\n\n").split("\n")
    assert head == "event: part"
    assert all(line.startswith("data: ") and "\r" not in line for line in data if line)
    assert event.endswith("\n\n")


# -- plots -------------------------------------------------------------------------------------

NUMBERS = st.lists(st.floats(0, 1e15), max_size=80)


@given(NUMBERS)
def test_plots_are_markup_without_style_whatever_the_numbers(numbers: list[float]) -> None:
    label = '"><script>alert(1)</script>'
    for drawn in (
        bars([("good", numbers), ("bad", numbers)], label),
        lines([("good", numbers)], label),
        spark(numbers, label),
    ):
        root = ET.fromstring(drawn)
        assert root.attrib["aria-label"] == label
        assert {one.tag for one in root.iter()} <= {"svg", "path"}
        assert not [one for one in root.iter() if "style" in one.attrib]


# -- lists -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("page", "first", "last", "before", "behind"),
    [
        ("1", 1, 50, 0, 2), ("2", 51, 100, 1, 3), ("3", 101, 120, 2, 0), ("9", 101, 120, 2, 0),
        ("0", 1, 50, 0, 2), ("-1", 1, 50, 0, 2), ("x", 1, 50, 0, 2), ("9" * 99, 1, 50, 0, 2),
    ],
)  # fmt: skip
def test_list_is_shown_in_parts(page: str, first: int, last: int, before: int, behind: int) -> None:
    part = part_of(range(120), page)
    assert (part.first, part.last, part.before, part.behind) == (first, last, before, behind)


def test_record_of_an_unknown_kind_has_a_row(tmp_path: pathlib.Path) -> None:
    line = json.dumps({"kind": "later", "time": 5, "name": "x", "reason": "y", "new": [1]})
    row = summary_of(StoredRecord(7, line))
    assert (row.seq, row.kind, row.subject, row.reason) == (7, "later", "x", "y")


def test_row_of_a_request_that_was_refused_later_says_what_refused_it() -> None:
    fields = {"kind": "request", "verdict": "allowed", "reason": "allowed-by-rule"}
    row = summary_of(StoredRecord(8, json.dumps(fields | {"outcome": "released"})))
    assert (row.result, row.reason) == ("released", "allowed-by-rule")
    fields |= {"outcome": "refused", "ended": "malware: Eicar"}
    row = summary_of(StoredRecord(9, json.dumps(fields)))
    assert (row.result, row.reason) == ("refused", "malware: Eicar")


def test_saved_queries_outlive_the_console_and_are_bounded_texts(tmp_path: pathlib.Path) -> None:
    saved = SavedQueries(str(tmp_path))
    assert saved.read() == []
    queries_folder(tmp_path).mkdir()
    saved.save(SavedQuery("Refused", "verdict:denied", "ann"))
    saved.save(SavedQuery("Refused", "verdict:denied,refused", "bob"))
    assert [one.text for one in SavedQueries(str(tmp_path)).read()] == ["verdict:denied,refused"]
    with pytest.raises(Wrong):
        saved.save(SavedQuery("<b>", "", "ann"))
    assert saved.remove("Refused")
    assert not saved.remove("Refused")


# -- entries -----------------------------------------------------------------------------------


def test_role_is_the_greatest_that_groups_give() -> None:
    assert role_of(["viewer", "administrator", "staff"]) is Role.ADMINISTRATOR
    assert role_of(["staff"]) is None


def test_every_entry_is_there_once_and_navigation_leads_to_entries() -> None:
    places = [(entry.path, entry.method) for entry in ENTRIES]
    assert len(set(places)) == len(places)
    links = [link for group in NAVIGATION for link in group.links]
    assert {(link.path, "GET") for link in links} <= set(places)
    assert len({link.key for link in links}) == len(links)
    roles = {entry.path: entry.role for entry in ENTRIES if entry.method == "GET"}
    assert [link.path for link in links if roles[link.path] != link.role] == []


# -- files by others ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("htmx.min.js", "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717"),
        ("htmx-sse.min.js", "98a46496de0c3605fbffdce9167ba427bdd9553184f83f149c261891a92c0136"),
    ],
)
def test_scripts_by_others_are_the_released_ones_with_their_licences(
    name: str, digest: str
) -> None:
    folder = importlib.resources.files("sluicegate.console") / "static"
    assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    licence = (folder / name.replace(".min.js", ".LICENSE")).read_text()
    assert "Permission to use, copy, modify, and/or distribute" in licence


class Link:
    """A gate that says how it is."""

    def __init__(self) -> None:
        self.allowed = 0

    async def ask(self, request: AnyRequest, by: str, ticket: str = "") -> AnyReply:
        del request, by, ticket
        self.allowed += 1
        return StatusReply(status=status_view(connections_allowed=self.allowed))


def test_page_that_asks_between_two_samples_makes_no_rate_of_a_moment(clock: Clock) -> None:
    sampler = Sampler(cast("GateLink", Link()), clock)
    for pause_s in (CONSOLE_SAMPLE_S, 0.01, CONSOLE_SAMPLE_S - 0.01, CONSOLE_SAMPLE_S):
        asyncio.run(sampler.look())
        clock.now += pause_s
    assert sampler.status is not None
    assert sampler.status.connections_allowed == 4
    assert [one.allowed_per_s for one in sampler.samples] == [0.5, 1.0]


@pytest.mark.parametrize(
    "fault", [GateLost("gone"), PastUnknown("gone"), ConfigRefused(())], ids=type
)
def test_live_page_ends_when_the_gate_or_the_store_cannot_be_asked(fault: Exception) -> None:
    async def parts() -> AsyncGenerator[str]:
        yield "<p>first</p>"
        raise fault

    yes: Any = SimpleNamespace(goes_on=lambda _: True)
    asked: Any = SimpleNamespace(
        console=SimpleNamespace(sessions=yes, stands=lambda _: True),
        who=SimpleNamespace(streams=0),
    )

    async def read() -> list[str]:
        return [str(one) async for one in Live(asked, "part", parts()).body_iterator]

    assert asyncio.run(read()) == ["retry: 3000\n\n", as_event("part", "<p>first</p>")]


def test_store_is_asked_where_it_is_from_now_on(tmp_path: pathlib.Path) -> None:
    clock = ManualClock(1000.0, 1_750_000_000.0)
    for name, count in (("first", 1), ("second", 2)):
        store = open_store(tmp_path / name, clock)
        fill(store, clock, count)
        store.close()

    async def ask() -> list[int]:
        past = Past(sqlite(tmp_path / "first"), clock)
        try:
            found = [len(await past.ask(lambda reader: list(reader.read(EVERYTHING))))]
            past.move(sqlite(tmp_path / "second"))
            found.append(len(await past.ask(lambda reader: list(reader.read(EVERYTHING)))))
        finally:
            past.close()
        return found

    assert asyncio.run(ask()) == [1, 2]
