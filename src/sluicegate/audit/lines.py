r"""Records as lines of text: JSON that no client's text can break.

``writer`` encodes with it, ``query`` decodes. The invariant: a line is printable ASCII and ends
with the only line end in it, whatever a file name or a reason holds: control characters, escape
sequences, line separators and directions of writing are ``\u`` escapes; and what looks like a
secret is not in it (``redaction``).
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import msgspec

from .records import AnyRecord, Record
from .redaction import changed_texts, may_hold_secrets, redacted

__all__ = ["decode_record", "encode_record", "encode_records"]

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[AnyRecord] = msgspec.json.Decoder(AnyRecord)


def encode_record(record: Record) -> bytes:
    """Return the line of a record, with its line end.

    Raises:
        TypeError: A field holds what its type does not allow.
    """
    try:
        line = _encoder.encode(record)
    except UnicodeEncodeError:
        return _encode_closely(record)  # bytes of a name that are no UTF-8
    return line + b"\n" if _is_harmless(line) else _encode_closely(record)


def encode_records(records: Sequence[Record]) -> bytes:
    """Return the lines of several records in one piece: a third of the cost of one by one.

    Raises:
        TypeError: A field holds what its type does not allow.
    """
    try:
        lines = _encoder.encode_lines(records)
    except UnicodeEncodeError:
        return b"".join(map(encode_record, records))
    return lines if _is_harmless(lines) else b"".join(map(encode_record, records))


def decode_record(line: bytes) -> AnyRecord:
    """Return the record of a line.

    Raises:
        msgspec.ValidationError: It is JSON, and no record of this version.
        msgspec.DecodeError: It is not JSON.
    """
    return _decoder.decode(line)


def _is_harmless(text: bytes) -> bool:
    # JSON escapes control characters below the space; the rest of the dangerous ones are DEL and
    # beyond ASCII, and rare enough for the slow way, as signs of secrets are.
    return text.isascii() and b"\x7f" not in text and not may_hold_secrets(text)


def _encode_closely(record: Record) -> bytes:
    fields = changed_texts(msgspec.to_builtins(record), _written)
    text = json.dumps(fields, ensure_ascii=True, separators=(",", ":"))
    return text.replace("\x7f", "\\u007f").encode("ascii") + b"\n"


def _written(text: str) -> str:
    """Return a text as it is written; half a surrogate, which no reader of JSON takes, is spelt."""
    return redacted(text.encode("utf-8", "backslashreplace").decode("utf-8"))
