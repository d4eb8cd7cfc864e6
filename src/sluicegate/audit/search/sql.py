"""Queries as conditions of a database: SQLite and PostgreSQL, with everything in parameters.

A store has a table with these columns: ``seq``, the record's number, ``time``, the texts of
``COLUMNS``, ``client_key``, ``server_key`` and ``peer_key`` (``matching.address_key``), and
``body``, the record's line as JSON.
The invariant: no character of a query gets into the text of a statement.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, TypeAlias, cast

from typing_extensions import override

from .fields import KINDS, Field, FieldType
from .query import All, Any, Compare, Network, Not, Operator, Pattern, Query, Words

__all__ = ["COLUMNS", "Dialect", "Parameter", "PostgresDialect", "SqliteDialect", "Statement"]

COLUMNS: Final = ("kind", "verdict", "outcome", "host", "rule", "user", "connection", "session")
"""Texts that have a column of their own; empty where a record has none."""

_SIGNS: Final = {
    Operator.IS: "=",
    Operator.IS_NOT: "=",  # turned round by whoever asks
    Operator.ABOVE: ">",
    Operator.AT_LEAST: ">=",
    Operator.BELOW: "<",
    Operator.AT_MOST: "<=",
}

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
            return f"{wanted.name} <> '' AND ({said})"
        return said

    def _either(self, patterns: tuple[Pattern, ...], values: list[Parameter]) -> str:
        """Say that the verdict or the outcome is as wanted; both are empty, or one is looked at."""
        said: list[str] = []
        for pattern in patterns:
            if pattern.matches(""):
                said.append("(verdict = '' AND outcome = '')")
            said += [
                f"({column} <> '' AND {self.is_like(column, pattern, values)})"
                for column in ("verdict", "outcome")
            ]
        return " OR ".join(said)

    def _text(self, wanted: Field, pattern: Pattern, values: list[Parameter]) -> str:
        if wanted.name in COLUMNS:
            return self.is_like(wanted.name, pattern, values)
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

    @override
    def words(self, words: tuple[str, ...], values: list[Parameter]) -> str:
        values.append(self.phrase(words))
        return "seq IN (SELECT rowid FROM words WHERE words MATCH ?)"

    @staticmethod
    def phrase(words: tuple[str, ...]) -> str:
        """Return words in the language of FTS5: quoted, so that nothing in them is part of it."""
        return '"' + " ".join(words) + '"*'  # the last word may go on

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


class PostgresDialect(Dialect):
    """PostgreSQL 13 and later; ``body`` is ``jsonb``, ``searched`` has the words."""

    parameter = "%s"

    @override
    def words(self, words: tuple[str, ...], values: list[Parameter]) -> str:
        values.append("% " + " ".join(words) + "%")
        return "' ' || searched LIKE %s"

    @override
    def body_text(self, name: str, values: list[Parameter]) -> str:
        values.append(name)
        return "body ->> %s"

    @override
    def body_number(self, name: str, values: list[Parameter]) -> str:
        values += (name, name, name)
        return (
            "CASE jsonb_typeof(body -> %s) WHEN 'boolean' THEN (body ->> %s)::boolean::int"
            " ELSE (body ->> %s)::double precision END"
        )

    @override
    def body_list(self, name: str, values: list[Parameter]) -> str:
        values.append(name)
        return "jsonb_array_elements_text(COALESCE(body -> %s, '[]'::jsonb)) AS value"

    @override
    def body_fact(self, table: str, key: str, values: list[Parameter]) -> str:
        values += (table, key)
        return "body -> %s ->> %s"

    @override
    def is_like(self, said: str, pattern: Pattern, values: list[Parameter]) -> str:
        lower = f'lower({said} COLLATE "C")'
        if pattern.is_exact:
            values.append(pattern.pieces[0])
            return f"{lower} = %s"
        values.append("%".join(map(_escaped, pattern.pieces)))
        return f"{lower} LIKE %s"
