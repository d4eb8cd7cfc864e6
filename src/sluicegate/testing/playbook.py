"""Playbooks: script an exchange through filters of any tier, and say what must come of it.

What filter authors use first. A playbook is a whole gate on a network in memory and on virtual
time: what passes here passes there. The invariant: every step returns when the world is quiet, and
a playbook that ends without a complaint has left nothing behind: no lease, no socket, no failure
that the test did not expect.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from typing_extensions import override

from sluicegate.address import SocketAddress
from sluicegate.audit import ConnectionRecord, DecisionRecord, FilterFailureRecord, Record
from sluicegate.filterapi import (
    ContentFilter,
    ContentVerdict,
    Direction,
    Transfer,
    TransferOffer,
)
from sluicegate.gate.settings import Installation, OnFailure

from .clock import VirtualClock
from .conversation import Action, Conversation, Step, Who
from .faults import FaultPlan
from .network import SimulatedNetwork, SimulatedSocket
from .playbook_gate import PlaybookGate, playbook_limits
from .scripted_peer import PlaybookError, ScriptedPeer
from .sizes import memory_ceiling
from .watched import FilterLike, ObjectHolder, Sightings, installation_of

__all__ = ["Exchange", "Playbook", "offer_of"]

RecordT = TypeVar("RecordT", bound=Record)

_SERVER = "10.9.9.9:8080"
_CLIENT = "10.1.1.1:0"


class Exchange:
    """One connection: its client, its server, and how it ended."""

    def __init__(self, play: Playbook, target: SocketAddress) -> None:
        self.target = target
        #: The server's address, as the client asked for it.
        self.client = ScriptedPeer("client", play.network, play.settle, self._error)
        self.server = ScriptedPeer("server", play.network, play.settle, self._error)
        self.steps: list[Step] = []
        #: What happened so far, as a conversation has it.
        self._play = play
        self._client_address = ""
        self._over: set[str] = set()
        for who, peer in self._peers:
            peer.note_steps(partial(self._note, who), self._note_no_more)

    # -- what must come of it --------------------------------------------------------------------

    @property
    def outcome(self) -> str:
        """``open``, ``released`` (ended as its sides wanted), ``refused`` or ``failed``."""
        self._play.settle()
        ended = self._record(ConnectionRecord)
        if ended is not None:
            return ended.outcome
        decided = self._record(DecisionRecord)
        return "refused" if decided is not None and decided.verdict == "denied" else "open"

    @property
    def reason(self) -> str:
        """Why it ended, as the gate's log has it; empty while it is open."""
        self._play.settle()
        record: Any = self._record(ConnectionRecord) or self._record(DecisionRecord)
        return "" if self.outcome == "open" or record is None else record.reason

    def expect_refused(self, reason: str | re.Pattern[str] | None = None) -> None:
        """Expect that a verdict ended it, before or after the server was dialled.

        Raises:
            PlaybookError: It is open, or ended otherwise, or for another reason.
        """
        __tracebackhide__ = True
        self._expect("refused", reason)

    def expect_released(self) -> None:
        """Expect that it ended as its two sides wanted.

        Raises:
            PlaybookError: It is open, or ended otherwise.
        """
        __tracebackhide__ = True
        self._expect("released", None)

    def expect_failed(self, reason: str | re.Pattern[str] | None = None) -> None:
        """Expect that it failed; what filters raised so far is thereby expected, too.

        Raises:
            PlaybookError: It is open, or ended otherwise, or for another reason.
        """
        __tracebackhide__ = True
        self._expect("failed", reason)
        self._play.filter_errors.clear()

    def expect_open(self) -> None:
        """Expect that it has not ended.

        Raises:
            PlaybookError: It has.
        """
        __tracebackhide__ = True
        self._expect("open", None)

    @property
    def conversation(self) -> Conversation:
        """What happened so far, fit for ``replay`` and for a golden file.

        Raises:
            PlaybookError: Bulk was sent, which nobody keeps.
        """
        if not (self.client.is_noted and self.server.is_noted):
            raise self._error("bulk was sent, which no conversation can hold")
        self.take_note()
        reason = self.reason.encode()
        end = Step("", Action.OUTCOME, reason, outcome=self.outcome)
        return Conversation((*self.steps, end), self._play.offer).settled()

    # -- for the playbook ------------------------------------------------------------------------

    def take_note(self) -> None:
        """Add what has come to the steps (the playbook only)."""
        for who, peer in self._peers:
            if peer.fresh:
                self.steps.append(Step(who, Action.RECEIVES, bytes(peer.fresh)))
                peer.fresh.clear()
            if peer.came_to_end and who not in self._over:
                self._over.add(who)
                self.steps.append(Step(who, Action(f"receives {peer.came_to_end}")))

    def on_client_connected(self, sock: SimulatedSocket) -> None:
        """Take the client's end (the playbook only)."""
        self._client_address = str(sock.local)
        self.client.attach(sock)

    def waits_as_client(self, address: SocketAddress) -> None:
        """Take that the gate will dial the client there (the playbook only)."""
        self._client_address = str(address)

    def is_of(self, transfer: Transfer) -> bool:
        """Tell whether an object moves in this connection (the playbook only)."""
        return str(transfer.connection.client_address) == self._client_address

    @property
    def _peers(self) -> tuple[tuple[Who, ScriptedPeer], tuple[Who, ScriptedPeer]]:
        return ("server", self.server), ("client", self.client)

    def _note_no_more(self) -> None:
        self.client.note_no_more()
        self.server.note_no_more()

    def _note(self, who: Who, action: str, data: bytes) -> None:
        self.take_note()
        self.steps.append(Step(who, Action(action), data))

    def _record(self, kind: type[RecordT]) -> RecordT | None:
        for record in self._play.records_of(kind):
            if getattr(record, "client", None) == self._client_address:
                return record
        return None

    def _expect(self, outcome: str, reason: str | re.Pattern[str] | None) -> None:
        __tracebackhide__ = True
        came, why = self.outcome, self.reason
        if isinstance(reason, re.Pattern):
            is_right = reason.fullmatch(why) is not None
        else:
            is_right = reason is None or reason == why
        if came != outcome or not is_right:
            wanted = f"{outcome}: {getattr(reason, 'pattern', reason)}" if reason else outcome
            raise self._error(
                f"the connection is not as expected\n- {wanted}\n+ {came}" + (why and f": {why}")
            )

    def _error(self, message: str) -> PlaybookError:
        self.take_note()
        so_far = "\n".join(f"  {line}" for step in self.steps for line in str(step).split("\n"))
        error = PlaybookError(f"{message}\nso far:\n{so_far or '  nothing'}")
        for cause in self._play.filter_errors[-1:]:
            error.__cause__ = cause
        return error


class Playbook:
    """Filters in a gate, clients and servers around them; use it in a ``with`` block.

    The first connection is made by the first mention of ``client``, ``server`` or an expectation;
    ``connect`` makes more.

    Args:
        filters: Instances, classes, or what makes them; in the order of their positions, then as
            given.
        offer: Has each connection held as one object, for content filters (``offer_of``). The
            default with content filters alone is a download named ``object``; a protocol filter
            among them finds objects itself.
        rule_settings: What the matched rule says to the filters (``event.rule_settings``).
        limits: Limits to change, by name (``idle_timeout_s=5``).
        memory: A ceiling for what is allocated from here to the end (``"8 MiB"``).
        faults: What goes wrong; the default is nothing.
        seed: Decides everything that is left to chance.
    """

    def __init__(
        self,
        *filters: FilterLike,
        offer: TransferOffer | None = None,
        rule_settings: Mapping[str, object] | None = None,
        limits: Mapping[str, Any] | None = None,
        memory: int | str | None = None,
        faults: FaultPlan | None = None,
        seed: int = 0,
    ) -> None:
        _check_no_loop_runs()
        self.filter_errors: list[BaseException] = []
        #: What filters raised and the test has not expected.
        self.exchanges: list[Exchange] = []
        self.sightings = Sightings(self._delivered)
        self.sightings.errors = self.filter_errors
        installed = [
            installation_of(one, self.sightings, number) for number, one in enumerate(filters)
        ]
        if offer is None and installed and all(_judges_objects(one) for one in installed):
            offer = offer_of("object")
        self.offer = offer
        self._is_closed = False
        self._gate = PlaybookGate(
            limits=playbook_limits(**(limits or {})),
            faults=faults,
            seed=seed,
            filter_errors=self.filter_errors,
        )
        self._gate.progress = lambda: sum(
            exchange.client.progress + exchange.server.progress for exchange in self.exchanges
        )
        if offer is not None:
            holder = ObjectHolder(offer)
            installed.insert(0, Installation(holder.name, holder, OnFailure.DENY, "test"))
        self._gate.install(installed, rule_settings or {})
        self._ceiling = contextlib.ExitStack()
        if memory is not None:
            self._ceiling.enter_context(memory_ceiling(memory))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        __tracebackhide__ = True
        self.close(check=error is None)

    # -- the first connection ----------------------------------------------------------------------

    @property
    def exchange(self) -> Exchange:
        """The first connection; made when it is first asked for."""
        return self.exchanges[0] if self.exchanges else self.connect()

    @property
    def client(self) -> ScriptedPeer:
        """The first connection's client."""
        return self.exchange.client

    @property
    def server(self) -> ScriptedPeer:
        """The first connection's server."""
        return self.exchange.server

    @property
    def outcome(self) -> str:
        """As ``Exchange.outcome``."""
        return self.exchange.outcome

    @property
    def reason(self) -> str:
        """As ``Exchange.reason``."""
        return self.exchange.reason

    @property
    def conversation(self) -> Conversation:
        """As ``Exchange.conversation``."""
        return self.exchange.conversation

    def expect_refused(self, reason: str | re.Pattern[str] | None = None) -> None:
        """As ``Exchange.expect_refused``."""
        __tracebackhide__ = True
        self.exchange.expect_refused(reason)

    def expect_released(self) -> None:
        """As ``Exchange.expect_released``."""
        __tracebackhide__ = True
        self.exchange.expect_released()

    def expect_failed(self, reason: str | re.Pattern[str] | None = None) -> None:
        """As ``Exchange.expect_failed``."""
        __tracebackhide__ = True
        self.exchange.expect_failed(reason)

    def expect_open(self) -> None:
        """As ``Exchange.expect_open``."""
        __tracebackhide__ = True
        self.exchange.expect_open()

    # -- objects ---------------------------------------------------------------------------------

    @property
    def verdict(self) -> ContentVerdict | None:
        """The last answer of a content filter; None when none was asked, or it raised."""
        self.settle()
        return self.sightings.objects[-1].verdict if self.sightings.objects else None

    def expect_verdict(self, verdict: ContentVerdict) -> None:
        """Expect this answer of the content filter.

        Raises:
            PlaybookError: It answered something else, or was not asked.
        """
        __tracebackhide__ = True
        came = self.verdict
        if came != verdict:
            what = "no verdict: it was not asked, or it raised" if came is None else repr(came)
            error = PlaybookError(f"the verdict is not as expected\n- {verdict!r}\n+ {what}")
            raise error from (self.filter_errors[-1] if self.filter_errors else None)

    def expect_filter_failure(self) -> None:
        """Expect that a filter raised, was late or answered nonsense.

        Raises:
            PlaybookError: None did.
        """
        __tracebackhide__ = True
        self.settle()
        if not (self.filter_errors or self.records_of(FilterFailureRecord)):
            raise PlaybookError("a filter was to fail, and none did")
        self.filter_errors.clear()

    # -- the world ---------------------------------------------------------------------------------

    @property
    def clock(self) -> VirtualClock:
        """The virtual clock; ``wait`` moves it."""
        return self._gate.clock

    @property
    def network(self) -> SimulatedNetwork:
        """The network in memory."""
        return self._gate.network

    @property
    def records(self) -> Sequence[Record]:
        """What the gate has written into its log."""
        return self._gate.recorder.records

    def records_of(self, kind: type[RecordT]) -> list[RecordT]:
        """Return the records of one kind."""
        return self._gate.recorder.of(kind)

    def connect(
        self, server: str = _SERVER, client: str = _CLIENT, *, at: SocketAddress | None = None
    ) -> Exchange:
        """Make one more connection, from a client address to a server address.

        Connections from one client address belong to one session.

        Args:
            server: Where the server waits; a new one is published, with all filters.
            client: Where the client comes from; port 0 takes a new one each time.
            at: For a secondary connection: where the gate said that it expects the client
                (``Action.address``). Nothing is published then.
        """
        target = SocketAddress.parse(server)
        accepted = partial(self._on_accepted, target)
        if at is None:
            at = self._gate.publish(target, accepted)
        else:
            self._gate.listen(target, accepted)
        exchange = Exchange(self, target)
        self.exchanges.append(exchange)
        self._dial(SocketAddress.parse(client), at, exchange.client, exchange.on_client_connected)
        return exchange

    def connect_back(self, at: SocketAddress, client: str, server: str = _SERVER) -> Exchange:
        """Make a secondary connection from the server's side, as ``bind_for_client`` expects it.

        Args:
            at: Where the gate said that it expects the server (``Action.address``).
            client: Where the client waits for the gate.
            server: Where the server comes from; its port is a new one each time.
        """
        source, target = SocketAddress.parse(server).with_port(0), SocketAddress.parse(client)
        exchange = Exchange(self, source)
        exchange.waits_as_client(target)
        self._gate.listen(target, exchange.client.attach)
        self.exchanges.append(exchange)
        self._dial(source, at, exchange.server, exchange.server.attach)
        return exchange

    def _dial(
        self,
        source: SocketAddress,
        at: SocketAddress,
        peer: ScriptedPeer,
        on_connected: Callable[[SimulatedSocket], None],
    ) -> None:
        sock = self.network.create_socket(at.family)
        sock.bind(source.to_kernel())

        def done(result: int) -> None:
            if result < 0:
                sock.close()
                peer.refuse()
            else:
                on_connected(sock)

        self.network.connect(sock, at, done)
        self.settle()

    def settle(self) -> None:
        """Let everything happen that happens by itself; every other method does it, too."""
        self._gate.settle()
        for exchange in self.exchanges:
            exchange.take_note()

    def wait(self, seconds: float) -> None:
        """Let virtual time pass: deadlines fall due, nothing is waited for in earnest."""
        for exchange in self.exchanges:
            exchange.take_note()
            exchange.steps.append(Step("", Action.WAIT, seconds=seconds))
        self._gate.wait(seconds)
        self.settle()

    def close(self, *, check: bool = True) -> None:
        """End the gate; with ``check`` also say what was left, or failed unexpectedly.

        Raises:
            PlaybookError: Something was.
            CeilingExceeded: More memory was allocated than ``memory`` allows.
        """
        __tracebackhide__ = True
        if self._is_closed:
            return
        self._is_closed = True
        try:
            if check:
                self._stop_and_check()
        finally:
            self._gate.close()

    # -- private -----------------------------------------------------------------------------------

    def _stop_and_check(self) -> None:
        __tracebackhide__ = True
        for exchange in self.exchanges:
            exchange.take_note()
        self._gate.stop()
        for exchange in self.exchanges:
            exchange.client.hang_up()
            exchange.server.hang_up()
        self._gate.settle()
        self._ceiling.close()
        early = [one for one in self.sightings.objects if one.delivered_early]
        if early:
            raise PlaybookError(
                f"{early[0].delivered_early} bytes reached the receiver before the verdict of "
                f"{early[0].filter_name}"
            )
        left = self._gate.leftovers()
        if self.filter_errors:
            cause = self.filter_errors[0]
            raise PlaybookError(
                f"a filter failed, and no expect_failed said so: {type(cause).__name__}: {cause}"
            ) from cause
        if left:
            raise PlaybookError("the exchange left something behind:\n" + "\n".join(left))

    def _on_accepted(self, server: SocketAddress, sock: SimulatedSocket) -> None:
        for exchange in self.exchanges:
            waits = exchange.target == server and not exchange.server.is_connected
            if waits and exchange.client.can_act:
                exchange.server.attach(sock)
                return
        self.network.reset(sock)  # its client has gone meanwhile
        sock.close()

    def _delivered(self, transfer: Transfer) -> int:
        """Return how many bytes of an object its receiver has.

        One that moves inside a dialogue is not all that its receiver gets there: the gate itself
        delivers nothing of it before the verdict.
        """
        if transfer.offer is not self.offer and not transfer.connection.is_secondary:
            return 0
        for exchange in self.exchanges:
            if exchange.is_of(transfer):
                is_download = transfer.offer.direction is Direction.DOWNLOAD
                return (exchange.client if is_download else exchange.server).received_count
        return 0

    @override
    def __repr__(self) -> str:
        return f"<Playbook of {len(self.exchanges)} connections>"


def offer_of(
    name: str, direction: Direction | str = Direction.DOWNLOAD, protocol: str = "test"
) -> TransferOffer:
    """Return what is known of an object before its first byte."""
    return TransferOffer(name=name, direction=Direction(direction), protocol=protocol)


def _check_no_loop_runs() -> None:
    with contextlib.suppress(RuntimeError):
        asyncio.get_running_loop()
        raise TypeError("a playbook has a loop of its own: use it in a plain function, not async")


def _judges_objects(installation: Installation) -> bool:
    return isinstance(installation.filter_object, ContentFilter)
