"""The head of a request: its line, its fields, where it goes, and how its body ends.

``Http1Server`` reads with it. The invariant: a request that is handed out has one reading, shared
by llhttp, and nothing of its connection left in ``fields``.

The fast path is one match for the line and one pattern for all fields; what is wrong with a head is
looked for only when something is.
"""

from __future__ import annotations

import re
from typing import Final

from sluicegate.errors import Side
from sluicegate.protocol_limits import HTTP_METHOD_BYTES_MAX
from sluicegate.protocols.http1.bounds import HttpBounds
from sluicegate.protocols.http1.connection_fields import ConnectionOptions, upgrade_protocols
from sluicegate.protocols.http1.fault import HttpFault, HttpProtocolError
from sluicegate.protocols.http1.field_lines import list_elements, split_fields
from sluicegate.protocols.http1.fields import CONNECTION_FIELDS, FieldItem, Fields
from sluicegate.protocols.http1.framing import request_framing
from sluicegate.protocols.http1.incoming import BlockBounds
from sluicegate.protocols.http1.messages import NO_BODY, Request
from sluicegate.protocols.http1.second_reader import reads_request_alike
from sluicegate.protocols.http1.target import Authority, Target
from sluicegate.protocols.text import printable

__all__ = ["DEFAULT_PORTS", "LINE", "read_request_head", "request_block_bounds"]


def request_block_bounds(bounds: HttpBounds) -> BlockBounds:
    """Return how long a request's head and its line may be."""
    line_bytes_max = HTTP_METHOD_BYTES_MAX + bounds.target_bytes_max + len(_LINE_REST)
    return BlockBounds(
        min(line_bytes_max, bounds.head_bytes_max),
        HttpFault.TARGET_TOO_LONG,
        bounds.head_bytes_max,
        HttpFault.HEAD_TOO_LARGE,
    )


def read_request_head(head: bytes, bounds: HttpBounds, block: BlockBounds) -> Request:
    """Read a whole head.

    Args:
        head: With the empty line behind it.
        bounds: Of its parts.
        block: What ``request_block_bounds`` made of them.

    Raises:
        HttpProtocolError: It has not exactly one reading, or is larger than the bounds.
    """
    line = LINE.match(head)
    if line is None or line.end() > block.line_bytes_max:
        raise _fault_of_line(head, block)
    method, target_text, minor = line.groups()
    if len(target_text) > bounds.target_bytes_max:
        raise _refused(HttpFault.TARGET_TOO_LONG)
    raw = split_fields(head, line.end(), bounds, block, Side.CLIENT)
    return _Reader(method, target_text, minor, raw).read(head, bounds)


class _Reader:
    """Puts one request together."""

    __slots__ = (
        "_fields", "_hop_fields", "_is_http_1_1", "_items", "_line", "_method", "_special",
    )  # fmt: skip

    def __init__(
        self, method: bytes, target: bytes, minor: bytes, raw: list[tuple[bytes, bytes]]
    ) -> None:
        self._line = (method, target, minor)
        self._method = method
        self._is_http_1_1 = minor == b"1"
        self._fields: list[tuple[bytes, bytes]] = []
        self._hop_fields: list[tuple[bytes, bytes]] = []
        self._items: list[FieldItem] = []
        self._special: dict[bytes, list[bytes]] = {}
        for name, text in raw:
            lower = name.lower()
            value = text.strip(b" \t")
            self._fields.append((name, value))
            if lower in _SPECIAL:
                self._special.setdefault(lower, []).append(text if lower in _FRAMING else value)
                if lower in _OF_THE_HOP:
                    self._hop_fields.append((name, value))
                    continue
            self._items.append((lower, name, value))

    def read(self, head: bytes, bounds: HttpBounds) -> Request:
        target, authority = self._read_destination()
        values = self._special.get
        options = ConnectionOptions.read(values(b"connection"), Side.CLIENT)
        framing = request_framing(
            values(b"content-length", []),
            values(b"transfer-encoding", []),
            method=self._method,
            is_http_1_1=self._is_http_1_1,
            is_lenient=bounds.lets_any_method_have_a_body,
        )
        has_body = framing is not NO_BODY and (framing.length > 0 or framing.is_chunked)
        items, named = options.split(self._items)
        expects_continue = self._read_expectation(has_body=has_body)
        if not expects_continue and b"expect" in self._special:
            items = [item for item in items if item[0] != b"expect"]
        upgrade = self._read_upgrade(options, has_body=has_body)
        self._check_max_forwards()
        if not reads_request_alike(head, self._line, self._fields, has_body=has_body):
            raise _refused(HttpFault.READERS_DISAGREE)
        return Request(
            self._method,
            target,
            Fields.from_checked(_host_first(items)),
            framing,
            authority,
            self._is_http_1_1,
            options.wants_close(is_http_1_1=self._is_http_1_1),
            expects_continue,
            upgrade,
            b"te" in self._special and b"trailers" in (list_elements(values(b"te", [])) or ()),
            (*self._hop_fields, *named),
        )

    def _read_destination(self) -> tuple[Target, Authority | None]:
        """Read the target and ``Host``, and check that they agree (RFC 9112 section 3.2)."""
        target = Target.parse(self._line[1], method=self._method)
        if target is None:
            raise _fault_of_target(self._line[1], self._method)
        hosts = self._special.get(b"host")
        if not hosts:
            if self._is_http_1_1:
                raise _refused(HttpFault.HOST_MISSING)
            return target, target.authority
        if len(hosts) > 1:
            raise _refused(HttpFault.HOST_REPEATED)
        host = Authority.parse(hosts[0])
        if host is None:
            raise _refused(HttpFault.HOST_MALFORMED, printable(hosts[0][:_DETAIL_BYTES_MAX]))
        if target.authority is None:
            return target, host
        if not self._agrees(host, target, target.authority):
            raise _refused(HttpFault.HOST_DISAGREES, f"{host} and {target.authority}")
        return target, target.authority

    def _agrees(self, host: Authority, target: Target, authority: Authority) -> bool:
        if self._method == b"CONNECT":
            # The port of the tunnel may be left out of Host; another one may not be there.
            return host.agrees_with(authority, authority.port)
        return host.agrees_with(authority, DEFAULT_PORTS.get(target.scheme))

    def _read_expectation(self, *, has_body: bool) -> bool:
        """Tell whether 100 is waited for (RFC 9110 section 10.1.1)."""
        expectations = self._special.get(b"expect")
        if expectations is None or not self._is_http_1_1:
            return False
        if [value.lower() for value in expectations] != [b"100-continue"]:
            raise _refused(HttpFault.EXPECTATION)
        return has_body

    def _read_upgrade(self, options: ConnectionOptions, *, has_body: bool) -> tuple[bytes, ...]:
        """Return the offers that count: not those of HTTP/1.0, nor beside a body or CONNECT."""
        values = self._special.get(b"upgrade")
        if values is None:
            return ()
        protocols = upgrade_protocols(values, Side.CLIENT)
        counts = options.has_upgrade and self._is_http_1_1 and not has_body
        return protocols if counts and self._method != b"CONNECT" else ()

    def _check_max_forwards(self) -> None:
        values = self._special.get(b"max-forwards")
        if values is None or self._method not in {b"TRACE", b"OPTIONS"}:
            return
        if len(values) != 1 or _MAX_FORWARDS.fullmatch(values[0]) is None:
            raise _refused(HttpFault.MAX_FORWARDS)


def _host_first(items: list[FieldItem]) -> list[FieldItem]:
    """Put ``Host`` before the others (RFC 9110 section 7.2)."""
    if items and items[0][0] != b"host":
        for at, item in enumerate(items):
            if item[0] == b"host":
                items.insert(0, items.pop(at))
                break
    return items


def _refused(fault: HttpFault, detail: str = "") -> HttpProtocolError:
    return HttpProtocolError(fault, Side.CLIENT, detail)


def _fault_of_line(head: bytes, block: BlockBounds) -> HttpProtocolError:
    """Say why the first line, or a byte anywhere in the head, is refused."""
    fault = block.check(head)
    if fault is not None:
        return _refused(fault)
    line = head[: head.index(b"\r\n")]
    shown = printable(line[:_DETAIL_BYTES_MAX])
    parts = line.split(b" ")
    if len(parts) != 3 or not all(parts):  # noqa: PLR2004 - method, target, version
        return _refused(HttpFault.REQUEST_LINE, shown)
    method, target, version = parts
    if _METHOD.fullmatch(method) is None:
        return _refused(HttpFault.METHOD, printable(method[:_DETAIL_BYTES_MAX]))
    if version not in {b"HTTP/1.0", b"HTTP/1.1"}:
        is_other = _OTHER_VERSION.fullmatch(version) is not None
        fault = HttpFault.VERSION_UNSUPPORTED if is_other else HttpFault.VERSION
        return _refused(fault, printable(version[:_DETAIL_BYTES_MAX]))
    return _refused(HttpFault.TARGET, printable(target[:_DETAIL_BYTES_MAX]))


def _fault_of_target(text: bytes, method: bytes) -> HttpProtocolError:
    """Say why a target of visible ASCII is in no form, or not in one of its method's."""
    shown = printable(text[:_DETAIL_BYTES_MAX])
    scheme, mark, rest = text.partition(b"://")
    if method == b"CONNECT":
        is_authority = not text.startswith(b"/") and not mark and text != b"*"
        fault = HttpFault.TARGET_AUTHORITY if is_authority else HttpFault.TARGET_FORM
    elif text.startswith(b"/"):
        fault = HttpFault.TARGET
    elif mark and scheme.isalpha():
        is_named = Authority.parse(re.split(rb"[/?]", rest, maxsplit=1)[0]) is not None
        fault = HttpFault.TARGET if is_named else HttpFault.TARGET_AUTHORITY
    else:
        fault = HttpFault.TARGET_FORM
    return _refused(fault, shown)


_LINE_REST: Final = b"  HTTP/1.1\r\n"
_METHOD: Final = re.compile(rb"[!#$%%&'*+\-.^_`|~0-9A-Z]{1,%d}" % HTTP_METHOD_BYTES_MAX)
LINE: Final = re.compile(rb"(" + _METHOD.pattern + rb") ([!-~]+) HTTP/1\.([01])\r\n")
_OTHER_VERSION: Final = re.compile(rb"HTTP/[0-9]\.[0-9]")
_MAX_FORWARDS: Final = re.compile(rb"[0-9]{1,3}")
DEFAULT_PORTS: Final = {b"http": 80, b"https": 443, b"ws": 80, b"wss": 443, b"ftp": 21}
_DETAIL_BYTES_MAX: Final = 40
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})
#: Proxy-Authorization is for the next proxy, which is us (RFC 9110 section 11.7.2).
_OF_THE_HOP: Final = CONNECTION_FIELDS | {b"proxy-authorization"}
_SPECIAL: Final = _OF_THE_HOP | {b"expect", b"host", b"max-forwards"}
