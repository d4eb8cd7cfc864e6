"""The condition of a database chooses the records that the test in memory chooses."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.audit.search import FIELDS, FieldType, parse_query
from sluicegate.audit.search.fields import KINDS
from sluicegate.audit.search.matching import address_key, predicate_of
from sluicegate.audit.search.query import Query
from sluicegate.audit.search.sql import COLUMNS, PostgresDialect, SqliteDialect, WalkingDialect
from sluicegate.audit.search.words import host_of_record, indexed_text, texts_searched

NOW = 1_800_000_000.0

WORDS = st.sampled_from(["web", "Web", "a.example", "b_c", "50%", "x", "refused", "allowed", "ä"])
NUMBERS = st.sampled_from([0, 1, 2, 1024, 1500.5])
ADDRESSES = st.sampled_from(
    ["10.1.2.3:5", "10.1.2.4:5", "[2001:db8::1]:5", "[::ffff:10.1.2.3]:5", "10.1.2.3", ""]
)


def values_of(kind: FieldType) -> st.SearchStrategy[Any]:
    match kind:
        case FieldType.TEXT:
            return WORDS
        case FieldType.TEXTS:
            return st.lists(WORDS, max_size=3)
        case FieldType.TABLE:
            return st.dictionaries(st.sampled_from(["a", "b-c"]), WORDS, max_size=2)
        case FieldType.FLAG:
            return st.booleans()
        case FieldType.TIME:
            return st.sampled_from([NOW, NOW - 60, NOW - 7200.5])
        case FieldType.ADDRESS:
            return ADDRESSES
        case _:
            return NUMBERS


@st.composite
def records(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(sorted(KINDS)))
    names = [
        name
        for name, field in FIELDS.items()
        if kind in field.kinds and not field.sources and name != "kind"
    ]
    chosen = draw(st.lists(st.sampled_from(names), unique=True, max_size=8))
    record = {name: draw(values_of(FIELDS[name].type)) for name in chosen}
    return {"kind": kind, "time": NOW - draw(st.sampled_from([0, 30, 4000])), **record}


@st.composite
def terms(draw: st.DrawFn) -> str:
    if draw(st.integers(0, 9)) == 0:
        return draw(st.sampled_from(["web", '"a example"', "b", "exam", "50", "ä"]))
    field = FIELDS[draw(st.sampled_from(sorted(FIELDS)))]
    name = field.name + draw(st.sampled_from([".a", ".b-c"])) * (field.type is FieldType.TABLE)
    match field.type:
        case FieldType.TEXT | FieldType.TEXTS | FieldType.TABLE if name == "kind":
            value = st.sampled_from(["request", "*e*", "s*", '""'])
        case FieldType.TEXT | FieldType.TEXTS | FieldType.TABLE:
            value = st.sampled_from(["web", "w*", "*", "*_c", '""', '"50%"', "*e*a*", "a.example"])
        case FieldType.ADDRESS:
            value = st.sampled_from(
                ["10.1.2.3", "10.0.0.0/8", "2001:db8::/32", "::/0", "0.0.0.0/0"]
            )
        case FieldType.FLAG:
            value = st.sampled_from(["yes", "no"])
        case FieldType.TIME:
            value = st.sampled_from(["1m", "0s", "2h", "2027-01-15"])
        case FieldType.SIZE:
            value = st.sampled_from(["0", "1KiB", "1"])
        case _:
            value = st.sampled_from(["0", "1", "2", "1500.5"])
    has_order = field.type not in {
        FieldType.TEXT,
        FieldType.TEXTS,
        FieldType.TABLE,
        FieldType.ADDRESS,
    }
    operator = draw(st.sampled_from([":", "!=", *([">", ">=", "<", "<="] * has_order)]))
    return f"{name}{operator}{','.join(draw(st.lists(value, min_size=1, max_size=2)))}"


QUERIES = st.recursive(
    terms(),
    lambda inner: st.one_of(
        st.builds("({} {})".format, inner, inner),
        st.builds("({} or {})".format, inner, inner),
        st.builds("not ({})".format, inner),
    ),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def database() -> Iterator[sqlite3.Connection]:
    database = sqlite3.connect(":memory:")
    for name, function in SqliteDialect.functions.items():
        database.create_function(name, 2, function, deterministic=True)
    columns = ", ".join(f"{name} TEXT COLLATE NOCASE" for name in COLUMNS)
    database.execute(
        f"CREATE TABLE records (seq INTEGER PRIMARY KEY, time REAL, {columns},"
        " client_key BLOB, server_key BLOB, peer_key BLOB, body TEXT)"
    )
    tokenizer = "unicode61 remove_diacritics 0"
    database.execute(
        f'CREATE VIRTUAL TABLE words USING fts5(text, detail=none, tokenize="{tokenizer}")'
    )
    yield database
    database.close()


def fill(database: sqlite3.Connection, found: list[dict[str, Any]]) -> None:
    database.execute("DELETE FROM records")
    database.execute("DELETE FROM words")
    for number, record in enumerate(found, 1):
        texts = [
            host_of_record(record) if name == "host" else str(record.get(name) or "")
            for name in COLUMNS
        ]
        keys = [address_key(str(record.get(name, ""))) for name in ("client", "server", "peer")]
        row = [number, record["time"], *texts, *keys, json.dumps(record)]
        marks = ", ".join("?" * len(row))
        names = ", ".join(("seq", "time", *COLUMNS, "client_key", "server_key", "peer_key", "body"))
        database.execute(f"INSERT INTO records ({names}) VALUES ({marks})", row)
        database.execute(
            "INSERT INTO words (rowid, text) VALUES (?, ?)",
            (number, indexed_text(texts_searched(record))),
        )


def chosen_by(
    database: sqlite3.Connection, query: Query, dialect: SqliteDialect | None = None
) -> list[int]:
    condition = (dialect or SqliteDialect()).condition(query)
    rows = database.execute(
        f"SELECT seq FROM records WHERE {condition.text} ORDER BY seq", condition.values
    )
    return [number for (number,) in rows]


@given(found=st.lists(records(), min_size=1, max_size=4), text=QUERIES)
def test_database_and_memory_choose_the_same(
    database: sqlite3.Connection, found: list[dict[str, Any]], text: str
) -> None:
    fill(database, found)
    query = parse_query(text, NOW)
    passes = predicate_of(query)
    expected = [n for n, one in enumerate(found, 1) if passes(one)]
    assert chosen_by(database, query) == expected
    assert chosen_by(database, query, WalkingDialect()) == expected


@given(text=QUERIES)
def test_no_character_of_a_value_gets_into_a_statement(text: str) -> None:
    query = parse_query(text.replace("web", "zq'zq").replace("a.example", "zq--zq"), NOW)
    for dialect in (SqliteDialect(), WalkingDialect(), PostgresDialect()):
        condition = dialect.condition(query)
        assert "zq" not in condition.text
        assert condition.text.count(dialect.parameter) == len(condition.values)
