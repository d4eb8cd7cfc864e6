"""AnsweredExchange: how an exchange is answered in its server's place, refused or failed.

The other parts of an exchange (``admission``, ``routing``, ``gate_exchange``) stand on it. The
invariant: the first reason to end is the one that is recorded; an answer that has begun is never
followed by another one, and what ends in the middle of it ends with a reset.
"""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from sluicegate.errors import BadContext, LimitExceeded
from sluicegate.filterapi import Outcome
from sluicegate.protocols.http1 import NO_BODY, Fields, Framing, Response

from .exchange_facts import ExchangeFacts
from .grpc_refusal import grpc_refusal, is_grpc
from .refusal_page import Refusal
from .rule_bounds import Passed, passed_by_bodies, passed_by_request, passed_by_response

if TYPE_CHECKING:
    from .body_stage import OwnSource, ResponseSink

__all__ = ["CHALLENGE", "AnsweredExchange"]


class AnsweredExchange(ExchangeFacts):
    """How one ends by the gate's own word."""

    __slots__ = ()

    def forget(self) -> None:
        """Be no exchange any more: whoever serves the request now records it."""
        self.is_over = True

    @abc.abstractmethod
    def stop_dialling(self) -> None:
        """Give up: nobody wants the server any more."""

    # -- how much of it there may be -------------------------------------------------------------

    @property
    def has_bytes_left(self) -> bool:
        """Whether the rule lets so many bytes pass; an exchange that has none left has ended."""
        bound = self.plan.bytes_max
        if bound is not None and self.bytes_to_server + self.bytes_to_client > bound:
            self.on_limit(LimitExceeded(f"rule {self.rule.name} bytes_max", bound))
            return False
        if self.answered_by_gate:
            return True  # The gate's own words about a limit are not held to it.
        passed = passed_by_bodies(self.rule, self.bytes_to_server, self.bytes_to_client)
        return passed is None or self._end_at(passed)

    def has_room_for(self, response: Response) -> bool:
        """Whether the rule lets a body of the length that a response says; False: it has ended."""
        passed = passed_by_response(self.rule, self.request, response)
        return passed is None or self._end_at(passed)

    def has_room_for_request(self) -> bool:
        """Whether the rule lets a request of this size; False: it was refused, in its name."""
        passed = passed_by_request(self.rule, self.request, self.scheme)
        if passed is None:
            return True
        self.refuser = self.rule.name
        return self._end_at(passed)

    def _end_at(self, passed: Passed) -> bool:
        self.connection.service.on_limit(passed.limit, self.connection)
        self.refuse(passed.status, f"limit {passed.limit.limit}")
        return False

    # -- the gate's own answers ------------------------------------------------------------------

    def inform(self, response: Response) -> bool:
        """Send an informational response; False: an answer has begun, or the client takes none."""
        return not self.is_over and self.client.inform(response)

    @override
    def answer(self, response: Response, body: bytes = b"") -> None:
        """Answer in the server's place; the record says released, by the gate's own answer.

        The server's connection, if there is one, is given up; what the client still sends of its
        request is not read.

        Args:
            response: Its framing is set here, to the body's length.
            body: All of it.

        Raises:
            BadContext: Something of an answer was sent already.
        """
        if self.is_over:
            return
        if self.is_answered:
            raise BadContext("an answer has begun")
        self.answered_by_gate = True
        if self.verdict != "allowed" and self.ending is _RELEASED:
            self.verdict = "allowed"
        self._drop_origin()
        response.framing = Framing.of_length(len(body)) if body else NO_BODY
        client = self.client
        client.is_corked = True
        client.begin(response)
        if body and self.request.method != b"HEAD":
            client.feed(body)
        client.finish(_NO_TRAILERS)

    @override
    def answer_from(self, source: OwnSource) -> ResponseSink:
        """Answer in the server's place with what ``source`` gives to the sink that is returned.

        Raises:
            BadContext: Something of an answer was sent already.
        """
        if self.is_answered:
            raise BadContext("an answer has begun")
        self.answered_by_gate = True
        self.verdict = "allowed"
        self._drop_origin()
        self._own_source = source
        client = self.client
        client.source = source
        return client

    @property
    def committed(self) -> Framing | None:
        """How a head that was promised to the client tells the end of its body; None: none was."""
        return self.client.committed

    def comfort(self, head: Response | None) -> bool:
        """Send the client the next byte of the head that it will get; False: nothing is left.

        Args:
            head: The head that is promised with the first byte behind the version, which is the
                same in all; None: nothing is promised.
        """
        return not self.is_over and self.client.comfort(head)

    @override
    def refuse(self, status: int, reason: str, *, detail: str = "") -> None:
        """End it by a verdict: with a refusal page, or a reset where an answer has begun.

        Args:
            status: What the client is told, 400 or more.
            reason: For the record, and the code that a machine reads.
            detail: For the record alone.
        """
        why = f"{reason}: {detail}" if detail else reason
        self._end_with(Outcome.REFUSED, status, reason, why)

    @override
    def fail(self, status: int, reason: str) -> None:
        """End it as failed: the client is told a status, or reset where an answer has begun."""
        self._end_with(Outcome.FAILED, status, reason, reason)

    def abort(self, reason: str) -> None:
        """End it as failed: 502 to the client, or a reset where an answer has begun."""
        self.fail(502, reason)

    @override
    def reset(self, reason: str) -> None:
        """End it by a verdict, and the connection without a word."""
        if not self.is_over:
            self.ending = Outcome.REFUSED
            self._note_why(reason)
            self.connection.close(abortive=True)

    @override
    def on_limit(self, error: LimitExceeded) -> None:
        """End it at a limit."""
        self.connection.service.on_limit(error, self.connection)
        self.refuse(503, f"limit {error.limit}")

    def _end_with(self, outcome: Outcome, status: int, reason: str, why: str) -> None:
        if self.is_over:
            return
        self.ending = outcome
        self._note_why(why)
        if self.relay is not None:
            if outcome is Outcome.REFUSED and not self.relay.is_ending:
                self.connection.service.denied += 1
            self.relay.end_by_status(status, reason)
            return
        if self.is_answered:
            # Never a clean end: what came until now must not look whole.
            self.connection.end_exchange(outcome, why)
            return
        rule = self.plan.rule.name if self.verdict == "allowed" else self.refuser
        refusal = Refusal(status, reason, rule, self.id)
        pages = self.connection.desk.refusal_pages
        if is_grpc(self.request):
            is_verdict = outcome is Outcome.REFUSED
            response, body = grpc_refusal(refusal, is_verdict=is_verdict), b""
        else:
            response, body = pages.render(refusal, self.request.fields.all(b"accept"))
        if status == _PROXY_AUTHENTICATION_REQUIRED:
            response.fields.add(b"Proxy-Authenticate", CHALLENGE)
        if outcome is Outcome.REFUSED:
            self.connection.service.denied += 1
        self.answer(response, body)

    def _note_why(self, why: str) -> None:
        if self.verdict == "allowed":
            self.ended = why
        else:
            self.reason = why

    def _drop_origin(self) -> None:
        self.stop_dialling()
        origin, self.origin = self.origin, None
        if origin is not None:
            origin.close()

    def note_end(self, outcome: Outcome, why: str) -> None:
        """Take why its connection ends, before that does."""
        if not self.is_over and self.ending is _RELEASED:
            self.ending = outcome
            self._note_why(why)


_RELEASED: Final = Outcome.RELEASED
_NO_TRAILERS: Final = Fields()
_PROXY_AUTHENTICATION_REQUIRED: Final = 407

CHALLENGE: Final = b'Basic realm="Sluicegate", charset="UTF-8"'
"""RFC 7617, section 2.1: the charset tells clients to encode in UTF-8."""
