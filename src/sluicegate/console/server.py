"""The server of a console: the application on a listening socket, until it is told to end.

``app.processes.console`` runs it. The invariant: it ends within a few seconds,
whoever is connected.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Generator
from typing import Final, TypeAlias

import anyio
import uvicorn
from typing_extensions import override

from sluicegate.address import SocketAddress
from sluicegate.clock import Clock
from sluicegate.console_limits import CONSOLE_CLIENTS_MAX, CONSOLE_KEEP_ALIVE_S

from .application import make_application
from .console import Console
from .link import ConsoleSettings, GateLink

__all__ = ["ConsoleServer"]

_Socket: TypeAlias = socket.socket  # noqa: TID251 - it carries pages, not traffic
_BACKLOG: Final = 128
_END_S: Final = 2


class _Server(uvicorn.Server):
    """Leaves signals to the process that it is part of."""

    @contextlib.contextmanager
    @override
    def capture_signals(self) -> Generator[None]:
        yield


class ConsoleServer:
    """One console, serving."""

    def __init__(
        self, settings: ConsoleSettings, listening: _Socket, link: GateLink, clock: Clock
    ) -> None:
        """Prepare it.

        Args:
            settings: What the operator wants.
            listening: Where browsers come to; owned from now on.
            link: To the gate.
            clock: For sessions, limits and pages.

        Raises:
            OSError: The certificate or its key cannot be read.
            ssl.SSLError: They do not belong together.
        """
        host, port = listening.getsockname()[:2]
        self._listening = listening
        self.console = Console(settings, SocketAddress(host, port), link, clock)
        configuration = uvicorn.Config(
            make_application(self.console),
            http="httptools",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            backlog=_BACKLOG,
            limit_concurrency=CONSOLE_CLIENTS_MAX,
            timeout_keep_alive=CONSOLE_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_END_S,
            ssl_certfile=settings.certificate or None,
            ssl_keyfile=settings.key or None,
        )
        configuration.load()
        self._server = _Server(configuration)

    @property
    def origin(self) -> str:
        """What people open."""
        return self.console.origins.own

    def make_first_link(self) -> str:
        """Return a link that lets the first one in; empty: there are users."""
        if len(self.console.accounts.users) or self.console.accounts.faults:
            return ""
        return self.console.first_link.make(self.origin)

    async def load_all(self) -> None:
        """Load what the libraries load when they are first used.

        On disk may be another version of them by then.
        """
        self.console.environment.get_template("login.html")
        async with anyio.create_task_group():
            pass

    async def serve(self) -> None:
        """Serve until ``end``."""
        try:
            await self._server.serve(sockets=[self._listening])
        finally:
            self.console.close()

    def end(self) -> None:
        """End soon."""
        self._server.should_exit = True
