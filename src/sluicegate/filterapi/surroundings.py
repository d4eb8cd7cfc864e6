"""What changes around a filter: the machine's network, its resources, the policy.

``Firewall.network`` and ``Firewall.recovery`` are these; ``Filter.on_policy_changed`` is told of
the policy. The invariant: whoever subscribed is told on the port's thread, and one that fails is
recorded and costs the others nothing.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from sluicegate.address import IpAddress

__all__ = [
    "NetworkChange",
    "NetworkInterface",
    "NetworkWatch",
    "PolicyChanged",
    "Recoverer",
    "ResourceRecovery",
    "Shortage",
    "Subscription",
]


@dataclass(frozen=True, slots=True)
class NetworkInterface:
    """One interface of the machine, at one moment."""

    index: int
    """The kernel's number of it."""
    name: str
    is_up: bool
    addresses: frozenset[IpAddress] = field(default_factory=frozenset[IpAddress])


@dataclass(frozen=True, slots=True)
class NetworkChange:
    """What is different, and what is there now."""

    added: frozenset[IpAddress]
    removed: frozenset[IpAddress]
    interfaces: tuple[NetworkInterface, ...]
    """All of them, as they are now, in the order of their numbers."""


class Subscription(Protocol):
    """Asks to be told, until it is cancelled."""

    def cancel(self) -> None:
        """Be told no more; harmless afterwards."""
        ...


class NetworkWatch(Protocol):
    """The machine's interfaces and addresses, as they change."""

    @property
    def interfaces(self) -> tuple[NetworkInterface, ...]:
        """Every interface, in the order of their numbers."""
        ...

    @property
    def addresses(self) -> frozenset[IpAddress]:
        """Every address of the machine."""
        ...

    def subscribe(self, told: Callable[[NetworkChange], None]) -> Subscription:
        """Be told of each change of interfaces or addresses."""
        ...


class Shortage(enum.StrEnum):
    """What runs short."""

    MEMORY = "memory"
    DESCRIPTORS = "descriptors"
    SPOOL = "spool"
    SIGNALLED = "signalled"
    """What a filter itself said that it lacks."""


class Recoverer(Protocol):
    """Registered for recovery, until it is cancelled."""

    def signal(self) -> None:
        """Say that something failed for want of resources; ``recover`` is called until it works."""
        ...

    def cancel(self) -> None:
        """Be asked no more; harmless afterwards."""
        ...


class ResourceRecovery(Protocol):
    """Asks filters to give back what they can do without, while a resource runs short."""

    def register(self, recover: Callable[[Shortage], bool]) -> Recoverer:
        """Be asked while memory, descriptors or the spool run short.

        Args:
            recover: Gives back what it can (empties caches, say), and tells whether it did all
                that it can, so that it is not asked again for this shortage.
        """
        ...


@dataclass(frozen=True, slots=True)
class PolicyChanged:
    """A policy was put in force in the place of another one; told by ``Filter.on_policy_changed``.

    Connections that are open keep the rules that they came by.
    """

    before: str
    """SHA-256 of the policy that was in force."""
    after: str
    """SHA-256 of the one that is."""
    rules: tuple[str, ...]
    """The rules that name the filter now."""
