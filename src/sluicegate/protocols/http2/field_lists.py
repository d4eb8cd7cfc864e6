"""The fields of a head behind its pseudo-fields, in the strictest reading (RFC 9113 section 8.2).

``request_head``, ``response_head`` and trailers are read with it. The invariant: what comes out can
be written as HTTP/1 and read back as the same fields: names are tokens in lower case, values have
no line end, and nothing of it frames or routes a message but what stands beside the fields.

Peers say the same fields again and again, so readings are kept (``KnownLists``): reading is pure,
equal lists have equal readings.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from sluicegate.protocol_limits import (
    HTTP2_HEADS_KNOWN_MAX,
    HTTP_HEAD_KNOWN_BYTES_MAX,
    HTTP_LENGTH_DIGITS_MAX,
)
from sluicegate.protocols.http1.body_readers import FORBIDDEN_TRAILERS
from sluicegate.protocols.http1.bounds import HttpBounds
from sluicegate.protocols.http1.fields import FieldItem, Fields
from sluicegate.protocols.text import printable

from .fault import Http2Fault, StreamFault

__all__ = ["FieldFacts", "KnownLists", "RawField", "read_fields", "read_length", "read_trailers"]

RawField = tuple[bytes, bytes]


class FieldFacts:
    """One list of fields, read; shared by all heads that have it, and never changed."""

    __slots__ = ("accepts_trailers", "expects", "hop_fields", "hosts", "items", "lengths")

    def __init__(self) -> None:
        self.items: list[FieldItem] = []
        #: What goes from end to end, without ``Host`` and the length.
        self.hosts: list[bytes] = []
        self.lengths: list[bytes] = []
        self.expects: list[bytes] = []
        self.accepts_trailers = False
        self.hop_fields: tuple[tuple[bytes, bytes], ...] = ()


class KnownLists:
    """Readings of lists that came before, under the same bounds."""

    __slots__ = ("_known", "bounds")

    def __init__(self, bounds: HttpBounds) -> None:
        self.bounds = bounds
        self._known: dict[tuple[RawField, ...], FieldFacts] = {}

    def read(self, fields: Sequence[RawField]) -> FieldFacts:
        """Read a list.

        Raises:
            StreamFault: As ``read_fields``.
        """
        key = tuple(fields)
        known = self._known.get(key)
        if known is not None:
            return known
        known = read_fields(key, self.bounds)
        size = sum(len(name) + len(value) for name, value in key)
        if size <= HTTP_HEAD_KNOWN_BYTES_MAX:
            if len(self._known) >= HTTP2_HEADS_KNOWN_MAX:
                self._known.clear()
            self._known[key] = known
        return known


def read_fields(fields: Sequence[RawField], bounds: HttpBounds) -> FieldFacts:
    """Read the fields of a head, without its pseudo-fields.

    Raises:
        StreamFault: One of them has more than one reading, or none, or may not be in HTTP/2; or
            they are too many, or too large.
    """
    if len(fields) > bounds.fields_max:
        raise StreamFault(Http2Fault.TOO_MANY_FIELDS, f"{bounds.fields_max} are let in")
    facts = FieldFacts()
    items, cookies = facts.items, list[bytes]()
    for name, value in fields:
        check_field(name, value, bounds)
        if name not in _SPECIAL:
            items.append((name, name, value))
        elif name == b"cookie":
            if not cookies:
                items.append((name, name, b""))
            cookies.append(value)
        else:
            _read_special(facts, name, value)
    if cookies:
        # RFC 9113 section 8.2.3: whoever reads HTTP/1 expects one.
        place = items.index((b"cookie", b"cookie", b""))
        items[place] = (b"cookie", b"cookie", b"; ".join(cookies))
    return facts


def _read_special(facts: FieldFacts, name: bytes, value: bytes) -> None:
    """Read a field that is not passed on as it is."""
    if name == b"host":
        facts.hosts.append(value)
    elif name == b"content-length":
        facts.lengths.append(value)
    elif name == b"expect":
        facts.expects.append(value)
    elif name == b"te":
        if value != b"trailers":
            raise StreamFault(Http2Fault.FIELD_TE, printable(value[:_SHOWN]))
        facts.accepts_trailers = True
    elif name in _OF_THE_HOP:
        facts.hop_fields = (*facts.hop_fields, (name, value))
    else:
        raise StreamFault(Http2Fault.FIELD_OF_CONNECTION, printable(name))


def check_field(name: bytes, value: bytes, bounds: HttpBounds) -> None:
    """Check one field.

    Raises:
        StreamFault: It is none that HTTP/1 could be sent, or too large.
    """
    if NAME.fullmatch(name) is None:
        fault = Http2Fault.PSEUDO_LATE if name.startswith(b":") else Http2Fault.FIELD_NAME
        raise StreamFault(fault, printable(name[:_SHOWN]))
    if _VALUE.fullmatch(value) is None:
        raise StreamFault(Http2Fault.FIELD_VALUE, printable(name[:_SHOWN]))
    if len(name) + len(value) > bounds.field_bytes_max:
        raise StreamFault(Http2Fault.FIELD_TOO_LARGE, printable(name[:_SHOWN]))


def read_length(facts: FieldFacts) -> int:
    """Return what ``content-length`` says; -1 where it is not there.

    Raises:
        StreamFault: It is there twice, or is no plain number.
    """
    lengths = facts.lengths
    if not lengths:
        return -1
    if len(lengths) > 1:
        raise StreamFault(Http2Fault.LENGTH_REPEATED)
    if _LENGTH.fullmatch(lengths[0]) is None:
        raise StreamFault(Http2Fault.LENGTH_MALFORMED, printable(lengths[0][:_SHOWN]))
    return int(lengths[0])


def read_trailers(fields: Sequence[RawField], bounds: HttpBounds) -> Fields:
    """Read the fields behind a body.

    Raises:
        StreamFault: As ``read_fields``, or one of them may be in no trailer.
    """
    if len(fields) > bounds.trailers_max:
        raise StreamFault(Http2Fault.TOO_MANY_FIELDS, f"{bounds.trailers_max} trailers are let in")
    items: list[FieldItem] = []
    for name, value in fields:
        check_field(name, value, bounds)
        if name in FORBIDDEN_TRAILERS:
            raise StreamFault(Http2Fault.TRAILER_FORBIDDEN, printable(name))
        items.append((name, name, value))
    size = sum(len(name) + len(value) for name, _, value in items)
    if size > bounds.trailer_bytes_max:
        raise StreamFault(Http2Fault.FIELD_TOO_LARGE, "the trailers")
    return Fields.from_checked(items)


_SHOWN: Final = 40
NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_EDGE: Final = rb"[!-~\x80-\x84\x86-\x9f\xa1-\xff]"
#: As ``Fields`` takes it: empty, or without white space, or what some read as such, at both ends.
_VALUE: Final = re.compile(rb"(?:" + _EDGE + rb"(?:[\t -~\x80-\xff]*" + _EDGE + rb")?)?")
_LENGTH: Final = re.compile(rb"0|[1-9][0-9]{0,%d}" % (HTTP_LENGTH_DIGITS_MAX - 1))
#: RFC 9113 section 8.2.2.
_OF_CONNECTIONS: Final = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade",
        b"http2-settings",
    }
)  # fmt: skip
#: Between a client or a server and the next proxy, which is us (RFC 9110 section 11.7).
_OF_THE_HOP: Final = frozenset(
    {b"proxy-authorization", b"proxy-authenticate", b"proxy-authentication-info"}
)
_SPECIAL: Final = (
    _OF_CONNECTIONS | _OF_THE_HOP | {b"cookie", b"content-length", b"expect", b"host", b"te"}
)
