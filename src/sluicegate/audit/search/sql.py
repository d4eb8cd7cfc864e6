"""Queries as conditions of a database: SQLite and PostgreSQL, with everything in parameters.

A store has a table with these columns: ``seq``, the record's number, ``time``, the texts of
``COLUMNS``, ``client_key``, ``server_key`` and ``peer_key`` (``matching.address_key``), and
``body``, the record's line as JSON.
The invariant: no character of a query gets into the text of a statement.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final, TypeAlias, cast

import msgspec
from typing_extensions import override

from .fields import KINDS, Field, FieldType
from .query import All, Any, Compare, Network, Not, Operator, Pattern, Query, Words
from .words import holds_words

__all__ = [
    "COLUMNS",
    "INDEXED_CHARACTERS",
    "Dialect",
    "Parameter",
    "PostgresDialect",
    "SqliteDialect",
    "Statement",
    "WalkingDialect",
]

COLUMNS: Final = ("kind", "verdict", "outcome", "host", "rule", "user", "connection", "session")
"""Texts that have a column of their own; empty where a record has none."""

INDEXED_CHARACTERS: Final = 200
"""Of a text an index of PostgreSQL has so many: no name is longer, and no text that somebody sends
makes an entry that a page of an index does not take."""

_SIGNS: Final = {
    Operator.IS: "=",
    Operator.IS_NOT: "=",  # turned round by whoever asks
    Operator.ABOVE: ">",
    Operator.AT_LEAST: ">=",
    Operator.BELOW: "<",
    Operator.AT_MOST: "<=",
}

_decoder: msgspec.json.Decoder[dict[str, object]] = msgspec.json.Decoder(dict[str, object])

Parameter: TypeAlias = str | float | bytes


@dataclass(slots=True)
class Statement:
    """A condition, and the values of its parameters in their order."""

    text: str = ""
    values: list[Parameter] = field(default_factory=list[Parameter])


class Dialect(abc.ABC):
    """How one database says things."""

    parameter: str

    def condition(self, query: Query) -> Statement:
        """Return the condition that is true of what a query chooses, and never NULL."""
        statement = Statement()
        statement.text = self._say(query, statement.values)
        return statement

    # -- what differs --------------------------------------------------------------------------

    @abc.abstractmethod
    def words(self, words: tuple[str, ...], values: list[Parameter]) -> str:
        """Say that words stand in what is searched."""

    @abc.abstractmethod
    def body_text(self, name: str, values: list[Parameter]) -> str:
        """Say a text of the body, NULL where it has none."""

    @abc.abstractmethod
    def body_number(self, name: str, values: list[Parameter]) -> str:
        """Say a number of the body, NULL where it has none; a flag is 0 or 1."""

    @abc.abstractmethod
    def body_list(self, name: str, values: list[Parameter]) -> str:
        """Say a table of the texts in a list of the body, with one column ``value``."""

    @abc.abstractmethod
    def body_fact(self, table: str, key: str, values: list[Parameter]) -> str:
        """Say a fact of a table in the body as text, NULL where it has none."""

    def column(self, name: str) -> str:
        """Say a column of ``COLUMNS``."""
        return name

    def column_is_like(self, name: str, pattern: Pattern, values: list[Parameter]) -> str:
        """Say that a column of ``COLUMNS`` is as a pattern wants it."""
        return self.is_like(self.column(name), pattern, values)

    @abc.abstractmethod
    def is_like(self, said: str, pattern: Pattern, values: list[Parameter]) -> str:
        """Say that a text is as a pattern wants it, whatever the case of its ASCII letters."""

    # -- what is common ------------------------------------------------------------------------

    def _say(self, query: Query, values: list[Parameter]) -> str:
        match query:
            case Words(words):
                return self.words(words, values)
            case Not(inner):
                return f"NOT ({self._say(inner, values)})"
            case All(parts):
                return self._join(" AND ", parts, values) if parts else "1=1"
            case Any(parts):
                return self._join(" OR ", parts, values)
            case Compare():
                return self._compare(query, values)

    def _join(self, between: str, parts: Iterable[Query], values: list[Parameter]) -> str:
        return between.join(f"({self._say(part, values)})" for part in parts)

    def _compare(self, query: Compare, values: list[Parameter]) -> str:
        kinds = query.field.kinds
        said: list[str] = []
        if kinds != KINDS:
            marks = ", ".join(self.parameter for _ in kinds)
            values += sorted(kinds)
            said.append(f"kind IN ({marks})")
        test = self._test(query, values)
        said.append(f"NOT ({test})" if query.operator is Operator.IS_NOT else f"({test})")
        return " AND ".join(said)

    def _test(self, query: Compare, values: list[Parameter]) -> str:
        wanted = query.field
        match wanted.type:
            case FieldType.ADDRESS:
                return self._addresses(wanted, cast("tuple[Network, ...]", query.values), values)
            case FieldType.TEXT | FieldType.TEXTS | FieldType.TABLE:
                return self._patterns(wanted, cast("tuple[Pattern, ...]", query.values), values)
            case _:
                sign, numbers = _SIGNS[query.operator], cast("tuple[float, ...]", query.values)
                return " OR ".join(self._number(wanted, values, sign, number) for number in numbers)

    def _number(self, wanted: Field, values: list[Parameter], sign: str, number: float) -> str:
        name = wanted.read_from[0]
        said = "time" if name == "time" else f"COALESCE({self.body_number(name, values)}, 0)"
        values.append(number)
        return f"{said} {sign} {self.parameter}"

    def _addresses(
        self, wanted: Field, networks: tuple[Network, ...], values: list[Parameter]
    ) -> str:
        said: list[str] = []
        column = f"{wanted.name}_key"
        for network in networks:
            if network.first == network.last:
                values.append(network.first)
                said.append(f"{column} = {self.parameter}")
            else:
                values += (network.first, network.last)
                said.append(f"{column} BETWEEN {self.parameter} AND {self.parameter}")
        return f"{column} IS NOT NULL AND ({' OR '.join(said)})"

    def _patterns(
        self, wanted: Field, patterns: tuple[Pattern, ...], values: list[Parameter]
    ) -> str:
        if wanted.type is FieldType.TEXTS:
            return self._list(wanted, patterns, values)
        if wanted.name == "verdict":
            return self._either(patterns, values)
        said = " OR ".join(self._text(wanted, pattern, values) for pattern in patterns)
        if wanted.name in COLUMNS and not any(pattern.matches("") for pattern in patterns):
            # Said as the indexes say it, which have no empty texts.
            return f"{self.column(wanted.name)} <> '' AND ({said})"
        return said

    def _either(self, patterns: tuple[Pattern, ...], values: list[Parameter]) -> str:
        """Say that the verdict or the outcome is as wanted; both are empty, or one is looked at."""
        said: list[str] = []
        for pattern in patterns:
            if pattern.matches(""):
                said.append("(verdict = '' AND outcome = '')")
            said += [
                f"({column} <> '' AND {self.column_is_like(column, pattern, values)})"
                for column in ("verdict", "outcome")
            ]
        return " OR ".join(said)

    def _text(self, wanted: Field, pattern: Pattern, values: list[Parameter]) -> str:
        if wanted.name in COLUMNS:
            return self.column_is_like(wanted.name, pattern, values)
        if wanted.key:
            said = self.body_fact(wanted.read_from[0], wanted.key, values)
        else:
            said = self.body_text(wanted.name, values)
        return self.is_like(f"COALESCE({said}, '')", pattern, values)

    def _list(self, wanted: Field, patterns: tuple[Pattern, ...], values: list[Parameter]) -> str:
        said: list[str] = []
        for pattern in patterns:
            table = self.body_list(wanted.name, values)
            like = self.is_like("value", pattern, values)
            said.append(f"EXISTS (SELECT 1 FROM {table} WHERE value <> '' AND {like})")  # noqa: S608 - our own words
            if pattern.matches(""):
                table = self.body_list(wanted.name, values)
                said.append(f"NOT EXISTS (SELECT 1 FROM {table} WHERE value <> '')")  # noqa: S608 - our own words
        return " OR ".join(said)


def _escaped(piece: str) -> str:
    return piece.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


class SqliteDialect(Dialect):
    """SQLite 3.38 and later; words by a table of FTS5 with the records' numbers, ``words``."""

    parameter = "?"

    functions: ClassVar[Mapping[str, Callable[[str, str], bool]]] = {
        "holds_words": lambda body, words: holds_words(_decoder.decode(body), words)
    }
    """What a connection must know, by name: functions of a record's body and a text."""

    @override
    def words(self, words: tuple[str, ...], values: list[Parameter]) -> str:
        # The index says which records have the words at all, and not where.
        values += (" AND ".join(self.terms(words)), " ".join(words))
        return "seq IN (SELECT rowid FROM words WHERE words MATCH ?) AND holds_words(body, ?)"

    @classmethod
    def terms(cls, words: tuple[str, ...]) -> list[str]:
        """Return words in the language of FTS5.

        The last one may go on; what begins so is looked for only where it is alone, for FTS5 puts
        together all that begins so before it looks at the others.
        """
        *whole, last = words
        return [cls.quoted(word) for word in whole] or [f"{cls.quoted(last)}*"]

    @staticmethod
    def quoted(word: str) -> str:
        """Return a word in the language of FTS5, so that nothing in it is part of that."""
        return f'"{word}"'

    @override
    def body_text(self, name: str, values: list[Parameter]) -> str:
        values.append(f"$.{name}")
        return "CAST(json_extract(body, ?) AS TEXT)"

    @override
    def body_number(self, name: str, values: list[Parameter]) -> str:
        values.append(f"$.{name}")
        return "json_extract(body, ?)"

    @override
    def body_list(self, name: str, values: list[Parameter]) -> str:
        values.append(f"$.{name}")
        return "json_each(body, ?)"

    @override
    def body_fact(self, table: str, key: str, values: list[Parameter]) -> str:
        values.append(f'$.{table}."{key}"')
        return "CAST(json_extract(body, ?) AS TEXT)"

    @override
    def is_like(self, said: str, pattern: Pattern, values: list[Parameter]) -> str:
        if pattern.is_exact:
            values.append(pattern.pieces[0])
            return f"{said} = ? COLLATE NOCASE"
        values.append("%".join(map(_escaped, pattern.pieces)))
        return f"{said} LIKE ? ESCAPE '\\'"


class WalkingDialect(SqliteDialect):
    """For records that are looked at one by one, or of which an index has found a few."""

    @override
    def words(self, words: tuple[str, ...], values: list[Parameter]) -> str:
        # A letter may be written as an escape, by other programs than ours.
        looked_for = [word for word in words if word.isascii()]
        values += (*(f"%{word}%" for word in looked_for), " ".join(words))
        said = ["(body LIKE ? OR body LIKE '%\\u00%')"] * len(looked_for)
        return " AND ".join([*said, "holds_words(body, ?)"])


class PostgresDialect(Dialect):
    """PostgreSQL 13 and later.

    Columns of texts are in lower case. ``words`` is a ``tsvector``, and NULL where ``searched`` has
    the words as they are; ``fields`` is the line where ``body`` has what JSON of the server's does
    not take.
    """

    parameter = "%s"

    @override
    def words(self, words: tuple[str, ...], values: list[Parameter]) -> str:
        *whole, last = words
        phrase = [*(f"'{word}'" for word in whole), f"'{last}':*"]  # the last word may go on
        values += (" <-> ".join(phrase), "% " + " ".join(words) + "%")
        return (
            "(words IS NOT NULL AND words @@ %s::tsquery)"
            " OR (searched IS NOT NULL AND ' ' || searched LIKE %s)"
        )

    @override
    def column(self, name: str) -> str:
        return f'"{name}"'  # user is a word of the language

    @override
    def column_is_like(self, name: str, pattern: Pattern, values: list[Parameter]) -> str:
        column = self.column(name)
        if not pattern.is_exact:
            said = f"{column} LIKE %s"
            values.append("%".join(map(_escaped, pattern.pieces)))
            begin, *_, end = pattern.pieces
            if name == "host" and not begin and len(end) > 1:
                # The names below a domain stand together where names are read from their ends.
                values.append(_escaped(end[::-1][:INDEXED_CHARACTERS]) + "%")
                said += f" AND left(reverse(host), {INDEXED_CHARACTERS}) LIKE %s"
            return said
        if name in _BY_BEGINNING:
            values += (pattern.pieces[0][:INDEXED_CHARACTERS], pattern.pieces[0])
            return f"left({column}, {INDEXED_CHARACTERS}) = %s AND {column} = %s"
        values.append(pattern.pieces[0])
        return f"{column} = %s"

    @override
    def body_text(self, name: str, values: list[Parameter]) -> str:
        values.append(name)
        return f"{_JSON} ->> %s"

    @override
    def body_number(self, name: str, values: list[Parameter]) -> str:
        values += (name, name, name)
        return (
            f"CASE json_typeof({_JSON} -> %s) WHEN 'boolean' THEN ({_JSON} ->> %s)::boolean::int"
            f" WHEN 'number' THEN ({_JSON} ->> %s)::double precision END"
        )

    @override
    def body_list(self, name: str, values: list[Parameter]) -> str:
        values.append(name)
        return f"json_array_elements_text(COALESCE({_JSON} -> %s, '[]'::json)) AS value"

    @override
    def body_fact(self, table: str, key: str, values: list[Parameter]) -> str:
        values += (table, key)
        return f"{_JSON} -> %s ->> %s"

    @override
    def is_like(self, said: str, pattern: Pattern, values: list[Parameter]) -> str:
        lower = f'lower({said} COLLATE "C")'
        if pattern.is_exact:
            values.append(pattern.pieces[0])
            return f"{lower} = %s"
        values.append("%".join(map(_escaped, pattern.pieces)))
        return f"{lower} LIKE %s"


_JSON: Final = "COALESCE(fields, body)::json"
_BY_BEGINNING: Final = frozenset({"host", "connection"})
