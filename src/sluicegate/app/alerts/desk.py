"""AlertDesk: what alerts have become of, and what is still to be done about it; kept over restarts.

The process that raises alerts has one and tells it what it reads; it pulls what is to be written,
and what is to be done. The invariant: a raising is kept before anybody is told of it; its record
goes on being offered until it is seen in the log, and its actions until they are done or have
failed for good, so no crash loses one.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, cast

import msgspec

from sluicegate.alert_limits import ALERT_DELIVERIES_MAX, ALERT_OPEN_MAX
from sluicegate.audit.alerts import (
    LOG_ACTION,
    AlertEngine,
    AlertRule,
    AlertState,
    Condition,
    Raising,
    Step,
)
from sluicegate.audit.alerts.action import ActionSettings
from sluicegate.audit.alerts.signs import Signs
from sluicegate.audit.records import AlertRecord
from sluicegate.audit.store import LogPosition

from .notice import Notice

__all__ = ["AlertDesk", "Delivery", "key_of"]

_UNSEEN_MAX: Final = 4 * ALERT_OPEN_MAX
"""Records that wait to be seen in the log: of more, the oldest counts as seen."""


class Delivery(msgspec.Struct, kw_only=True):
    """One action that is to be done for one raising."""

    action: str
    notice: Notice
    attempts: int = 0
    due: float = 0.0
    """When it is tried next, in seconds since the Unix epoch."""

    @property
    def key(self) -> str:
        """Tells it from every other."""
        return f"{self.notice.identifier}/{self.action}"


class _Kept(msgspec.Struct, kw_only=True):
    """What is in the file."""

    position: tuple[int, int, str] = (0, 0, "")
    """Of the log: up to there all is counted."""
    since: float = 0.0
    """Records before it do not count: there were no alerts then."""
    alerts: AlertState = msgspec.field(default_factory=AlertState)
    unseen: list[AlertRecord] = []
    """Records that were not seen in the log."""
    deliveries: list[Delivery] = []


class AlertDesk:
    """The alerts of one gate, and its file."""

    def __init__(
        self,
        path: pathlib.Path,
        rules: Sequence[AlertRule],
        actions: Sequence[ActionSettings],
        now: float,
    ) -> None:
        """Go on where the file ends.

        Args:
            path: Of the file; there need not be one yet.
            rules: When which alert is raised.
            actions: What can be done.
            now: Since when alerts count if there is no file, in seconds since the Unix epoch.
        """
        self._path = path
        self.trouble = ""
        #: Why the file could not be read; it is begun anew.
        self._kept = self._read(now)
        self._engine = AlertEngine(rules, self._kept.alerts)
        self._actions = {one.name for one in actions}
        self.raised = 0
        self.failed = 0
        #: Since the start: raisings, and actions that failed.
        self.is_changed = False
        #: Whether something is to be kept before anybody is told of it.
        self._saved: tuple[int, int, str] | None = None
        #: The position that the file has; None: it was not written yet.
        for delivery in list(self._kept.deliveries):
            if delivery.action not in self._actions:
                self._kept.deliveries.remove(delivery)

    @property
    def position(self) -> LogPosition:
        """Up to where the log is counted."""
        return LogPosition(*self._kept.position)

    @property
    def open_count(self) -> int:
        """How many alerts wait to be acknowledged."""
        return self._engine.open_count

    @property
    def signs(self) -> Mapping[str, Signs]:
        """What tells, by kind, that it is to be told of a record; of no other kinds."""
        return {**self._engine.signs, "alert": None}

    def raisings(self) -> list[Raising]:
        """Return what is known of alerts, the last one first."""
        return self._engine.raisings()

    def unseen(self) -> list[AlertRecord]:
        """Return the records that are to be in the log and were not seen there."""
        return list(self._kept.unseen)

    def deliveries(self) -> list[Delivery]:
        """Return what is still to be done."""
        return list(self._kept.deliveries)

    @property
    def is_behind(self) -> bool:
        """Whether the file has not all: a gate without traffic writes nothing."""
        return self.is_changed or self._saved != self._kept.position

    # -- what happens --------------------------------------------------------------------------

    def take(self, fields: Mapping[str, object]) -> list[Step]:
        """Take a record of the log; return what has become of alerts by it."""
        time = fields.get("time")
        if isinstance(time, int | float) and time < self._kept.since:
            return []
        if fields.get("kind") == "alert":
            self._see(fields)
            return []
        return self._keep(self._engine.take(fields))

    def move(self, position: LogPosition) -> None:
        """Take that all up to there was taken."""
        self._kept.position = (position.inode, position.offset, position.mark)

    def catch_up(self) -> None:
        """Take that the log was read to its end: from now on all counts, whatever its time is.

        A clock may be put back behind the moment from which on records counted.
        """
        self._kept.since = 0.0

    def look(self, conditions: Sequence[Condition], now: float) -> list[Step]:
        """Take which conditions of the gate are so."""
        self.is_changed |= bool(conditions or self._kept.alerts.standing)
        return self._keep(self._engine.look(conditions, now))

    def happen(self, condition: Condition, now: float) -> list[Step]:
        """Take that something has happened."""
        return self._keep(self._engine.happen(condition, now))

    def acknowledge(self, identifiers: Iterable[str], by: str, now: float) -> list[Step]:
        """Take that somebody has seen alerts; return those that were open."""
        return self._keep(self._engine.acknowledge(identifiers, by, now))

    def finish(self, delivery: Delivery) -> None:
        """Take that an action is done."""
        self._drop(delivery)

    def fail(self, delivery: Delivery, cause: str, now: float) -> None:
        """Take that an action has failed for good: that is recorded."""
        self._drop(delivery)
        self.failed += 1
        raising = self._kept.alerts.raisings.get(delivery.notice.raising)
        if raising is None:
            return  # it was acknowledged long ago, and nobody lists it any more
        raising.failures[delivery.action] = cause
        facts: dict[str, str | int] = {
            "action": delivery.action,
            "cause": cause,
            "attempts": delivery.attempts,
        }
        self._offer(raising.record("action-failed", now, facts=facts))

    # -- the file ------------------------------------------------------------------------------

    def save(self) -> None:
        """Write the file, whole.

        Raises:
            OSError: It cannot be written; what is in it stays.
        """
        partial = self._path.with_suffix(_PARTIAL)
        partial.write_bytes(msgspec.json.encode(self._kept))
        partial.chmod(0o600)
        partial.replace(self._path)
        self.is_changed, self._saved = False, self._kept.position

    def _read(self, now: float) -> _Kept:
        try:
            return _decoder.decode(self._path.read_bytes())
        except FileNotFoundError:
            return _Kept(since=now)
        except (OSError, msgspec.DecodeError) as error:
            self.trouble = f"{self._path}: {error}; alerts begin anew"
            return _Kept(since=now)

    # -- private -------------------------------------------------------------------------------

    def _keep(self, steps: list[Step]) -> list[Step]:
        for step in steps:
            self._offer(step.record)
            if step.record.event in {"raised", "raised-again"}:
                self.raised += 1
            for action in step.actions:
                if action != LOG_ACTION and action in self._actions:
                    self._enqueue(step, action)
        return steps

    def _enqueue(self, step: Step, action: str) -> None:
        # As the raising is now: it goes on changing.
        is_first = step.record.event == "raised"
        notice = Notice.of(step.raising, "raised" if is_first else "raised-again")
        delivery = Delivery(action=action, notice=notice)
        if len(self._kept.deliveries) >= ALERT_DELIVERIES_MAX:
            cause = f"more than {ALERT_DELIVERIES_MAX} actions wait"
            self.fail(delivery, cause, step.record.time)
        else:
            self._kept.deliveries.append(delivery)

    def _drop(self, delivery: Delivery) -> None:
        """Forget an action; by its key, for other settings may have made it anew."""
        left = [one for one in self._kept.deliveries if one.key != delivery.key]
        self._kept.deliveries = left
        self.is_changed = True

    def _offer(self, record: AlertRecord) -> None:
        self._kept.unseen.append(record)
        del self._kept.unseen[:-_UNSEEN_MAX]
        self.is_changed = True

    def _see(self, fields: Mapping[str, object]) -> None:
        """Take that one of our records is in the log."""
        key = key_of_fields(fields)
        left = [one for one in self._kept.unseen if key_of(one) != key]
        if len(left) != len(self._kept.unseen):
            self._kept.unseen = left


def key_of(record: AlertRecord) -> tuple[object, ...]:
    """Return what tells a record of an alert from every other."""
    return record.raising, record.event, record.times, record.facts.get("action", "")


def key_of_fields(fields: Mapping[str, object]) -> tuple[object, ...]:
    """Return the same of a record's line."""
    facts = cast("Mapping[str, object]", fields.get("facts") or {})
    action = facts.get("action", "")
    return fields.get("raising"), fields.get("event"), fields.get("times", 1), action


_PARTIAL: Final = ".new"
_decoder: msgspec.json.Decoder[_Kept] = msgspec.json.Decoder(_Kept)
