"""Operation: one thing that the API can be asked, with all that its document says of it.

``operations`` lists them. The invariant: what is sent is checked against the very types and bounds
that the document shows, and what they do not allow is refused.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, TypeAlias

import msgspec
from starlette.responses import Response

from sluicegate.console.asked import Asked
from sluicegate.console.entry import Entry, Method
from sluicegate.console.proof import prove
from sluicegate.console.roles import Role

__all__ = ["Called", "Operation", "Parameter", "Problem", "ProblemRaised", "Proof", "problem"]

_BAD_REQUEST: Final = 400
_JSON: Final = "application/json"
_PROBLEM: Final = "application/problem+json"
_TITLES: Final = {
    400: "Wrong request", 401: "Not logged in", 403: "Refused", 404: "Not there",
    405: "Not done so", 409: "Refused", 413: "Too long", 429: "Too many requests",
    503: "Not available",
}  # fmt: skip

_PASSWORD_CHARACTERS_MAX: Final = 1024
_NAME_CHARACTERS_MAX: Final = 128

Query: TypeAlias = dict[str, str]


class Problem(msgspec.Struct, kw_only=True):
    """What went wrong (RFC 9457)."""

    status: int
    title: str
    detail: str
    cure: str = ""


class ProblemRaised(Exception):
    """An operation cannot be done: answered as a ``Problem``."""

    def __init__(self, status: int, detail: str, cure: str = "") -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.cure = cure


def problem(status: int, detail: str, cure: str = "") -> Response:
    """Return the answer that says what went wrong."""
    body = Problem(status=status, title=_TITLES.get(status, "Failed"), detail=detail, cure=cure)
    return Response(msgspec.json.encode(body), status, media_type=_PROBLEM)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A value in the address."""

    name: str
    description: str
    schema: Mapping[str, Any]
    """JSON Schema of it; of texts and whole numbers."""
    in_path: bool = False

    def check(self, text: str) -> None:
        """Refuse what the schema does not allow.

        Raises:
            ProblemRaised: It is not allowed.
        """
        schema = self.schema
        if schema["type"] == "integer":
            is_number = re.fullmatch(r"0|[1-9][0-9]{0,17}", text) is not None
            if not is_number or not schema["minimum"] <= int(text) <= schema["maximum"]:
                raise ProblemRaised(
                    _BAD_REQUEST,
                    f"{self.name} is a number from {schema['minimum']} to {schema['maximum']}",
                )
            return
        if len(text) > schema.get("maxLength", len(text)):
            raise ProblemRaised(
                _BAD_REQUEST, f"{self.name} has at most {schema['maxLength']} characters"
            )
        if "enum" in schema and text not in schema["enum"]:
            raise ProblemRaised(_BAD_REQUEST, f"{self.name} is one of {', '.join(schema['enum'])}")


@dataclass(slots=True)
class Called:
    """One call of an operation, checked."""

    asked: Asked
    values: Query
    body: Any = None

    def number(self, name: str, default: int = 0) -> int:
        """Return a number of the address."""
        return int(self.values.get(name, default))


class Proof(msgspec.Struct, forbid_unknown_fields=True):
    """Somebody's password: a program's token does not stand for a person."""

    password: Annotated[str, msgspec.Meta(max_length=_PASSWORD_CHARACTERS_MAX)]
    name: Annotated[str, msgspec.Meta(max_length=_NAME_CHARACTERS_MAX)] = ""
    """Whose it is, with a token; with a session it is the session's."""


async def _prove(asked: Asked, proof: Proof | None) -> None:
    given = proof if proof is not None else Proof("")
    fault, status = await prove(asked, given.password, given.name)
    if fault:
        raise ProblemRaised(status, fault, "send the name and password of a user as proof")


Answering: TypeAlias = Callable[[Called], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation."""

    name: str
    path: str
    """Behind ``/api/v1``."""
    summary: str
    answer: Answering
    """Returns what is sent: a value of ``reply``, or a response."""
    reply: Any
    method: Method = "GET"
    role: Role | None = Role.VIEWER
    parameters: tuple[Parameter, ...] = ()
    body: Any = None
    """The type of what is sent."""
    failures: Mapping[int, str] = field(default_factory=dict[int, str])
    """What else it may answer, beside what every operation may."""
    reply_type: str = _JSON
    needs_proof: bool = False
    """Whether the password must have been given lately, or comes with it: ``proof`` of the body."""
    is_live: bool = False
    """Whether it goes on until the program has enough."""

    @property
    def entry(self) -> Entry:
        """Its row among all entries."""
        return Entry(
            f"/api/v1{self.path}",
            self._page,
            role=self.role,
            method=self.method,
            is_live=self.is_live,
            is_api=True,
        )

    async def _page(self, asked: Asked) -> Response:
        try:
            called = Called(asked, self._read_values(asked), await self._read_body(asked))
            if self.needs_proof:
                await _prove(asked, called.body.proof)
            reply = await self.answer(called)
        except ProblemRaised as error:
            return problem(error.status, error.detail, error.cure)
        if isinstance(reply, Response):
            return reply
        return Response(msgspec.json.encode(reply), media_type=_JSON)

    def _read_values(self, asked: Asked) -> Query:
        known = {one.name: one for one in self.parameters}
        given = asked.request.query_params.multi_items()
        values: Query = {name: str(text) for name, text in asked.request.path_params.items()}
        for name, text in given:
            if name not in known or known[name].in_path:
                raise ProblemRaised(_BAD_REQUEST, f"there is no parameter {name!r}")
            if name in values:
                raise ProblemRaised(_BAD_REQUEST, f"{name} is given twice")
            values[name] = text
        for name, text in values.items():
            known[name].check(text)
        return values

    async def _read_body(self, asked: Asked) -> object:
        if self.body is None:
            return None
        kind = asked.request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != _JSON:
            raise ProblemRaised(_BAD_REQUEST, f"the body is sent as {_JSON}")
        try:
            return msgspec.json.decode(await asked.request.body(), type=self.body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ProblemRaised(_BAD_REQUEST, f"the body is wrong: {error}") from error
