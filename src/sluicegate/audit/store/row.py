"""What a store has of a record beside its line: the columns that questions look at.

Both kinds of partitions fill theirs from here. The invariant: a column says of a record what
``search.matching`` says of it.
"""

from __future__ import annotations

from typing import Final, cast

from sluicegate.audit.search.matching import address_key
from sluicegate.audit.search.sql import COLUMNS
from sluicegate.audit.search.words import host_of_record
from sluicegate.log_limits import STORE_KEYS_KNOWN_MAX

__all__ = ["KEYS", "Keys", "parent_of", "request_of", "texts_of", "time_of"]

KEYS: Final = ("client", "server", "peer")
"""Fields whose addresses have a column of their own, ``client_key`` and so on."""


class Keys:
    """Addresses as keys that can be compared, each made once."""

    def __init__(self) -> None:
        self._known: dict[str, bytes | None] = {}

    def of(self, fields: dict[str, object]) -> list[bytes | None]:
        """Return the keys of a record; None where it has no address."""
        return [self._key(fields.get(name)) for name in KEYS]

    def _key(self, written: object) -> bytes | None:
        if not isinstance(written, str) or not written:
            return None
        host = written.rpartition(":")[0] or written
        if host not in self._known:
            if len(self._known) >= STORE_KEYS_KNOWN_MAX:
                self._known.clear()
            self._known[host] = address_key(written)
        return self._known[host]


def texts_of(fields: dict[str, object]) -> list[str]:
    """Return the texts of ``COLUMNS``; empty where a record has none."""
    found = fields.get
    texts = [value if isinstance(value := found(name), str) else "" for name in COLUMNS]
    texts[_HOST] = host_of_record(fields)
    return texts


def time_of(fields: dict[str, object]) -> float:
    """Return when it was recorded, in seconds since the Unix epoch."""
    time = fields.get("time")
    return float(time) if isinstance(time, int | float) else 0.0


def request_of(fields: dict[str, object]) -> str | None:
    """Return the request that a record is about; None: it is about none."""
    request = fields.get("request")
    return request if isinstance(request, str) and request else None


def parent_of(fields: dict[str, object]) -> str | None:
    """Return the connection that a record of another one is about; None: it is about no other."""
    parent = fields.get("primary")
    if isinstance(parent, str) and parent:
        return parent
    facts = fields.get("facts")
    if isinstance(facts, dict):
        parent = cast("dict[str, object]", facts).get("connection")
    return parent if isinstance(parent, str) and parent else None


_HOST: Final = COLUMNS.index("host")
