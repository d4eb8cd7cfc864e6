"""One end of a scripted exchange: a client or a server that does what the test says.

``playbook`` makes two per connection. A peer sends in the background of virtual time and reads
ahead, to a bound, so that tests can ask at any moment what has come. The invariant: every byte that
came is expected by the test once, in order, or is reported.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from .difference import difference_of_bytes, shown, shown_lines
from .network import SimulatedNetwork, SimulatedSocket
from .sizes import BulkBytes

__all__ = ["PlaybookError", "ScriptedPeer"]

_READ_AHEAD_BYTES_MAX: Final = 1 << 18
"""What a peer reads that the test has not asked for; then its sender must wait."""

_PIECE_BYTES: Final = 1 << 16


class PlaybookError(AssertionError):
    """The exchange did not go as the playbook says."""


class ScriptedPeer:
    """The client or the server of one connection; every method returns when the world is quiet."""

    def __init__(
        self,
        name: str,
        network: SimulatedNetwork,
        settle: Callable[[], None],
        fail: Callable[[str], PlaybookError],
    ) -> None:
        self.name = name
        self.received_count = 0
        #: Bytes that came so far.
        self.sent_count = 0
        #: Bytes that the network took so far.
        self.fresh = bytearray()
        #: What came and was not yet noted in the transcript.
        self.is_noted = True
        #: Whether ``fresh`` is kept.
        self.came_to_end = ""
        #: ``end`` or ``reset`` once the stream of the other side is over.
        self._network = network
        self._settle = settle
        self._fail = fail
        self._socket: SimulatedSocket | None = None
        self._unread = bytearray()
        self._queue: list[bytes | BulkBytes] = []
        self._sent_of_first = 0
        self._is_ending = False
        self._changes = 0
        #: How often it was told that something changed, and has not looked.
        self._on_step: Callable[[str, bytes], None] = _ignore_step
        self._on_bulk: Callable[[], None] = _ignore_bulk

    def attach(self, sock: SimulatedSocket) -> None:
        """Take the connected socket (the playbook only)."""
        self._socket = sock
        sock.on_change = self._on_change
        self._on_change()

    def refuse(self) -> None:
        """Take that there is no connection to be had (the playbook only)."""
        self.came_to_end = "reset"

    def note_steps(
        self, on_step: Callable[[str, bytes], None], on_bulk: Callable[[], None]
    ) -> None:
        """Tell each of the test's own steps, or that it sends bulk (the playbook only)."""
        self._on_step = on_step
        self._on_bulk = on_bulk

    def note_no_more(self) -> None:
        """Keep nothing of what comes: there is too much of it (the playbook only)."""
        self.is_noted = False
        self.fresh.clear()

    # -- what the test lets it do ----------------------------------------------------------------

    def sends(self, data: bytes | BulkBytes) -> None:
        """Send; what the network does not take now goes on its way as soon as it does."""
        __tracebackhide__ = True
        self._check_can_act("send")
        if isinstance(data, BulkBytes):
            self._on_bulk()
        else:
            data = bytes(data)  # a copy of what may change, and an error for a str
            self._on_step("sends", data)
        self._queue.append(data)
        self._on_change()
        self._settle()

    def ends(self) -> None:
        """End the stream behind what was sent, and go on reading."""
        __tracebackhide__ = True
        self._check_can_act("end its stream")
        self._on_step("ends", b"")
        self._is_ending = True
        self._on_change()
        self._settle()

    def resets(self) -> None:
        """Break the connection off."""
        __tracebackhide__ = True
        self._check_can_act("reset")
        self._on_step("resets", b"")
        self.hang_up()
        self._settle()

    # -- what the test expects -------------------------------------------------------------------

    def receives(self, expected: bytes | BulkBytes | re.Pattern[bytes]) -> None:
        """Expect exactly this, and nothing behind it, since the last expectation.

        Raises:
            PlaybookError: Something else came, or nothing.
        """
        __tracebackhide__ = True
        self._settle()
        if isinstance(expected, BulkBytes):
            self._receives_bulk(expected)
            return
        came = self.reads()
        if isinstance(expected, re.Pattern):
            if not expected.fullmatch(came):
                raise self._fail(
                    f"the {self.name} was to receive what matches {expected.pattern!r}\n"
                    f"it received {shown(came)}"
                )
        elif came != expected:
            hint = "" if came else f"\nnothing came to the {self.name}"
            raise self._fail(
                f"the {self.name} was to receive something else{hint}\n"
                f"{difference_of_bytes(expected, came)}"
            )

    def receives_nothing(self) -> None:
        """Expect that no byte has come since the last expectation: what was sent is held.

        Raises:
            PlaybookError: Something came.
        """
        __tracebackhide__ = True
        self._settle()
        if self._unread:
            came = "\n".join(f"+ {line}" for line in shown_lines(bytes(self._unread[:2000])))
            raise self._fail(
                f"nothing was to reach the {self.name} yet, and {len(self._unread)} bytes came\n"
                f"{came}"
            )

    def receives_end(self) -> None:
        """Expect the end of the stream, and nothing before it since the last expectation.

        Raises:
            PlaybookError: Bytes came, or a reset, or the stream is open.
        """
        __tracebackhide__ = True
        self._receives_over("end", "the end of the stream")

    def receives_reset(self) -> None:
        """Expect that the connection was broken off, and nothing before it.

        Raises:
            PlaybookError: Bytes came, or a clean end, or the connection is open.
        """
        __tracebackhide__ = True
        self._receives_over("reset", "a reset")

    def reads(self) -> bytes:
        """Return what has come since the last expectation, and take it as expected."""
        self._settle()
        came = bytes(self._unread)
        self._unread.clear()
        self._on_change()
        return came

    # -- asking ----------------------------------------------------------------------------------

    @property
    def is_connected(self) -> bool:
        """Whether it ever had a connection (a server: whether the gate dialled it)."""
        return self._socket is not None

    @property
    def unread(self) -> bytes:
        """What has come since the last expectation."""
        return bytes(self._unread)

    @property
    def unsent(self) -> int:
        """Bytes that the network has not taken yet: somebody does not read."""
        return sum(map(len, self._queue)) - self._sent_of_first

    @property
    def can_act(self) -> bool:
        """Whether it is connected and nobody has broken the connection off."""
        sock = self._socket
        return sock is not None and not sock.is_closed and self.came_to_end != "reset"

    @property
    def progress(self) -> int:
        """Grows with everything that happens here."""
        return self.received_count + self.sent_count + bool(self.came_to_end)

    def hang_up(self) -> None:
        """Reset the connection if it is there."""
        sock = self._socket
        if sock is not None and not sock.is_closed:
            self._queue.clear()
            self._sent_of_first = 0
            self._network.reset(sock)
            sock.close()

    # -- private ---------------------------------------------------------------------------------

    def _receives_over(self, how: str, what: str) -> None:
        __tracebackhide__ = True
        self._settle()
        if self._unread:
            raise self._fail(
                f"the {self.name} was to receive {what}; before it came "
                f"{shown(bytes(self._unread[:2000]))}"
            )
        if self.came_to_end != how:
            came = {"": "it is open", "end": "its stream ended", "reset": "it was reset"}
            raise self._fail(f"the {self.name} was to receive {what}; {came[self.came_to_end]}")

    def _receives_bulk(self, expected: BulkBytes) -> None:
        __tracebackhide__ = True
        at = 0
        while came := self.reads():
            wanted = expected.piece(at, len(came))
            if came != wanted:
                differs = f"behind {at} equal bytes {difference_of_bytes(wanted, came)}"
                raise self._fail(f"the {self.name} was to receive something else\n{differs}")
            at += len(came)
        if at != expected.size:
            raise self._fail(
                f"the {self.name} was to receive {expected.size} bytes, {at} of them came"
            )

    def _check_can_act(self, what: str) -> None:
        __tracebackhide__ = True
        if self._socket is None:
            raise self._fail(f"the {self.name} cannot {what}: the gate has not connected to it")
        if not self.can_act:
            raise self._fail(f"the {self.name} cannot {what}: the connection was broken off")
        if self._is_ending and what != "reset":
            raise self._fail(f"the {self.name} cannot {what}: it has ended its stream")

    def _on_change(self) -> None:
        self._changes += 1
        if self._changes > 1:
            return  # told by a call of our own: whoever made it looks again
        seen = 0
        try:
            while seen < self._changes:
                seen = self._changes
                self._look()
        finally:
            self._changes = 0

    def _look(self) -> None:
        sock = self._socket
        if sock is None or sock.is_closed:
            return
        self._push(sock)
        self._pull(sock)
        is_sent = not self._queue and self._is_ending
        if self.came_to_end == "reset" or (self.came_to_end and is_sent):
            sock.close()

    def _push(self, sock: SimulatedSocket) -> None:
        try:
            while self._queue:
                piece = self._next_piece()
                if piece:
                    taken = sock.send(piece)
                    self.sent_count += taken
                    self._sent_of_first += taken
                if self._sent_of_first == len(self._queue[0]):
                    del self._queue[0]
                    self._sent_of_first = 0
            if self._is_ending:
                sock.shutdown(1)
        except BlockingIOError:
            return  # told again when there is room
        except OSError:
            self._queue.clear()
            self._sent_of_first = 0

    def _next_piece(self) -> bytes:
        first, at = self._queue[0], self._sent_of_first
        if isinstance(first, BulkBytes):
            return first.piece(at, _PIECE_BYTES)
        return first[at : at + _PIECE_BYTES]

    def _pull(self, sock: SimulatedSocket) -> None:
        while not self.came_to_end and len(self._unread) < _READ_AHEAD_BYTES_MAX:
            try:
                data = sock.receive(_PIECE_BYTES)
            except BlockingIOError:
                return
            except OSError:
                self.came_to_end = "reset"
                return
            if not data:
                self.came_to_end = "reset" if sock.is_reset else "end"
                return
            self.received_count += len(data)
            self._unread += data
            if self.is_noted:
                self.fresh += data


def _ignore_step(_action: str, _data: bytes) -> None:
    """Nobody notes the steps."""


def _ignore_bulk() -> None:
    """Nobody notes what comes."""
