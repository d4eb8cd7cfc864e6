"""Proxy listeners in the operator's files: what contradicts itself is refused, with its cure."""

from __future__ import annotations

import pathlib

import pytest

from sluicegate.app.load import Loaded, load
from sluicegate.documents import Findings
from sluicegate.gate.entry_dialogue import Authenticate
from sluicegate.identity import HashCost, User, UserFile, hash_password
from sluicegate.names.packets import RecordType
from sluicegate.protocols.detect import EntryProtocol

MAIN = """
[[listener]]
name = "proxy"
address = "127.0.0.1:1080"
entry = "proxy"
{listener}

[resolver]
servers = ["192.0.2.53:53"]
{resolver}
"""
RULE = """
[[rule]]
name = "web"
action = "allow"
listener = "proxy"
clients = ["10.0.0.0/8"]
to = ["*"]
protocols = ["tcp:443"]
"""
PUBLISH = """
[[publish]]
name = "old"
listener = "proxy"
server = "192.0.2.10:21"
clients = ["10.0.0.0/8"]
"""


def read(
    folder: pathlib.Path, listener: str = "", resolver: str = "", policy: str = RULE
) -> tuple[Loaded | None, Findings]:
    main = MAIN.format(listener=listener, resolver=resolver)
    (folder / "sluicegate.toml").write_text(main)
    (folder / "policy.toml").write_text(policy)
    findings = Findings()
    return load(folder / "sluicegate.toml", findings), findings


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    ann = User("ann", hash_password(b"open sesame", HashCost(7168, 1, 1)), ("staff",))
    UserFile(tmp_path / "users.toml").add(ann)
    return tmp_path


def test_proxy_takes_every_protocol_and_asks_nobody_who_they_are(folder: pathlib.Path) -> None:
    loaded, findings = read(folder)
    assert loaded is not None, findings.errors
    entry = loaded.settings.listeners[0].entry
    assert entry is not None
    assert entry.protocols == {
        EntryProtocol.SOCKS4,
        EntryProtocol.SOCKS5,
        EntryProtocol.HTTP_CONNECT,
        EntryProtocol.HTTP,
    }
    assert entry.authenticate is Authenticate.OFF
    assert (findings.errors, findings.warnings) == ([], [])


def test_socks_4_is_left_out_where_credentials_are_required(folder: pathlib.Path) -> None:
    loaded, _ = read(folder, 'authenticate = "required"')
    assert loaded is not None
    entry = loaded.settings.listeners[0].entry
    assert entry is not None
    assert EntryProtocol.SOCKS4 not in entry.protocols


def test_resolver_is_set_up_as_written(folder: pathlib.Path) -> None:
    loaded, _ = read(folder, resolver="ipv6 = false\nuse_mixed_answers = true\nmix_case = false")
    assert loaded is not None
    resolver = loaded.settings.resolver
    assert [str(server) for server in resolver.servers] == ["192.0.2.53:53"]
    assert resolver.record_types == (RecordType.A,)
    assert (resolver.use_mixed_answers, resolver.mix_case) == (True, False)


def test_servers_of_the_machine_are_asked_where_none_is_named(folder: pathlib.Path) -> None:
    main = folder / "sluicegate.toml"
    main.write_text(
        MAIN.format(listener="", resolver="").replace('servers = ["192.0.2.53:53"]', "")
    )
    (folder / "policy.toml").write_text(RULE)
    loaded = load(main, Findings())
    assert loaded is not None
    assert loaded.settings.resolver.servers


WRONG = [
    ({"listener": "protocols = []"}, "listener[0].protocols", "nobody could come"),
    ({"listener": 'protocols = ["socks6"]'}, "listener[0].protocols[0]", "socks6"),
    (
        {"listener": 'protocols = ["socks4"]\nauthenticate = "required"'},
        "listener[0].protocols",
        "no passwords",
    ),
    ({"listener": 'authenticate = "maybe"'}, "listener[0].authenticate", "maybe"),
    ({"resolver": "ipv4 = false\nipv6 = false"}, "resolver.ipv4", "no name would have"),
    ({"resolver": 'nat64_prefixes = ["2001:db8::/65"]'}, "resolver.nat64_prefixes[0]", "6052"),
    ({"resolver": 'nat64_prefixes = ["10.0.0.0/8"]'}, "resolver.nat64_prefixes[0]", "6052"),
    ({"policy": RULE + 'users = ["ann"]\n'}, "rule[0].users", "nobody proves"),
    ({"policy": RULE.replace('"proxy"', '"proxi"')}, "rule[0].listener", "no listener"),
    ({"policy": RULE + PUBLISH}, "publish[0].listener", "is a proxy"),
    ({"policy": RULE + 'filters = ["nothing"]\n'}, "rule[0].filters[0]", "no filter"),
    ({"policy": RULE + RULE}, "rule[1].name", "is taken by rule[0]"),
]


@pytest.mark.parametrize(("files", "where", "cause"), WRONG)
def test_contradiction_is_refused_where_it_stands(
    folder: pathlib.Path, files: dict[str, str], where: str, cause: str
) -> None:
    loaded, findings = read(folder, **files)
    assert loaded is None
    assert any(where in one.where and cause in one.cause for one in findings.errors), [
        str(one) for one in findings.errors
    ]


def test_keys_of_a_proxy_are_refused_on_a_listener_that_publishes(folder: pathlib.Path) -> None:
    main = MAIN.format(listener='authenticate = "off"', resolver="").replace('entry = "proxy"', "")
    (folder / "sluicegate.toml").write_text(main)
    (folder / "policy.toml").write_text(RULE)
    findings = Findings()
    assert load(folder / "sluicegate.toml", findings) is None
    wheres = [error.where for error in findings.errors]
    assert any("listener[0].authenticate" in where for where in wheres)
    assert any("rule[0].listener" in where for where in wheres)


WARNED = [
    ('authenticate = "optional"', RULE + 'users = ["bob"]\n', "nobody is called 'bob'"),
    ('authenticate = "optional"', RULE + 'users = ["group:x"]\n', "nobody is in the group 'x'"),
    ("", "", "no [[rule]] names 'proxy'"),
]


@pytest.mark.parametrize(("listener", "policy", "cause"), WARNED)
def test_what_lets_nobody_in_is_warned_of(
    folder: pathlib.Path, listener: str, policy: str, cause: str
) -> None:
    loaded, findings = read(folder, listener, policy=policy)
    assert loaded is not None, findings.errors
    assert [one.cause for one in findings.warnings if cause in one.cause]


def test_proxy_that_requires_users_is_warned_of_while_there_are_none(
    tmp_path: pathlib.Path,
) -> None:
    loaded, findings = read(tmp_path, 'authenticate = "required"')
    assert loaded is not None
    assert any("there are no users" in one.cause for one in findings.warnings)
