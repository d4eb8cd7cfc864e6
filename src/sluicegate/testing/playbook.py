"""Playbooks: script an exchange through filters of any tier, and say what must come of it.

What filter authors use first. A playbook is a whole gate on a network in memory and on virtual
time: what passes here passes there. The invariant: every step returns when the world is quiet, and
a playbook that ends without a complaint has left nothing behind: no lease, no socket, no failure
that the test did not expect.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from typing_extensions import override

from sluicegate.address import SocketAddress
from sluicegate.audit import FilterFailureRecord, Record
from sluicegate.filterapi import (
    ContentFilter,
    ContentVerdict,
    Direction,
    Scanner,
    Transfer,
    TransferOffer,
)
from sluicegate.gate.settings import Installation, OnFailure

from .clock import VirtualClock
from .conversation import Action, Conversation, Step
from .exchange import Exchange
from .faults import FaultPlan
from .network import SimulatedNetwork, SimulatedSocket
from .peers import PeerStream
from .playbook_gate import PlaybookGate, playbook_limits
from .proxied import ProxiedExchange
from .proxy_client import WAYS, Ask, ask, read_socks5_reply
from .scripted_datagrams import Association, DatagramExchange, ScriptedDatagrams
from .scripted_peer import PlaybookError, ScriptedPeer
from .simulated_names import SimulatedNames
from .sizes import memory_ceiling
from .watched import FilterLike, ObjectHolder, Sightings, installation_of

__all__ = ["Playbook", "offer_of"]

RecordT = TypeVar("RecordT", bound=Record)

_SERVER = "10.9.9.9:8080"
_UDP_SERVER = "10.9.9.9:53"
_CLIENT = "10.1.1.1:0"


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
        names: What DNS knows: addresses by name (``{"www.example": ["192.0.2.7"]}``), and names by
            address for ``host_by_address``.
        limits: Limits to change, by name (``idle_timeout_s=5``).
        scanners: Whom content filters ask, by name; anything with ``scan`` will do.
        memory: A ceiling for what is allocated from here to the end (``"8 MiB"``).
        faults: What goes wrong; the default is nothing.
        seed: Decides everything that is left to chance.
    """

    def __init__(
        self,
        *filters: FilterLike,
        offer: TransferOffer | None = None,
        rule_settings: Mapping[str, object] | None = None,
        names: Mapping[str, Sequence[str]] | None = None,
        limits: Mapping[str, Any] | None = None,
        scanners: Mapping[str, Scanner] | None = None,
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
        self.names = SimulatedNames(names or {})
        #: Its ``asked`` counts what was asked of DNS.
        self._is_closed = False
        self._datagrams: dict[SocketAddress, ScriptedDatagrams] = {}
        self._gate = PlaybookGate(
            limits=playbook_limits(**(limits or {})),
            faults=faults,
            seed=seed,
            filter_errors=self.filter_errors,
            names=self.names,
            scanners=scanners,
        )
        self._gate.progress = self._progress
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

    # -- the world -----------------------------------------------------------------------------

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
        self.dial_as_server(source, at, exchange.server)
        return exchange

    # -- clients of a proxy --------------------------------------------------------------------

    def connect_by_proxy(
        self, host: str, port: int = 443, client: str = _CLIENT, *, by: str = "socks5"
    ) -> ProxiedExchange:
        """Let a client of a proxy listener ask for a host by name or address.

        Its ``answer`` is what the proxy said. Servers wait at every address that ``names`` has for
        the host; where a filter leads it elsewhere, ``server_at`` lets one wait there.

        Args:
            host: What it names.
            port: Which port there.
            client: Where it comes from; port 0 takes a new one each time.
            by: ``socks5``, ``socks4`` or ``http-connect``.

        Raises:
            ValueError: There is no such way of asking.
        """
        if by not in WAYS:
            raise ValueError(f"{by!r} is no way of asking; take one of {', '.join(WAYS)}")
        addresses = self.names.addresses_of(host) or [host]
        exchange = ProxiedExchange(self)
        for address in filter(_is_address, addresses):
            self.server_at(SocketAddress(address, port))

        async def talk(stream: PeerStream) -> None:
            exchange.take_answer(stream, await ask(stream, host, port, by))

        return self._visit_proxy(exchange, client, talk)

    def bind_by_proxy(self, peer: str = "10.9.9.9", client: str = _CLIENT) -> ProxiedExchange:
        """Let a client of a proxy ask for a bind (SOCKS), for one connection from ``peer``.

        ``answer`` and ``address`` are what the proxy said first. ``comes_from`` lets somebody
        connect there, who then is the exchange's ``server``.
        """
        exchange = ProxiedExchange(self)

        async def talk(stream: PeerStream) -> None:
            if exchange.take_bind(stream, await ask(stream, peer, 0, what=Ask.BIND)):
                exchange.take_answer(stream, await read_socks5_reply(stream))

        return self._visit_proxy(exchange, client, talk)

    def associate(self, client: str = "10.1.1.1:4000") -> Association:
        """Let a client of a proxy ask for an association: datagrams to whom it names.

        Raises:
            PlaybookError: The proxy refused.
        """
        __tracebackhide__ = True
        exchange = ProxiedExchange(self)
        address = SocketAddress.parse(client)

        async def talk(stream: PeerStream) -> None:
            answer = await ask(stream, "0.0.0.0", 0, what=Ask.UDP_ASSOCIATE)  # noqa: S104 - RFC 1928 section 7: not known yet
            if exchange.take_bind(stream, answer):
                exchange.take_answer(stream, answer)

        self._visit_proxy(exchange, str(address.with_port(0)), talk)
        if exchange.address is None or exchange.answer != "granted":
            raise PlaybookError(f"the proxy gave no association: {exchange.answer}")
        peer = self._gate.peers.bind_datagrams(address)
        made = self._datagrams[address] = Association(peer, self.settle, exchange)
        return made

    def server_at(self, address: SocketAddress | str) -> None:
        """Let a server wait at an address, for whatever connection leads there."""
        place = SocketAddress.parse(address) if isinstance(address, str) else address
        self._gate.listen(place, partial(self._on_accepted, place))

    def dial_as_server(
        self, source: SocketAddress, at: SocketAddress, server: ScriptedPeer
    ) -> None:
        """Connect to the gate from the server's side (exchanges only)."""
        self._dial(source, at, server, server.attach)

    def _visit_proxy(
        self,
        exchange: ProxiedExchange,
        client: str,
        talk: Callable[[PeerStream], Coroutine[Any, Any, None]],
    ) -> ProxiedExchange:
        at = self._gate.open_proxy()
        self.exchanges.append(exchange)

        def on_connected(sock: SimulatedSocket) -> None:
            stream = PeerStream(self.network, sock)
            exchange.waits_as_client(stream.local)
            self._gate.peers.spawn("client of a proxy", exchange.talk(talk(stream)))

        self._dial(SocketAddress.parse(client), at, exchange.client, on_connected)
        return exchange

    # -- datagrams -----------------------------------------------------------------------------

    def connect_udp(self, server: str = _UDP_SERVER, client: str = _CLIENT) -> DatagramExchange:
        """Make a UDP connection: a client of a published port, and the server behind it.

        Nothing is told to filters before the client ``sends`` its first datagram.

        Args:
            server: Where the server waits; a new one is published, with all filters.
            client: Where the client comes from; port 0 takes a new one each time.
        """
        place = SocketAddress.parse(server)
        at = self._gate.publish_datagrams(place)
        peer = self._gate.peers.bind_datagrams(SocketAddress.parse(client))
        scripted = ScriptedDatagrams("client", peer, self.settle, at)
        self._datagrams[peer.address] = scripted
        return DatagramExchange(self, scripted, self.datagram_server(place))

    def datagram_server(self, address: SocketAddress | str) -> ScriptedDatagrams:
        """Return the server for datagrams at an address; made when it is first asked for."""
        place = SocketAddress.parse(address) if isinstance(address, str) else address
        if place not in self._datagrams:
            peer = self._gate.peers.bind_datagrams(place)
            self._datagrams[place] = ScriptedDatagrams("server", peer, self.settle)
        return self._datagrams[place]

    # -- the world -----------------------------------------------------------------------------

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

    def _stop_and_check(self) -> None:
        __tracebackhide__ = True
        for exchange in self.exchanges:
            exchange.take_note()
        self._gate.stop()
        for exchange in self.exchanges:
            exchange.client.hang_up()
            exchange.server.hang_up()
        for scripted in self._datagrams.values():
            scripted.close()
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
            if exchange.waits_for(server):
                exchange.server.attach(sock)
                return
        self.network.reset(sock)  # its client has gone meanwhile
        sock.close()

    def _progress(self) -> int:
        """Return a number that grows with everything that happens to the test's own peers."""
        streams = sum(one.client.progress + one.server.progress for one in self.exchanges)
        return streams + sum(one.received_count for one in self._datagrams.values())

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


def _is_address(text: str) -> bool:
    with contextlib.suppress(ValueError):
        return bool(ipaddress.ip_address(text))
    return False


def _judges_objects(installation: Installation) -> bool:
    return isinstance(installation.filter_object, ContentFilter)
