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
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from .admission import admit
from .console import Console
from .entries import ENTRIES
from .files import FILES
from .guard import Guard

__all__ = ["make_application"]

_NOT_FOUND: Final = 404
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

    async def not_found(_request: Request, _error: Exception) -> Response:
        page = console.environment.get_template("fault.html")
        return HTMLResponse(page.render(title="There is no such page"), _NOT_FOUND)

    async def failed(_request: Request, _error: Exception) -> Response:
        # The server writes to the gate's output what it was.
        page = console.environment.get_template("fault.html")
        return HTMLResponse(page.render(title="The console has failed"), _FAILED)

    routes = [Route(entry.path, admit(console, entry), methods=[entry.method]) for entry in ENTRIES]
    routes.append(Route("/static/{name}", static))
    inner = Starlette(
        routes=routes,
        lifespan=lifespan,
        exception_handlers={_NOT_FOUND: not_found, _FAILED: failed},
    )
    return Guard(inner, console)
