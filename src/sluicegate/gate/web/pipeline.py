"""Pipelines: what a rule's filters want of the web's messages, compiled once at policy load.

The gate asks ``compile_pipeline`` for every rule when a policy comes into force; exchanges under a
rule without one pass on the fast path. The invariant: a filter that wants a message sees it before
the other end does.

Where a pipeline is asked, in this order:

1. ``Pipeline.open(exchange)``, when the request was read and policy has let it in: nothing is
   dialled yet. It returns what stands in this one exchange, or None if it stands aside.
2. ``ExchangePart.on_request(go_on)``: may change ``exchange.request`` (fields, target, method,
   framing), may ``answer`` or ``refuse``. It returns True if the request goes on at once; else it
   calls ``go_on()`` when it does, once, later; never after it has ended the exchange. Policy judges
   again what it has changed of method, path or host.
3. ``request_stages()``: the stages between client and server, in this order.
4. ``on_response(go_on)``: the same for ``exchange.response``. ``on_interim`` comes before
   it, once for each informational response.
5. ``response_stages()``: the stages between server and client, in this order.
6. ``on_end()``: exactly once, after the last byte or the failure; the stages are closed after it.

Behind a pipeline's stages, next to the receiver, stands the held body (``held_body``) where the
rule has content filters: what was judged is what is delivered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from sluicegate.filterapi import Need, Needs
from sluicegate.protocols.http1 import Request, Response

from .body_stage import BodyStage
from .declared_needs import has_hook
from .filtered_exchange import FilteredExchange
from .phase import Asked, Phase

if TYPE_CHECKING:
    from sluicegate.gate.registry import RulePlan, WebStep
    from sluicegate.gate.service import FirewallService

    from .exchange import Exchange

__all__ = ["ExchangePart", "Pipeline", "WebPipeline", "compile_pipeline"]


class ExchangePart(Protocol):
    """What a pipeline does in one exchange."""

    @property
    def may_stage_responses(self) -> bool:
        """Whether ``response_stages`` may return any."""
        ...

    def on_request(self, go_on: Callable[[], None]) -> bool:
        """See the request's head before anything is dialled; False: it does not go on yet."""
        ...

    def request_stages(self) -> Sequence[BodyStage[Request]]:
        """Return what stands between client and server."""
        ...

    def on_interim(self, message: Response) -> bool:
        """See an informational response; False: it does not go on."""
        ...

    def on_response(self, go_on: Callable[[], None]) -> bool:
        """See the response's head before anything of it is sent; False: it does not go on yet."""
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
    return WebPipeline(service, plan.web) if plan.web else None


class WebPipeline:
    """The web filters of one rule: who is asked about what, in which order."""

    __slots__ = (
        "enders",
        "interims",
        "loggers",
        "reads_responses",
        "request_bodies",
        "requests",
        "response_bodies",
        "responses",
        "routes",
        "service",
        "steps",
    )

    def __init__(self, service: FirewallService, steps: tuple[WebStep, ...]) -> None:
        self.service = service
        self.steps = steps
        outward = range(len(steps))
        inward = range(len(steps) - 1, -1, -1)
        routers = self._asked(outward, "on_route")
        self.routes = Phase(routers, FilteredExchange.take_route, FilteredExchange.finish_request)
        begin_routes = FilteredExchange.begin_routes
        self.requests = Phase(
            self._asked(outward, "on_request"),
            FilteredExchange.take_head,
            begin_routes if routers else FilteredExchange.finish_request,
            is_first=True,
        )
        self.responses = Phase(
            self._asked(inward, "on_response"),
            FilteredExchange.take_head,
            FilteredExchange.finish_response,
        )
        self.interims = self._with(inward, "on_interim")
        self.loggers = self._with(outward, "on_log")
        #: Indices of the filters that have this hook, in the order in which they are asked.
        self.enders = self._with(outward, "on_end")
        self.request_bodies = tuple(
            index for index in outward if steps[index].filter.needs.request > Need.HEADERS
        )
        #: Indices of those that may be shown bodies.
        self.response_bodies = tuple(
            index for index in inward if _reads_responses(steps[index].filter.needs)
        )
        self.reads_responses = any(
            steps[index].filter.needs.is_decoded or steps[index].filter.needs.events
            for index in self.response_bodies
        )
        #: Whether servers are to send whole objects, in codings that can be read.

    def open(self, exchange: Exchange) -> ExchangePart | None:
        """As ``Pipeline.open``."""
        return FilteredExchange(self, exchange)

    def _asked(self, indices: range, hook: str) -> tuple[Asked, ...]:
        steps = self.steps
        return tuple(
            Asked(index, steps[index].installed, getattr(steps[index].filter, hook))
            for index in self._with(indices, hook)
        )

    def _with(self, indices: range, hook: str) -> tuple[int, ...]:
        return tuple(index for index in indices if has_hook(self.steps[index].filter, hook))


def _reads_responses(needs: Needs) -> bool:
    return needs.response > Need.HEADERS or needs.events
