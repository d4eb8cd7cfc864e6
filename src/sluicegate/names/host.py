"""The one canonicaliser of host text: client bytes in, a canonical name or an address out.

Every entry mode calls it on what a client wrote, and policy on what an operator wrote; it calls the
``idna`` library for what is not ASCII. The theory: programs disagree about odd spellings, and each
disagreement between who judges and who dials is a way around the judgement. So a spelling has
exactly one reading here, or none. Unicode is mapped by UTS 46 (non-transitional, STD 3 rules), and
what comes out is checked as if it had come in. The invariant: what is returned is a dotted quad, an
IPv6 address, or lower-case labels of letters, digits and hyphens (underscores by switch), and
canonicalising that again changes nothing.
"""

from __future__ import annotations

import enum
import functools
import re
from dataclasses import dataclass
from typing import Final, NoReturn

import idna
from typing_extensions import override

from sluicegate.address import IpAddress
from sluicegate.errors import ProtocolError, Side
from sluicegate.limits import (
    HOST_LABEL_CHARACTERS_MAX,
    HOST_NAME_CHARACTERS_MAX,
    HOST_TEXT_MAX,
    HOSTS_KNOWN_MAX,
)

from .literals import address_text, parse_ipv4, parse_ipv6

__all__ = ["CanonicalHost", "HostReason", "HostRefused", "canonical_host"]


class HostReason(enum.StrEnum):
    """Why a host, a port or a pattern was refused; goes into records as it is."""

    EMPTY = "host-empty"
    TEXT_TOO_LONG = "host-text-too-long"
    NOT_UTF8 = "host-not-utf8"
    CONTROL_CHARACTER = "host-control-character"
    SPACE = "host-space"
    PERCENT = "host-percent-encoding"
    BRACKETS = "host-brackets"
    USERINFO = "host-userinfo"
    DELIMITER = "host-delimiter"
    FORBIDDEN_CHARACTER = "host-forbidden-character"
    UNDERSCORE = "host-underscore"
    HYPHEN = "host-hyphen"
    EMPTY_LABEL = "host-empty-label"
    LABEL_TOO_LONG = "host-label-too-long"
    NAME_TOO_LONG = "host-name-too-long"
    INVALID_A_LABEL = "host-invalid-a-label"
    INVALID_U_LABEL = "host-invalid-u-label"
    IPV4_FORM = "host-ipv4-form"
    IPV6_FORM = "host-ipv6-form"
    IPV6_UNBRACKETED = "host-ipv6-unbracketed"
    ZONE_ID = "host-zone-id"
    PORT_ABSENT = "port-absent"
    PORT_FORM = "port-form"
    PORT_RANGE = "port-range"
    WILDCARD_FORM = "pattern-wildcard-form"
    NOT_CANONICAL = "pattern-not-canonical"


class HostRefused(ProtocolError):
    """A text names no destination: ``reason`` is for records and counters, ``hint`` for people."""

    def __init__(self, reason: HostReason, hint: str) -> None:
        super().__init__(hint, Side.CLIENT)
        self.reason = reason

    @override
    def __str__(self) -> str:
        return f"{self.hint} ({self.reason})"


@dataclass(frozen=True, slots=True)
class CanonicalHost:
    """A host as policy judges it; made by ``canonical_host`` only, equal by its one spelling."""

    text: str
    """The name without a final dot, or the address without brackets."""

    address: IpAddress | None = None
    """The address, when the client wrote one."""

    @property
    def is_address(self) -> bool:
        """Whether the client wrote an address, so that nothing is to be looked up."""
        return self.address is not None

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of a name, the top-level domain last; none for an address."""
        return () if self.address else tuple(self.text.split("."))

    @override
    def __str__(self) -> str:
        """Format as in an authority: with brackets around IPv6."""
        return f"[{self.text}]" if ":" in self.text else self.text

    @classmethod
    def from_address(cls, address: IpAddress) -> CanonicalHost:
        """Make the host of an address that did not come as text."""
        return cls(address_text(address), address)


def canonical_host(text: str | bytes, *, allow_underscore: bool = False) -> CanonicalHost:
    """Return the one reading of a host's text.

    Args:
        text: What stands in the place of a host, without port and brackets; bytes are UTF-8.
        allow_underscore: Also take underscores in labels (RFC 8552 names, Windows hosts).

    Raises:
        HostRefused: The text has no reading, or more than one.
    """
    return _reading_of(text, allow_underscore)


@functools.lru_cache(HOSTS_KNOWN_MAX)
def _reading_of(text: str | bytes, allow_underscore: bool, /) -> CanonicalHost:
    """Read a host's text: the same few, again and again (what is refused is not remembered)."""
    if isinstance(text, bytes):
        text = _decoded(text)
    if not text:
        raise HostRefused(HostReason.EMPTY, "there is no host")
    if len(text) > HOST_TEXT_MAX:
        _refuse_length(HostReason.TEXT_TOO_LONG, "host text", len(text), HOST_TEXT_MAX)
    if not _PLAIN.fullmatch(text):
        _refuse_odd_character(text)
    if ":" in text:
        address = parse_ipv6(text)
        if address is None:
            raise HostRefused(HostReason.IPV6_FORM, f"{text!r} is no IPv6 address")
        return CanonicalHost(address_text(address), address)
    if quad := parse_ipv4(text):
        return CanonicalHost(text, quad)
    name = text.lower() if text.isascii() else _mapped(text, allow_underscore=allow_underscore)
    return CanonicalHost(_checked_name(name, allow_underscore=allow_underscore))


def _decoded(text: bytes) -> str:
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise HostRefused(HostReason.NOT_UTF8, "the host is not UTF-8") from error


def _mapped(text: str, *, allow_underscore: bool) -> str:
    """Map by UTS 46, non-transitional; ideographic stops become dots, full-width ASCII plain.

    STD 3 rules are applied to the outcome, by ``_checked_name``, as to text that was ASCII at
    once. Underscores are let through here for that check to judge.
    """
    try:
        # The library checks STD 3 on the way, so underscores have to be kept out of its sight.
        parts = [idna.uts46_remap(part, std3_rules=True) for part in text.split("_")]
    except (idna.IDNAError, UnicodeError) as error:
        raise HostRefused(
            HostReason.FORBIDDEN_CHARACTER, f"{text!r} has a character that no host name has"
        ) from error
    mapped = "_".join(parts)
    if len(parts) > 1 and not allow_underscore:
        _refuse_underscore(text)
    return mapped


def _checked_name(name: str, *, allow_underscore: bool) -> str:
    """Check a mapped name label by label, and return it in ASCII without its final dot."""
    # RFC 1034 section 3.1: a final dot stands for the root, which every name here ends in.
    labels = name.removesuffix(".").split(".")
    # Asked before the labels are: 0x7f.1 and 010.1.2.3 are addresses to many a resolver.
    if _NUMBER.fullmatch(labels[-1]):
        raise HostRefused(
            HostReason.IPV4_FORM, f"{name!r} ends in a number and is no dotted quad; write a.b.c.d"
        )
    encoded = [_checked_label(label, allow_underscore=allow_underscore) for label in labels]
    whole = ".".join(encoded)
    if len(whole) > HOST_NAME_CHARACTERS_MAX:
        _refuse_length(HostReason.NAME_TOO_LONG, "name", len(whole), HOST_NAME_CHARACTERS_MAX)
    return whole


def _checked_label(label: str, *, allow_underscore: bool) -> str:
    if not label:
        raise HostRefused(HostReason.EMPTY_LABEL, "the name has two dots in a row, or begins so")
    if label.isascii():
        _check_label_length(label)
        if label.startswith("xn--"):
            _check_a_label(label)
        elif not _LABEL.fullmatch(label):
            _refuse_label(label)
        elif "_" in label and not allow_underscore:
            _refuse_underscore(label)
        return label
    return _a_label(label)


def _check_label_length(label: str) -> None:
    if len(label) > HOST_LABEL_CHARACTERS_MAX:
        _refuse_length(HostReason.LABEL_TOO_LONG, "label", len(label), HOST_LABEL_CHARACTERS_MAX)


def _a_label(label: str) -> str:
    try:
        return idna.alabel(label).decode("ascii")
    except (idna.IDNAError, UnicodeError) as error:
        if isinstance(error, idna.IDNAError) and error.code in _TOO_LONG:
            raise HostRefused(HostReason.LABEL_TOO_LONG, f"label {label!r} is too long") from error
        raise HostRefused(
            HostReason.INVALID_U_LABEL, f"{label!r} is no label of an international name: {error}"
        ) from error


def _check_a_label(label: str) -> None:
    """Refuse an ``xn--`` label that is not the encoding of a valid label (RFC 5891 section 5.4).

    UTS 46 section 4, step 4: its content must be what mapping would have left alone, or one name
    would have two spellings.
    """
    try:
        decoded = idna.ulabel(label)
        is_stable = idna.uts46_remap(decoded, std3_rules=True) == decoded
        if is_stable and not decoded.isascii() and idna.alabel(decoded).decode() == label:
            return
    except (idna.IDNAError, UnicodeError) as error:
        raise HostRefused(
            HostReason.INVALID_A_LABEL, f"{label!r} encodes no international label: {error}"
        ) from error
    raise HostRefused(HostReason.INVALID_A_LABEL, f"{label!r} is not the one encoding of its label")


def _refuse_label(label: str) -> NoReturn:
    if label.startswith("-") or label.endswith("-"):
        raise HostRefused(
            HostReason.HYPHEN, f"label {label!r} begins or ends with a hyphen (RFC 952, RFC 1123)"
        )
    raise HostRefused(
        HostReason.FORBIDDEN_CHARACTER, f"label {label!r} has a character that no host name has"
    )


def _refuse_underscore(text: str) -> NoReturn:
    raise HostRefused(
        HostReason.UNDERSCORE, f"{text!r} has an underscore; policy may allow them in names"
    )


def _refuse_length(reason: HostReason, what: str, length: int, bound: int) -> NoReturn:
    raise HostRefused(reason, f"the {what} has {length} characters; {bound} are the most")


def _refuse_odd_character(text: str) -> None:
    """Refuse what has a name of its own among the reasons; the rest is for the mapping to say."""
    for character in text:
        reason = _ODD_CHARACTERS.get(character)
        if reason is None:
            if ord(character) < _SPACE or _DELETE <= ord(character) < _LATIN_1:
                reason = HostReason.CONTROL_CHARACTER
            elif character.isspace():
                reason = HostReason.SPACE
            else:
                continue
        if reason is HostReason.PERCENT and ":" in text.partition("%")[0]:
            reason = HostReason.ZONE_ID  # RFC 4007 section 11: means nothing on another host
        raise HostRefused(reason, f"{text!r} has {character!r}, which no host has ({reason.name})")


_PLAIN: Final = re.compile(r"[0-9A-Za-z.:_-]+")
"""Nearly every host there is."""

_LABEL: Final = re.compile(r"[0-9a-z_](?:[0-9a-z_-]*[0-9a-z_])?")
"""LDH (RFC 5890 section 2.3.1) with underscores. Hyphens in places three and four are taken: UTS 46
leaves that check to the application, and content networks use such names (``r3---sn-…``)."""

_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""What ends the host of an address for inet_aton(3) and for browsers (WHATWG URL, section 3.5)."""

_TOO_LONG: Final = {"label_too_long", "input_too_long", "domain_too_long"}
"""The library's codes for the one thing about a label that has a reason of its own here."""

_SPACE: Final = 0x20
_DELETE: Final = 0x7F
_LATIN_1: Final = 0xA0

_ODD_CHARACTERS: Final[dict[str, HostReason]] = {
    " ": HostReason.SPACE,
    "%": HostReason.PERCENT,
    "[": HostReason.BRACKETS,
    "]": HostReason.BRACKETS,
    "@": HostReason.USERINFO,
    **dict.fromkeys("/\\?#,;", HostReason.DELIMITER),
}
