"""EntryConnection: a connection whose server the client named on a proxy listener.

``entry`` makes one for a request that policy allows; from there it is a connection like any other,
but for what comes between: the lookup, the judgement of what was found, the race of its addresses,
and the answer to the client. The invariant: what is dialled is an address of the destination that
was judged, judged again right before; and the client is told the outcome exactly once.
"""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from sluicegate.address import NOWHERE, SocketAddress
from sluicegate.errors import LimitExceeded, Side
from sluicegate.filterapi import ConnectRequested, Event, Outcome, TransferOffer
from sluicegate.names import CanonicalHost, Destination, JudgedAddress, LookupReason, Unresolved
from sluicegate.names.eyeballs import interleave
from sluicegate.policy import DestinationRequest, Rule, RuleAction
from sluicegate.policy.destinations import ALLOWED_BY_RULE
from sluicegate.policy.network_rules import NO_NETWORK_RULE
from sluicegate.port.account import Kept
from sluicegate.port.backend import BUFFER, MORE, SLOT_SHIFT, Operation, RawSocket
from sluicegate.port.layer import driver_of
from sluicegate.verdict import Deny

from .asker import Asker
from .connection import GateConnection
from .dial_queue import NO_DESCRIPTOR
from .dial_race import DialRace
from .dispatch import dispatch
from .entry_answers import EntryAnswer, answer_to_failure, answer_to_lookup
from .hello_check import with_hello
from .known_destinations import KnownDestination
from .lookups import Addresses, Lookup, tell_of_lookup
from .network_source import NoSource, end_unsourced, is_unrelated, take_source
from .objections import objection_of
from .readmission import Readmission
from .state import State

if TYPE_CHECKING:
    from sluicegate.policy import DestinationDecision

    from .entry_handshake import EntryHandshake
    from .known_destinations import RequestKey
    from .registry import RulePlan
    from .service import FirewallService
    from .session import GateSession

__all__ = ["REFUSALS", "EntryConnection"]


class EntryConnection(GateConnection):
    """One connection of a proxy listener."""

    __slots__ = (
        "_answer",
        "_decision",
        "_destination",
        "_epoch",
        "_handshake",
        "_key",
        "_late_op",
        "_late_pool",
        "_race",
        "found",
        "host",
        "target_port",
    )

    def __init__(
        self,
        service: FirewallService,
        session: GateSession,
        plan: RulePlan,
        handshake: EntryHandshake,
        host: CanonicalHost,
        target_port: int,
        *,
        asked: str = "",
    ) -> None:
        super().__init__(
            service,
            session,
            plan,
            handshake.listener_name,
            handshake.client,
            NOWHERE,
            flood=handshake.flood,
            identifier=handshake.id,
        )
        self.is_counted = False
        session.listeners[handshake.listener_name] = None
        self.announced = handshake.announced
        self.host = host
        #: What the client named, canonical.
        self.target_port = target_port
        self.entry_mode = handshake.mode
        self.asked = asked or f"{host}:{target_port}"
        if host.address is None:
            self.host_name = host.text
        self.found: tuple[str, ...] = ()
        self._handshake: EntryHandshake | None = handshake
        #: Until it is handed over or has refused.
        self._decision: DestinationDecision | None = None
        self._destination: Destination | None = None
        self._epoch = -1
        #: Under which it was decided on; nothing is judged anew while it is the present one.
        self._key: RequestKey | None = None
        #: What the outcome of its lookup is kept under.
        self._race: DialRace | None = None
        self._late_op: Operation | None = None
        #: The receive of a client whose tunnel did not come about.
        self._late_pool = service.port.pool
        self._answer: EntryAnswer | None = None
        #: What the client is told, where the end does not say it.

    @property
    @override
    def allowed_by(self) -> str:
        """Why it is let in: a rule allows it, or it passes to be learned from."""
        return ALLOWED_BY_RULE if self._decision is None else self._decision.reason

    # -- coming up -----------------------------------------------------------------------------

    def open_known(self, known: KnownDestination) -> None:
        """Dial what was found for another request like this one; no filter is to be asked."""
        service = self._service
        self._decision, self._destination = known.decision, known.destination
        self._epoch = service.entries.known.epoch
        self.server_address, self.found = known.address, known.found
        service.add_connection(self)
        service.record_decision(self, "allowed", self.allowed_by)
        self.state = State.DIALLING
        if known.is_only_address:
            # It was judged with the rest, and nothing has changed since.
            self._dial(_SERVER)
        else:
            self._dial_destination(known.destination)

    def open_with(self, decision: DestinationDecision, key: RequestKey | None) -> None:
        """Look the host up, judge what is found, ask the filters, dial; None keeps nothing."""
        self._decision, self._key = decision, key
        self._epoch = self._service.entries.known.epoch
        self._service.add_connection(self)
        if objection := self._bytes_objection:
            self.refuse(objection)
            return
        if self._has_place():
            self._resolve()

    @override
    def _has_place(self) -> bool:
        self._answer = EntryAnswer.GATE_BUSY
        has_place = super()._has_place()
        if has_place:
            self._answer = None
        return has_place

    def _resolve(self) -> None:
        """Find where to dial; filters are told of a name before it is looked up."""
        if self._is_lookup_told:
            tell_of_lookup(self._service, self._lookup(), None, self._find)
        else:
            self._find(None)

    @property
    def _is_lookup_told(self) -> bool:
        is_plain = self.plan.is_plain and self.session.is_plain
        return not (self.host.is_address or is_plain)

    def _find(self, given: Addresses | None) -> None:
        """Look the host up, unless a filter gave its addresses."""
        service, decision = self._service, self._decision
        assert decision is not None, "it is opened with one"
        if given is not None:
            self._on_found(self._judge_given(given))
            return
        found = service.entries.resolver.resolve_now(self.host, self.target_port, decision)
        if found is not None:
            self._on_found(found)
            return
        bound = service.limits.lookups_per_client_max
        if self.session.lookups >= bound:
            self._answer = EntryAnswer.GATE_BUSY
            self.on_limit(LimitExceeded("lookups_per_client_max", bound))
            return
        self.session.lookups += 1
        service.spawn(self._look_up(decision))

    async def _look_up(self, decision: DestinationDecision) -> None:
        resolver = self._service.entries.resolver
        try:
            found = await resolver.resolve(self.host, self.target_port, decision)
        finally:
            self.session.lookups -= 1
        self._on_found(found)

    def _judge_given(self, given: Addresses) -> Destination | Unresolved:
        decision = self._decision
        assert decision is not None, "it is opened with one"
        resolver = self._service.entries.resolver
        return resolver.judge_given(self.host, self.target_port, decision, given)

    def _on_found(self, found: Destination | Unresolved) -> None:
        """Tell filters what was found, which they may replace; not what policy refuses."""
        is_refused = isinstance(found, Unresolved) and found.reason in REFUSALS
        if self.is_closing or is_refused or not self._is_lookup_told:
            self._on_resolved(found)
            return
        addresses: Addresses = ()
        if isinstance(found, Destination):
            addresses = tuple(one.judgement.address for one in found.dialable)
        tell_of_lookup(
            self._service,
            self._lookup(),
            addresses,
            lambda given: self._on_resolved(found if given is None else self._judge_given(given)),
        )

    def _lookup(self) -> Lookup:
        return Lookup(self, self.host.text, self.on_lookup_denied)

    def on_lookup_denied(self, reason: str) -> None:
        """Take that a filter denied the lookup: to the client there is no such name."""
        self._answer = EntryAnswer.NAME_UNKNOWN
        self.refuse(reason)

    def _on_resolved(self, found: Destination | Unresolved) -> None:
        if self.is_closing:
            return
        self.found = found.found
        if not self._is_still_admitted():
            return
        if isinstance(found, Unresolved):
            self._on_unresolved(found)
            return
        self._destination = found
        self.server_address = found.dialable[0].socket_address(found.port)
        self._note_judged(found)
        if self.state is State.DIALLING:
            # The destination had expired while the filters were asked.
            self._dial_destination(found)
        elif self.plan.is_plain:
            self._service.record_decision(self, "allowed", self.allowed_by)
            self.state = State.DIALLING
            self._come_up()
        else:
            self.is_asking = True
            dispatch(self._service, self, self._opening_event(), self._on_verdict)

    def _note_judged(self, found: Destination) -> None:
        """Keep what was found for the next request like this one."""
        known, decision, key = self._service.entries.known, self._decision, self._key
        if decision is None or key is None or self._is_lookup_told:
            return
        if self._epoch == known.epoch:
            # (Else the decision is an older policy's, and good for this connection only.)
            is_only_address = len(found.dialable) == 1
            known.keep(
                key,
                KnownDestination(
                    self.host,
                    decision,
                    self.plan,
                    found,
                    self.server_address,
                    is_only_address,
                    self.asked,
                    self.found,
                ),
            )

    def _on_unresolved(self, found: Unresolved) -> None:
        self._answer = answer_to_lookup(found.reason)
        reason = f"{found.reason}: {found.detail}" if found.detail else str(found.reason)
        if found.reason in REFUSALS:
            self.refuse(reason)
        else:
            self.fail(reason)

    @override
    def _opening_event(self) -> Event:
        return ConnectRequested(self, self.server_address)

    @override
    def _come_up(self) -> None:
        """Dial the destination, if it is still what was judged; a filter may be it."""
        if self.is_emulated:
            self._grant_emulated()
            return
        destination = self._destination
        assert destination is not None, "filters are asked about a destination"
        self.state = State.DIALLING
        self._dial_began = self.port.now
        if destination.is_expired(self._service.clock.monotonic()):
            self._resolve()
        else:
            self._dial_destination(destination)

    def _dial_destination(self, destination: Destination) -> None:
        if not self._is_still_admitted():
            return
        addresses = destination.dialable
        if len(addresses) == 1:
            denial = self._judge_again(addresses[0])
            if denial is not None:
                self.refuse(f"{LookupReason.ADDRESS_DENIED}: {denial.reason}")
                return
            self._dial(Side.SERVER)
            return
        service = self._service
        self._race = DialRace(
            self.port,
            interleave(addresses),
            destination.port,
            self._judge_again,
            self._on_race_over,
            self._prepare_dial if service.policy.network_relations.rules else None,
        )
        self._dialled_side = Side.SERVER
        self._dial_began = self.port.now
        service.wheel.add(self, self._dial_began + service.limits.connect_timeout_s)
        self._race.start()

    def _prepare_dial(self, raw: RawSocket, server: SocketAddress) -> NoSource | None:
        relations = self._service.policy.network_relations
        return take_source(self.port, relations, raw, self.client_address, server)

    def _judge_again(self, address: JudgedAddress) -> Deny | None:
        destination, decision = self._destination, self._decision
        assert destination is not None, "there is something to dial"
        assert decision is not None, "it was opened with one"
        if address.denial is not None or self._epoch == self._service.entries.known.epoch:
            # Nothing that the judgement depends on has changed since.
            return address.denial
        if self.judged != self._service.revocation.epoch:
            # Another policy has come while its addresses are raced.
            found = self.judge_anew()
            if found.plan is None:
                return Deny(found.why)
            assert self._decision is not None, "it was let in by one"
            decision = self._decision
        return self._service.entries.resolver.judge_again(destination, decision, address)

    @override
    def judge_anew(self) -> Readmission:
        """Decide on the host again, and judge what was found for it by the new decision."""
        service, port = self._service, self.target_port
        asker = Asker(self.listener_name, self.client_address, self.session.rules_user)
        decision = service.entries.decide_again(asker, self.host, port, self.entry_protocol)
        rule = decision.rule
        if not decision.is_allowed or rule is None:
            return Readmission(None, decision.reason, rule)
        denial = self._judge_found(decision)
        if denial is not None:
            return Readmission(None, denial.reason)
        relations, client = service.policy.network_relations, self.client_address
        if self._is_dialled and is_unrelated(relations, client, self.server_address):
            return Readmission(None, NO_NETWORK_RULE)
        self._decision = decision
        return with_hello(self, Readmission(service.plan_of(rule)))

    def _judge_found(self, decision: DestinationDecision) -> Deny | None:
        """Judge what was found for the host by another decision on it."""
        found = self._destination
        if found is None:
            return None
        judgement = self._service.entries.resolver.classifier.classify(self.server_address.ip)
        for alias in found.aliases:
            denial = decision.judge_alias(self.host, alias, self.target_port)
            if denial is not None:
                return denial
        return decision.judge_address(self.host, judgement, self.target_port)

    @property
    def _is_dialled(self) -> bool:
        """Whether its server is one address, and not one of several that are raced."""
        return self._server_raw is not None and self._race is None

    @override
    def judge_target(self, address: SocketAddress) -> Deny | None:
        """Judge where a secondary connection would lead, by the decision on this one."""
        decision = self._decision
        assert decision is not None, "it was opened with one"
        judgement = self._service.entries.resolver.classifier.classify(address.ip)
        return decision.judge_address(self.host, judgement, address.port)

    @override
    def objection_to(self, offer: TransferOffer) -> str:
        """Ask the policy in force again, with what is known of the object by now."""
        rule = self.plan.rule
        assert isinstance(rule, Rule), "publications are for other listeners"
        request = DestinationRequest(
            self.client_address.ip,
            self.host,
            self.target_port,
            self.session.rules_user,
            self.entry_protocol,
        )
        name = self.listener_name
        return objection_of(self._service, name, request, offer, rule, self._judge_found)

    @override
    def dial_again(self) -> None:
        """Dial now that there may be a descriptor: the one address, or all of them."""
        destination = self._destination
        if destination is not None and len(destination.dialable) > 1:
            self._dial_destination(destination)
        else:
            super().dial_again()

    def _on_race_over(self, raw: RawSocket | None, address: SocketAddress, error: int) -> None:
        race, self._race = self._race, None
        self.server_address = address
        if raw is not None:
            self._server_raw = raw
            self._on_connected(0, 0)
        elif error in NO_DESCRIPTOR and self._service.dials.add(
            self, self._service.connection_count
        ):
            pass  # ``dial_again``
        elif error == errno.EACCES and race is not None and race.refusal is not None:
            end_unsourced(self, race.refusal)
        elif error == errno.EACCES:
            self.refuse(f"{LookupReason.ADDRESS_DENIED}: refused at the dial")
        else:
            self.on_transport_error(Side.SERVER, error, "connect")

    @override
    def _on_connected(self, result: int, flags: int) -> None:
        handshake = self._handshake
        if self.is_closing or result < 0 or handshake is None:
            super()._on_connected(result, flags)
            return
        if not self._is_still_admitted():
            return
        handshake.send(handshake.granted, self._join_server)

    def _join_server(self) -> None:
        """Begin the tunnel, whose client has been told that it is there."""
        if self._take_client_over():
            super()._on_connected(0, 0)

    def _grant_emulated(self) -> None:
        """Tell the client that its tunnel is there; no server is."""
        handshake = self._handshake
        assert handshake is not None, "the client waits for its answer"
        handshake.send(handshake.granted, self._open_emulated)

    def _take_client_over(self) -> bool:
        """Take the client's socket over, to which the answer was sent; False if all is over."""
        handshake, self._handshake = self._handshake, None
        if handshake is None or self.is_closing:
            return False
        self.is_counted = True
        given = self.client_given = handshake.hand_over()
        self._client_raw = given.raw
        if given.ahead:
            try:
                given.ahead = self._kept(given.ahead)
            except LimitExceeded as error:
                given.ahead = deque()
                self.on_limit(error)
                return False
        return True

    def _open_emulated(self) -> None:
        if self._take_client_over():
            assert self._client_raw is not None, "it was taken over"
            self._open_without_server(self._client_raw)

    def _kept(self, ahead: deque[Kept]) -> deque[Kept]:
        """Put what the client sent ahead on its account."""
        kept: deque[Kept] = deque()
        for buffer, start, length in ahead:
            try:
                kept.append(self.blockage.keep(self.session, buffer, start, length))
            except LimitExceeded:
                buffer.release()
                raise
        return kept

    # -- what ends it --------------------------------------------------------------------------

    def on_client_failure(self, error: int) -> None:
        """Take that the client has gone before its tunnel was there."""
        handshake, self._handshake = self._handshake, None
        if handshake is not None:
            handshake.close(abortive=True)
        self.on_transport_error(Side.CLIENT, error)

    @override
    def _end(self, outcome: Outcome, reason: str, error: int = 0, side: Side | None = None) -> None:
        if self.is_closing:
            return
        handshake, self._handshake = self._handshake, None
        super()._end(outcome, reason, error, side)
        if handshake is None:
            return
        if outcome is Outcome.REFUSED and self._is_reset:
            handshake.reset()
            return
        answer = self._answer
        if answer is None and outcome is Outcome.REFUSED:
            answer = EntryAnswer.NOT_ALLOWED
        elif answer is None:
            answer = answer_to_failure(error, side)
        handshake.refuse(answer)

    @property
    def _is_reset(self) -> bool:
        """Whether it was refused by a rule that resets."""
        rule, decision = self.plan.rule, self._decision
        if isinstance(rule, Rule) and rule.action is RuleAction.RESET:
            return True
        return decision is not None and decision.action is RuleAction.RESET

    @override
    def close(self, *, abortive: bool) -> None:
        """As every connection, and the race and what nobody took over of the client's socket."""
        if self.is_closing:
            return
        race, self._race = self._race, None
        if race is not None:
            race.stop()
        self._drop_given()
        super().close(abortive=abortive)

    def _drop_given(self) -> None:
        """Let go of a client's socket that neither pump nor chain took over."""
        given, self.client_given = self.client_given, None
        if given is None:
            return
        for waiting in given.ahead:
            self.blockage.give_up(self.session, waiting[0])
            waiting[0].release()
        self._late_op = given.receive_op
        self._late_pool = driver_of(given.raw, self.port.backend).pool
        self.port.backend.redirect(given.receive_op, self._on_late)
        driver_of(given.raw, self.port.backend).cancel(given.receive_op)

    def _on_late(self, result: int, flags: int) -> None:
        if result > 0 and flags & BUFFER:
            pool = self._late_pool
            pool.give_back(pool.slots[flags >> SLOT_SHIFT])
        if not flags & MORE:
            self.join()

    @override
    def join(self) -> None:
        """Finish when the last operation in flight has completed, the client's among them."""
        if self._late_op is None or not self._late_op.in_flight:
            super().join()

    @override
    def _finish(self) -> None:
        self._late_op = None  # whose completion has this connection: both were a circle
        super()._finish()

    # -- asking --------------------------------------------------------------------------------

    @property
    @override
    def named_host(self) -> CanonicalHost:
        """What its client named, canonical."""
        return self.host

    @property
    @override
    def named_port(self) -> int:
        """The port that its client named."""
        return self.target_port

    @property
    @override
    def client_side_address(self) -> SocketAddress:
        """The gate's own address towards the client."""
        if self._client_raw is None and self._handshake is not None:
            return SocketAddress.from_kernel(self._handshake.raw.getsockname())
        return super().client_side_address


_SERVER: Final = Side.SERVER
REFUSALS = frozenset(
    {
        LookupReason.NAME_DENIED,
        LookupReason.SPECIAL_NAME,
        LookupReason.ALIAS_DENIED,
        LookupReason.ADDRESS_DENIED,
        LookupReason.ADDRESSES_MIXED,
    }
)
"""What policy says of what was found; everything else is a lookup that failed."""
