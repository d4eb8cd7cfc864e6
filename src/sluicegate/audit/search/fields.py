"""What a query may name: the fields of the catalogue of records, with their types.

Made from ``audit.records``, so a new field can be asked for at once. The invariant: a name means
the same in every kind of record that has it.
"""

from __future__ import annotations

import enum
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args, get_origin

import msgspec

from sluicegate.audit.records import AnyRecord, Record

__all__ = ["FIELDS", "KINDS", "Field", "FieldType", "find_field"]


class FieldType(enum.Enum):
    """How values of a field are written and compared."""

    TEXT = "text"
    """``*`` stands for any run of characters; letters of ASCII are alike in both cases."""
    TEXTS = "texts"
    """A list, one of which has to be as a text is."""
    NUMBER = "number"
    FLAG = "flag"
    """``yes`` or ``no``."""
    SIZE = "size"
    """Bytes, also with a unit: ``1MiB``."""
    SECONDS = "seconds"
    """A duration; a bare number has the field's own unit."""
    MILLISECONDS = "milliseconds"
    TIME = "time"
    """A date, a date and a time, or how long ago: ``2h``."""
    ADDRESS = "address"
    """An IP address or a network; ports do not count."""
    TABLE = "table"
    """Facts by name: ``facts.user-agent``."""


@dataclass(frozen=True, slots=True)
class Field:
    """One name that a query may have."""

    name: str
    type: FieldType
    kinds: frozenset[str]
    """Kinds of records that have it; it says nothing about the others."""
    default: str | float = ""
    """What stands for it in a record that leaves it out."""
    sources: tuple[str, ...] = ()
    """The record's fields that it is looked for in, if they are others."""
    key: str = ""
    """Of a table: the fact that is meant."""

    @property
    def read_from(self) -> tuple[str, ...]:
        """The record's fields that it is looked for in."""
        return self.sources or (self.name,)


_Type: TypeAlias = type[Record]

_RECORDS: Final[dict[str, _Type]] = {
    str(kind.__struct_config__.tag): kind for kind in get_args(AnyRecord)
}

KINDS: Final = frozenset(_RECORDS)
"""Every kind of record."""

_BY_SUFFIX: Final = {"_s": FieldType.SECONDS, "_ms": FieldType.MILLISECONDS}
_TIMES: Final = frozenset({"time", "started", "until"})
_ADDRESSES: Final = frozenset({"client", "server", "peer"})

_VERDICT: Final = ("verdict", "outcome")
_HOST: Final = ("host", "url", "target", "sni")


def _type_of(name: str, written: object) -> FieldType:
    origin = get_origin(written)
    if name in _TIMES:
        return FieldType.TIME
    if name in _ADDRESSES:
        return FieldType.ADDRESS
    if origin is tuple:
        return FieldType.TEXTS
    if origin is dict:
        return FieldType.TABLE
    if written is bool:
        return FieldType.FLAG
    if written is str or origin is Literal:
        return FieldType.TEXT
    if written is not int and written is not float:
        raise TypeError(f"{name}: a query cannot name what is {written}")
    if name.startswith("bytes"):
        return FieldType.SIZE
    found = [kind for suffix, kind in _BY_SUFFIX.items() if name.endswith(suffix)]
    return found[0] if found else FieldType.NUMBER


def _fields() -> Iterator[Field]:
    """Yield the fields of the catalogue; those of one name in several kinds are one."""
    found: dict[str, tuple[FieldType, set[str]]] = {}
    for kind, record in _RECORDS.items():
        hints = typing.get_type_hints(record)
        for field in msgspec.structs.fields(record):
            wanted = _type_of(field.name, hints[field.name])
            known, kinds = found.setdefault(field.name, (wanted, set()))
            if known is not wanted:
                raise TypeError(f"{field.name} is {known.value} in {kinds} and {wanted} in {kind}")
            kinds.add(kind)
    for name, (kind_of_value, kinds) in found.items():
        yield Field(name, kind_of_value, frozenset(kinds), _DEFAULTS.get(kind_of_value, 0.0))
    yield Field("kind", FieldType.TEXT, KINDS)


_DEFAULTS: Final = {FieldType.TEXT: "", FieldType.TEXTS: "", FieldType.TABLE: ""}
_DEFAULTS[FieldType.ADDRESS] = ""


def _made() -> dict[str, Field]:
    fields = {field.name: field for field in _fields()}
    for name, sources in (("verdict", _VERDICT), ("host", _HOST)):
        kinds = frozenset[str]().union(*(fields[source].kinds for source in sources))
        fields[name] = Field(name, FieldType.TEXT, kinds, sources=sources)
    fields["since"] = Field("since", FieldType.TIME, KINDS, 0.0, sources=("time",))
    return fields


FIELDS: Final[dict[str, Field]] = _made()
"""By name; ``verdict`` and ``host`` are looked for in several fields."""


def find_field(name: str) -> Field | None:
    """Return the field of a name, also of a fact in a table (``facts.size``); None: there is none.

    A table without a fact is no field.
    """
    table, dot, key = name.partition(".")
    field = FIELDS.get(table)
    if field is None or (field.type is FieldType.TABLE) is not bool(dot and key):
        return None
    if not dot:
        return field
    return Field(name, FieldType.TEXT, field.kinds, sources=(table,), key=key)
