"""Learning as operators see it: which entries let pass what no rule speaks of, and until when.

``Gate`` and ``Supervisor`` show it in their status, and have a ``LearnLog`` each that records it.
The invariant: no entry that is in effect is left out, so learning is never on without being seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal, TypeAlias

from sluicegate.audit import LearnRecord
from sluicegate.clock import Clock
from sluicegate.gate.views import LearnView
from sluicegate.policy import LearnEntry, PolicySnapshot
from sluicegate.policy_limits import CLOCK_LOOKED_AT_S

__all__ = ["LearnLog", "learn_views"]

_Event: TypeAlias = Literal["began", "goes-on", "ended"]


def learn_views(
    snapshot: PolicySnapshot, now: float, learned: Mapping[str, int]
) -> list[LearnView]:
    """Return what is learned at an instant.

    Args:
        snapshot: The policy in force.
        now: In seconds since the epoch.
        learned: Connections that passed, by the name of their rule.
    """
    return [
        LearnView(
            name=one.name,
            clients=[str(it) for it in one.clients],
            until=one.until,
            connections=learned.get(one.rule.name, 0),
        )
        for one in _running(snapshot, now)
    ]


class LearnLog:
    """Records when learning begins, what a reload makes of it, and when it is over."""

    def __init__(
        self,
        clock: Clock,
        write: Callable[[LearnRecord], object],
        count: Callable[[], Awaitable[Mapping[str, int]]],
    ) -> None:
        """Begin with nothing that is learned.

        Args:
            clock: Tells when it is over.
            write: Takes records.
            count: Says how many connections passed since the start, by the name of their rule.
        """
        self._clock = clock
        self._write = write
        self._count = count
        self._policy: PolicySnapshot | None = None
        self._known: dict[str, LearnEntry] = {}
        #: In effect, by name.
        self._before: dict[str, int] = {}
        #: By rule: what had passed when it ended, which the next of that name has no part in.
        self._timer: asyncio.TimerHandle | None = None
        self._look: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()

    async def follow(self, policy: PolicySnapshot) -> None:
        """Take that a policy is in force."""
        async with self._turn:
            self._policy = policy
            await self._compare(is_reload=bool(self._known))

    async def close(self) -> None:
        """Look no more; entries that are in effect are not over by that."""
        self._stop_timer()
        if self._look is not None:
            self._look.cancel()
            await asyncio.gather(self._look, return_exceptions=True)

    async def _compare(self, *, is_reload: bool) -> None:
        """Record what is different now."""
        policy, now, known = self._policy, self._clock.wall(), self._known
        assert policy is not None, "it follows one"
        running = {one.name: one for one in _running(policy, now)}
        over = [one for name, one in known.items() if name not in running]
        counted: Mapping[str, int] = {}
        if over or (known and is_reload):
            counted = await self._count()
        self._known = running
        for one in over:
            self._note(one, "ended", policy, counted)
            self._before[one.rule.name] = counted.get(one.rule.name, 0)
        for name, one in running.items():
            if name not in known:
                self._note(one, "began", policy, {})
            elif is_reload:
                self._note(one, "goes-on", policy, counted)
        self._set_timer(now)

    def _note(
        self, one: LearnEntry, event: _Event, policy: PolicySnapshot, counted: Mapping[str, int]
    ) -> None:
        name = one.rule.name
        self._write(
            LearnRecord(
                time=self._clock.wall(),
                entry=one.name,
                event=event,
                clients=tuple(str(it) for it in one.clients),
                until=one.until,
                policy=policy.hash,
                listeners=one.listeners or (),
                # (A worker that was replaced has taken its count along.)
                connections=max(0, counted.get(name, 0) - self._before.get(name, 0)),
            )
        )

    def _set_timer(self, now: float) -> None:
        self._stop_timer()
        if self._known:
            # Not one timer for all of it: the machine's clock may be set meanwhile.
            until = min(one.until for one in self._known.values())
            delay_s = min(max(0.0, until - now), CLOCK_LOOKED_AT_S)
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._on_timer)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        self._look = asyncio.get_running_loop().create_task(self._look_again())

    async def _look_again(self) -> None:
        async with self._turn:
            await self._compare(is_reload=False)


def _running(snapshot: PolicySnapshot, now: float) -> list[LearnEntry]:
    return [one for one in snapshot.policy.learn if now < one.until]
