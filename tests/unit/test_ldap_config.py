"""``[ldap]`` in the operator's files: what could let somebody in by mistake is refused."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest

from sluicegate.app.load import Loaded, load
from sluicegate.app.texts import Texts
from sluicegate.documents import Findings
from sluicegate.identity import DirectoryServer, DistinguishedName, GroupName
from tests.pki import authority

MAIN = """
[[listener]]
name = "proxy"
address = "127.0.0.1:1080"
entry = "proxy"
authenticate = "required"

[resolver]
servers = ["192.0.2.53:53"]

[ldap]
"""
RULE = """
[[rule]]
name = "web"
action = "allow"
listener = "proxy"
clients = ["10.0.0.0/8"]
users = ["group:anybody-whom-the-directory-has"]
to = ["*"]
protocols = ["tcp:443"]
"""
PLAIN = {
    "servers": '["ldaps://ldap.example.org", "ldap://192.0.2.7:1389", "ldaps://[2001:db8::7]"]',
    "base_dn": '"ou=people,dc=example,dc=org"',
    "bind_dn": '"cn=gate,dc=example,dc=org"',
    "bind_password": '{ file = "ldap.password" }',
}


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "policy.toml").write_text(RULE)
    (tmp_path / "ca.pem").write_text(authority().pem)
    password = tmp_path / "ldap.password"
    password.touch(0o600)
    password.write_text("a search word\n")
    return tmp_path


def read(
    folder: pathlib.Path, texts: Texts | None = None, /, **keys: str
) -> tuple[Loaded | None, Findings]:
    lines = [f"{key} = {value}\n" for key, value in (PLAIN | keys).items() if value]
    (folder / "sluicegate.toml").write_text(MAIN + "".join(lines))
    findings = Findings()
    return load(folder / "sluicegate.toml", findings, texts=texts), findings


def settings(folder: pathlib.Path, **keys: str) -> Any:
    loaded, findings = read(folder, **keys)
    assert loaded is not None, findings.errors
    assert findings.warnings == []
    return loaded.settings.directory


def test_settings_are_what_was_written(folder: pathlib.Path) -> None:
    found = settings(
        folder,
        ca_file='"ca.pem"',
        user_attribute='"sAMAccountName"',
        group_attribute='"memberOf"',
        groups='{ everybody = "cn=Domain Users,cn=Users,dc=example,dc=org" }',
        tls_name='"LDAP.example.org"',
        nested_groups_depth="3",
        cache_s="0",
    )
    assert found.servers == (
        DirectoryServer("ldap.example.org", 636),
        DirectoryServer("192.0.2.7", 1389, starts_tls=True),
        DirectoryServer("2001:db8::7", 636),
    )
    assert [str(one) for one in found.servers][2] == "ldaps://[2001:db8::7]:636"
    assert found.user_filter == "(sAMAccountName={user})"
    assert found.bind_password == b"a search word"
    assert found.tls_name == "ldap.example.org"
    everybody = DistinguishedName.parse("cn=Domain Users,cn=Users,dc=example,dc=org")
    assert found.group_names == (GroupName("everybody", everybody),)


def test_password_may_be_in_the_environment_or_a_credential(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LDAP_WORD", "from the environment")
    given = settings(folder, bind_password='{ environment = "LDAP_WORD" }')
    assert given.bind_password == b"from the environment"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    given = settings(folder, bind_password='{ credential = "ldap.password" }')
    assert given.bind_password == b"a search word"


def test_whoever_may_not_read_the_files_is_given_what_they_hold(folder: pathlib.Path) -> None:
    loaded, _ = read(folder, ca_file='"ca.pem"')
    assert loaded is not None
    assert "a search word" not in repr(loaded.texts)
    (folder / "ldap.password").unlink()
    (folder / "ca.pem").unlink()
    again, findings = read(folder, loaded.texts, ca_file='"ca.pem"')
    assert again is not None, findings.errors
    assert again.settings.directory == loaded.settings.directory


REFUSED = [
    ({"servers": "[]"}, "servers", "at least 1"),
    ({"servers": '["ldap.example.org"]'}, "servers", "no URL"),
    ({"servers": '["http://ldap.example.org"]'}, "servers", "no URL"),
    ({"servers": '["ldapi:///run/slapd"]'}, "servers", "no URL"),
    ({"servers": '["ldaps://ann@ldap.example.org"]'}, "servers", "'@'"),
    ({"servers": '["ldaps://ldap.example.org/dc=x"]'}, "servers", "'/'"),
    ({"servers": '["ldaps://"]'}, "servers", "no host"),
    ({"servers": '["ldaps://ldap.example.org:0"]'}, "servers", "between 1 and 65535"),
    ({"base_dn": '""'}, "base_dn", "attribute=value"),
    ({"base_dn": '"people"'}, "base_dn", "attribute=value"),
    ({"base_dn": ""}, "base_dn", "is missing"),
    ({"bind_password": ""}, "bind_dn", "go together"),
    ({"bind_dn": ""}, "bind_dn", "go together"),
    ({"bind_password": '{ file = "nowhere" }'}, "bind_password", "cannot be read"),
    ({"bind_password": '{ file = "open" }'}, "bind_password", "everybody can read the password"),
    ({"bind_password": '{ file = "writable" }'}, "bind_password", "others can write it"),
    ({"bind_password": '{ file = "empty" }'}, "bind_password", "is empty"),
    ({"bind_password": '{ environment = "EMPTY" }'}, "bind_password", "search as nobody"),
    ({"bind_password": "{}"}, "bind_password", "one place"),
    ({"bind_password": '{ file = "a", environment = "B" }'}, "bind_password", "one place"),
    ({"bind_password": '{ environment = "NOT_THERE" }'}, "bind_password", "not in the environment"),
    ({"bind_password": '{ credential = "x" }'}, "bind_password", "no credentials"),
    ({"bind_password": '"in clear"'}, "bind_password", "a table"),
    ({"user_filter": '"(uid=ann)"'}, "user_filter", "find anybody"),
    ({"user_filter": '"(uid={user}"'}, "user_filter", "no search filter"),
    ({"user_filter": '"uid={user}"'}, "user_filter", "no search filter"),
    ({"group_filter": '"(objectClass=group)"'}, "group_filter", "find anybody"),
    ({"user_attribute": '"uid)(x"'}, "user_attribute", "no attribute"),
    ({"groups": '{ "a b" = "cn=a" }'}, "groups", "not a name"),
    ({"groups": '{ a = "b" }'}, "groups", "attribute=value"),
    ({"ca_file": '"ldap.password"'}, "ca_file", "no certificate"),
    ({"ca_file": '"nowhere"'}, "ca_file", "cannot be read"),
    ({"ca_file": '"empty"'}, "ca_file", "is empty"),
    ({"tls_name": '"a b"'}, "tls_name", ""),
    ({"nested_groups_depth": "17"}, "nested_groups_depth", "at most 16"),
    ({"timeout_s": "0"}, "timeout_s", "above 0"),
    ({"timeout_s": "11"}, "timeout_s", "at most 10"),
    ({"cache_s": "3601"}, "cache_s", "at most 3600"),
    ({"connections_max": "33"}, "connections_max", "at most 32"),
    ({"start_tls": "false"}, "start_tls", "unknown key"),
]  # fmt: skip


@pytest.mark.parametrize(("keys", "key", "cause"), REFUSED)
def test_what_is_wrong_is_refused_where_it_stands(
    folder: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    keys: dict[str, str],
    key: str,
    cause: str,
) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    monkeypatch.setenv("EMPTY", "")
    for name, mode in (("open", 0o644), ("writable", 0o620), ("empty", 0o600)):
        (folder / name).write_text("" if name == "empty" else "a search word")
        (folder / name).chmod(mode)
    loaded, findings = read(folder, **keys)
    assert loaded is None
    (error,) = findings.errors
    assert error.where.startswith("sluicegate.toml:")
    assert f"ldap.{key}" in error.where
    assert cause in error.cause
    assert "a search word" not in str(error)
