"""Filters for tests of the whole model: told of events, answering as a function says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sluicegate.filterapi import (
    CallbackDataFilter,
    Connection,
    ConnectRequested,
    DataFilter,
    DataSocket,
    Event,
    Events,
    Filter,
    Pass,
    SessionFilter,
)


class Telling(Filter):
    """Answers events as ``answer(event)`` says, and notes them all."""

    def __init__(
        self,
        answer: Callable[[Any], Any] = lambda event: Pass(),
        events: Events | None = None,
        narrowed: Callable[[Any], Events | None] = lambda session: None,
    ) -> None:
        self.answer = answer
        self.events = events or Events.of(ConnectRequested)
        self.narrowed = narrowed
        self.firewall: Any = None
        self.seen: list[Any] = []
        self.sessions: list[TellingSession] = []

    def start(self, firewall: Any) -> Events:
        self.firewall = firewall
        return self.events

    def attach(self, session: Any) -> SessionFilter | None:
        self.sessions.append(TellingSession(self, session))
        return self.sessions[-1]

    def names(self) -> list[str]:
        """What it was told of, in order."""
        return [type(event).__name__ for event in self.seen]

    def of(self, kind: type[Event]) -> list[Any]:
        """The events of one type, in order."""
        return [event for event in self.seen if type(event) is kind]


class TellingSession(SessionFilter):
    def __init__(self, parent: Telling, session: Any) -> None:
        super().__init__(session, parent.narrowed(session))
        self.parent = parent
        self.detached = 0

    def on_event(self, event: Event) -> Any:
        self.parent.seen.append(event)
        return self.parent.answer(event)

    def detach(self) -> None:
        self.detached += 1


class Playing(DataFilter):
    """Plays a server as a coroutine function says."""

    name = "playing"

    def __init__(self, play: Callable[[DataSocket, Connection], Any]) -> None:
        self.play = play
        self.detached = 0

    async def run(
        self, client: DataSocket, server: DataSocket | None, connection: Connection
    ) -> None:
        assert server is None
        await self.play(client, connection)

    def detach(self) -> None:
        self.detached += 1


class PlayingEcho(CallbackDataFilter):
    """Plays an echo server by callbacks."""

    name = "playing-echo"

    def __init__(self) -> None:
        self.detached = 0
        self.context: Any = None
        self.failures: list[int] = []

    def set_sockets(
        self, client: DataSocket, server: DataSocket | None, connection: Connection, context: Any
    ) -> None:
        assert server is None
        self.client, self.connection, self.context = client, connection, context
        client.start_receive(None, self, "received")

    def complete_socket_io(
        self, success: bool, error: int, buffer: Any, user_data: Any, address: Any
    ) -> None:
        if not success:
            self.failures.append(error)
        elif user_data == "sent":
            self.client.start_receive(None, self, "received")
        elif len(buffer):
            self.client.start_send(buffer, self, "sent")
        else:
            self.connection.leave(self)

    def detach(self) -> None:
        self.detached += 1


async def echo(client: DataSocket, connection: Connection) -> None:
    """Send back what comes, and leave at the end."""
    while len(window := await client.receive()):
        await client.send(window)
