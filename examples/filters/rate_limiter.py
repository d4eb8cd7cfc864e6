"""Limits what each client may send and receive, in bytes per second.

A `ConnectionFilter` puts one `StreamFilter` into each connection of its rules; all connections of a
client share its allowance. The invariant: nothing is dropped. What comes too fast is not read, so
that TCP itself slows the sender down, and each wait is one timer.
"""

from weakref import WeakKeyDictionary

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import override

from sluicegate.filterapi import (
    FORWARD,
    Connection,
    ConnectionFilter,
    Firewall,
    Session,
    Side,
    StreamFilter,
    StreamVerdict,
    Wait,
    Window,
)


class RateLimiterSettings(BaseModel):
    """`[filter.settings]`, and `[publish.settings.<name>]`, what one rule has otherwise."""

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


class RateLimiter(ConnectionFilter[RateLimiterSettings]):
    """Installed once; each client has two allowances for each rule's settings that it met."""

    name = "rate_limiter"
    Settings = RateLimiterSettings
    RuleSettings = RateLimiterSettings

    def __init__(self, settings: RateLimiterSettings) -> None:
        super().__init__(settings)
        self._clients: WeakKeyDictionary[
            Session, dict[RateLimiterSettings, dict[Side, Allowance]]
        ] = WeakKeyDictionary()

    @override
    def make(self, connection: Connection, settings: RateLimiterSettings) -> StreamFilter:
        allowances = self._clients.setdefault(connection.session, {})
        if settings not in allowances:
            allowances[settings] = {
                Side.CLIENT: Allowance(settings.to_server_bytes_per_s, settings.burst_s),
                Side.SERVER: Allowance(settings.to_client_bytes_per_s, settings.burst_s),
            }
        return _Limited(self.firewall, allowances[settings])


class _Limited(StreamFilter):
    """One connection."""

    name = "rate_limiter"

    def __init__(self, firewall: Firewall, allowances: dict[Side, Allowance]) -> None:
        self._port = firewall.port
        self._allowances = allowances
        self._booked = dict.fromkeys(allowances, 0)
        #: What was handed out and waited for, of the bytes that are held.

    @override
    def on_data(self, side: Side, window: Window) -> StreamVerdict:
        allowance, count = self._allowances[side], self._booked[side]
        while count < len(window):
            part = min(allowance.slice_size, len(window) - count)
            wait_s = allowance.book(part, self._port.now)
            if wait_s:
                self._booked[side] = part
                return Wait(wait_s, count)
            count += part
        self._booked[side] = 0
        return FORWARD
