"""What is asked of a policy: who wants what, and how much of it is known yet.

The gate makes a ``DestinationRequest`` for each connection, HTTP request and transfer; a decision
makes a ``Question`` of it. The invariant: what is not known is None, never a guess, so a condition
about it is neither met nor missed until somebody asks again.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from sluicegate.address import IpAddress
from sluicegate.names import AddressJudgement, CanonicalHost, classify

__all__ = [
    "DestinationRequest",
    "HttpPart",
    "Identity",
    "Level",
    "Number",
    "Question",
    "TransferPart",
    "numbers_of",
]


class Identity(Protocol):
    """A user who proved to be one (``identity.User``, ``filterapi.User``)."""

    @property
    def name(self) -> str:
        """As the users file writes it."""
        ...

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups that the user is in."""
        ...


class Level(enum.IntFlag):
    """What shows more than a connection does, and is asked about when it is there."""

    NONE = 0
    REQUEST = 1
    """HTTP requests: methods, URLs, paths."""
    TRANSFER = 2
    """Objects: content types."""


@dataclass(frozen=True, slots=True)
class HttpPart:
    """What an HTTP request shows."""

    method: str
    path: str
    """Made by ``canonical_path``."""
    scheme: str = "http"


@dataclass(frozen=True, slots=True)
class TransferPart:
    """What a transfer shows."""

    content_type: str = ""
    """Lower case, without parameters; empty when it has none."""
    extension: str = ""
    """Of its file's name, lower case, with the dot; empty when it has none."""


@dataclass(frozen=True, slots=True)
class DestinationRequest:
    """What one client asks for."""

    client: IpAddress
    host: CanonicalHost
    port: int
    user: Identity | None = None
    """Who the client proved to be."""
    protocol: str = "tcp"
    http: HttpPart | None = None
    """None: it is no HTTP request, or not known to be one."""
    transfer: TransferPart | None = None
    """None: there is no object yet."""
    asks_again: Level = Level.NONE
    """What the asker will ask about itself, whichever filters a rule has."""
    is_tunnel: bool = False
    """It is a connection whose TLS a rule may want opened: what is inside is asked about then. An
    HTTP request is none: it shows all there is, or cannot be read."""


Number: TypeAlias = tuple[int, int]
"""An address as policy compares it: its version, and the number that it is."""


def numbers_of(judgement: AddressJudgement) -> tuple[Number, ...]:
    """Return an address and all that are inside, as numbers."""
    address = judgement.address
    found = ((address.version, int(address)),)
    if not judgement.embedded:
        return found
    return (*found, *((4, int(one.address)) for one in judgement.embedded))


class Question:
    """A request with what its answer needs, worked out once."""

    __slots__ = (
        "asks_again",
        "client",
        "client_version",
        "host",
        "http",
        "is_tunnel",
        "judgement",
        "meant",
        "named",
        "now",
        "port",
        "protocol",
        "transfer",
        "user",
    )

    def __init__(self, request: DestinationRequest, now: float) -> None:
        client, host = request.client, request.host
        self.client = int(client)
        self.client_version = client.version
        self.host = host.text
        self.named = host
        self.judgement: AddressJudgement | None = (
            None if host.address is None else classify(host.address)
        )
        #: Of the address that the client wrote; None: it wrote a name.
        self.meant = () if self.judgement is None else numbers_of(self.judgement)
        #: That address, and all that are inside.
        self.port = request.port
        self.protocol = request.protocol
        self.user = request.user
        self.http = request.http
        self.transfer = request.transfer
        self.asks_again = int(request.asks_again)
        self.is_tunnel = request.is_tunnel and request.protocol == "tcp"
        self.now = now
