"""Limits what each client may send and receive, in bytes per second.

A `Filter` puts one `DataFilter` into each connection of its rules; all connections of a client
share its allowance. The invariant: nothing is dropped. What comes too fast is not read, so that
TCP itself slows the sender down, and each wait is one timer.
"""

import asyncio

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import override

from sluicegate.filterapi import (
    Connection,
    ConnectRequested,
    DataFilter,
    DataSocket,
    Event,
    Events,
    EventVerdict,
    Filter,
    Firewall,
    Pass,
    Session,
    SessionFilter,
)


class RateLimiterSettings(BaseModel):
    """`[filter.settings]`, and `[publish.settings.<name>]`, which replaces it for one rule."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    to_server_bytes_per_s: int = Field(default=1 << 20, ge=100)
    """What all connections of a client together may send."""
    to_client_bytes_per_s: int = Field(default=1 << 20, ge=100)
    """What they may receive."""
    burst_s: float = Field(default=1.0, ge=0.1, le=60)
    """So many seconds' worth may pass at once after a pause."""


class Allowance:
    """So many bytes per second, handed out in the order in which they were asked for."""

    def __init__(self, bytes_per_s: int, burst_s: float) -> None:
        self._bytes_per_s = bytes_per_s
        self._burst_s = burst_s
        self._spent_until = 0.0
        #: When everything handed out so far will have been earned; the burst counts from here.
        self.slice_size = max(1, bytes_per_s // 10)
        #: A good size to ask for: large ones would make small ones of other connections wait.

    def book(self, count: int, now: float) -> float:
        """Hand out `count` bytes; return how many seconds to wait before using them."""
        start = max(self._spent_until, now - self._burst_s)
        self._spent_until = start + count / self._bytes_per_s
        return max(0.0, self._spent_until - now)


class RateLimiter(Filter):
    """Installed once."""

    name = "rate_limiter"
    Settings = RateLimiterSettings
    RuleSettings = RateLimiterSettings

    def __init__(self, settings: RateLimiterSettings) -> None:
        self._settings = settings

    @override
    def start(self, firewall: Firewall) -> Events:
        return Events.of(ConnectRequested)

    @override
    def attach(self, session: Session) -> SessionFilter:
        return _Client(session, self._settings)


class _Client(SessionFilter):
    """One client, with two allowances for each rule's settings that it met."""

    def __init__(self, session: Session, settings: RateLimiterSettings) -> None:
        super().__init__(session)
        self._default = settings
        self._allowances: dict[RateLimiterSettings, tuple[Allowance, Allowance]] = {}

    @override
    def on_event(self, event: Event) -> EventVerdict:
        settings = self._default
        if event.rule_settings:
            settings = RateLimiterSettings.model_validate(dict(event.rule_settings))
        if settings not in self._allowances:
            self._allowances[settings] = (
                Allowance(settings.to_server_bytes_per_s, settings.burst_s),
                Allowance(settings.to_client_bytes_per_s, settings.burst_s),
            )
        event.attach_data_filter(_Limited(*self._allowances[settings]))
        return Pass()


class _Limited(DataFilter):
    """One connection."""

    name = "rate_limiter"

    def __init__(self, to_server: Allowance, to_client: Allowance) -> None:
        self._to_server = to_server
        self._to_client = to_client

    @override
    async def run(
        self, client: DataSocket, server: DataSocket | None, connection: Connection
    ) -> None:
        assert server is not None, "a rate limiter emulates no server"
        try:
            async with asyncio.TaskGroup() as directions:
                directions.create_task(_pass_on(client, server, self._to_server))
                directions.create_task(_pass_on(server, client, self._to_client))
        except ExceptionGroup as group:
            # The gate knows what to do with the error itself, not with a group of one.
            raise group.exceptions[0] from None


async def _pass_on(source: DataSocket, sink: DataSocket, allowance: Allowance) -> None:
    """Relay one direction, a slice at a time, to its end."""
    clock = asyncio.get_running_loop()
    while len(window := await source.receive()):
        for offset in range(0, len(window), allowance.slice_size):
            part = window.window(offset, min(allowance.slice_size, len(window) - offset))
            wait_s = allowance.book(len(part), clock.time())
            if wait_s:
                await asyncio.sleep(wait_s)
            await sink.send(part)
    sink.shutdown()
