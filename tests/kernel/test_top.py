"""``sluicegate top``: driven by keys, against a control socket of answers and a real gate."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import AsyncIterator, Iterator
from fcntl import ioctl

import pytest
from textual.pilot import Pilot
from textual.widgets import DataTable, Input, Sparkline, Static

from sluicegate.audit.alerts import Raising
from sluicegate.cli.top.dashboard import Dashboard
from sluicegate.cli.top.screens import AskScreen, DetailsScreen, HelpScreen
from sluicegate.clock import SystemClock
from sluicegate.gate.views import FilterView, Phase, ScannerView, WorkerView
from sluicegate.testing.clock import ManualClock
from tests.kernel.test_gate_process import echoed
from tests.kernel.test_processes import Gate, is_over
from tests.kernel.top_kit import FakeGate, connection_view, session_view, transfer_view

pytestmark = pytest.mark.either_driver

SCREENSHOTS = pathlib.Path("build/screenshots")
NEVER_S = 3600.0
HOSTILE = "[red]x[/]\x1b[31m\x1b]0;owned\x07\u202e\u0007$error"
SHOWN = "[red]x[/]\\x1b[31m\\x1b]0;owned\\x07\\u202e\\x07$error"


@pytest.fixture
def fake(tmp_path: pathlib.Path) -> Iterator[FakeGate]:
    made = FakeGate(tmp_path)
    made.start()
    yield made
    made.stop()


@contextlib.asynccontextmanager
async def opened(
    control: pathlib.Path,
    log: pathlib.Path,
    size: tuple[int, int] = (80, 24),
    clock: ManualClock | None = None,
) -> AsyncIterator[tuple[Dashboard, Pilot[None], ManualClock]]:
    """Run a dashboard that looks only when it is told to."""
    clock = clock or ManualClock()
    app = Dashboard(control, log, clock, NEVER_S)
    async with app.run_test(size=size, notifications=True) as pilot:
        await app.workers.wait_for_complete()
        await pilot.pause()
        yield app, pilot, clock


def shown(app: Dashboard) -> list[list[str]]:
    table = app.query_one(DataTable)
    return [[str(cell) for cell in table.get_row_at(at)] for at in range(table.row_count)]


def column(app: Dashboard, at: int) -> list[str]:
    return [row[at] for row in shown(app)]


def said(app: Dashboard, name: str) -> str:
    return str(app.query_one(f"#{name}", Static).content)


async def typed(pilot: Pilot[None], text: str) -> None:
    if not pilot.app.query_one(Input).has_focus:
        await pilot.press("slash")
    pilot.app.query_one(Input).value = text
    await pilot.pause()


async def look(
    app: Dashboard, pilot: Pilot[None], clock: ManualClock, seconds: float = 2.0
) -> None:
    clock.advance(seconds)
    await app.look()
    await pilot.pause()


def test_gauges_and_tables_show_what_the_gate_does(fake: FakeGate) -> None:
    fake.connections = [connection_view(1, bytes_to_client=1000)]
    fake.sessions = [session_view(user="ann")]
    fake.transfers = [transfer_view()]
    fake.filters = [FilterView(name="exe_block", source="bundled", tier="content", calls=4)]
    fake.scanners = [ScannerView(name="av", kind="clamd", waiting=3)]
    fake.workers = [WorkerView(name="worker 0", pid=1, state="silent", restarts=2)]

    async def play() -> None:
        async with opened(fake.control, fake.log, (120, 30)) as (app, pilot, clock):
            fake.connections[0].bytes_to_client = 1000 + 20 * 1024
            fake.status.connections_allowed = 10
            fake.status.connections_denied = 4
            fake.paths["spliced"] = 4096.0
            await look(app, pilot, clock)
            assert said(app, "now-open") == "open 1"
            line = app.query_one("#line-down", Sparkline)
            assert line.data is not None
            assert list(line.data) == [0.0] * (line.size.width - 1) + [10.0 * 1024]
            assert said(app, "now-allowed") == "let in 5.0/s"
            assert said(app, "now-denied") == "refused 2.0/s"
            assert said(app, "now-down") == "down 10.0 KiB/s"
            assert "spliced 2.0 KiB/s" in said(app, "paths")
            assert said(app, "gate").startswith("ready")
            assert column(app, 0) == ["10.0.0.1:5000"]
            found = {}
            for number in range(1, 9):
                await pilot.press(str(number))
                await pilot.pause()
                found[number] = column(app, 0)
            assert found == {
                1: ["10.0.0.1:5000"],
                2: ["10.0.0.1"],
                3: ["10.0.0.1:5000"],
                4: [],
                5: [],
                6: ["exe_block"],
                7: ["av"],
                8: ["supervisor", "worker 0"],
            }

    asyncio.run(play())


def test_filter_takes_words_and_queries_while_they_are_typed(fake: FakeGate) -> None:
    fake.connections = [
        connection_view(1, client="10.0.0.1:5000", rule="web"),
        connection_view(2, client="10.9.0.1:5000", rule="mail", asked="mail.example.org:25"),
        connection_view(3, client="[fd00::1]:5000", rule="web", bytes_to_client=5 << 20),
    ]
    cases = {
        "": {"c-1", "c-2", "c-3"},
        "MAIL": {"c-2"},
        "web 10.0": {"c-1"},
        "fd00::1": {"c-3"},
        "client:10.0.0.0/8": {"c-1", "c-2"},
        "rule:w*": {"c-1", "c-3"},
        "bytes_to_client>1MiB": {"c-3"},
        "-rule:web": {"c-2"},
        "host:example.com": {"c-1", "c-3"},
        "nothing has this": set(),
    }

    async def play() -> None:
        async with opened(fake.control, fake.log) as (app, pilot, _):
            for text, wanted in cases.items():
                await typed(pilot, text)
                assert set(column(app, 9)) == wanted, text
            # Half a query says what is wrong, and leaves what is there.
            await typed(pilot, "rule:web")
            await typed(pilot, "rule:web client:")
            assert set(column(app, 9)) == {"c-1", "c-3"}
            assert said(app, "said").startswith("a value is missing")
            await pilot.press("escape")
            await pilot.pause()
            assert app.query_one(DataTable).has_focus
            await pilot.press("escape")
            await pilot.pause()
            assert set(column(app, 9)) == {"c-1", "c-2", "c-3"}
            assert said(app, "said") == "3 of 3"

    asyncio.run(play())


def test_tables_are_sorted_by_any_column_either_way(fake: FakeGate) -> None:
    fake.connections = [
        connection_view(1, started=1_100.0, rule="b"),
        connection_view(2, started=1_300.0, rule="a"),
        connection_view(3, started=1_200.0, rule="c"),
    ]

    async def play() -> None:
        async with opened(fake.control, fake.log) as (app, pilot, _):
            assert column(app, 9) == ["c-2", "c-3", "c-1"]  # the youngest first
            await pilot.press("r")
            await pilot.pause()
            assert column(app, 9) == ["c-1", "c-3", "c-2"]
            while "RULE" not in (title := marked(app)):
                assert title
                await pilot.press("s")
                await pilot.pause()
            assert column(app, 2) == ["c", "b", "a"]

    asyncio.run(play())


def marked(app: Dashboard) -> str:
    titles = [str(one.label) for one in app.query_one(DataTable).ordered_columns]
    (found,) = [title for title in titles if "▼" in title or "▲" in title]
    return found


def test_cursor_stays_on_its_line_while_others_come_and_go(fake: FakeGate) -> None:
    fake.connections = [connection_view(at, started=1_000.0 + at) for at in range(10)]

    async def play() -> None:
        async with opened(fake.control, fake.log) as (app, pilot, clock):
            table = app.query_one(DataTable)
            await pilot.press("down", "down", "down")
            mine = shown(app)[table.cursor_row][9]
            fake.connections = [
                connection_view(99, started=1_900.0),
                *[row for row in fake.connections if row.connection != "c-9"],
            ]
            await look(app, pilot, clock)
            assert shown(app)[table.cursor_row][9] == mine
            fake.connections = []
            await look(app, pilot, clock)
            assert table.row_count == 0

    asyncio.run(play())


def test_details_show_everything_and_help_the_keys(fake: FakeGate) -> None:
    fake.connections = [connection_view()]

    async def play() -> None:
        async with opened(fake.control, fake.log) as (app, pilot, _):
            await pilot.press("enter")
            await pilot.pause()
            assert isinstance(app.screen, DetailsScreen)
            text = "\n".join(str(one.content) for one in app.screen.query(Static))
            assert "192.0.2.1:443" in text
            await pilot.press("escape", "question_mark")
            await pilot.pause()
            assert isinstance(app.screen, HelpScreen)
            await pilot.press("q")
            await pilot.pause()
            assert len(app.screen_stack) == 1

    asyncio.run(play())


@pytest.mark.parametrize(
    ("keys", "killed"),
    [
        (["n"], []),
        (["escape"], []),
        (["enter"], []),  # the answer that is chosen keeps it
        (["y"], ["c-1"]),
        (["tab", "enter"], ["c-1"]),
    ],
)
def test_connection_ends_only_when_that_is_confirmed(
    fake: FakeGate, keys: list[str], killed: list[str]
) -> None:
    fake.connections = [connection_view()]

    async def play() -> None:
        async with opened(fake.control, fake.log) as (app, pilot, _):
            await pilot.press("k")
            await pilot.pause()
            assert isinstance(app.screen, AskScreen)
            await pilot.press(*keys)
            await app.workers.wait_for_complete()
            await pilot.pause()
            assert len(app.screen_stack) == 1
            assert len(shown(app)) == 1 - len(killed)

    asyncio.run(play())
    assert fake.killed == killed


def test_session_is_ended_as_one_and_filters_cannot_be(fake: FakeGate) -> None:
    fake.sessions = [session_view()]
    fake.filters = [FilterView(name="exe_block", source="bundled", tier="content")]

    async def play() -> None:
        async with opened(fake.control, fake.log) as (app, pilot, _):
            await pilot.press("6", "k")
            await pilot.pause()
            assert len(app.screen_stack) == 1
            await pilot.press("2", "k")
            await pilot.pause()
            question = str(app.screen.query(Static).first().content)
            assert question == "End all connections of s-1?"
            await pilot.press("y")
            await app.workers.wait_for_complete()

    asyncio.run(play())
    assert fake.killed == ["s-1"]


def test_gate_that_will_not_end_it_is_quoted(fake: FakeGate) -> None:
    fake.connections = [connection_view()]
    fake.refuses_kills = True

    async def play() -> None:
        async with opened(fake.control, fake.log) as (app, pilot, _):
            await pilot.press("k", "y")
            await app.workers.wait_for_complete()
            await pilot.pause()
            (notice,) = app._notifications
            assert (notice.message, notice.severity) == ("the gate refused: not now", "error")
            assert len(shown(app)) == 1

    asyncio.run(play())


def test_gate_that_goes_away_is_said_and_taken_up_again(fake: FakeGate) -> None:
    fake.connections = [connection_view()]

    async def play() -> None:
        async with opened(fake.control, fake.log) as (app, pilot, clock):
            fake.stop()
            await look(app, pilot, clock, 12.0)
            assert said(app, "gate").startswith("NO ANSWER, as it was 12.0 s ago")
            assert "no gate runs here" in said(app, "wrong")
            assert said(app, "now-open") == "open -"
            assert len(shown(app)) == 1  # as it was
            fake.status.boot = "b2"
            fake.status.connections_allowed = 0
            fake.connections = []
            fake.start()
            await look(app, pilot, clock)
            assert said(app, "gate").startswith("ready")
            assert shown(app) == []
            assert said(app, "now-allowed") == "let in -"  # of another run nothing is known yet
            await look(app, pilot, clock)
            assert said(app, "now-allowed") == "let in 0.0/s"

    asyncio.run(play())


def test_what_is_wrong_with_the_gate_stands_at_the_top(fake: FakeGate) -> None:
    fake.status.phase = Phase.REFUSING
    fake.status.warnings = ["a warning", "another"]
    fake.status.records_failure = "No space left on device"

    async def play() -> None:
        async with opened(fake.control, fake.log) as (app, _, _clock):
            assert said(app, "gate").startswith("refusing")
            assert app.query_one("#gate").has_class("bad")
            wrong = said(app, "wrong")
            assert wrong.startswith("records cannot be written: No space left on device")
            assert wrong.endswith("(and 2 more: sluicegate status)")

    asyncio.run(play())


def test_text_of_clients_moves_nothing_and_is_no_markup(fake: FakeGate) -> None:
    fake.connections = [connection_view(asked=HOSTILE)]
    fake.connections[0].filters = [HOSTILE]
    fake.sessions = [session_view(user=HOSTILE)]
    fake.transfers = [transfer_view(HOSTILE)]
    fake.status.warnings = [HOSTILE]
    record = {"time": 1.0, "kind": "decision", "verdict": "denied", "reason": HOSTILE}
    fake.log.write_text(json.dumps(record | {"client": "10.0.0.1:1", "target": HOSTILE}) + "\n")

    async def play() -> None:
        async with opened(fake.control, fake.log) as (app, pilot, _):
            assert said(app, "wrong") == SHOWN
            for key, at in (("1", 1), ("2", 1), ("3", 1), ("4", 2), ("4", 3)):
                await pilot.press(key)
                await pilot.pause()
                assert column(app, at) == [SHOWN]
                await pilot.press("enter")
                await pilot.pause()
                details = "\n".join(str(one.content) for one in app.screen.query(Static))
                assert SHOWN in details
                picture = app.export_screenshot()
                assert not set(picture) & set("\x1b\x07\u202e")
                await pilot.press("escape")
            await pilot.press("1", "k")
            await pilot.pause()
            assert any(SHOWN in str(one.content) for one in app.screen.query(Static))
            await pilot.press("n")
            await typed(pilot, HOSTILE)
            assert "\x1b" not in said(app, "said")

    asyncio.run(play())


def test_more_rows_than_are_drawn_are_counted(fake: FakeGate) -> None:
    fake.connections = [connection_view(at) for at in range(700)]

    async def play() -> None:
        async with opened(fake.control, fake.log) as (app, _pilot, _clock):
            assert len(shown(app)) == 500
            assert said(app, "said") == "700 of 700; the first 500 are shown"

    asyncio.run(play())


def test_refusals_come_from_the_log_as_it_grows_and_are_asked_like_it(fake: FakeGate) -> None:
    denied = {"kind": "decision", "verdict": "denied", "client": "10.0.0.1:1", "rule": "no"}
    lines = [
        {"time": 1.0, "reason": "rule", **denied},
        {"time": 2.0, "kind": "decision", "verdict": "allowed", "reason": "rule"},
        {"time": 3.0, "kind": "transfer", "verdict": "refused", "reason": "virus", "name": "x.exe"},
        {"time": 4.0, "kind": "connection", "outcome": "failed", "reason": "reset"},
        {"time": 5.0, "kind": "connection", "outcome": "released", "reason": "closed"},
        {"time": 6.0, "kind": "limit", "limit": "connections_max", "bound": 1},
    ]
    with fake.log.open("a") as log:
        log.writelines(json.dumps(line) + "\n" for line in lines)

    async def play() -> None:
        async with opened(fake.control, fake.log) as (app, pilot, clock):
            await pilot.press("4")
            await pilot.pause()
            assert column(app, 3) == ["connections_max", "reset", "virus", "rule"]
            with fake.log.open("a") as log:
                log.write(json.dumps({"time": 7.0, "reason": "late", **denied}) + "\n")
            await look(app, pilot, clock)
            assert column(app, 3)[0] == "late"
            await typed(pilot, "rule:no kind:decision")
            assert column(app, 3) == ["late", "rule"]
            await typed(pilot, "x.exe")
            assert column(app, 3) == ["virus"]

    asyncio.run(play())


def test_log_that_cannot_be_read_is_said_where_refusals_would_be(fake: FakeGate) -> None:
    fake.log.unlink()

    async def play() -> None:
        async with opened(fake.control, fake.log) as (app, pilot, _):
            await pilot.press("4")
            await pilot.pause()
            assert said(app, "said").endswith("cannot be read: No such file or directory")

    asyncio.run(play())


def raising(identifier: str, message: str = "much is refused") -> Raising:
    return Raising(
        raising=identifier, alert="refusals", state="open", severity="error", message=message
    )


@pytest.mark.parametrize(("key", "state"), [("n", "open"), ("y", "acknowledged")])
def test_alert_is_acknowledged_when_that_is_confirmed(fake: FakeGate, key: str, state: str) -> None:
    fake.alerts = [raising("a-1"), raising("a-2", HOSTILE)]

    async def play() -> None:
        async with opened(fake.control, fake.log, (160, 30)) as (app, pilot, _):
            assert said(app, "wrong") == "2 alerts wait to be acknowledged (key 5)"
            await pilot.press("5")
            await typed(pilot, "a-2")
            assert column(app, 6) == [SHOWN]
            await typed(pilot, "raising:a-1 severity:error")
            await pilot.press("enter", "a")
            await pilot.pause()
            await pilot.press(key)
            await app.workers.wait_for_complete()
            await pilot.pause()
            assert column(app, 2) == [state]

    asyncio.run(play())
    assert [row.state for row in fake.alerts] == [state, "open"]


def test_gate_that_raises_no_alerts_is_watched_all_the_same(fake: FakeGate) -> None:
    fake.has_alerter = False
    fake.connections = [connection_view()]

    async def play() -> None:
        async with opened(fake.control, fake.log) as (app, pilot, _):
            assert len(shown(app)) == 1
            await pilot.press("a")
            await pilot.pause()
            assert len(app.screen_stack) == 1
            await pilot.press("5")
            await pilot.pause()
            assert said(app, "said") == "the gate refused: this process raises none"

    asyncio.run(play())


def test_pause_stops_the_questions_and_theme_changes(fake: FakeGate) -> None:
    async def play() -> None:
        async with opened(fake.control, fake.log) as (app, pilot, _):
            await pilot.press("p")
            await pilot.pause()
            assert "PAUSED" in said(app, "gate")
            await pilot.press("p")
            await app.workers.wait_for_complete()
            assert "PAUSED" not in said(app, "gate")
            assert app.current_theme.dark
            await pilot.press("t")
            assert not app.current_theme.dark

    asyncio.run(play())


# -- against a real gate -------------------------------------------------------------------------


def test_real_gate_is_watched_and_ends_what_is_chosen(gate: Gate) -> None:
    gate.start()
    state = gate.folder / "state"
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)

    async def play() -> None:
        now = ManualClock(wall=SystemClock().wall())
        place = (state / "control.sock", state / "records.jsonl")
        async with opened(*place, clock=now) as (app, pilot, clock):
            assert len(shown(app)) == 2
            assert said(app, "gate").startswith("ready  up ")
            assert "-" not in said(app, "gate").partition("version")[0]
            await look(app, pilot, clock)
            for name, key in (("dark", "1"), ("light", "t"), ("processes", "8")):
                await pilot.press(key)
                await pilot.pause()
                picture = app.export_screenshot()
                (SCREENSHOTS / f"top-{name}.svg").write_text(picture)
            assert column(app, 0)[0] in {"supervisor", "worker 0", "worker 1", "store keeper"}
            await pilot.press("1")
            await typed(pilot, "client:127.0.0.2")
            await pilot.press("enter", "k", "y")
            await app.workers.wait_for_complete()
            await pilot.pause()

    with gate.connect_from("127.0.0.2") as mine, gate.connect_from("127.0.0.3") as other:
        assert echoed(mine, b"x") == echoed(other, b"x") == b"x"
        asyncio.run(play())
        assert is_over(mine)
        assert echoed(other, b"y") == b"y"
    assert gate.end() == 0
    (record,) = gate.records("operator")
    assert (record["action"], record["origin"], record["result"]) == ("kill", "command", "done")


def test_json_is_one_look_with_rates_for_programs(gate: Gate) -> None:
    gate.start()
    with gate.connect() as client:
        assert echoed(client, b"x") == b"x"
        found = json.loads(gate.ask("top", "--json", "--interval", "0.2").stdout)
    assert found["look"]["status"]["phase"] == "ready"
    assert found["look"]["connections_total"] == 1
    assert found["rates"]["denied"] == 0.0


def test_what_is_no_terminal_is_told_of_json(fake: FakeGate) -> None:
    asked = subprocess.run(
        [sys.executable, "-m", "sluicegate", "top", "-c", str(fake.config)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (asked.returncode, asked.stdout) == (1, "")
    assert "sluicegate top --json" in asked.stderr


class Terminal:
    """A real one, of 80 columns and 24 lines, with the command in it."""

    def __init__(self, *command: str, **environment: str) -> None:
        self.text = ""
        self._ours, theirs = pty.openpty()
        ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        kept = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
        self.process = subprocess.Popen(
            command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            env=kept | {"TERM": "xterm-256color", "COLORTERM": "truecolor"} | environment,
            preexec_fn=lambda: ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - of one thread
        )
        os.close(theirs)

    def read_until(self, wanted: str) -> None:
        for _ in range(600):
            if wanted in self.plain:
                return
            if not self._read():
                break
        raise AssertionError(f"no {wanted!r} in {self.plain[-3000:]!r}")

    def read_rest(self) -> int:
        while self._read():
            pass
        return self.process.wait(60)

    @property
    def plain(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.text)

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._ours)

    def _read(self) -> bool:
        readable, _, _ = select.select([self._ours], [], [], 60)
        try:
            more = os.read(self._ours, 65536) if readable else b""
        except OSError:  # the other end is closed
            return False
        self.text += more.decode("utf-8", "replace")
        return bool(more)


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    made: list[Terminal] = []
    yield made
    for one in made:
        one.close()


def start_top(terminals: list[Terminal], config: pathlib.Path, **environment: str) -> Terminal:
    command = (sys.executable, "-m", "sluicegate", "top", "-c", str(config))
    made = Terminal(*command, **environment)
    terminals.append(made)
    return made


@pytest.mark.parametrize("how", ["q", "\x03", "SIGINT", "SIGTERM"])
def test_terminal_is_left_as_it_was(fake: FakeGate, terminals: list[Terminal], how: str) -> None:
    fake.connections = [connection_view(asked=HOSTILE)]
    terminal = start_top(terminals, fake.config)
    terminal.read_until("owned")
    if how in signal.Signals.__members__:
        terminal.process.send_signal(signal.Signals[how])
    else:
        terminal.type(how)
    assert terminal.read_rest() == 0
    assert "\x1b]0;owned" not in terminal.text
    assert "\u202e" not in terminal.text
    assert terminal.text.rindex("\x1b[?1049l") > terminal.text.rindex("\x1b[?1049h")
    assert terminal.text.rindex("\x1b[?25h") > terminal.text.rindex("\x1b[?25l")
    assert "Traceback" not in terminal.text


def test_no_color_is_obeyed(fake: FakeGate, terminals: list[Terminal]) -> None:
    fake.connections = [connection_view()]
    terminal = start_top(terminals, fake.config, NO_COLOR="1")
    terminal.read_until("example.com")
    terminal.type("q")
    assert terminal.read_rest() == 0
    colors = re.findall(r"\x1b\[(?:\d+;)*[34]8;2;(\d+);(\d+);(\d+)", terminal.text)
    assert {one for one in colors if len(set(one)) > 1} == set()  # shades of gray only


def test_gate_that_is_not_there_is_no_screen(
    tmp_path: pathlib.Path, terminals: list[Terminal]
) -> None:
    fake = FakeGate(tmp_path)
    terminal = start_top(terminals, fake.config)
    assert terminal.read_rest() == 1
    assert "no gate runs here" in terminal.text
    assert "\x1b[?1049h" not in terminal.text


def test_absent_extra_is_named_with_its_cure(fake: FakeGate, terminals: list[Terminal]) -> None:
    without = fake.folder / "without"
    without.mkdir()
    (without / "textual.py").write_text(
        "raise ModuleNotFoundError('No module named textual', name='textual')\n"
    )
    path = f"{without}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    terminal = start_top(terminals, fake.config, PYTHONPATH=path)
    assert terminal.read_rest() == 1
    assert "pip install 'sluicegate[top]'" in terminal.text
