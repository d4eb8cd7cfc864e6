"""What a scanner with processes tells of itself: a copy of one moment.

``content_scanner`` makes one, ``status`` shows it. The invariant: texts and numbers only; nothing
in it leads back into the gate.
"""

from __future__ import annotations

import msgspec

__all__ = ["ScannerView"]


class ScannerView(msgspec.Struct, kw_only=True):
    """One scanner."""

    name: str
    kind: str
    """As ``[[scanner]]`` calls it."""
    state: str = "working"
    """``working``, or ``failed`` while no process takes objects."""
    problem: str = ""
    """What is wrong: a process that ended, or rules that cannot be used."""
    signatures: str = ""
    """The engine and the version of the rules in use."""
    rules: int = 0
    """How many are in use."""
    processes: int = 0
    """Running now."""
    pids: list[int] = []
    waiting: int = 0
    """Objects that wait for a process or a connection, or are with one."""
    restarts: int = 0
    """How often a process was replaced."""
    memory_bytes: int = 0
    """Resident memory of the processes."""
    asked: int = 0
    """Objects that it was asked about."""
    found: int = 0
    """Of these, those in which something was found."""
    unfinished: int = 0
    """Of these, those that were not looked at to their end."""
    remembered: int = 0
    """Of these, those whose answer was known."""
    answer_s: float = 0.0
    """How long it took to answer, in all, waiting included."""
    answer_buckets: list[int] = []
    """How many answers took how long: the buckets of ``sluicegate_scanner_seconds``."""
    settings: dict[str, str] = {}
    """What is set for it, for people."""
