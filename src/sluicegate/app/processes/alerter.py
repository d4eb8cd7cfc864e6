"""The alerter's process: it follows the log, raises alerts, and does what they are to do.

The supervisor, or a gate of one process, starts it where there are alerts, and another when it has
ended. The invariant: it is kept what was raised before anybody is told of it (``alerts.desk``), so
whatever is killed, no alert and no action is lost; an action may be done twice, under the same
identifier.
"""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeAlias

import msgspec

from sluicegate.alert_limits import (
    ALERT_ACTIONS_MAX,
    ALERT_ATTEMPTS_MAX,
    ALERT_END_S,
    ALERT_LOOK_S,
    ALERT_RETRY_MAX_S,
    ALERT_RETRY_S,
    ALERT_SAVE_S,
    ALERT_STATUS_S,
)
from sluicegate.app.alert_conditions import ConditionWatch, conditions_in
from sluicegate.app.alerts.command import run_command
from sluicegate.app.alerts.desk import AlertDesk, Delivery, key_of
from sluicegate.app.alerts.fault import ActionFailed
from sluicegate.app.alerts.mail import send_mail
from sluicegate.app.alerts.webhook import call_webhook
from sluicegate.app.confinement import confine_process
from sluicegate.audit.alerts import LOG_ACTION, Condition, Step
from sluicegate.audit.alerts.action import (
    ActionSettings,
    CommandSettings,
    MailSettings,
    WebhookSettings,
)
from sluicegate.audit.alerts.signs import may_be_chosen
from sluicegate.audit.store import Follower
from sluicegate.clock import SystemClock
from sluicegate.gate.control_messages import (
    AcknowledgedReply,
    AcknowledgeRequest,
    AlertsReply,
    AlertsRequest,
    AnyReply,
    RefusedReply,
    StatusReply,
    StatusRequest,
)
from sluicegate.gate.views import Phase
from sluicegate.version import VERSION

from .asking import Asking, GateSilent
from .channel import FrameReader
from .orders import (
    PROTOCOL,
    Alerting,
    Answer,
    AnyMessage,
    Ask,
    BeginAlerts,
    Ready,
    RecordAlert,
    Said,
)
from .start import arrive, live_and_end

__all__ = ["main"]

_Socket: TypeAlias = socket.socket  # noqa: TID251 - it carries orders, not traffic

_FILE: Final = "alerts.json"
_KIND_START: Final = b'{"kind":"'
_decoder: msgspec.json.Decoder[dict[str, object]] = msgspec.json.Decoder(dict[str, object])


def main(channel: int) -> None:
    """Be the alerter.

    Args:
        channel: Descriptor of the socket to the supervisor.
    """
    # It ends by its channel.
    arrived = arrive(channel, BeginAlerts, "sluice-alerts")
    if arrived is None:
        return
    _, connected, begin, _, reader = arrived
    folder = pathlib.Path(begin.folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Programs that it starts inherit that.
    writable = [folder, *map(pathlib.Path, begin.writable)]
    confine_process(writable, has_sandbox=begin.has_sandbox, may_fork=True)
    live_and_end(_Alerter(begin).live(connected, reader))  # a thread may wait for a mail server


class _Alerter:
    """The process's life."""

    def __init__(self, begin: BeginAlerts) -> None:
        self._clock = SystemClock()
        self._watch = ConditionWatch()
        self._gaps: list[str] = []
        #: Lines of the log that went before they were read; told with the next look.
        self._has_caught_up = False
        #: Whether the log was read to its end once: only then is it known what is not in it.
        self._offered: set[tuple[object, ...]] = set()
        #: Records that the supervisor was given.
        self._doing: dict[str, asyncio.Task[None]] = {}
        #: By action: one at a time, so that one that hangs keeps no other from being tried.
        self._said = Alerting(open=0)
        self._log_trouble = self._file_trouble = ""
        #: Why the log cannot be read, and why nothing can be kept.
        self._saved = 0.0
        self._take(begin)

    def _take(self, begin: BeginAlerts) -> None:
        """Work by settings, from where the file ends."""
        self._begin = begin
        path = pathlib.Path(begin.folder, _FILE)
        self._desk = AlertDesk(path, begin.rules, begin.actions, begin.since)
        self._actions = {one.name: one for one in begin.actions}
        self._follower = Follower(pathlib.Path(begin.log), self._desk.position, self._gaps.append)

    async def live(self, connected: _Socket, reader: FrameReader) -> None:
        """Work until the supervisor lets go, and a moment longer for what was begun."""
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(ALERT_ACTIONS_MAX))
        self._gate = Asking(connected, reader, "alerts", self._on_message)
        self._gate.say(Ready(protocol=PROTOCOL, version=VERSION))
        self._say_trouble()
        self._gate.deliver()
        looking = loop.create_task(self._look_at_the_gate())
        while not self._gate.over.is_set():
            if looking.done():
                looking.result()  # a fault: the process ends by it, and that is recorded
            pause_s = self._turn()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._gate.over.wait()
        looking.cancel()
        self._follow()
        if self._doing:
            await asyncio.wait(self._doing.values(), timeout=ALERT_END_S)
        self._save()
        self._gate.close()

    def _turn(self) -> float:
        """Read what is there, a batch at most; return after how many seconds to come again."""
        pause_s = self._follow()
        self._settle()
        return pause_s

    def _follow(self) -> float:
        try:
            chunk = self._follower.read()
            if not self._has_caught_up:
                is_end = chunk is None or not (chunk.has_more or self._follower.bytes_behind)
                self._has_caught_up = is_end
                if is_end:
                    self._desk.catch_up()
        except OSError as error:
            self._log_trouble = f"the log cannot be read: {error.strerror}"
            return ALERT_LOOK_S
        self._log_trouble = ""
        if chunk is None:
            return ALERT_LOOK_S
        steps: list[Step] = []
        signs = self._desk.signs
        for line in chunk.lines:
            kind = _kind_of(line)
            if kind in signs and may_be_chosen(line, signs[kind]):
                with contextlib.suppress(msgspec.DecodeError):  # the store says so
                    steps += self._desk.take(_decoder.decode(line))
        self._desk.move(chunk.position)
        self._show(steps)
        # What was raised before is not offered until it is known to be missing in the log.
        return 0.0 if chunk.has_more or not self._has_caught_up else ALERT_LOOK_S

    async def _look_at_the_gate(self) -> None:
        while True:
            await asyncio.sleep(ALERT_STATUS_S)
            try:
                reply = await self._gate.ask(StatusRequest())
            except GateSilent:
                continue  # it has other things to do, or is about to end
            assert isinstance(reply, StatusReply), "an alerter may ask that"
            room, now = self._begin.room, self._clock.wall()
            found = conditions_in(reply.status, room, room.free_bytes(), now)
            if found is None:
                continue
            is_whole = reply.status.phase is not Phase.STARTING
            steady = self._watch.steady(found, is_whole=is_whole)
            if steady is not None:
                self._show(self._desk.look(steady, now))
                self._settle()

    # -- what becomes of it --------------------------------------------------------------------

    def _show(self, steps: list[Step]) -> None:
        """Keep what was raised, then say the lines of those that are to be said."""
        if not steps:
            return
        self._save()
        for record, _, actions in steps:
            if LOG_ACTION in actions:
                about = f" ({record.about})" if record.about else ""
                self._say(f"alert {record.alert}{about}: {record.message} [{record.raising}]")

    def _settle(self) -> None:
        """Tell of gaps, keep what changed, offer records, begin actions."""
        while self._gaps:
            condition = Condition(name="records-missed", message=self._gaps.pop(0))
            self._show(self._desk.happen(condition, self._clock.wall()))
        is_time = self._clock.monotonic() - self._saved >= ALERT_SAVE_S
        if self._desk.is_changed or (is_time and (self._desk.is_behind or self._file_trouble)):
            self._save()
        if self._has_caught_up:
            unseen = {key_of(record): record for record in self._desk.unseen()}
            for key, record in unseen.items():
                if key not in self._offered:
                    self._gate.say(RecordAlert(record=record))
            self._offered = set(unseen)
        self._deliver()
        self._report()

    def _report(self) -> None:
        """Tell the supervisor how it is, if that has changed."""
        trouble = self._file_trouble or self._log_trouble
        state = Alerting(open=self._desk.open_count, trouble=trouble)
        if state != self._said:
            if trouble not in {"", self._said.trouble}:
                self._say(f"alerts: {trouble}")
            self._said = state
            self._gate.say(state)

    def _save(self) -> None:
        try:
            self._desk.save()
            self._file_trouble = ""
        except OSError as error:
            cause = error.strerror or str(error)
            self._file_trouble = f"{self._begin.folder}: nothing can be kept: {cause}"
        self._saved = self._clock.monotonic()

    # -- actions -------------------------------------------------------------------------------

    def _deliver(self) -> None:
        """Begin what is due, of each action the first."""
        now = self._clock.wall()
        for delivery in self._desk.deliveries():
            if delivery.action not in self._doing and delivery.due <= now:
                # By today's settings: a reload may come before it begins.
                doing = self._do(self._actions[delivery.action], delivery)
                self._doing[delivery.action] = asyncio.get_running_loop().create_task(doing)

    async def _do(self, action: ActionSettings, delivery: Delivery) -> None:
        """Try an action once."""
        delivery.attempts += 1
        try:
            await _perform(action, delivery, self._clock.wall())
        except ActionFailed as error:
            self._on_failed(delivery, error)
        except Exception as error:  # noqa: BLE001 - a fault of ours is not tried for ever
            # Its words may hold a secret: its kind has to do.
            cause = f"a fault in the action: {type(error).__name__}"
            self._on_failed(delivery, ActionFailed(cause, is_final=True))
        else:
            self._desk.finish(delivery)
        finally:
            del self._doing[delivery.action]
            self._save()

    def _on_failed(self, delivery: Delivery, error: ActionFailed) -> None:
        now, name = self._clock.wall(), delivery.action
        self._say(f"alert {delivery.notice.alert}: the action {name} failed: {error.cause}")
        if error.is_final or delivery.attempts >= ALERT_ATTEMPTS_MAX:
            self._desk.fail(delivery, error.cause, now)
            return
        pause_s = min(ALERT_RETRY_S * 4 ** (delivery.attempts - 1), ALERT_RETRY_MAX_S)
        delivery.due = now + pause_s

    # -- the supervisor ------------------------------------------------------------------------

    def _say_trouble(self) -> None:
        """Say why the file could not be read, if so."""
        if self._desk.trouble:
            self._say(self._desk.trouble)

    def _say(self, line: str) -> None:
        self._gate.say(Said(line=line))

    def _on_message(self, message: AnyMessage) -> None:
        match message:
            case Ask(number=number, request=request):
                self._gate.say(Answer(number=number, reply=self._answer(request)))
            case BeginAlerts():
                self._change(message)
            case _:
                raise AssertionError(f"{message} is for another process")

    def _answer(self, request: object) -> AnyReply:
        match request:
            case AlertsRequest():
                rows = self._desk.raisings()
                return AlertsReply(rows=rows, total=len(rows))
            case AcknowledgeRequest(alerts=alerts, by=by):
                self._save()
                if self._file_trouble:
                    return RefusedReply(causes=[self._file_trouble])
                steps = self._desk.acknowledge(alerts, by, self._clock.wall())
                self._save()
                self._settle()
                return AcknowledgedReply(acknowledged=[step.raising.raising for step in steps])
            case _:
                return RefusedReply(causes=["the alert process may not be asked that"])

    def _change(self, begin: BeginAlerts) -> None:
        """Go on by other settings; what is being done is done by those it began with."""
        self._save()
        self._follower.close()
        self._take(begin)
        self._say_trouble()


async def _perform(action: ActionSettings, delivery: Delivery, now: float) -> None:
    """Do an action.

    Raises:
        ActionFailed: It was not done.
    """
    match action.what:
        case CommandSettings() as command:
            await run_command(command, delivery.notice)
        case WebhookSettings() as webhook:
            await call_webhook(webhook, delivery.notice, now)
        case MailSettings() as mail:
            await send_mail(mail, delivery.notice, now)


def _kind_of(line: bytes) -> str:
    """Return a record's kind, which its line begins with; empty: it is no record."""
    if not line.startswith(_KIND_START):
        return ""
    return line[len(_KIND_START) : line.find(b'"', len(_KIND_START))].decode("ascii", "replace")
