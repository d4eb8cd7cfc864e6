"""EntryHandshake: one client of a proxy listener, from its first byte to the tunnel or the refusal.

``entry`` makes one per accepted client; when the request is there, ``entry`` decides and an
``EntryConnection`` takes over, which comes back here to answer. The invariant: the client's socket
has one owner: this handshake until ``hand_over``, the connection's pump or chain after it; and what
the client sent ahead is the tunnel's, byte for byte, in order.

It runs on completions alone: only a password that has to be verified costs a task. One receive
stays armed from the first byte to the last of the tunnel: the pump takes over the operation, so
that nothing is cancelled and started again between handshake and tunnel.
"""

from __future__ import annotations

import enum
import errno
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from sluicegate.address import SocketAddress
from sluicegate.buffer import ConstBuffer
from sluicegate.errors import (
    DirectoryFailed,
    LimitExceeded,
    ProtocolError,
    TransportError,
    errno_name,
)
from sluicegate.filterapi import EntryMode
from sluicegate.limits import (
    ENTRY_AHEAD_BYTES_MAX,
    ENTRY_LINGER_BYTES_MAX,
    ENTRY_LINGER_S,
    ENTRY_READ_BYTES_MAX,
)
from sluicegate.port.account import Kept
from sluicegate.port.backend import BUFFER, MORE, SEND_FLAGS, SLOT_SHIFT, Operation, RawSocket
from sluicegate.port.given_away import GivenAway
from sluicegate.port.layer import LayeredSocket
from sluicegate.protocols.detect import EntryProtocol, detect_protocol
from sluicegate.protocols.entry import Credentials

from .asker import Asker
from .entry_answers import EntryAnswer
from .entry_dialogue import EntryDialogue, EntryRequest, Rejected, Step, open_dialogue
from .internal_error import internal_error
from .known_openings import ENTRY_MODES, Opening, replay
from .settings import EntrySettings

if TYPE_CHECKING:
    from sluicegate.filterapi import User

    from .entry import EntryDesk
    from .entry_connection import EntryConnection
    from .flood_count import FloodClient
    from .proxy_header import Announced
    from .udp_association import UdpAssociation

__all__ = ["EntryHandshake", "HandshakeEnd"]

SHUT_WR: Final = 1


class HandshakeEnd:
    """Reason codes of clients that never came to a decision."""

    LEFT: Final = "client-left"
    """The client closed before it had asked for anything."""
    TIMED_OUT: Final = "handshake-timeout"
    UNKNOWN_PROTOCOL: Final = "unknown-protocol"
    """What it began with is none of the protocols that the listener takes."""
    MALFORMED: Final = "malformed-request"
    WRONG_PASSWORD: Final = "wrong-password"  # noqa: S105 - a reason, not a secret
    PASSWORD_THROTTLED: Final = "too-many-wrong-passwords"  # noqa: S105 - a reason, not a secret
    DIRECTORY_FAILED: Final = "directory-failed"
    """The directory of users could not be asked, or did not answer clearly."""
    TLS_FAILED: Final = "tls-failed"
    """The client's TLS handshake failed, or its TLS later on."""
    CERTIFICATE_REFUSED: Final = "certificate-refused"
    """The client's certificate is good, and names nobody who may come."""
    STOPPING: Final = "service stopping"


class _Phase(enum.Enum):
    """Whose turn it is."""

    READING = enum.auto()
    BUSY = enum.auto()
    """Something is being sent, verified or decided; what comes meanwhile waits."""
    LINGERING = enum.auto()
    """It was refused, and reads why."""
    OVER = enum.auto()
    """Handed over, or being closed."""


# Globals are found faster than attributes of a class.
_READING: Final = _Phase.READING
_BUSY: Final = _Phase.BUSY
_OVER: Final = _Phase.OVER


class EntryHandshake:
    """One client before its tunnel; the service's table has it until then."""

    __slots__ = (
        "_ahead",
        "_desk",
        "_dialogue",
        "_discarded",
        "_driver",
        "_ended",
        "_op",
        "_opening",
        "_paused",
        "_phase",
        "_port",
        "_send_op",
        "_until",
        "announced",
        "client",
        "connection",
        "entry",
        "flood",
        "id",
        "is_handed_over",
        "listener_name",
        "raw",
        "stays_half_open",
        "user",
        "wheel_slot",
    )

    def __init__(
        self,
        desk: EntryDesk,
        listener_name: str,
        entry: EntrySettings,
        raw: RawSocket,
        client: SocketAddress,
        flood: FloodClient,
        *,
        operation: Operation | None = None,
    ) -> None:
        """Begin to receive; whoever made it has it on a table before the next turn.

        Args:
            desk: Decides.
            listener_name: Where the client came.
            entry: What that listener takes.
            raw: The client's socket.
            client: Its address.
            flood: Who counts it.
            operation: That receives from the socket already; None: nobody does.
        """
        service, port = desk.service, desk.port
        self.id = service.connection_ids.next()
        #: The connection's identifier, should there be one; what answers quote.
        self.listener_name = listener_name
        self.entry = entry
        self.raw = raw
        self.client = client
        self.flood = flood
        #: On whose account it is, as a connection that is half-open, until it is handed over.
        self.is_handed_over = self.stays_half_open = False
        #: Whether somebody else has it, and counts it as half-open from there on.
        self.announced: Announced | None = None
        #: What a peer said of the client, by the PROXY protocol.
        self.user: User | None = None
        #: Who the client proved to be.
        self.connection: EntryConnection | UdpAssociation | None = None
        #: Who decides and dials, once the request is there.
        self.wheel_slot = -1
        self._desk = desk
        self._port = port
        self._phase = _READING
        self._opening: Opening = desk.openings.beginning(listener_name, entry)
        #: What the client has said so far, as long as others have said the same.
        self._dialogue: EntryDialogue | None = None
        #: Made when somebody says something new, or when more is asked of it than is known.
        self._ahead = b""
        #: Received, and not given to the dialogue.
        self._ended = False
        #: The client's end of stream has come.
        self._paused = False
        #: It sent too much ahead: nothing is received until the tunnel.
        self._discarded = 0
        self._send_op: Operation | None = None
        self._driver = raw.driver if isinstance(raw, LayeredSocket) else port.backend
        if operation is None:
            self._op: Operation = port.operations.take(self._on_received)
            self._driver.receive(self._op, raw)
        else:
            self._op = operation
            port.backend.redirect(operation, self._on_received)
            self._arm()
        self._until = port.now + service.limits.handshake_timeout_s
        service.wheel.add(self, self._until)

    @property
    def is_understood(self) -> bool:
        """Whether the client speaks a protocol that is served here."""
        return self._dialogue is not None or self._opening.mode is not None

    @property
    def mode(self) -> EntryMode:
        """How the client came; only once it is understood."""
        return self._opening.mode or ENTRY_MODES[self.dialogue.protocol]

    @property
    def dialogue(self) -> EntryDialogue:
        """The dialogue, which is there once a byte was understood."""
        if self._dialogue is None:
            self._dialogue = replay(self._opening, self.entry, self.id)
        return self._dialogue

    @property
    def refusal(self) -> str:
        """Why nobody may come by the certificate that the client showed; empty if it may."""
        return ""

    @property
    def speaks_http2(self) -> bool:
        """Whether TLS has agreed on HTTP/2."""
        return False

    @property
    def granted(self) -> bytes:
        """What tells the client that its tunnel is there."""
        return self._opening.granted or self.dialogue.encode_answer(EntryAnswer.GRANTED)

    # -- receiving -----------------------------------------------------------------------------

    def hear(self, data: bytes, *, ended: bool) -> None:
        """Take what somebody else has received of the client before."""
        self._ended = ended
        self._ahead += data
        self._parse()
        if ended and self._phase is _READING:
            self.turn_away(HandshakeEnd.LEFT)

    def _on_received(self, result: int, flags: int) -> None:
        data = b""
        if flags & BUFFER:
            pool = self._driver.pool
            slot = pool.slots[flags >> SLOT_SHIFT]
            data = bytes(slot.view[:result])
            pool.give_back(slot)
        if self._phase is not _READING or not data:
            self._on_received_late(result, data)
        elif (known := self._opening.following.get(data)) is not None and not self._ahead:
            self._opening, self._dialogue = known, None
            self.take_step(known.step)
        else:
            self._ahead += data
            self._parse()
        if not flags & MORE:
            self._arm()

    def _on_received_late(self, result: int, data: bytes) -> None:
        """Take what is not a message that is waited for."""
        if self._phase is _OVER:
            self._finish_close()
        elif self._phase is _Phase.LINGERING:
            self._linger_on(data, result)
        elif data:
            self._ahead += data
            if len(self._ahead) > ENTRY_AHEAD_BYTES_MAX and not self._paused:
                self._paused = True
                self._driver.cancel(self._op)
        elif result == 0:
            self._on_end()
        elif result != -errno.ECANCELED:
            self._on_failure(-result)

    def _arm(self) -> None:
        if self._phase is _OVER or self._paused or self._ended or self._op.in_flight:
            return
        self._driver.receive(self._op, self.raw)

    def _on_end(self) -> None:
        """Take the client's end of stream: before its request it has gone, after it may wait."""
        self._ended = True
        if self._phase is _Phase.READING:
            self.turn_away(HandshakeEnd.LEFT)

    def _on_failure(self, error: int) -> None:
        """Take that receiving has failed: the client is gone."""
        self._ended = True
        if self._phase is _Phase.LINGERING:
            self.close(abortive=True)
        elif self.connection is not None:
            self.connection.on_client_failure(error)
        else:
            self.turn_away(self.words_for(error))

    def words_for(self, error: int) -> str:
        """Return the reason of a client whose connection failed."""
        return f"client {errno_name(error)}"

    # -- reading -------------------------------------------------------------------------------

    def _parse(self) -> None:
        """Go on with the dialogue as far as what came allows."""
        try:
            while self._phase is _READING:
                dialogue = self._dialogue or self._open_dialogue()
                if dialogue is None:
                    return
                piece = b""
                if self._ahead and dialogue.needs_data:
                    piece = self._ahead[:ENTRY_READ_BYTES_MAX]
                    self._ahead = self._ahead[ENTRY_READ_BYTES_MAX:]
                    dialogue.receive_data(piece)
                step = dialogue.next_step()
                if piece or step is not None:
                    self._opening = self._desk.openings.follow(self._opening, piece, dialogue, step)
                if step is not None:
                    self.take_step(step)
                elif not self._ahead or not dialogue.needs_data:
                    return
        except ProtocolError as error:
            reply = self._dialogue.refusal if self._dialogue is not None else b""
            self.turn_away(f"{HandshakeEnd.MALFORMED}: {error.hint}", reply)

    def take_step(self, step: Step) -> None:
        """Do what comes next in the dialogue."""
        if isinstance(step, bytes):
            self._phase = _BUSY
            self.send(step, self.go_on)
        elif isinstance(step, EntryRequest):
            self._phase = _BUSY
            self._desk.decide(self, step)
        elif isinstance(step, Rejected):
            self.turn_away(step.reason, step.reply)
        else:
            self._phase = _BUSY
            self._verify(step)

    def _open_dialogue(self) -> EntryDialogue | None:
        if self._opening.mode is not None:
            return self.dialogue
        if self.speaks_http2:
            self._phase = _BUSY
            self._desk.service.web.admit_explicit(self)
            return None
        protocol = detect_protocol(self._ahead)
        if protocol is None:
            return None
        if protocol not in self.entry.protocols:
            self.turn_away(HandshakeEnd.UNKNOWN_PROTOCOL)
            return None
        if protocol is EntryProtocol.HTTP:
            self._phase = _BUSY
            self._desk.service.web.admit_explicit(self)
            return None
        self._dialogue = open_dialogue(protocol, self.entry.authenticate, self.id)
        return self._dialogue

    def wait(self) -> None:
        """Read nothing of the client until ``go_on``; what comes meanwhile waits, bounded."""
        self._phase = _BUSY

    def go_on(self) -> None:
        """Read on: an answer in the middle of the dialogue was sent, or a wait is over."""
        if self._phase is not _BUSY:
            return
        self._phase = _READING
        if self._ahead or self._dialogue is not None:
            self._parse()
        if self._ended and self._phase is _READING:
            self.turn_away(HandshakeEnd.LEFT)

    @property
    def asker(self) -> Asker:
        """Who asks."""
        return Asker(self.listener_name, self.client, self.user)

    # -- credentials ---------------------------------------------------------------------------

    def _verify(self, credentials: Credentials) -> None:
        desk = self._desk
        if desk.throttle.is_refused(self.client.host):
            self._reject(HandshakeEnd.PASSWORD_THROTTLED)
        else:
            desk.service.spawn(self._authenticate(credentials))

    async def _authenticate(self, credentials: Credentials) -> None:
        desk = self._desk
        try:
            user = await desk.authenticator.authenticate(credentials.username, credentials.password)
        except LimitExceeded as error:
            desk.on_limit(error, self.client)
            self._reject(f"limit {error.limit}")
            return
        except DirectoryFailed as error:
            self._reject(f"{HandshakeEnd.DIRECTORY_FAILED}: {error.cause}")
            return
        except TransportError as error:
            self._reject(f"password not verified: {errno_name(error.error)}")
            return
        if self._phase is not _BUSY:
            return
        if user is None:
            desk.throttle.note_failure(self.client.host)
            self._reject(HandshakeEnd.WRONG_PASSWORD)
            return
        self.user = desk.view_of(user)
        reply = self.dialogue.answer_credentials(is_accepted=True)
        if reply:
            self.send(reply, self.go_on)
        else:
            self.go_on()

    def _reject(self, reason: str) -> None:
        if self._phase is _BUSY:
            self.turn_away(reason, self.dialogue.answer_credentials(is_accepted=False))

    # -- sending -------------------------------------------------------------------------------

    def send(self, data: bytes, then: Callable[[], None]) -> None:
        """Send all of a short answer, then go on; a failure ends the client."""
        try:
            sent = self.raw.send(data, SEND_FLAGS)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._on_failure(error.errno or errno.EIO)
            return
        if sent == len(data):
            then()
        else:
            self._send_rest(data[sent:], then)

    def _send_rest(self, data: bytes, then: Callable[[], None]) -> None:
        """Send what the kernel did not take at once."""
        rest = ConstBuffer(data)
        rest.lease()

        def on_sent(result: int, _flags: int) -> None:
            rest.release()
            if self._phase is _OVER:
                self._finish_close()
            elif result < 0:
                self._on_failure(-result)
            else:
                then()

        self._send_op = Operation(on_sent)
        self._driver.send(self._send_op, self.raw, rest, 0, rest.used)

    # -- the end -------------------------------------------------------------------------------

    def turn_away(self, reason: str, reply: bytes = b"") -> None:
        """Refuse a client that never came to a decision, with the record of it."""
        if self._phase in {_Phase.LINGERING, _OVER}:
            return
        self._desk.record_refusal(self, reason)
        self.end(reply)

    def on_internal_error(self, error: BaseException) -> None:
        """Take that an error of ours was raised in its work (``port.Answerable``)."""
        if self._phase is _OVER:
            self._finish_close()
        elif self._phase is _Phase.LINGERING:
            self.close(abortive=True)
        elif self.connection is None:
            self.turn_away(internal_error(error))
        else:
            self.connection.on_internal_error(error)
            if self._phase is _BUSY:
                self.close(abortive=True)  # it had let go of it, and not taken it over yet

    def refuse(self, answer: EntryAnswer) -> None:
        """Tell the client how its request ended, and end it; the record is somebody else's."""
        self.end(self.dialogue.encode_answer(answer) if self.is_understood else b"")

    def reset(self) -> None:
        """Abort the client's connection without an answer; the record is somebody else's."""
        self.close(abortive=True)

    def end(self, reply: bytes) -> None:
        """Send a last reply, and close so that it arrives."""
        if self._phase in {_Phase.LINGERING, _OVER}:
            return
        if not reply or (self._send_op is not None and self._send_op.in_flight):
            self.close(abortive=bool(reply) or not self._ended)
            return
        self._phase = _Phase.LINGERING
        self._ahead = b""
        self.connection = None
        service = self._desk.service
        self._until = self._port.now + ENTRY_LINGER_S
        service.wheel.add(self, self._until)
        self.send(reply, self._begin_linger)

    def _begin_linger(self) -> None:
        try:
            self.raw.shutdown(SHUT_WR)
        except OSError:
            self.close(abortive=True)  # it has gone
            return
        if self._ended:
            self.close(abortive=False)
        elif self._paused:
            self._paused = False
            self._arm()

    def _linger_on(self, data: bytes, result: int) -> None:
        """Drop what a refused client still sends, until it closes or sends too much."""
        self._discarded += len(data)
        if result == 0:
            self._ended = True
            self.close(abortive=False)
        elif (result < 0 and result != -errno.ECANCELED) or (
            self._discarded > ENTRY_LINGER_BYTES_MAX
        ):
            self.close(abortive=True)

    def close(self, *, abortive: bool) -> None:
        """Close the socket, once nothing is in flight on it."""
        if self._phase is _OVER:
            return
        self._phase = _OVER
        self._paused = abortive
        self.connection = None
        self._desk.service.wheel.remove(self)
        for operation in (self._op, self._send_op):
            if operation is not None and operation.in_flight:
                self._driver.cancel(operation)
        self._finish_close()

    def _finish_close(self) -> None:
        send_op = self._send_op
        if self._op.in_flight or (send_op is not None and send_op.in_flight):
            return
        if self.raw.fileno() < 0:
            return
        if self._paused:
            self._driver.abort(self.raw)
        else:
            self.raw.close()
        self._port.operations.give(self._op)
        if send_op is not None:
            self._port.backend.forget(send_op)
        self._desk.forget(self)

    def hand_over(self, *, stays_half_open: bool = False) -> GivenAway:
        """End the handshake: the tunnel, or the next protocol, begins with what is returned."""
        assert self._phase is _BUSY, "a handshake is handed over once, when it was answered"
        ahead: deque[Kept] = deque()
        early = self._ahead
        if self._dialogue is not None:
            early = self._dialogue.take_early_data() + early
        if early:
            buffer = ConstBuffer(early)
            buffer.lease()
            ahead.append((buffer, 0, len(early)))
        self._phase = _OVER
        self.is_handed_over, self.stays_half_open = True, stays_half_open
        self._desk.service.wheel.remove(self)
        if self._send_op is not None:
            self._port.backend.forget(self._send_op)
        self._desk.forget(self)
        return GivenAway(self.raw, self._op, ahead, ended=self._ended, error=0, shut=False)

    # -- deadlines -----------------------------------------------------------------------------

    def due(self) -> float:
        """Return when it must have ended; a connection that decides has deadlines of its own."""
        if self.connection is not None:
            return self._port.now + self._desk.service.limits.handshake_timeout_s
        return self._until

    def on_expired(self) -> None:
        """Take the end of the time."""
        if self._phase is _Phase.LINGERING:
            self.close(abortive=True)
        else:
            self.turn_away(HandshakeEnd.TIMED_OUT)
