"""Logging in at the provider of an organization, and coming back from there.

The invariant: a browser that comes back is let in only if it is the one that was sent.
"""

from __future__ import annotations

from typing import Final

from starlette.responses import RedirectResponse, Response

from sluicegate.console.asked import Asked, local_path
from sluicegate.console.entry import Entry
from sluicegate.console.oidc_refused import OidcRefused
from sluicegate.console_limits import OIDC_ATTEMPT_S

from .login import let_in

__all__ = ["ENTRIES"]

_COOKIE: Final = "__Host-sluicegate-oidc"
_NOT_FOUND: Final = 404
_FORBIDDEN: Final = 403
_SEE_OTHER: Final = 303


async def _leave(asked: Asked) -> Response:
    oidc = asked.console.oidc
    if oidc is None:
        return asked.page("refused.html", _NOT_FOUND, cause="There is no provider.", cure="")
    is_proof = asked.session is not None and asked.query("again") == "yes"
    try:
        url, kept = await oidc.begin(local_path(asked.query("next")), is_proof=is_proof)
    except OidcRefused as error:
        return _refuse(asked, error.cause)
    response = RedirectResponse(url, _SEE_OTHER)
    # Lax: the browser comes back from another site, and has to bring it.
    response.set_cookie(
        _COOKIE, kept, int(OIDC_ATTEMPT_S), path="/", secure=True, httponly=True, samesite="lax"
    )
    return response


async def _return(asked: Asked) -> Response:
    oidc, kept = asked.console.oidc, asked.request.cookies.get(_COOKIE, "")
    if oidc is None or not kept:
        return _refuse(asked, "this way in was not begun here, or too long ago")
    if asked.query("error"):
        return _refuse(asked, f"the provider refuses: {asked.query('error')[:100]}")
    try:
        attempt, account = await oidc.finish(kept, asked.query("state"), asked.query("code"))
    except OidcRefused as error:
        return _refuse(asked, error.cause)
    response = let_in(asked, account, attempt.path, by_page="returned.html")
    if not attempt.is_proof:
        # The provider may have known it for hours: that is no password given lately.
        asked.console.sessions.doubt(asked.who)
    response.delete_cookie(_COOKIE, path="/", secure=True, httponly=True, samesite="lax")
    return response


def _refuse(asked: Asked, cause: str) -> Response:
    asked.session = None
    asked.record("login", result="refused", causes=(cause,), by="oidc")
    return asked.page("refused.html", _FORBIDDEN, cause=cause, cure="begin again at /login")


ENTRIES: Final = (
    Entry("/login/oidc", _leave, role=None),
    Entry("/login/oidc/return", _return, role=None),
)
