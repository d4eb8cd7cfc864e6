"""Console: all that one running console has, for its pages.

``application`` makes the web application of it. The invariant: pages keep nothing of their own
between two requests; what lasts is here, and bounded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jinja2 import Environment

from sluicegate.address import SocketAddress
from sluicegate.clock import Clock
from sluicegate.console_limits import (
    LOGIN_BURST,
    LOGINS_PER_MINUTE,
    REQUEST_BURST,
    REQUESTS_PER_SECOND,
)

from .accounts import Accounts
from .buckets import Buckets
from .environment import make_environment
from .first_link import FirstLink
from .link import ConsoleSettings, GateLink
from .origins import Origins
from .past import Past
from .present import Present
from .sampler import Sampler
from .saved_queries import SavedQueries
from .sessions import Session, Sessions
from .tokens import Tokens

if TYPE_CHECKING:
    from .oidc import Oidc

__all__ = ["Console"]

_MINUTE_S: Final = 60.0


class Console:
    """One running console."""

    def __init__(
        self, settings: ConsoleSettings, bound: SocketAddress, link: GateLink, clock: Clock
    ) -> None:
        """Put the parts together.

        Args:
            settings: What the operator wants.
            bound: Where it listens.
            link: To the gate.
            clock: For sessions, limits and pages.
        """
        self.settings = settings
        self.link = link
        self.clock = clock
        self.origins = Origins(bound, settings.hosts, has_tls=bool(settings.certificate))
        self.accounts = Accounts(settings.folder)
        self.tokens = Tokens(settings.folder)
        self.oidc = _oidc_of(settings, self.origins.own, clock)
        self.sessions = Sessions(clock)
        self.first_link = FirstLink(clock)
        self.past = Past(settings.store, clock)
        self.saved_queries = SavedQueries(settings.folder)
        self.present = Present(link, clock)
        self.sampler = Sampler(link, clock)
        self.environment: Environment = make_environment(clock)
        self.requests = Buckets(clock, REQUESTS_PER_SECOND, REQUEST_BURST)
        self.logins = Buckets(clock, LOGINS_PER_MINUTE / _MINUTE_S, LOGIN_BURST)

    def stands(self, session: Session) -> bool:
        """Tell whether who began a session is known still, with the same role and password."""
        if session.is_external:
            return True  # the provider says it at each log-in
        if session.is_token:
            return self.tokens.stands(session.account)
        if session.is_first:
            return not len(self.accounts.users)
        return self.accounts.stands(session.account)

    def close(self) -> None:
        """Let go of the store."""
        self.past.close()


def _oidc_of(settings: ConsoleSettings, origin: str, clock: Clock) -> Oidc | None:
    if settings.oidc is None:
        return None
    # It needs libraries that a console without a provider does without.
    from .oidc import Oidc  # noqa: PLC0415 - an extra

    return Oidc(settings.oidc, origin, clock)
