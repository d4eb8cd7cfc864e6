"""Filters under a playbook's eyes: what they decided, and what they raised, with its traceback.

``playbook_gate`` installs what an author gives it through ``installation_of``. The invariant: a
watched filter behaves as the bare one, and no exception of it is lost.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import TypeAlias, cast

from typing_extensions import override

from sluicegate.filterapi import (
    AnyDataFilter,
    CallbackDataFilter,
    ConnectRequested,
    ContentFilter,
    ContentVerdict,
    DataFilter,
    DatagramFilter,
    Event,
    Events,
    EventVerdict,
    Filter,
    Firewall,
    Pass,
    Session,
    SessionFilter,
    StreamFilter,
    Transfer,
    TransferOffer,
    WebFilter,
)
from sluicegate.gate.settings import Installation, OnFailure, PerConnection, PerRule

__all__ = [
    "AnyFilter",
    "FilterLike",
    "Filters",
    "ObjectHolder",
    "Sighting",
    "Sightings",
    "check_factory",
    "installation_of",
    "several",
]

AnyFilter: TypeAlias = (
    Filter
    | ContentFilter
    | WebFilter
    | DataFilter
    | CallbackDataFilter
    | StreamFilter
    | DatagramFilter
)

FilterLike: TypeAlias = AnyFilter | Callable[[], AnyFilter]
"""A filter, its class, or whatever makes one."""

Filters: TypeAlias = FilterLike | list[FilterLike] | tuple[FilterLike, ...]
"""One filter, or several in their order."""


@dataclasses.dataclass(slots=True)
class Sighting:
    """One object that a content filter was asked about."""

    transfer: Transfer
    filter_name: str
    verdict: ContentVerdict | None = None
    """What it answered; None before, and when it raised."""
    delivered_early: int = 0
    """Bytes that had reached the receiver before the verdict: must be 0."""


class Sightings:
    """What the watched filters of one playbook did."""

    def __init__(self, delivered: Callable[[Transfer], int]) -> None:
        self.objects: list[Sighting] = []
        self.errors: list[BaseException] = []
        self.delivered = delivered
        #: How much of an object its receiver has now.


class _WatchedContentFilter(ContentFilter):
    """A content filter, and somebody who looks over its shoulder."""

    def __init__(self, inner: ContentFilter, sightings: Sightings) -> None:
        self.wants = inner.wants  # type: ignore[misc]  # read through the instance by the gate
        self._inner = inner
        self._sightings = sightings

    @override
    async def inspect(self, transfer: Transfer) -> ContentVerdict:
        name = type(self._inner).name or type(self._inner).__name__
        sighting = Sighting(transfer, name)
        self._sightings.objects.append(sighting)
        try:
            answer = self._inner.inspect(transfer)
            if not inspect.isawaitable(answer):
                raise TypeError(f"inspect is not a coroutine: it returned {answer!r}")
            sighting.verdict = await answer
        except Exception as error:
            self._sightings.errors.append(error)
            raise
        finally:
            sighting.delivered_early = self._sightings.delivered(transfer)
        return sighting.verdict


class ObjectHolder(Filter):
    """Has each connection held as one object: what a protocol filter does, without a protocol."""

    name = "object-holder"

    def __init__(self, offer: TransferOffer) -> None:
        self.offer = offer

    @override
    def start(self, firewall: Firewall) -> Events:
        return Events.of(ConnectRequested)

    @override
    def attach(self, session: Session) -> SessionFilter | None:
        return _HoldingSession(session, self.offer)


class _HoldingSession(SessionFilter):
    def __init__(self, session: Session, offer: TransferOffer) -> None:
        super().__init__(session)
        self._offer = offer

    @override
    def on_event(self, event: Event) -> EventVerdict:
        held = self.session.hold_transfer(event.connection, self._offer)
        event.attach_data_filter(held.factory(event.connection))
        return Pass()


def several(filters: Filters) -> tuple[FilterLike, ...]:
    """Return one filter, or several in their order, as several."""
    if isinstance(filters, list | tuple):
        return tuple(cast("list[FilterLike]", filters))
    return (filters,)


def installation_of(given: FilterLike, sightings: Sightings, number: int) -> Installation:
    """Return the installation of what an author gave: an instance, a class or a factory.

    Raises:
        TypeError: It is no filter and makes none.
    """
    declared = getattr(given, "RuleSettings", None)
    if isinstance(given, type) and isinstance(declared, type) and issubclass(given, AnyDataFilter):
        # As the gate makes it: with the rule's settings.
        make_one = cast("Callable[..., AnyDataFilter]", given)
        name = given.name or f"{given.__name__}-{number}"
        return Installation(name, PerConnection(make_one, declared), OnFailure.DENY, "test")
    if isinstance(given, type) and isinstance(declared, type) and issubclass(given, WebFilter):
        make_web = cast("Callable[..., WebFilter]", given)
        name = given.name or f"{given.__name__}-{number}"
        return Installation(name, PerRule(make_web, declared), OnFailure.DENY, "test")
    first = _first_of(given)
    if not isinstance(first, AnyFilter):
        raise TypeError(f"{given!r} makes {first!r}, which is no filter")
    name = type(first).name or f"{type(first).__name__}-{number}"
    if isinstance(first, ContentFilter):
        return Installation(name, _WatchedContentFilter(first, sightings), OnFailure.DENY, "test")
    if isinstance(first, Filter | WebFilter):
        return Installation(name, first, OnFailure.DENY, "test")
    make = _once(first) if first is given else cast("Callable[[], AnyDataFilter]", given)
    return Installation(name, PerConnection(make), OnFailure.DENY, "test")


def check_factory(make: Callable[[], object], kinds: tuple[type, ...]) -> None:
    """Raise ``TypeError`` unless ``make`` makes filters of these kinds (for the batteries)."""
    wanted = " or ".join(kind.__name__ for kind in kinds)
    if isinstance(make, kinds):
        raise TypeError("give the class, or a factory: every check needs an instance of its own")
    made = _first_of(make)
    if not isinstance(made, kinds):
        raise TypeError(f"{make!r} makes {made!r}, which is no {wanted}")


def _first_of(given: AnyFilter | Callable[[], object]) -> object:
    if isinstance(given, AnyFilter):
        return given
    if not callable(given):
        raise TypeError(f"{given!r} is no filter, no filter class and no factory of one")
    return given()


def _once(data_filter: AnyDataFilter) -> Callable[[], AnyDataFilter]:
    """Return a factory of the one instance that the author gave."""
    is_used = False

    def make() -> AnyDataFilter:
        nonlocal is_used
        if is_used:
            raise RuntimeError(
                f"an instance of {type(data_filter).__name__} serves one connection: "
                "give the playbook the class, or a factory, to connect more than once"
            )
        is_used = True
        return data_filter

    return make
