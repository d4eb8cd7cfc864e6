"""What stands over the dashboard for a while: one line in full, the question before an end, help.

The invariant: nothing is ended by a key that was meant for something else: the answer that ends is
not the one that is chosen at first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Static
from typing_extensions import override

__all__ = ["AskScreen", "DetailsScreen", "HelpScreen"]


class _Pane(ModalScreen[None]):
    """A text to be read, and to be left by whatever key people try."""

    BINDINGS: ClassVar[list[BindingType]] = [
        ("escape", "app.pop_screen", "Back"),
        ("q", "app.pop_screen", "Back"),
        ("enter", "app.pop_screen", "Back"),
    ]

    def __init__(self, title: str, text: Text) -> None:
        super().__init__()
        self._title = title
        self._text = text

    @override
    def compose(self) -> ComposeResult:
        with Vertical(classes="pane"):
            yield Static(self._title, markup=False, classes="title")
            with VerticalScroll():
                yield Static(self._text)
            yield Static("Esc: back", markup=False, classes="hint")


class DetailsScreen(_Pane):
    """Everything that is known of one line."""

    def __init__(self, title: str, details: Sequence[tuple[str, str]]) -> None:
        text = Text()
        width = max((len(name) for name, _ in details), default=0)
        for name, value in details:
            text.append(f"{name:<{width}}  ", "bold")
            text.append(f"{value}\n")
        super().__init__(title, text)


class HelpScreen(_Pane):
    """What the keys do."""

    def __init__(self) -> None:
        super().__init__("sluicegate top", Text(_HELP))


_HELP = """\
1 … 8, Tab   another table; arrows move in it
/            filter: words, or a query as "sluicegate log" takes it:
               client:10.0.0.0/8 rule:web*
               bytes_to_client>10MiB duration_s>1h -transport:udp
Esc          leave the filter; once more: take it away
s, r         sort by the next column; turn the order round
Enter        everything about the line
k            end the connection, or those of the session
             (it asks first, and the log says who did it)
a            acknowledge the alert (it asks first, too)
p            stop asking the gate, and go on
t            dark or light
q, Ctrl+C    leave

"down" is what clients were sent, "up" what servers were, also
by connections that are open. The line below it is about those
that ended: what the kernel moved alone (spliced), what filters
saw (inspected), and the rest (relayed).

The gate answers its own user and root only: whoever sees this
may end what he sees. Without colors: NO_COLOR=1 sluicegate top.
For programs: sluicegate top --json."""


class AskScreen(ModalScreen[bool]):
    """The question before something is done."""

    BINDINGS: ClassVar[list[BindingType]] = [
        ("y", "answer(True)", "Yes"),
        ("n", "answer(False)", "No"),
        ("escape", "answer(False)", "No"),
    ]

    def __init__(self, question: str, details: str, warning: str) -> None:
        """Ask.

        Args:
            question: One that "yes" does something to.
            details: What it is about; printable.
            warning: What follows from it.
        """
        super().__init__()
        self._question = question
        self._details = details
        self._warning = warning

    @override
    def compose(self) -> ComposeResult:
        with Vertical(classes="pane", id="ask"):
            yield Static(self._question, markup=False, classes="title")
            yield Static(self._details, markup=False)
            yield Static(self._warning, markup=False, classes="hint")
            with Horizontal():
                yield Button("No (n)", id="no")
                yield Button("Yes (y)", id="yes", variant="error")

    def on_mount(self) -> None:
        """Choose the answer that does nothing."""
        self.query_one("#no", Button).focus()

    def action_answer(self, agrees: bool) -> None:
        """Give the answer of a key."""
        self.dismiss(agrees)

    @on(Button.Pressed)
    def _on_pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "yes")
