"""Held bodies: what the content filters of a rule judge as a whole before its receiver has it.

The engine asks here for the last stage of each way, in every exchange under a rule that has content
filters. The invariant: under such a rule no body passes that they were not asked about.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sluicegate.protocols.http1 import NO_BODY, Request, Response

if TYPE_CHECKING:
    from .body_stage import BodyStage
    from .exchange import Exchange

__all__ = ["hold_request", "hold_response"]


def hold_request(exchange: Exchange) -> BodyStage[Request] | None:
    """Return the stage for the body of ``exchange.request``; None: there is none, or it refused."""
    if exchange.request.framing is not NO_BODY:
        exchange.refuse(403, _NOT_HELD)
    return None


def hold_response(exchange: Exchange) -> BodyStage[Response] | None:
    """Return the stage for the body of ``exchange.response``; None: there is none, or it refused.

    It is asked before anything of the response was sent, with its head as it would go out.
    """
    response = exchange.response
    if response is not None and response.framing is not NO_BODY:
        exchange.refuse(502, _NOT_HELD)
    return None


_NOT_HELD: Final = "content filters are not asked about bodies of HTTP yet"
