"""A whole gate on virtual time for one playbook: the service, its network, and what is left.

``playbook`` drives it from plain test functions: each step runs the world until it is quiet. The
invariant: time moves only for what is under way, or because the test says so, and whatever the test
did, ``leftovers`` names everything that the gate or a filter did not give back.
"""

from __future__ import annotations

import asyncio
import ipaddress
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from typing_extensions import override

from sluicegate.address import SocketAddress
from sluicegate.audit import ConnectionRecord, DecisionRecord
from sluicegate.filterapi import Scanner
from sluicegate.gate.asked import AskedConnection
from sluicegate.gate.entry_dialogue import Authenticate
from sluicegate.gate.registry import Installed
from sluicegate.gate.service import FirewallService
from sluicegate.gate.settings import (
    EntrySettings,
    Installation,
    ListenerSettings,
    ServiceSettings,
)
from sluicegate.gate.udp_asked import AskedUdpConnection
from sluicegate.limits import Limits
from sluicegate.names.resolver_settings import ResolverSettings
from sluicegate.policy import Policy, PolicySnapshot, Publication
from sluicegate.policy.protocols import ProtocolPattern
from sluicegate.policy.rules import Rule, RuleAction, Targets
from sluicegate.port import PortEventLoop
from sluicegate.protocols.detect import EntryProtocol
from sluicegate.spool import SpoolStore

from .faults import FaultPlan
from .network import SimulatedSocket
from .peers import PeerListener, SimulatedPeers
from .recorder import MemoryRecorder
from .simulated_names import SimulatedNames
from .simulated_port import SimulatedBackend
from .virtual_pool import simulated_completion_port

__all__ = ["PlaybookGate", "playbook_limits"]

ResultT = TypeVar("ResultT")

_QUIET_S: Final = 0.06
"""Nothing happened for so long: longer than the gate itself ever waits to do more at once (it
gathers pieces to hash for some milliseconds), and far longer than anything takes here."""

_ROUNDS_MAX: Final = 100_000
"""Rounds of something happening, after which the exchange is taken for one that never rests."""

_ENTRY_HOST: Final = "10.0.0.1"
_PROXY: Final = SocketAddress(_ENTRY_HOST, 1080)
_NAMESERVER: Final = SocketAddress("192.0.2.53", 53)
_SPOKEN: Final = frozenset({EntryProtocol.SOCKS4, EntryProtocol.SOCKS5, EntryProtocol.HTTP_CONNECT})
_ANY_PROTOCOL: Final = tuple(map(ProtocolPattern, ("tcp", "udp", "bind")))
_ANYBODY: Final = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))


def playbook_limits(**changed: Any) -> Limits:
    """Return the product's limits with the memory of a test, and some of them changed."""
    of_a_test: dict[str, Any] = {
        "interactive_buffers_max": 32,
        "bulk_buffers_max": 8,
        "splice_pipes_max": 4,
        # How full this machine's disk is must not decide a test.
        "spool_free_bytes_min": 0,
        "spool_free_inodes_min": 0,
    }
    return Limits(**(of_a_test | changed))


class _WatchedService(FirewallService):
    """The service, which also keeps the exceptions that it makes records of."""

    errors: list[BaseException]

    @override
    def on_filter_error(
        self, installed: Installed, error: BaseException, *, is_refused: bool = False
    ) -> None:
        self.errors.append(error)
        super().on_filter_error(installed, error, is_refused=is_refused)

    @override
    def on_connection_filter_error(
        self, connection: AskedConnection | AskedUdpConnection, name: str, error: BaseException
    ) -> None:
        self.errors.append(error.__cause__ or error)
        super().on_connection_filter_error(connection, name, error)


class PlaybookGate:
    """One gate in one simulated world; ``close`` ends it."""

    def __init__(
        self,
        *,
        limits: Limits,
        faults: FaultPlan | None = None,
        seed: int = 0,
        filter_errors: list[BaseException],
        names: SimulatedNames | None = None,
        scanners: Mapping[str, Scanner] | None = None,
    ) -> None:
        faults = faults or FaultPlan()
        self.backend = SimulatedBackend(seed, faults, limits=limits)
        self.clock = self.backend.clock
        self.network = self.backend.network
        self.peers = SimulatedPeers(self.network)
        self.recorder = MemoryRecorder()
        self.errors: list[BaseException] = []
        #: Exceptions that belong to nobody: mistakes of the gate or of callbacks.
        self.progress: Callable[[], int] = lambda: 0
        #: What the playbook counts beside the port's own completions.
        self._quiet_s = _quiet_time_s(faults)
        self._folder = tempfile.TemporaryDirectory(prefix="sluicegate-playbook-")
        self._limits = limits
        self._scanners = dict(scanners or {})
        port = simulated_completion_port(self.backend, limits)
        port.on_error = self.errors.append
        self._loop = PortEventLoop(port)
        self.store = SpoolStore(port, Path(self._folder.name), limits)
        self.service = _WatchedService(
            port,
            limits=limits,
            recorder=self.recorder,
            clock=port.clock,
            spool=self.store,
            boot_mark="t",
            exchange=names,
        )
        self.service.errors = filter_errors
        self._installations: tuple[Installation, ...] = ()
        self._rule_settings: Mapping[str, Mapping[str, object]] = {}
        self._entries: dict[SocketAddress, SocketAddress] = {}
        #: By server: where the gate listens for it.
        self._datagram_entries: dict[SocketAddress, SocketAddress] = {}
        #: The same for datagrams.
        self._web_entries: dict[SocketAddress, SocketAddress] = {}
        #: The same for servers whose clients' requests are read one by one.
        self._has_proxy = False
        self._listeners: dict[SocketAddress, PeerListener] = {}

    # -- setting up ------------------------------------------------------------------------------

    def install(
        self, installations: Sequence[Installation], rule_settings: Mapping[str, object]
    ) -> None:
        """Install the filters; every server published later goes through all of them."""
        self._installations = tuple(installations)
        self._rule_settings = {one.name: rule_settings for one in installations}
        self.run(self.service.start(self._settings()))

    def publish(
        self, server: SocketAddress, on_accepted: Callable[[SimulatedSocket], None]
    ) -> SocketAddress:
        """Publish a server, once, and return where clients connect to reach it."""
        if server not in self._entries:
            self._entries[server] = SocketAddress(_ENTRY_HOST, 2000 + len(self._entries))
            self.run(self.service.apply(self._settings()))
        self.listen(server, on_accepted)
        return self._entries[server]

    def publish_datagrams(self, server: SocketAddress) -> SocketAddress:
        """Publish a server for datagrams, once, and return where clients send to reach it."""
        if server not in self._datagram_entries:
            entry = SocketAddress(_ENTRY_HOST, 3000 + len(self._datagram_entries))
            self._datagram_entries[server] = entry
            self.run(self.service.apply(self._settings()))
        return self._datagram_entries[server]

    def publish_web(self, server: SocketAddress) -> SocketAddress:
        """Publish a web server, once, and return where clients connect to reach it."""
        if server not in self._web_entries:
            self._web_entries[server] = SocketAddress(_ENTRY_HOST, 4000 + len(self._web_entries))
            self.run(self.service.apply(self._settings()))
        return self._web_entries[server]

    def open_proxy(self) -> SocketAddress:
        """Listen as a proxy that lets clients reach everything, and return where."""
        if not self._has_proxy:
            self._has_proxy = True
            self.run(self.service.apply(self._settings()))
        return _PROXY

    def listen(
        self, address: SocketAddress, on_accepted: Callable[[SimulatedSocket], None]
    ) -> None:
        """Wait, as a server or a client, for the gate to connect; once for each address."""
        if address not in self._listeners:
            listener = self._listeners[address] = self.peers.listen(address)
            listener.socket.on_change = lambda: self._accept(listener.socket, on_accepted)

    def _accept(
        self, listener: SimulatedSocket, on_accepted: Callable[[SimulatedSocket], None]
    ) -> None:
        while listener.is_readable:
            on_accepted(self.network.accept(listener))

    def _settings(self) -> ServiceSettings:
        names = tuple(one.name for one in self._installations)
        listeners: list[ListenerSettings] = []
        publications: list[Publication] = []
        for is_udp, entries in ((False, self._entries), (True, self._datagram_entries)):
            for server, at in entries.items():
                name = f"{'udp ' if is_udp else ''}{server}"
                listeners.append(ListenerSettings(name, at, is_udp=is_udp))
                publications.append(
                    Publication(name, name, server, _ANYBODY, names, self._rule_settings)
                )
        for server, at in self._web_entries.items():
            name = f"web {server}"
            listeners.append(ListenerSettings(name, at))
            web = Publication(
                name, name, server, _ANYBODY, names, self._rule_settings, is_http=True
            )
            publications.append(web)
        rules: tuple[Rule, ...] = ()
        if self._has_proxy:
            entry = EntrySettings(_SPOKEN, Authenticate.OFF)
            listeners.append(ListenerSettings("proxy", _PROXY, entry=entry))
            everywhere = Targets(is_everything=True, networks=_ANYBODY)
            rules = (
                Rule(
                    name="proxy",
                    action=RuleAction.ALLOW,
                    listeners=("proxy",),
                    clients=_ANYBODY,
                    to=everywhere,
                    protocols=_ANY_PROTOCOL,
                    filters=names,
                    settings=self._rule_settings,
                ),
            )
        return ServiceSettings(
            tuple(listeners),
            PolicySnapshot(Policy(tuple(publications), rules)),
            self._installations,
            self._limits,
            resolver=ResolverSettings((_NAMESERVER,), mix_case=False),
            own_addresses=(ipaddress.ip_address(_ENTRY_HOST),),
            scanners=self._scanners,
        )

    # -- running ---------------------------------------------------------------------------------

    def run(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        """Run a coroutine on the gate's loop."""
        return self._loop.run_until_complete(work)

    def settle(self) -> None:
        """Let everything happen that happens by itself.

        Raises:
            AssertionError: It goes on and on.
        """
        self.run(self._settle())

    def wait(self, seconds: float) -> None:
        """Let virtual time pass, and then everything happen."""
        self.run(asyncio.sleep(seconds))
        self.settle()

    async def _settle(self) -> None:
        for _ in range(_ROUNDS_MAX):
            before = self._activity()
            await asyncio.sleep(self._quiet_s)
            if self._activity() == before:
                return
        raise AssertionError("the exchange never comes to rest: something goes on without end")

    def _activity(self) -> tuple[int, int, int]:
        return self.backend.completed, len(self.recorder.records), self.progress()

    # -- ending ----------------------------------------------------------------------------------

    def stop(self) -> None:
        """Stop the service, as an operator does: connections that are there end refused."""
        self.run(self.service.stop())
        for listener in self._listeners.values():
            listener.close()
        self.settle()
        self.store.close()
        self.settle()

    def close(self) -> None:
        """Give everything back, also in the middle of something."""
        loop = self._loop
        try:
            for task in asyncio.all_tasks(loop):
                task.cancel()
            self.peers.stop()
            if not loop.is_closed():
                self.run(asyncio.sleep(0))
                self.run(loop.shutdown_asyncgens())
        finally:
            loop.close()
            self._folder.cleanup()

    def leftovers(self) -> list[str]:
        """Return what the stopped gate and its filters did not give back."""
        left = [f"nobody's error: {type(one).__name__}: {one}" for one in self.errors]
        blockage = self.service.blockage
        if (blockage.pinned_small, blockage.pinned_bulk, blockage.private_bytes) != (0, 0, 0):
            left.append("blocked sends are still on the account")
        leased = sum(1 for slot in self.backend.pool.slots if slot.leases)
        if leased:
            left.append(f"{leased} shared buffers are leased: a lease was not left")
        if self.backend.pool.replaced:
            left.append(
                "a slice of a shared buffer was kept beyond its time: copy what you keep "
                "with bytes(window)"
            )
        if self.network.open_sockets:
            left.append(f"{len(self.network.open_sockets)} sockets are open")
        held = self.store.statistics()
        if held.bodies or held.bytes_held or held.files_open:
            left.append(f"the spool holds {held.bodies} objects, {held.bytes_held} bytes")
        return left + self._wrong_records()

    def _wrong_records(self) -> list[str]:
        ended = Counter(record.connection for record in self.recorder.of(ConnectionRecord))
        allowed = {
            record.connection
            for record in self.recorder.of(DecisionRecord)
            if record.verdict == "allowed"
        }
        wrong = [f"{one} has {count} records" for one, count in ended.items() if count > 1]
        return wrong + [f"{one} has no record" for one in sorted(allowed - set(ended))]


def _quiet_time_s(faults: FaultPlan) -> float:
    """Return after how long without an event nothing is under way any more."""
    longest = faults.latency_s[1]
    if faults.delay:
        longest = max(longest, faults.delay_s[1])
    if faults.late_result:
        longest += faults.late_s[1]
    return max(_QUIET_S, 2 * longest)
