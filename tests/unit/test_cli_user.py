"""``sluicegate user``: passwords from where nobody else reads them, errors that say what to do."""

from __future__ import annotations

import json
import pathlib
import stat
import textwrap

import click
import pytest
from click.testing import CliRunner, Result

from sluicegate.app.load import load
from sluicegate.cli import user as module
from sluicegate.cli.main import cli
from sluicegate.documents import Findings
from sluicegate.identity import PasswordHash, hash_password
from tests.unit.identity_kit import CHEAP

MAIN = '[[listener]]\nname = "ftp"\naddress = "127.0.0.1:2121"\n'


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    def hash_cheaply(password: bytes) -> PasswordHash:
        return hash_password(password, CHEAP)

    monkeypatch.setattr(module, "hash_password", hash_cheaply)


@pytest.fixture
def config(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "sluicegate.toml"
    path.write_text(MAIN)
    (tmp_path / "policy.toml").write_text("")
    return path


def invoke(config: pathlib.Path, *arguments: str, typed: bytes | str = b"") -> Result:
    command, *rest = arguments
    return CliRunner().invoke(cli, ["user", command, "--config", str(config), *rest], input=typed)


def listed(config: pathlib.Path) -> dict[str, list[str]]:
    rows = json.loads(invoke(config, "list", "--json").output)
    return {row["name"]: row["groups"] for row in rows}


def test_added_user_is_listed_and_verified(config: pathlib.Path) -> None:
    added = invoke(config, "add", "ann", "--group", "staff", "-g", "build", typed=b"open sesame\n")

    assert (added.exit_code, added.output) == (0, f"added ann in {config.parent}/users.toml\n")
    assert listed(config) == {"ann": ["staff", "build"]}
    assert stat.S_IMODE((config.parent / "users.toml").stat().st_mode) == 0o600
    right = invoke(config, "verify", "ann", typed=b"open sesame\n")
    assert (right.exit_code, right.output) == (0, "accepted: staff, build\n")
    for name, typed in (
        ("ann", b"open sesamE\n"),
        ("bob", b"open sesame\n"),
        ("ä", b"open sesame"),
    ):
        wrong = invoke(config, "verify", name, typed=typed)
        assert (wrong.exit_code, wrong.output) == (1, "refused\n")


def test_password_with_crlf_is_read_without_it(config: pathlib.Path) -> None:
    invoke(config, "add", "ann", typed=b"open sesame\r\nsecond line\n")

    assert invoke(config, "verify", "ann", typed=b"open sesame").exit_code == 0


def test_removed_user_is_gone(config: pathlib.Path) -> None:
    for name in ("ann", "bob"):
        invoke(config, "add", name, typed=b"open sesame\n")

    assert invoke(config, "remove", "ann").exit_code == 0

    assert list(listed(config)) == ["bob"]
    again = invoke(config, "remove", "ann")
    assert (again.exit_code, again.stderr) == (2, "error: users.toml: there is no user 'ann'\n")


def test_replaced_user_keeps_groups_unless_others_are_given(config: pathlib.Path) -> None:
    invoke(config, "add", "ann", "-g", "staff", typed=b"open sesame\n")

    refused = invoke(config, "add", "ann", typed=b"other words\n")
    changed = invoke(config, "add", "ann", "--replace", typed=b"other words\n")

    assert refused.exit_code == 2
    assert "--replace" in refused.stderr
    assert changed.output.startswith("changed ann in")
    assert listed(config) == {"ann": ["staff"]}
    assert invoke(config, "verify", "ann", typed=b"other words\n").exit_code == 0
    invoke(config, "add", "ann", "--replace", "-g", "new", typed=b"other words\n")
    assert listed(config) == {"ann": ["new"]}


@pytest.mark.parametrize(
    ("arguments", "typed", "word"),
    [
        (("ann",), b"", "has no password in its first line"),
        (("ann",), b"\nopen sesame\n", "has no password in its first line"),
        (("ann",), b"short\n", "too short"),
        (("ann",), b"x" * 256 + b"\n", "more than 255 bytes"),
        (("ann",), b"open\tsesame\n", "control character"),
        (("a b",), b"open sesame\n", "is not a name"),
        (("ann", "--group", "a b"), b"open sesame\n", "is not a name"),
    ],
)
def test_what_cannot_be_a_user_is_refused_and_nothing_is_written(
    config: pathlib.Path, arguments: tuple[str, ...], typed: bytes, word: str
) -> None:
    result = invoke(config, "add", *arguments, typed=typed)

    assert result.exit_code == 2
    assert word in result.stderr
    assert not (config.parent / "users.toml").exists()


def test_password_cannot_be_given_as_an_argument(config: pathlib.Path) -> None:
    for command in ("add", "verify"):
        result = invoke(config, command, "ann", "open sesame")
        assert result.exit_code == 2
        options = cli.get_command(click.Context(cli), "user").commands[command].params  # type: ignore[union-attr]
        assert not [option.name for option in options if "pass" in (option.name or "")]


def test_password_and_hash_are_never_printed(config: pathlib.Path) -> None:
    outputs = [
        invoke(config, "add", "ann", typed=b"open sesame\n"),
        invoke(config, "verify", "ann", typed=b"open sesame\n"),
        invoke(config, "list"),
        invoke(config, "list", "--json"),
    ]

    shown = "".join(result.output + result.stderr for result in outputs)
    assert "sesame" not in shown
    assert "$argon2id" not in shown


def test_users_file_may_be_named(config: pathlib.Path, tmp_path: pathlib.Path) -> None:
    other = tmp_path / "other.toml"
    runner = CliRunner()

    added = runner.invoke(cli, ["user", "add", "--file", str(other), "ann"], input="open sesame\n")

    assert added.exit_code == 0
    assert other.exists()
    assert "ann" in runner.invoke(cli, ["user", "list", "--file", str(other)]).output


def test_configuration_names_the_users_file(config: pathlib.Path) -> None:
    config.write_text('[service]\nusers = "people.toml"\n' + MAIN)

    invoke(config, "add", "ann", typed=b"open sesame\n")

    assert (config.parent / "people.toml").exists()


def loaded(config: pathlib.Path) -> tuple[list[str], list[str], list[str] | None]:
    findings = Findings()
    found = load(config, findings)
    users = [user.name for user in found.settings.users] if found else None
    return [str(one) for one in findings.errors], [one.cause for one in findings.warnings], users


def test_users_are_loaded_with_the_other_files(config: pathlib.Path) -> None:
    assert loaded(config)[0::2] == ([], [])

    invoke(config, "add", "ann", typed=b"open sesame\n")

    assert loaded(config)[0::2] == ([], ["ann"])


def test_users_file_that_is_wrong_or_open_is_refused_with_the_rest(config: pathlib.Path) -> None:
    invoke(config, "add", "ann", typed=b"open sesame\n")
    path = config.parent / "users.toml"
    path.chmod(0o644)
    [error], _, users = loaded(config)
    assert "everybody can read the password hashes" in error
    assert users is None

    path.chmod(0o640)
    assert "its group can read the password hashes" in loaded(config)[1]

    path.write_text(path.read_text() + "grups = []\n")
    [error], _, users = loaded(config)
    assert error == "users.toml:6: user[0].grups: unknown key (did you mean 'groups'?)"


def test_users_file_that_is_named_must_exist(config: pathlib.Path) -> None:
    config.write_text('[service]\nusers = "people.toml"\n' + MAIN)

    [error], _, users = loaded(config)

    assert "people.toml: cannot be read" in error
    assert users is None


@pytest.mark.parametrize("command", ["add", "remove", "list", "verify"])
def test_help_of_every_subcommand_shows_an_example(command: str) -> None:
    output = CliRunner().invoke(cli, ["user", command, "--help"]).output

    assert f"sluicegate user {command}" in textwrap.dedent(output).partition("Examples:")[2]
