"""The dashboard: what a terminal shows of a gate, looked at every few seconds.

``command`` runs it. It has a line on the gate, a line on what is wrong, gauges, and one table at a
time. The invariant: what is shown says how old it is as soon as the gate does not answer, and
nothing is ordered of the gate but what was confirmed.
"""

from __future__ import annotations

import asyncio
import pathlib
import signal
from collections.abc import Sequence
from typing import ClassVar, Final

from rich.text import Text
from textual import on
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import DataTable, Footer, Input, Static, Tab, Tabs
from typing_extensions import override

from sluicegate.audit.search import QueryRefused
from sluicegate.cli.display import format_bytes, format_duration, printable
from sluicegate.clock import Clock
from sluicegate.console_limits import TOP_ROWS_MAX
from sluicegate.errors import SluicegateError
from sluicegate.gate.control_messages import (
    AcknowledgedReply,
    AcknowledgeRequest,
    KilledReply,
    KillRequest,
    Request,
)
from sluicegate.gate.views import Phase

from .gauges import Gauges
from .listings import ALERTS, LISTINGS, REFUSALS, Listing
from .look import Look, Rates, ReplyT, ask, look_at, rates_between
from .refusals import Refusals
from .row import Cell, Row
from .screens import AskScreen, DetailsScreen, HelpScreen
from .sieve import Sieve, sieve_of

__all__ = ["Dashboard"]

_DARK: Final = "textual-dark"
_LIGHT: Final = "textual-light"

_END_WARNING: Final = (
    "Both sides are reset at once. The client may come back: to keep it out, change the policy."
)
_ACKNOWLEDGE_WARNING: Final = (
    "It says that somebody has seen it. When its condition is met anew, it is raised anew."
)


class Dashboard(App[None]):
    """One gate in one terminal."""

    CSS_PATH: ClassVar[str | pathlib.PurePath | list[str | pathlib.PurePath] | None] = (
        "dashboard.tcss"
    )
    TITLE: str | None = "sluicegate top"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Leave"),
        Binding("ctrl+c", "quit", "Leave", show=False, priority=True),
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("enter", "details", "Details", show=True),
        Binding("k", "end", "End"),
        Binding("a", "acknowledge", "Acknowledge", show=False),
        Binding("s", "sort", "Sort"),
        Binding("r", "turn", "Turn"),
        Binding("p", "pause", "Pause"),
        Binding("t", "theme", "Theme"),
        Binding("question_mark", "help", "Help", key_display="?"),
        Binding("escape", "leave_filter", "Back", show=False),
        Binding("tab", "next", "Next", show=False),
        Binding("shift+tab", "next(-1)", "Previous", show=False),
        *(
            Binding(str(number), f"table({number - 1})", listing.name, show=False)
            for number, listing in enumerate(LISTINGS, 1)
        ),
    ]

    def __init__(
        self, control: pathlib.Path, log: pathlib.Path, clock: Clock, interval_s: float
    ) -> None:
        """Be ready to look.

        Args:
            control: The control socket.
            log: The file of records, for what was refused.
            clock: For ages and rates.
            interval_s: How often the gate is asked.
        """
        super().__init__()
        self._control = control
        self._clock = clock
        self._interval_s = interval_s
        self._refusals = Refusals(log)
        self._refused: list[Row] = []
        self._at: Look | None = None
        self._rates: Rates | None = None
        self._trouble = ""
        #: Why the gate did not answer; empty: it did.
        self._is_paused = False
        self._looking = asyncio.Lock()
        self._listing = LISTINGS[0]
        self._orders = {one.name: (one.sorted_by, one.is_falling) for one in LISTINGS}
        self._sieve: Sieve = _everything
        self._typed = ""
        self._filter_cause = ""
        self._rows: dict[str, Row] = {}
        #: Those that are drawn.

    @override
    def compose(self) -> ComposeResult:
        yield Static("", markup=False, id="gate")
        yield Static("", markup=False, id="wrong")
        yield Gauges()
        yield Static("", markup=False, id="paths")
        yield Tabs(*(Tab(one.name, id=one.name.lower()) for one in LISTINGS))
        yield Static("", markup=False, id="said")
        yield Input(placeholder="words, or client:10.0.0.0/8 rule:web*", id="filter")
        yield DataTable[Text](id="rows", cursor_type="row", zebra_stripes=True)
        yield Footer()

    def on_mount(self) -> None:
        """Begin."""
        # Whoever ends it from elsewhere leaves the terminal as it was, too.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self.exit)
        self.theme = _DARK
        self.query_one(Tabs).can_focus = False
        self.query_one("#filter").display = False
        self._draw_columns()
        self._table.focus()
        self.set_interval(self._interval_s, self._look_again)
        self.run_worker(self.look(), name="look")

    def on_unmount(self) -> None:
        """End."""
        self._refusals.close()

    @property
    def _table(self) -> DataTable[Text]:
        found: DataTable[Text] = self.query_one("#rows", DataTable)  # pyright: ignore[reportUnknownVariableType]
        return found

    # -- looking -------------------------------------------------------------------------------

    def _look_again(self) -> None:
        if not self._is_paused and not self._looking.locked():
            self.run_worker(self.look(), name="look")

    async def look(self) -> None:
        """Ask the gate, and draw what it says."""
        async with self._looking:
            self._refused = await asyncio.to_thread(self._refusals.read)
            try:
                found = await look_at(self._control, self._clock)
            except SluicegateError as error:
                self._trouble = printable(str(error))
            else:
                self._take(found)
        self._draw()

    def _take(self, found: Look) -> None:
        gauges = self.query_one(Gauges)
        before, self._at, self._trouble = self._at, found, ""
        self._rates = rates_between(before, found) if before is not None else None
        if before is not None and before.status.boot != found.status.boot:
            gauges.forget()
        gauges.show(found, self._rates)

    # -- drawing -------------------------------------------------------------------------------

    def _draw(self) -> None:
        self._draw_gate()
        self._draw_rows()

    def _draw_gate(self) -> None:
        gate, wrong = self.query_one("#gate", Static), self.query_one("#wrong", Static)
        look = self._at
        is_bad = bool(self._trouble) or (look is not None and look.status.phase is not Phase.READY)
        gate.set_class(is_bad, "bad")
        if self._trouble:
            ago = "" if look is None else f", as it was {format_duration(self._age(look))} ago"
            gate.update(f"NO ANSWER{ago}; trying again every {self._interval_s:g} s")
            wrong.update(self._trouble)
            wrong.set_class(True, "bad")
            self.query_one(Gauges).silence()
            return
        if look is None:
            gate.update("asking the gate …")
            return
        status = look.status
        up = format_duration(look.time - status.started)
        words = [status.phase.value, f"up {up}", f"version {status.version}", status.backend]
        words += ["PAUSED"] if self._is_paused else []
        gate.update("  ".join(words) + f"  policy {status.policy[:12]}")
        warnings = _warnings(look)
        more = f"  (and {len(warnings) - 1} more: sluicegate status)" if len(warnings) > 1 else ""
        wrong.update(printable(warnings[0]) + more if warnings else "")
        wrong.set_class(bool(warnings), "bad")
        self.query_one("#paths", Static).update(self._paths(look))

    def _age(self, look: Look) -> float:
        return max(self._clock.monotonic() - look.monotonic, 0.0)

    def _paths(self, look: Look) -> str:
        rates = self._rates.bytes_by_path if self._rates is not None else {}
        moved = [f"{path} {format_bytes(rate)}/s" for path, rate in sorted(rates.items())]
        status = look.status
        held = f"held {status.spool_transfers}, {format_bytes(status.spool_bytes)}"
        return "  ".join([*moved, held, f"records lost {status.records_lost}"])

    def _draw_columns(self) -> None:
        table = self._table
        table.clear(columns=True)
        by, is_falling = self._orders[self._listing.name]
        for at, title in enumerate(self._listing.titles):
            mark = ("▼" if is_falling else "▲") if at == by else " "
            table.add_column(Text(f"{title} {mark}"), key=str(at))

    def _draw_rows(self) -> None:
        listing, look = self._listing, self._at
        rows = self._known_rows(listing, look)
        chosen = [row for row in rows if self._sieve(row)]
        by, is_falling = self._orders[listing.name]
        chosen.sort(key=lambda row: row.identity)
        chosen.sort(key=lambda row: _order_of(row.cells[by]), reverse=is_falling)
        drawn = chosen[:TOP_ROWS_MAX]
        self._say(listing, look, len(chosen), len(drawn), len(rows))
        table = self._table
        at, place = self._under_cursor, table.cursor_row
        left = table.scroll_x
        self._rows = {row.identity: row for row in drawn}
        table.clear()
        for row in drawn:
            table.add_row(*map(_drawn, row.cells), key=row.identity)
        if drawn:
            known = list(self._rows)
            # Where its line is gone, the cursor stays where it was on the screen.
            here = known.index(at) if at in self._rows else min(place, len(known) - 1)
            table.move_cursor(row=max(here, 0), scroll=True)
            table.scroll_to(x=left, animate=False)

    def _known_rows(self, listing: Listing, look: Look | None) -> list[Row]:
        if listing.name == REFUSALS:
            return self._refused
        return [] if look is None else listing.rows(look)

    @property
    def _under_cursor(self) -> str:
        table = self._table
        if not self._rows or not table.is_valid_row_index(table.cursor_row):
            return ""
        key = table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value
        return key or ""

    def _say(
        self, listing: Listing, look: Look | None, chosen: int, drawn: int, known: int
    ) -> None:
        total = known if look is None or listing.name == REFUSALS else listing.total(look)
        words = f"{chosen} of {total}"
        if self._typed:
            words += f" have {printable(self._typed)}"
        if drawn < chosen:
            words += f"; the first {drawn} are shown"
        if known < total:
            words += f"; the gate tells of {known}"
        if listing.name == REFUSALS and self._refusals.cause:
            words = printable(self._refusals.cause)
        if listing.name == ALERTS and look is not None and look.alerts_failure:
            words = printable(look.alerts_failure)
        said = self.query_one("#said", Static)
        said.update(self._filter_cause or words)
        said.set_class(bool(self._filter_cause), "bad")

    # -- keys ----------------------------------------------------------------------------------

    def action_table(self, at: int) -> None:
        """Show another table."""
        self.query_one(Tabs).active = LISTINGS[at].name.lower()

    def action_next(self, step: int = 1) -> None:
        """Show the next table."""
        self.action_table((LISTINGS.index(self._listing) + step) % len(LISTINGS))

    @on(Tabs.TabActivated)
    def _on_tab(self, event: Tabs.TabActivated) -> None:
        (listing,) = [one for one in LISTINGS if one.name.lower() == event.tab.id]
        if listing is self._listing:
            return
        self._listing = listing
        self._rows = {}
        self._read_filter()
        self._draw_columns()
        self._draw_rows()
        self._table.move_cursor(row=0)

    def action_filter(self) -> None:
        """Let a filter be typed."""
        typed = self.query_one("#filter", Input)
        typed.display = True
        typed.focus()

    def action_leave_filter(self) -> None:
        """Go back to the table; from there, take the filter away."""
        typed = self.query_one("#filter", Input)
        if not typed.has_focus:
            typed.value = ""
        typed.display = bool(typed.value)
        self._table.focus()

    @on(Input.Changed, "#filter")
    def _on_typed(self, event: Input.Changed) -> None:
        self._typed = event.value.strip()
        self._read_filter()
        self._draw_rows()

    @on(Input.Submitted, "#filter")
    def _on_typed_whole(self) -> None:
        self.action_leave_filter()

    def _read_filter(self) -> None:
        """Take over what is typed; while it means nothing, what was meant before stays."""
        try:
            now = self._clock.wall()
            self._sieve = sieve_of(self._typed, now, is_asked=self._listing.is_asked)
        except QueryRefused as refused:
            cure = f" ({refused.cure})" if refused.cure else ""
            self._filter_cause = printable(refused.cause + cure)
        else:
            self._filter_cause = ""

    def action_sort(self) -> None:
        """Sort by the next column."""
        by, is_falling = self._orders[self._listing.name]
        self._sort((by + 1) % len(self._listing.titles), is_falling=is_falling)

    def action_turn(self) -> None:
        """Turn the order round."""
        by, is_falling = self._orders[self._listing.name]
        self._sort(by, is_falling=not is_falling)

    @on(DataTable.HeaderSelected)
    def _on_heading(self, event: DataTable.HeaderSelected) -> None:
        by, is_falling = self._orders[self._listing.name]
        wanted = event.column_index
        self._sort(wanted, is_falling=not is_falling if wanted == by else is_falling)

    def _sort(self, by: int, *, is_falling: bool) -> None:
        self._orders[self._listing.name] = by, is_falling
        place = self._table.cursor_row
        self._draw_columns()
        self._draw_rows()
        self._table.move_cursor(row=place)

    def action_pause(self) -> None:
        """Stop asking the gate, or go on."""
        self._is_paused = not self._is_paused
        self._draw_gate()
        self._look_again()

    def action_theme(self) -> None:
        """Change between dark and light."""
        self.theme = _LIGHT if self.theme == _DARK else _DARK

    def action_help(self) -> None:
        """Say what the keys do."""
        self.push_screen(HelpScreen())

    @on(DataTable.RowSelected)
    def action_details(self) -> None:
        """Show everything about a line."""
        row = self._rows.get(self._under_cursor)
        if row is not None:
            self.push_screen(DetailsScreen(self._listing.name, row.details()))

    def action_end(self) -> None:
        """Ask whether a connection, or those of a session, shall end."""
        row = self._rows.get(self._under_cursor)
        if row is None or not row.ends:
            self._tell("nothing of this table can be ended", is_bad=True)
            return
        about = "  ".join(cell.shown for cell in row.cells[:4] if cell.shown)
        noun = "all connections of" if self._listing.name == "Sessions" else "the connection"

        def answered(agrees: bool | None) -> None:
            if agrees:
                self.run_worker(self._end(row.ends), name="end")

        question = f"End {noun} {printable(row.ends)}?"
        self.push_screen(AskScreen(question, about, _END_WARNING), answered)

    async def _end(self, identifier: str) -> None:
        reply = await self._order(KillRequest(identifiers=[identifier]), KilledReply)
        if reply is not None:
            self._tell_done(identifier, reply.killed, "ended", "there")
            await self.look()

    def action_acknowledge(self) -> None:
        """Ask whether somebody has seen an alert."""
        row = self._rows.get(self._under_cursor)
        if row is None or self._listing.name != ALERTS:
            self._tell("there is no alert here to be acknowledged", is_bad=True)
            return
        about = "  ".join(cell.shown for cell in row.cells[3:7] if cell.shown)

        def answered(agrees: bool | None) -> None:
            if agrees:
                self.run_worker(self._acknowledge(row.identity), name="acknowledge")

        question = f"Acknowledge the alert {printable(row.identity)}?"
        self.push_screen(AskScreen(question, about, _ACKNOWLEDGE_WARNING), answered)

    async def _acknowledge(self, identifier: str) -> None:
        reply = await self._order(AcknowledgeRequest(alerts=[identifier]), AcknowledgedReply)
        if reply is not None:
            self._tell_done(identifier, reply.acknowledged, "acknowledged", "open")
            await self.look()

    async def _order(self, order: Request, kind: type[ReplyT]) -> ReplyT | None:
        """Give the gate an order; None: it was not done, and that was told."""
        try:
            return await ask(self._control, order, kind)
        except SluicegateError as error:
            self._tell(str(error), is_bad=True)
            return None

    def _tell_done(self, identifier: str, done: Sequence[str], verb: str, state: str) -> None:
        if identifier in done:
            self._tell(f"{verb} {identifier}")
        else:
            self._tell(f"{identifier} is not {state} any more", is_bad=True)

    def _tell(self, words: str, *, is_bad: bool = False) -> None:
        self.notify(printable(words), severity="error" if is_bad else "information", markup=False)


def _everything(_row: Row) -> bool:
    return True


def _order_of(cell: Cell) -> float | str:
    return cell.order


def _drawn(cell: Cell) -> Text:
    return Text(cell.shown, "bold red" if cell.is_alarming else "", no_wrap=True)


def _warnings(look: Look) -> list[str]:
    """Return what is wrong, what is worst first."""
    status = look.status
    found: list[str] = []
    if status.records_failure:
        found.append(f"records cannot be written: {status.records_failure}")
    found += [
        f"LEARNING {one.name}: what no rule speaks of passes for "
        f"{format_duration(max(one.until - look.time, 0.0))} more"
        for one in status.learning
    ]
    if status.alerts_open:
        word = "alert waits" if status.alerts_open == 1 else "alerts wait"
        found.append(f"{status.alerts_open} {word} to be acknowledged (key 5)")
    found += [f"{one.name} accepts nobody" for one in status.listeners if one.is_paused]
    return found + status.warnings
