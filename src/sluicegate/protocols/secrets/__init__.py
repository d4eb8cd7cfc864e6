"""Secrets in texts: payment cards, keys, tokens and numbers of people, found and masked.

``bundled/data_loss`` stands on it; decision 0080 says why it is made so. The invariant: nothing
here knows a gate; bytes go in, finds come out, and no find depends on how the bytes were cut.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sluicegate.front import front

if TYPE_CHECKING:
    from .catalogue import KINDS
    from .kind import Kind
    from .masking import mask
    from .own_pattern import own_kind
    from .pattern_set import PatternError
    from .search import Search, SecretPatterns, Sighting
else:
    __getattr__ = front(
        __name__,
        catalogue=("KINDS",),
        kind=("Kind",),
        masking=("mask",),
        own_pattern=("own_kind",),
        pattern_set=("PatternError",),
        search=("Search", "SecretPatterns", "Sighting"),
    )

__all__ = [
    "KINDS",
    "Kind",
    "PatternError",
    "Search",
    "SecretPatterns",
    "Sighting",
    "mask",
    "own_kind",
]
