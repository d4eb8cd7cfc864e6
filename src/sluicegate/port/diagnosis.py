"""Which driver the port gets here, why, what is lost by it, and what would cure that.

``choose_backend`` is called once by whoever makes a port; ``diagnose`` by the start-up message,
``sluicegate status`` and the metrics. The invariant: a driver that was asked for by name is never
replaced by another; only ``auto`` falls back, and then the diagnosis says so.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final, Literal

from typing_extensions import override

from sluicegate.errors import ConfigError
from sluicegate.limits import Limits

from .backend import Backend
from .backends.epoll import EpollBackend
from .backends.uring import UringBackend
from .ring import BackendUnavailable, Ring

__all__ = [
    "BACKEND_VARIABLE",
    "BackendUnavailable",
    "Diagnosis",
    "Preference",
    "choose_backend",
    "diagnose",
]

BACKEND_VARIABLE: Final = "SLUICEGATE_BACKEND"
"""The environment variable that decides where the configuration leaves the choice open."""

Preference = Literal["auto", "io_uring", "epoll"]

_LOST: Final = (
    "a new connection costs about a sixth more CPU, and file operations go through threads"
)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found at one moment; all but ``backend`` and ``reason`` may be empty."""

    backend: str
    #: ``io_uring`` or ``epoll``.
    reason: str
    #: Why it is this one.
    lost: str = ""
    #: What the other one would give.
    cure: str = ""
    #: What an operator can do to get the other one.
    features: tuple[str, ...] = ()
    #: What is used beyond Linux 6.1.

    @override
    def __str__(self) -> str:
        """Format as one line for people."""
        text = f"{self.backend}: {self.reason}"
        if self.lost:
            text += f"; lost: {self.lost}"
        if self.cure:
            text += f"; cure: {self.cure}"
        return text


def diagnose(preference: Preference = "auto") -> Diagnosis:
    """Say which driver ``choose_backend`` would return, and why.

    Raises:
        BackendUnavailable: io_uring was asked for by name and is refused.
        ConfigError: The environment variable names no driver.
    """
    chosen = _resolve(preference)
    if chosen == "epoll":
        return Diagnosis("epoll", "asked for by name", _LOST, f"leave {_where(preference)} at auto")
    try:
        ring = Ring(1, 2)
    except BackendUnavailable as refusal:
        if chosen == "io_uring":
            raise
        return Diagnosis("epoll", refusal.reason, _LOST, refusal.cure)
    features = tuple(sorted(ring.features))
    ring.close()
    reason = "asked for by name" if chosen == "io_uring" else "the kernel allows it"
    return Diagnosis("io_uring", reason, features=features)


def choose_backend(preference: Preference, limits: Limits) -> Backend:
    """Make the driver that was asked for, or the best one that runs here.

    Raises:
        BackendUnavailable: io_uring was asked for by name and is refused.
        ConfigError: The environment variable names no driver.
    """
    chosen = _resolve(preference)
    if chosen != "epoll":
        try:
            return UringBackend(limits)
        except BackendUnavailable:
            if chosen == "io_uring":
                raise
    return EpollBackend(limits)


def _resolve(preference: Preference) -> Preference:
    """Let the environment decide where nobody else did."""
    if preference != "auto":
        return preference
    match os.environ.get(BACKEND_VARIABLE) or "auto":
        case "auto" | "io_uring" | "epoll" as named:
            return named
        case unknown:
            raise ConfigError(
                BACKEND_VARIABLE, f"{unknown!r} is no driver", "use auto, io_uring or epoll"
            )


def _where(preference: Preference) -> str:
    return BACKEND_VARIABLE if preference == "auto" else "the backend"
