"""Address literals: the one spelling of each that is taken, and the one that is written.

``host.py`` asks it whether a text is an address, everybody else for an address's text. The
invariant: a literal is an address in the strictest reading of its RFC or it is none, so no two
programs read it differently, and no interpreter's version changes what is written.
"""

from __future__ import annotations

import ipaddress
import re

from sluicegate.address import IpAddress

__all__ = ["address_text", "parse_ipv4", "parse_ipv6"]

# RFC 3986 section 3.2.2, "dec-octet": no leading zeros, which inet_aton(3) reads as octal.
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}")
_IPV6_CHARACTERS = re.compile(r"[0-9A-Fa-f:]+(?:[0-9.]+)?")
_GROUPS = 8


def parse_ipv4(text: str) -> ipaddress.IPv4Address | None:
    """Read a dotted quad (RFC 3986 section 3.2.2); None for everything else."""
    return ipaddress.IPv4Address(text) if _IPV4.fullmatch(text) else None


def parse_ipv6(text: str) -> ipaddress.IPv6Address | None:
    """Read an IPv6 literal (RFC 4291 section 2.2) without brackets or zone, else None.

    The last 32 bits may be a dotted quad.
    """
    if not _IPV6_CHARACTERS.fullmatch(text):
        return None
    head, _, tail = text.rpartition(":")
    if "." in tail:
        embedded = parse_ipv4(tail)
        if embedded is None:
            return None
        number = int(embedded)
        text = f"{head}:{number >> 16:x}:{number & 0xFFFF:x}"
    try:
        return ipaddress.IPv6Address(text)
    except ipaddress.AddressValueError:
        return None


def address_text(address: IpAddress) -> str:
    """Write an address canonically: a dotted quad, or RFC 5952 in hexadecimal throughout.

    ``str()`` is not asked: from Python 3.13 on it writes mapped addresses with a dotted quad.
    """
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    number = int(address)
    groups = [f"{number >> shift & 0xFFFF:x}" for shift in range(112, -16, -16)]
    start, length = _longest_zeros(groups)
    if length < 2:  # noqa: PLR2004 - RFC 5952 section 4.2.2: one group is not shortened
        return ":".join(groups)
    return ":".join(groups[:start]) + "::" + ":".join(groups[start + length :])


def _longest_zeros(groups: list[str]) -> tuple[int, int]:
    """Find the first of the longest runs of zero groups: where it starts, and its length."""
    best = (0, 0)
    start = 0
    while start < _GROUPS:
        end = start
        while end < _GROUPS and groups[end] == "0":
            end += 1
        if end - start > best[1]:
            best = (start, end - start)
        start = end + 1
    return best
