"""What the how-to about PostgreSQL says is true: its statements and its configuration work."""

from __future__ import annotations

import pathlib
import re

from sluicegate.app.config import read_configuration
from sluicegate.app.secret_files import SecretFiles
from sluicegate.audit.store import LogPosition, LogStore
from sluicegate.clock import SystemClock
from sluicegate.documents import Findings
from tests.real.postgres_parts import Cluster
from tests.unit.store.store_kit import KEPT, line_of

PAGE = pathlib.Path("docs/howto/keep-the-log-in-postgresql.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_statements_of_the_page_work(postgres: Cluster, tmp_path: pathlib.Path) -> None:
    make, reader, question = blocks("sql")
    statements = [one for one in make.split(";") if one.strip()]
    postgres.execute(*[one.replace("audit", "howto") for one in statements], database="postgres")
    place = postgres.place(tmp_path, user="sluicegate", database="howto", schema="sluicegate")
    clock = SystemClock()
    store = LogStore(place, clock, KEPT)
    line = line_of(1, clock.wall(), url="http://www.example.com/", reason="allowed")
    store.append([line], LogPosition(7, 1))
    postgres.execute(*[one for one in reader.split(";") if one.strip()], database="howto")
    rows = postgres.execute("SET ROLE auditor", question, database="howto")
    store.close()
    assert [row[1:] for row in rows] == [("10.0.0.1:1", "allowed", "allowed")]


def test_configuration_of_the_page_is_taken(tmp_path: pathlib.Path) -> None:
    (tmp_path / "audit.password").write_text("word\n")
    (tmp_path / "audit.password").chmod(0o600)
    (tmp_path / "db-ca.pem").write_text("an authority\n")
    (text,) = blocks("toml")
    listener = '[[listener]]\nname = "echo"\naddress = "127.0.0.1:0"\n'
    findings = Findings()
    path = tmp_path / "sluicegate.toml"
    found = read_configuration(path, listener + text, findings, SecretFiles(tmp_path))
    assert [str(error) for error in findings.errors] == []
    assert found is not None
    assert found.store is not None
    assert found.store.place.name == "postgresql://sluicegate@db.example.com:5432/audit"
