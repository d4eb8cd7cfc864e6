"""One client's dialogue on a proxy listener, whatever protocol it speaks: bytes in, steps out.

``entry_handshake`` feeds one and does what its steps say; the parsers of ``protocols`` do the
reading. The invariant: there is one request per dialogue, and none before a listener that asks for
credentials has had them accepted.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeAlias, TypeVar

from sluicegate.protocols.detect import EntryProtocol
from sluicegate.protocols.entry import Credentials, Destination
from sluicegate.protocols.http_connect import HttpConnectParser, HttpConnectRequest
from sluicegate.protocols.http_connect_answer import ConnectAnswer, encode_connect_answer
from sluicegate.protocols.socks import SocksCommand, SocksRequest
from sluicegate.protocols.socks4 import Socks4Parser
from sluicegate.protocols.socks5 import Socks5Parser, SocksGreeting, SocksMethod

from .entry_answers import EntryAnswer

if TYPE_CHECKING:
    from sluicegate.address import SocketAddress

__all__ = [
    "Authenticate",
    "EntryDialogue",
    "EntryRequest",
    "Rejected",
    "Step",
    "open_dialogue",
]

ParserT = TypeVar("ParserT", bound=Socks4Parser | Socks5Parser)


class Authenticate(enum.StrEnum):
    """Whether the clients of a proxy listener prove who they are."""

    OFF = "off"
    """Nobody does; credentials are not looked at."""
    OPTIONAL = "optional"
    """Who sends credentials is let in only if they are right; who sends none is nobody."""
    REQUIRED = "required"
    """Everybody does; SOCKS 4, which cannot, is not served."""


@dataclass(frozen=True, slots=True)
class EntryRequest:
    """What a client asks for, as it said it."""

    command: SocksCommand
    destination: Destination


@dataclass(frozen=True, slots=True)
class Rejected:
    """The dialogue is over before a request."""

    reply: bytes
    reason: str


Step: TypeAlias = bytes | Credentials | EntryRequest | Rejected
"""Bytes for the client, credentials to be verified, the request, or the end."""


class EntryDialogue(Protocol):
    """One client's dialogue; after ``ProtocolError`` send ``refusal`` and end the connection."""

    protocol: EntryProtocol

    @property
    def needs_data(self) -> bool:
        """Whether the client is to say something."""
        ...

    @property
    def refusal(self) -> bytes:
        """After an error: what the client is told before the end."""
        ...

    def receive_data(self, data: bytes) -> None:
        """Add what the client sent."""
        ...

    def next_step(self) -> Step | None:
        """Return what is to be done next; None until more bytes come.

        Raises:
            ProtocolError: The client broke its protocol.
        """
        ...

    def answer_credentials(self, *, is_accepted: bool) -> bytes:
        """Answer credentials; return the bytes for the client, which may be none."""
        ...

    def encode_answer(self, answer: EntryAnswer, bound: SocketAddress | None = None) -> bytes:
        """Return the bytes that answer the request; none where there was none."""
        ...

    def take_early_data(self) -> bytes:
        """Return, once, what came behind the request."""
        ...

    @property
    def is_repeatable(self) -> bool:
        """Whether all that came was taken by messages, and none of them held credentials."""
        ...


class _SocksDialogue(Generic[ParserT]):
    """What both versions of SOCKS share once there is a request."""

    __slots__ = ("_parser", "_request")

    def __init__(self, parser: ParserT) -> None:
        self._parser = parser
        self._request: SocksRequest | None = None

    @property
    def needs_data(self) -> bool:
        """Whether the client is to say something."""
        return self._parser.needs_data

    @property
    def refusal(self) -> bytes:
        """What a client is told that broke its protocol."""
        return self._parser.refusal

    def receive_data(self, data: bytes) -> None:
        """Add what the client sent."""
        self._parser.receive_data(data)

    def encode_answer(self, answer: EntryAnswer, bound: SocketAddress | None = None) -> bytes:
        """Answer with the reply of the request's version."""
        request = self._request
        return b"" if request is None else request.encode_reply(answer.socks, bound)

    def take_early_data(self) -> bytes:
        """Return what came behind the request."""
        return self._parser.take_early_data()

    @property
    def is_repeatable(self) -> bool:
        """Whether all that came was taken by messages, and none of them held credentials."""
        return not self._parser.has_unread

    def _asked(self, request: SocksRequest) -> EntryRequest:
        self._request = request
        return EntryRequest(request.command, request.destination)


class Socks4Dialogue(_SocksDialogue[Socks4Parser]):
    """SOCKS 4 and 4a: one request; the user id is a claim that nobody looks at."""

    __slots__ = ()

    protocol = EntryProtocol.SOCKS4

    def __init__(self) -> None:
        super().__init__(Socks4Parser())

    def next_step(self) -> Step | None:
        """Return what is to be done next."""
        event = self._parser.next_event()
        return None if event is None else self._asked(event)

    def answer_credentials(self, *, is_accepted: bool) -> bytes:
        """Never called: no step asks for it."""
        del is_accepted
        raise AssertionError("SOCKS 4 has no credentials to answer")


class Socks5Dialogue(_SocksDialogue[Socks5Parser]):
    """SOCKS 5: greeting, perhaps credentials, request."""

    __slots__ = ("_authenticate",)

    protocol = EntryProtocol.SOCKS5

    def __init__(self, authenticate: Authenticate) -> None:
        super().__init__(Socks5Parser())
        self._authenticate = authenticate

    def next_step(self) -> Step | None:
        """Return what is to be done next."""
        event = self._parser.next_event()
        if event is None or isinstance(event, Credentials):
            return event
        if isinstance(event, SocksRequest):
            return self._asked(event)
        method = _choose_method(event, self._authenticate)
        reply = self._parser.choose_method(method)
        if method is SocksMethod.NONE_ACCEPTABLE:
            return Rejected(reply, NO_METHOD)
        return reply

    def answer_credentials(self, *, is_accepted: bool) -> bytes:
        """Answer as RFC 1929 says."""
        return self._parser.answer_credentials(is_accepted=is_accepted)


def _choose_method(greeting: SocksGreeting, authenticate: Authenticate) -> SocksMethod:
    if authenticate is not Authenticate.OFF and greeting.has_method(SocksMethod.USER_PASSWORD):
        return SocksMethod.USER_PASSWORD
    is_needed = authenticate is Authenticate.REQUIRED
    if not is_needed and greeting.has_method(SocksMethod.NO_AUTHENTICATION):
        return SocksMethod.NO_AUTHENTICATION
    return SocksMethod.NONE_ACCEPTABLE


class ConnectDialogue:
    """HTTP CONNECT: one request, with its credentials in it."""

    __slots__ = ("_asked", "_authenticate", "_is_verified", "_parser", "_reference", "_request")

    protocol = EntryProtocol.HTTP_CONNECT

    def __init__(self, authenticate: Authenticate, reference: str) -> None:
        self._reference = reference
        self._parser = HttpConnectParser()
        self._authenticate = authenticate
        self._request: HttpConnectRequest | None = None
        self._is_verified = False
        self._asked = False

    @property
    def needs_data(self) -> bool:
        """Whether the client is to say something."""
        return self._parser.needs_data

    @property
    def refusal(self) -> bytes:
        """What a client is told that broke its protocol."""
        return self._parser.refusal

    def receive_data(self, data: bytes) -> None:
        """Add what the client sent."""
        self._parser.receive_data(data)

    def next_step(self) -> Step | None:
        """Return what is to be done next."""
        request = self._request
        if request is None:
            request = self._request = self._parser.next_event()
            if request is None:
                return None
            if self._authenticate is not Authenticate.OFF:
                if request.credentials is not None:
                    return request.credentials
                if self._authenticate is Authenticate.REQUIRED:
                    reply = self._encode(ConnectAnswer.CREDENTIALS_NEEDED)
                    return Rejected(reply, CREDENTIALS_NEEDED)
        elif self._asked or not self._is_verified:
            return None
        self._asked = True
        return EntryRequest(SocksCommand.CONNECT, request.destination)

    def answer_credentials(self, *, is_accepted: bool) -> bytes:
        """Refuse with 407; who is accepted is told with the answer to the request."""
        self._is_verified = is_accepted
        return b"" if is_accepted else self._encode(ConnectAnswer.CREDENTIALS_NEEDED)

    def encode_answer(self, answer: EntryAnswer, bound: SocketAddress | None = None) -> bytes:
        """Answer with a whole response, which has no place for an address."""
        del bound
        return b"" if self._request is None else self._encode(answer.connect)

    def take_early_data(self) -> bytes:
        """Return what came behind the request."""
        return self._parser.take_early_data()

    @property
    def is_repeatable(self) -> bool:
        """Whether all that came was taken by messages, and none of them held credentials."""
        request = self._request
        has_credentials = request is not None and request.has_authorization
        return not (has_credentials or self._parser.has_unread)

    def _encode(self, answer: ConnectAnswer) -> bytes:
        return encode_connect_answer(answer, self._reference)


def open_dialogue(
    protocol: EntryProtocol, authenticate: Authenticate, reference: str
) -> EntryDialogue:
    """Begin the dialogue of a protocol that has one.

    Args:
        protocol: What the client began with.
        authenticate: What the listener asks for.
        reference: The identifier in records, which HTTP's answers quote.
    """
    match protocol:
        case EntryProtocol.SOCKS4:
            return Socks4Dialogue()
        case EntryProtocol.SOCKS5:
            return Socks5Dialogue(authenticate)
        case EntryProtocol.HTTP_CONNECT:
            return ConnectDialogue(authenticate, reference)
        case _:
            raise ValueError(f"{protocol} names no destination")


NO_METHOD: Final = "no-acceptable-method"
"""A client of SOCKS 5 offers no way to prove who it is, and the listener asks for it."""

CREDENTIALS_NEEDED: Final = "credentials-needed"
"""A CONNECT without credentials, where the listener asks for them."""
