"""``sluicegate user test``: whether a gate would let a user in, asked as the gate asks.

It reads the files of a gate, and asks the directory itself: no gate has to run. The invariant: what
it says is what ``Authenticator`` would decide with these files, by the same code.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import pathlib
from collections.abc import Callable
from typing import Any, TypeVar

import click

from sluicegate.app.load import Identities, load_identities
from sluicegate.clock import SystemClock
from sluicegate.documents import Findings
from sluicegate.errors import DirectoryFailed, LimitExceeded, TransportError
from sluicegate.gate.directory_service import find_servers, for_own_names
from sluicegate.identity import Authenticator, Directory, DirectoryUser, KnownUser
from sluicegate.limits import Limits
from sluicegate.names.resolver import Resolver

from .display import printable, show_json
from .options import config_option, find_config, json_option
from .user_password import read_password

__all__ = ["test_user"]

ResultT = TypeVar("ResultT")

_REFUSED = 1


@dataclasses.dataclass(frozen=True)
class _Outcome:
    """What came of it."""

    user: KnownUser | None
    cause: str
    seconds: float

    @property
    def source(self) -> str:
        """Who knows the user."""
        if self.user is None:
            return ""
        return "directory" if isinstance(self.user, DirectoryUser) else "users file"


@click.command("test")
@config_option
@click.argument("name")
@click.option(
    "--no-password", is_flag=True, help="Look the user up only, as for a client certificate."
)
@json_option
def test_user(config: pathlib.Path | None, name: str, *, no_password: bool, as_json: bool) -> None:
    """Tell whether a gate would let a user in, from which source, and with which groups.

    The users file is asked first, and the directory ([ldap]) about names that it does not have. The
    password is asked for, or read from standard input (one line). Exit code 0: let in; 1: refused.

    \b
    Examples:
        sluicegate user test ann
        sluicegate user test ann --no-password --json | jq .groups
    """
    findings = Findings()
    identities = load_identities(find_config(config), findings)
    findings.raise_errors()
    assert identities is not None, "what cannot be loaded is a finding"
    password = None if no_password else read_password(name, is_new=False)
    outcome = asyncio.run(_ask(identities, os.fsencode(name), password))
    if as_json:
        _show_json(outcome)
    else:
        _show(outcome)
    if outcome.user is None:
        click.get_current_context().exit(_REFUSED)


async def _ask(identities: Identities, name: bytes, password: bytes | None) -> _Outcome:
    """Ask as a gate with these files would."""
    clock = SystemClock()
    authenticator = Authenticator(identities.users, _on_thread, clock)
    resolver = Resolver(for_own_names(identities.resolver), clock, Limits())
    directory = None
    if identities.directory is not None:
        settings = identities.directory
        directory = Directory(
            settings, lambda asked: find_servers(asked, resolver), _on_thread, clock
        )
        authenticator.directory = directory
    began, user, cause = clock.monotonic(), None, ""
    try:
        if password is None:
            user = await authenticator.find(name)
        else:
            user = await authenticator.authenticate(name, password)
    except (DirectoryFailed, LimitExceeded, TransportError) as error:
        cause = str(error)
    seconds = clock.monotonic() - began
    if directory is not None:
        await directory.close()
    await resolver.close()
    if user is None and not cause:
        cause = "there is no such user, or the password is another"
    return _Outcome(user, cause, seconds)


async def _on_thread(function: Callable[..., ResultT], *args: Any) -> ResultT:
    return await asyncio.to_thread(function, *args)


def _show(outcome: _Outcome) -> None:
    user, took = outcome.user, f"{outcome.seconds * 1000:.0f} ms"
    if user is None:
        click.echo(f"refused: {printable(outcome.cause)} ({took})", err=True)
        return
    click.echo(f"accepted: {user.name} ({outcome.source}, {took})")
    click.echo(f"  groups  {', '.join(user.groups) or 'none'}")
    if isinstance(user, DirectoryUser):
        click.echo(f"  entry   {printable(user.entry)}")
        for one in user.unnamed:
            click.echo(
                f"  no rule can name the group {printable(one)}: give it a name in [ldap.groups]"
            )


def _show_json(outcome: _Outcome) -> None:
    user = outcome.user
    shown: dict[str, object] = {
        "accepted": user is not None,
        "ms": round(outcome.seconds * 1000, 1),
    }
    if user is None:
        shown["cause"] = outcome.cause
    else:
        shown |= {"name": user.name, "source": outcome.source, "groups": user.groups}
    if isinstance(user, DirectoryUser):
        shown |= {"entry": user.entry, "unnamed_groups": user.unnamed}
    show_json(shown)
