"""Asked: one request to a page, by somebody who may make it; and the answers that pages give.

``admission`` makes it, pages take it. The invariant: a page is rendered with who asks, so nothing
that is not theirs to do is offered.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from sluicegate.address import SocketAddress
from sluicegate.audit.records import OperatorRecord
from sluicegate.gate.control_messages import AnyReply, AnyRequest

from .navigation import NAVIGATION
from .roles import Role
from .sessions import Session

if TYPE_CHECKING:
    from .console import Console

__all__ = ["Asked", "Result", "local_path"]

Result: TypeAlias = Literal["done", "refused", "failed"]

_SEE_OTHER: Final = 303
_DIGITS_MAX: Final = 18


@dataclass(slots=True)
class Asked:
    """One request."""

    request: Request
    console: Console
    session: Session | None = None
    """Whose; None on pages that need none."""
    form: dict[str, str] = field(default_factory=dict[str, str])
    """What was sent with it, each name once."""
    lists: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    """The same, with every value of a name."""

    @property
    def who(self) -> Session:
        """Whose it is, on pages that need somebody."""
        assert self.session is not None, "its entry has a role"
        return self.session

    @property
    def by(self) -> str:
        """Who asks, as records have it."""
        return self.who.account.name

    @property
    def client(self) -> str:
        """The address and port that asks."""
        return str(SocketAddress(*self.request.client)) if self.request.client else ""

    def query(self, name: str, default: str = "") -> str:
        """Return a value behind the question mark."""
        return self.request.query_params.get(name, default)

    def number(self, name: str) -> int:
        """Return a number behind the question mark; 0: there is none, or it is too long."""
        text = self.query(name)
        is_number = text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX
        return int(text) if is_number else 0

    def may(self, role: Role) -> bool:
        """Tell whether who asks has a role."""
        return self.session is not None and self.session.role >= role

    async def ask_gate(self, request: AnyRequest) -> AnyReply:
        """Ask or order something in the name of who asks.

        Raises:
            GateLost: There was no answer.
        """
        return await self.console.link.ask(request, f"console user {self.by}", self.who.ticket)

    def record(
        self,
        action: str,
        *subjects: str,
        result: Result = "done",
        causes: tuple[str, ...] = (),
        by: str = "",
    ) -> None:
        """Have recorded what somebody has done, or tried to.

        Args:
            action: What, in a word of the catalogue's.
            subjects: What it was done to.
            result: What became of it.
            causes: Why it was refused, or failed.
            by: Who, where nobody is logged in.
        """
        self.console.link.record(
            OperatorRecord(
                time=self.console.clock.wall(),
                action=action,
                by=by or self.by,
                origin="api" if self.session is not None and self.session.is_token else "console",
                result=result,
                client=self.client,
                subjects=subjects,
                causes=causes,
            )
        )

    # -- answers -------------------------------------------------------------------------------

    def render(self, template: str, **values: object) -> str:
        """Return a page, or a part of one, as text."""
        session = self.session
        named = self.console.environment.get_template(template)
        return named.render(
            navigation=NAVIGATION if session is not None else (),
            here=self.request.url.path,
            session=session,
            csrf=session.csrf if session is not None else "",
            status=self.console.sampler.status,
            may_operate=self.may(Role.OPERATOR),
            may_administer=self.may(Role.ADMINISTRATOR),
            **values,
        )

    def page(self, template: str, status_code: int = 200, **values: object) -> Response:
        """Answer with a page."""
        return HTMLResponse(self.render(template, **values), status_code)

    def go(self, path: str) -> Response:
        """Send the browser elsewhere in the console, by a question."""
        if self.request.headers.get("hx-request"):
            return Response(headers={"HX-Redirect": path})
        return RedirectResponse(path, _SEE_OTHER)


def local_path(text: str) -> str:
    r"""Return a path of this console that somebody wants to go on to; the first page for others.

    ``//host`` and ``/\host`` are paths to nobody but browsers, which go to that host.
    """
    is_path = text.startswith("/") and not text.startswith("//")
    return text if is_path and "\\" not in text and text.isprintable() else "/"
