r"""The server's end of SOCKS 5 (RFC 1928) with user and password (RFC 1929).

The gate feeds it what a client sends, and answers each event before the next one comes. The
invariant: nothing is read past a question that the gate has not answered: a client that sends
everything at once is served in order, and is let in by nothing that it sent too early.

The order of one connection, ``»`` being what the gate does::

    SocksGreeting       »  choose_method(...)        its bytes to the client
    Credentials         »  answer_credentials(...)   only after USER_PASSWORD was chosen
    SocksRequest        »  request.encode_reply(...) after the dial; the rest is the tunnel's

Decided, because peers differ: the reserved byte must be 0, a greeting offers at least one method,
names and passwords have at least one byte (all RFC), and port 0 is refused for CONNECT.

>>> parser = Socks5Parser()
>>> parser.receive_data(b"\x05\x01\x00" b"\x05\x01\x00\x03\x0bexample.com\x00\x50" b"GET /")
>>> greeting = parser.next_event()
>>> parser.choose_method(SocksMethod.NO_AUTHENTICATION)
b'\x05\x00'
>>> print(parser.next_event())
SOCKS5 CONNECT example.com:80
>>> parser.take_early_data()
b'GET /'
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from sluicegate.errors import BadContext, ProtocolError
from sluicegate.protocol_limits import ENTRY_EARLY_BYTES_MAX
from sluicegate.protocols.entry import Credentials, EntryBuffer
from sluicegate.protocols.socks import (
    SOCKS5_VERSION,
    SocksCommand,
    SocksReply,
    SocksRequest,
    decode_socks5_address,
    encode_socks5_reply,
)

__all__ = ["Socks5Parser", "SocksGreeting", "SocksMethod"]


class SocksMethod(enum.IntEnum):
    """How a client may prove who it is; GSSAPI (1) is never chosen."""

    NO_AUTHENTICATION = 0
    USER_PASSWORD = 2
    NONE_ACCEPTABLE = 0xFF


@dataclass(frozen=True, slots=True)
class SocksGreeting:
    """The first message: which methods the client would accept."""

    methods: frozenset[int]
    #: Numbers of RFC 1928, section 3, known to us or not.

    def has_method(self, method: SocksMethod) -> bool:
        """Tell whether the client offers a method."""
        return method in self.methods


class Socks5Parser:
    """One client's bytes in, its messages out; lives until the tunnel begins.

    After each ``receive_data`` take ``next_event`` until it is None; stop receiving while
    ``needs_data`` is false.
    """

    __slots__ = ("_buffer", "_offered", "_phase", "refusal")

    def __init__(self, *, early_bytes_max: int = ENTRY_EARLY_BYTES_MAX) -> None:
        self._buffer = EntryBuffer(early_bytes_max)
        self._offered: frozenset[int] = frozenset()
        self._phase = _Phase.GREETING
        self.refusal = b""
        #: After an error: what the client is to be told before the end.

    def receive_data(self, data: bytes) -> None:
        """Add what the client sent."""
        self._buffer.receive_data(data)

    def next_event(self) -> SocksGreeting | Credentials | SocksRequest | None:
        """Return the next message, or None until it is complete, or until the last is answered.

        Raises:
            ProtocolError: It is malformed, or too much came early. Send ``refusal`` and end the
                connection; the error is final.
        """
        if self._buffer.error is not None:
            raise self._buffer.error
        match self._phase:
            case _Phase.GREETING:
                return self._read_greeting(self._buffer.data)
            case _Phase.CREDENTIALS:
                return self._read_credentials(self._buffer.data)
            case _Phase.REQUEST:
                return self._read_request(self._buffer.data)
            case _Phase.METHOD | _Phase.VERDICT | _Phase.TUNNEL | _Phase.ENDED:
                self._buffer.check_early()
                return None

    @property
    def needs_data(self) -> bool:
        """Whether the client is to say something; false while the gate owes an answer."""
        return self._phase in _CLIENTS_TURN

    def choose_method(self, method: SocksMethod) -> bytes:
        """Answer the greeting; return the bytes for the client.

        After ``NONE_ACCEPTABLE`` the connection is to be ended.

        Raises:
            BadContext: No greeting waits, or the client did not offer the method.
        """
        if self._phase is not _Phase.METHOD:
            raise BadContext("choose_method answers a greeting, once")
        if method is not SocksMethod.NONE_ACCEPTABLE and method not in self._offered:
            raise BadContext(f"the client did not offer {method.name}")
        self._phase = _AFTER_METHOD[method]
        return bytes((SOCKS5_VERSION, method))

    def answer_credentials(self, *, is_accepted: bool) -> bytes:
        """Answer user and password; return the bytes for the client.

        After a refusal the connection is to be ended (RFC 1929, section 2).

        Raises:
            BadContext: No credentials wait.
        """
        if self._phase is not _Phase.VERDICT:
            raise BadContext("answer_credentials answers credentials, once")
        self._phase = _Phase.REQUEST if is_accepted else _Phase.ENDED
        return _CREDENTIALS_ACCEPTED if is_accepted else _CREDENTIALS_REFUSED

    @property
    def has_unread(self) -> bool:
        """Whether something came that belongs to no message yet."""
        return bool(self._buffer.data)

    def take_early_data(self) -> bytes:
        """Return, once, what the client sent behind its request: the tunnel's first bytes.

        Raises:
            BadContext: The request has not come yet; what waits is not the tunnel's.
        """
        if self._phase is not _Phase.TUNNEL:
            raise BadContext("take_early_data belongs behind the request")
        return self._buffer.take_all()

    def _read_greeting(self, data: bytearray) -> SocksGreeting | None:
        if data[:1] and data[0] != SOCKS5_VERSION:
            raise self._refuse("a SOCKS 5 greeting does not begin with 5", b"")
        if data[1:2] and data[1] == 0:
            none = bytes((SOCKS5_VERSION, SocksMethod.NONE_ACCEPTABLE))
            raise self._refuse("a SOCKS 5 greeting offers no method", none)
        if len(data) < _GREETING_HEAD or len(data) < _GREETING_HEAD + data[1]:
            return None
        self._offered = frozenset(self._buffer.take(_GREETING_HEAD + data[1])[_GREETING_HEAD:])
        self._phase = _Phase.METHOD
        return SocksGreeting(self._offered)

    def _read_credentials(self, data: bytearray) -> Credentials | None:
        if data[:1] and data[0] != _CREDENTIALS_VERSION:
            raise self._refuse("SOCKS credentials do not begin with 1", _CREDENTIALS_REFUSED)
        username = self._counted_text(1, "user name")
        if username is None:
            return None
        password = self._counted_text(2 + len(username), "password")
        if password is None:
            return None
        self._buffer.take(3 + len(username) + len(password))
        self._phase = _Phase.VERDICT
        return Credentials(username, password)

    def _counted_text(self, at: int, what: str) -> bytes | None:
        data = self._buffer.data
        if len(data) <= at:
            return None
        length = data[at]
        if length == 0:
            raise self._refuse(f"a SOCKS {what} is empty", _CREDENTIALS_REFUSED)
        text = bytes(data[at + 1 : at + 1 + length])
        return text if len(text) == length else None

    def _read_request(self, data: bytearray) -> SocksRequest | None:
        # In the order of the bytes, so that every cut of them finds the same fault.
        if data[:1] and data[0] != SOCKS5_VERSION:
            raise self._refuse_request("a SOCKS 5 request does not begin with 5")
        if data[1:2] and data[1] not in _COMMANDS:
            raise self._refuse_request(
                "a SOCKS 5 request has an unknown command", SocksReply.COMMAND_NOT_SUPPORTED
            )
        if data[2:3] and data[2] != 0:
            raise self._refuse_request("a SOCKS 5 request's reserved byte is not 0")
        try:
            decoded = decode_socks5_address(data, _ADDRESS_AT)
        except ProtocolError as error:
            reply = SocksReply.ADDRESS_TYPE_NOT_SUPPORTED
            raise self._refuse_request(error.hint, reply) from error
        if decoded is None:
            return None
        destination, end = decoded
        command = SocksCommand(data[1])
        if destination.port == 0 and command is SocksCommand.CONNECT:
            raise self._refuse_request("a SOCKS 5 request names port 0")
        self._buffer.take(end)
        self._phase = _Phase.TUNNEL
        return SocksRequest(SOCKS5_VERSION, command, destination)

    def _refuse_request(
        self, hint: str, reply: SocksReply = SocksReply.GENERAL_FAILURE
    ) -> ProtocolError:
        return self._refuse(hint, encode_socks5_reply(reply))

    def _refuse(self, hint: str, refusal: bytes) -> ProtocolError:
        self.refusal = refusal
        self._phase = _Phase.ENDED
        return self._buffer.fail(hint)


class _Phase(enum.Enum):
    """Whose turn it is, and with what."""

    GREETING = enum.auto()
    METHOD = enum.auto()
    CREDENTIALS = enum.auto()
    VERDICT = enum.auto()
    REQUEST = enum.auto()
    TUNNEL = enum.auto()
    ENDED = enum.auto()


_CLIENTS_TURN: Final = frozenset({_Phase.GREETING, _Phase.CREDENTIALS, _Phase.REQUEST})
_AFTER_METHOD: Final = {
    SocksMethod.NO_AUTHENTICATION: _Phase.REQUEST,
    SocksMethod.USER_PASSWORD: _Phase.CREDENTIALS,
    SocksMethod.NONE_ACCEPTABLE: _Phase.ENDED,
}
_COMMANDS: Final = frozenset(SocksCommand)
_GREETING_HEAD: Final = 2
#: Behind version, command and the reserved byte.
_ADDRESS_AT: Final = 3
_CREDENTIALS_VERSION: Final = 1
_CREDENTIALS_ACCEPTED: Final = bytes((_CREDENTIALS_VERSION, 0))
_CREDENTIALS_REFUSED: Final = bytes((_CREDENTIALS_VERSION, 1))
