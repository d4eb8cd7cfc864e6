"""The registry: installed filters, what became of them, and which rule needs which.

The service starts filters through it and compiles a plan per rule at every reload, so that a
new connection asks no questions. The invariant: a rule that needs a filter which has failed is
blocked, unless the operator wrote ``on_failure = "bypass"`` for that filter.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from sluicegate.errors import FILTER_ERRORS, FilterFailed
from sluicegate.filterapi import (
    AnyDataFilter,
    CallbackDataFilter,
    ContentFilter,
    DatagramFilter,
    Events,
    Filter,
    Firewall,
    PolicyChanged,
    StreamFilter,
    WebFilter,
)
from sluicegate.metrics import CATALOGUE, Histogram
from sluicegate.policy import AnyRule, PolicySnapshot
from sluicegate.policy.rules import Rule, RuleAction, RuleSettings
from sluicegate.policy.tls_check import TlsCheck

from .rule_limits import RuleDeadlines
from .rule_settings import maker_of, rule_settings_of, web_filter_of
from .settings import (
    FilterProcess,
    Installation,
    InstalledFilter,
    OnFailure,
    PerConnection,
    PerRule,
)
from .views import FilterView

__all__ = [
    "BYTES_UNSEEN",
    "ConnectionStep",
    "ContentStep",
    "EventStep",
    "Installed",
    "Registry",
    "RulePlan",
    "WebStep",
]

BYTES_UNSEEN: Final = "rule-has-filters-of-messages"
"""The rule's filters judge objects or HTTP messages, and nothing finds any in a tunnel's bytes.

A rule of its own, without these filters, lets tunnels pass.
"""


class Installed:
    """One installed filter and its state; kept over reloads while its installation is the same."""

    __slots__ = (
        "calls",
        "events",
        "failed",
        "failures",
        "installation",
        "serial",
        "sessions",
        "time",
    )

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.serial = next(_serials)
        #: Never that of another installation.
        self.events = Events()
        self.failed = ""
        #: Why it could not start; empty while it works.
        self.calls = 0
        self.failures = 0
        self.sessions = 0
        self.time = Histogram(CATALOGUE["sluicegate_filter_seconds"].bounds)
        #: How long it took to answer, in seconds.

    @property
    def name(self) -> str:
        """Its name in configuration and records."""
        return self.installation.name

    @property
    def is_bypassed_on_failure(self) -> bool:
        """Whether traffic goes on without it."""
        return self.installation.on_failure is OnFailure.BYPASS

    def start(
        self, firewall: Firewall, on_error: Callable[[Installed, BaseException], None]
    ) -> None:
        """Start it; a failure is noted, told, and leaves the service running."""
        target, process = self.installation.filter_object, self.installation.process
        if process is not None:
            process.start(firewall, lambda error: on_error(self, error))
        if not isinstance(target, Filter):
            return
        try:
            self.events = _checked(target.start(firewall))
        except FILTER_ERRORS as error:
            self.failed = f"{type(error).__name__}: {error}"
            on_error(self, error)

    def stop(self, on_error: Callable[[Installed, BaseException], None]) -> None:
        """Stop it; a failure is told."""
        target = self.installation.filter_object
        if isinstance(target, Filter) and not self.failed:
            try:
                target.stop()
            except FILTER_ERRORS as error:
                on_error(self, error)
        if self.installation.process is not None:
            self.installation.process.stop()

    def view(self, rules: list[str]) -> FilterView:
        """Return a copy of this moment, for people."""
        process = self.installation.process
        if process is not None:
            tier, position = process.tier, process.position
        else:
            tier, position = _tier(self.installation.filter_object)
        cause = self.failed or (process.cause if process is not None else "")
        return FilterView(
            name=self.name,
            source=self.installation.source,
            tier=tier,
            position=position,
            on_failure=self.installation.on_failure.value,
            state="failed" if cause else "working",
            cause=cause,
            rules=rules,
            sessions=self.sessions,
            calls=self.calls,
            failures=self.failures,
            answer_s=self.time.total,
            answer_buckets=list(self.time.buckets),
            isolation="process" if process is not None else "",
            pid=process.pid if process is not None else 0,
            restarts=process.restarts if process is not None else 0,
            memory_bytes=process.memory_bytes() if process is not None else 0,
        )


_serials: Final = itertools.count(1)


def _checked(events: object) -> Events:
    if not isinstance(events, Events):
        raise TypeError(f"start returned {events!r}, not Events")
    return events


def _tier(target: InstalledFilter) -> tuple[str, str]:
    """Return what kind a filter is and, where the kind says so, where it stands."""
    if isinstance(target, Filter):
        return "filter", ""
    if isinstance(target, ContentFilter):
        return "content", ""
    if isinstance(target, WebFilter | PerRule):
        return "web", ""
    try:
        made = maker_of(target, {})()
    except FILTER_ERRORS:
        return "data", ""
    tier = "data"
    if isinstance(made, StreamFilter):
        tier = "stream"
    elif isinstance(made, DatagramFilter):
        tier = "datagram"
    elif isinstance(made, CallbackDataFilter):
        tier = "callback"
    return tier, type(made).position.name.lower()


@dataclass(frozen=True, slots=True)
class EventStep:
    """A filter that is told of events, with the rule's settings for it."""

    installed: Installed
    filter: Filter
    settings: object
    """A model, if the filter has one for it, else the table."""
    must_work: bool = False
    """Whether traffic is refused when it fails, whatever the operator said of the filter."""

    @property
    def is_bypassed_on_failure(self) -> bool:
        """Whether traffic goes on without it."""
        return self.installed.is_bypassed_on_failure and not self.must_work


@dataclass(frozen=True, slots=True)
class ConnectionStep:
    """A data or stream filter made for each connection."""

    installed: Installed
    make: Callable[[], AnyDataFilter]
    must_work: bool = False
    """Whether traffic is refused when it fails, whatever the operator said of the filter."""
    finds_objects: bool = True
    """Whether it may take objects out of the bytes; one that sees chunk by chunk may not."""

    @property
    def is_bypassed_on_failure(self) -> bool:
        """Whether traffic goes on without it."""
        return self.installed.is_bypassed_on_failure and not self.must_work


@dataclass(frozen=True, slots=True)
class ContentStep:
    """A content filter that is asked about transfers."""

    installed: Installed
    filter: ContentFilter
    must_work: bool = False
    """Whether objects are refused when it fails, whatever the operator said of the filter."""

    @property
    def is_bypassed_on_failure(self) -> bool:
        """Whether objects pass without it."""
        return self.installed.is_bypassed_on_failure and not self.must_work


@dataclass(frozen=True, slots=True)
class WebStep:
    """A web filter that is asked about exchanges."""

    installed: Installed
    filter: WebFilter
    must_work: bool = False
    """Whether exchanges are refused when it fails, whatever the operator said of the filter."""

    @property
    def is_bypassed_on_failure(self) -> bool:
        """Whether exchanges go on without it."""
        return self.installed.is_bypassed_on_failure and not self.must_work


@dataclass(frozen=True, slots=True)
class RulePlan:
    """What runs for connections of one rule, compiled once."""

    rule: AnyRule
    policy_hash: str = ""
    """SHA-256 of the policy that the rule belongs to."""
    blocked: str = ""
    """Why all its traffic is refused; empty when its filters work."""
    events: tuple[EventStep, ...] = ()
    connection: tuple[ConnectionStep, ...] = ()
    content: tuple[ContentStep, ...] = ()
    web: tuple[WebStep, ...] = ()
    """In the order in which requests meet them."""
    names: tuple[str, ...] = field(default=())
    """Of the filters that run; not of those that failed and are bypassed."""
    settings: RuleSettings = field(default_factory=lambda: MappingProxyType({}))
    """What the rule says to each of them, as they run."""
    is_plain: bool = field(init=False)
    """Whether nothing is asked about a connection or a request as such."""
    bytes_blocked: str = field(init=False)
    """Why no plain bytes may pass; empty when they may. Includes ``blocked``."""
    is_plain_for_bytes: bool = field(init=False)
    """Whether plain bytes pass, and nothing is asked about them."""
    must_inspect: bool = field(init=False)
    """Whether nothing may pass that no filter sees."""
    bytes_max: int | None = field(init=False)
    """Of one connection, both directions together."""
    counts_bodies: bool = field(init=False)
    """Whether the bytes of an exchange of HTTP are counted: nothing is spliced past the count."""
    response_timeout_s: float | None = field(init=False)
    """What the rule says of servers of HTTP that say nothing."""
    tls: TlsCheck | None = field(init=False)
    """What the rule wants of ClientHellos."""
    deadlines: RuleDeadlines | None = field(init=False)
    """What the rule says of the time of its connections."""

    def __post_init__(self) -> None:
        """Note what every connection asks."""
        must_inspect = _must_inspect(self.rule)
        object.__setattr__(self, "must_inspect", must_inspect)
        limits = self.rule.limits
        is_timed = limits.duration_s is not None or limits.idle_timeout_s is not None
        object.__setattr__(self, "bytes_max", limits.bytes_max)
        object.__setattr__(self, "counts_bodies", limits.counts_bodies)
        object.__setattr__(self, "response_timeout_s", limits.response_timeout_s)
        object.__setattr__(self, "tls", self.rule.tls)
        object.__setattr__(self, "deadlines", RuleDeadlines(self.rule) if is_timed else None)
        is_counted = limits.counts_bodies or limits.bounds_requests
        is_bounded = is_counted or limits.connections_max is not None
        is_plain = not (
            self.events or self.connection or self.blocked or must_inspect or is_bounded
        )
        object.__setattr__(self, "is_plain", is_plain)
        bytes_blocked = self.blocked or (BYTES_UNSEEN if self._is_blind_to_bytes() else "")
        object.__setattr__(self, "bytes_blocked", bytes_blocked)
        object.__setattr__(self, "is_plain_for_bytes", is_plain and not bytes_blocked)

    def _is_blind_to_bytes(self) -> bool:
        """Tell whether it has filters that a connection's bytes would pass without being asked."""
        finds_objects = bool(self.events) or any(step.finds_objects for step in self.connection)
        return bool(self.web) or (bool(self.content) and not finds_objects)

    def has(self, installed: Installed) -> bool:
        """Tell whether a filter runs in it."""
        return (
            any(step.installed is installed for step in self.events)
            or any(step.installed is installed for step in self.connection)
            or any(step.installed is installed for step in self.content)
            or any(step.installed is installed for step in self.web)
        )


def _finds_objects(target: PerConnection) -> bool:
    made: object = target.make
    made = getattr(made, "func", made)
    return not (isinstance(made, type) and issubclass(made, StreamFilter | DatagramFilter))


def _must_inspect(rule: AnyRule) -> bool:
    return isinstance(rule, Rule) and rule.action is RuleAction.INSPECT


class Registry:
    """All installed filters of one service."""

    def __init__(
        self, firewall: Firewall, on_error: Callable[[Installed, BaseException], None]
    ) -> None:
        self._firewall = firewall
        self._on_error = on_error
        self._installed: dict[str, Installed] = {}
        self._ending: list[FilterProcess] = []
        #: Of filters that were stopped.
        self.retired: list[Installed] = []
        #: No longer installed, but connections that came by them are still there.

    @property
    def installed(self) -> tuple[Installed, ...]:
        """Every installed filter in the operator's order."""
        return tuple(self._installed.values())

    def apply(self, installations: tuple[Installation, ...]) -> None:
        """Start what is new, keep what is the same, retire what is gone."""
        before = self._installed
        self._installed = {}
        for installation in installations:
            known = before.get(installation.name)
            if known is not None and known.installation is installation:
                self._installed[installation.name] = before.pop(installation.name)
                continue
            installed = Installed(installation)
            installed.start(self._firewall, self._on_error)
            self._installed[installation.name] = installed
        self.retired += before.values()

    def find_event_step(self, name: str) -> EventStep:
        """Return an installed event filter, for a session that wants it beside its rule's.

        Raises:
            LookupError: No filter of that name is installed, or it registers for no events.
            FilterFailed: It could not start.
        """
        installed = self._installed.get(name)
        target = None if installed is None else installed.installation.filter_object
        if installed is None or not isinstance(target, Filter):
            raise LookupError(f"no filter that takes events is installed as {name!r}")
        if installed.failed:
            raise FilterFailed(name, installed.failed)
        return EventStep(installed, target, {})

    def tell_policy_changed(self, before: str, snapshot: PolicySnapshot) -> None:
        """Tell every filter that works of a policy that is in force now; a failure is told."""
        for installed in self.installed:
            target = installed.installation.filter_object
            if isinstance(target, Filter) and not installed.failed:
                rules = tuple(
                    rule.name
                    for rule in snapshot.policy.publications
                    if installed.name in rule.filters
                )
                try:
                    target.on_policy_changed(PolicyChanged(before, snapshot.hash, rules))
                except FILTER_ERRORS as error:
                    self._on_error(installed, error)

    def stop_retired(self, installed: Installed) -> None:
        """Stop a filter that nothing uses any more."""
        self.retired.remove(installed)
        self._stop(installed)

    def stop(self) -> None:
        """Stop every filter."""
        for installed in (*self._installed.values(), *self.retired):
            self._stop(installed)
        self._installed = {}
        self.retired = []

    async def wait_ended(self) -> None:
        """Wait until the processes of stopped filters are gone."""
        while self._ending:
            await self._ending.pop().wait_ended()

    def _stop(self, installed: Installed) -> None:
        installed.stop(self._on_error)
        process = installed.installation.process
        if process is not None:
            self._ending = [one for one in self._ending if one.pid]
            self._ending.append(process)

    def plan(self, rule: AnyRule, policy_hash: str = "") -> RulePlan:
        """Compile what runs for a rule, in the order of position, then as it lists them."""
        events: list[EventStep] = []
        connection: list[ConnectionStep] = []
        content: list[ContentStep] = []
        web: list[WebStep] = []
        names: list[str] = []
        must = _must_inspect(rule)
        for name in rule.filters:
            installed = self._installed.get(name)
            if installed is None:
                return RulePlan(rule, policy_hash, blocked=f"filter {name} is not installed")
            if installed.failed:
                if installed.is_bypassed_on_failure and not must:
                    continue
                cause = f"filter {name} failed: {installed.failed}"
                return RulePlan(rule, policy_hash, blocked=cause)
            names.append(name)
            target = installed.installation.filter_object
            written = rule.settings.get(name, {})
            try:
                if isinstance(target, Filter):
                    chosen = rule_settings_of(target, written)
                    events.append(EventStep(installed, target, chosen, must))
                elif isinstance(target, PerConnection):
                    maker = maker_of(target, written)
                    step = ConnectionStep(installed, maker, must, _finds_objects(target))
                    connection.append(step)
                elif isinstance(target, WebFilter | PerRule):
                    web.append(WebStep(installed, web_filter_of(target, written), must))
                else:
                    content.append(ContentStep(installed, target, must))
            except ValueError as error:
                # The checks of a policy find it first; whoever goes without them is refused.
                cause = f"filter {name} has wrong settings in this rule: {error}"
                return RulePlan(rule, policy_hash, blocked=cause)
        return RulePlan(
            rule,
            policy_hash,
            events=tuple(events),
            connection=tuple(connection),
            content=tuple(content),
            web=tuple(web),
            names=tuple(names),
            settings=rule.settings,
        )
