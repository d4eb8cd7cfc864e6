r"""The server's end of HTTP CONNECT: one strict request head (RFC 9110 9.3.6, RFC 9112 3.2.3).

The gate feeds it what a client sends, judges the destination, and answers with
``http_connect_answer``. The invariant: what is handed out is a CONNECT that every implementation
reads alike and that opens a tunnel at the byte behind its head; one request, never a second.

Decided, because peers differ:

- ``Content-Length`` and ``Transfer-Encoding`` are refused, also a length of 0: a CONNECT has no
  content, and who believes that it has one finds the tunnel's beginning elsewhere.
- The target is ``host:port`` and nothing else: no user, path, query, fragment or comma, a port from
  1 to 65535 in plain digits. The host is split off raw; ``names`` decides what it means.
- HTTP/1.1 needs exactly one ``Host`` (RFC 9112 3.2), HTTP/1.0 at most one, and it names the target:
  the same host, and the same port if it has one.
- A ``Basic`` password with a control character, or base64 that is not canonical, is refused
  (RFC 7617). Another scheme is no error, and no credentials: the answer to it is 407.

>>> parser = HttpConnectParser()
>>> parser.receive_data(b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\n\r\n\x16\x03\x01")
>>> print(parser.next_event())
CONNECT a.example:443
>>> parser.take_early_data()
b'\x16\x03\x01'
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from typing_extensions import override

from sluicegate.errors import BadContext
from sluicegate.protocol_limits import (
    CONNECT_FIELDS_MAX,
    CONNECT_HEAD_BYTES_MAX,
    CONNECT_LINE_BYTES_MAX,
    ENTRY_EARLY_BYTES_MAX,
)
from sluicegate.protocols.basic_credentials import read_basic
from sluicegate.protocols.entry import Credentials, Destination, EntryBuffer, HostKind
from sluicegate.protocols.http_connect_answer import ConnectAnswer, encode_connect_answer
from sluicegate.protocols.http_head import TOKEN, HeadBounds, HttpField, HttpHeadReader

__all__ = ["HttpConnectParser", "HttpConnectRequest"]


@dataclass(frozen=True, slots=True)
class HttpConnectRequest:
    """One CONNECT; ``fields`` are for filters, nothing of them is forwarded."""

    destination: Destination
    #: ``TEXT`` or ``BRACKETED``; octets never.
    is_http_1_1: bool
    credentials: Credentials | None = None
    #: What Proxy-Authorization says in the scheme Basic.
    fields: tuple[HttpField, ...] = ()
    #: In their order, without Proxy-Authorization.
    has_authorization: bool = False
    #: Whether there was a Proxy-Authorization, in whatever scheme.

    @override
    def __str__(self) -> str:
        """Show the request for logs."""
        return f"CONNECT {self.destination}"


class HttpConnectParser:
    """One client's bytes in, its request out; lives until the tunnel begins.

    After each ``receive_data`` take ``next_event`` until it is None; stop receiving while
    ``needs_data`` is false. A client that is refused is disconnected, so what it sent behind its
    request is never read as another.
    """

    __slots__ = ("_buffer", "_destination", "_reader", "needs_data")

    def __init__(
        self,
        *,
        line_bytes_max: int = CONNECT_LINE_BYTES_MAX,
        head_bytes_max: int = CONNECT_HEAD_BYTES_MAX,
        early_bytes_max: int = ENTRY_EARLY_BYTES_MAX,
    ) -> None:
        self._buffer = EntryBuffer(early_bytes_max)
        bounds = HeadBounds(line_bytes_max, head_bytes_max, CONNECT_FIELDS_MAX)
        self._reader = HttpHeadReader(self._buffer, bounds)
        self._destination: Destination | None = None
        self.needs_data = True
        #: Whether the client is to say something; false once the request is there.

    def receive_data(self, data: bytes) -> None:
        """Add what the client sent."""
        self._buffer.receive_data(data)

    def next_event(self) -> HttpConnectRequest | None:
        """Return the request, once; None until more bytes come, and afterwards.

        Raises:
            ProtocolError: It is malformed, too long, or not CONNECT. Send ``refusal`` and end the
                connection; the error is final.
        """
        if self._buffer.error is not None:
            raise self._buffer.error
        if not self.needs_data:
            self._buffer.check_early()
            return None
        if self._destination is None:
            line = self._reader.read_first_line()
            if line is None:
                return None
            self._destination = self._read_request_line(line)
        fields = self._reader.read_fields()
        if fields is None:
            return None
        request = self._read_fields(fields, self._destination)
        self.needs_data = False
        return request

    @property
    def refusal(self) -> bytes:
        """After an error: what the client is to be told before the end."""
        return encode_connect_answer(ConnectAnswer.MALFORMED) if self._buffer.error else b""

    @property
    def has_unread(self) -> bool:
        """Whether something came that belongs to no message yet."""
        return bool(self._buffer.data)

    def take_early_data(self) -> bytes:
        """Return, once, what the client sent behind its request: the tunnel's first bytes.

        Raises:
            BadContext: The request has not come yet; what waits is not the tunnel's.
        """
        if self.needs_data:
            raise BadContext("take_early_data belongs behind the request")
        return self._buffer.take_all()

    def _read_request_line(self, line: bytes) -> Destination:
        parts = line.split(b" ")
        if len(parts) != 3:  # noqa: PLR2004 - method, target, version
            raise self._buffer.fail("the request line is not method, target and version")
        method, target, version = parts
        if TOKEN.fullmatch(method) is None:
            raise self._buffer.fail("the method is not a token")
        if version not in _VERSIONS:
            raise self._buffer.fail("the version is neither HTTP/1.1 nor HTTP/1.0")
        if method != b"CONNECT":
            raise self._buffer.fail("the method is not CONNECT")
        return self._read_authority(target)

    def _read_authority(self, text: bytes) -> Destination:
        found = _AUTHORITY.fullmatch(text)
        if found is None:
            raise self._buffer.fail("the target is not host:port")
        bracketed, name, digits = found.groups()
        port = int(digits)
        if port > _PORT_MAX:
            raise self._buffer.fail(f"the target's port is above {_PORT_MAX}")
        if bracketed is not None:
            return Destination(HostKind.BRACKETED, bracketed, port)
        return Destination(HostKind.TEXT, name, port)

    def _read_fields(
        self, fields: tuple[HttpField, ...], destination: Destination
    ) -> HttpConnectRequest:
        hosts: list[bytes] = []
        authorizations: list[bytes] = []
        kept: list[HttpField] = []
        for field in fields:
            name, value = field
            if name in _FRAMING:
                raise self._buffer.fail(f"a CONNECT has {name.decode()}")
            if name == b"proxy-authorization":
                authorizations.append(value)
                continue
            if name == b"host":
                hosts.append(value)
            kept.append(field)
        first_line = self._reader.first_line
        assert first_line is not None, "fields follow the first line"
        is_http_1_1 = first_line.endswith(b"1")
        self._check_host(hosts, destination, is_needed=is_http_1_1)
        credentials = self._read_credentials(authorizations)
        return HttpConnectRequest(
            destination, is_http_1_1, credentials, tuple(kept), bool(authorizations)
        )

    def _check_host(
        self, values: list[bytes], destination: Destination, *, is_needed: bool
    ) -> None:
        if not values and not is_needed:
            return
        if len(values) != 1:
            raise self._buffer.fail("there is not exactly one Host")
        host = destination.host.lower()
        if destination.kind is HostKind.BRACKETED:
            host = b"[" + host + b"]"
        if values[0].lower() not in {host, b"%s:%d" % (host, destination.port)}:
            raise self._buffer.fail("Host does not name the target")

    def _read_credentials(self, values: list[bytes]) -> Credentials | None:
        if not values:
            return None
        if len(values) > 1:
            raise self._buffer.fail("there is more than one Proxy-Authorization")
        try:
            return read_basic(values[0])
        except ValueError as error:
            raise self._buffer.fail("Proxy-Authorization is not canonical Basic") from error


_VERSIONS: Final = frozenset({b"HTTP/1.0", b"HTTP/1.1"})
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding", b"expect"})
_PORT_MAX: Final = 65535
#: RFC 3986 unreserved and "%" for names: its sub-delims are in no host name, and "," hides a second
#: host from some readers. What stands in brackets has the bytes of an IPv6 literal with a zone.
_AUTHORITY: Final = re.compile(
    rb"(?:\[([0-9A-Za-z:.%_~-]+)\]|([0-9A-Za-z._~%-]+)):([1-9][0-9]{0,4})"
)
