"""The head of a request in HTTP/2: pseudo-fields and fields in, a message of HTTP/1's model out.

``Http2Server`` reads with it, ``Http2Client`` writes with it. The invariant: a request that is
handed out names one host in one way, and can be sent on in HTTP/1 without another check; everything
else is a ``StreamFault`` (RFC 9113 section 8.3.1, RFC 8441 section 4).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from hpack import NeverIndexedHeaderTuple

from sluicegate.errors import BadContext
from sluicegate.protocol_limits import HTTP_METHOD_BYTES_MAX
from sluicegate.protocols.http1.fields import Fields
from sluicegate.protocols.http1.messages import CHUNKED, NO_BODY, Framing, FramingKind, Request
from sluicegate.protocols.http1.request_head import DEFAULT_PORTS
from sluicegate.protocols.http1.target import Authority, Target, TargetForm
from sluicegate.protocols.text import printable

from .fault import Http2Fault, StreamFault
from .field_lists import FieldFacts, KnownLists, RawField, read_length

__all__ = ["ServedAs", "read_request", "request_fields"]


class ServedAs:
    """What clients of a connection may ask for."""

    __slots__ = ("is_proxy", "protocols", "scheme")

    def __init__(
        self, *, is_proxy: bool, scheme: bytes = b"https", protocols: frozenset[bytes] = frozenset()
    ) -> None:
        self.is_proxy = is_proxy
        #: Whether targets are whole URLs, of any host, and CONNECT is understood.
        self.scheme = scheme
        #: The one that is served where it is no proxy.
        self.protocols = protocols
        #: In lower case, those that an extended CONNECT may ask for.


def read_request(
    fields: Sequence[RawField], known: KnownLists, served: ServedAs, *, is_whole: bool
) -> tuple[Request, bytes]:
    """Read a head; return the request, and the protocol of an extended CONNECT.

    Args:
        fields: As they were decompressed.
        known: Readings of lists that came before, and the bounds.
        served: What may be asked for here.
        is_whole: Whether no body follows.

    Raises:
        StreamFault: It is malformed.
    """
    pseudo: dict[bytes, bytes] = {}
    count = 0
    for name, value in fields:
        if not name.startswith(b":"):
            break
        if name in pseudo:
            raise StreamFault(Http2Fault.PSEUDO_REPEATED, printable(name))
        if name not in _PSEUDO:
            raise StreamFault(Http2Fault.PSEUDO_UNKNOWN, printable(name[:_SHOWN]))
        pseudo[name] = value
        count += 1
    method = pseudo.get(b":method")
    if method is None:
        raise StreamFault(Http2Fault.PSEUDO_MISSING, ":method")
    if _METHOD.fullmatch(method) is None:
        raise StreamFault(Http2Fault.METHOD, printable(method[:_SHOWN]))
    facts = known.read(fields[count:])
    protocol = pseudo.get(b":protocol", b"")
    if method == b"CONNECT" and b":protocol" not in pseudo:
        return _read_connect(pseudo, facts), b""
    if b":protocol" in pseudo:
        _check_protocol(protocol, method, served)
    target, authority = _read_target(pseudo, facts, known, served, method)
    framing = _read_framing(facts, method, protocol, known, is_whole=is_whole)
    expects = _read_expectation(facts, has_body=framing is not NO_BODY)
    if method in _COUNTED:
        _check_max_forwards(facts)
    host = bytes(authority)
    return Request(
        method,
        target,
        Fields.from_checked([(b"host", b"Host", host), *facts.items]),
        framing,
        authority,
        expects_continue=expects,
        accepts_trailers=facts.accepts_trailers,
        hop_fields=facts.hop_fields,
        came_by_http_2=True,
    ), protocol


def _check_protocol(protocol: bytes, method: bytes, served: ServedAs) -> None:
    """Check what an extended CONNECT asks for (RFC 8441 sections 3 and 4)."""
    if method != b"CONNECT" or not served.protocols or _PROTOCOL.fullmatch(protocol) is None:
        raise StreamFault(Http2Fault.PROTOCOL, printable(protocol[:_SHOWN]))
    if protocol.lower() not in served.protocols:
        raise StreamFault(Http2Fault.PROTOCOL_NOT_SERVED, printable(protocol[:_SHOWN]))


def _read_connect(pseudo: dict[bytes, bytes], facts: FieldFacts) -> Request:
    """Read CONNECT: it has an authority, and nothing else (RFC 9113 section 8.5)."""
    if b":scheme" in pseudo or b":path" in pseudo:
        raise StreamFault(Http2Fault.CONNECT, "a scheme or a path")
    text = pseudo.get(b":authority")
    if text is None:
        raise StreamFault(Http2Fault.PSEUDO_MISSING, ":authority")
    authority = Authority.parse(text)
    if authority is None or authority.port is None:
        raise StreamFault(Http2Fault.AUTHORITY, printable(text[:_SHOWN]))
    if facts.lengths:
        raise StreamFault(Http2Fault.CONNECT, "a length")
    _check_host(facts, authority, authority.port)
    return Request(
        b"CONNECT",
        Target.connect(authority),
        Fields.from_checked([(b"host", b"Host", text), *facts.items]),
        NO_BODY,
        authority,
        hop_fields=facts.hop_fields,
        came_by_http_2=True,
    )


def _read_target(
    pseudo: dict[bytes, bytes],
    facts: FieldFacts,
    known: KnownLists,
    served: ServedAs,
    method: bytes,
) -> tuple[Target, Authority]:
    scheme, path = pseudo.get(b":scheme"), pseudo.get(b":path")
    if scheme is None or path is None:
        raise StreamFault(Http2Fault.PSEUDO_MISSING, ":scheme" if scheme is None else ":path")
    is_served = _SCHEME.fullmatch(scheme) if served.is_proxy else scheme == served.scheme
    if not is_served:
        raise StreamFault(Http2Fault.SCHEME, printable(scheme[:_SHOWN]))
    if len(path) > known.bounds.target_bytes_max:
        raise StreamFault(Http2Fault.PATH_TOO_LONG)
    authority = _read_authority(pseudo, facts, scheme)
    if path == b"*":
        if method != b"OPTIONS":
            raise StreamFault(Http2Fault.PATH, "*")
        is_absolute = served.is_proxy
        return (
            Target(TargetForm.ABSOLUTE, b"", scheme, authority)
            if is_absolute
            else Target(TargetForm.ASTERISK)
        ), authority
    try:
        target = Target.origin(path)
    except ValueError:
        raise StreamFault(Http2Fault.PATH, printable(path[:_SHOWN])) from None
    if served.is_proxy:
        target = Target(TargetForm.ABSOLUTE, path, scheme, authority)
    return target, authority


def _read_authority(pseudo: dict[bytes, bytes], facts: FieldFacts, scheme: bytes) -> Authority:
    text = pseudo.get(b":authority")
    if text is None:
        # RFC 9113 section 8.3.1: what was HTTP/1 before may have it in Host alone.
        if len(facts.hosts) > 1:
            raise StreamFault(Http2Fault.HOST_REPEATED)
        if not facts.hosts:
            raise StreamFault(Http2Fault.HOST_MISSING)
        text = facts.hosts[0]
    authority = Authority.parse(text)
    if authority is None:
        raise StreamFault(Http2Fault.AUTHORITY, printable(text[:_SHOWN]))
    _check_host(facts, authority, DEFAULT_PORTS.get(scheme))
    return authority


def _check_host(facts: FieldFacts, authority: Authority, default_port: int | None) -> None:
    """Check that ``host``, where it is there, says what the authority says (hostile group I2)."""
    hosts = facts.hosts
    if not hosts:
        return
    if len(hosts) > 1:
        raise StreamFault(Http2Fault.HOST_REPEATED)
    host = Authority.parse(hosts[0])
    if host is None:
        raise StreamFault(Http2Fault.AUTHORITY, printable(hosts[0][:_SHOWN]))
    if not host.agrees_with(authority, default_port):
        raise StreamFault(Http2Fault.HOST_DISAGREES, f"{host} and {authority}")


def _read_framing(
    facts: FieldFacts, method: bytes, protocol: bytes, known: KnownLists, *, is_whole: bool
) -> Framing:
    length = read_length(facts)
    if protocol:
        if length >= 0:
            raise StreamFault(Http2Fault.CONNECT, "a length")
        return NO_BODY
    if is_whole:
        if length > 0:
            raise StreamFault(Http2Fault.LENGTH_WRONG, "nothing follows")
        return NO_BODY if length < 0 else Framing.of_length(0)
    is_bodiless = method == b"TRACE" or (
        method in _METHODS_WITHOUT_BODY and not known.bounds.lets_any_method_have_a_body
    )
    if is_bodiless and length > 0:
        raise StreamFault(Http2Fault.LENGTH_WITHOUT_BODY, printable(method))
    if is_bodiless:
        # The end comes in a frame of its own; what would come before it is refused.
        return Framing.of_length(0)
    return CHUNKED if length < 0 else Framing.of_length(length)


def _read_expectation(facts: FieldFacts, *, has_body: bool) -> bool:
    if not facts.expects:
        return False
    if [value.lower() for value in facts.expects] != [b"100-continue"]:
        raise StreamFault(Http2Fault.EXPECTATION)
    return has_body


def _check_max_forwards(facts: FieldFacts) -> None:
    values = [item[2] for item in facts.items if item[0] == b"max-forwards"]
    if values and (len(values) != 1 or _MAX_FORWARDS.fullmatch(values[0]) is None):
        raise StreamFault(Http2Fault.MAX_FORWARDS)


def request_fields(request: Request, scheme: bytes, protocol: bytes = b"") -> list[RawField]:
    """Return a request's head as it is sent to a server.

    Args:
        request: The request.
        scheme: Of its URL.
        protocol: What an extended CONNECT asks for; empty: it is none.

    Credentials are marked never to be indexed: what one client sends could else be guessed by
    another whose requests share the connection (RFC 7541 section 7.1.3).

    Raises:
        BadContext: It has no host.
    """
    authority = request.fields.first(b"host")
    if authority is None:
        raise BadContext("a request needs a Host")
    fields: list[RawField] = [
        (b":method", request.method),
        (b":scheme", scheme),
        (b":authority", authority),
        (b":path", bytes(request.target)),
    ]
    if protocol:
        fields.append((b":protocol", protocol))
    for lower, _, value in request.fields.checked_items():
        if lower in _SECRET:
            fields.append(NeverIndexedHeaderTuple(lower, value))
        elif lower not in _NOT_SENT:
            fields.append((lower, value))
    if request.accepts_trailers:
        fields.append((b"te", b"trailers"))
    if request.framing.kind is FramingKind.LENGTH:
        fields.append((b"content-length", b"%d" % request.framing.length))
    elif request.framing is NO_BODY and request.method in _METHODS_WITH_BODY:
        fields.append((b"content-length", b"0"))
    return fields


_SHOWN: Final = 40
_PSEUDO: Final = frozenset({b":method", b":scheme", b":authority", b":path", b":protocol"})
#: A proxy is asked for others, too, and says that it does not serve them.
_SCHEME: Final = re.compile(rb"[a-z][a-z0-9+.\-]{0,15}")
_METHOD: Final = re.compile(rb"[!#$%%&'*+\-.^_`|~0-9A-Z]{1,%d}" % HTTP_METHOD_BYTES_MAX)
_PROTOCOL: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,40}")
_MAX_FORWARDS: Final = re.compile(rb"[0-9]{1,3}")
_COUNTED: Final = frozenset({b"TRACE", b"OPTIONS"})
_METHODS_WITHOUT_BODY: Final = frozenset({b"GET", b"HEAD", b"DELETE"})
_METHODS_WITH_BODY: Final = frozenset({b"PATCH", b"POST", b"PUT"})
_NOT_SENT: Final = frozenset({b"host", b"http2-settings"})
_SECRET: Final = frozenset({b"authorization", b"cookie"})
