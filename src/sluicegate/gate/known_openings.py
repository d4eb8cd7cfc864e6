"""KnownOpenings: how dialogues went that began with the same messages, so the next is not parsed.

Clients of a proxy say the same few messages again and again, each in one piece. ``entry_handshake``
looks here first; only what nobody has said yet goes through a parser. The parsers are pure, so
equal bytes give equal steps. The invariant: what is kept is what a new dialogue would answer, with
no byte left over and no credentials in it; and whoever needs the dialogue itself can have it, for
it is made again from the messages that led there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sluicegate.filterapi import EntryMode
from sluicegate.limits import ENTRY_KNOWN_MAX
from sluicegate.protocol_limits import ENTRY_KNOWN_MESSAGE_BYTES_MAX
from sluicegate.protocols.detect import EntryProtocol
from sluicegate.protocols.socks import SocksCommand

from .entry_answers import EntryAnswer
from .entry_dialogue import EntryDialogue, EntryRequest, Step, open_dialogue

if TYPE_CHECKING:
    from .settings import EntrySettings

__all__ = ["ENTRY_MODES", "UNHEARD_OF", "KnownOpenings", "Opening", "replay"]

ENTRY_MODES: Final = {
    EntryProtocol.SOCKS4: EntryMode.SOCKS4,
    EntryProtocol.SOCKS5: EntryMode.SOCKS5,
    EntryProtocol.HTTP_CONNECT: EntryMode.HTTP_CONNECT,
}


class Opening:
    """A dialogue's beginning: the messages up to here, and the step that the last one led to."""

    __slots__ = ("_before", "_message", "following", "granted", "mode", "step")

    def __init__(
        self, before: Opening | None, message: bytes, mode: EntryMode | None, step: Step
    ) -> None:
        self._before = before
        self._message = message
        self.mode = mode
        #: How the client came; None before its first message.
        self.step = step
        #: An answer to be sent, or the request.
        self.granted = b""
        #: What answers a request for a connection that is there.
        self.following: dict[bytes, Opening] = {}
        #: What may come next, by the message.

    def messages(self) -> list[bytes]:
        """Return what the client has said, in order."""
        if self._before is None:
            return []
        return [*self._before.messages(), self._message]


UNHEARD_OF: Final = Opening(None, b"", None, b"")
"""Where a dialogue stands that has left what is known; nothing follows it."""


class KnownOpenings:
    """The openings of one worker's proxy listeners."""

    __slots__ = ("_beginnings", "_count")

    def __init__(self) -> None:
        self._beginnings: dict[str, tuple[EntrySettings, Opening]] = {}
        #: By listener, with the settings that the steps below are for.
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def beginning(self, listener_name: str, entry: EntrySettings) -> Opening:
        """Return where a new client of a listener stands."""
        known = self._beginnings.get(listener_name)
        if known is not None and (known[0] is entry or known[0] == entry):
            return known[1]
        opening = Opening(None, b"", None, b"")
        self._beginnings[listener_name] = entry, opening
        return opening

    def follow(
        self, opening: Opening, message: bytes, dialogue: EntryDialogue, step: Step | None
    ) -> Opening:
        """Return where a dialogue stands after a message that was parsed; kept if it may be."""
        if opening is UNHEARD_OF or not isinstance(step, (bytes, EntryRequest)):
            return UNHEARD_OF
        if not 0 < len(message) <= ENTRY_KNOWN_MESSAGE_BYTES_MAX or not dialogue.is_repeatable:
            return UNHEARD_OF
        known = opening.following.get(message)
        if known is not None:
            return known
        if self._count >= ENTRY_KNOWN_MAX:
            # Begin anew: the frequent ones are soon back.
            self._beginnings.clear()
            self._count = 0
        self._count += 1
        after = Opening(opening, message, ENTRY_MODES[dialogue.protocol], step)
        if isinstance(step, EntryRequest) and step.command is SocksCommand.CONNECT:
            after.granted = dialogue.encode_answer(EntryAnswer.GRANTED)
        opening.following[message] = after
        return after


def replay(opening: Opening, entry: EntrySettings, reference: str) -> EntryDialogue:
    """Return a dialogue that has heard what led to an opening, and has said what followed."""
    assert opening.mode is not None, "before the first message there is no dialogue"
    dialogue = open_dialogue(_PROTOCOLS[opening.mode], entry.authenticate, reference)
    for message in opening.messages():
        dialogue.receive_data(message)
        dialogue.next_step()
    return dialogue


_PROTOCOLS: Final = {mode: protocol for protocol, mode in ENTRY_MODES.items()}
