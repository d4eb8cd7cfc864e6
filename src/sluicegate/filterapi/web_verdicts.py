"""What web filters answer, as values: about a head, about a route.

About pieces of a body they answer as stream filters do (``FORWARD``, ``Rewrite`` …), about whole
ones as content filters (``Release``, ``Replace`` …), and everywhere ``Refuse``. The invariant: an
answer that exists can be sent: its status, its fields and where it leads are checked as it is made.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from sluicegate.protocols.http1 import Authority, Fields
from sluicegate.verdict import Refuse, Release, Replace

from .stream_filter import Forward, Leave, Rewrite
from .web_headers import Headers

__all__ = [
    "GO_ON",
    "SKIP_BODY",
    "Answer",
    "BodyVerdict",
    "ChunkVerdict",
    "GoOn",
    "HeadVerdict",
    "Need",
    "Needs",
    "Redirect",
    "RefuseWith",
    "RouteTo",
    "RouteVerdict",
]


class Need(enum.IntEnum):
    """How much of a message a web filter has to see; each includes those before it."""

    HEADERS = 0
    """Its head. The body passes without a copy."""
    STREAM = 1
    """Its body, piece by piece, as it passes."""
    OBJECT = 2
    """Its body as a whole, before anything of it goes on, the head included."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What a web filter needs of the messages of its rules; compiled when a policy is loaded."""

    request: Need = Need.HEADERS
    response: Need = Need.HEADERS
    alters: bool = False
    """Whether it may change the bodies that it is shown: their length is then not declared before
    it is known."""
    is_decoded: bool = True
    """Whether content codings are taken off a body before it is shown; the receiver then gets it
    without them. A filter that looks at no content (and counts, say) needs nothing taken off."""
    messages: bool = False
    """Whether it judges the messages of WebSockets (``on_message``)."""
    events: bool = False
    """Whether it judges server-sent events one by one (``on_event``), in whatever coding they
    come."""
    object_bytes_max: int = 16 << 20
    """The largest body it takes as a whole; a larger one is told to ``on_unmet``."""
    object_wait_s: float = 60.0
    """How long a body is collected whose length nobody declared; one that has not ended then is
    told to ``on_unmet``: it may never end."""


@dataclass(frozen=True, slots=True)
class GoOn:
    """Let the message go on, with the changes that were made to its head."""

    need: Need | None = None
    """How much of this message's body is wanted; None: what ``needs`` says, which is the most."""
    alters: bool | None = None
    """Whether this message's body may be changed; None: what ``needs`` says."""


@dataclass(frozen=True, slots=True)
class RefuseWith(Refuse):
    """Refuse with a status of its own; a plain ``Refuse`` is answered with 403.

    The client is told ``reason``: nothing of the message belongs into it.
    """

    status: int = 403
    detail: str = ""
    """For the record alone."""

    def __post_init__(self) -> None:
        if not _ERROR_MIN <= self.status <= _ERROR_MAX:
            raise ValueError("a refusal has a status from 400 to 599")


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer the client; the server is not asked, or its response is dropped."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        """Find what cannot be sent now, where its author sees it."""
        if not _OK <= self.status <= _ERROR_MAX:
            raise ValueError("an answer has a final status, 200 to 599")
        if self.body and self.status in _BODILESS:
            raise ValueError(f"{self.status} has no body")
        self.fields()

    def fields(self) -> Fields:
        """Return its headers as they are sent.

        Raises:
            ValueError: One of them cannot be sent, or is the gate's.
        """
        fields = Fields()
        headers = Headers(fields)
        for name, value in self.headers.items():
            headers.add(name, value)
        return fields


@dataclass(frozen=True, slots=True)
class Redirect:
    """Send the client elsewhere; where it then asks is judged like any other request."""

    location: str
    """An absolute URL of ``http`` or ``https``, or a path that begins with one slash."""
    status: int = 302

    def __post_init__(self) -> None:
        if self.status not in _REDIRECTS:
            raise ValueError("a redirect has the status 301, 302, 303, 307 or 308")
        if _LOCATION.fullmatch(self.location) is None:
            raise ValueError("a redirect leads to an http or https URL, or to a path")


@dataclass(frozen=True, slots=True)
class RouteTo:
    """Ask another server; policy judges it as if the client had named it."""

    host: str
    """A name or an address, without brackets."""
    port: int
    keeps_host: bool = False
    """Whether the server is told the ``Host`` that the client named."""

    def __post_init__(self) -> None:
        """Find what is no server now, where its author sees it."""
        if not _PORT_MIN <= self.port <= _PORT_MAX:
            raise ValueError("a route has a port from 1 to 65535")
        self.authority()

    def authority(self) -> Authority:
        """Return where it leads.

        Raises:
            ValueError: The host is none.
        """
        host = f"[{self.host}]" if ":" in self.host else self.host
        found = Authority.parse(f"{host}:{self.port}".encode("ascii", "replace"))
        if found is None:
            raise ValueError("a route has a host")
        return found


GO_ON: Final = GoOn()
"""Let it go on; its body is shown as ``needs`` says."""

SKIP_BODY: Final = GoOn(Need.HEADERS)
"""Let it go on, and take nothing of its body."""

HeadVerdict = GoOn | Refuse | Answer | Redirect
"""What is answered about a head."""

RouteVerdict = GoOn | Refuse | RouteTo
"""What is answered about where a request goes."""

ChunkVerdict = Forward | Rewrite | Leave | Refuse
"""What is answered about a piece of a body."""

BodyVerdict = Release | Replace | Refuse | Answer | Redirect
"""What is answered about a whole body."""

_OK: Final = 200
_ERROR_MIN: Final = 400
_ERROR_MAX: Final = 599
_BODILESS: Final = frozenset({204, 304})
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_PORT_MIN: Final = 1
_PORT_MAX: Final = 65535
#: No white space and no control character; ``//host`` and ``/\host`` would be another server.
_LOCATION: Final = re.compile(r"(?:https?://[!-~]+|/(?:[!-.0-\[\]-~][!-~]*)?)", re.ASCII)
