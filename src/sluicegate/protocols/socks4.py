r"""The server's end of SOCKS 4 and 4a: one request, one reply (two for BIND).

The gate feeds it what a client sends and answers what it returns. The protocol has no RFC; Ying-Da
Lee's two descriptions (``SOCKS4.protocol``, ``SOCKS4A.protocol``) are followed. The invariant: a
request is handed out when its last NUL has come; what follows is the tunnel's, byte for byte.

>>> parser = Socks4Parser()
>>> parser.receive_data(bytes([4, 1, 0, 80, 0, 0, 0, 1]) + b"ann\0www.example.com\0GET /")
>>> print(parser.next_event())
SOCKS4 CONNECT www.example.com:80
>>> parser.take_early_data()
b'GET /'
"""

from __future__ import annotations

from typing import Final

from sluicegate.errors import BadContext, ProtocolError
from sluicegate.protocol_limits import (
    ENTRY_EARLY_BYTES_MAX,
    SOCKS_HOST_BYTES_MAX,
    SOCKS_USER_ID_BYTES_MAX,
)
from sluicegate.protocols.entry import Destination, EntryBuffer, HostKind
from sluicegate.protocols.socks import (
    SOCKS4_VERSION,
    SocksCommand,
    SocksReply,
    SocksRequest,
    encode_socks4_reply,
)

__all__ = ["Socks4Parser"]


class Socks4Parser:
    """One client's bytes in, its request out; lives until the tunnel begins.

    After each ``receive_data`` take ``next_event`` until it is None; stop receiving while
    ``needs_data`` is false.
    """

    __slots__ = ("_buffer", "needs_data", "refusal")

    def __init__(self, *, early_bytes_max: int = ENTRY_EARLY_BYTES_MAX) -> None:
        self._buffer = EntryBuffer(early_bytes_max)
        self.needs_data = True
        #: Whether the client is to say something; false once the request is there.
        self.refusal = b""
        #: After an error: what the client is to be told before the end.

    def receive_data(self, data: bytes) -> None:
        """Add what the client sent."""
        self._buffer.receive_data(data)

    def next_event(self) -> SocksRequest | None:
        """Return the request, once; None until more bytes come, and afterwards.

        Raises:
            ProtocolError: It is no request of SOCKS 4 or 4a, or it is too long. Send ``refusal``
                and end the connection.
        """
        if self._buffer.error is not None:
            raise self._buffer.error
        if not self.needs_data:
            self._buffer.check_early()
            return None
        data = self._buffer.data
        if data[:1] and data[0] != SOCKS4_VERSION:
            raise self._buffer.fail("a SOCKS 4 request does not begin with 4")
        if data[1:2] and data[1] not in _COMMANDS:
            raise self._refuse("a SOCKS 4 request is neither CONNECT nor BIND")
        if len(data) <= _USER_ID_AT:
            return None
        return self._read_request(data)

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

    def _read_request(self, data: bytearray) -> SocksRequest | None:
        command = SocksCommand(data[1])
        port = int.from_bytes(data[2:4], "big")
        if port == 0 and command is SocksCommand.CONNECT:
            raise self._refuse("a SOCKS 4 request names port 0")
        user_end = self._find_end(_USER_ID_AT, SOCKS_USER_ID_BYTES_MAX, "user id")
        if user_end is None:
            return None
        octets, end = bytes(data[4:_USER_ID_AT]), user_end
        destination = Destination(HostKind.IPV4, octets, port)
        if octets.startswith(_NAME_FOLLOWS) and octets[3] != 0:
            host_end = self._find_end(user_end + 1, SOCKS_HOST_BYTES_MAX, "host name")
            if host_end is None:
                return None
            if host_end == user_end + 1:
                raise self._refuse("a SOCKS 4a host name is empty")
            destination = Destination(HostKind.TEXT, bytes(data[user_end + 1 : host_end]), port)
            end = host_end
        user_id = bytes(data[_USER_ID_AT:user_end])
        self._buffer.take(end + 1)
        self.needs_data = False
        return SocksRequest(SOCKS4_VERSION, command, destination, user_id)

    def _find_end(self, start: int, length_max: int, what: str) -> int | None:
        """Find the NUL that ends a text; counting an unfinished one makes every cut alike."""
        data = self._buffer.data
        end = data.find(0, start)
        if (end if end >= 0 else len(data)) - start > length_max:
            raise self._refuse(f"a SOCKS 4 {what} is longer than {length_max} bytes")
        return end if end >= 0 else None

    def _refuse(self, hint: str) -> ProtocolError:
        self.refusal = encode_socks4_reply(SocksReply.GENERAL_FAILURE)
        return self._buffer.fail(hint)


_COMMANDS: Final = frozenset({SocksCommand.CONNECT, SocksCommand.BIND})
#: Behind version, command, port and address.
_USER_ID_AT: Final = 8
#: 0.0.0.x with x not 0: the host is a name behind the user id (4a).
_NAME_FOLLOWS: Final = bytes(3)
