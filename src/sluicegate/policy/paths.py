"""Paths and URLs in rules: one reading of a request's path, and the patterns that are held to it.

The HTTP level makes a request's path with ``canonical_path`` before it asks; rules hold
``PathPattern`` and ``UrlPattern``. The invariant: patterns are matched in time linear in the path,
whatever an operator wrote, and a path that servers read in several ways has no reading here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

import re2
from typing_extensions import override

from sluicegate.errors import ProtocolError, Side
from sluicegate.names import CanonicalHost
from sluicegate.policy_limits import POLICY_PATTERN_BYTES_MAX, POLICY_PATTERN_MEMORY_BYTES_MAX

__all__ = [
    "DEFAULT_PORTS",
    "PathPattern",
    "PathRefused",
    "UrlPattern",
    "canonical_path",
    "is_path_meant",
]


class PathRefused(ProtocolError):
    """A request's path has no single reading."""

    def __init__(self, hint: str) -> None:
        super().__init__(hint, Side.CLIENT)


def canonical_path(target: str) -> str:
    """Return the one reading of a request's path, without its query.

    Encoded characters that a path may have as they are, are decoded, what no path has as it is,
    is encoded, encodings are in upper case, and empty segments are left out, as most servers do
    (RFC 3986 sections 3.3 and 6.2.2, and nginx's ``merge_slashes``). An asterisk stays encoded, so
    that it is none in a pattern.

    Raises:
        PathRefused: It is not absolute, it has ``.`` or ``..`` segments (also with parameters:
            ``..;x`` is one to some servers), backslashes, control characters or broken encodings,
            or it hides a separator in an encoding: servers disagree about those.
    """
    path = target.partition("?")[0]
    if not path.startswith("/"):
        raise PathRefused("the path does not begin with a slash")
    if not path.isascii() or _UNCLEAR.search(path):
        raise PathRefused("the path has characters that no path has")
    if "%" in path:
        if _BROKEN.search(path):
            raise PathRefused("the path has a broken percent-encoding")
        path = _ENCODED.sub(_decode, path)
    if _HIDDEN.search(path):
        raise PathRefused("the path has an encoded separator or control character")
    path = _NEVER_RAW.sub(_encode, path)
    segments = [segment for segment in path.split("/") if segment]
    if any(segment.partition(";")[0] in _NAMELESS for segment in segments):
        raise PathRefused("the path has dot segments")
    is_folder = path.endswith("/") and segments
    return "/" + "/".join(segments) + ("/" if is_folder else "")


def is_path_meant(
    patterns: Iterable[PathPattern], path: str, *, in_any_reading: bool = False
) -> bool:
    """Tell whether a canonical path is one of these, with its parameters and without them.

    To some servers ``/a;b/c`` is ``/a/c`` (RFC 3986 section 3.3; servlets take parameters out
    before they compare), to others it is not.

    Args:
        patterns: Any of them counts.
        path: A canonical one.
        in_any_reading: What is refused is meant if one reading is; what is allowed only if both
            are, by whichever pattern.
    """
    if ";" not in path:
        return any(one.matches(path) for one in patterns)
    known = tuple(patterns)
    readings = (path, canonical_path(_PARAMETERS.sub("", path)))
    meant = (any(one.matches(reading) for one in known) for reading in readings)
    return any(meant) if in_any_reading else all(meant)


def _decode(found: re.Match[str]) -> str:
    character = chr(int(found[1], 16))
    return character if _AS_IT_IS.fullmatch(character) else found[0].upper()


def _encode(found: re.Match[str]) -> str:
    return f"%{ord(found[0]):02X}"


_UNCLEAR: Final = re.compile(r"[\x00-\x20\x7f\\#]")
_BROKEN: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ENCODED: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_AS_IT_IS: Final = re.compile(r"[A-Za-z0-9._~!$&'()+,;=:@-]")
"""What a segment may have (RFC 3986 section 3.3, ``pchar``), but for the asterisk."""
_NEVER_RAW: Final = re.compile(r"[^A-Za-z0-9._~!$&'()+,;=:@/%-]")
_PARAMETERS: Final = re.compile(r";[^/]*")
_NAMELESS: Final = frozenset({"", ".", ".."})
"""What a segment is to no two servers alike; one that is empty behind has parameters alone."""
_HIDDEN: Final = re.compile(r"%(?:2F|5C|7F|25|[01][0-9A-F])")
"""A slash, a backslash, control characters; and the percent sign, which encodes twice."""


class _Matcher(Protocol):
    """A compiled regular expression."""

    def fullmatch(self, text: str, /) -> object | None: ...


@dataclass(frozen=True, slots=True)
class PathPattern:
    """One path (``/a``), everything below one (``/a/*``), or a regular expression."""

    text: str
    is_regular: bool = False
    _regular: _Matcher | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Compile a regular expression.

        Raises:
            ValueError: It is none, or one that takes too much memory.
        """
        if self.is_regular:
            object.__setattr__(self, "_regular", _compiled(self.text))

    def matches(self, path: str) -> bool:
        """Tell whether a canonical path is meant; a regular expression has to match all of it."""
        if self._regular is not None:
            return self._regular.fullmatch(path) is not None
        if self.text.endswith("*"):
            return path.startswith(self.text[:-1])
        return path == self.text

    def covers(self, other: PathPattern) -> bool:
        """Tell whether every path of another one is meant; False where that is not known."""
        if self == other:
            return True
        if self.is_regular or other.is_regular or not self.text.endswith("*"):
            return False
        return other.text.startswith(self.text[:-1])

    @override
    def __str__(self) -> str:
        return f"pattern {self.text}" if self.is_regular else self.text


@dataclass(frozen=True, slots=True)
class UrlPattern:
    """``https://host[:port]/path``; a ``*`` at the end of the path is everything below it."""

    scheme: str
    host: CanonicalHost
    port: int
    path: PathPattern

    @property
    def is_whole_site(self) -> bool:
        """Whether the path says nothing."""
        return self.path.text == "/*"

    def leads_to(self, host: CanonicalHost, port: int) -> bool:
        """Tell whether it is about a host and a port."""
        return port == self.port and host.text == self.host.text

    def covers(self, other: UrlPattern) -> bool:
        """Tell whether every URL of another one is meant."""
        same = (self.scheme, self.host, self.port) == (other.scheme, other.host, other.port)
        return same and self.path.covers(other.path)

    @override
    def __str__(self) -> str:
        port = "" if self.port == DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}{self.path}"


DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def _compiled(text: str) -> _Matcher:
    if len(text.encode()) > POLICY_PATTERN_BYTES_MAX:
        raise ValueError(f"is longer than {POLICY_PATTERN_BYTES_MAX} bytes")
    options = re2.Options()
    options.max_mem = POLICY_PATTERN_MEMORY_BYTES_MAX
    options.log_errors = False
    try:
        return re2.compile(text, options)
    except re2.error as error:
        reason = error.args[0]
        raise ValueError(reason.decode() if isinstance(reason, bytes) else str(reason)) from None
