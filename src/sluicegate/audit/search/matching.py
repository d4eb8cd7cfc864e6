"""Queries as tests of records in memory: for files of records, and for what is being written.

The invariant: a record is chosen here exactly if the condition of ``sql`` chooses it in a store.
"""

from __future__ import annotations

import ipaddress
import operator
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias, cast

from .fields import Field, FieldType
from .query import All, Any, Compare, Network, Not, Operator, Pattern, Query, Words
from .words import holds_words, host_of_record

__all__ = ["Predicate", "address_key", "predicate_of"]

Fields: TypeAlias = Mapping[str, object]
Predicate: TypeAlias = Callable[[Fields], bool]


def predicate_of(query: Query) -> Predicate:
    """Return the test that a record's fields, as the line has them, must pass."""
    match query:
        case Words(words):
            return _words(words)
        case Not(inner):
            refused = predicate_of(inner)
            return lambda fields: not refused(fields)
        case All(parts):
            tests = [predicate_of(part) for part in parts]
            return lambda fields: all(test(fields) for test in tests)
        case Any(parts):
            tests = [predicate_of(part) for part in parts]
            return lambda fields: any(test(fields) for test in tests)
        case Compare():
            return _comparison(query)


def _words(words: tuple[str, ...]) -> Predicate:
    wanted = " ".join(words)
    return lambda fields: holds_words(fields, wanted)


def _comparison(query: Compare) -> Predicate:
    test = _test_of(query)
    kinds, is_turned = query.field.kinds, query.operator is Operator.IS_NOT

    def passes(fields: Fields) -> bool:
        return fields.get("kind") in kinds and test(fields) is not is_turned

    return passes


def _test_of(query: Compare) -> Predicate:
    wanted, values = query.field, query.values
    match wanted.type:
        case FieldType.ADDRESS:
            networks = cast("tuple[Network, ...]", values)
            return lambda fields: _is_within(networks, _text(fields.get(wanted.name)))
        case FieldType.TEXT | FieldType.TEXTS | FieldType.TABLE:
            patterns = cast("tuple[Pattern, ...]", values)
            return lambda fields: any(
                pattern.matches(text) for text in _texts(wanted, fields) for pattern in patterns
            )
        case _:
            return _numbers(wanted, query.operator, cast("tuple[float, ...]", values))


_ORDER: Final[dict[Operator, Callable[[float, float], bool]]] = {
    Operator.IS: operator.eq,
    Operator.IS_NOT: operator.eq,  # turned round by whoever asks
    Operator.ABOVE: operator.gt,
    Operator.AT_LEAST: operator.ge,
    Operator.BELOW: operator.lt,
    Operator.AT_MOST: operator.le,
}


def _numbers(wanted: Field, asked: Operator, values: tuple[float, ...]) -> Predicate:
    name, stands = wanted.read_from[0], _ORDER[asked]

    def passes(fields: Fields) -> bool:
        found = fields.get(name, 0)
        return isinstance(found, int | float) and any(stands(found, value) for value in values)

    return passes


def _texts(wanted: Field, fields: Fields) -> list[str]:
    """Return what a record has in a field; an empty text where it has nothing."""
    if wanted.name == "host":
        return [host_of_record(fields)]
    found: list[str] = []
    for source in wanted.read_from:
        value = fields.get(source)
        if wanted.type is FieldType.TEXTS:
            found += [_text(one) for one in cast("list[object]", value or [])]
        elif wanted.key:
            table = cast("Fields", value or {})
            if wanted.key in table:
                found.append(_text(table[wanted.key]))
        else:
            found.append(_text(value))
    return [text for text in found if text] or [""]


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _is_within(networks: tuple[Network, ...], written: str) -> bool:
    key = address_key(written)
    return key is not None and any(one.first <= key <= one.last for one in networks)


def address_key(written: str) -> bytes | None:
    """Return the sixteen bytes of the address in ``address`` or ``address:port``; None: of none."""
    for host in (written, written.rpartition(":")[0].strip("[]")):
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            continue
        break
    else:
        return None
    mapped = b"" if address.version == _IPV6 else bytes(10) + b"\xff\xff"
    return mapped + address.packed


_IPV6: Final = 6
