"""``sluicegate explain``: the answer, how it came about, its exit codes and its errors."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sluicegate.cli.main import cli

MAIN = """\
[[listener]]
name = "proxy"
address = "0.0.0.0:1080"
entry = "proxy"
authenticate = "optional"

[[listener]]
name = "ftp"
address = "127.0.0.1:2121"

[[filter]]
name = "ftp_access"

[resolver]
servers = ["127.0.0.1:9"]
"""
POLICY = """\
[objects.schedules.office]
time_zone = "Europe/Berlin"
weekly = ["mon-fri 09:00-17:00"]

[objects.protocols.ftp]
ports = ["tcp:21"]
direction = "outbound"
filters = ["ftp_access"]

[[publish]]
name = "ftp"
listener = "ftp"
server = "192.0.2.10:21"
clients = ["10.0.0.0/8"]
filters = ["ftp_access"]

[[rule]]
name = "no-social"
action = "deny"
clients = ["10.0.0.0/8"]
to = ["*.social.example.org", "198.51.100.0/24"]
owner = "soc"
comment = "ticket \\u001b[2J 7"

[[rule]]
name = "staff"
action = "allow"
clients = ["10.1.0.0/16"]
users = ["group:staff"]
to = ["db.example.org"]
protocols = ["tcp:5432"]

[[rule]]
name = "office"
action = "allow"
clients = ["10.2.0.0/16"]
to = ["hours.example.org"]
protocols = ["@https"]
schedule = "office"

[[rule]]
name = "reads"
action = "allow"
clients = ["10.0.0.0/8"]
to = ["api.example.org"]
methods = ["GET"]
protocols = ["tcp:443"]

[[rule]]
name = "files"
action = "allow"
clients = ["10.0.0.0/8"]
to = ["files.example.org"]
protocols = ["@ftp"]
content_types = [".pdf"]

[[rule]]
name = "web"
action = "allow"
clients = ["10.0.0.0/8"]
to = ["*.example.org", "192.168.7.0/24", "0.0.0.0/0"]
protocols = ["@https", "tcp:1080"]
limits = { bytes_max = "1 GiB", connections_max = 5 }

[[network_rule]]
name = "out"
from = ["10.0.0.0/8"]
to = ["0.0.0.0/1", "192.0.0.0/8"]
relation = "route"
"""
USERS = """\
[[user]]
name = "bob"
groups = ["staff"]
password_hash = "$argon2id$v=19$m=7168,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$\
AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
"""


@pytest.fixture
def config(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "policy.toml").write_text(POLICY)
    users = tmp_path / "users.toml"
    users.write_text(USERS)
    os.chmod(users, 0o600)
    path = tmp_path / "sluicegate.toml"
    path.write_text(MAIN)
    return path


def invoke(config: pathlib.Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["explain", "-c", str(config), *arguments])


def told(config: pathlib.Path, *arguments: str) -> dict[str, Any]:
    result = invoke(config, *arguments, "--json")
    answer: dict[str, Any] = json.loads(result.stdout)
    assert result.exit_code == (0 if answer["allowed"] else 1)
    return answer


def test_allowed_name_is_told_with_rule_limits_and_what_the_rules_before_lacked(
    config: pathlib.Path,
) -> None:
    answer = told(config, "--from", "10.1.2.3", "--to", "WWW.Example.ORG.")
    assert (answer["allowed"], answer["rule"]["name"]) == (True, "web")
    assert (answer["host"], answer["port"]) == ("www.example.org", 443)
    assert [one["rule"] for one in answer["before"]] == [
        "no-social", "staff", "office", "reads", "files",
    ]  # fmt: skip
    assert answer["before"][0]["lacks"][0]["key"] == "to"
    assert answer["limits"] == {"bytes_max": 1 << 30, "connections_max": 5}
    assert answer["lookup"]["state"] == "not-asked"


def test_refused_name_is_told_with_its_rule_and_owner_made_printable(config: pathlib.Path) -> None:
    result = invoke(config, "--from", "10.1.2.3", "--to", "a.social.example.org:443")
    assert result.exit_code == 1
    assert "decided by [[rule]] no-social (action deny)" in result.stdout
    assert "soc: ticket \\x1b[2J 7" in result.stdout
    assert "\x1b" not in result.stdout
    assert "nothing is looked up for what is refused" in result.stdout


@pytest.mark.parametrize("port", ["443", "80"])
def test_refused_name_is_never_looked_up_though_it_was_asked_for(
    config: pathlib.Path, port: str
) -> None:
    # (The one server does not answer: a lookup would be told as such.)
    answer = told(config, "--from", "10.1.2.3", "--to", f"a.social.example.org:{port}", "--resolve")
    assert answer["lookup"] == {
        "state": "not-allowed", "reason": "", "addresses": [], "aliases": [],
    }  # fmt: skip


def test_lookup_that_fails_refuses_and_says_so(config: pathlib.Path) -> None:
    answer = told(config, "--from", "10.1.2.3", "--to", "www.example.org", "--resolve")
    assert not answer["allowed"]
    assert answer["lookup"]["state"] == "refused"
    assert answer["reason"].startswith("dns-server")


ADDRESSES = [
    ("192.168.7.9", True, ""),
    ("198.51.100.7", False, "denied-by-rule"),
    ("127.0.0.1", False, "address-denied"),
    ("[2001:db8::1]", False, "no-rule"),
    ("203.0.113.9", False, "no-network-rule"),
    ("150.1.1.1", False, "no-network-rule"),
    ("1.1.1.1", True, ""),
]


@pytest.mark.parametrize(("text", "is_allowed", "reason"), ADDRESSES)
def test_addresses_are_judged_without_a_lookup(
    config: pathlib.Path, text: str, is_allowed: bool, reason: str
) -> None:
    answer = told(config, "--from", "10.1.2.3", "--to", f"{text}:443")
    assert answer["allowed"] == is_allowed
    assert answer["reason"].startswith(reason)
    if is_allowed:
        (address,) = answer["lookup"]["addresses"]
        assert (address["network_rule"], address["relation"]) == ("out", "route")


def test_spelling_that_has_no_reading_is_refused_with_the_gates_reason(
    config: pathlib.Path,
) -> None:
    answer = told(config, "--from", "10.1.2.3", "--to", "0x7f.1:443")
    assert (answer["reason"], answer["rule"]) == ("host-ipv4-form", None)


def test_user_of_the_file_has_its_groups_and_others_those_that_are_given(
    config: pathlib.Path,
) -> None:
    asked = ("--from", "10.1.2.3", "--to", "db.example.org:5432")
    assert told(config, *asked)["reason"] == "user-needed"
    assert told(config, *asked, "--user", "bob")["rule"]["name"] == "staff"
    assert told(config, *asked, "--user", "ann", "--group", "staff")["groups"] == ["staff"]
    result = invoke(config, *asked, "--user", "ann")
    assert result.exit_code == 1
    assert "the users file has no 'ann'" in result.stderr


def test_schedule_is_asked_at_the_time_that_is_given(config: pathlib.Path) -> None:
    asked = ("--from", "10.2.0.1", "--to", "hours.example.org")
    monday = told(config, *asked, "--at", "2027-02-01T10:00:00+01:00")
    sunday = told(config, *asked, "--at", "2027-01-31T10:00:00+01:00")
    assert (monday["rule"]["name"], sunday["rule"]["name"]) == ("office", "web")
    lacking = {one["rule"]: one["lacks"][0]["key"] for one in sunday["before"]}
    assert lacking["office"] == "schedule"


def test_request_and_object_are_judged_when_they_are_given(config: pathlib.Path) -> None:
    asked = ("--from", "10.1.2.3", "--to", "https://api.example.org/a/b")
    assert told(config, *asked)["rule"]["name"] == "reads"
    assert told(config, *asked, "--method", "POST")["rule"]["name"] == "web"
    file = ("--from", "10.1.2.3", "--to", "files.example.org:21")
    assert told(config, *file, "--content-type", ".PDF")["rule"]["name"] == "files"
    assert told(config, *file, "--content-type", ".exe")["reason"] == "no-rule"
    pending = told(config, *file)
    assert (pending["allowed"], pending["asked_again"]) == (True, ["transfer"])
    (used,) = pending["filters"]
    assert (used["name"], used["kind"], used["is_bound"]) == ("ftp_access", "filter", True)
    assert (used["on_failure"], used["sees"]) == ("deny", {})


def test_publication_is_explained_by_its_listener_alone(config: pathlib.Path) -> None:
    answer = told(config, "--from", "10.1.2.3", "--listener", "ftp")
    assert (answer["rule"]["kind"], answer["server"]) == ("publish", "192.0.2.10:21")
    assert [one["name"] for one in answer["filters"]] == ["ftp_access"]
    refused = told(config, "--from", "11.1.2.3", "--listener", "ftp")
    assert refused["reason"] == "client-not-listed"
    assert refused["before"][0]["lacks"][0]["key"] == "clients"


def test_policy_may_be_another_file_and_its_findings_name_it(
    config: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    other = tmp_path / "new.toml"
    other.write_text(
        '[[rule]]\nname = "all"\naction = "allow"\nclients = ["10.0.0.0/8"]\nto = ["*"]\n'
        'protocols = ["tcp"]\n'
    )
    answer = told(
        config, "--from", "10.1.2.3", "--to", "a.social.example.org", "--policy", str(other)
    )
    assert answer["rule"]["name"] == "all"
    other.write_text("[[rule]\n")
    result = invoke(config, "--from", "10.1.2.3", "--to", "a.b", "--policy", str(other))
    assert result.exit_code == 2
    assert "new.toml:1" in result.stderr


WRONG = [
    (["--to", "a.b"], "Missing option '--from'"),
    (["--from", "nobody", "--to", "a.b"], "is no address"),
    (["--from", "10.0.0.1", "--to", "a.b", "--listener", "x"], "there is: proxy, ftp"),
    (["--from", "10.0.0.1", "--to", "a.b", "--listener", "ftp"], "publishes a server"),
    (["--from", "10.0.0.1", "--listener", "proxy"], "say where the client wants to go"),
    (["--from", "10.0.0.1", "--to", "a.b", "--at", "2027-01-01T00:00:00"], "offset"),
    (["--from", "10.0.0.1", "--to", "a.b", "--group", "g"], "groups are those of a user"),
]


@pytest.mark.parametrize(("arguments", "said"), WRONG)
def test_wrong_questions_are_told_with_exit_code_2(
    config: pathlib.Path, arguments: list[str], said: str
) -> None:
    result = invoke(config, *arguments)
    assert result.exit_code == 2
    assert said in result.stderr


def test_long_lists_of_rules_are_shown_whole_on_demand(config: pathlib.Path) -> None:
    rule = '[[rule]]\nname = "r{0}"\naction = "deny"\nto = ["r{0}.a.example"]\n'
    rule += 'clients = ["10.0.0.0/8"]\n'
    many = "".join(rule.format(number) for number in range(80))
    config.with_name("policy.toml").write_text(many)
    short = invoke(config, "--from", "10.1.2.3", "--to", "www.example.org").stdout
    assert "80 rules did not match" in short
    assert "the last 50 of them; --all shows every one" in short
    assert "r0:" not in short
    assert "r0:" in invoke(config, "--from", "10.1.2.3", "--to", "a.b", "--all").stdout


# -- ClientHellos ----------------------------------------------------------------------------------

TO, LISTED = "www.example.org", "hidden.social.example.org"
SNI: list[tuple[str, list[str], str]] = [
    ("the name", ["--to", TO, "--sni", TO], ""),
    ("in capitals", ["--to", TO, "--sni", TO.upper()], ""),
    ("another name", ["--to", TO, "--sni", "b.example"], "tls-sni-mismatch: b.example"),
    ("no name", ["--to", TO, "--sni", ""], "tls-sni-missing"),
    ("an address", ["--to", TO, "--sni", "192.0.2.1"], "tls-sni-address: 192.0.2.1"),
    ("no name at all", ["--to", TO, "--sni", "a b"], "tls-sni-form: host-space"),
    ("another port", ["--to", f"{TO}:1080", "--sni", "b.example"], ""),
    ("a name to an address", ["--to", "192.168.7.7", "--sni", TO], ""),
    ("a refused name to an address", ["--to", "192.168.7.7", "--sni", LISTED],
     f"tls-sni-not-allowed: {LISTED} denied-by-rule"),
    ("a name that leads nowhere", ["--to", "192.168.7.7", "--sni", TO, "--resolve"],
     f"tls-sni-elsewhere: {TO} dns-server"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "reason"), [case[1:] for case in SNI], ids=[case[0] for case in SNI]
)
def test_hello_is_judged_as_a_gate_would(
    config: pathlib.Path, asked: list[str], reason: str
) -> None:
    answer = told(config, "--from", "10.1.2.3", *asked)
    assert answer["rule"]["name"] == "web"
    assert answer["allowed"] is not bool(reason)
    assert answer["reason"].startswith(reason or "allowed-by-rule")
    assert answer["action"] == ("reset" if reason else "allow")


def test_what_a_hello_has_to_have_is_told(config: pathlib.Path) -> None:
    answer = told(config, "--from", "10.1.2.3", "--to", TO)
    assert answer["hello"] == {
        "wants": {
            "sni": "match", "without_sni": "refuse", "address_as_sni": "refuse",
            "ech": "refuse", "not_tls": "refuse", "version_min": "any",
        },
        "names": [TO], "sni": None, "reason": "", "mode": "splice", "opening": {},
    }  # fmt: skip
    shown = invoke(config, "--from", "10.1.2.3", "--to", TO, "--sni", "b.example\x1b[2J").stdout
    assert f"it has to have the name {TO}; without_sni refuse" in shown
    assert "refused (tls-sni-form: host-control-character)" in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize(
    "asked", [["--to", f"{TO}:1080"], ["--to", LISTED], ["--listener", "ftp"]], ids=str
)
def test_nothing_is_told_of_hellos_that_nobody_looks_at(
    config: pathlib.Path, asked: list[str]
) -> None:
    assert told(config, "--from", "10.1.2.3", *asked)["hello"] is None


def test_hello_to_a_published_server_is_judged_by_its_names(config: pathlib.Path) -> None:
    text = POLICY.replace('"192.0.2.10:21"', '"192.0.2.10:21"\ntls = { names = ["*.b.example"] }')
    (config.parent / "policy.toml").write_text(text)
    for name, reason in (
        ("a.b.example", "published"),
        ("b.example", "tls-sni-mismatch: b.example"),
    ):
        answer = told(config, "--from", "10.1.2.3", "--listener", "ftp", "--sni", name)
        assert (answer["reason"], answer["hello"]["names"]) == (reason, ["*.b.example"])


HOLDS = """
[[filter]]
name = "exe_block"

[[filter]]
name = "http_filter"
"""
HOLDING = """
[[rule]]
name = "held"
action = "allow"
clients = ["10.0.0.0/8"]
to = ["files.example.com"]
protocols = ["tcp:80"]
filters = ["http_filter", "exe_block"]

[rule.settings.http_filter]
executables = "all"

[rule.held]
unknown_codings = "judge"
delivery = [{ content_types = [".zip"], method = "progress-page", after_s = 3 }]
"""


def test_what_is_held_and_how_clients_wait_is_explained(tmp_path: pathlib.Path) -> None:
    (tmp_path / "policy.toml").write_text(POLICY + HOLDING)
    path = tmp_path / "sluicegate.toml"
    path.write_text(MAIN + HOLDS)
    asked = ("--from", "10.1.2.3", "--to", "http://files.example.com/a.zip")
    answer = told(path, *asked)
    assert answer["filters"][0]["sees"] == {"request": "headers", "response": "stream"}
    holds = answer["holds"]
    assert holds["downloads"] == ["exe_block"]
    assert holds["unknown_codings"] == "judge"
    assert holds["delivery"] == [
        {"method": "progress-page", "after_s": 3.0, "content_types": [".zip"]},
        {"method": "trickle", "after_s": 10.0, "content_types": []},
    ]
    shown = invoke(path, *asked).stdout
    assert "held       " in shown
    assert ".zip: progress-page after 3 s" in shown
    assert "all others: trickle after 10 s" in shown
    assert "response stream" in shown
    nothing = told(path, "--from", "10.1.2.3", "--to", "api.example.org")
    assert nothing["holds"] is None
