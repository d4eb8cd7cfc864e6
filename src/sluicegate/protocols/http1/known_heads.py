"""Heads that were read before: clients and servers say the same fields again and again.

Both ends may be given one to share. The invariant: what is remembered of a block of fields is what
reading it anew would give, and how it is sent on is what ``to_server`` or ``to_client`` and the
serializer would make of it. Parsing is pure, so equal bytes have equal readings.

Of a request the fields are remembered, for its target is seldom the same; they were read alike by
the second reader when they came first, and what the target may be made of no reader takes in two
ways. Of a response the whole head is remembered.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from sluicegate.protocol_limits import HTTP_HEAD_KNOWN_BYTES_MAX, HTTP_HEADS_KNOWN_MAX
from sluicegate.protocols.http1.bounds import HttpBounds
from sluicegate.protocols.http1.fields import FieldItem, Fields, WrittenFields
from sluicegate.protocols.http1.forwarding import NOT_PASSED, to_client
from sluicegate.protocols.http1.framing import has_no_body
from sluicegate.protocols.http1.messages import (
    NO_BODY,
    FramingKind,
    Request,
    Response,
)
from sluicegate.protocols.http1.reasons import reason_of
from sluicegate.protocols.http1.request_head import (
    DEFAULT_PORTS,
    read_request_head,
    request_block_bounds,
)
from sluicegate.protocols.http1.response_head import read_response_head, response_block_bounds
from sluicegate.protocols.http1.target import PATH, Authority, Target, TargetForm
from sluicegate.protocols.http1.writing import write_response

__all__ = ["KnownFields", "KnownHeads", "KnownResponse"]


class _Site(NamedTuple):
    """What targets begin with that lead to one host."""

    text: bytes
    #: Scheme, marks and authority, as they came.
    scheme: bytes
    authority: Authority
    host: bytes
    #: The authority as it is sent.


class KnownFields:
    """The fields of requests that came with exactly these bytes."""

    __slots__ = ("_forwarded", "_host", "_items", "_request", "_site", "_written")

    def __init__(self, request: Request, host: Authority) -> None:
        self._request = request
        #: The first one that had them; never handed out.
        self._host = host
        self._items: tuple[FieldItem, ...] = tuple(request.fields.checked_items())
        self._written = WrittenFields(request.fields, _HOST)
        self._forwarded: dict[bytes, bytes] = {}
        self._site: _Site | None = None
        #: Of the last absolute target that was read in full.

    def request(self, method: bytes, text: bytes) -> Request | None:
        """Return another request with these fields; None if they do not fit its target."""
        site = self._site
        if site is not None and text.startswith(site.text) and PATH.fullmatch(text, len(site.text)):
            # The authority ends where the path begins, and both read as they did.
            authority = site.authority
            target = Target(_ABSOLUTE, text[len(site.text) :], site.scheme, authority)
        else:
            found = Target.parse(text, method=method)
            named = self._agreed(found) if found is not None else None
            if found is None or named is None:
                return None
            target, authority = found, named
            self._remember_site(text, target)
        return Request(
            method,
            target,
            Fields.from_checked(list(self._items)),
            NO_BODY,
            authority,
            True,
            self._request.wants_close,
            False,
            (),
            False,
            self._request.hop_fields,
            self,
        )

    def _agreed(self, target: Target) -> Authority | None:
        """Return where a request goes; None where its target and ``Host`` disagree."""
        authority, host = target.authority, self._host
        if authority is None:
            return host
        is_same = authority == host or host.agrees_with(authority, DEFAULT_PORTS.get(target.scheme))
        return authority if is_same else None

    def _remember_site(self, text: bytes, target: Target) -> None:
        begin = len(text) - len(target.path)
        authority = target.authority
        is_short = begin <= HTTP_HEAD_KNOWN_BYTES_MAX
        if authority is not None and is_short and text[begin:] == target.path:
            self._site = _Site(text[:begin], target.scheme, authority, bytes(authority))

    def written(self, request: Request, pseudonym: bytes, *, is_changed: bool) -> bytes:
        """Return the whole head of a request as it goes on to its own host.

        Args:
            request: One that was made from these fields.
            pseudonym: Of ``Via``; a token, as that of heads that go on unchanged.
            is_changed: Whether something may have been done to its fields since.
        """
        authority, site = request.authority, self._site
        assert authority is not None, "its Host was read"
        is_of_site = site is not None and site.authority is authority
        host = site.host if site is not None and is_of_site else bytes(authority)
        line = b"%b %b HTTP/1.1\r\nHost: %b\r\n" % (request.method, request.target.path, host)
        if not is_changed:
            return line + self._forwarded_by(pseudonym)
        fields = self._written.of(request.fields)
        return b"".join([line, *fields, b"Via: 1.1 %b\r\n\r\n" % pseudonym])

    def _forwarded_by(self, pseudonym: bytes) -> bytes:
        """Return the fields behind ``Host`` as they go on, up to the end of the head."""
        found = self._forwarded.get(pseudonym)
        if found is None:
            others = Fields.from_checked([item for item in self._items if item[0] != b"host"])
            others.add(b"Via", b"1.1 " + pseudonym)
            found = self._forwarded[pseudonym] = others.written() + b"\r\n"
        return found


class _Going(NamedTuple):
    """How a response's head goes on."""

    whole: bytes
    line: bytes
    tail: bytes
    #: What stands behind the fields of its own.


class KnownResponse:
    """A response's head, and how it goes on; shared by all that are the same: not to be changed."""

    __slots__ = (
        "_going",
        "_items",
        "_written",
        "body_length",
        "head_length",
        "listed",
        "response",
    )

    def __init__(self, response: Response, head_length: int) -> None:
        self.response = response
        self._items = response.fields.checked_items()
        self._written = WrittenFields(response.fields, _NOT_PASSED)
        self.head_length = head_length
        self.body_length = response.framing.length
        self._going: dict[bytes, _Going] = {}
        self.listed: dict[bytes, list[tuple[bytes, bytes]]] = {}
        #: How HTTP/2 says it, by the pseudonym of ``Via``: kept by ``http2.response_head``.

    def forwarded(self, pseudonym: bytes) -> bytes:
        """Return the head as it goes on to a client of HTTP/1.1 whose connection stays open."""
        return (self._going.get(pseudonym) or self._go(pseudonym)).whole

    def _go(self, pseudonym: bytes) -> _Going:
        response = to_client(self.response, pseudonym)
        response.fields.remove(*NOT_PASSED)
        whole = write_response(response, response.framing, reason=reason_of(response.status))
        line = whole[: whole.index(b"\r\n") + 2]
        via = Fields([(b"Via", response.fields.all(b"via")[-1])]).written()
        tail = b"%bContent-Length: %d\r\n\r\n" % (via, self.body_length)
        going = self._going[pseudonym] = _Going(whole, line, tail)
        return going

    def copy(self) -> Response:
        """Return such a head of one's own, whose fields are free to change."""
        known = self.response
        return Response(
            known.status,
            known.reason,
            Fields.from_checked(self._items.copy()),
            known.framing,
            known.is_http_1_1,
            False,
            (),
            known.hop_fields,
        )

    def forwarded_as(self, fields: Fields, pseudonym: bytes) -> bytes:
        """Return the head as it goes on with what was made of its fields."""
        _, line, tail = self._going.get(pseudonym) or self._go(pseudonym)
        return b"".join([line, *self._written.of(fields), tail])


class KnownHeads:
    """What was read under the same bounds; all ends of one gate may share it."""

    __slots__ = ("_requests", "_responses", "bounds", "request_block", "response_block")

    def __init__(self, bounds: HttpBounds) -> None:
        self.bounds = bounds
        self.request_block = request_block_bounds(bounds)
        self.response_block = response_block_bounds(bounds)
        #: How long heads and their lines may be, by these bounds.
        self._requests: dict[bytes, KnownFields] = {}
        self._responses: dict[bytes, KnownResponse] = {}

    def read_request(self, head: bytes) -> Request:
        """Read a whole head.

        Raises:
            HttpProtocolError: As ``read_request_head``.
        """
        bounds, block = self.bounds, self.request_block
        line, _, fields = head.partition(b"\r\n")
        known = self._requests.get(fields)
        if known is not None and len(head) <= block.bytes_max:
            # Whatever else the line may be, it is read in full, and refused where it has to be.
            parts = line.split(b" ")
            if len(parts) == _LINE_PARTS:
                method, text, version = parts
                is_usual = method in _BODILESS and version == b"HTTP/1.1"
                if is_usual and len(text) <= bounds.target_bytes_max:
                    request = known.request(method, text)
                    if request is not None:
                        return request
        request = read_request_head(head, bounds, block)
        host = request.fields.first(b"host")
        if host is not None and _is_usual(request) and len(fields) <= HTTP_HEAD_KNOWN_BYTES_MAX:
            named = Authority.parse(host)
            assert named is not None, "a Host that was read is one"
            if len(self._requests) >= HTTP_HEADS_KNOWN_MAX:
                self._requests.clear()
            request.known = self._requests[fields] = KnownFields(_copy(request), named)
        return request

    def read_response(self, head: bytes, request: Request) -> KnownResponse | None:
        """Read a whole head, if it is of the usual kind: its body has a length, and follows.

        Raises:
            HttpProtocolError: As ``read_response_head``.
        """
        known = self._responses.get(head)
        if known is not None:
            return known if request.method != b"HEAD" else None
        response = read_response_head(head, self.bounds, self.response_block, request)
        is_usual = (
            response.framing.kind is FramingKind.LENGTH
            and not has_no_body(response.status, request.method)
            and not response.wants_close
            and not response.upgrade
            and len(head) <= HTTP_HEAD_KNOWN_BYTES_MAX
        )
        if not is_usual:
            return None
        if len(self._responses) >= HTTP_HEADS_KNOWN_MAX:
            self._responses.clear()
        known = self._responses[head] = KnownResponse(response, len(head))
        return known


def _is_usual(request: Request) -> bool:
    """Tell whether nothing but its fields and its target is to be known of a request."""
    return (
        request.framing is NO_BODY
        and request.is_http_1_1
        and request.method in _BODILESS
        and not request.expects_continue
        and not request.upgrade
        and not request.accepts_trailers
        and request.target.form in {TargetForm.ORIGIN, TargetForm.ABSOLUTE}
    )


def _copy(request: Request) -> Request:
    return Request(
        request.method,
        request.target,
        request.fields.copy(),
        request.framing,
        request.authority,
        request.is_http_1_1,
        request.wants_close,
        hop_fields=request.hop_fields,
    )


_LINE_PARTS: Final = 3
#: Method, target, version.
_ABSOLUTE: Final = TargetForm.ABSOLUTE
_HOST: Final = frozenset({b"host"})
_NOT_PASSED: Final = frozenset(name.lower() for name in NOT_PASSED)
#: Methods whose heads are read alike, but for their name: they have no body, and are not counted.
_BODILESS: Final = frozenset({b"GET", b"HEAD", b"DELETE"})
