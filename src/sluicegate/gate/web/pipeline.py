"""Pipelines: what a rule's filters want of the web's messages, compiled once at policy load.

The gate asks ``compile_pipeline`` for every rule when a policy comes into force; exchanges under a
rule without one pass on the fast path. The invariant: a filter that wants a message sees it before
the other end does.

Where a pipeline is asked, in this order:

1. ``Pipeline.open(exchange)``, when the request was read and policy has let it in: nothing is
   dialled yet. It returns what stands in this one exchange, or None if it stands aside.
2. ``ExchangePart.on_request(go_on)``: may change ``exchange.request`` (fields, target, method,
   framing), may ``answer`` or ``refuse``. It calls ``go_on()`` once, at once or later; not after it
   has ended the exchange. Policy judges again what it has changed of method, path or host.
3. ``request_stages()``: the stages between client and server, in this order.
4. ``on_response(go_on)``: the same for ``exchange.response``. Informational responses pass only
   where nothing is open.
5. ``response_stages()``: the stages between server and client, in this order.
6. ``on_end()``: exactly once, after the last byte or the failure; the stages are closed after it.

Behind a pipeline's stages, next to the receiver, stands the held body (``held_body``) where the
rule has content filters: what was judged is what is delivered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from sluicegate.protocols.http1 import Request, Response

from .body_stage import BodyStage

if TYPE_CHECKING:
    from sluicegate.gate.registry import RulePlan
    from sluicegate.gate.service import FirewallService

    from .exchange import Exchange

__all__ = ["ExchangePart", "Pipeline", "compile_pipeline"]


class ExchangePart(Protocol):
    """What a pipeline does in one exchange."""

    def on_request(self, go_on: Callable[[], None]) -> None:
        """See the request's head before anything is dialled."""
        ...

    def request_stages(self) -> Sequence[BodyStage[Request]]:
        """Return what stands between client and server."""
        ...

    def on_response(self, go_on: Callable[[], None]) -> None:
        """See the response's head before anything of it is sent."""
        ...

    def response_stages(self) -> Sequence[BodyStage[Response]]:
        """Return what stands between server and client."""
        ...

    def on_end(self) -> None:
        """Take that the exchange is over."""
        ...


class Pipeline(Protocol):
    """What a rule's filters want, for all of its exchanges."""

    def open(self, exchange: Exchange) -> ExchangePart | None:
        """Return what stands in an exchange; None: nothing."""
        ...


def compile_pipeline(service: FirewallService, plan: RulePlan) -> Pipeline | None:
    """Return what the filters of a rule want of the web's messages; None: nothing."""
    del service, plan
    return None
