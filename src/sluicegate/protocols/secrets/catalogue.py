"""The kinds of secrets that can be looked for, by name.

Settings choose among them. The invariant: a name keeps its meaning; what a kind finds may only grow
more exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from .accounts import ACCOUNT_KINDS
from .cards import CARD
from .keys import KEY_KINDS
from .kind import Kind
from .tokens import TOKEN_KINDS

__all__ = ["KINDS"]

KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {one.name: one for one in (CARD, *KEY_KINDS, *TOKEN_KINDS, *ACCOUNT_KINDS)}
)
