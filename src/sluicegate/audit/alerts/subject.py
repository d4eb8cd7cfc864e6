"""What an alert is about: the value of a field that it counts apart, and facts of a record.

The invariant: what a client wrote is cut to ``ALERT_VALUE_CHARACTERS_MAX`` before it is kept.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from typing import Final, cast

from sluicegate.alert_limits import ALERT_VALUE_CHARACTERS_MAX
from sluicegate.audit.search import Field, FieldType
from sluicegate.audit.search.words import host_of_record

__all__ = ["facts_of", "records_query", "value_of"]

_FACTS: Final = (
    "connection",
    "request",
    "rule",
    "reason",
    "cause",
    "causes",
    "filter",
    "process",
    "limit",
    "host",
    "url",
    "target",
    "name",
    "user",
    "action",
    "by",
    "error",
    "tls_verification",
    "records_lost",
)
"""Fields of the last record that an alert tells, those that it has."""


def value_of(field: Field, fields: Mapping[str, object]) -> str:
    """Return what a record has in a field that alerts count by; empty: nothing."""
    if fields.get("kind") not in field.kinds:
        return ""
    if field.name == "host":
        return host_of_record(fields)[: ALERT_VALUE_CHARACTERS_MAX + 1]
    for source in field.read_from:
        found = fields.get(source)
        if field.key and isinstance(found, Mapping):
            found = cast("Mapping[str, object]", found).get(field.key)
        if isinstance(found, str | int | float) and found != "":
            text = str(found)
            if field.type is FieldType.ADDRESS:
                return _without_port(text)
            return text[: ALERT_VALUE_CHARACTERS_MAX + 1]
    return ""


def facts_of(fields: Mapping[str, object]) -> dict[str, str | int]:
    """Return what of a record is told with an alert."""
    facts: dict[str, str | int] = {}
    for name in _FACTS:
        found = fields.get(name)
        if isinstance(found, list):
            found = "; ".join(str(one) for one in cast("list[object]", found))
        if found:
            number = isinstance(found, int) and not isinstance(found, bool)
            facts[name] = cast("int", found) if number else str(found)[:ALERT_VALUE_CHARACTERS_MAX]
    return facts


def records_query(query: str, by: str, about: str, first: float, last: float) -> str:
    """Return the query that finds the records that an alert was raised for.

    Args:
        query: Which records count.
        by: The field that is counted by; empty: none.
        about: Its value.
        first: When the first of them was, in seconds since the Unix epoch.
        last: When the last one was.
    """
    parts = [f"({query})"]
    if by in _ADDRESSES and about:
        parts.append(f"{by}:{about}")
    elif by and 0 < len(about) <= ALERT_VALUE_CHARACTERS_MAX:
        escaped = about.replace("\\", "\\\\").replace('"', '\\"')
        parts.append(f'{by}:"{escaped}"')
    begin, end = math.floor(first * 1000), math.ceil(last * 1000)
    return " ".join([*parts, f"time>={_written(begin)}", f"time<={_written(end)}"])


def _written(milliseconds: int) -> str:
    moment = dt.datetime.fromtimestamp(milliseconds // 1000, dt.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{milliseconds % 1000:03d}Z"


_ADDRESSES: Final = frozenset({"client", "server", "peer"})


def _without_port(address: str) -> str:
    if address.startswith("["):
        return address[1:].partition("]")[0]
    host, colon, _ = address.rpartition(":")
    return host if colon and ":" not in host else address
