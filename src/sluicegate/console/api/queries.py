"""What the API can be asked about queries that people have saved.

``operations`` has these in its table. The invariant: what is saved is a query.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from sluicegate.audit.search import QueryRefused
from sluicegate.console.pages.log import remove_query, save_query
from sluicegate.console.roles import Role
from sluicegate.console.saved_queries import SavedQuery
from sluicegate.documents import Wrong
from sluicegate.log_limits import QUERY_BYTES_MAX

from .operation import Called, Operation, ProblemRaised
from .parameters import CURSOR, LIMIT, page_of

__all__ = ["OPERATIONS"]

_NOT_FOUND: Final = 404
_CONFLICT: Final = 409
_UNAVAILABLE: Final = 503
_CHARACTERS_MAX: Final = 60

_Title = Annotated[str, msgspec.Meta(max_length=_CHARACTERS_MAX)]


class Queries(msgspec.Struct):
    """Saved queries, by title."""

    rows: list[SavedQuery]
    total: int
    next: int | None
    """The cursor of the next rows; none: there are none."""


class NewQuery(msgspec.Struct, forbid_unknown_fields=True):
    """A query for everybody."""

    title: _Title
    text: Annotated[str, msgspec.Meta(max_length=QUERY_BYTES_MAX)]


class OldQuery(msgspec.Struct, forbid_unknown_fields=True):
    """A query that nobody needs any more."""

    title: _Title


class Saved(msgspec.Struct):
    """It was done."""

    title: str


async def _list(called: Called) -> Queries:
    rows = called.asked.console.saved_queries.read()
    shown, further = page_of(rows, called)
    return Queries(shown, len(rows), further)


async def _save(called: Called) -> Saved:
    wanted: NewQuery = called.body
    try:
        save_query(called.asked, wanted.title, wanted.text)
    except QueryRefused as error:
        raise ProblemRaised(_CONFLICT, error.cause, error.cure) from error
    except Wrong as error:
        raise ProblemRaised(_CONFLICT, str(error)) from error
    except OSError as error:
        raise ProblemRaised(_UNAVAILABLE, f"it cannot be written: {error.strerror}") from error
    return Saved(wanted.title)


async def _remove(called: Called) -> Saved:
    wanted: OldQuery = called.body
    try:
        was_there = remove_query(called.asked, wanted.title)
    except OSError as error:
        raise ProblemRaised(_UNAVAILABLE, f"it cannot be written: {error.strerror}") from error
    if not was_there:
        raise ProblemRaised(_NOT_FOUND, "there is no such query")
    return Saved(wanted.title)


OPERATIONS: Final = (
    Operation(name="listQueries", path="/queries", summary="Saved queries.",
              answer=_list, reply=Queries, parameters=(CURSOR, LIMIT)),
    Operation(name="saveQuery", path="/queries", method="POST", role=Role.OPERATOR,
              summary="Save a query for everybody.", answer=_save, body=NewQuery, reply=Saved,
              failures={409: "It is no query or no title, or there are too many."}),
    Operation(name="removeQuery", path="/queries/remove", method="POST", role=Role.OPERATOR,
              summary="Forget a query.", answer=_remove, body=OldQuery, reply=Saved,
              failures={404: "There is no such query."}),
)  # fmt: skip
