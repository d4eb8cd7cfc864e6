"""The console's pages and its API on a store that a PostgreSQL server keeps."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest

from sluicegate.console.roles import Role
from sluicegate.console.tokens import Tokens
from tests.kernel.test_gate_process import EchoServer, GateProcess, echoed
from tests.real.console.console_kit import ConsoleGate
from tests.real.postgres_parts import PASSWORD, Cluster
from tests.real.stores.test_gate import TABLE
from tests.waiting import wait_until


class PostgresConsole(ConsoleGate):
    """A console whose gate has no SQLite store."""

    def write_main(self, more: str = "") -> None:
        GateProcess.write_main(self, '[console]\nlisten = "127.0.0.1:0"\n' + more)


@pytest.fixture
def gate(postgres: Cluster, tmp_path: pathlib.Path) -> Iterator[PostgresConsole]:
    server = EchoServer()
    made = PostgresConsole(tmp_path, server.port)
    (tmp_path / "audit.password").write_text(PASSWORD + "\n")
    (tmp_path / "audit.password").chmod(0o600)
    place = postgres.by_network(tmp_path / "state" / "records")
    made.write_main(TABLE.format(place=place))
    made.add_users()
    made.start()
    yield made
    made.close()
    server.close()


def test_pages_show_what_the_server_keeps_and_say_when_it_is_gone(
    gate: PostgresConsole, postgres: Cluster
) -> None:
    for _ in range(3):
        with gate.connect() as client:
            assert echoed(client, b"hello") == b"hello"
    program = gate.program()
    token = Tokens(gate.folder / "state" / "console").add("program", Role.VIEWER)
    program.headers["authorization"] = f"Bearer {token}"

    def found() -> list[object]:
        answer = program.get("/api/v1/records", params={"query": "kind:connection"})
        return answer.json()["rows"] if answer.status_code == 200 else []

    wait_until(lambda: len(found()) == 3, "they are not stored", 0.2)
    operator = gate.logged_in("operator")
    for page in ("/", "/log?q=kind:connection", "/policy"):
        answer = operator.get(page)
        assert answer.status_code == 200, page
        assert "cannot be read" not in answer.text
    postgres.kill()
    try:
        assert "is it running" in operator.get("/log").text
        assert operator.get("/").status_code == 200
    finally:
        postgres.start()
    assert len(found()) == 3
