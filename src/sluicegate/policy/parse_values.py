"""Values of ``policy.toml`` and its neighbours: networks, addresses and names, read exactly.

``parse``, ``parse_rules`` and ``app/config`` check with them. The invariant: a value with bits that
mean nothing, or with a plainer form, is refused with the form that is right, never corrected.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import re
from collections.abc import Callable
from typing import Annotated, Final

from pydantic import PlainValidator

from sluicegate.address import IpAddress, IpNetwork, SocketAddress
from sluicegate.documents import Wrong
from sluicegate.names import HostPattern, HostRefused, canonical_host

from .paths import DEFAULT_PORTS, PathPattern, PathRefused, UrlPattern, canonical_path
from .protocols import ProtocolPattern
from .rules import ANY_USER, GROUP_PREFIX
from .schedule import DAY_NAMES, MINUTES_PER_DAY, Span

__all__ = [
    "ADDRESS_CURE",
    "PROTOCOL_CURE",
    "Instant",
    "IsPublicSuffix",
    "NetworkEntry",
    "TimeZoneOf",
    "parse_address",
    "parse_content_type",
    "parse_host",
    "parse_ip",
    "parse_method",
    "parse_network",
    "parse_path",
    "parse_protocol",
    "parse_server",
    "parse_target",
    "parse_url",
    "parse_user",
    "parse_week",
    "reference_in",
]

IsPublicSuffix = Callable[[str], bool]
"""Whether anybody may register names right below a canonical name (``com``, ``co.uk``)."""

TimeZoneOf = Callable[[str], dt.tzinfo | None]
"""Return a time zone by its IANA name; None: there is none. (They are files, and nothing is read
here.)"""


def reference_in(entry: object) -> str | None:
    """Return the object that ``@name`` in a list stands for; None for anything else."""
    return entry[1:] if isinstance(entry, str) and entry.startswith("@") else None


def parse_network(text: object) -> IpNetwork:
    """Read ``10.0.0.0/8``, ``2001:db8::/32`` or one address.

    Raises:
        Wrong: It is neither, or it has bits set behind its prefix.
    """
    if not isinstance(text, str):
        raise Wrong(f"is {text!r}, must be a network in quotes", _NETWORK_CURE)
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        raise Wrong(f"is {text!r}, which is not a network", _network_cure(text)) from None
    if isinstance(network, ipaddress.IPv6Network):
        if network.network_address.scope_id is not None:
            raise Wrong(f"is {text!r}, which has a zone", "write it without %")
        if network.prefixlen >= _MAPPED.prefixlen and network.subnet_of(_MAPPED):
            raise Wrong(
                f"is {text!r}, an IPv4 network in IPv6 form", "write the IPv4 network itself"
            )
    return network


def _network_cure(text: str) -> str:
    try:
        return f"the network is {ipaddress.ip_network(text, strict=False)}"
    except ValueError:
        return _NETWORK_CURE


def parse_address(text: object) -> SocketAddress:
    """Read ``192.0.2.10:21`` or ``[2001:db8::10]:21``.

    Raises:
        Wrong: It is neither, or the same address has a plainer form.
    """
    if not isinstance(text, str):
        raise Wrong(f"is {text!r}, must be an address in quotes", ADDRESS_CURE)
    try:
        address = SocketAddress.parse(text)
    except ValueError:
        raise Wrong(f"is {text!r}, which is not ADDRESS:PORT", ADDRESS_CURE) from None
    if isinstance(address.ip, ipaddress.IPv6Address) and (
        address.ip.ipv4_mapped is not None or address.ip.scope_id is not None
    ):
        raise Wrong(f"is {text!r}, which has a zone or an IPv4 address inside", ADDRESS_CURE)
    return address


def parse_server(text: object) -> SocketAddress:
    """Read the address of a server that is dialled.

    Raises:
        Wrong: It is none.
    """
    address = parse_address(text)
    if address.port == 0:
        raise Wrong(f"is {text!r}, which has no port", ADDRESS_CURE)
    if address.ip.is_unspecified or address.ip.is_multicast:
        raise Wrong(f"is {text!r}, which is not the address of a server", ADDRESS_CURE)
    return address


def parse_ip(text: object) -> IpAddress:
    """Read one address, without a port.

    Raises:
        Wrong: It is none.
    """
    network = parse_network(text)
    if network.prefixlen != network.max_prefixlen:
        raise Wrong(f"is {text!r}, which is a network", 'for example "192.0.2.5"')
    return network.network_address


def _parse_network_entry(text: object) -> IpNetwork | str:
    if isinstance(text, str) and reference_in(text) is not None:
        return text
    return parse_network(text)


def parse_protocol(text: str) -> ProtocolPattern:
    """Read ``tcp``, ``tcp:443`` or ``tcp:8000-8999``.

    Raises:
        Wrong: It is none of them.
    """
    found = _PROTOCOL.fullmatch(text)
    if found is None or found["protocol"] not in PROTOCOLS:
        raise Wrong(f"is {text!r}, which is no protocol", PROTOCOL_CURE)
    if found["first"] is None:
        return ProtocolPattern(found["protocol"])
    first = int(found["first"])
    last = int(found["last"] or first)
    if not 0 < first <= last <= _PORT_MAX:
        raise Wrong(f"is {text!r}: ports are 1 to {_PORT_MAX}, the lower one first", PROTOCOL_CURE)
    return ProtocolPattern(found["protocol"], first, last)


def parse_host(text: str, *, allow_underscore: bool = False) -> HostPattern:
    """Read one host or wildcard, an address included.

    Raises:
        Wrong: It is neither, or not written canonically.
    """
    try:
        return HostPattern.parse(text, allow_underscore=allow_underscore)
    except HostRefused as error:
        raise Wrong(f"is {text!r}, which no client's host can be: {error.hint}", _TO_CURE) from None


def parse_target(
    text: str, *, allow_underscore: bool = False
) -> HostPattern | IpNetwork | UrlPattern | None:
    """Read one host, wildcard, address, network or URL of ``to``; None stands for ``*``.

    Raises:
        Wrong: It is none of them, or not written canonically.
    """
    if text == "*":
        return None
    if "://" in text:
        return parse_url(text, allow_underscore=allow_underscore)
    if "/" in text:
        return parse_network(text)
    pattern = parse_host(text, allow_underscore=allow_underscore)
    return parse_network(text) if pattern.host.is_address else pattern


def parse_url(text: str, *, allow_underscore: bool = False) -> UrlPattern:
    """Read ``https://host[:port]/path``, with ``*`` for everything below a path.

    Raises:
        Wrong: It is none, or not written canonically.
    """
    found = _URL.fullmatch(text)
    if found is None or found["scheme"] not in DEFAULT_PORTS:
        raise Wrong(f"is {text!r}, which is no URL of a rule", _URL_CURE)
    written = found["host"]
    bare = written[1:-1] if written.startswith("[") else written
    try:
        host = canonical_host(bare, allow_underscore=allow_underscore)
    except HostRefused as error:
        raise Wrong(f"is {text!r}: {error.hint}", _URL_CURE) from None
    if str(host) != written:
        raise Wrong(f"is {text!r}, which is not canonical", f"write the host as {str(host)!r}")
    default = DEFAULT_PORTS[found["scheme"]]
    port = int(found["port"] or default)
    if not 0 < port <= _PORT_MAX:
        raise Wrong(f"is {text!r}: ports are 1 to {_PORT_MAX}", _URL_CURE)
    if found["port"] and port == default:
        raise Wrong(f"is {text!r}, which is not canonical", f"leave :{port} out")
    return UrlPattern(found["scheme"], host, port, parse_path(found["path"]))


def parse_path(text: str) -> PathPattern:
    """Read ``/path``, or ``/path/*`` for everything below.

    Raises:
        Wrong: It is neither, or no canonical path.
    """
    stem = text.removesuffix("*")
    try:
        reading = canonical_path(stem) if stem else ""
    except PathRefused as error:
        raise Wrong(f"is {text!r}: {error.hint}", _PATH_CURE) from None
    if "*" in stem or "?" in stem or not stem:
        raise Wrong(f"is {text!r}: the only wildcard is a final '*'; no query", _PATH_CURE)
    if reading != stem:
        raise Wrong(f"is {text!r}, which is not canonical", f"write {reading!r}")
    return PathPattern(text)


def parse_method(text: str) -> str:
    """Read the method of an HTTP request (RFC 9110 section 9.1): they have letter case.

    Raises:
        Wrong: It is none.
    """
    if not _METHOD.fullmatch(text):
        raise Wrong(f"is {text!r}, which is no method", 'for example "GET", in capitals')
    return text


def parse_content_type(text: str) -> str:
    """Read ``application/pdf``, ``image/*`` or ``.pdf``.

    Raises:
        Wrong: It is none of them, or not in lower case.
    """
    if not _CONTENT_TYPE.fullmatch(text):
        raise Wrong(
            f"is {text!r}, which is no content type",
            'for example "application/pdf", "image/*" or ".pdf", in lower case',
        )
    return text


def parse_user(text: str) -> str:
    """Read a user, ``group:NAME``, or ``*``.

    Raises:
        Wrong: It is none of them.
    """
    if text == ANY_USER or _USER.fullmatch(text.removeprefix(GROUP_PREFIX)):
        return text
    raise Wrong(f"is {text!r}, which is no user", 'for example "ann", "group:staff" or "*"')


def parse_week(text: str) -> list[Span]:
    """Read hours of weekdays: ``mon-fri 09:00-17:00``, ``sat,sun 00:00-24:00``.

    Hours that end before they begin go on into the next day.

    Raises:
        Wrong: It is none.
    """
    found = _WEEK.fullmatch(text)
    if found is None:
        raise Wrong(f"is {text!r}, which are no hours of a week", _WEEK_CURE)
    start, end = (_minute_of(found[part], text) for part in ("start", "end"))
    if start in {end, MINUTES_PER_DAY}:
        raise Wrong(f"is {text!r}, which is never", _WEEK_CURE)
    spans: list[Span] = []
    for day in _days_of(found["days"]):
        if start < end:
            spans.append(Span(day, start, end))
        else:
            spans.append(Span(day, start, MINUTES_PER_DAY))
            spans += [Span((day + 1) % len(DAY_NAMES), 0, end)] if end else []
    return spans


def _days_of(text: str) -> list[int]:
    days: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        start, end = DAY_NAMES.index(first), DAY_NAMES.index(last or first)
        days += [day % len(DAY_NAMES) for day in range(start, end + 1 + 7 * (end < start))]
    return days


def _minute_of(clock: str, text: str) -> int:
    hours, minutes = int(clock[:2]), int(clock[3:])
    minute = hours * 60 + minutes
    if minutes >= 60 or minute > MINUTES_PER_DAY:  # noqa: PLR2004 - minutes of an hour
        raise Wrong(f"is {text!r}: {clock} is no time of day", _WEEK_CURE)
    return minute


def _parse_instant(value: object) -> float:
    """Read a time with its offset, and return seconds since the epoch."""
    try:
        found = dt.datetime.fromisoformat(str(value))
    except ValueError:
        raise Wrong(f"is {value!r}, which is no date and time", _INSTANT_CURE) from None
    if found.tzinfo is None:
        raise Wrong(f"is {value!r}, which is another instant in each time zone", _INSTANT_CURE)
    return found.timestamp()


_MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")
_NETWORK_CURE: Final = 'for example "10.0.0.0/8", "2001:db8::/32" or "192.0.2.7"'
ADDRESS_CURE: Final = 'for example "192.0.2.10:21" or "[2001:db8::10]:21"; names are not resolved'


PROTOCOLS: Final = frozenset({"bind", "tcp", "udp"})
"""What a client may ask for."""

_PORT_MAX: Final = 65535
_PROTOCOL: Final = re.compile(
    r"(?P<protocol>[a-z]+)(?::(?P<first>[1-9][0-9]{0,4})(?:-(?P<last>[1-9][0-9]{0,4}))?)?", re.ASCII
)
PROTOCOL_CURE: Final = 'for example ["@https", "tcp:8000-8999"], or ["tcp"] for every port'
_TO_CURE: Final = 'for example "example.org", "*.example.org", "192.0.2.0/24", or "*"'
_USER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}", re.ASCII)
_URL: Final = re.compile(
    r"(?P<scheme>[a-z]+)://(?P<host>\[[0-9a-f:.]+\]|[^/:\[\]@]+)"
    r"(?::(?P<port>[1-9][0-9]{0,4}))?(?P<path>/.*)",
    re.ASCII,
)
_URL_CURE: Final = 'for example "https://example.org/stable/*"'
_PATH_CURE: Final = 'for example "/stable/*", or { pattern = "/v[0-9]+/.*" }'
_METHOD: Final = re.compile(r"[A-Z][A-Z0-9_-]{0,31}", re.ASCII)
_CONTENT_TYPE: Final = re.compile(
    r"[a-z0-9][a-z0-9!#$&^_.+-]{0,63}/(?:\*|[a-z0-9][a-z0-9!#$&^_.+-]{0,126})|\.[a-z0-9_+-]{1,32}",
    re.ASCII,
)
_DAYS: Final = f"(?:{'|'.join(DAY_NAMES)})"
_WEEK: Final = re.compile(
    rf"(?P<days>{_DAYS}(?:-{_DAYS})?(?:,{_DAYS}(?:-{_DAYS})?)*)"
    r" (?P<start>[0-9]{2}:[0-9]{2})-(?P<end>[0-9]{2}:[0-9]{2})",
    re.ASCII,
)
_WEEK_CURE: Final = 'for example "mon-fri 09:00-17:00" or "sat,sun 00:00-24:00"'
_INSTANT_CURE: Final = "with its offset, for example 2027-01-31T00:00:00Z"


Instant = Annotated[float, PlainValidator(_parse_instant, json_schema_input_type=str)]
"""A date and time with an offset, as seconds since the epoch."""

NetworkEntry = Annotated[
    IpNetwork | str, PlainValidator(_parse_network_entry, json_schema_input_type=str)
]
"""A network, an address, or ``@name``."""
