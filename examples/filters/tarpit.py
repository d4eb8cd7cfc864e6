"""Keeps unwelcome clients waiting: they get a useless answer, one byte at a time.

A `ConnectionFilter` has a `DataFilter` emulate the server of unwelcome clients, and of no others.
The invariant: a client in the pit costs one descriptor and one timer. It never reaches the server,
its bytes are not read, at most `held_max` are held at once and none longer than `hold_s`.
"""

import asyncio
import ipaddress

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import override

from sluicegate.filterapi import (
    Connection,
    ConnectionFilter,
    DataFilter,
    DataSocket,
    Deny,
    Emulate,
)


class TarpitSettings(BaseModel):
    """`[filter.settings]`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    unwelcome: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]
    """Networks of the clients to keep waiting."""
    answer: str = Field(default="220-one moment, please\r\n", min_length=1, max_length=1000)
    """What they are told, again and again. Lines that begin with `220-` are the beginning of a
    greeting to clients of SMTP and FTP, and what may stand before it (RFC 4253) to those of SSH."""
    byte_interval_s: float = Field(default=5.0, ge=0.1, le=60)
    """How long each byte of it takes."""
    hold_s: float = Field(default=300.0, gt=0, le=3600)
    """How long a client is kept."""
    held_max: int = Field(default=200, ge=1, le=10_000)
    """How many are kept at once; further ones are refused at once."""


class Tarpit(ConnectionFilter[TarpitSettings]):
    """Installed once; knows how many clients are held."""

    name = "tarpit"
    Settings = TarpitSettings

    def __init__(self, settings: TarpitSettings) -> None:
        super().__init__(settings)
        self.held = 0
        #: Connections in the pit now.

    @override
    def make(self, connection: Connection, settings: TarpitSettings) -> Emulate | Deny | None:
        address = connection.client_address.ip
        if not any(address in network for network in settings.unwelcome):
            return None
        if self.held >= settings.held_max:
            return Deny("tarpit: full")
        return Emulate(_Stuck(self))


class _Stuck(DataFilter):
    """One connection in the pit; no server knows of it."""

    name = "tarpit"

    def __init__(self, pit: Tarpit) -> None:
        self._pit = pit

    @override
    async def run(
        self, client: DataSocket, server: DataSocket | None, connection: Connection
    ) -> None:
        settings = self._pit.settings
        answer = settings.answer.encode()
        self._pit.held += 1
        try:
            for number in range(int(settings.hold_s / settings.byte_interval_s)):
                await asyncio.sleep(settings.byte_interval_s)
                place = number % len(answer)
                await client.send(answer[place : place + 1])
        finally:
            self._pit.held -= 1
        connection.refuse(f"tarpit: held for {settings.hold_s:g} s")
