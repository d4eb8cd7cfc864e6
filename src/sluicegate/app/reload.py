"""What became of reloads, and what they cannot change: settings that are fixed at the start.

``Gate`` and ``Supervisor`` keep a history of them and tell the operator. The invariant: a setting
that was changed and is not in force is named, and so is a reload that was refused, with its causes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Final

from sluicegate.audit import PolicyRecord, Record, ServiceRecord
from sluicegate.audit.records import ServiceEvent
from sluicegate.clock import Clock
from sluicegate.gate.views import ReloadView
from sluicegate.policy import PolicySnapshot
from sluicegate.policy.changes import compare_policies
from sluicegate.version import VERSION

from .config import Configuration
from .load import Loaded

__all__ = ["ReloadHistory", "settings_for_restart"]

_FIXED: Final = {
    "state_dir": "state_dir",
    "backend": "backend",
    "workers": "workers",
    "user": "user",
    "group": "group",
    "has_sandbox": "sandbox",
    "writable": "writable",
    "spool_dir": "dir",
    "log_path": "path",
    "store": "store",
    "console": "[console]",
    "when_log_full": "when_full",
    "sinks": "[[log.sink]] or [traces]",
    "metrics": "[metrics]",
    "authority_folder": "dir",
}
"""Attributes of ``Configuration`` that a running gate keeps, with their keys."""


class ReloadHistory:
    """The reloads of one running gate, and the records of them."""

    def __init__(self, clock: Clock, write: Callable[[Record], object], boot: str) -> None:
        """Begin.

        Args:
            clock: Tells when.
            write: Takes records.
            boot: The mark that identifiers of this run carry.
        """
        self.view = ReloadView()
        #: For people.
        self._clock = clock
        self._write = write
        self._boot = boot

    def note_done(self, before: PolicySnapshot, after: PolicySnapshot, by: str) -> None:
        """Take that settings are in force, on every worker."""
        view, now = self.view, self._clock.wall()
        view.done += 1
        view.done_at, view.done_by = now, by
        self._note("reloaded", now, by, policy=after.hash)
        if before.hash == after.hash:
            return
        changes = compare_policies(before.policy, after.policy)
        self._write(
            PolicyRecord(
                time=now,
                before=before.hash,
                policy=after.hash,
                by=by,
                added=changes.added,
                removed=changes.removed,
                changed=changes.changed,
                moved=changes.moved,
            )
        )

    def note_refused(self, causes: Sequence[str], by: str) -> None:
        """Take that settings are not in force, anywhere."""
        view, now = self.view, self._clock.wall()
        view.refused += 1
        view.refused_at, view.refused_by, view.refused_causes = now, by, list(causes)
        self._note("reload-refused", now, by, causes=tuple(causes))

    def _note(
        self,
        event: ServiceEvent,
        now: float,
        by: str,
        *,
        policy: str = "",
        causes: tuple[str, ...] = (),
    ) -> None:
        self._write(
            ServiceRecord(
                time=now,
                event=event,
                version=VERSION,
                boot=self._boot,
                policy=policy,
                causes=causes,
                by=by,
            )
        )


def settings_for_restart(before: Loaded, after: Loaded) -> list[str]:
    """Return a line for each setting that changed and waits for a restart."""
    return [
        f"{key} was changed; it is in force after a restart"
        for key in _changed(before.configuration, after.configuration)
    ]


def _changed(before: Configuration, after: Configuration) -> list[str]:
    keys = [
        f'"{key}"'
        for attribute, key in _FIXED.items()
        if getattr(before, attribute) != getattr(after, attribute)
    ]
    keys += [
        f"limits.{field.name}"
        for field in dataclasses.fields(before.limits)
        if getattr(before.limits, field.name) != getattr(after.limits, field.name)
    ]
    return keys
