"""What a store has of a record beside its line: the columns that questions look at.

Both kinds of partitions fill theirs from here. The invariant: a column says of a record what
``search.matching`` says of it.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Final, NamedTuple

from sluicegate.audit.search.matching import address_key
from sluicegate.audit.search.sql import COLUMNS
from sluicegate.log_limits import STORE_KEYS_KNOWN_MAX

from .entry import Entry
from .terms import client_terms

__all__ = ["KEYS", "Address", "Addresses", "texts_of"]

KEYS: Final = ("client", "server", "peer")
"""Fields whose addresses have a column of their own, ``client_key`` and so on."""

texts_of: Final[Callable[[Entry], tuple[str, ...]]] = attrgetter(*COLUMNS)
"""Returns the texts of ``COLUMNS``; empty where a record has none."""


class Address(NamedTuple):
    """What is made of one written address, with a port or without."""

    key: bytes | None
    """It can be compared; None: this is no address."""
    host: str
    """As it is written, without port and brackets."""
    terms: str
    """What finds it as a client in the index of words."""


class Addresses:
    """Addresses as they are written, each looked at once."""

    def __init__(self) -> None:
        self._known: dict[str, Address] = {"": _NONE}

    def of(self, written: str) -> Address:
        """Return what is made of an address."""
        host = written.rpartition(":")[0]
        return self._known.get(host or written) or self._look_at(host, written)

    def _look_at(self, host: str, written: str) -> Address:
        # One of IPv6 without a port has colons, too, and ends with another.
        has_port = bool(host) and (":" not in host or host.endswith("]"))
        name = host if has_port else written
        known = None if name.endswith("]") else self._known.get(name)
        if known is None:
            if len(self._known) >= STORE_KEYS_KNOWN_MAX:
                self._known = {"": _NONE}
            key = address_key(written)
            known = Address(key, name.strip("[]"), client_terms(key) if key else "")
            if has_port or not name.endswith("]"):
                self._known[name] = known
        return known


_NONE: Final = Address(None, "", "")
