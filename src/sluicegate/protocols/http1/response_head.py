"""The head of a response: its line, its fields, and how its body ends.

``Http1Client`` reads with it. The invariant: a response that is handed out has one reading, shared
by llhttp, for the request that it answers, and nothing of its connection left in ``fields``.
"""

from __future__ import annotations

import re
from typing import Final

from sluicegate.errors import Side
from sluicegate.protocols.http1.bounds import HttpBounds
from sluicegate.protocols.http1.connection_fields import ConnectionOptions, upgrade_protocols
from sluicegate.protocols.http1.fault import HttpFault, HttpProtocolError
from sluicegate.protocols.http1.field_lines import split_fields
from sluicegate.protocols.http1.fields import CONNECTION_FIELDS, FieldItem, Fields
from sluicegate.protocols.http1.framing import response_framing
from sluicegate.protocols.http1.incoming import BlockBounds
from sluicegate.protocols.http1.messages import SWITCHING_PROTOCOLS, Request, Response
from sluicegate.protocols.http1.second_reader import reads_response_alike
from sluicegate.protocols.text import printable

__all__ = ["read_response_head", "response_block_bounds"]


def response_block_bounds(bounds: HttpBounds) -> BlockBounds:
    """Return how long a response's head and its line may be."""
    return BlockBounds(
        min(bounds.field_bytes_max, bounds.head_bytes_max),
        HttpFault.HEAD_TOO_LARGE,
        bounds.head_bytes_max,
        HttpFault.HEAD_TOO_LARGE,
    )


def read_response_head(
    head: bytes, bounds: HttpBounds, block: BlockBounds, request: Request
) -> Response:
    """Read a whole head.

    Args:
        head: With the empty line behind it.
        bounds: Of its parts.
        block: What ``response_block_bounds`` made of them.
        request: What it answers.

    Raises:
        HttpProtocolError: It has not exactly one reading, is larger than the bounds, or does not
            answer this request.
    """
    line = _LINE.match(head)
    if line is None or line.end() > block.line_bytes_max:
        raise _fault_of_line(head, block)
    minor, digits, reason = line.groups()
    raw = split_fields(head, line.end(), bounds, block, Side.SERVER)
    return _read(head, (int(digits), (reason or b"").strip(b" \t"), minor), raw, request)


def _read(
    head: bytes,
    line: tuple[int, bytes, bytes],
    raw: list[tuple[bytes, bytes]],
    request: Request,
) -> Response:
    status, reason, minor = line
    is_http_1_1 = minor == b"1"
    fields: list[tuple[bytes, bytes]] = []
    items: list[FieldItem] = []
    of_the_hop: list[tuple[bytes, bytes]] = []
    special: dict[bytes, list[bytes]] = {}
    for name, text in raw:
        lower = name.lower()
        value = text.strip(b" \t")
        fields.append((name, value))
        if lower in _OF_THE_HOP:
            special.setdefault(lower, []).append(text if lower in _FRAMING else value)
            of_the_hop.append((name, value))
        else:
            items.append((lower, name, value))
    options = ConnectionOptions.read(special.get(b"connection"), Side.SERVER)
    framing = response_framing(
        special.get(b"content-length", []),
        special.get(b"transfer-encoding", []),
        status=status,
        method=request.method,
        is_http_1_1=is_http_1_1,
    )
    upgrade: tuple[bytes, ...] = ()
    if status == SWITCHING_PROTOCOLS:
        upgrade = _read_upgrade(special.get(b"upgrade", []), request)
        if not options.has_upgrade or not is_http_1_1:
            raise _refused(HttpFault.UPGRADE_UNASKED, "not of this connection")
    if not reads_response_alike(head, line, fields):
        raise _refused(HttpFault.READERS_DISAGREE)
    going, named = options.split(items)
    return Response(
        status,
        reason,
        Fields.from_checked(going),
        framing,
        is_http_1_1,
        options.wants_close(is_http_1_1=is_http_1_1),
        upgrade,
        (*of_the_hop, *named),
    )


def _read_upgrade(values: list[bytes], request: Request) -> tuple[bytes, ...]:
    """Read what 101 switches to: something the request offered (RFC 9110 section 7.8)."""
    chosen = upgrade_protocols(values, Side.SERVER)
    offered = {protocol.lower() for protocol in request.upgrade}
    if not all(protocol.lower() in offered for protocol in chosen):
        raise _refused(HttpFault.UPGRADE_UNASKED, printable(b", ".join(chosen)[:40]))
    return chosen


def _refused(fault: HttpFault, detail: str = "") -> HttpProtocolError:
    return HttpProtocolError(fault, Side.SERVER, detail)


def _fault_of_line(head: bytes, block: BlockBounds) -> HttpProtocolError:
    """Say why the first line, or a byte anywhere in the head, is refused."""
    fault = block.check(head)
    if fault is not None:
        return _refused(fault)
    line = head[: head.index(b"\r\n")]
    version = line.partition(b" ")[0]
    shown = printable(line[:40])
    if version in {b"HTTP/1.0", b"HTTP/1.1"}:
        return _refused(HttpFault.STATUS_LINE, shown)
    is_other = _OTHER_VERSION.fullmatch(version) is not None
    return _refused(HttpFault.VERSION_UNSUPPORTED if is_other else HttpFault.VERSION, shown)


#: The space behind the digits is missing where servers have no reason to give; every reader lets
#: that pass. 999 and its like are no statuses of RFC 9110, but they are in use.
_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([\t -~\x80-\xff]*))?\r\n")
_OTHER_VERSION: Final = re.compile(rb"HTTP/[0-9]\.[0-9]")
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})
#: What a parent proxy asks of its client, which is us (RFC 9110 section 11.7).
_OF_THE_HOP: Final = CONNECTION_FIELDS | {b"proxy-authenticate", b"proxy-authentication-info"}
