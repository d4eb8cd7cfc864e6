"""The first start: the link that lets the first one in, who then makes users.

The invariant: to open the link changes nothing (who checks links of messages opens it, too); the
button behind it does, once.
"""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from sluicegate.console.accounts import Account
from sluicegate.console.asked import Asked
from sluicegate.console.entry import Entry
from sluicegate.console.proof import take_ticket
from sluicegate.console.roles import Role

from .login import let_in

__all__ = ["ENTRIES"]

_GONE: Final = 410
_CONFLICT: Final = 409
_FIRST: Final = "first-link"
"""Who it is in records, until there is a user."""


async def _show(asked: Asked) -> Response:
    token = asked.query("token")
    asked.session = None
    if not asked.console.first_link.is_good(token) or len(asked.console.accounts.users):
        return asked.page("spent.html", _GONE)
    return asked.page("first.html", token=token)


async def _enter(asked: Asked) -> Response:
    asked.session = None
    if len(asked.console.accounts.users) or not asked.console.first_link.spend(
        asked.form.get("token", "")
    ):
        asked.record("login", _FIRST, result="refused", causes=("the link is spent",), by=_FIRST)
        return asked.page("spent.html", _GONE)
    return let_in(asked, Account(_FIRST, Role.ADMINISTRATOR), "/", is_first=True)


async def _show_user(asked: Asked) -> Response:
    return asked.page("first_user.html", fault="", name="")


async def _make_user(asked: Asked) -> Response:
    """Make the first user, and be that user from now on."""
    name, password = asked.form.get("name", ""), asked.form.get("password", "")
    fault = "the two passwords differ"
    if password == asked.form.get("again"):
        # The gate makes users, for this process writes none.
        fault = await asked.console.link.add_first(name, password)
    if fault:
        return asked.page("first_user.html", _CONFLICT, fault=fault, name=name)
    asked.record("user-add", name)
    account = asked.console.accounts.find(name)
    if account is None:
        return asked.go("/login")  # somebody has removed it already
    response = let_in(asked, account, "/")
    await take_ticket(asked, name, password)
    return response


ENTRIES: Final = (
    Entry("/first", _show, role=None),
    Entry("/first", _enter, role=None, method="POST"),
    Entry("/first/user", _show_user, role=Role.ADMINISTRATOR),
    Entry("/first/user", _make_user, role=Role.ADMINISTRATOR, method="POST"),
)
