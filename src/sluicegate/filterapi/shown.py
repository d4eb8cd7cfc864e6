"""What a filter's class promises to show: what policy is then asked about again.

``app`` reads it when it installs a filter, for rules with conditions that a connection does not
show. The invariant: what no filter promises is never seen, so a rule that allows by it does not
match.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

__all__ = ["Shown"]

Shown: TypeAlias = Literal["requests", "transfers"]
"""``requests``: every HTTP request is decided on; no rule relies on it before the gate does so.
``transfers``: every object is opened as a transfer, or refused."""
