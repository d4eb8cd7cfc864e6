"""``[log.postgresql]``: which server keeps the records."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Callable

import pytest

from sluicegate.app.config import Configuration, read_configuration
from sluicegate.app.log_config import known_place, open_place
from sluicegate.app.secret_files import SecretFiles
from sluicegate.app.service_config import find_state
from sluicegate.audit.store import PostgresPlace, StorePlace, has_store
from sluicegate.audit.store.log_store import open_partitions
from sluicegate.audit.store.reader import open_readings
from sluicegate.documents import ConfigRefused, Findings
from sluicegate.errors import ConfigError

LISTENER = '[[listener]]\nname = "echo"\naddress = "127.0.0.1:0"\n'


def read(folder: pathlib.Path, text: str) -> tuple[Configuration | None, list[str]]:
    path = folder / "sluicegate.toml"
    path.write_text(f'[log]\nstore = "postgresql"\n{text}{LISTENER}')
    findings = Findings()
    found = read_configuration(path, path.read_text(), findings, SecretFiles(folder))
    return found, [str(error) for error in findings.errors]


def place_of(folder: pathlib.Path, text: str) -> PostgresPlace:
    found, errors = read(folder, text)
    assert errors == []
    assert found is not None
    assert found.store is not None
    place = open_place(found.store)
    assert isinstance(place, PostgresPlace)
    return place


ADDRESSES = [
    ("postgresql://gate@db.example.com/audit", ("gate", "db.example.com", 5432, "audit")),
    ("postgres://gate@db.example.com:5433/audit", ("gate", "db.example.com", 5433, "audit")),
    ("postgresql://g%20t@192.0.2.7/a%2Fb", ("g t", "192.0.2.7", 5432, "a/b")),
    ("postgresql://gate@[2001:db8::1]:1/audit", ("gate", "2001:db8::1", 1, "audit")),
    (
        "postgresql://gate@/audit?host=/run/postgresql",
        ("gate", "/run/postgresql", 5432, "audit"),
    ),
    ("postgresql://gate@/audit?host=/run/pg&port=5444", ("gate", "/run/pg", 5444, "audit")),
]


@pytest.mark.parametrize(("text", "expected"), ADDRESSES)
def test_address_is_read_as_libpq_writes_it(
    tmp_path: pathlib.Path, text: str, expected: tuple[object, ...]
) -> None:
    place = place_of(tmp_path, f'[log.postgresql]\nserver = "{text}"\n')
    assert (place.user, place.host, place.port, place.database) == expected
    assert place.tls == ("off" if place.is_local else "verify-full")
    assert place.folder == str(tmp_path / "state" / "records")


WRONG = [
    ("", "no server is named"),
    ('[log.postgresql]\nserver = "mysql://gate@db/audit"\n', "no address of a PostgreSQL server"),
    ('[log.postgresql]\nserver = "postgresql://db/audit"\n', "no address of a PostgreSQL server"),
    ('[log.postgresql]\nserver = "postgresql://gate@db"\n', "no address of a PostgreSQL server"),
    ('[log.postgresql]\nserver = "postgresql://gate@db:x/a"\n', "postgresql://gate@db:x/a"),
    ('[log.postgresql]\nserver = "postgresql://gate@db:0/a"\n', "postgresql://gate@db:0/a"),
    ('[log.postgresql]\nserver = "postgresql://g:secret@db/a"\n', "a password does not belong"),
    ('[log.postgresql]\nserver = "postgresql://g@db/a?sslmode=disable"\n', "no address of a"),
    ('[log.postgresql]\nserver = "postgresql://g@db/a"\ntls = "prefer"\n', "verify-full"),
    ('[log.postgresql]\nserver = "postgresql://g@db/a"\ncertificate = "c"\n', "is one half"),
    ('[log.postgresql]\nserver = "postgresql://g@db/a"\nschema_name = "a;b"\n', "schema_name"),
    (
        '[log.postgresql]\nserver = "postgresql://g@db/a"\npassword = { file = "none" }\n',
        "none: cannot be read",
    ),
    ('[log.postgresql]\nserver = "postgresql://g@db/a"\nca = "none.pem"\n', "cannot be read"),
    (
        """[log.postgresql]
server = "postgresql://g@db/a"
certificate = "no.pem"
key = "no.key"
""",
        "no.key: cannot be read",
    ),
]


@pytest.mark.parametrize(("text", "words"), WRONG)
def test_what_is_wrong_is_said(tmp_path: pathlib.Path, text: str, words: str) -> None:
    _, errors = read(tmp_path, text)
    assert any(words in error for error in errors), errors
    assert not any("secret" in error for error in errors)


def test_key_that_others_may_read_is_refused(tmp_path: pathlib.Path) -> None:
    for name, mode in (("c.pem", 0o644), ("c.key", 0o644)):
        (tmp_path / name).write_text("text\n")
        (tmp_path / name).chmod(mode)
    table = '[log.postgresql]\nserver = "postgresql://g@db/a"\ncertificate = "c.pem"\n'
    _, errors = read(tmp_path, f'{table}key = "c.key"\n')
    assert len(errors) == 1
    assert "c.key" in errors[0]
    assert "chmod" in errors[0]


def test_server_for_another_store_is_refused(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "sluicegate.toml"
    path.write_text('[log.postgresql]\nserver = "postgresql://g@db/a"\n' + LISTENER)
    findings = Findings()
    read_configuration(path, path.read_text(), findings, SecretFiles(tmp_path))
    assert any("is for a store that is not used" in str(error) for error in findings.errors)


def test_library_that_is_missing_is_said_before_the_gate_starts(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    _, errors = read(tmp_path, '[log.postgresql]\nserver = "postgresql://g@db/a"\n')
    assert any("pip install 'sluicegate[postgresql]'" in error for error in errors), errors


@pytest.mark.parametrize(
    "use", [has_store, open_readings, open_partitions], ids=lambda it: it.__name__
)
def test_library_that_is_missing_is_said_to_whoever_asks_the_store(
    monkeypatch: pytest.MonkeyPatch, use: Callable[[StorePlace], object]
) -> None:
    for name in ("connection", "partition", "reading", "schema"):
        monkeypatch.delitem(sys.modules, f"sluicegate.audit.store.postgres_{name}", raising=False)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    place = PostgresPlace(folder="/nowhere", host="db", user="g", database="a")
    with pytest.raises(ConfigError, match=r"pip install 'sluicegate\[postgresql\]'"):
        use(place)


SERVER = '[log.postgresql]\nserver = "postgresql://g@db/a"\npassword = { file = "p" }\n'


def test_password_is_for_who_opens_the_store_and_shown_to_nobody(tmp_path: pathlib.Path) -> None:
    (tmp_path / "p").write_text("hush\n")
    (tmp_path / "p").chmod(0o600)
    secrets = SecretFiles(tmp_path)
    path = tmp_path / "sluicegate.toml"
    path.write_text(f'[log]\nstore = "postgresql"\n{SERVER}{LISTENER}')
    found = read_configuration(path, path.read_text(), Findings(), secrets)
    assert found is not None
    assert found.store is not None
    place = open_place(found.store)
    assert isinstance(place, PostgresPlace)
    assert place.password == "hush"
    assert "hush" not in repr((found.store, place, place.name))
    assert "hush" not in secrets.texts.values()  # which workers are given


def test_command_that_does_not_ask_the_store_needs_no_password(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "sluicegate.toml"
    path.write_text(f'[log]\nstore = "postgresql"\n{SERVER}{LISTENER}')
    findings = Findings()
    state = find_state(path, findings)
    assert findings.errors == []
    assert state is not None
    assert state.store is not None
    with pytest.raises(ConfigRefused, match="p: cannot be read"):
        open_place(state.store)
    place = known_place(state.store)
    assert isinstance(place, PostgresPlace)
    assert "cannot be read" in place.fault
