"""Checks of datagrams: what a driver's tray promises, and sockets of a port above it.

Each function takes a factory of drivers or of ports and raises ``NonConforming`` with the broken
sentence. The invariant: both ends belong to the driver on trial, and nothing here depends on order
between two sockets, which datagrams do not have.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any, Final

from sluicegate.address import SocketAddress
from sluicegate.buffer import Buffer, Window
from sluicegate.errors import OperationPending
from sluicegate.limits import DATAGRAMS_PER_BATCH_MAX, Limits
from sluicegate.port.backend import MORE, RawSocket
from sluicegate.port.tray import HEADROOM, DatagramOutlet, DatagramTarget

from .bench import BackendBench, BackendFactory, Recorder, demand, pattern
from .port_bench import PortBench, PortFactory

__all__ = ["DATAGRAM_CHECKS", "DATAGRAM_SOCKET_CHECKS"]

_HOSTS: Final = ("127.0.0.1", "::1")


class _DatagramLog(Recorder):
    """Takes what waits in a socket whenever it is told, and tells of sends that failed."""

    def __init__(self, bench: BackendBench, sock: RawSocket, *, count_max: int = 64) -> None:
        super().__init__()
        self.taken: list[tuple[bytes, SocketAddress, int]] = []
        #: Data as far as a slot holds it, sender, whole length.
        self.errors: list[int] = []
        self.failed: list[int] = []
        self.batches: list[int] = []
        self.then = self._take
        self.forward: Callable[[int, int], None] | None = None
        #: Told offset and length of each instead of copying it.
        self._bench = bench
        self._sock = sock
        self._count_max = count_max
        bench.backend.await_datagrams(self.operation, sock)

    def on_send_failed(self, error: int) -> None:
        """Note what could not leave."""
        self.failed.append(error)

    def stop(self) -> None:
        """End the watching."""
        self._bench.backend.cancel(self.operation)
        self._bench.finish(self, "a cancelled watch for datagrams ends")

    def _take(self, _result: int, _flags: int) -> None:
        tray = self._bench.backend.tray
        count = tray.receive(self._sock, self._count_max)
        if count < 0:
            self.errors.append(-count)
            return
        self.batches.append(count)
        for index, (name_size, _, _, length) in enumerate(tray.heads[:count], tray.first):
            start = tray.start_of(index)
            if self.forward is not None:
                self.forward(start, length)
            data = bytes(tray.view[start : start + min(length, tray.bytes_max)])
            self.taken.append((data, tray.address_of(index, name_size), length))


def _bound(bench: BackendBench, host: str = "127.0.0.1") -> tuple[RawSocket, SocketAddress]:
    address = SocketAddress(host, 0)
    sock = bench.keep(bench.backend.create_datagram_socket(address.family))
    sock.bind(address.to_kernel())
    return sock, SocketAddress.from_kernel(sock.getsockname())


def check_datagrams_arrive_whole_with_their_sender(make_backend: BackendFactory) -> None:
    """A datagram arrives as it was sent, also an empty one, with the address of its sender."""
    for host in _HOSTS:
        _arrive_whole(make_backend, host)


def _arrive_whole(make_backend: BackendFactory, host: str) -> None:
    with BackendBench(make_backend) as bench:
        one, one_at = _bound(bench, host)
        two, two_at = _bound(bench, host)
        sent = [b"first", b"", pattern(1200), b"x"]
        log = _DatagramLog(bench, two)
        for data in sent:
            one.sendto(data, 0, two_at.to_kernel())
        bench.until(lambda: len(log.taken) == len(sent), "datagrams arrive")
        demand([data for data, _, _ in log.taken] == sent, "whole, and in order on one path")
        demand({str(who) for _, who, _ in log.taken} == {str(one_at)}, "the sender's address")
        log.stop()


def check_datagrams_beyond_a_batch_arrive(make_backend: BackendFactory) -> None:
    """Who takes fewer than there are is told again; a batch is bounded."""
    with BackendBench(make_backend) as bench:
        one, _ = _bound(bench)
        two, two_at = _bound(bench)
        total = DATAGRAMS_PER_BATCH_MAX * 2 + 5
        for number in range(total):
            one.sendto(number.to_bytes(2, "big"), 0, two_at.to_kernel())
        log = _DatagramLog(bench, two, count_max=7)
        bench.until(lambda: len(log.taken) == total, "all are told of in the end")
        demand(max(log.batches) <= 7, "no more than was asked for")
        numbers = [int.from_bytes(data, "big") for data, _, _ in log.taken]
        demand(numbers == list(range(total)), "none is lost, told twice or overtaken")
        log.stop()


def check_a_datagram_that_does_not_fit_is_known(make_backend: BackendFactory) -> None:
    """The length of one that is too large is the whole length, so that nobody takes it for whole.

    The one behind it is not harmed.
    """
    with BackendBench(make_backend, Limits(udp_datagram_bytes_max=512)) as bench:
        one, _ = _bound(bench)
        two, two_at = _bound(bench)
        log = _DatagramLog(bench, two)
        for size in (513, 512, 4000, 3):
            one.sendto(pattern(size), 0, two_at.to_kernel())
        bench.until(lambda: len(log.taken) == 4, "datagrams arrive")
        demand([length for _, _, length in log.taken] == [513, 512, 4000, 3], "whole lengths")
        demand(log.taken[1][0] == pattern(512), "one that just fits is whole")
        log.stop()


def check_icmp_answers_are_told(make_backend: BackendFactory) -> None:
    """A connected socket is told ECONNREFUSED by its receive, and goes on."""
    with BackendBench(make_backend) as bench:
        gone, gone_at = _bound(bench)
        gone.close()
        sock = bench.keep(bench.backend.create_datagram_socket(socket.AF_INET))
        sock.connect(gone_at.to_kernel())
        log = _DatagramLog(bench, sock)
        sock.send(b"anybody")
        bench.until(lambda: log.errors, "the refusal is told")
        demand(log.errors == [errno.ECONNREFUSED], "ECONNREFUSED, once")
        here = bench.keep(bench.backend.create_datagram_socket(socket.AF_INET))
        here.bind(gone_at.to_kernel())
        here.sendto(b"now", 0, sock.getsockname())
        bench.until(lambda: log.taken, "the socket goes on after a refusal")
        demand(log.taken[0][0] == b"now", "with what its peer sends")
        log.stop()


def check_a_connected_socket_hears_its_peer_alone(make_backend: BackendFactory) -> None:
    """A datagram of anybody else does not arrive."""
    with BackendBench(make_backend) as bench:
        peer, peer_at = _bound(bench)
        stranger, _ = _bound(bench)
        sock = bench.keep(bench.backend.create_datagram_socket(socket.AF_INET))
        sock.connect(peer_at.to_kernel())
        log = _DatagramLog(bench, sock)
        stranger.sendto(b"forged", 0, sock.getsockname())
        peer.sendto(b"genuine", 0, sock.getsockname())
        bench.until(lambda: log.taken, "the peer's datagram arrives")
        bench.settle()
        demand([data for data, _, _ in log.taken] == [b"genuine"], "and nobody else's")
        log.stop()


def check_receive_one(make_backend: BackendFactory) -> None:
    """One datagram of a connected socket, without its name: the rest waits."""
    with BackendBench(make_backend, Limits(udp_datagram_bytes_max=512)) as bench:
        peer, peer_at = _bound(bench)
        sock = bench.keep(bench.backend.create_datagram_socket(socket.AF_INET))
        sock.connect(peer_at.to_kernel())
        lengths: list[int] = []
        tray = bench.backend.tray

        def take(_result: int, flags: int) -> None:
            if flags & MORE and (length := tray.receive_one(sock)) >= 0:
                lengths.append(length)

        ready = Recorder()
        ready.then = take
        bench.backend.await_datagrams(ready.operation, sock)
        demand(tray.receive_one(sock) == -errno.EAGAIN, "nothing waits at first")
        for size in (5, 600, 0):
            peer.sendto(pattern(size), 0, sock.getsockname())
        bench.until(lambda: len(lengths) == 3, "one after the other")
        demand(lengths == [5, 600, 0], "their whole lengths")
        bench.backend.cancel(ready.operation)
        bench.finish(ready)


def check_what_is_passed_on_leaves(make_backend: BackendFactory) -> None:
    """Datagrams leave out of the tray, whole or in part or with a header in front, in order."""
    for host in _HOSTS:
        _leave_in_order(make_backend, host)


def _leave_in_order(make_backend: BackendFactory, host: str) -> None:
    with BackendBench(make_backend) as bench:
        source, _ = _bound(bench, host)
        relay, relay_at = _bound(bench, host)
        target, target_at = _bound(bench, host)
        tray = bench.backend.tray
        incoming, arrived = _DatagramLog(bench, relay), _DatagramLog(bench, target)
        outlet, to = DatagramOutlet(relay), DatagramTarget(incoming, target_at)

        def forward(start: int, length: int) -> None:
            if length == 4:  # strip a header
                tray.pass_on(outlet, start + 2, length - 2, to)
            else:  # add one
                tray.memory[start - 3 : start] = b"hd:"
                tray.pass_on(outlet, start - 3, length + 3, to)

        incoming.forward = forward
        sent = [b"--ab", b"longer", b"--cd", pattern(1000)]
        for data in sent:
            source.sendto(data, 0, relay_at.to_kernel())
        bench.until(lambda: len(arrived.taken) == 4, "what is passed on arrives")
        demand(
            [data for data, _, _ in arrived.taken]
            == [b"ab", b"hd:longer", b"cd", b"hd:" + pattern(1000)],
            "as it was passed on",
        )
        demand(not tray.outlets, "and nothing of it waits")
        demand(not incoming.failed, "nobody is told of a failure that was none")
        incoming.stop()
        arrived.stop()


def check_runs_leave_as_single_datagrams(make_backend: BackendFactory) -> None:
    """However a driver sends runs of equal datagrams, each arrives as it was, to its own target."""
    with BackendBench(make_backend, Limits(udp_datagram_bytes_max=9000)) as bench:
        relay, _ = _bound(bench)
        one, one_at = _bound(bench)
        two, two_at = _bound(bench)
        tray = bench.backend.tray
        logs = _DatagramLog(bench, one), _DatagramLog(bench, two)
        outlet = DatagramOutlet(relay)
        to_one, to_two = DatagramTarget(logs[0], one_at), DatagramTarget(logs[0], two_at)
        sizes = [700, 700, 700, 20, 700, 700, 0, 0, 5, 6, 6, 8000, 8000, 8000, 8000, 8000, 8000]
        sizes += [8000, 8000, 8000, 1, 1, 1]
        sent: tuple[list[bytes], list[bytes]] = ([], [])
        for number, size in enumerate(sizes):
            data = pattern(size, number)
            is_for_two = number in {4, 13, 21}
            start = tray.start_of(number)
            tray.memory[start : start + size] = data
            tray.pass_on(outlet, start, size, to_two if is_for_two else to_one)
            sent[is_for_two].append(data)
        for log, wanted in zip(logs, sent, strict=True):
            bench.until(lambda log=log, wanted=wanted: len(log.taken) == len(wanted), "all arrive")  # type: ignore[misc]  # mypy cannot infer lambdas with defaults
            demand([data for data, _, _ in log.taken] == wanted, "as they were, in order")
            log.stop()
        demand(not logs[0].failed, "none is refused")


def check_what_cannot_leave_is_told(make_backend: BackendFactory) -> None:
    """A datagram that the kernel refuses is told to its owner; the ones behind it leave."""
    limits = Limits(udp_datagram_bytes_max=65535)
    with BackendBench(make_backend, limits) as bench:
        relay, _ = _bound(bench)
        target, target_at = _bound(bench)
        tray = bench.backend.tray
        refused, arrived = _DatagramLog(bench, relay), _DatagramLog(bench, target)
        outlet, to = DatagramOutlet(relay), DatagramTarget(refused, target_at)
        tray.memory[HEADROOM : HEADROOM + 2] = b"ok"
        # Larger than any datagram over IPv4: EMSGSIZE.
        tray.pass_on(outlet, HEADROOM, 65520, to)
        tray.pass_on(outlet, HEADROOM, 2, to)
        bench.until(lambda: arrived.taken, "the one behind it leaves")
        demand(refused.failed == [errno.EMSGSIZE], "the owner is told the errno, once")
        demand(arrived.taken[0][0] == b"ok", "whole")
        refused.stop()
        arrived.stop()


DATAGRAM_CHECKS: Final[tuple[Callable[[BackendFactory], None], ...]] = (
    check_datagrams_arrive_whole_with_their_sender,
    check_datagrams_beyond_a_batch_arrive,
    check_a_datagram_that_does_not_fit_is_known,
    check_icmp_answers_are_told,
    check_a_connected_socket_hears_its_peer_alone,
    check_receive_one,
    check_what_is_passed_on_leaves,
    check_runs_leave_as_single_datagrams,
    check_what_cannot_leave_is_told,
)


# -- sockets of a port -----------------------------------------------------------------------------


class _SocketLog:
    """Writes down completions with their addresses."""

    def __init__(self) -> None:
        self.results: list[tuple[int, bytes, SocketAddress | None, Any]] = []

    def complete_socket_io(
        self,
        success: bool,
        error: int,
        buffer: Window,
        user_data: Any,
        address: SocketAddress | None,
    ) -> None:
        """Take the result of one receive or send."""
        demand(success == (error == 0), "success and error agree")
        self.results.append((error, bytes(buffer), address, user_data))


def check_socket_tells_the_sender(make_port: PortFactory) -> None:
    """One start, one datagram, with its sender; nothing completes inside the call."""
    with PortBench(make_port) as bench:
        one = bench.port.bind_datagrams(SocketAddress("127.0.0.1", 0))
        two = bench.port.bind_datagrams(SocketAddress("127.0.0.1", 0))
        log, sent = _SocketLog(), _SocketLog()
        two.start_receive(None, log, "mine")
        one.start_send_to(b"hello", two.local_address(), sent)
        one.start_send_to(b"again", two.local_address())
        demand(not log.results and not sent.results, "nothing completes inside the call")
        bench.until(lambda: log.results and sent.results, "both complete")
        demand(log.results == [(0, b"hello", one.local_address(), "mine")], "one datagram")
        demand(sent.results == [(0, b"hello", two.local_address(), None)], "the send is told")
        two.start_receive(Buffer(64), log)
        bench.until(lambda: len(log.results) == 2, "the next start gets the next datagram")
        demand(log.results[1][1] == b"again", "in order")
        one.close()
        two.close()
        bench.settle()


def check_socket_refuses_a_second_receive(make_port: PortFactory) -> None:
    """One receive at a time; a close completes it with ECANCELED."""
    with PortBench(make_port) as bench:
        sock = bench.port.bind_datagrams(SocketAddress("127.0.0.1", 0))
        log = _SocketLog()
        sock.start_receive(None, log)
        try:
            sock.start_receive(None, log)
        except OperationPending:
            pass
        else:
            demand(condition=False, sentence="a second receive raises OperationPending")
        sock.close()
        bench.until(lambda: log.results, "a close completes the receive")
        demand(log.results[0][0] == errno.ECANCELED, "with ECANCELED")


def check_socket_drops_what_does_not_fit(make_port: PortFactory) -> None:
    """A datagram larger than the buffer, or than the limit, is dropped and counted, never cut."""
    with PortBench(make_port, Limits(udp_datagram_bytes_max=1000)) as bench:
        one = bench.port.bind_datagrams(SocketAddress("127.0.0.1", 0))
        two = bench.port.connect_datagrams(one.local_address())
        log = _SocketLog()
        one.start_receive(Buffer(10), log)
        for data in (pattern(11), pattern(2000), b"fits"):
            two.start_send_to(data)
        bench.until(lambda: log.results, "the one that fits arrives")
        demand(log.results[0][1] == b"fits", "and is the first that is told")
        demand(one.oversized == 2, "the others are counted")
        one.close()
        two.close()
        bench.settle()


def check_socket_tells_icmp_answers(make_port: PortFactory) -> None:
    """ECONNREFUSED is the result of the receive in flight."""
    with PortBench(make_port) as bench:
        gone = bench.port.bind_datagrams(SocketAddress("127.0.0.1", 0))
        address = gone.local_address()
        gone.close()
        sock = bench.port.connect_datagrams(address)
        log = _SocketLog()
        sock.start_receive(None, log)
        sock.start_send_to(b"anybody")
        bench.until(lambda: log.results, "the refusal is told")
        demand(log.results[0][0] == errno.ECONNREFUSED, "as ECONNREFUSED")
        sock.close()
        bench.settle()


DATAGRAM_SOCKET_CHECKS: Final[tuple[Callable[[PortFactory], None], ...]] = (
    check_socket_tells_the_sender,
    check_socket_refuses_a_second_receive,
    check_socket_drops_what_does_not_fit,
    check_socket_tells_icmp_answers,
)
