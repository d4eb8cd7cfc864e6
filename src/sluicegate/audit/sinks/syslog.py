"""Records as syslog messages (RFC 5424), over a Unix socket, TCP (RFC 6587) or TLS (RFC 5425).

``sink`` sends with it. The invariant: a message is one record's line, whole, behind a header of
ours: nothing that a client has written gets into the header.
"""

from __future__ import annotations

import datetime as dt
import os
import socket
import ssl
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from sluicegate.audit.query import LogLine
from sluicegate.log_limits import SINK_TIMEOUT_S

from .settings import SinkSettings

__all__ = ["SyslogSender", "format_message"]

_Socket: TypeAlias = socket.socket  # noqa: TID251 - it carries records, not traffic

_FACILITY: Final = 16 << 3
"""local0 (RFC 5424 section 6.2.1)."""
_ERROR, _WARNING, _NOTICE, _INFORMATION = 3, 4, 5, 6
_KIND_MAX: Final = 32
"""What MSGID may have (section 6)."""
_DATAGRAM: Final = "unix"


def format_message(line: LogLine, host: str, pid: int) -> bytes:
    """Return the message of a record."""
    time = line.fields.get("time")
    moment = dt.datetime.fromtimestamp(time if isinstance(time, int | float) else 0.0, dt.UTC)
    stamp = f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond:06d}Z"
    kind = "".join(one for one in line.text("kind") if "!" <= one <= "~")[:_KIND_MAX] or "-"
    priority = _FACILITY | _severity(line.fields)
    return f"<{priority}>1 {stamp} {host} sluicegate {pid} {kind} - ".encode("ascii") + line.raw


def _severity(fields: Mapping[str, object]) -> int:
    if fields.get("severity") == "error" or fields.get("kind") == "filter-failure":
        return _ERROR
    if "failed" in {fields.get("outcome"), fields.get("result")} or (
        fields.get("severity") == "warning" or fields.get("kind") in {"limit", "process"}
    ):
        return _WARNING
    refused = {"denied", "refused"}
    return _NOTICE if {fields.get("verdict"), fields.get("outcome")} & refused else _INFORMATION


class SyslogSender:
    """One connection, made when there is something to send."""

    def __init__(self, settings: SinkSettings) -> None:
        self._settings = settings
        self._host = socket.gethostname().encode("ascii", "replace").decode()[:255] or "-"
        self._socket: _Socket | None = None
        self.refusal = "a message is longer than this socket takes; tcp:// and tls:// take all"
        #: Why the other side does not have what it will not have.

    def send(self, lines: Sequence[LogLine]) -> int:
        """Send records; return how many the other side will not have.

        Raises:
            OSError: They were not sent, or not all of them.
        """
        connected = self._socket or self._connect()
        self._socket = connected
        messages = [format_message(line, self._host, os.getpid()) for line in lines]
        try:
            if self._settings.scheme == _DATAGRAM:
                return sum(not _send_datagram(connected, one) for one in messages)
            # Octet counting (RFC 6587 section 3.4.1): a line end in a message would end none.
            connected.sendall(b"".join(b"%d %s" % (len(one), one) for one in messages))
        except OSError:
            self.close()
            raise
        return 0

    def close(self) -> None:
        """End the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connect(self) -> _Socket:
        settings = self._settings
        if settings.scheme == _DATAGRAM:
            made = _Socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            made.settimeout(SINK_TIMEOUT_S)
            try:
                made.connect(settings.to.partition(":")[2])
            except OSError:
                made.close()
                raise
            return made
        authority, _ = settings.place
        place = authority.host.text, authority.port
        plain = socket.create_connection(place, SINK_TIMEOUT_S)
        if settings.scheme != "tls":
            return plain
        context = ssl.create_default_context(cafile=settings.ca or None)
        try:
            return context.wrap_socket(plain, server_hostname=authority.host.text)
        except OSError:
            plain.close()
            raise


def _send_datagram(connected: _Socket, message: bytes) -> bool:
    """Send one; False: it is too long for this socket, and ever will be."""
    try:
        connected.send(message)
    except OSError as error:
        if error.errno != _TOO_LONG:
            raise
        return False
    return True


_TOO_LONG: Final = 90  # EMSGSIZE
