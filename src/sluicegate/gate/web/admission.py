"""AdmittedExchange: the first step of an exchange: who asks, for what, and which rule lets it.

``exchange.Exchange`` stands on it. The invariant: nothing is looked up, dialled or sent for a
request before it was counted, its client has said who it is where that is asked for, and a rule has
let it; and a request that was let in by one rule does not go on by another one.
"""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Final

from sluicegate.errors import DirectoryFailed, LimitExceeded, TransportError, errno_name
from sluicegate.gate.entry_dialogue import CREDENTIALS_NEEDED, Authenticate
from sluicegate.gate.entry_handshake import HandshakeEnd
from sluicegate.names import HostRefused
from sluicegate.policy import RuleAction
from sluicegate.policy.decision import PUBLISHED
from sluicegate.policy.destinations import USER_NEEDED
from sluicegate.policy.learn import LEARNING
from sluicegate.protocols.basic_credentials import read_basic
from sluicegate.protocols.detect import EntryProtocol
from sluicegate.protocols.http1 import (
    Authority,
    Fields,
    Response,
    TargetForm,
    forwards_left,
    has_passed,
)

from .answering import AnsweredExchange

if TYPE_CHECKING:
    from sluicegate.gate.own_tls import OwnTls
    from sluicegate.gate.registry import RulePlan
    from sluicegate.gate.settings import EntrySettings
    from sluicegate.protocols.entry import Credentials

    from .inside import Inside
    from .targets import Target

__all__ = ["AdmittedExchange", "WebReason"]


class WebReason:
    """Reason codes of requests that come to no decision, or are refused beside one."""

    NOT_FOR_A_PROXY: Final = "target-not-absolute"
    """The client takes the proxy for a server: its target is no URL."""
    SCHEME: Final = "scheme-not-served"
    """The URL is neither ``http:`` nor ``https:``."""
    LOOP: Final = "loop"
    """The request has passed this gate before (``Via``)."""
    LAST_FORWARD: Final = "max-forwards"
    """TRACE or OPTIONS that goes no further: the gate is whom it asks."""
    NO_HOST: Final = "host-missing"
    NO_TUNNELS: Final = "connect-not-served"
    """The listener takes no CONNECT, or not beside other requests on a connection."""
    UPGRADE: Final = "upgrade-not-allowed"
    """The rule lets no stream switch to the protocol that it asks for (``upgrades``)."""
    UNSEEN_BYTES: Final = "rule-has-byte-filters"
    """The rule's filters look at the bytes of a whole connection, and this is one request of many.
    """


class AdmittedExchange(AnsweredExchange):
    """Who asks, for what, and by which rule."""

    __slots__ = ()

    @abc.abstractmethod
    def on_admitted(self) -> None:
        """Go on: a rule lets it in."""

    # -- before any rule -----------------------------------------------------------------------

    def begin(self) -> None:
        """Take the request: count it, look at what it is, and find out who asks."""
        connection, request = self.connection, self.request
        service = connection.service
        if not service.recorder.is_accepting:
            connection.close(abortive=True)
            return
        if not service.flood.admit_request(connection.flood, connection.client_address):
            self.refuse(429, "limit requests_per_minute")
            return
        if not self._has_fitting_target():
            return
        fields = request.fields
        if request.authority is None:
            self.refuse(400, WebReason.NO_HOST)
        elif fields.first(b"via") is not None and has_passed(fields, connection.desk.pseudonym):
            self.refuse(508, WebReason.LOOP)
        elif request.method in _COUNTED and forwards_left(request) == 0:
            self._answer_last()
        elif connection.entry is None or connection.inside is not None:
            self.decide()
        else:
            self._identify()

    def _has_fitting_target(self) -> bool:
        """Tell whether the form of its target is for this connection; False: it was refused."""
        connection, form = self.connection, self.request.target.form
        if connection.inside is not None:
            return self._fits_inside(connection.inside)
        if connection.own_tls is not None and not self._fits_own(connection.own_tls):
            return False
        if connection.entry is not None and form is not _ABSOLUTE:
            if form is not _AUTHORITY:
                self.refuse(400, WebReason.NOT_FOR_A_PROXY)
            else:
                self._begin_tunnel(connection.entry)
        elif form is _ABSOLUTE and not self._takes_scheme(self.request.target.scheme):
            self.refuse(501, WebReason.SCHEME)
        elif form is _AUTHORITY:
            self.refuse(405, WebReason.NOT_FOR_A_PROXY)
        else:
            return True
        return False

    def _begin_tunnel(self, entry: EntrySettings) -> None:
        """Give a client that asks for a tunnel, after other requests, to who serves CONNECT."""
        connection = self.connection
        flood, client = connection.service.flood, connection.client_address
        if EntryProtocol.HTTP_CONNECT not in entry.protocols:
            self.refuse(405, WebReason.NO_TUNNELS)
        elif connection.refusal:
            self.refuse(403, connection.refusal)  # of a certificate that names nobody who may come
        elif not flood.admit_destination(connection.flood, client):
            self.refuse(429, "limit connects_per_minute")
        elif not self.client.hand_back():
            self.refuse(405, WebReason.NO_TUNNELS)

    def _takes_scheme(self, scheme: bytes) -> bool:
        """Take the scheme of a URL: a client may leave TLS with the server to the gate."""
        connection = self.connection
        if connection.own_tls is not None:
            return True  # it fits the TLS that it came in
        self.is_secure = scheme == b"https"
        return scheme == b"http" or (self.is_secure and connection.entry is not None)

    def _fits_inside(self, inside: Inside) -> bool:
        """Hold a request inside a tunnel to what its connection is for; False: refused."""
        self.is_secure = inside.is_secure
        objection = inside.objection_to(self.request, self.connection.service.entries.host_of)
        if objection is not None:
            self.refuse(*objection)
        return objection is None

    def _fits_own(self, own_tls: OwnTls) -> bool:
        """Hold a request to the name in the hello of the TLS that it came in; False: refused."""
        self.is_secure = True
        objection = own_tls.objection_to(self.request, self.connection.service.entries.host_of)
        if objection is not None:
            self.refuse(*objection)
        return objection is None

    def _answer_last(self) -> None:
        """Answer TRACE or OPTIONS that goes no further.

        TRACE is not reflected: its answer would show scripts what they may not read (XST).
        """
        if self.request.method == b"TRACE":
            self.refuse(405, WebReason.LAST_FORWARD)
        else:
            self.reason = WebReason.LAST_FORWARD
            self.answer(Response(204, fields=Fields([(b"Allow", _ALLOWED)])))

    # -- who asks ------------------------------------------------------------------------------

    def _identify(self) -> None:
        """Find out who asks, by the credentials of this very request."""
        connection = self.connection
        entry = connection.entry
        assert entry is not None, "published servers have users of their own"
        if entry.authenticate is _OFF:
            if connection.refusal:
                # Of a certificate that names nobody who may come.
                self.refuse(403, connection.refusal)
                return
            self.decide()
            return
        values = [v for n, v in self.request.hop_fields if n.lower() == b"proxy-authorization"]
        if len(values) > 1:
            self.refuse(400, HandshakeEnd.MALFORMED)
        elif not values:
            if entry.authenticate is Authenticate.REQUIRED:
                self.refuse(407, CREDENTIALS_NEEDED)
            else:
                connection.become(None)
                self.session = connection.session
                self.decide()
        elif connection.is_known_by(values[0]):
            self.session = connection.session
            self.decide()
        else:
            self._verify(values[0])

    def _verify(self, value: bytes) -> None:
        connection = self.connection
        entries = connection.service.entries
        try:
            credentials = read_basic(value)
        except ValueError:
            self.refuse(400, HandshakeEnd.MALFORMED)
            return
        if credentials is None:
            self.refuse(407, CREDENTIALS_NEEDED)
        elif entries.throttle.is_refused(connection.client_address.host):
            self.refuse(407, HandshakeEnd.PASSWORD_THROTTLED)
        else:
            connection.service.spawn(self._authenticate(value, credentials))

    async def _authenticate(self, value: bytes, credentials: Credentials) -> None:
        connection = self.connection
        entries, client = connection.service.entries, connection.client_address
        epoch = entries.known.epoch
        try:
            user = await entries.authenticator.authenticate(
                credentials.username, credentials.password
            )
        except LimitExceeded as error:
            entries.on_limit(error, client)
            self.refuse(503, f"limit {error.limit}")
            return
        except DirectoryFailed as error:
            self.refuse(503, HandshakeEnd.DIRECTORY_FAILED, detail=error.cause)
            return
        except TransportError as error:
            self.refuse(503, f"password not verified: {errno_name(error.error)}")
            return
        if self.is_over:
            return
        if user is None:
            entries.throttle.note_failure(client.host)
            self.refuse(407, HandshakeEnd.WRONG_PASSWORD)
            return
        connection.become(entries.view_of(user), value, epoch)
        self.session = connection.session
        self.decide()

    # -- which rule ----------------------------------------------------------------------------

    def decide(self) -> None:
        """Ask the policy; what waits here to be fetched was decided on before."""
        connection = self.connection
        if connection.desk.kept_downloads.serve(self):
            return
        if connection.entry is None:
            self.reason = PUBLISHED
            if connection.is_still_admitted():
                self.admit(connection.plan)
            return
        authority = self.request.authority
        assert authority is not None, "an absolute target has one"
        target = self._find_target(authority)
        if target is None:
            return
        self.target = target
        decision, plan = target.decision, target.plan
        self.reason = decision.reason
        if plan is not None:
            self.admit(plan)
            return
        self.refuser = "" if decision.rule is None else decision.rule.name
        if decision.action is RuleAction.RESET:
            self.reset(decision.reason)
        elif decision.reason == USER_NEEDED and connection.entry.asks_for_passwords:
            self.refuse(407, decision.reason)
        else:
            self.refuse(403, decision.reason)

    def _find_target(self, authority: Authority) -> Target | None:
        connection = self.connection
        targets, last = connection.desk.targets, connection.last_target
        user, is_secure = connection.session.rules_user, self.is_secure
        found = targets.find_again(last, user, authority, is_secure=is_secure)
        if found is not None:
            return found
        try:
            found = targets.find(connection.asker, self.request, authority, is_secure=is_secure)
        except HostRefused as refused:
            self.refuse(400, refused.reason)
            return None
        connection.last_target = found
        return found

    def admit(self, plan: RulePlan) -> None:
        """Let it in by a rule, if the rule's own limits and filters can do with it."""
        connection = self.connection
        connection.take_plan(plan)
        if not (plan.is_plain and self.session.is_plain) and not self._fits(plan):
            return
        self.verdict = "allowed"
        if self.reason == LEARNING:
            connection.record_learned(self)
        self.on_admitted()

    def _fits(self, plan: RulePlan) -> bool:
        """Tell whether a rule with filters or bounds can do with one request; False: refused."""
        connection = self.connection
        if plan.blocked:
            self.refuse(503, plan.blocked)
            return False
        if plan.rule.limits.bounds_requests and not self.has_room_for_request():
            return False
        limit = connection.take_place()
        if limit is not None:
            connection.service.on_limit(limit, connection)
            self.refuse(503, f"limit {limit.limit}")
            return False
        if plan.connection:
            self.refuse(403, WebReason.UNSEEN_BYTES)
            return False
        return True


# Globals are found faster than attributes of a class.
_ABSOLUTE: Final = TargetForm.ABSOLUTE
_AUTHORITY: Final = TargetForm.AUTHORITY
_OFF: Final = Authenticate.OFF
_COUNTED: Final = frozenset({b"TRACE", b"OPTIONS"})
_ALLOWED: Final = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
