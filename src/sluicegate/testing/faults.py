"""What goes wrong in a simulation, and how often.

``SimulatedBackend`` and ``SimulatedNetwork`` ask one ``Dice`` for every choice they make. The
invariant: all randomness of a simulation comes from its one seed, in the order of its events, so
the same seed and the same plan give the same run.
"""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass

from sluicegate.port.backend import Operation

__all__ = ["Dice", "FaultPlan", "report_unhandled"]


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """Probabilities (0 to 1, per occasion) and ranges; the default is a fault-free fast network."""

    latency_s: tuple[float, float] = (0.000_05, 0.000_5)
    """How long a segment, a file operation or a completion takes."""

    delay: float = 0.0
    """Something takes long, see ``delay_s``; also the disorder of unrelated completions."""

    delay_s: tuple[float, float] = (0.01, 2.0)
    """What long means."""

    socket_buffer_bytes: tuple[int, int] = (65536, 65536)
    """What one direction of a connection holds before its sender must wait."""

    cut: float = 0.0
    """What was sent in one piece arrives in several."""

    partial_send: float = 0.0
    """The kernel takes part of a send, though it has room."""

    short_receive: float = 0.0
    """A receive brings less than has arrived."""

    multishot_end: float = 0.0
    """A multishot receive ends after data, as the kernel's may."""

    late_result: float = 0.0
    """A completion is told long after its result was decided: a cancellation comes too late."""

    late_s: tuple[float, float] = (0.000_5, 0.2)
    """How long after."""

    short_read: float = 0.0
    """A file read brings less than asked."""

    short_write: float = 0.0
    """A file write takes less than given."""

    no_space: float = 0.0
    """A file write fails with ``ENOSPC``."""

    io_error: float = 0.0
    """A file operation fails with ``EIO``."""

    cancelled: float = 0.0
    """A file operation ends with ``ECANCELED`` though nobody asked."""

    connect_refused: float = 0.0
    """A connect is answered by a reset."""

    connect_timeout: float = 0.0
    """A connect is never answered; the kernel gives up after ``CONNECT_GIVE_UP_S``."""

    reset: float = 0.0
    """A segment destroys its connection."""

    accept_exhausted: float = 0.0
    """An accept fails with ``EMFILE``; the client stays in the backlog."""

    pipe_refused: float = 0.0
    """A pipe for splicing is not to be had."""

    datagram_loss: float = 0.0
    """A datagram is lost on its way."""

    datagram_duplicate: float = 0.0
    """A datagram arrives twice."""

    datagram_overtaking: float = 0.0
    """A datagram does not wait for those that were sent before it."""

    datagram_no_room: float = 0.0
    """The kernel has no room for a datagram that is sent (``EAGAIN``)."""

    @classmethod
    def disorder(cls) -> FaultPlan:
        """Everything that correct peers and disks may do: cuts, delays, partial results."""
        return cls(
            delay=0.02,
            socket_buffer_bytes=(2048, 200_000),
            cut=0.3,
            partial_send=0.2,
            short_receive=0.2,
            multishot_end=0.1,
            late_result=0.05,
            short_read=0.2,
            short_write=0.1,
            pipe_refused=0.2,
        )

    @classmethod
    def hostile(cls) -> FaultPlan:
        """Disorder, and failures of peers, disks and descriptors."""
        return cls(
            delay=0.05,
            socket_buffer_bytes=(1024, 100_000),
            cut=0.3,
            partial_send=0.3,
            short_receive=0.2,
            multishot_end=0.1,
            late_result=0.1,
            short_read=0.2,
            short_write=0.1,
            no_space=0.01,
            io_error=0.01,
            cancelled=0.01,
            connect_refused=0.03,
            connect_timeout=0.02,
            reset=0.005,
            accept_exhausted=0.05,
            pipe_refused=0.3,
            datagram_loss=0.1,
            datagram_duplicate=0.05,
            datagram_overtaking=0.3,
            datagram_no_room=0.02,
        )


class Dice:
    """The one source of chance of a simulation."""

    __slots__ = ("plan", "random")

    def __init__(self, seed: int, plan: FaultPlan) -> None:
        self.random = random.Random(seed)  # noqa: S311 - a simulation must be repeatable
        self.plan = plan

    def happens(self, probability: float) -> bool:
        """Decide whether something of this probability happens now."""
        # No draw for what cannot happen: adding a kind of fault leaves the old seeds alone.
        return probability > 0 and self.random.random() < probability

    def latency_s(self) -> float:
        """Draw how long something takes, now and then very long."""
        if self.happens(self.plan.delay):
            return self.random.uniform(*self.plan.delay_s)
        return self.random.uniform(*self.plan.latency_s)

    def part(self, probability: float, whole: int) -> int:
        """Return ``whole``, or with ``probability`` a part of it, at least 1."""
        if whole > 1 and self.happens(probability):
            return self.random.randint(1, whole - 1)
        return whole

    def buffer_bytes(self) -> int:
        """Draw the capacity of one direction of a connection."""
        low, high = self.plan.socket_buffer_bytes
        return low if low == high else self.random.randint(low, high)


def report_unhandled(_operation: Operation | None, error: BaseException) -> None:
    """Show it, until the port takes over."""
    sys.excepthook(type(error), error, error.__traceback__)
