"""Delivery of held objects: what their receiver gets while they are held, by rule and type.

Rules have a ``HeldSettings``; the web proxy asks it for each response that it holds. The invariant:
no method lets a byte of an object out before its verdict but ``FAST_TRICKLE``, which an operator
has to write for named types.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from .content_types import ContentTypes

__all__ = [
    "DEFAULT_DELIVERY",
    "NO_HELD_SETTINGS",
    "DeliveryChoice",
    "DeliveryMethod",
    "HeldSettings",
]


class DeliveryMethod(enum.StrEnum):
    """What the receiver of a held object gets before the verdict."""

    HOLD = "hold"
    """Nothing."""
    TRICKLE = "trickle"
    """Now and then one byte of the head of the answer; nothing of the object."""
    FAST_TRICKLE = "fast-trickle"
    """Audio and video but their last part, as they come."""
    PROGRESS_PAGE = "progress-page"
    """Browsers, where a page is asked for, a page that shows how far it is; others a trickle."""


@dataclass(frozen=True, slots=True)
class DeliveryChoice:
    """How objects of some types are delivered."""

    method: DeliveryMethod = DeliveryMethod.TRICKLE
    content_types: ContentTypes | None = None
    """None: all."""
    after_s: float = 10.0
    """For so long nothing is sent: most objects are judged by then."""

    def canonical(self) -> list[object]:
        """Return it for the hash of a policy."""
        types = None if self.content_types is None else self.content_types.texts()
        return [self.method.value, types, self.after_s]


DEFAULT_DELIVERY: Final = DeliveryChoice()


@dataclass(frozen=True, slots=True)
class HeldSettings:
    """What one rule says of objects that are held."""

    delivery: tuple[DeliveryChoice, ...] = ()
    """The first that fits counts."""
    holds_unknown_codings: bool = False
    """Whether a body in a coding that the gate cannot read is judged as it is, not refused."""

    def delivery_of(self, mime_type: str, extension: str) -> DeliveryChoice:
        """Return how an object is delivered.

        Args:
            mime_type: Lower case, without parameters; empty when it has none.
            extension: Lower case, with its dot.
        """
        for choice in self.delivery:
            if choice.content_types is None or choice.content_types.covers(mime_type, extension):
                return choice
        return DEFAULT_DELIVERY

    def canonical(self) -> list[object]:
        """Return it for the hash of a policy."""
        return [[one.canonical() for one in self.delivery], self.holds_unknown_codings]


NO_HELD_SETTINGS: Final = HeldSettings()
