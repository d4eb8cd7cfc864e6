"""``sluicegate console``: who may use the console, people by password and programs by token.

It edits files in the console's folder, whether or not a gate runs; a running console takes changes
over by itself. The invariant: a password comes from a prompt or from standard input, and a token is
shown once, when it is made.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
from typing import Final

import click

from sluicegate.app.console_config import console_folder
from sluicegate.app.service_config import find_state
from sluicegate.console.accounts import users_file
from sluicegate.console.roles import Role, role_of
from sluicegate.console.tokens import Tokens
from sluicegate.documents import Findings, Wrong
from sluicegate.errors import ConfigError, SluicegateError
from sluicegate.gate.control_client import GateUnreachable
from sluicegate.gate.control_messages import ActedRequest
from sluicegate.identity import User, UserFile, Users, hash_password, read_users
from sluicegate.identity.passwords import check_new_password
from sluicegate.identity.users import check_user_name

from .display import printable, show_json, show_table
from .options import ask, config_option, find_config, json_option
from .user_password import read_password

__all__ = ["console"]

_ROLES: Final = [str(role) for role in Role]

role_option = click.option(
    "--role",
    type=click.Choice(_ROLES),
    default=str(Role.VIEWER),
    show_default=True,
    help="A viewer sees; an operator also ends connections; an administrator also changes.",
)


@click.group()
def console() -> None:
    """Say who may use the console in the browser and its API.

    The console runs where sluicegate.toml has a table [console]. Its users are others than those of
    the gate. Changes count at once: who is removed is logged out.

    \b
    Examples:
        sluicegate console user add ann --role administrator
        sluicegate console token add monitoring
    """


# -- people ------------------------------------------------------------------------------------


@console.group("user")
def user() -> None:
    """Add, list and remove the people who may use the console.

    \b
    Examples:
        sluicegate console user list
    """


@user.command("add")
@config_option
@click.argument("name")
@role_option
def add_user(config: pathlib.Path | None, name: str, role: str) -> None:
    """Add somebody, whose password is asked for, or read from standard input (one line).

    \b
    Examples:
        sluicegate console user add ann --role operator
        pass show console/ann | sluicegate console user add ann
    """
    folder = _folder(config)
    try:
        check_user_name(name)
        if _known(folder).find(os.fsencode(name)) is not None:
            raise Wrong(f"there is a user {name!r} already", "sluicegate console user password")
        password = read_password(name, is_new=True)
        check_new_password(password)
    except Wrong as error:
        raise ConfigError("console user add", error.cause, error.cure) from error
    _write(folder, User(name, hash_password(password), (role,)))
    _tell_gate(config, "user-add", name)
    click.echo(f"added {name}, {role}")


@user.command("password")
@config_option
@click.argument("name")
def change_password(config: pathlib.Path | None, name: str) -> None:
    """Give somebody a new password, asked for or read from standard input.

    \b
    Examples:
        sluicegate console user password ann
    """
    folder = _folder(config)
    known = _known(folder).find(os.fsencode(name))
    if known is None:
        raise ConfigError("console user password", f"there is no user {printable(name)!r}")
    try:
        password = read_password(name, is_new=True)
        check_new_password(password)
    except Wrong as error:
        raise ConfigError("console user password", error.cause, error.cure) from error
    _write(folder, User(known.name, hash_password(password), known.groups, known.comment))
    _tell_gate(config, "user-change", name)
    click.echo(f"changed {name}")


@user.command("list")
@config_option
@json_option
def list_users(config: pathlib.Path | None, *, as_json: bool) -> None:
    """List who may use the console, with their roles.

    \b
    Examples:
        sluicegate console user list --json | jq -r '.[].name'
    """
    users = _known(_folder(config))
    rows = [(one.name, str(role_of(one.groups) or "no role"), one.comment) for one in users]
    if as_json:
        show_json([{"name": name, "role": role, "comment": text} for name, role, text in rows])
    else:
        show_table(("USER", "ROLE", "COMMENT"), rows)


@user.command("remove")
@config_option
@click.argument("name")
def remove_user(config: pathlib.Path | None, name: str) -> None:
    """Remove somebody, who is logged out at once.

    \b
    Examples:
        sluicegate console user remove ann
    """
    UserFile(users_file(_folder(config))).remove(name)
    _tell_gate(config, "user-remove", name)
    click.echo(f"removed {printable(name)}")


# -- programs ----------------------------------------------------------------------------------


@console.group("token")
def token() -> None:
    """Make, list and remove tokens, by which programs use the API.

    \b
    Examples:
        sluicegate console token list
    """


@token.command("add")
@config_option
@click.argument("name")
@role_option
def add_token(config: pathlib.Path | None, name: str, role: str) -> None:
    """Make a token and print it: it is shown only now.

    \b
    Examples:
        sluicegate console token add monitoring > token
        curl -H "Authorization: Bearer $(cat token)" http://127.0.0.1:8643/api/v1/status
    """
    folder = _folder(config)
    try:
        shown = Tokens(folder).add(name, Role[role.upper()])
    except Wrong as error:
        raise ConfigError("console token add", error.cause, error.cure) from error
    _tell_gate(config, "token-add", name)
    click.echo(shown)


@token.command("list")
@config_option
@json_option
def list_tokens(config: pathlib.Path | None, *, as_json: bool) -> None:
    """List the tokens by name, with their roles; the tokens themselves nobody knows.

    \b
    Examples:
        sluicegate console token list
    """
    known = Tokens(_folder(config)).read()
    if as_json:
        show_json([{"name": one.name, "role": one.role} for one in known])
    else:
        show_table(("TOKEN", "ROLE"), [(one.name, one.role) for one in known])


@token.command("remove")
@config_option
@click.argument("name")
def remove_token(config: pathlib.Path | None, name: str) -> None:
    """Remove a token, which is worth nothing from then on.

    \b
    Examples:
        sluicegate console token remove monitoring
    """
    if not Tokens(_folder(config)).remove(name):
        raise SluicegateError(f"there is no token {printable(name)!r}")
    _tell_gate(config, "token-remove", name)
    click.echo(f"removed {printable(name)}")


# -- private -----------------------------------------------------------------------------------


def _folder(config: pathlib.Path | None) -> pathlib.Path:
    """Return the console's folder, made if it is not there."""
    findings = Findings()
    state = find_state(find_config(config), findings)
    findings.raise_errors()
    assert state is not None, "a state that cannot be found is a finding"
    state_dir = state.control_path.parent
    folder = console_folder(state_dir)
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not folder.exists():
            folder.mkdir(mode=0o700)
            _give(folder, state_dir)
    except OSError as error:
        cure = "run this as the gate's user, or as root"
        raise ConfigError(str(folder), f"cannot be made: {error.strerror}", cure) from error
    return folder


def _give(path: pathlib.Path, like: pathlib.Path) -> None:
    """Give a new file or folder to whom another one belongs: root works for the gate's user."""
    status = like.stat()
    if os.geteuid() == 0 and status.st_uid != 0:
        os.chown(path, status.st_uid, status.st_gid)


def _write(folder: pathlib.Path, one: User) -> None:
    path = users_file(folder)
    UserFile(path).add(one, may_replace=True)
    _give(path, folder)


def _known(folder: pathlib.Path) -> Users:
    """Read who is known; nobody, where there is no file yet.

    Raises:
        ConfigRefused: The file is wrong.
    """
    path = users_file(folder)
    if not path.exists():
        return Users()
    findings = Findings()
    users = read_users(path, findings)
    findings.raise_errors()
    assert users is not None, "a file that cannot be read is a finding"
    return users


def _tell_gate(config: pathlib.Path | None, action: str, name: str) -> None:
    """Have the gate record a change, if one runs: without one there is no log."""
    with contextlib.suppress(GateUnreachable):
        ask(config, ActedRequest(action=action, subjects=[name], facts={"of": "console"}))
