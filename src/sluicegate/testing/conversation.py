r"""Conversations: what a client and a server say through a filter, as a value and as a text file.

``replay`` plays them, ``splits`` cuts them, playbooks record them, and the golden ones stand beside
the tests. The invariant: writing and reading are inverse, and a file is text that a person can
review: one step per line.

The format, line by line; empty lines and lines that begin with ``#`` say nothing::

    sluicegate conversation 1
    object download "letter.docx"
    client sends "SSH-2.0-client\r\n"
    server receives "SSH-2.0-client\r\n"
    wait 2.5
    client ends
    server receives end
    server resets
    client receives reset
    outcome refused "not an SSH client"

The first line names the format. ``object`` (``download`` or ``upload``, then a name) has the whole
connection held as one object, for content filters. Texts are quoted; ``\r``, ``\n``, ``\t``,
``\"``, ``\\`` and ``\x00`` are the escapes, everything else stands for its ASCII byte. A line that
begins with spaces and a quoted text goes on with the bytes of the line before it. ``outcome`` is
``open``, ``released``, ``refused`` or ``failed``, with the reason where there is one.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal, TypeAlias

from typing_extensions import override

from sluicegate.filterapi import Direction, TransferOffer

from .difference import shown_lines

__all__ = ["Action", "Conversation", "ConversationLike", "NotAConversation", "Step", "Who"]

Who: TypeAlias = Literal["client", "server", ""]

_HEAD: Final = "sluicegate conversation 1"
_QUOTED: Final = r'"(?:[^"\\]|\\.)*"'
_STEP: Final = re.compile(
    rf"(?P<who>client|server) (?P<action>sends|receives) (?P<text>{_QUOTED})", re.ASCII
)
_BARE: Final = re.compile(r"(?P<who>client|server) (?P<action>ends|resets|receives (?:end|reset))")
_WAIT: Final = re.compile(r"wait (?P<seconds>\d+(?:\.\d+)?)")
_OBJECT: Final = re.compile(rf"object (?P<direction>download|upload) (?P<text>{_QUOTED})")
_OUTCOME: Final = re.compile(
    rf"outcome (?P<outcome>open|released|refused|failed)(?: (?P<text>{_QUOTED}))?"
)
_MORE: Final = re.compile(rf"\s+(?P<text>{_QUOTED})")
_ESCAPE: Final = re.compile(r"\\(?:x(?P<hex>[0-9a-fA-F]{2})|(?P<one>.))")
_ESCAPED: Final = {"r": "\r", "n": "\n", "t": "\t", '"': '"', "\\": "\\"}


class NotAConversation(ValueError):
    """A text is no conversation: says in which line, and what is right."""


class Action(enum.StrEnum):
    """What happens in one step."""

    SENDS = "sends"
    ENDS = "ends"
    RESETS = "resets"
    WAIT = "wait"
    RECEIVES = "receives"
    RECEIVES_END = "receives end"
    RECEIVES_RESET = "receives reset"
    OUTCOME = "outcome"

    @property
    def is_given(self) -> bool:
        """Whether it is done to the filter; else it is what came of that."""
        return self in {Action.SENDS, Action.ENDS, Action.RESETS, Action.WAIT}


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a conversation."""

    who: Who
    action: Action
    data: bytes = b""
    """What is sent or received; for an outcome its reason, as UTF-8."""
    seconds: float = 0.0
    """How long ``wait`` waits, on the virtual clock."""
    outcome: str = ""

    @override
    def __str__(self) -> str:
        """Write it as in the file."""
        if self.action is Action.WAIT:
            return f"wait {self.seconds:g}"
        if self.action is Action.OUTCOME:
            return " ".join(["outcome", self.outcome, *([_one(self.data)] if self.data else [])])
        bare = f"{self.who} {self.action.value}"
        if self.action not in {Action.SENDS, Action.RECEIVES}:
            return bare
        indent = "\n" + " " * (len(bare) + 1)
        return f"{bare} {indent.join(shown_lines(self.data))}"


ConversationLike: TypeAlias = "Conversation | bytes | Sequence[tuple[str, bytes]] | str | Path"
"""A conversation; the bytes that a client sends; who sends what, in order; or a file's path."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """Steps in their order; what is done to the filter, and what came of it if that is known."""

    steps: tuple[Step, ...]
    offer: TransferOffer | None = None
    """Has the connection held as one object; None relays it."""

    @classmethod
    def of(cls, what: ConversationLike) -> Conversation:
        """Make one of whatever describes one; bytes and pairs end both streams at their end.

        Raises:
            NotAConversation: The file is none.
            OSError: The file cannot be read.
        """
        if isinstance(what, Conversation):
            return what
        if isinstance(what, str | Path):
            return cls.parse(Path(what).read_text(encoding="utf-8"), str(what))
        pairs = [("client", what)] if isinstance(what, bytes) else what
        steps = [Step(_who(who), Action.SENDS, data) for who, data in pairs]
        return cls((*steps, Step("client", Action.ENDS), Step("server", Action.ENDS)))

    @classmethod
    def parse(cls, text: str, where: str = "conversation") -> Conversation:
        """Read a text; its first line may be missing where it is no file.

        Raises:
            NotAConversation: A line is none of the format's.
        """
        steps: list[Step] = []
        offer: TransferOffer | None = None
        for number, line in enumerate(text.splitlines(), 1):
            bare = line.strip()
            if not bare or bare.startswith("#") or bare == _HEAD:
                continue
            if found := _OBJECT.fullmatch(bare):
                offer = TransferOffer(_text(found["text"]), Direction(found["direction"]), "test")
            elif (found := _MORE.fullmatch(line.rstrip())) and steps and steps[-1].data:
                steps[-1] = replace(steps[-1], data=steps[-1].data + _bytes(found["text"]))
            else:
                try:
                    steps.append(_parse_step(bare))
                except ValueError as error:
                    raise NotAConversation(f"{where}:{number}: {error}") from error
        return cls(tuple(steps), offer)

    @override
    def __str__(self) -> str:
        """Write it as a file's text."""
        return "\n".join([_HEAD, *self.lines(), ""])

    def lines(self) -> list[str]:
        """Return its lines, without the first one of a file."""
        head = []
        if self.offer is not None:
            head = [f"object {self.offer.direction.value} {_one(self.offer.name.encode())}"]
        return head + [line for step in self.steps for line in str(step).split("\n")]

    @property
    def given(self) -> tuple[Step, ...]:
        """The steps that are done to the filter, without what came of them."""
        return tuple(step for step in self.steps if step.action.is_given)

    @property
    def has_results(self) -> bool:
        """Whether it says what comes of its steps."""
        return any(not step.action.is_given for step in self.steps)

    def settled(self) -> Conversation:
        """Return it with what came of each step in one order: server first, bytes joined."""
        return replace(self, steps=tuple(_settled(self.steps)))

    def split(self, cuts: Iterable[tuple[int, int]]) -> Conversation:
        """Return it with sends cut in pieces, and without results.

        Args:
            cuts: Which of the given steps, and behind how many of its bytes.
        """
        by_step: dict[int, set[int]] = {}
        for index, at in cuts:
            by_step.setdefault(index, set()).add(at)
        steps: list[Step] = []
        for index, step in enumerate(self.given):
            places = sorted(p for p in by_step.get(index, ()) if 0 < p < len(step.data))
            edges = [0, *places, len(step.data)]
            if step.action is Action.SENDS and places:
                pairs = pairwise(edges)
                steps += [replace(step, data=step.data[a:b]) for a, b in pairs]
            else:
                steps.append(step)
        return replace(self, steps=tuple(steps))

    def cut_points(self) -> list[tuple[int, int]]:
        """Return every place where a send can be cut."""
        return [
            (index, at)
            for index, step in enumerate(self.given)
            if step.action is Action.SENDS
            for at in range(1, len(step.data))
        ]


def _settled(steps: Iterable[Step]) -> Iterator[Step]:
    group: list[Step] = []
    for step in steps:
        if step.action.is_given or step.action is Action.OUTCOME:
            yield from _in_order(group)
            group = []
            yield step
        else:
            group.append(step)
    yield from _in_order(group)


def _in_order(group: Sequence[Step]) -> Iterator[Step]:
    for who in ("server", "client"):
        own = [step for step in group if step.who == who]
        data = b"".join(step.data for step in own)
        if data:
            yield Step(_who(who), Action.RECEIVES, data)
        yield from (step for step in own if step.action is not Action.RECEIVES)


def _parse_step(line: str) -> Step:
    if found := _STEP.fullmatch(line):
        return Step(_who(found["who"]), Action(found["action"]), _bytes(found["text"]))
    if found := _BARE.fullmatch(line):
        return Step(_who(found["who"]), Action(found["action"]))
    if found := _WAIT.fullmatch(line):
        return Step("", Action.WAIT, seconds=float(found["seconds"]))
    if found := _OUTCOME.fullmatch(line):
        reason = _bytes(found["text"]) if found["text"] else b""
        return Step("", Action.OUTCOME, reason, outcome=found["outcome"])
    raise ValueError(
        f'{line!r} is no step (client sends "…", server ends, client receives reset, wait 5, '
        'outcome refused "…")'
    )


def _bytes(quoted: str) -> bytes:
    def unescape(found: re.Match[str]) -> str:
        if found["hex"]:
            return chr(int(found["hex"], 16))
        if found["one"] not in _ESCAPED:
            raise ValueError(f"there is no escape \\{found['one']}")
        return _ESCAPED[found["one"]]

    inner = quoted[1:-1]
    if not inner.isascii():
        raise ValueError(r"only ASCII stands for itself; write other bytes as \x00")
    return _ESCAPE.sub(unescape, inner).encode("latin-1")


def _text(quoted: str) -> str:
    return _bytes(quoted).decode("utf-8", "backslashreplace")


def _one(data: bytes) -> str:
    """Return one quoted text, however long."""
    return '"' + "".join(line[1:-1] for line in shown_lines(data)) + '"'


def _who(name: str) -> Who:
    if name == "client":
        return "client"
    if name == "server":
        return "server"
    raise ValueError(f"{name!r} is neither client nor server")
