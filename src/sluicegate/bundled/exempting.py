"""Exemptions: whose objects a content filter does not look at, because an operator said so.

``exe_block`` and ``file_types`` have these settings. The invariant: only what an operator wrote
exempts, and a path that leaves its folder exempts nothing.
"""

from __future__ import annotations

import fnmatch
import re

from pydantic import Field

from sluicegate.filterapi import Transfer

from .settings import FilterSettings, Network, is_among

__all__ = ["ExemptingSettings"]


class ExemptingSettings(FilterSettings):
    """Settings of a filter that makes exceptions."""

    exempt_clients: tuple[Network, ...] = Field(default=(), examples=[["10.1.2.0/24"]])
    """Clients whose objects are not looked at."""
    exempt_users: tuple[str, ...] = Field(default=(), examples=[["release-bot"]])
    """User names, as the protocol gave them, whose objects are not looked at: names are claims
    unless the server checked a password."""
    exempt_names: tuple[str, ...] = Field(default=(), examples=[["*/drivers/*.exe"]])
    """Patterns (``*``, ``?``, ``[…]``) for the names of objects that are not looked at, as the
    client gave them; one with ``..`` in it is none. Whoever stores an object chooses its name."""

    def exempts(self, transfer: Transfer) -> bool:
        """Tell whether an object is not looked at."""
        offer = transfer.offer
        return (
            is_among(transfer.connection.client_address, self.exempt_clients)
            or (bool(offer.user) and offer.user in self.exempt_users)
            or self._exempts_name(offer.name)
        )

    def _exempts_name(self, name: str) -> bool:
        # ``drivers/../incoming/x.exe`` names ``drivers`` and means another folder.
        if ".." in re.split(r"[/\\]", name):
            return False
        return any(fnmatch.fnmatchcase(name, one) for one in self.exempt_names)
