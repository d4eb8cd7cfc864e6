"""Content codings of HTTP: what a body says, taken out of gzip, deflate, br and zstd.

The held bodies of the web proxy decode with it, so that filters see what a browser sees. The
invariant: what is decoded without an error is read in the same way by every client that knows the
coding; whatever clients read differently is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluicegate.front import front

if TYPE_CHECKING:
    from .accepting import accepted_codings, narrow_accept_encoding
    from .bounds import DEFAULT_CODING_BOUNDS, CodingBounds
    from .coding import Coding, content_codings
    from .decoder import ContentDecoder
    from .fault import CodingError, CodingFault
else:
    __getattr__ = front(
        __name__,
        accepting=("accepted_codings", "narrow_accept_encoding"),
        bounds=("DEFAULT_CODING_BOUNDS", "CodingBounds"),
        coding=("Coding", "content_codings"),
        decoder=("ContentDecoder",),
        fault=("CodingError", "CodingFault"),
    )

__all__ = [
    "DEFAULT_CODING_BOUNDS",
    "Coding",
    "CodingBounds",
    "CodingError",
    "CodingFault",
    "ContentDecoder",
    "accepted_codings",
    "content_codings",
    "narrow_accept_encoding",
]
