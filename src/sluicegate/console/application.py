"""The web application of a console: its entries, its files, and the guard around them.

``server`` runs it, tests call it. The invariant: every route but those of static files comes from
``ENTRIES``, through ``admit``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from .admission import admit
from .api.operation import problem
from .console import Console
from .entries import ENTRIES
from .files import FILES
from .guard import Guard

__all__ = ["make_application"]

_NOT_FOUND: Final = 404
_WRONG_METHOD: Final = 405
_FAILED: Final = 500
_YEAR: Final = "public, max-age=31536000, immutable"


def make_application(console: Console) -> Guard:
    """Return the application of a console."""

    @contextlib.asynccontextmanager
    async def lifespan(_application: Starlette) -> AsyncGenerator[None]:
        async with asyncio.TaskGroup() as tasks:
            sampling = tasks.create_task(console.sampler.run())
            yield
            sampling.cancel()

    async def static(request: Request) -> Response:
        file = FILES.get(request.path_params["name"])
        if file is None:
            return Response(status_code=_NOT_FOUND)
        return Response(file.content, media_type=file.type, headers={"Cache-Control": _YEAR})

    async def not_found(request: Request, _error: Exception) -> Response:
        if request.url.path.startswith("/api/"):
            return problem(_NOT_FOUND, "there is no such operation", "see /api/v1/openapi.json")
        page = console.environment.get_template("fault.html")
        return HTMLResponse(page.render(title="There is no such page"), _NOT_FOUND)

    async def not_done_so(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException), "routing raises it"
        allowed = error.headers
        if not request.url.path.startswith("/api/"):
            return PlainTextResponse("Not by this method.\n", _WRONG_METHOD, allowed)
        answer = problem(_WRONG_METHOD, f"{request.method} does nothing here")
        answer.headers.update(allowed or {})
        return answer

    async def failed(request: Request, _error: Exception) -> Response:
        # The server writes to the gate's output what it was.
        if request.url.path.startswith("/api/"):
            return problem(_FAILED, "the console has failed", "see the output of the gate")
        page = console.environment.get_template("fault.html")
        return HTMLResponse(page.render(title="The console has failed"), _FAILED)

    routes = [Route(entry.path, admit(console, entry), methods=[entry.method]) for entry in ENTRIES]
    routes.append(Route("/static/{name}", static))
    inner = Starlette(
        routes=routes,
        lifespan=lifespan,
        exception_handlers={
            _NOT_FOUND: not_found,
            _WRONG_METHOD: not_done_so,
            _FAILED: failed,
        },
    )
    return Guard(inner, console)
