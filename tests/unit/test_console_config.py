"""``[console]``: off without the table, and beyond this machine only with TLS."""

from __future__ import annotations

import pathlib

import pytest

from sluicegate.app.config import Configuration, read_configuration
from sluicegate.app.secret_files import SecretFiles
from sluicegate.documents import Findings

MAIN = '[[listener]]\nname = "echo"\naddress = "127.0.0.1:0"\n'


def read(tmp_path: pathlib.Path, text: str) -> tuple[Configuration | None, list[str]]:
    findings = Findings()
    path = tmp_path / "sluicegate.toml"
    made = read_configuration(path, MAIN + text, findings, SecretFiles(tmp_path))
    return made, [str(error) for error in findings.errors]


def test_there_is_no_console_unless_it_is_asked_for(tmp_path: pathlib.Path) -> None:
    made, _ = read(tmp_path, "")
    assert made is not None
    assert made.console is None
    assert made.own_services == ()


def test_console_is_on_loopback_and_counts_among_the_gate_s_own(tmp_path: pathlib.Path) -> None:
    made, errors = read(tmp_path, "[console]\n")
    assert errors == []
    assert made is not None
    assert made.console is not None
    assert made.console.listen == "127.0.0.1:8643"
    assert [str(one) for one in made.own_services] == ["127.0.0.1:8643"]
    assert made.console.folder == str(tmp_path / "state" / "console")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('listen = "0.0.0.0:8643"', "reached from other machines"),
        ('listen = "192.0.2.1:8643"', "reached from other machines"),
        ('listen = "[::]:8643"', "reached from other machines"),
        ('certificate = "a.pem"', "one half"),
        ('key = "a.key"', "one half"),
        ('hosts = ["a b"]', "hosts"),
        ('hosts = ["gate:8643"]', "hosts"),
        ('listen = "localhost:8643"', "localhost"),
        ("port = 8643", "port"),
        ('[console.oidc]\nissuer = "http://id.example"\nclient_id = "a"', "without TLS"),
        ('[console.oidc]\nissuer = "https://id.example"\nclient_id = "a"', "nobody a role"),
        ('[console.oidc]\nissuer = "https://id.example"\nviewers = ["a"]', "client_id"),
    ],
)
def test_wrong_console_is_refused(tmp_path: pathlib.Path, text: str, said: str) -> None:
    _, errors = read(tmp_path, f"[console]\n{text}\n")
    assert len(errors) == 1
    assert said in errors[0]


@pytest.mark.parametrize(
    "text",
    [
        'listen = "0.0.0.0:443"\ncertificate = "a.pem"\nkey = "a.key"',
        'listen = "0.0.0.0:8643"\nbehind_tls = true',
        'listen = "[::1]:8643"',
        'listen = "127.8.9.10:8643"\nhosts = ["gate.example.com"]',
    ],
)
def test_console_is_taken(tmp_path: pathlib.Path, text: str) -> None:
    made, errors = read(tmp_path, f"[console]\n{text}\n")
    assert errors == []
    assert made is not None
    assert made.console is not None
