"""Entries: everything that can be asked of the console, and who may.

``application`` makes routes of it. The invariant: what is not in this table does not exist, and
whatever changes something is no GET.
"""

from __future__ import annotations

from typing import Final

from .api.operations import OPEN_DOCUMENT, OPERATIONS
from .entry import Entry
from .pages import (
    alerts,
    authority,
    connections,
    content,
    first,
    log,
    login,
    oidc,
    overview,
    policy,
    policy_change,
    system,
)

__all__ = ["ENTRIES"]

ENTRIES: Final[tuple[Entry, ...]] = (
    *login.ENTRIES,
    *oidc.ENTRIES,
    *first.ENTRIES,
    *overview.ENTRIES,
    *connections.ENTRIES,
    *log.ENTRIES,
    *alerts.ENTRIES,
    *policy.ENTRIES,
    *policy_change.ENTRIES,
    *content.ENTRIES,
    *authority.ENTRIES,
    *system.ENTRIES,
    *(operation.entry for operation in OPERATIONS),
    OPEN_DOCUMENT.entry,
)
"""In no order: paths are whole, and no two are alike."""
