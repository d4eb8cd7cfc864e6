"""Admission: from a request to a page, or to the reason why not.

``application`` puts one in front of every entry. The invariant: nothing of a page runs before who
asks is known to have its role, and, where it changes something, before the form is known to be
ours.
"""

from __future__ import annotations

import hmac
import urllib.parse
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from sluicegate.documents import ConfigRefused

from .api.operation import problem
from .asked import Asked
from .console import Console
from .entry import Entry
from .link import GateLost
from .past import PastUnknown
from .sessions import COOKIE, Session

__all__ = ["admit"]

_FORBIDDEN: Final = 403
_UNAUTHORIZED: Final = 401
_UNAVAILABLE: Final = 503
_BAD_REQUEST: Final = 400
_FIELDS_MAX: Final = 200
_FORM: Final = "application/x-www-form-urlencoded"
_CSRF_HEADER: Final = "x-csrf-token"


def admit(console: Console, entry: Entry) -> Callable[[Request], Awaitable[Response]]:
    """Return what answers the requests of an entry."""

    async def answer(request: Request) -> Response:
        session = _find_session(console, request, entry)
        asked = Asked(request, console, session)
        try:
            refused = await _refuse(asked, entry)
            return refused if refused is not None else await entry.page(asked)
        except GateLost as error:
            return _say(asked, entry, _UNAVAILABLE, str(error))
        except PastUnknown as error:
            return _say(asked, entry, _UNAVAILABLE, error.cause, error.cure)
        except ConfigRefused as error:
            return _say(asked, entry, _UNAVAILABLE, "; ".join(str(one) for one in error.errors))

    return answer


def _say(asked: Asked, entry: Entry, status_code: int, cause: str, cure: str = "") -> Response:
    """Answer with what is wrong, for a person or a program."""
    if entry.is_api:
        return problem(status_code, cause, cure)
    template = "gone.html" if status_code == _UNAVAILABLE else "refused.html"
    return asked.page(template, status_code, cause=cause, cure=cure)


async def _refuse(asked: Asked, entry: Entry) -> Response | None:
    """Return the answer to who may not ask; None: they may. Takes the form, if there is one."""
    request, session = asked.request, asked.session
    if entry.role is not None and session is None:
        return _ask_who(asked, entry)
    if entry.method != "GET":
        if not entry.is_api:
            try:
                asked.lists = await _read_form(request)
            except ValueError as error:
                return PlainTextResponse(str(error), _BAD_REQUEST)
            asked.form = {name: values[-1] for name, values in asked.lists.items()}
        if session is not None and not _is_ours(asked, session):
            asked.record(
                "form", request.url.path, result="refused", causes=("not of this session",)
            )
            cause = "this form is not from this session"
            return _say(asked, entry, _FORBIDDEN, cause, "open the page again")
    if entry.role is not None and asked.who.role < entry.role:
        cause = f"this needs the role {entry.role}"
        asked.record("visit", request.url.path, result="refused", causes=(cause,))
        cure = "an administrator gives roles: sluicegate console user"
        return _say(asked, entry, _FORBIDDEN, cause, cure)
    if entry.needs_password and not asked.console.sessions.is_proved(asked.who):
        if entry.is_api:
            cause = "this needs the password, given in the last five minutes"
            return problem(_FORBIDDEN, cause, "do it in the console")
        return asked.go(f"/confirm?next={urllib.parse.quote(_way_back(asked, entry))}")
    return None


def _is_ours(asked: Asked, session: Session) -> bool:
    """Tell whether what changes something was sent by a page of this session, or by a program."""
    if session.is_token:
        return True  # no browser adds that by itself
    given = asked.request.headers.get(_CSRF_HEADER, "") or asked.form.get("csrf", "")
    return hmac.compare_digest(given.encode(), session.csrf.encode())


def _ask_who(asked: Asked, entry: Entry) -> Response:
    """Ask people to log in; tell programs that they are not."""
    if entry.is_api:
        answer = problem(_UNAUTHORIZED, "nobody is logged in", "send a token")
        answer.headers["WWW-Authenticate"] = "Bearer"
        return answer
    if entry.is_live or asked.request.headers.get("hx-request"):
        return Response(status_code=_UNAUTHORIZED, headers={"HX-Redirect": "/login"})
    return asked.go(f"/login?next={urllib.parse.quote(_way_back(asked, entry))}")


def _way_back(asked: Asked, entry: Entry) -> str:
    """Return where to go on afterwards: what was to be changed is begun again."""
    if entry.method != "GET":
        came_from = asked.request.headers.get("referer", "")
        return came_from.removeprefix(asked.console.origins.origin_of(came_from)) or "/"
    url = asked.request.url
    return f"{url.path}?{url.query}" if url.query else url.path


def _find_session(console: Console, request: Request, entry: Entry) -> Session | None:
    """Return whose request it is, with the role that they have now."""
    kind, _, shown = request.headers.get("authorization", "").partition(" ")
    if entry.is_api and kind.lower() == "bearer":
        account = console.tokens.find(shown.strip())
        client = request.client.host if request.client else ""
        return None if account is None else console.sessions.of_token(account, client)
    token = request.cookies.get(COOKIE, "")
    session = console.sessions.find(token, is_person=not entry.is_live) if token else None
    if session is not None and not console.stands(session):
        # The user is gone, or has another role or password: whoever it is logs in again.
        console.sessions.end(session)
        return None
    return session


async def _read_form(request: Request) -> dict[str, list[str]]:
    """Return the fields of a form; the length was bounded before.

    Raises:
        ValueError: It is none.
    """
    body = await request.body()
    if not body:
        return {}
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise ValueError(f"forms are sent as {_FORM}")
    return urllib.parse.parse_qs(
        body.decode("utf-8"),
        keep_blank_values=True,
        strict_parsing=False,
        max_num_fields=_FIELDS_MAX,
        encoding="utf-8",
        errors="strict",
    )
