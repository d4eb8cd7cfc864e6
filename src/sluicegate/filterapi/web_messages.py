"""Requests and responses as web filters see them, whatever version of HTTP carries them.

The gate makes one view of each message; HTTP/1.1 and HTTP/2 fill the same one. The invariant: a
filter changes what a message says, never how it is framed nor where it goes, and only while its
head is the filter's to judge.
"""

from __future__ import annotations

from sluicegate.errors import BadContext
from sluicegate.protocols.http1 import FramingKind, Request, Response, Target, TargetForm

from .web_headers import Headers

__all__ = ["WebRequest", "WebResponse"]


class WebRequest:
    """What a client asks for."""

    __slots__ = ("_message", "headers", "host", "port", "scheme", "version")

    def __init__(
        self,
        message: Request,
        scheme: str = "http",
        host: str = "",
        port: int = 80,
        version: str = "1.1",
    ) -> None:
        self._message = message
        self.headers = Headers(message.fields)
        #: They know whether the message may be changed.
        self.scheme = scheme
        #: ``http`` or ``https``.
        self.host = host
        #: Canonical, as policy judged it; in lower case, without a dot at the end or brackets.
        self.port = port
        self.version = version
        #: ``1.0``, ``1.1`` or ``2``.

    @property
    def message(self) -> Request:
        """The message below; the gate's own."""
        return self._message

    def show(self, message: Request) -> None:
        """Stand for the message as it goes on; the gate's own call."""
        self._message = message
        self.headers.show(message.fields)

    @property
    def method(self) -> str:
        """In upper case."""
        return self._message.method.decode("latin-1")

    @method.setter
    def method(self, method: str) -> None:
        self._check_open()
        if not (method.isascii() and method.isalpha() and method.isupper()):
            raise ValueError("a method is a word of upper case letters")
        if self._message.target.form in _FIXED_FORMS:
            raise ValueError(f"{self.method} cannot become another method")
        self._message.method = method.encode()

    @property
    def target(self) -> str:
        """Path and query as the client wrote them; ``*`` for OPTIONS about the server."""
        target = self._message.target
        return bytes(target.as_origin()).decode("latin-1")

    @target.setter
    def target(self, target: str) -> None:
        """Ask for something else on the same server; policy is asked about it, too."""
        self._check_open()
        old = self._message.target
        if old.form in _FIXED_FORMS:
            raise ValueError(f"{self.method} {self.target} has no path")
        path = target.encode("ascii")
        if old.form is TargetForm.ABSOLUTE and old.authority is not None:
            self._message.target = Target.absolute(old.scheme, old.authority, path)
        else:
            self._message.target = Target.origin(path)

    @property
    def path(self) -> str:
        """The path as the client wrote it, without its query; encodings are not decoded."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """What stands behind ``?``; empty also where there is none."""
        return self.target.partition("?")[2]

    @property
    def url(self) -> str:
        """The whole URL, with the host that was judged."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _DEFAULT_PORTS.get(self.scheme) else f":{self.port}"
        path = "" if self.target == "*" else self.target
        return f"{self.scheme}://{host}{port}{path}"

    @property
    def body_length(self) -> int | None:
        """How long its body is, in bytes; None if that is not known before its end."""
        framing = self._message.framing
        return None if framing.is_chunked else framing.length

    def open(self) -> None:
        """Let a filter change it; the gate's own call."""
        self.headers.open()

    def close(self) -> None:
        """Take the right to change it away; the gate's own call."""
        self.headers.close()

    def _check_open(self) -> None:
        if not self.headers.is_open:
            raise BadContext("the head has gone: it is changed in the hook about the head")


class WebResponse:
    """What a server answers."""

    __slots__ = ("_message", "headers", "is_bodiless")

    def __init__(self, message: Response, *, is_bodiless: bool = False) -> None:
        self._message = message
        self.headers = Headers(message.fields)
        self.is_bodiless = is_bodiless
        #: Whether no body follows whatever it declares (HEAD, 204, 304).

    @property
    def message(self) -> Response:
        """The message below; the gate's own."""
        return self._message

    def show(self, message: Response) -> None:
        """Stand for the message as it goes on; the gate's own call."""
        self._message = message
        self.headers.show(message.fields)

    @property
    def status(self) -> int:
        """Its status code."""
        return self._message.status

    @property
    def content_type(self) -> str:
        """The media type in lower case, without parameters; empty if it names none."""
        return (self.headers.first("content-type") or "").partition(";")[0].strip().lower()

    @property
    def body_length(self) -> int | None:
        """How long its body is, in bytes; None if that is not known before its end."""
        framing = self._message.framing
        if self.is_bodiless:
            return 0
        return framing.length if framing.kind in _KNOWN_LENGTHS else None

    def open(self) -> None:
        """Let a filter change it; the gate's own call."""
        self.headers.open()

    def close(self) -> None:
        """Take the right to change it away; the gate's own call."""
        self.headers.close()


_DEFAULT_PORTS = {"http": 80, "https": 443}
_FIXED_FORMS = frozenset({TargetForm.ASTERISK, TargetForm.AUTHORITY})
_KNOWN_LENGTHS = frozenset({FramingKind.NO_BODY, FramingKind.LENGTH})
