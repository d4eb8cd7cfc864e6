"""What a rule's filters see of the web and hold of objects, and what clients get meanwhile, shown.

``explanation`` makes it part of an answer. The invariant: what is shown is read from the filters
and settings that a gate with these files would run, made as it makes them.
"""

from __future__ import annotations

import msgspec

from sluicegate.app.filters import InstalledFilters
from sluicegate.filterapi import ContentFilter, Direction, Need, WebFilter
from sluicegate.gate.rule_settings import web_filter_of
from sluicegate.gate.settings import PerRule
from sluicegate.policy import AnyRule
from sluicegate.policy.delivery import DEFAULT_DELIVERY

__all__ = ["DeliveryView", "HoldingView", "holding_of", "seen_by"]


class DeliveryView(msgspec.Struct, kw_only=True):
    """What receivers of some objects get before the verdict."""

    method: str
    """``hold``, ``trickle``, ``fast-trickle`` or ``progress-page``."""
    after_s: float
    """For so long nothing is sent."""
    content_types: list[str] = []
    """Of which objects; none: all others."""


class HoldingView(msgspec.Struct, kw_only=True):
    """Which objects are held until their verdict, and how their receivers wait."""

    uploads: list[str] = []
    """Names of the filters that judge objects on their way to a server."""
    downloads: list[str] = []
    """Of those that judge objects on their way to a client."""
    content_types: dict[str, tuple[str, ...]] = {}
    """By filter, which it asks for; absent: all."""
    delivery: list[DeliveryView] = []
    """Of downloads by HTTP: the first that fits counts."""
    unknown_codings: str = "refuse"
    """What becomes of a body whose content coding nobody here can read: ``refuse`` or ``judge``."""


def holding_of(filters: InstalledFilters, rule: AnyRule) -> HoldingView | None:
    """Return what a rule holds; None: nothing."""
    view = HoldingView(unknown_codings="judge" if rule.held.holds_unknown_codings else "refuse")
    for name in rule.filters:
        made = filters.made(name)
        judge = None if made is None else made.installation.filter_object
        if not isinstance(judge, ContentFilter):
            continue
        wants = judge.wants
        if wants.content_types:
            view.content_types[name] = tuple(wants.content_types)
        if Direction.UPLOAD in wants.directions:
            view.uploads.append(name)
        if Direction.DOWNLOAD in wants.directions:
            view.downloads.append(name)
    if not (view.uploads or view.downloads):
        return None
    if view.downloads:
        for choice in (*rule.held.delivery, DEFAULT_DELIVERY):
            types = [] if choice.content_types is None else choice.content_types.texts()
            view.delivery.append(
                DeliveryView(
                    method=choice.method.value, after_s=choice.after_s, content_types=types
                )
            )
            if not types:
                break
    return view


def seen_by(filters: InstalledFilters, rule: AnyRule, name: str) -> dict[str, str]:
    """Return how much of requests and responses a web filter sees; nothing for other kinds."""
    made = filters.made(name)
    installed = None if made is None else made.installation.filter_object
    if not isinstance(installed, WebFilter | PerRule):
        return {}
    needs = web_filter_of(installed, rule.settings.get(name, {})).needs
    return {"request": _WORDS[needs.request], "response": _WORDS[needs.response]}


_WORDS = {Need.HEADERS: "headers", Need.STREAM: "stream", Need.OBJECT: "object"}
