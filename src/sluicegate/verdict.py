"""Verdicts: the outcomes of events and of content inspection, as values.

Filters return them, ``gate/dispatch`` and ``gate/chain`` combine them, records carry them;
``filterapi.emulate`` adds the one that needs a filter. The invariant: a verdict is never an
exception, and "no opinion" (``Pass``) exists for events only.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "Allow",
    "ContentVerdict",
    "Deny",
    "Pass",
    "Refuse",
    "Release",
    "Replace",
]


@dataclass(frozen=True, slots=True)
class Allow:
    """Grant the operation, overriding the built-in check."""


@dataclass(frozen=True, slots=True)
class Deny:
    """Refuse the operation; ``reason`` goes into the record."""

    reason: str


@dataclass(frozen=True, slots=True)
class Pass:
    """No opinion: the default answer to an event."""


@dataclass(frozen=True, slots=True)
class Release:
    """Let the client (or server) have the object as it is."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Nobody gets the object; ``reason`` reaches the record and the peer's protocol."""

    reason: str


@dataclass(frozen=True, slots=True)
class Replace:
    """Deliver ``body`` in place of the object."""

    body: bytes


ContentVerdict = Release | Refuse | Replace
