"""The lines of a head behind its first one, and of trailers, in the strictest reading.

``request_head``, ``response_head`` and ``chunks`` split with it. The invariant: every byte of the
block is part of exactly one field: a name that is a token, a colon, and a value of visible ASCII,
spaces, tabs and bytes above 127, on one line.

One pattern finds all fields; their lengths must add up to the block's, or something stands between
them. Only then is it looked for, line by line.
"""

from __future__ import annotations

import re
from itertools import chain
from typing import Final

from sluicegate.errors import Side
from sluicegate.protocols.http1.bounds import HttpBounds
from sluicegate.protocols.http1.fault import HttpFault, HttpProtocolError
from sluicegate.protocols.http1.incoming import BlockBounds
from sluicegate.protocols.text import printable

__all__ = ["TOKEN", "list_elements", "split_fields"]

#: RFC 9110, section 5.6.2.
TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")

#: From the line end before a field: so a search tries once per line, and stays linear. (No
#: possessive quantifiers anywhere in this package: Python 3.11.2 matches nested ones wrongly.)
_FIELD: Final = re.compile(rb"\n([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([\t -~\x80-\xff]*)\r")
#: Two bytes of a line end, and the colon.
_FIELD_MARKS: Final = 3
#: NEL and no-break space, which ``str.strip`` and others take for white space.
_EDGES: Final = (b"\x85", b"\xa0")
_DETAIL_BYTES_MAX: Final = 40


def split_fields(
    block: bytes, start: int, bounds: HttpBounds, block_bounds: BlockBounds, side: Side
) -> list[tuple[bytes, bytes]]:
    """Return names and values, white space around these included.

    Args:
        block: Ends with the empty line.
        start: Where the first field begins, behind a line end.
        bounds: Of the number of fields and the size of each.
        block_bounds: Of the block; they know what no line may have.
        side: Whose message it is.

    Raises:
        HttpProtocolError: It is not made of fields alone, or of too many, or too large ones.
    """
    found = _FIELD.findall(block, start - 1, len(block) - 2)
    length = _FIELD_MARKS * len(found) + sum(map(len, chain.from_iterable(found)))
    if length != len(block) - 2 - start:
        fault = block_bounds.check(block)
        if fault is not None:
            raise HttpProtocolError(fault, side)
        raise _fault_of(block[start:-4], side)
    if len(found) > bounds.fields_max:
        raise HttpProtocolError(HttpFault.TOO_MANY_FIELDS, side, f"{bounds.fields_max} are let in")
    if length > bounds.field_bytes_max:
        _check_sizes(found, bounds, side)
    if not block.isascii():
        _check_edges(found, side)
    return found


def list_elements(values: list[bytes]) -> list[bytes] | None:
    """Return the tokens of a list in lower case, empty elements left out; None if it has others."""
    elements = [part.strip(b" \t") for part in b",".join(values).lower().split(b",")]
    tokens = [element for element in elements if element]
    return tokens if all(TOKEN.fullmatch(token) for token in tokens) else None


def _check_sizes(fields: list[tuple[bytes, bytes]], bounds: HttpBounds, side: Side) -> None:
    for name, value in fields:
        if len(name) + len(value) > bounds.field_bytes_max:
            shown = printable(name[:_DETAIL_BYTES_MAX])
            raise HttpProtocolError(HttpFault.FIELD_TOO_LARGE, side, shown)


def _check_edges(fields: list[tuple[bytes, bytes]], side: Side) -> None:
    for name, value in fields:
        bare = value.strip(b" \t")
        if bare.startswith(_EDGES) or bare.endswith(_EDGES):
            shown = printable(name[:_DETAIL_BYTES_MAX])
            raise HttpProtocolError(HttpFault.FIELD_EDGE, side, shown)


def _fault_of(lines: bytes, side: Side) -> HttpProtocolError:
    """Find the first line that is no field; every line is known to have allowed bytes only."""
    for line in lines.split(b"\r\n"):
        shown = printable(line[:_DETAIL_BYTES_MAX])
        if line[:1] in {b" ", b"\t"}:
            return HttpProtocolError(HttpFault.FIELD_FOLDED, side, shown)
        name, colon, _ = line.partition(b":")
        if not colon:
            return HttpProtocolError(HttpFault.FIELD_NO_COLON, side, shown)
        if TOKEN.fullmatch(name) is None:
            return HttpProtocolError(HttpFault.FIELD_NAME, side, shown)
    raise AssertionError("a block of good lines has the length of its fields")
