"""Interim responses: what comes before the answer (RFC 9110, section 15.2), and who may say it.

``gate_exchange`` asks about those of servers, ``exchange_view`` makes those of filters. The
invariant: 100 goes only to a client that waits for it, no interim response goes behind the first
byte of an answer, and 101 is none: what it begins is another protocol's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from sluicegate.filterapi import Headers
from sluicegate.protocols.http1 import Fields, Response

if TYPE_CHECKING:
    from .gate_exchange import GateExchange

__all__ = ["informational", "pass_interim"]


def informational(status: int, headers: Mapping[str, str | Sequence[str]]) -> Response:
    """Make one of a filter's own.

    Raises:
        ValueError: It cannot be sent.
    """
    if not _FIRST <= status <= _LAST:
        raise ValueError(f"{status} is no informational response that a filter may send")
    fields = Fields()
    written = Headers(fields)
    for name, values in headers.items():
        for value in (values,) if isinstance(values, str) else values:
            written.add(name, value)
    return Response(status, fields=fields)


def pass_interim(exchange: GateExchange, response: Response) -> None:
    """Pass a server's on, if the client may have it and the rule's filters let it."""
    if response.status == _CONTINUE:
        # Where the gate waits for the body itself, it has told the client so, and not the server.
        if exchange.request.expects_continue:
            exchange.client.inform(Response(_CONTINUE))
        return
    if exchange.lets_interim(response):
        exchange.client.inform(exchange.connection.desk.to_client(response))


_CONTINUE: Final = 100
_FIRST: Final = 102
_LAST: Final = 199
