"""What only PostgreSQL does to a store: servers that go, passwords, certificates, versions."""

from __future__ import annotations

import json
import pathlib
import random

import psycopg
import pytest

from sluicegate.audit.search import EVERYTHING, parse_query
from sluicegate.audit.store import (
    Filler,
    LogPosition,
    LogStore,
    PostgresPlace,
    StoreReader,
    has_store,
    postgres_schema,
    verify_store,
)
from sluicegate.audit.store.postgres_connection import connect
from sluicegate.clock import SystemClock
from sluicegate.errors import ConfigError
from sluicegate.testing.clock import ManualClock
from tests.pki import authority
from tests.real.postgres_parts import PASSWORD, Cluster
from tests.unit.store.store_kit import DAY_S, KEPT, fill, line_of


def lines_in(place: PostgresPlace, clock: ManualClock) -> list[bytes]:
    reader = StoreReader(place, clock)
    found = [record.line.encode() for record in reader.read(EVERYTHING)]
    reader.close()
    return found


def test_record_with_what_postgresql_does_not_take_is_kept_as_it_is_and_found(
    postgres: Cluster, tmp_path: pathlib.Path, clock: ManualClock
) -> None:
    """A client's bytes must not stop the keeper, whatever they are."""
    place = postgres.place(tmp_path / "records")
    lines = [
        line_of(1, 1.0, url="http://h.example/a\0b", reason="x\0", user="a\0"),
        line_of(2, 1.0, reason="back\\u0000slash", user="b"),
        line_of(3, 1.0, url="http://h.example/" + "long" * 20_000, user="c"),
        line_of(4, 1.0, reason=" ".join(["word"] * 20_000) + " needle last", user="d"),
        line_of(5, 1.0, connection="c" * 100_000, user="e"),
        line_of(6, 1.0, user="\U0001f600\u2028'\\%_", bytes_to_client=10**30),
        b'{"kind":"request","time":2,"status":"404","bytes_to_client":true,"user":"g"}',
    ]
    store = LogStore(place, clock, KEPT)
    store.append(lines, LogPosition(7, 1))
    reader = StoreReader(place, clock)

    def found(text: str) -> list[int]:
        query = parse_query(text, clock.wall())
        return [record.seq for record in reader.search(query, 50, seconds_max=60).records]

    assert lines_in(place, clock) == lines
    assert found('reason:"x\ufffd"') == [1]
    assert found("method:GET or rule:web") == [6, 5, 4, 3, 2, 1]
    assert found("needle last") == [4]
    assert found("longlong") == [3]
    assert found('"last needle"') == []
    assert found(f"connection:{'c' * 3000}*") == [5]
    assert found("status:404") == []
    reader.close()
    store.close()
    public = bytes.fromhex((place.path / "chain.pub").read_text())
    assert verify_store(place, public).faults == []


REFUSED = [
    ({"password": "wrong"}, "password authentication failed", "ALTER ROLE"),
    ({"password": ""}, "no password supplied", "password = "),
    ({"user": "nobody"}, "password authentication failed", "password in"),
    ({"database": "none"}, 'database "none" does not exist', "CREATE DATABASE"),
    ({"port": 1}, "refused", "is it running"),
    ({"ca": "other.pem"}, "certificate verify failed", "ca = "),
    ({"ca": "none.pem"}, "does not exist", "ca = "),
    ({"ca": "bad.pem"}, "could not read root certificate file", "ca = "),
    ({"certificate": "bad.pem", "key": "bad.pem"}, "could not read certificate", "certificate = "),
    ({"certificate": "other.pem", "key": "none.pem"}, "not private key file", "key = "),
    ({"fault": "the password cannot be read"}, "the password cannot be read", ""),
]
FILES = {"ca", "certificate", "key"}


@pytest.mark.parametrize(("changes", "cause", "cure"), REFUSED)
def test_server_that_cannot_be_used_is_an_error_with_cause_and_cure(
    postgres: Cluster, tmp_path: pathlib.Path, changes: dict[str, object], cause: str, cure: str
) -> None:
    (tmp_path / "other.pem").write_text(authority("somebody else").pem)
    (tmp_path / "bad.pem").write_text("nonsense")
    files = {key: str(tmp_path / str(changes[key])) for key in FILES & changes.keys()}
    place = postgres.by_network(tmp_path, **{**changes, **files})
    with pytest.raises(ConfigError) as raised:
        connect(place, is_writer=True)
    assert cause in raised.value.cause
    assert cure in raised.value.cure
    assert "\n" not in str(raised.value)
    assert PASSWORD not in str(raised.value)


MODES = [("off", False), ("require", True), ("verify-ca", True), ("verify-full", True)]


@pytest.mark.parametrize(("mode", "is_encrypted"), MODES)
def test_connection_is_encrypted_as_the_operator_says(
    postgres: Cluster, tmp_path: pathlib.Path, mode: str, is_encrypted: bool
) -> None:
    connection = connect(postgres.by_network(tmp_path, tls=mode), is_writer=False)
    try:
        row = connection.execute(
            "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        ).fetchone()
    finally:
        connection.close()
    assert row == (is_encrypted,)


def test_reader_can_change_nothing(
    postgres: Cluster, tmp_path: pathlib.Path, clock: ManualClock
) -> None:
    place = postgres.place(tmp_path / "records")
    LogStore(place, clock, KEPT).close()
    connection = connect(place, is_writer=False)
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        connection.execute("DELETE FROM state")
    connection.close()


def test_database_in_another_encoding_is_refused(postgres: Cluster, tmp_path: pathlib.Path) -> None:
    postgres.execute(
        "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0", database="postgres"
    )
    with pytest.raises(ConfigError, match="is encoded in LATIN1"):
        connect(postgres.place(tmp_path, database="latin"), is_writer=True)


def test_two_gates_in_one_database_have_two_schemas(
    postgres: Cluster, tmp_path: pathlib.Path, clock: ManualClock
) -> None:
    place = postgres.place(tmp_path / "a")
    same = postgres.place(tmp_path / "b", schema=place.schema)
    other = postgres.place(tmp_path / "c")
    store = LogStore(place, clock, KEPT)
    with pytest.raises(ConfigError, match="another process stores records in schema"):
        LogStore(same, clock, KEPT)
    second = LogStore(other, clock, KEPT)
    fill(store, clock, 3)
    fill(second, clock, 5)
    store.close()
    second.close()
    assert (len(lines_in(place, clock)), len(lines_in(other, clock))) == (3, 5)


def test_next_writer_need_not_wait_for_the_server_to_end_the_session(
    postgres: Cluster, tmp_path: pathlib.Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = postgres.place(tmp_path / "records")
    store = LogStore(place, clock, KEPT)
    open_still: list[psycopg.Connection] = []
    with monkeypatch.context() as patched:
        patched.setattr("psycopg.Connection.close", lambda one: open_still.append(one))  # noqa: PLW0108 - it takes no built-in
        store.close()
    LogStore(place, clock, KEPT).close()
    assert open_still
    for one in open_still:
        one.close()


def test_user_who_may_make_nothing_is_told_what_is_needed(
    postgres: Cluster, tmp_path: pathlib.Path, clock: ManualClock
) -> None:
    postgres.execute("CREATE ROLE poor LOGIN")
    place = postgres.place(tmp_path / "records", user="poor")
    with pytest.raises(ConfigError, match=r"permission denied.*GRANT CREATE"):
        LogStore(place, clock, KEPT)
    assert not has_store(place)


SCHEMAS = [
    ("postgres", "", "no schema has been selected to create in", "also owns the schema"),
    ("keeper", "CREATE TABLE {}.about (other text)", '"version" does not exist', "schema_name = "),
    ("keeper", "CREATE TABLE {}.records (other text)", "already exists", "schema_name = "),
    (
        "keeper",
        "CREATE TABLE {0}.about (version integer); INSERT INTO {0}.about VALUES (1)",
        'relation "partitions" does not exist',
        "schema_name = ",
    ),
]


@pytest.mark.parametrize(("owner", "table", "cause", "cure"), SCHEMAS)
def test_schema_that_is_not_ours_is_left_as_it_is_and_told_of(
    postgres: Cluster, tmp_path: pathlib.Path, owner: str, table: str, cause: str, cure: str
) -> None:
    place = postgres.place(tmp_path / "records")
    text = f"CREATE SCHEMA {place.schema} AUTHORIZATION {owner};"
    postgres.execute(f"{text} SET ROLE {owner}; {table.format(place.schema)}")
    with pytest.raises(ConfigError) as raised:
        LogStore(place, SystemClock(), KEPT)
    assert cause in raised.value.cause
    assert cure in raised.value.cure
    tables = postgres.execute(
        f"SELECT relname FROM pg_class WHERE relnamespace = '{place.schema}'::regnamespace"
    )
    assert len(tables) == table.count("CREATE TABLE")


def test_server_without_room_is_told_of_and_waited_for(
    postgres: Cluster, tmp_path: pathlib.Path, clock: ManualClock
) -> None:
    place = postgres.place(tmp_path / "records")
    log, said = tmp_path / "records.jsonl", list[str]()
    log.write_bytes(line_of(1, clock.wall()) + b"\n")
    filler = Filler(log, place, KEPT, clock, said.append)
    filler.turn()
    postgres.execute(
        f"CREATE FUNCTION {place.schema}.is_full() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN RAISE 'could not extend file: No space left' USING ERRCODE = '53100'; END$$",
        f"CREATE TRIGGER is_full BEFORE INSERT ON {place.schema}.links"
        f" FOR EACH ROW EXECUTE FUNCTION {place.schema}.is_full()",
    )
    with log.open("ab") as file:
        file.write(line_of(2, clock.wall()) + b"\n")
    assert filler.turn() > 0.0
    assert "No space left" in filler.failure
    assert "keep_bytes in [log]" in filler.failure
    assert said == [f"{place.name}: {filler.failure}; records wait in {log}"]
    assert place.name not in filler.failure
    postgres.execute(f"DROP TRIGGER is_full ON {place.schema}.links")
    filler.turn()
    filler.close()
    assert said[1:] == [f"{place.name}: records are stored again"]
    assert lines_in(place, clock) == log.read_bytes().splitlines()


def test_tables_of_an_earlier_version_are_brought_up_to_date_whole_or_not_at_all(
    postgres: Cluster, tmp_path: pathlib.Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = postgres.place(tmp_path / "records")
    store = LogStore(place, clock, KEPT)
    lines = fill(store, clock, 3)
    store.close()
    with monkeypatch.context() as patched:
        broken = ("ALTER TABLE records ADD COLUMN later text", "SELECT 1 / 0")
        patched.setattr(postgres_schema, "STEPS", [*postgres_schema.STEPS, broken])
        with pytest.raises(ConfigError, match="division by zero"):
            LogStore(place, clock, KEPT)
    assert lines_in(place, clock) == lines  # nothing was changed
    with monkeypatch.context() as patched:
        step = ("ALTER TABLE records ADD COLUMN later text",)
        patched.setattr(postgres_schema, "STEPS", [*postgres_schema.STEPS, step])
        with pytest.raises(ConfigError, match="are of version 1, this one reads 2"):
            StoreReader(place, clock)
        again = LogStore(place, clock, KEPT)
        lines += fill(again, clock, 3)
        again.close()
        assert lines_in(place, clock) == lines
    with pytest.raises(ConfigError, match="are of version 2, this one knows 1"):
        LogStore(place, clock, KEPT)
    with pytest.raises(ConfigError, match="are of version 2, this one knows 1"):
        StoreReader(place, clock)


def test_partition_that_is_let_go_while_somebody_reads_is_passed_by(
    postgres: Cluster, tmp_path: pathlib.Path, clock: ManualClock
) -> None:
    place = postgres.place(tmp_path / "records")
    store = LogStore(place, clock, KEPT)
    for _ in range(3):
        fill(store, clock, 4)
        clock.advance(DAY_S)
    reader = StoreReader(place, clock)
    partitions = list(reader._readings.newest_first())
    store._partitions.remove(store._partitions.names()[0])
    assert partitions[-1].records(1, 4) == []
    assert partitions[-1].begin() is None
    assert [record.seq for record in reader.read(EVERYTHING)] == list(range(5, 13))
    assert reader.first == 5
    reader.close()
    store.close()


def test_server_that_is_killed_takes_nothing_along_and_is_waited_for(
    postgres: Cluster, tmp_path: pathlib.Path, clock: ManualClock
) -> None:
    """Every line is stored once, whenever the server dies; readers go on by themselves."""
    place = postgres.place(tmp_path / "records")
    log, said = tmp_path / "records.jsonl", list[str]()
    chance, number = random.Random(5), 0
    filler = Filler(log, place, KEPT, clock, said.append)
    reader: StoreReader | None = None

    def write(count: int) -> None:
        nonlocal number
        with log.open("ab") as file:
            for _ in range(count):
                number += 1
                file.write(line_of(number, clock.wall()) + b"\n")

    for round_ in range(4):
        write(chance.randrange(2500, 4000))
        for _ in range(chance.randrange(3)):
            filler.turn()
        postgres.kill()
        write(1)
        assert filler.turn() > 0.0
        assert filler.failure
        if reader is not None:
            with pytest.raises(ConfigError):
                reader.end  # noqa: B018 - asking is what is tried
        postgres.start()
        while filler.turn() == 0.0:
            pass
        reader = reader or StoreReader(place, clock)
        assert (reader.end[0], round_) == (number, round_)
    filler.close()
    assert reader is not None
    reader.close()
    assert lines_in(place, clock) == log.read_bytes().splitlines()
    assert sum("records wait in" in one for one in said) == 4
    public = bytes.fromhex((place.path / "chain.pub").read_text())
    assert verify_store(place, public).faults == []


def test_session_that_the_server_ends_in_the_middle_of_a_batch_leaves_nothing_of_it(
    postgres: Cluster, tmp_path: pathlib.Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = postgres.place(tmp_path / "records")
    store = LogStore(place, clock, KEPT)
    lines = fill(store, clock, 5)
    position = store.position

    def is_ended(self: object, _records: object) -> None:
        postgres.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE usename = 'keeper' AND pid <> pg_backend_pid()"
        )
        raise BrokenPipeError

    with monkeypatch.context() as patched:
        patched.setattr("sluicegate.audit.store.totals.Totals.count", is_ended)
        with pytest.raises((BrokenPipeError, ConfigError)):
            store.append([line_of(6, clock.wall())], LogPosition(7, 9999))
    store.close()
    again = LogStore(place, clock, KEPT)
    assert (again.last, again.position) == (5, position)
    lines += fill(again, clock, 5)
    again.close()
    assert lines_in(place, clock) == lines


def test_line_is_what_came_whatever_its_json_looks_like(
    postgres: Cluster, tmp_path: pathlib.Path, clock: ManualClock
) -> None:
    place = postgres.place(tmp_path / "records")
    store = LogStore(place, clock, KEPT)
    line = b'{ "time": 1.50,"kind":"request" ,"user":"a","user":"b", "status":200}  '
    assert json.loads(line)["user"] == "b"
    store.append([line], LogPosition(7, 1))
    store.close()
    assert lines_in(place, clock) == [line]
