"""What an ICAP server is asked: requests with an HTTP message inside, and what OPTIONS answers.

``scan/icap`` sends them, ``icap_reader`` reads the answers (RFC 3507; 206 by the extension draft
draft-icap-ext-partial-content-07). The invariant: no byte of a name, an address or a type gets into
a request unescaped, and what a server says of itself is taken within bounds or not at all.
"""

from __future__ import annotations

import enum
import re
import urllib.parse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from sluicegate.errors import ProtocolError
from sluicegate.scan_limits import ICAP_OPTIONS_TTL_S_MAX, ICAP_PREVIEW_BYTES_MAX

__all__ = [
    "END_OF_BODY",
    "END_OF_PREVIEW_AND_BODY",
    "IcapMethod",
    "IcapOptions",
    "IcapTarget",
    "InnerMessage",
    "chunk",
    "options_of",
    "options_request",
    "request_head",
    "url_of",
]


class IcapMethod(enum.StrEnum):
    """What is adapted."""

    REQMOD = "REQMOD"
    RESPMOD = "RESPMOD"


@dataclass(frozen=True, slots=True)
class IcapTarget:
    """A service."""

    host: str
    """As it stands in the URL: a name, an address, an IPv6 address in brackets."""
    port: int
    service: str
    """Its path, without the first slash."""
    is_encrypted: bool = False

    @property
    def url(self) -> bytes:
        """Its URL."""
        scheme = "icaps" if self.is_encrypted else "icap"
        return f"{scheme}://{self.host}:{self.port}/{self.service}".encode("ascii")

    @property
    def authority(self) -> bytes:
        """What the Host field says."""
        return f"{self.host}:{self.port}".encode("ascii")


@dataclass(frozen=True, slots=True)
class InnerMessage:
    """The HTTP message that carries an object."""

    method: IcapMethod
    url: str
    """Of the object, absolute; escaped by ``url_of``."""
    http_method: str
    content_type: str
    size: int

    def heads(self) -> list[tuple[str, bytes]]:
        """Return its heads, each with what the Encapsulated field calls it."""
        host = self.url.split("/", 3)[2]
        kind = _safe_value(self.content_type) or "application/octet-stream"
        body = f"Content-Type: {kind}\r\nContent-Length: {self.size}\r\n"
        request = f"{self.http_method} {self.url} HTTP/1.1\r\nHost: {host}\r\n"
        if self.method is IcapMethod.REQMOD:
            return [("req-hdr", (request + body + "\r\n").encode("latin-1"))]
        response = "HTTP/1.1 200 OK\r\n" + body + "\r\n"
        return [
            ("req-hdr", (request + "\r\n").encode("latin-1")),
            ("res-hdr", response.encode("latin-1")),
        ]


@dataclass(frozen=True, slots=True)
class IcapOptions:
    """What a service says of itself (RFC 3507, 4.10.2)."""

    methods: frozenset[IcapMethod]
    istag: str = ""
    """Changes when its answers may change; empty if it does not say."""
    service: str = ""
    ttl_s: float | None = None
    """For how long it is right; None: for ever, unless the ISTag changes."""
    connections_max: int | None = None
    preview_bytes: int | None = None
    """None: it wants no previews."""
    allows_204: bool = False
    """Whether it may answer 204 outside a preview."""
    allows_206: bool = False
    complete_extensions: frozenset[str] = frozenset()
    """Of names whose objects are sent without a preview; ``*`` is all others."""


def options_request(target: IcapTarget) -> bytes:
    """Return the question what a service is like."""
    return b"OPTIONS %s ICAP/1.0\r\nHost: %s\r\n\r\n" % (target.url, target.authority)


def request_head(
    target: IcapTarget,
    message: InnerMessage,
    *,
    preview_bytes: int | None,
    allows: Iterable[int],
    fields: Mapping[str, str] | None = None,
) -> bytes:
    """Return everything before the body of a request.

    Args:
        target: Whom it asks.
        message: What it carries; the body is sent behind it, in chunks.
        preview_bytes: How much of the body comes first; None: all of it.
        allows: The answers that would be understood: 204, 206.
        fields: More fields, ``X-Client-IP`` for one.
    """
    heads = message.heads()
    at, places = 0, list[str]()
    for name, head in heads:
        places.append(f"{name}={at}")
        at += len(head)
    places.append(f"{'req' if message.method is IcapMethod.REQMOD else 'res'}-body={at}")
    lines = [
        b"%s %s ICAP/1.0" % (message.method.encode(), target.url),
        b"Host: " + target.authority,
        *(
            f"{name}: {_safe_value(value)}".encode("latin-1")
            for name, value in (fields or {}).items()
        ),
    ]
    if allowed := ", ".join(map(str, allows)):
        lines.append(b"Allow: " + allowed.encode())
    if preview_bytes is not None:
        lines.append(b"Preview: %d" % preview_bytes)
    lines.append(b"Encapsulated: " + ", ".join(places).encode())
    return b"\r\n".join([*lines, b"", b""]) + b"".join(head for _, head in heads)


def chunk(data: bytes) -> bytes:
    """Return a piece of a body as it is sent; it has at least one byte."""
    assert data, "an empty chunk would end the body"
    return b"%x\r\n%s\r\n" % (len(data), data)


def url_of(protocol: str, host: str, name: str) -> str:
    """Return the URL of an object for a service: its name is what people see in the log there.

    A name that is an HTTP URL stays one.
    """
    if name.startswith(("http://", "https://")):
        return urllib.parse.quote(name, safe="/:?#[]@!$&'()*+,;=%-._~")
    scheme = protocol if _SCHEME.fullmatch(protocol) else "unknown"
    return f"{scheme}://{host}/" + urllib.parse.quote(name.lstrip("/"), safe="/-._~")


def options_of(fields: Mapping[str, str]) -> IcapOptions:
    """Read what a service answers to OPTIONS.

    Raises:
        ProtocolError: It says something that makes no sense.
    """
    methods = {one.strip().upper() for one in fields.get("methods", "").split(",")}
    known = frozenset(one for one in IcapMethod if one.value in methods)
    if not known:
        raise ProtocolError(f"the service offers neither REQMOD nor RESPMOD, but {methods}")
    allow = {one.strip() for one in fields.get("allow", "").split(",")}
    ttl = _number(fields, "options-ttl", ICAP_OPTIONS_TTL_S_MAX)
    preview = _number(fields, "preview", ICAP_PREVIEW_BYTES_MAX)
    return IcapOptions(
        known,
        istag=fields.get("istag", "").strip('"'),
        service=fields.get("service", ""),
        ttl_s=None if ttl is None else float(ttl),
        connections_max=_number(fields, "max-connections", _CONNECTIONS_MAX),
        preview_bytes=preview,
        allows_204="204" in allow,
        allows_206="206" in allow,
        complete_extensions=_extensions(fields.get("transfer-complete", "")),
    )


def _extensions(value: str) -> frozenset[str]:
    return frozenset(one.strip().lower() for one in value.split(",") if one.strip())


def _number(fields: Mapping[str, str], name: str, most: int) -> int | None:
    """Return a field's number, at most so much; None if there is no such field."""
    value = fields.get(name)
    if value is None:
        return None
    if not _DIGITS.fullmatch(value):
        raise ProtocolError(f"{name} of the service is {value[:40]!r}")
    return min(int(value), most)


def _safe_value(value: str) -> str:
    """Return a text that a field may have: Latin-1 without controls."""
    return "".join(one for one in value if " " <= one <= "~" or "\xa0" <= one <= "\xff")


_DIGITS: Final = re.compile(r"[0-9]{1,18}", re.ASCII)
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]{0,30}", re.ASCII)
_CONNECTIONS_MAX: Final = 1_000_000

END_OF_BODY: Final = b"0\r\n\r\n"
END_OF_PREVIEW_AND_BODY: Final = b"0; ieof\r\n\r\n"
"""Ends a preview that has the whole body (4.5)."""
