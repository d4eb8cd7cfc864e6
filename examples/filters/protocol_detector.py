"""Decides by the first bytes which protocol a connection speaks, and refuses what a rule lists not.

A `StreamFilter`, made for each connection with its rule's settings: it holds the first bytes until
they are decisive and then leaves, and the kernel splices the rest. The invariant: nothing passes
before the protocol is known, and what is not known is refused.
"""

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict
from typing_extensions import override

from sluicegate.filterapi import (
    FORWARD,
    HOLD,
    LEAVE,
    Connection,
    Cut,
    Side,
    StreamFilter,
    StreamVerdict,
    Window,
)

Protocol = Literal[
    "bittorrent", "ftp", "http", "http2", "imap", "pop3", "smtp", "socks4", "socks5", "ssh", "tls"
]


class ProtocolDetectorSettings(BaseModel):
    """`[filter.settings]`, and `[publish.settings.<name>]`, what one rule has otherwise."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    allow: tuple[Protocol, ...] = ()
    """What may pass. Empty refuses everything."""


# -- which bytes mean which protocol; no entry begins with another one, so order matters not -------

_CLIENT_SAYS: Final[dict[bytes, str]] = {
    b"\x16\x03": "tls",  # a handshake record of TLS 1.x, RFC 8446 section 5.1
    b"SSH-": "ssh",  # RFC 4253 section 4.2
    b"PRI * HTTP/2.0\r\n": "http2",  # RFC 9113 section 3.4
    **dict.fromkeys(
        (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH ", b"CONNECT "),
        "http",
    ),
    b"\x04\x01": "socks4",
    b"\x05": "socks5",  # RFC 1928 section 3
    b"\x13BitTorrent protocol": "bittorrent",
}
_SERVER_SAYS: Final[dict[bytes, str]] = {b"SSH-": "ssh", b"+OK": "pop3", b"* OK": "imap"}
_GREETINGS: Final[dict[bytes, str]] = {b"smtp": "smtp", b"ftp": "ftp"}
"""What the line of a `220` greeting contains: SMTP and FTP begin alike."""
_GREETING_BYTES_MAX: Final = 512


def detect(side: Side, start: bytes) -> str | None:
    """Name the protocol that begins so: `unknown` if none does, None while more bytes may tell."""
    openings = _CLIENT_SAYS if side is Side.CLIENT else _SERVER_SAYS
    for opening, name in openings.items():
        if start.startswith(opening):
            return name
    if side is Side.SERVER and start.startswith(b"220"):
        return _detect_greeting(start)
    candidates = [*openings, b"220"] if side is Side.SERVER else openings
    return None if any(one.startswith(start) for one in candidates) else "unknown"


def _detect_greeting(start: bytes) -> str | None:
    line, end, _ = start[:_GREETING_BYTES_MAX].partition(b"\n")
    if not end and len(line) < _GREETING_BYTES_MAX:
        return None
    lower = line.lower()
    return next((name for word, name in _GREETINGS.items() if word in lower), "unknown")


# -- the filter ------------------------------------------------------------------------------------


class ProtocolDetector(StreamFilter):
    """One connection, until it is known what it speaks: whoever says something decisive decides."""

    name = "protocol_detector"
    Settings = ProtocolDetectorSettings
    RuleSettings = ProtocolDetectorSettings

    def __init__(self, settings: ProtocolDetectorSettings) -> None:
        self._settings = settings
        self._connection: Connection

    @override
    def on_start(self, connection: Connection) -> None:
        self._connection = connection

    @override
    def on_data(self, side: Side, window: Window) -> StreamVerdict:
        # Held bytes come again in front of new ones, so the window has all since the beginning.
        protocol = detect(side, bytes(window))
        return HOLD if protocol is None else self._decide(side, protocol)

    @override
    def on_end(self, side: Side, held: Window) -> StreamVerdict:
        # Who ends without a word broke no rule; who ends in the middle of one is not known.
        return self._decide(side, "unknown") if len(held) else FORWARD

    def _decide(self, side: Side, protocol: str) -> StreamVerdict:
        is_allowed = protocol in self._settings.allow
        self._connection.note(
            self,
            f"{protocol} {'allowed' if is_allowed else 'refused'}",
            {"protocol": protocol, "seen_from": side.value},
        )
        return LEAVE if is_allowed else Cut(f"{protocol} is not on the rule's list")
