"""The request target in its four forms, and ``Host`` (RFC 9112 section 3.2).

``head`` reads targets with it; filters make new ones through its constructors. The invariant: a
target that exists has one form and one reading; the host is split off raw, and ``names`` decides
what it means.
"""

from __future__ import annotations

import enum
import re
from typing import Final, NamedTuple

from typing_extensions import override

from sluicegate.protocols.entry import HostKind
from sluicegate.protocols.text import printable

__all__ = ["PATH", "Authority", "Target", "TargetForm"]


class Authority(NamedTuple):
    """A host and a port as a client wrote them: nothing folded, decoded or looked up."""

    kind: HostKind
    #: ``TEXT`` or ``BRACKETED``.
    host: bytes
    #: Without brackets.
    port: int | None = None
    #: 1 to 65535; None where the client wrote none.

    @classmethod
    def parse(cls, text: bytes) -> Authority | None:
        """Read ``host``, ``host:port``, ``[address]`` or ``[address]:port``; None for all else."""
        found = _AUTHORITY.fullmatch(text)
        if found is None:
            return None
        bracketed, name, digits = found.groups()
        port = int(digits) if digits is not None else None
        if port is not None and port > _PORT_MAX:
            return None
        if bracketed is not None:
            return cls(HostKind.BRACKETED, bracketed, port)
        return cls(HostKind.TEXT, name, port)

    def agrees_with(self, other: Authority, default_port: int | None) -> bool:
        """Tell whether both name the same host and port, in any letter case."""
        return (
            self.kind is other.kind
            and self.host.lower() == other.host.lower()
            and (self.port or default_port) == (other.port or default_port)
        )

    def __bytes__(self) -> bytes:
        host = b"[%b]" % self.host if self.kind is HostKind.BRACKETED else self.host
        return host if self.port is None else b"%b:%d" % (host, self.port)

    @override
    def __str__(self) -> str:
        """Show it for logs."""
        return printable(bytes(self))


class TargetForm(enum.Enum):
    """RFC 9112, sections 3.2.1 to 3.2.4."""

    ORIGIN = "origin"
    """``/path?query``."""
    ABSOLUTE = "absolute"
    """``http://host/path?query``, as a proxy is asked."""
    AUTHORITY = "authority"
    """``host:port``, of CONNECT alone."""
    ASTERISK = "asterisk"
    """``*``, of OPTIONS alone."""


class Target(NamedTuple):
    """What a request is about; made by ``parse`` and the constructors below, never by hand."""

    form: TargetForm
    path: bytes = b""
    #: With its query; in absolute form it is empty only where ``*`` is meant.
    scheme: bytes = b""
    #: Of absolute form, in lower case.
    authority: Authority | None = None
    #: Of absolute and authority form.

    @classmethod
    def parse(cls, text: bytes, *, method: bytes) -> Target | None:
        """Read a target; None if it is in none of the forms that the method allows.

        An absolute target with an empty path gets ``/`` (RFC 9112 section 3.2.1); for OPTIONS it
        stays empty and means ``*`` (section 3.2.4).
        """
        if method == b"CONNECT":
            authority = Authority.parse(text)
            if authority is None or authority.port is None:
                return None
            return cls(TargetForm.AUTHORITY, authority=authority)
        if PATH.fullmatch(text) is not None:
            return cls(TargetForm.ORIGIN, text)
        if text == b"*":
            return cls(TargetForm.ASTERISK) if method == b"OPTIONS" else None
        found = _ABSOLUTE.fullmatch(text)
        if found is None:
            return None
        scheme, authority_text, path = found.groups()
        authority = Authority.parse(authority_text)
        if authority is None:
            return None
        if not path.startswith(b"/") and (path or method != b"OPTIONS"):
            path = b"/" + path
        return cls(TargetForm.ABSOLUTE, path, scheme.lower(), authority)

    @classmethod
    def origin(cls, path: bytes) -> Target:
        """Make a target in origin form.

        Raises:
            ValueError: It does not begin with a slash, or has a byte that no URL has.
        """
        if PATH.fullmatch(path) is None:
            raise ValueError(f"not a path: {printable(path)}")
        return cls(TargetForm.ORIGIN, path)

    @classmethod
    def absolute(cls, scheme: bytes, authority: Authority, path: bytes) -> Target:
        """Make a target for a parent proxy.

        Raises:
            ValueError: The scheme or the path is malformed.
        """
        made = cls(TargetForm.ABSOLUTE, path, scheme.lower(), authority)
        if cls.parse(bytes(made), method=b"GET") is None:
            raise ValueError(f"not a URL: {made}")
        return made

    @classmethod
    def connect(cls, authority: Authority) -> Target:
        """Make the target of a CONNECT.

        Raises:
            ValueError: The port is missing.
        """
        if authority.port is None:
            raise ValueError(f"{authority} has no port")
        return cls(TargetForm.AUTHORITY, authority=authority)

    def as_origin(self) -> Target:
        """Return what an origin server is asked for instead of an absolute target."""
        if self.form is not TargetForm.ABSOLUTE:
            return self
        return Target(TargetForm.ORIGIN, self.path) if self.path else Target(TargetForm.ASTERISK)

    def __bytes__(self) -> bytes:
        """Return it as it is sent."""
        match self.form:
            case TargetForm.ORIGIN:
                return self.path
            case TargetForm.ASTERISK:
                return b"*"
            case TargetForm.AUTHORITY:
                return bytes(self.authority or b"")
            case TargetForm.ABSOLUTE:
                return b"%b://%b%b" % (self.scheme, bytes(self.authority or b""), self.path)

    @override
    def __str__(self) -> str:
        """Show it for logs."""
        return printable(bytes(self))


_PORT_MAX: Final = 65535
#: RFC 3986 unreserved and "%" for names: its sub-delims are in no host name, and "," hides a second
#: host from some readers. What stands in brackets has the bytes of an IPv6 literal with a zone.
_AUTHORITY: Final = re.compile(
    rb"(?:\[([0-9A-Za-z:.%_~-]+)\]|([0-9A-Za-z._~%-]+))(?::([1-9][0-9]{0,4}))?"
)
# RFC 3986, and what browsers leave unescaped all the same (WHATWG URL, path and query sets):
# "|", "[" and "]" in both, and also "\", "^", "`", "{" and "}" in a query. "%" in a query is often
# alone; in a path it is an escape, or servers disagree about it.
_PATH_BYTE: Final = rb"[!$&-;=@-Z\[\]_a-z|~]*"
_PATH_BYTES: Final = _PATH_BYTE + rb"(?:%[0-9A-Fa-f]{2}" + _PATH_BYTE + rb")*"
_QUERY: Final = rb"(?:\?[!$-;=?-~]*)?"
PATH: Final = re.compile(rb"/" + _PATH_BYTES + _QUERY)
_ABSOLUTE: Final = re.compile(
    rb"([A-Za-z][A-Za-z0-9+.\-]{0,15})://([^/?]*)((?:/" + _PATH_BYTES + rb")?" + _QUERY + rb")"
)
