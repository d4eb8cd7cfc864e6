"""Entry: one thing that can be asked of the console.

The invariant: it says who may ask before anything of it runs; what says nothing needs a viewer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from starlette.responses import Response

from .asked import Asked
from .roles import Role

__all__ = ["Entry", "Method", "Page"]

Method: TypeAlias = Literal["GET", "POST", "PUT", "DELETE"]
Page: TypeAlias = Callable[[Asked], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Entry:
    """A path and a method, the role that they need, and who answers."""

    path: str
    page: Page
    role: Role | None = Role.VIEWER
    """None: whoever comes."""
    method: Method = "GET"
    needs_password: bool = False
    """Whether the password must have been given lately; also of what leads to it."""
    is_live: bool = False
    """Whether pages ask it by themselves, which keeps no session alive."""
    is_api: bool = False
    """Whether programs ask it: with a token, and told in JSON what is wrong."""
