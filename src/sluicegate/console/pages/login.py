"""Logging in, logging out, and giving the password again for what needs it.

``proof`` tries passwords. The invariant: a wrong name and a wrong password look alike.
"""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from sluicegate.console.accounts import Account
from sluicegate.console.asked import Asked, local_path
from sluicegate.console.entry import Entry
from sluicegate.console.proof import take_ticket, verify
from sluicegate.console.sessions import COOKIE

__all__ = ["ENTRIES", "let_in"]

_UNAVAILABLE: Final = 503


def let_in(
    asked: Asked, account: Account, path: str, *, is_first: bool = False, by_page: str = ""
) -> Response:
    """Begin a session, and send the browser on.

    Args:
        asked: Whose browser it is.
        account: Who it is.
        path: Where to go on.
        is_first: Whether it came by the link of the first start.
        by_page: A page that leads on. A browser that came from another site brings no Strict cookie
            along a redirect; along a page of ours it does.
    """
    if asked.session is not None:
        asked.console.sessions.end(asked.session)
    session, token = asked.console.sessions.begin(account, asked.client, is_first=is_first)
    asked.session = session
    asked.record("login", account.name)
    response = asked.page(by_page, path=path) if by_page else asked.go(path)
    response.set_cookie(COOKIE, token, path="/", secure=True, httponly=True, samesite="strict")
    return response


async def _show(asked: Asked) -> Response:
    if asked.session is not None:
        return asked.go(local_path(asked.query("next")))
    return _form(asked, local_path(asked.query("next")))


def _form(asked: Asked, path: str, fault: str = "", status_code: int = 200) -> Response:
    asked.session = None
    return asked.page(
        "login.html",
        status_code,
        next=path,
        fault=fault,
        name=asked.form.get("name", ""),
        has_users=bool(len(asked.console.accounts.users)),
        faults=asked.console.accounts.faults,
        provider=asked.console.oidc.settings.issuer if asked.console.oidc else "",
    )


async def _log_in(asked: Asked) -> Response:
    name, password = asked.form.get("name", ""), asked.form.get("password", "")
    path = local_path(asked.form.get("next", "/"))
    account, fault, status_code = await verify(asked, name, password)
    if account is None:
        return _form(asked, path, fault, status_code)
    response = let_in(asked, account, path)
    await take_ticket(asked, name, password)
    return response


async def _log_out(asked: Asked) -> Response:
    asked.record("logout", asked.by)
    asked.console.sessions.end(asked.who)
    response = asked.go("/login")
    response.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="strict")
    return response


async def _show_confirm(asked: Asked) -> Response:
    return asked.page("confirm.html", next=local_path(asked.query("next")), fault="")


async def _confirm(asked: Asked) -> Response:
    path = local_path(asked.form.get("next", "/"))
    name = asked.who.account.name
    password = asked.form.get("password", "")
    account, fault, status_code = await verify(asked, name, password)
    if account is None:
        return asked.page("confirm.html", status_code, next=path, fault=fault)
    asked.console.sessions.prove(asked.who)
    await take_ticket(asked, name, password)
    if not asked.console.sessions.is_proved(asked.who):
        fault = "The gate cannot check the password now. Wait a minute."
        return asked.page("confirm.html", _UNAVAILABLE, next=path, fault=fault)
    asked.record("confirm", name)
    return asked.go(path)


ENTRIES: Final = (
    Entry("/login", _show, role=None),
    Entry("/login", _log_in, role=None, method="POST"),
    Entry("/logout", _log_out, method="POST"),
    Entry("/confirm", _show_confirm),
    Entry("/confirm", _confirm, method="POST"),
)
