"""UdpAssociation: one SOCKS UDP ASSOCIATE, from the request to the end of its control connection.

``entry`` begins one for a client whom some rule allows datagrams. It has the socket that the client
sends to, takes the header off each datagram, has ``udp_destinations`` judge where it is to go, and
keeps one ``AssociatedConnection`` for every rule that its datagrams come under, so that each runs
the filters of its own rule. The invariant: nobody but one port of the control connection's address
sends through it or is sent to, and it ends with that connection (RFC 1928, sections 6 and 7).
"""

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from sluicegate.address import SocketAddress
from sluicegate.errors import ProtocolError, Side
from sluicegate.filterapi import EntryMode, Outcome
from sluicegate.limits import ENTRY_AHEAD_BYTES_MAX
from sluicegate.port.backend import BUFFER, MORE, SLOT_SHIFT, Operation, RawSocket
from sluicegate.port.layer import SocketDriver, driver_of
from sluicegate.port.tray import HEADROOM, NAME_SHIFT, DatagramOutlet
from sluicegate.protocols.socks_udp import SocksUdpClient, decode_socks_datagram

from .asker import Asker
from .entry_answers import EntryAnswer
from .internal_error import internal_error
from .readmission import Readmission, carried, reason_of
from .state import State
from .udp_destinations import UdpDestinations

if TYPE_CHECKING:
    from sluicegate.protocols.entry import Destination

    from .entry_handshake import EntryHandshake
    from .flood_count import FloodClient
    from .registry import RulePlan
    from .service import FirewallService
    from .session import GateSession
    from .udp_associated import AssociatedConnection

__all__ = ["UdpAssociation"]


class UdpAssociation:
    """One client's association; what its connections have in place of a listener."""

    asked: Final = "udp-associate"
    primary_id: Final = ""
    found: Final = ()
    bytes_to_server: Final = 0
    bytes_to_client: Final = 0
    datagrams_to_server: Final = 0
    datagrams_to_client: Final = 0
    peers_known: Final = 0
    #: What went through is counted by its connections.

    def __init__(
        self,
        service: FirewallService,
        session: GateSession,
        plan: RulePlan,
        handshake: EntryHandshake,
        raw: RawSocket,
        announced: Destination,
    ) -> None:
        """Take a bound socket; ``begin`` answers the client.

        Args:
            service: The gate.
            session: The client's.
            plan: Of the first rule that allows the client datagrams.
            handshake: Whose request it is.
            raw: Where the client is to send its datagrams.
            announced: Where it says that it will send from; often zeros.
        """
        port = service.port
        self.id = handshake.id
        self.session: GateSession = session
        self.plan = plan
        self.allowed_by = reason_of(plan)
        self.judged = service.revocation.epoch
        self.name = handshake.listener_name
        #: Of the listener that the client came to.
        self.handshake = handshake
        #: Who asks: address, user, listener; its socket only until it is handed over.
        self.client_address = handshake.client
        self.flood: FloodClient = handshake.flood
        self.entry_mode: EntryMode = handshake.mode
        self.relay_address = SocketAddress.from_kernel(raw.getsockname())
        self.started = self.last_active = port.now
        self.started_wall = port.wall
        self.state = State.OPEN
        self.is_closing = False
        self.outcome = Outcome.RELEASED
        self.reason = ""
        self.error = 0
        self.error_side: Side | None = None
        self.dropped: dict[str, int] = {}
        #: Datagrams that came to no connection, by reason.
        self.connections: dict[bytes, AssociatedConnection] = {}
        #: By the name of their rule.
        self.outlet = DatagramOutlet(raw)
        self.client_name: bytes = b""
        #: The kernel's form of the client's address and port, once they are known.
        self.wheel_slot = -1
        self._service = service
        self._control_driver: SocketDriver = service.port.backend
        self._relay = raw
        self._relay_op = Operation(self._on_relay_ready)
        self._client = SocksUdpClient(handshake.client.ip, announced)
        self._destinations = UdpDestinations(service, self)
        self._control: RawSocket | None = None
        self._control_op: Operation | None = None
        self._heard = 0
        self._is_handed_over = False

    # -- coming up -----------------------------------------------------------------------------

    def begin(self) -> None:
        """Tell the client where to send, and wait for its datagrams."""
        service, handshake = self._service, self.handshake
        handshake.connection = self
        service.udp.add_association(self)
        service.wheel.add(self, self.due())
        service.port.backend.await_datagrams(self._relay_op, self._relay)
        answer = handshake.dialogue.encode_answer(EntryAnswer.GRANTED, self.relay_address)
        handshake.send(answer, self._on_answered)

    def _on_answered(self) -> None:
        """Take the control connection over: all that it may do is end."""
        if self.is_closing:
            return
        backend = self._service.port.backend
        given = self.handshake.hand_over()
        self._is_handed_over = True
        # (From here on the control connection is on the client's account by itself.)
        self._control, self._control_op = given.raw, given.receive_op
        self._control_driver = driver_of(given.raw, backend)
        for buffer, _, length in given.ahead:
            self._heard += length
            buffer.release()
        backend.redirect(given.receive_op, self._on_control)
        if given.ended:
            self._end(Outcome.RELEASED, CONTROL_CLOSED)
        elif not given.receive_op.in_flight:
            self._control_driver.receive(given.receive_op, given.raw)

    def _on_control(self, result: int, flags: int) -> None:
        port, operation, raw = self._service.port, self._control_op, self._control
        assert operation is not None, "the control connection was handed over"
        assert raw is not None, "the control connection was handed over"
        if flags & BUFFER:
            pool = self._control_driver.pool
            pool.give_back(pool.slots[flags >> SLOT_SHIFT])
        if self.is_closing:
            self._finish_close()
        elif result > 0:
            self._heard += result
            if self._heard > ENTRY_AHEAD_BYTES_MAX:
                self.refuse("data on the control connection of an association")
        elif result == 0:
            self._end(Outcome.RELEASED, CONTROL_CLOSED)
        elif result != -errno.ECANCELED:
            self._end(Outcome.FAILED, "receive", -result, Side.CLIENT)
        if not (flags & MORE or self.is_closing or operation.in_flight or port.is_closing):
            self._control_driver.receive(operation, raw)

    # -- datagrams of the client ---------------------------------------------------------------

    def _on_relay_ready(self, _result: int, flags: int) -> None:
        if not flags & MORE:
            if not self.is_closing:
                # The watch for datagrams ended by itself; the port is closing.
                self._end(Outcome.FAILED, "port closed", errno.ECANCELED, Side.INTERNAL)
            self._finish_close()
            return
        if self.is_closing:
            return
        tray = self._service.port.backend.tray
        if tray.receive(self._relay) <= 0:
            return
        index = tray.first
        for name_size, _, _, length in tray.heads:
            at = index << NAME_SHIFT
            name = tray.names[at : at + name_size]
            if not self._is_from_client(name):
                self.drop("stranger")
            elif length > tray.bytes_max:
                self._service.udp.on_oversized(self.client_address, self)
                self.drop("oversized")
            else:
                start = index * tray.stride + HEADROOM
                self._take(bytes(tray.view[start : start + length]))
            index += 1

    def _is_from_client(self, name: bytes) -> bool:
        if self.client_name:
            return name == self.client_name
        if not self._client.admits(SocketAddress.from_packed(name)):
            return False
        self.client_name = name
        return True

    def _take(self, data: bytes) -> None:
        """Take one datagram of the client."""
        if self.is_closing:
            # One before it, of the same batch, has ended the association.
            return
        try:
            asked = decode_socks_datagram(data)
        except ProtocolError:
            # An answer would only help a forger; which of the two it was is in the record.
            is_fragment = len(data) > _FRAGMENT_AT and data[_FRAGMENT_AT]
            self.drop("fragment" if is_fragment else "malformed")
            return
        key = data[_ADDRESS_AT : asked.payload_at]
        self._destinations.take(key, asked.destination, data[asked.payload_at :])

    def drop(self, reason: str, count: int = 1) -> None:
        """Count datagrams that came to no connection."""
        self.dropped[reason] = self.dropped.get(reason, 0) + count

    # -- connections ---------------------------------------------------------------------------

    def connection_under(
        self,
        plan: RulePlan,
        asked: str,
        address: SocketAddress | None,
        found: tuple[str, ...] = (),
    ) -> AssociatedConnection | None:
        """Return the connection of a rule; a new one if need be, None when it is refused.

        Args:
            plan: The rule's, in force now.
            asked: What the client asks for; the record of a new one has it.
            address: Where that is, if it is known yet.
            found: The addresses of the name that was asked for; the record has them too.
        """
        key = plan.rule.name.encode()
        connection = self.connections.get(key)
        if connection is not None and not _runs_alike(connection.plan, plan):
            connection.supersede()
            connection = None
        if connection is None:
            connection = self._service.udp.admit_associated(self, plan, asked, address, found)
        return connection

    def go_on_by(self, connection: AssociatedConnection, plans: Sequence[RulePlan]) -> None:
        """Let a connection go on by the rules that let its destinations in now.

        It goes on untouched where that is one rule that runs the same; else it ends, and the next
        datagrams make connections under their rules.
        """
        plan = plans[0]
        key = plan.rule.name.encode()
        is_one = all(one is plan for one in plans) and self.connections.get(key) in {
            None,
            connection,
        }
        if not is_one or plan.bytes_blocked or not _runs_alike(connection.plan, plan):
            connection.supersede()
            return
        del self.connections[connection.key]
        self._service.revocation.note_rule(connection, plan)
        connection.go_on_by(carried(connection.plan, plan))
        self.connections[key] = connection

    def on_connection_ended(self, connection: AssociatedConnection) -> None:
        """Forget what led to a connection that has ended."""
        self._destinations.forget(connection)
        self.last_active = max(self.last_active, connection.last_active)
        if not self.is_closing:
            self._service.udp.count_alone(self)

    def local_address(self, control: bytes) -> SocketAddress:
        """Return the gate's own address towards the client, as a listener does."""
        del control
        return self.relay_address

    # -- policy --------------------------------------------------------------------------------

    @property
    def asker(self) -> Asker:
        """Whose datagrams they are, as rules see it."""
        return Asker(self.name, self.client_address, self.session.rules_user)

    def judge_anew(self) -> Readmission:
        """Say by which rule its client may send datagrams at all now."""
        rule, reason = self._service.entries.decide_association(self.asker)
        if rule is None:
            return Readmission(None, reason)
        # The filters of a rule run for the connection under it, not for the association.
        return Readmission(dataclasses.replace(self.plan, rule=rule))

    def on_readmitted(self) -> None:
        """Judge where its datagrams go."""
        self._destinations.judge_anew()

    # -- ending --------------------------------------------------------------------------------

    def due(self) -> float:
        """Return when it ends if nothing happens (``timers.Expiring``)."""
        limits = self._service.limits
        active = max((one.last_active for one in self.connections.values()), default=0.0)
        self.last_active = max(self.last_active, active)
        return min(
            self.last_active + limits.udp_idle_timeout_s, self.started + limits.connection_total_s
        )

    def on_expired(self) -> None:
        """Take the end of the time."""
        limits = self._service.limits
        if self.started + limits.connection_total_s <= self._service.port.clock.monotonic():
            self.refuse("connection_total_s reached")
        else:
            self._end(Outcome.RELEASED, "idle")

    def refuse(self, reason: str) -> None:
        """End it by a verdict."""
        self._end(Outcome.REFUSED, reason)

    def on_internal_error(self, error: BaseException) -> None:
        """Take that an error of ours was raised in its work (``port.Answerable``)."""
        self._end(Outcome.FAILED, internal_error(error))

    def end_replaced(self) -> None:
        """Make room for another connection of the same client."""
        self._end(Outcome.RELEASED, "udp_sessions_max reached")

    def on_client_failure(self, error: int) -> None:
        """Take that the client has gone before it was answered."""
        self._end(Outcome.FAILED, "receive", error, Side.CLIENT)

    def _end(self, outcome: Outcome, reason: str, error: int = 0, side: Side | None = None) -> None:
        if self.is_closing:
            return
        self.is_closing = True
        self.state = State.CLOSING
        self.outcome, self.reason, self.error, self.error_side = outcome, reason, error, side
        self._service.wheel.remove(self)
        for connection in list(self.connections.values()):
            connection.end_with(outcome, reason)
        self._destinations.clear()
        self._service.udp.end_association(self)
        if self._is_handed_over:
            self._service.flood.end_connection(self.flood, is_half_open=False)
        else:
            self.handshake.close(abortive=True)
        if self._control_op is not None and self._control_op.in_flight:
            self._control_driver.cancel(self._control_op)
        if self._relay_op.in_flight:
            self._service.port.backend.cancel(self._relay_op)
        self._finish_close()

    def _finish_close(self) -> None:
        """Close the sockets on which nothing is in flight."""
        backend = self._service.port.backend
        control, control_op = self._control, self._control_op
        if control is not None and control_op is not None and not control_op.in_flight:
            self._control = None
            control.close()
            self._service.port.operations.give(control_op)
        if not self._relay_op.in_flight and self._relay.fileno() >= 0:
            if self.outlet.entries:
                backend.tray.flush()
            self._relay.close()
            backend.forget(self._relay_op)
        if self._control is None and self._relay.fileno() < 0:
            self.state = State.CLOSED

    # -- asking --------------------------------------------------------------------------------

    @property
    def listener_name(self) -> str:
        """The listener that the client came to."""
        return self.name

    @property
    def rule(self) -> str:
        """Name of the rule that admitted it."""
        return self.plan.rule.name

    @property
    def server_address(self) -> SocketAddress:
        """Where the client sends its datagrams: an association has no other server."""
        return self.relay_address

    def filter_names(self) -> tuple[str, ...]:
        """Return no names: filters stand in its connections."""
        return ()


def _runs_alike(one: RulePlan, other: RulePlan) -> bool:
    """Tell whether a rule, read again, has the same run for its connections."""
    before, after = one.rule, other.rule
    return before.filters == after.filters and before.settings == after.settings


CONTROL_CLOSED: Final = "control connection closed"
_FRAGMENT_AT: Final = 2
_ADDRESS_AT: Final = 3
