"""Why an object could not be looked at to its end, and how what was found ends the looking.

``walk`` and the openers raise these. The invariant: each becomes one outcome of
``filterapi.ScanOutcome``; none of them is ``CLEAN``.
"""

from __future__ import annotations

__all__ = ["Encrypted", "Found", "Unopenable"]


class Found(Exception):
    """A rule matched; ``args[0]`` is its name."""


class Encrypted(Exception):
    """A part is encrypted; ``args[0]`` says which."""


class Unopenable(Exception):
    """A part is damaged, or of a kind that cannot be opened; ``args[0]`` says how."""
