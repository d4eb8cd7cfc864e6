"""Texts: the operator's files as they were read.

``load`` reads them or is given them; the supervisor gives every worker the same. The invariant:
they are what is in force, whatever the disk says by now.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sluicegate.policy import PolicyTexts

__all__ = ["Texts"]


@dataclass(frozen=True, slots=True)
class Texts:
    """One version of the files."""

    main: str
    policy: PolicyTexts
    users: str | None
    """None where there is no such file."""
    secrets: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """Passwords, keys and certificates, by where they are (``secret_files``)."""
