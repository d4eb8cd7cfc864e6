"""What the console is given at its start, and what it may ask of the gate afterwards.

``app.processes.console`` implements ``GateLink`` over its channel; tests have their own. The
invariant: whatever the console orders carries the name of the person who wants it.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from sluicegate.audit.records import OperatorRecord
from sluicegate.audit.store import StorePlace
from sluicegate.errors import SluicegateError
from sluicegate.gate.control_messages import AnyReply, AnyRequest

__all__ = ["ConsoleSettings", "Explained", "GateLink", "GateLost", "OidcSettings"]


class OidcSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``[console.oidc]``."""

    issuer: str
    client_id: str
    client_secret: str = ""
    """Empty: the provider takes us without one, by PKCE alone."""
    scopes: tuple[str, ...] = ("openid", "profile")
    name_claim: str = "preferred_username"
    roles_claim: str = "groups"
    administrators: tuple[str, ...] = ()
    """Values of ``roles_claim`` that give this role."""
    operators: tuple[str, ...] = ()
    viewers: tuple[str, ...] = ()


class ConsoleSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``[console]``, with paths resolved; texts and numbers only, for it is sent to the process."""

    folder: str
    """Where the console keeps its users."""
    listen: str
    """Address and port."""
    hosts: tuple[str, ...] = ()
    """Names under which browsers reach it, beside the address itself."""
    certificate: str = ""
    """Path of a certificate, with its chain; empty: without TLS."""
    key: str = ""
    """Path of its key."""
    store: StorePlace | None = None
    """The store of records; None: there is none."""
    keep_days: int = 0
    """How long the store keeps records."""
    oidc: OidcSettings | None = None
    """A provider at which people log in, too; None: there is none."""


class Explained(msgspec.Struct, frozen=True, kw_only=True):
    """What the policy in force says of a record."""

    tree: dict[str, Any] = {}
    """As ``sluicegate explain --json`` has it."""
    why_not: str = ""
    """Why nothing can be said; empty: it can."""


class GateLost(SluicegateError):
    """The gate does not answer."""


class GateLink(Protocol):
    """The gate, as far as the console sees it."""

    async def ask(self, request: AnyRequest, by: str, ticket: str = "") -> AnyReply:
        """Ask or order something.

        Args:
            request: What; the gate refuses what is not the console's to ask.
            by: The person who wants it, for the records.
            ticket: Of ``prove``, without which the gate changes no policy.

        Raises:
            GateLost: There was no answer in time.
        """
        ...

    async def prove(self, name: str, password: str) -> str:
        """Have the gate check a password, too.

        Returns:
            A ticket that stands for it for some minutes; empty: it is not an administrator's.

        Raises:
            GateLost: There was no answer in time.
        """
        ...

    async def add_first(self, name: str, password: str) -> str:
        """Have the gate make the first user; return why not, or an empty text.

        Raises:
            GateLost: There was no answer in time.
        """
        ...

    async def explain(self, line: str) -> Explained:
        """Ask what the policy in force says of a decision in the log.

        Raises:
            GateLost: There was no answer in time.
        """
        ...

    def record(self, record: OperatorRecord) -> None:
        """Have recorded what somebody did in the console, or tried to."""
        ...
