"""The same head read by llhttp, Node's parser: what two readers disagree about is refused.

``head`` asks it for every head that our own grammar accepts. The invariant: it only ever refuses;
nothing of what it read is used.
"""

from __future__ import annotations

from typing import Final

from httptools import (
    HttpParserError,
    HttpParserUpgrade,
    HttpRequestParser,
    HttpResponseParser,
)

__all__ = ["reads_request_alike", "reads_response_alike"]

RawField = tuple[bytes, bytes]
"""A name, and a value with the white space around it."""


class _Reading:
    """What llhttp told of one head."""

    __slots__ = ("fields", "first", "is_complete")

    def __init__(self) -> None:
        self.first = b""
        self.fields: list[RawField] = []
        self.is_complete = False

    def on_url(self, url: bytes) -> None:
        self.first += url

    def on_status(self, reason: bytes) -> None:
        self.first += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))

    def has_fields(self, fields: list[RawField]) -> bool:
        """Compare; llhttp leaves the white space behind a value on it."""
        return self.fields == fields or fields == [
            (name, value.rstrip(b" \t")) for name, value in self.fields
        ]

    def on_message_complete(self) -> None:
        self.is_complete = True


def reads_request_alike(
    head: bytes, line: tuple[bytes, bytes, bytes], fields: list[RawField], *, has_body: bool
) -> bool:
    """Tell whether llhttp finds this request line, these fields, and a body where we do.

    Args:
        head: As received.
        line: Method, target and the version's second digit.
        fields: With values already stripped.
        has_body: Whether bytes of a body follow.
    """
    method, target, minor = line
    if method not in _METHODS:
        # llhttp knows a fixed list of methods; what it makes of the rest of the head is asked.
        head = _STAND_IN + head[len(method) :]
        method = _STAND_IN
    reading = _Reading()
    parser = HttpRequestParser(reading)
    has_upgrade = False
    try:
        parser.feed_data(head)
    except HttpParserUpgrade as upgrade:
        # It holds the number of bytes that it read.
        has_upgrade = upgrade.args[0] == len(head)
        if not has_upgrade:
            return False
    except HttpParserError:
        return False
    return (
        reading.first == target
        and parser.get_method() == method
        and parser.get_http_version() == "1." + minor.decode()
        and reading.has_fields(fields)
        and (has_upgrade or reading.is_complete is not has_body)
    )


def reads_response_alike(
    head: bytes, line: tuple[int, bytes, bytes], fields: list[RawField]
) -> bool:
    """Tell whether llhttp finds this status line and these fields.

    Whether a body follows depends on the request, which it does not know.

    Args:
        head: As received.
        line: Status, reason (stripped) and the version's second digit.
        fields: With values already stripped.
    """
    status, reason, minor = line
    reading = _Reading()
    parser = HttpResponseParser(reading)
    try:
        parser.feed_data(head)
    except HttpParserUpgrade as upgrade:
        if upgrade.args[0] != len(head):
            return False
    except HttpParserError:
        return False
    return (
        parser.get_status_code() == status
        and reading.first.strip(b" \t") == reason
        and parser.get_http_version() == "1." + minor.decode()
        and reading.has_fields(fields)
    )


_METHODS: Final = frozenset(
    {b"CONNECT", b"DELETE", b"GET", b"HEAD", b"OPTIONS", b"PATCH", b"POST", b"PUT", b"TRACE"}
)
_STAND_IN: Final = b"POST"
