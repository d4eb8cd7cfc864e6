"""StorePost: the place that the store's keeper fills, in the supervisor.

The invariant: nobody waits for the keeper but the end of the gate, and that not for long; what it
has not stored is in the log, and the next one stores it.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar, Protocol

from typing_extensions import override

from sluicegate.app.config import Configuration
from sluicegate.app.log_config import StoreSettings, known_place
from sluicegate.log_limits import LOG_ROTATION_LOOK_S
from sluicegate.process_limits import WORKER_START_TIMEOUT_S

from .child import Child
from .child_post import Begin, ChildPost, Upkeep
from .forward_post import ForwardPost
from .log_rotation import LogRotation
from .orders import AnyMessage, BeginStore, StoreAt, Stored

__all__ = ["LogKeeper", "StorePost"]

_BEHIND_BYTES = 64 << 20
"""So much of the log not being stored is worth a warning: some hundred thousand records."""


class LogKeeper(Protocol):
    """Who has the log's file open."""

    def reopen(self) -> None:
        """Open the log's path again, after a rotation."""
        ...

    def hold(self, cause: str) -> None:
        """Have nothing written, as if the file could not be; for no cause, go on."""
        ...


class StorePost(ChildPost):
    """The store's keeper of one gate, and its replacements."""

    end_s: ClassVar[float] = WORKER_START_TIMEOUT_S
    """It stores what is in the log."""

    def __init__(
        self,
        configuration: Configuration,
        upkeep: Upkeep,
        audit: LogKeeper,
    ) -> None:
        """Have none yet.

        Args:
            configuration: Says where the log is, and the store; without one nothing is started.
            upkeep: What every place needs.
            audit: Has the log's files, which are rotated here as they are stored.
        """
        super().__init__("store_keeper", "store keeper", upkeep)
        self.settings: StoreSettings | None = configuration.store
        self.stored = Stored(last=0, bytes_behind=0)
        #: What the keeper said last.
        self._log = log = configuration.log_path
        self._rotation: LogRotation | None = None
        if self.settings is not None:
            self._rotation = LogRotation(
                log,
                self.settings,
                upkeep.clock,
                upkeep.say,
                reopen=audit.reopen,
                hold=audit.hold,
            )
        self.forward = ForwardPost(configuration, upkeep)
        #: Who sends records on, and follows the log as the keeper does.
        self._turning: asyncio.TimerHandle | None = None

    @override
    def warnings(self) -> list[str]:
        """Return what an operator should know."""
        found = [*self.forward.warnings(), *super().warnings()]
        if self.settings is None:
            return found
        if self.stored.failure:
            found.append(f"records are not stored, and wait in the log: {self.stored.failure}")
        elif self.stored.bytes_behind > _BEHIND_BYTES:
            found.append(f"the store is {self.stored.bytes_behind >> 20} MiB behind the log")
        return found

    @override
    def start(self) -> None:
        """Start the keeper, if there is a store, and who sends records on."""
        self.forward.start()
        super().start()
        self._turn()

    def renew_password(self) -> None:
        """Read again where the password of the store's server is, and tell the keeper."""
        settings = self.settings
        if settings is not None and settings.password is not None and self._child is not None:
            self._child.send(StoreAt(place=known_place(settings)))

    def _turn(self) -> None:
        """Rotate the log when that is due, now and from now on."""
        if self._rotation is not None:
            self._rotation.turn(self.stored)
            loop = asyncio.get_running_loop()
            self._turning = loop.call_later(LOG_ROTATION_LOOK_S, self._turn)

    @override
    async def close(self) -> None:
        """Let the keeper store what is in the log, and end; the log's writer has ended before."""
        self._is_closing = True
        if self._turning is not None:
            self._turning.cancel()
        await self.forward.close()
        await super().close()

    @override
    def _begin(self) -> Begin | None:
        settings = self.settings
        if settings is None:
            return None
        begin = BeginStore(
            log=str(self._log),
            place=known_place(settings),
            keep_days=settings.keep_days,
            keep_bytes=settings.keep_bytes,
        )
        return begin, []

    @override
    def _on_said(self, child: Child, message: AnyMessage) -> None:
        if isinstance(message, Stored):
            self.stored = message
        else:
            super()._on_said(child, message)
