"""Users of a real directory through a whole gate: by SOCKS 5 and by CONNECT, worker and inline."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator

import pytest

from tests.kernel.test_gate_process import SLUICEGATE

from .dns_parts import dnsmasq_server
from .entry_parts import curl
from .ldap_parts import GROUPS, PEOPLE, SEARCH_PASSWORD, SEARCHER, Slapd, slapd_server
from .sample_parts import WebServer
from .test_entry_gate import PAGE, ProxyGate

pytestmark = pytest.mark.either_driver

HOW = {
    "socks5": ("--proxy", "socks5h://127.0.0.1:{}"),
    "connect": ("--proxytunnel", "--proxy", "http://127.0.0.1:{}"),
}
every_way = pytest.mark.parametrize("how", HOW)


class LdapGate(ProxyGate):
    """A gate whose users are in a directory, but for one of the file."""

    slapd: Slapd

    def write_main(self, more: str = "") -> None:
        password = self.folder / "ldap.password"
        password.touch(0o600)
        password.write_text(f"{SEARCH_PASSWORD}\n")
        super().write_main(
            f'[ldap]\nservers = ["ldaps://ldap.names.test:{self.slapd.tls_port}"]\n'
            f'base_dn = "{PEOPLE}"\nbind_dn = "{SEARCHER}"\n'
            f'bind_password = {{ file = "ldap.password" }}\nca_file = "{self.slapd.ca_path}"\n'
            f'group_attribute = "memberOf"\ngroup_base_dn = "{GROUPS}"\ncache_s = 0\n'
            f"[limits]\npassword_failures_max = 1000\n{more}"
        )


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    folder = tmp_path_factory.mktemp("web")
    (folder / "page").write_bytes(PAGE)
    server = WebServer(folder)
    yield server
    server.close()


@pytest.fixture(scope="module")
def slapd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    with slapd_server(tmp_path_factory.mktemp("slapd") / "one") as server:
        yield server


@pytest.fixture(scope="module", params=["--inline", "--workers=1"])
def gate(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    web: WebServer,
    slapd: Slapd,
) -> Iterator[LdapGate]:
    folder = tmp_path_factory.mktemp("gate")
    with dnsmasq_server(folder) as dns_port, contextlib.ExitStack() as ending:
        LdapGate.slapd = slapd
        gate = LdapGate(folder / "gate", web.port, dns_port, "required")
        gate.mode = (request.param,)
        ending.callback(gate.close)
        gate.start()
        yield gate


def fetch(
    gate: LdapGate, how: str, user: str
) -> tuple[subprocess.CompletedProcess[bytes], dict[str, str]]:
    """Let curl ask for the page as a user; return what came of it, and the decision."""
    before = len(gate.records("decision"))
    proxy = [part.format(gate.port) for part in HOW[how]]
    url = f"http://web.names.test:{gate.server_port}/page"
    done = curl("--noproxy", "", *proxy, "--proxy-user", user, url)
    return done, gate.recorded("decision", count=before + 1)[-1]


@every_way
def test_a_user_of_the_directory_gets_what_its_group_may_have(gate: LdapGate, how: str) -> None:
    """``ann`` and ``odd`` are of ``staff``, by the file and by the directory; ``Bob`` is not."""
    done, record = fetch(gate, how, "odd:odd word")
    assert (done.stdout, record["user"], record["rule"]) == (PAGE, "odd", "web")
    done, record = fetch(gate, how, "bob:another word")
    assert done.returncode != 0
    assert (record["reason"], record["user"]) == ("no-rule", "Bob")
    for wrong in ("bob:another  word", "nobody:another word", "nopass:x", "b*:another word"):
        done, record = fetch(gate, how, wrong)
        assert done.returncode != 0
        assert record["reason"] == "wrong-password"


@every_way
def test_the_users_file_goes_before_the_directory(gate: LdapGate, how: str) -> None:
    """``ann`` is in both, with the same password."""
    done, record = fetch(gate, how, "ann:open sesame")
    assert (done.stdout, done.stderr, record["user"]) == (PAGE, b"", "ann")
    _, record = fetch(gate, how, "ANN:open sesame")
    assert record["reason"] == "directory-failed: ann is a user of the users file"


def test_q5_q6_passwords_of_users_and_of_the_gate_are_in_no_record_and_no_answer(
    gate: LdapGate,
) -> None:
    for how in HOW:
        fetch(gate, how, "twin:a secret word")
        fetch(gate, how, "twin:twin word")
    written = (gate.folder / "state" / "records.jsonl").read_text()
    shown = "".join(gate.ask(what, "--json").stdout for what in ("status", "connections"))
    shown += gate.ask("log").stdout + gate.ask("check").stdout
    said = written + shown + "".join(gate.lines)
    for secret in ("a secret word", "twin word", SEARCH_PASSWORD, "dHdpbj"):
        assert secret not in said
    assert "Proxy-Authorization" not in said


def test_a_directory_that_is_down_lets_nobody_in_and_says_so(gate: LdapGate, slapd: Slapd) -> None:
    slapd.stop()
    try:
        for how in HOW:
            done, record = fetch(gate, how, "twin:twin word")
            assert done.returncode != 0
            assert record["reason"].startswith("directory-failed: ldaps://ldap.names")
        assert fetch(gate, "connect", "ann:open sesame")[0].stdout == PAGE
    finally:
        slapd.start()
    assert fetch(gate, "connect", "twin:twin word")[1]["reason"] == "no-rule"


def test_a_reload_takes_another_password_over_and_a_wrong_one_lets_nobody_in(
    gate: LdapGate,
) -> None:
    password = gate.folder / "ldap.password"
    for text, reason in (
        ("another", "refuses the password of bind_dn"),
        (SEARCH_PASSWORD, "no-rule"),
    ):
        password.write_text(f"{text}\n")
        assert gate.ask("reload").returncode == 0
        assert reason in fetch(gate, "socks5", "twin:twin word")[1]["reason"]
    password.chmod(0o644)
    refused = gate.ask("reload")
    password.chmod(0o600)
    assert refused.returncode != 0
    assert "everybody can read the password" in refused.stderr
    assert fetch(gate, "socks5", "twin:twin word")[1]["reason"] == "no-rule"


def ask_user_test(gate: LdapGate, password: str, *arguments: str) -> tuple[int, str]:
    command = [*SLUICEGATE, "user", "test", "-c", str(gate.config), *arguments]
    done = subprocess.run(command, input=password, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_operators_ask_what_the_gate_would_say(gate: LdapGate) -> None:
    code, said = ask_user_test(gate, "another word\n", "bob", "--json")
    found = json.loads(said)
    assert code == 0, found
    assert (code, found["name"], found["source"]) == (0, "Bob", "directory")
    assert found["groups"] == ["level0", "round"]
    code, said = ask_user_test(gate, "open sesame\n", "ann")
    assert code == 0
    assert said.startswith("accepted: ann (users file, ")
    code, said = ask_user_test(gate, "wrong\n", "bob")
    assert code == 1
    assert said.startswith("refused: there is no such user, or the password is another")
    code, said = ask_user_test(gate, "", "twin", "--no-password")
    assert (code, "uid=twin,ou=people" in said) == (0, True)
