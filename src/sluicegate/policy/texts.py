"""The texts of a policy: the main file, those it includes, and the lists that objects name.

``app`` reads them; ``parse`` makes a policy of them. The invariant: they are all that it is made
of: a policy is a function of its texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["PolicyText", "PolicyTexts"]


@dataclass(frozen=True, slots=True)
class PolicyText:
    """One file."""

    name: str
    """How messages call it: its path, from the folder of the main file."""
    text: str


@dataclass(frozen=True, slots=True)
class PolicyTexts:
    """One version of all files of a policy."""

    main: str
    before: tuple[PolicyText, ...] = ()
    """Included, in order; their rules stand before those of the main file."""
    after: tuple[PolicyText, ...] = ()
    """Included, in order; their rules stand after those of the main file."""
    lists: Mapping[str, str] = field(default_factory=dict[str, str])
    """Lists of entries, by the path that an object names."""
