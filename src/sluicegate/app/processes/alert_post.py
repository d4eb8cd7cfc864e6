"""AlertPost: the place of the process that raises alerts.

The supervisor has one, or a gate of one process. The invariant: a record of an alert is written
once, also when the process offers it again because it was killed before it saw it in the log; and
what operators acknowledge is kept by that process, or refused.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter, OrderedDict
from collections.abc import Sequence
from typing import Final

from typing_extensions import override

from sluicegate.alert_limits import ALERT_ANSWER_TIMEOUT_S, ALERT_END_S, ALERT_OPEN_MAX
from sluicegate.app.alerts.desk import key_of
from sluicegate.app.config import Configuration
from sluicegate.app.spool_room import SpoolRoom
from sluicegate.audit.alerts import Raising
from sluicegate.audit.records import AlertRecord
from sluicegate.documents import ConfigRefused
from sluicegate.errors import ConfigError
from sluicegate.gate.control import ControlTarget
from sluicegate.gate.control_messages import (
    AcknowledgedReply,
    AcknowledgeRequest,
    AlertsReply,
    AlertsRequest,
    AnyReply,
    RefusedReply,
    StatusRequest,
)
from sluicegate.metrics import Series
from sluicegate.process_limits import WORKER_GRACE_S

from .attendant_post import AttendantPost
from .child import Child
from .child_post import Begin, Upkeep
from .orders import Alerting, Answer, AnyMessage, Ask, BeginAlerts, RecordAlert

__all__ = ["AlertPost"]

_FOLDER: Final = "alerts"
_WRITTEN_MAX: Final = 8 * ALERT_OPEN_MAX


class AlertPost(AttendantPost):
    """The process that raises alerts, and its replacements."""

    end_s = ALERT_END_S + WORKER_GRACE_S

    def __init__(
        self,
        configuration: Configuration,
        target: ControlTarget,
        upkeep: Upkeep,
        since: float | None = None,
    ) -> None:
        """Have none yet.

        Args:
            configuration: Says which alerts there are; without any nothing is started.
            target: Who answers how the gate is.
            upkeep: What every place needs; also what becomes of alerts is recorded.
            since: Where there never were alerts: from when on records count, in seconds since the
                Unix epoch; None: from now on.
        """
        super().__init__("alerter", "alert process", (StatusRequest,), target, upkeep)
        self.open = 0
        #: Alerts that wait to be acknowledged, as the process said last.
        self._since = upkeep.clock.wall() if since is None else since
        self._settings = self._begin_of(configuration)
        self._waiting: dict[int, asyncio.Future[AnyReply]] = {}
        self._numbers = itertools.count(1)
        self._written: OrderedDict[tuple[object, ...], None] = OrderedDict()
        self._raised: Counter[tuple[str, str]] = Counter()
        self._failed: Counter[str] = Counter()
        self._trouble = ""

    @override
    def listen(self) -> None:
        """Open nothing: nobody asks it over a network."""

    @override
    def warnings(self) -> list[str]:
        """Return what an operator should know."""
        found = super().warnings()
        if self._trouble:
            found.append(f"alerts: {self._trouble}")
        return found

    def change(self, configuration: Configuration) -> None:
        """Put the alerts of other files in force."""
        before, self._settings = self._settings, self._begin_of(configuration)
        if self._settings == before:
            return
        if self._child is None:
            if not self._settings.rules:
                return
            if self._retry is None:
                self.start()
        else:
            self._child.send(self._settings)

    async def alerts(self) -> list[Raising]:
        """Return what was raised and is known still, the last one first.

        Raises:
            ConfigRefused: The process that knows is not there.
        """
        if not self._settings.rules:
            return []
        reply = await self._ask(AlertsRequest())
        assert isinstance(reply, AlertsReply), "it is what was asked"
        return reply.rows

    async def acknowledge(self, identifiers: Sequence[str], by: str) -> list[str]:
        """Acknowledge alerts; return the identifiers of those that were open.

        Args:
            identifiers: Of raisings, or names of alerts.
            by: Who, for the records.

        Raises:
            ConfigRefused: The process that keeps them is not there.
        """
        if not self._settings.rules:
            return []
        reply = await self._ask(AcknowledgeRequest(alerts=list(identifiers), by=by))
        assert isinstance(reply, AcknowledgedReply), "it is what was asked"
        return reply.acknowledged

    def measures(self) -> list[Series]:
        """Return what is measured of alerts."""
        if not self._settings.rules:
            return []
        return [
            Series("sluicegate_alerts_open", (), float(self.open)),
            *(
                Series("sluicegate_alerts_raised", labels, float(count))
                for labels, count in self._raised.items()
            ),
            *(
                Series("sluicegate_alert_actions_failed", (action,), float(count))
                for action, count in self._failed.items()
            ),
        ]

    # -- private -------------------------------------------------------------------------------

    def _begin_of(self, configuration: Configuration) -> BeginAlerts:
        limits = configuration.limits
        return BeginAlerts(
            log=str(configuration.log_path),
            folder=str(configuration.state_dir / _FOLDER),
            since=self._since,
            rules=list(configuration.alerts.rules),
            actions=list(configuration.alerts.actions),
            room=SpoolRoom(
                folder=str(configuration.spool_dir),
                bytes_max=limits.spool_bytes_max,
                free_bytes_min=limits.spool_free_bytes_min,
            ),
            writable=[str(path) for path in configuration.writable],
            has_sandbox=configuration.has_sandbox,
        )

    @override
    def _begin(self) -> Begin | None:
        return (self._settings, []) if self._settings.rules else None

    @override
    def _on_said(self, child: Child, message: AnyMessage) -> None:
        match message:
            case RecordAlert(record=record):
                self._write(record)
            case Alerting(open=count, trouble=trouble):
                self.open, self._trouble = count, trouble
            case Answer(number=number, reply=reply):
                waiting = self._waiting.get(number)
                if waiting is not None and not waiting.done():  # else it came too late
                    waiting.set_result(reply)
            case _:
                super()._on_said(child, message)

    def _write(self, record: AlertRecord) -> None:
        """Write a record, unless it was written."""
        key = key_of(record)
        if key in self._written:
            return
        self._written[key] = None
        if len(self._written) > _WRITTEN_MAX:
            self._written.popitem(last=False)
        if record.event in {"raised", "raised-again"}:
            self._raised[record.alert, record.severity] += 1
        elif record.event == "action-failed":
            self._failed[str(record.facts.get("action", ""))] += 1
        self._record(record)

    async def _ask(self, request: AlertsRequest | AcknowledgeRequest) -> AnyReply:
        child = self._child
        if child is None:
            raise _refused("the process that raises alerts is not there", "try again in a moment")
        number = next(self._numbers)
        answered: asyncio.Future[AnyReply] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answered
        child.send(Ask(number=number, request=request))
        try:
            async with asyncio.timeout(ALERT_ANSWER_TIMEOUT_S):
                reply = await answered
        except TimeoutError:
            cause = f"no answer of the process that raises alerts in {ALERT_ANSWER_TIMEOUT_S:g} s"
            raise _refused(cause, "look whether it was done") from None
        finally:
            del self._waiting[number]
        if isinstance(reply, RefusedReply):
            raise _refused(*reply.causes)
        return reply


def _refused(cause: str, cure: str = "") -> ConfigRefused:
    return ConfigRefused((ConfigError("alerts", cause, cure),))
