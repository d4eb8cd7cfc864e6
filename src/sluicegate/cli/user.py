"""``sluicegate user``: who may use the gate, by name and password.

It edits the users file that the configuration names, whether or not a gate runs. The invariant: a
password comes from a prompt or from standard input, never from the command line, where every
process of the machine could read it, and is never printed.
"""

from __future__ import annotations

import contextlib
import os
import pathlib

import click

from sluicegate.app.service_config import find_state
from sluicegate.documents import Findings, Wrong
from sluicegate.errors import ConfigError
from sluicegate.gate.control_client import GateUnreachable
from sluicegate.gate.control_messages import ActedRequest
from sluicegate.identity import User, UserFile, Users, hash_password, read_users, verify_password
from sluicegate.identity.passwords import check_new_password
from sluicegate.identity.users import check_user_name

from .display import printable, show_json, show_table
from .options import ask, config_option, find_config, json_option
from .user_password import read_password
from .user_test import test_user

__all__ = ["user"]

_REFUSED = 1

file_option = click.option(
    "--file",
    "file",
    type=click.Path(path_type=pathlib.Path, dir_okay=False),
    help="This users file, in place of the one that the configuration names.",
)


@click.group()
def user() -> None:
    """Add, remove, list and verify the users of a gate.

    The users file is "users" in [service] of sluicegate.toml, by default users.toml beside it. It
    holds names, groups and argon2id hashes; a running gate takes changes over when it is told to,
    and records who made them.

    \b
    Examples:
        sluicegate user add ann --group staff
        sluicegate user list
        sluicegate reload
    """


@user.command()
@config_option
@file_option
@click.argument("name")
@click.option("--group", "-g", "groups", multiple=True, help="A group; may be given several times.")
@click.option("--replace", is_flag=True, help="Give a user who exists a new password.")
def add(
    config: pathlib.Path | None,
    file: pathlib.Path | None,
    name: str,
    groups: tuple[str, ...],
    *,
    replace: bool,
) -> None:
    """Add a user, whose password is asked for, or read from standard input (one line).

    With --replace, groups that are given replace those the user has; without any, they stay.

    \b
    Examples:
        sluicegate user add ann --group staff --group build
        pass show gate/ann | sluicegate user add ann --replace
    """
    path = _users_path(config, file)
    try:
        for one in (name, *groups):
            check_user_name(one)
        known = _find(path, name)
        if known is not None and not replace:
            raise Wrong(f"there is a user {name!r} already", "--replace gives a new password")
        password = read_password(name, is_new=True)
        check_new_password(password)
    except Wrong as error:
        raise ConfigError("user add", error.cause, error.cure) from error
    chosen = groups or (known.groups if known is not None else ())
    added = User(name, hash_password(password), chosen, known.comment if known else "")
    replaced = UserFile(path).add(added, may_replace=replace)
    if file is None:
        _tell_gate(config, "user-change" if replaced else "user-add", name)
    click.echo(f"{'changed' if replaced else 'added'} {name} in {printable(os.fspath(path))}")


@user.command()
@config_option
@file_option
@click.argument("name")
def remove(config: pathlib.Path | None, file: pathlib.Path | None, name: str) -> None:
    """Remove a user. Connections that are open stay; "sluicegate reload" refuses new ones.

    \b
    Examples:
        sluicegate user remove ann && sluicegate reload
    """
    path = _users_path(config, file)
    UserFile(path).remove(name)
    if file is None:
        _tell_gate(config, "user-remove", name)
    click.echo(f"removed {printable(name)} from {printable(os.fspath(path))}")


@user.command("list")
@config_option
@file_option
@json_option
def list_users(config: pathlib.Path | None, file: pathlib.Path | None, *, as_json: bool) -> None:
    """List the users with their groups, and what their hashes cost to compute.

    \b
    Examples:
        sluicegate user list
        sluicegate user list --json | jq -r '.[] | select(.groups | index("staff")) | .name'
    """
    users = _read(_users_path(config, file))
    if as_json:
        show_json(
            [
                {
                    "name": one.name,
                    "groups": one.groups,
                    "comment": one.comment,
                    "hash": str(one.password.cost),
                }
                for one in users
            ]
        )
        return
    show_table(
        ("USER", "GROUPS", "HASH", "COMMENT"),
        [(one.name, ", ".join(one.groups), str(one.password.cost), one.comment) for one in users],
    )


@user.command()
@config_option
@file_option
@click.argument("name")
def verify(config: pathlib.Path | None, file: pathlib.Path | None, name: str) -> None:
    """Tell whether a password is the user's: exit code 0 if it is, 1 if not.

    It is asked for, or read from standard input (one line).

    \b
    Examples:
        sluicegate user verify ann
    """
    users = _read(_users_path(config, file))
    password = read_password(name, is_new=False)
    found = users.find(os.fsencode(name))
    is_right = verify_password(found.password if found else users.dummy, password)
    if found is None or not is_right:
        click.echo("refused", err=True)
        click.get_current_context().exit(_REFUSED)
    click.echo(f"accepted: {', '.join(found.groups) or 'no groups'}")


user.add_command(test_user)


def _tell_gate(config: pathlib.Path | None, action: str, name: str) -> None:
    """Have the gate record a change of its users, if one runs: without one there is no log."""
    with contextlib.suppress(GateUnreachable):
        ask(config, ActedRequest(action=action, subjects=[name]))


def _users_path(config: pathlib.Path | None, file: pathlib.Path | None) -> pathlib.Path:
    if file is not None:
        return file
    findings = Findings()
    state = find_state(find_config(config), findings)
    findings.raise_errors()
    assert state is not None, "a state that cannot be found is a finding"
    return state.users_path


def _read(path: pathlib.Path) -> Users:
    """Read the file, showing warnings.

    Raises:
        ConfigRefused: It is wrong.
    """
    findings = Findings()
    users = read_users(path, findings)
    for warning in findings.warnings:
        click.echo(f"{click.style('warning:', fg='yellow')} {printable(str(warning))}", err=True)
    findings.raise_errors()
    assert users is not None, "a file that cannot be read is a finding"
    return users


def _find(path: pathlib.Path, name: str) -> User | None:
    """Return a known user; asked before a password is typed in vain."""
    return _read(path).find(os.fsencode(name)) if path.exists() else None
