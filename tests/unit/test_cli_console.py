"""``sluicegate console``: people and programs are let in and put out, from the command line."""

from __future__ import annotations

import json
import pathlib
import stat

import pytest
from click.testing import CliRunner, Result

from sluicegate.cli.main import cli
from sluicegate.console.accounts import Accounts
from sluicegate.console.roles import Role
from sluicegate.console.tokens import Tokens

PASSWORD = "correct horse battery"


@pytest.fixture
def config(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "sluicegate.toml"
    path.write_text('[[listener]]\nname = "echo"\naddress = "127.0.0.1:0"\n[console]\n')
    return path


def run(config: pathlib.Path, *words: str, given: str = "") -> Result:
    kind, action, *rest = words
    arguments = ["console", kind, action, "-c", str(config), *rest]
    return CliRunner().invoke(cli, arguments, input=given)


def folder(config: pathlib.Path) -> pathlib.Path:
    return config.parent / "state" / "console"


def test_user_who_was_added_may_log_in(config: pathlib.Path) -> None:
    done = run(config, "user", "add", "ann", "--role", "operator", given=f"{PASSWORD}\n")
    assert (done.exit_code, done.output) == (0, "added ann, operator\n")
    assert stat.S_IMODE(folder(config).stat().st_mode) == 0o700
    assert PASSWORD not in (folder(config) / "users.toml").read_text()
    ann = Accounts(str(folder(config))).find("ann")
    assert ann is not None
    assert ann.role is Role.OPERATOR


def test_users_are_listed_changed_and_removed(config: pathlib.Path) -> None:
    run(config, "user", "add", "ann", given=f"{PASSWORD}\n")
    before = (folder(config) / "users.toml").read_text()
    assert run(config, "user", "password", "ann", given="another long one\n").exit_code == 0
    assert (folder(config) / "users.toml").read_text() != before
    (listed,) = json.loads(run(config, "user", "list", "--json").output)
    assert (listed["name"], listed["role"]) == ("ann", "viewer")
    assert run(config, "user", "remove", "ann").exit_code == 0
    assert json.loads(run(config, "user", "list", "--json").output) == []


@pytest.mark.parametrize(
    ("words", "given", "said"),
    [
        (("user", "add", "a b"), "", "is not a name"),
        (("user", "add", "bob"), "short\n", "too short"),
        (("user", "add", "bob"), "", "no password"),
        (("user", "add", "ann"), f"{PASSWORD}\n", "already"),
        (("user", "password", "bob"), f"{PASSWORD}\n", "no user"),
        (("user", "remove", "bob"), "", "no user"),
        (("user", "add", "bob", "--role", "king"), "", "king"),
        (("token", "add", "a/b"), "", "is not a name"),
        (("token", "add", "known"), "", "already"),
        (("token", "remove", "bob"), "", "no token"),
    ],
)
def test_what_cannot_be_is_refused_with_a_reason(
    config: pathlib.Path, words: tuple[str, ...], given: str, said: str
) -> None:
    run(config, "user", "add", "ann", given=f"{PASSWORD}\n")
    run(config, "token", "add", "known")
    done = run(config, *words, given=given)
    assert done.exit_code != 0
    assert said in done.output


def test_token_is_shown_once_and_kept_as_a_digest(config: pathlib.Path) -> None:
    shown = run(config, "token", "add", "monitoring", "--role", "viewer").output.strip()
    assert shown.startswith("sgt_")
    path = folder(config) / "tokens.json"
    assert shown not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = Tokens(folder(config)).find(shown)
    assert found is not None
    assert (found.name, found.role) == ("token monitoring", Role.VIEWER)
    (listed,) = json.loads(run(config, "token", "list", "--json").output)
    assert listed == {"name": "monitoring", "role": "viewer"}
    run(config, "token", "remove", "monitoring")
    assert Tokens(folder(config)).find(shown) is None
