"""``sluicegate explain`` and ``check`` of listeners that publish inside TLS."""

from __future__ import annotations

import json
import pathlib

import pytest
from click.testing import CliRunner, Result

from sluicegate.cli.main import cli
from tests.pki import authority

MAIN = """\
[[listener]]
name = "https"
address = "127.0.0.1:8443"

[listener.tls]
folder = "certificates"
"""
POLICY = """\
[objects.protocols.ftp]
ports = ["tcp:21"]
secondary = [{ ports = "tcp:1024-65535", direction = "inbound" }]

[[publish]]
name = "shop"
listener = "https"
server = "192.0.2.10:80"
clients = ["10.0.0.0/8"]
"""


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "certificates").mkdir()
    authority().server("www.example.org", "*.shop.example.org", days=(-1, 90)).write(
        tmp_path / "certificates", "www"
    )
    (tmp_path / "sluicegate.toml").write_text(MAIN)
    (tmp_path / "policy.toml").write_text(POLICY)
    return tmp_path


def run(folder: pathlib.Path, command: str, *more: str) -> Result:
    return CliRunner().invoke(cli, [command, "-c", str(folder / "sluicegate.toml"), *more])


SNI = [
    ("www.example.org", 0, ""),
    ("a.shop.example.org", 0, ""),
    ("evil.example.org", 1, "tls-sni-unknown: evil.example.org"),
    ("192.0.2.1", 1, "tls-sni-address: 192.0.2.1"),
    ("", 1, "tls-sni-missing"),
]


@pytest.mark.parametrize(("sni", "code", "reason"), SNI)
def test_a_name_is_judged_as_the_gate_judges_it(
    folder: pathlib.Path, sni: str, code: int, reason: str
) -> None:
    done = run(folder, "explain", "--from", "10.1.2.3", "--sni", sni)
    assert done.exit_code == code, done.output
    assert reason in done.output
    assert "spoken with the gate, for www.example.org, *.shop.example.org" in done.output


def test_the_answer_has_what_is_wanted_of_clients(folder: pathlib.Path) -> None:
    done = run(folder, "explain", "--from", "10.1.2.3", "--json")
    hello = json.loads(done.stdout)["hello"]
    assert hello["mode"] == "own"
    assert hello["wants"] == {
        "unknown_names": "refuse",
        "client_certificates": "off",
        "minimum": "1.2",
    }


WRONG = [
    ('tls = { names = ["www.example.org"] }', "speaks it with clients itself"),
    ('server_tls = "a b"', "' '"),
    ('http = true\ntls = { names = ["a.example"] }', "requests are read here"),
]


@pytest.mark.parametrize(("more", "cause"), WRONG)
def test_a_publication_that_would_judge_what_the_gate_answers_is_refused(
    folder: pathlib.Path, more: str, cause: str
) -> None:
    (folder / "policy.toml").write_text(f"{POLICY}{more}\n")
    done = run(folder, "check")
    assert done.exit_code != 0
    assert cause in done.output


def test_secondary_connections_that_stay_in_clear_are_warned_of(folder: pathlib.Path) -> None:
    (folder / "policy.toml").write_text(f'{POLICY}protocol = "@ftp"\n')
    done = run(folder, "check")
    assert done.exit_code == 0, done.output
    assert "the secondary connections of 'ftp' are not inside TLS" in done.output


def test_datagrams_are_not_spoken_of_in_tls(folder: pathlib.Path) -> None:
    (folder / "sluicegate.toml").write_text(MAIN.replace("\n\n", '\ntransport = "udp"\n\n', 1))
    done = run(folder, "check")
    assert done.exit_code != 0
    assert "is spoken in streams" in done.output
