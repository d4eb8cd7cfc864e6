"""Sampling: which connections are traced, and what their traces and spans are called.

Workers ask before they record steps, the forwarder when it makes spans. The invariant: whether a
connection is traced, and all identifiers of its trace, follow from its own identifier, which the
gate gives: nobody outside has a say, and processes agree without a word.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

__all__ = ["carrier_of", "is_sampled", "span_id", "trace_id"]


def is_sampled(connection: str, ratio: float) -> bool:
    """Tell whether a connection is among the share ``ratio`` (0 to 1) of those that are traced."""
    found = _SAMPLE.copy()  # a third cheaper than to make another
    found.update(carrier_of(connection).encode())
    return int.from_bytes(found.digest(), "big") < ratio * _ALL


def trace_id(connection: str) -> str:
    """Return the identifier of a connection's trace: 16 bytes, hexadecimal."""
    return blake2b(carrier_of(connection).encode(), digest_size=16, person=_TRACE).hexdigest()


def span_id(*what: str) -> str:
    """Return the identifier of a span: 8 bytes, hexadecimal.

    Args:
        what: What it is about, so that no other span is about the same.
    """
    return blake2b("\0".join(what).encode(), digest_size=8, person=_SPAN).hexdigest()


def carrier_of(connection: str) -> str:
    """Return the identifier of the connection that carries a stream; of any other, its own."""
    return connection.partition(".")[0]


_ALL: Final = 1 << 64
_SAMPLE: Final = blake2b(digest_size=8, person=b"sluice-sample")
_TRACE: Final = b"sluice-trace"
_SPAN: Final = b"sluice-span"
