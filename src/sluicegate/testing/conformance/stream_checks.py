"""Checks of what a driver promises for TCP: accept, connect, receive, send, splice.

Each function takes a factory of drivers and raises ``NonConforming`` with the broken sentence. The
invariant: both ends of every connection belong to the driver on trial, so a simulated one can be
checked like a real one.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Final

from sluicegate.address import SocketAddress
from sluicegate.limits import Limits
from sluicegate.port.backend import (
    BUFFER,
    MORE,
    POLL_IN,
    POLL_OUT,
    SLOT_SHIFT,
    Pipe,
    RawSocket,
    Source,
)
from sluicegate.port.pool import BULK_SLOT_SIZE, SMALL_SLOT_SIZE, Slot

from .bench import BackendBench, BackendFactory, Receiver, Recorder, demand, pattern

__all__ = ["STREAM_CHECKS"]

_LARGE: Final = 3_000_000
"""More than a kernel holds for one connection without a reader."""


# -- connections -----------------------------------------------------------------------------------


def check_connect_and_names(make_backend: BackendFactory) -> None:
    """Both ends of a connection know each other's names, over IPv4 and IPv6."""
    for host in ("127.0.0.1", "::1"):
        with BackendBench(make_backend) as bench:
            client, server = bench.pair(host)
            demand(client.getpeername()[:2] == server.getsockname()[:2], "the server's name")
            demand(client.getsockname()[:2] == server.getpeername()[:2], "the client's name")
            bench.send(client, b"there")
            receiver = bench.receiver(server)
            bench.until_data(receiver, b"there", "bytes arrive")


def check_connect_refused(make_backend: BackendFactory) -> None:
    """A connect to a closed port ends with ECONNREFUSED, told by its completion."""
    with BackendBench(make_backend) as bench:
        listener, address = bench.listen()
        listener.close()
        _, connected = bench.connect(address)
        demand(not connected.results, "a refused connect does not complete in the call")
        demand(bench.finish(connected) == -errno.ECONNREFUSED, "a refusal is ECONNREFUSED")


def check_connect_from_a_source(make_backend: BackendFactory) -> None:
    """The server sees the address that was bound, with a port; one that is not ours is refused."""
    with BackendBench(make_backend) as bench:
        listener, address = bench.listen()
        accepted, connected = Recorder(), Recorder()
        bench.backend.accept(accepted.operation, listener)
        client = bench.socket()
        bench.backend.bind_source(client, Source(SocketAddress("127.0.0.7", 0)))
        bench.backend.connect(connected.operation, client, address)
        bench.until(lambda: connected.results and accepted.results, "a connect is accepted")
        server = bench.keep(bench.backend.adopt(accepted.results[0][0], socket.AF_INET))
        host, port = server.getpeername()[:2]
        demand(host == "127.0.0.7" and port != 0, "the server sees the source, and a port")
        demand(client.getsockname()[:2] == (host, port), "both ends name the source alike")
        try:
            bench.backend.bind_source(bench.socket(), Source(SocketAddress("192.0.2.77", 0)))
        except OSError as error:
            demand(error.errno == errno.EADDRNOTAVAIL, "an address not ours is EADDRNOTAVAIL")
        else:
            demand(False, "an address that the machine does not have is refused")
        bench.backend.cancel(accepted.operation)
        bench.settle()


def check_accept_many(make_backend: BackendFactory) -> None:
    """One accept takes every connection until it is cancelled; later ones wait, unlost."""
    with BackendBench(make_backend) as bench:
        listener, address = bench.listen()
        accepted = Recorder()
        bench.backend.accept(accepted.operation, listener)
        clients = [bench.connect(address)[0] for _ in range(20)]
        bench.until(lambda: len(accepted.results) == 20, "all are accepted")
        demand(all(flags & MORE for _, flags in accepted.results), "accept goes on")
        bench.backend.cancel(accepted.operation)
        demand(bench.finish(accepted) == -errno.ECANCELED, "a cancelled accept is ECANCELED")
        clients.append(bench.connect(address)[0])
        bench.settle()
        demand(accepted.final_count == 1, "nothing is accepted after the end")
        bench.backend.accept(accepted.operation, listener)
        bench.until(lambda: len(accepted.results) == 22, "who waited is accepted later")
        bench.backend.cancel(accepted.operation)
        bench.until(lambda: accepted.final_count == 2, "a cancelled accept ends")
        servers = [
            bench.keep(bench.backend.adopt(descriptor, socket.AF_INET))
            for descriptor, _ in accepted.results
            if descriptor >= 0
        ]
        demand(
            {server.getpeername() for server in servers}
            == {client.getsockname() for client in clients},
            "each client is accepted once",
        )


def check_abort_resets(make_backend: BackendFactory) -> None:
    """The peer of an aborted connection gets what was sent before, or ECONNRESET; no clean end."""
    with BackendBench(make_backend) as bench:
        client, server = bench.pair()
        receiver = bench.receiver(server)
        bench.send(client, b"last words")
        bench.until_data(receiver, b"last words", "bytes arrive before a reset")
        bench.backend.abort(client)
        bench.finish(receiver, "a reset ends a receive")
        demand(receiver.error == errno.ECONNRESET, "a reset is ECONNRESET")
        demand(not receiver.ends, "a reset is no end of stream")


# -- receiving -------------------------------------------------------------------------------------


def check_receive_in_order(make_backend: BackendFactory) -> None:
    """A stream arrives whole and in order over many shared slots."""
    for is_bulk in (False, True):
        _check_receive_in_order(make_backend, is_bulk=is_bulk)


def _check_receive_in_order(make_backend: BackendFactory, *, is_bulk: bool) -> None:
    with BackendBench(make_backend) as bench:
        client, server = bench.pair()
        data = pattern(700_000)
        receiver = bench.receiver(server, is_bulk=is_bulk)
        sent = bench.start_send(client, data)
        bench.until_data(receiver, data, "all bytes arrive")
        demand(receiver.data == data, "the bytes arrive in their order, once")
        demand(bench.finish(sent) == len(data), "a send tells its whole length")


def check_slots_have_their_size(make_backend: BackendFactory) -> None:
    """``receive`` uses small slots, ``receive_bulk`` one large slot and ends."""
    with BackendBench(make_backend) as bench:
        client, server = bench.pair()
        bench.start_send(client, pattern(_LARGE))
        recorder = Recorder()
        bench.backend.receive_bulk(recorder.operation, server)
        result = bench.finish(recorder)
        demand(0 < result <= BULK_SLOT_SIZE, "a bulk receive fills one large slot at most")
        demand(recorder.results[0][1] & (BUFFER | MORE) == BUFFER, "a bulk receive ends")
        slot = bench.backend.pool.slots[recorder.results[0][1] >> SLOT_SHIFT]
        demand(slot.is_bulk and slot.allocated == BULK_SLOT_SIZE, "it names a large slot")
        bench.backend.pool.recycle(slot)
        receiver = bench.receiver(server)
        bench.until(lambda: receiver.count, "bytes arrive")
        demand(receiver.results[0][0] <= SMALL_SLOT_SIZE, "a receive fills one small slot")
        slot = bench.backend.pool.slots[receiver.results[0][1] >> SLOT_SHIFT]
        demand(not slot.is_bulk, "a receive names a small slot")


def check_end_of_stream_once(make_backend: BackendFactory) -> None:
    """The end of a stream is the result 0, once, behind all bytes; the other way stays open."""
    for is_bulk in (False, True):
        _check_end_of_stream_once(make_backend, is_bulk=is_bulk)


def _check_end_of_stream_once(make_backend: BackendFactory, *, is_bulk: bool) -> None:
    with BackendBench(make_backend) as bench:
        client, server = bench.pair()
        receiver = bench.receiver(server, is_bulk=is_bulk)
        data = pattern(50_000)
        bench.send(client, data)
        client.shutdown(socket.SHUT_WR)
        bench.until(lambda: receiver.ends, "the end of the stream is told")
        bench.settle()
        demand(receiver.data == data, "the end comes behind all bytes")
        demand(receiver.ends == 1, "the end comes once")
        demand(not receiver.operation.in_flight, "the end of the stream ends the operation")
        back = bench.receiver(client)
        bench.send(server, b"still open")
        bench.until_data(back, b"still open", "half closed is half open")


def check_receive_into(make_backend: BackendFactory) -> None:
    """A receive into the caller's buffer fills its range, once; 0 at the end."""
    with BackendBench(make_backend) as bench:
        client, server = bench.pair()
        bench.send(client, pattern(300))
        buffer = bench.buffer(400)
        received = b""
        while len(received) < 300:
            recorder = Recorder()
            bench.backend.receive_into(recorder.operation, server, buffer, 50, 100)
            count = bench.finish(recorder)
            demand(0 < count <= 100, f"a receive of at most 100 bytes has the result {count}")
            received += bytes(buffer.view[50 : 50 + count])
        demand(received == pattern(300), "the bytes arrive in their order")
        demand(bytes(buffer.view[:50]) == bytes(50), "no byte before the range")
        demand(bytes(buffer.view[150:]) == bytes(250), "no byte behind the range")
        recorder = Recorder()
        bench.backend.receive_into(recorder.operation, server, buffer, 0, 100)
        bench.settle()
        client.shutdown(socket.SHUT_WR)
        demand(bench.finish(recorder) == 0, "the end of the stream is 0")


def check_cancelled_receive_loses_nothing(make_backend: BackendFactory) -> None:
    """Receives that are cancelled while data comes lose no byte and repeat none."""
    with BackendBench(make_backend) as bench:
        client, server = bench.pair()
        data = pattern(600_000)
        receiver = Receiver(bench, server)
        sent = bench.start_send(client, data)
        rounds = 0
        while receiver.count < len(data):
            rounds += 1
            demand(rounds < 20_000, "a cancelled and restarted receive goes on")
            receiver.results.clear()
            receiver.starts = 0
            receiver.start()
            bench.backend.turn(0.001)
            receiver.stop()
            bench.until(lambda: not receiver.operation.in_flight, "a cancelled receive ends")
            demand(receiver.final_count == receiver.starts, "a cancelled receive ends once")
        demand(receiver.data == data, "no byte is lost or repeated")
        bench.finish(sent)


# -- slots -----------------------------------------------------------------------------------------


def check_starved_receivers_go_on(make_backend: BackendFactory) -> None:
    """With all slots held, receivers wait unnoticed; when slots come back, all go on."""
    for is_bulk in (False, True):
        _check_starved_receivers_go_on(make_backend, is_bulk=is_bulk)


def _check_starved_receivers_go_on(make_backend: BackendFactory, *, is_bulk: bool) -> None:
    limits = Limits(interactive_buffers_max=2, bulk_buffers_max=1, splice_pipes_max=1)
    with BackendBench(make_backend, limits) as bench:
        hog_client, hog_server = bench.pair()
        hog = Receiver(bench, hog_server, is_bulk=is_bulk)
        hog.holds = True
        hog.start()
        pairs = [bench.pair() for _ in range(5)]
        receivers = [bench.receiver(server, is_bulk=is_bulk) for _, server in pairs]
        bench.settle()
        slots = 1 if is_bulk else 2
        while len(hog.held) < slots:
            expected = len(hog.results) + 1
            bench.send(hog_client, b"hold this")
            bench.until_completions(hog, expected, "the hog gets a slot")
        for index, (client, _) in enumerate(pairs):
            bench.send(client, pattern(100, index))
        bench.settle()
        demand(bench.backend.starved > 0, "starvation is counted")
        demand(not any(r.count for r in receivers), "no data without a slot")
        demand(not any(r.results for r in receivers), "a starved receiver notices nothing")
        hog.let_go()
        bench.until(lambda: all(r.count == 100 for r in receivers), "all go on")
        for index, receiver in enumerate(receivers):
            demand(receiver.data == pattern(100, index), "each gets its own bytes")


def check_a_live_client_among_stalled_ones(make_backend: BackendFactory) -> None:
    """More stalled clients than slots: one that is read from stays live."""
    limits = Limits(interactive_buffers_max=4, bulk_buffers_max=1, splice_pipes_max=1)
    with BackendBench(make_backend, limits) as bench:
        pairs = [bench.pair() for _ in range(8)]
        stalled = [Receiver(bench, server) for _, server in pairs[1:]]
        for receiver in stalled:
            receiver.holds = True
            receiver.start()
        live_client, live_server = pairs[0]
        live = bench.receiver(live_server)
        for client, _ in pairs[1:]:
            bench.send(client, b"never taken")
        bench.settle()
        bench.start_send(live_client, pattern(20_000))
        for _ in range(40):
            bench.settle()
            if live.count >= 20_000:
                break
            # What the pool's owner does with a slot that is held too long: take its bytes away.
            holder = next((r for r in stalled if r.held), None)
            if holder is not None:
                slot = holder.held.pop(0)
                slot.pool.recycle(slot)
        bench.until(lambda: live.count == 20_000, "a live client is not starved for ever")
        demand(live.data == pattern(20_000), "its bytes are its own")


def check_cancel_while_starved(make_backend: BackendFactory) -> None:
    """A receiver that waits for a slot can be cancelled; its bytes stay for the next."""
    limits = Limits(interactive_buffers_max=1, bulk_buffers_max=1, splice_pipes_max=1)
    with BackendBench(make_backend, limits) as bench:
        hog_client, hog_server = bench.pair()
        hog = Receiver(bench, hog_server)
        hog.holds = True
        hog.start()
        bench.send(hog_client, b"x")
        bench.until(lambda: hog.held, "the hog has the only slot")
        client, server = bench.pair()
        starved = bench.receiver(server)
        bench.send(client, b"waiting")
        bench.settle()
        starved.stop()
        demand(bench.finish(starved) == -errno.ECANCELED, "a starved receive can be cancelled")
        demand(starved.final_count == 1, "it ends once")
        hog.let_go()
        starved.start()
        bench.until_data(starved, b"waiting", "its bytes wait for the next receive")


def check_kept_slice_keeps_its_bytes(make_backend: BackendFactory) -> None:
    """A slice kept beyond its lease never shows another client's bytes; the slot is replaced."""
    limits = Limits(interactive_buffers_max=1, bulk_buffers_max=1, splice_pipes_max=1)
    with BackendBench(make_backend, limits) as bench:
        secret_client, secret_server = bench.pair()
        kept: list[memoryview] = []
        named: list[Slot] = []
        bench.backend.pool.on_kept = named.append
        recorder = Recorder()

        def keep(result: int, flags: int) -> None:
            if result <= 0:
                return
            slot = bench.backend.pool.slots[flags >> SLOT_SHIFT]
            slot.used = result
            lease = slot.window().lease()
            kept.append(lease.__enter__()[:])
            lease.__exit__(None, None, None)

        recorder.then = keep
        bench.backend.receive(recorder.operation, secret_server)
        bench.send(secret_client, b"first client")
        bench.until(lambda: kept, "the first client's bytes arrive")
        bench.backend.cancel(recorder.operation)
        bench.finish(recorder)
        client, server = bench.pair()
        receiver = bench.receiver(server)
        bench.send(client, b"another one!")
        bench.until_data(receiver, b"another one!", "the slot serves another client")
        demand(bytes(kept[0]) == b"first client", "a kept slice keeps its bytes")
        demand(bench.backend.pool.replaced == 1, "the replacement is counted")
        demand(len(named) == 1, "who kept it is named")


# -- sending ---------------------------------------------------------------------------------------


def check_send_completes_when_all_is_taken(make_backend: BackendFactory) -> None:
    """A send completes when the kernel took its last byte, and not before."""
    with BackendBench(make_backend) as bench:
        client, server = bench.pair()
        data = pattern(8_000_000)
        sent = bench.start_send(client, data)
        bench.settle()
        demand(not sent.results, "a send without a reader does not complete")
        receiver = bench.receiver(server, is_bulk=True)
        demand(bench.finish(sent) == len(data), "a send tells its whole length")
        bench.until_data(receiver, data, "all bytes arrive")
        demand(receiver.data == data, "in their order")


def check_order_of_sends(make_backend: BackendFactory) -> None:
    """Sends arrive in the order of their calls, immediate ones among them."""
    with BackendBench(make_backend) as bench:
        client, server = bench.pair()
        receiver = bench.receiver(server)
        expected = b""
        for index in range(50):
            part = pattern(index * 37 + 1, index)
            expected += part
            bench.send(client, part)
        bench.until_data(receiver, expected, "all sends arrive")
        demand(receiver.data == expected, "sends arrive in the order of the calls")


def check_send_to_a_gone_peer_fails(make_backend: BackendFactory) -> None:
    """A send to a peer that reset the connection ends with an errno."""
    with BackendBench(make_backend) as bench:
        client, server = bench.pair()
        bench.settle()
        bench.backend.abort(server)
        bench.settle()
        result = bench.finish(bench.start_send(client, pattern(100_000)))
        demand(result in {-errno.ECONNRESET, -errno.EPIPE}, f"a send to nobody has {result}")


def check_cancelled_send_ends(make_backend: BackendFactory) -> None:
    """A send that waits for its reader can be cancelled."""
    with BackendBench(make_backend) as bench:
        client, _ = bench.pair()
        sent = bench.start_send(client, pattern(8_000_000))
        bench.settle()
        bench.backend.cancel(sent.operation)
        demand(bench.finish(sent) == -errno.ECANCELED, "a cancelled send is ECANCELED")
        bench.settle()
        demand(sent.final_count == 1, "it ends once")


def check_both_directions_at_once(make_backend: BackendFactory) -> None:
    """Large sends in both directions with receives in flight all go through."""
    with BackendBench(make_backend) as bench:
        client, server = bench.pair()
        there, back = pattern(_LARGE, 1), pattern(_LARGE, 2)
        receivers = [bench.receiver(server), bench.receiver(client, is_bulk=True)]
        sends = [bench.start_send(client, there), bench.start_send(server, back)]
        bench.until(lambda: all(s.results for s in sends), "both sends complete")
        bench.until(lambda: all(r.count == _LARGE for r in receivers), "all arrives")
        demand(receivers[0].data == there, "one way")
        demand(receivers[1].data == back, "and the other")


# -- splicing --------------------------------------------------------------------------------------


def check_splice_between_sockets(make_backend: BackendFactory) -> None:
    """A pipe moves a stream between two connections, driven by polls; the end is 0."""
    with BackendBench(make_backend) as bench:
        client, gate_client = bench.pair()
        gate_server, server = bench.pair()
        pipe = bench.backend.open_pipe()
        if pipe is None:
            return  # a driver may have none to give; its users copy
        for sock in (gate_client, gate_server):
            bench.backend.prepare_splice(sock)
        data = pattern(2_000_000)
        bench.start_send(client, data)
        receiver = bench.receiver(server)
        moved = 0
        while moved < len(data):
            try:
                moved += pipe.fill(gate_client, 1 << 18)
            except BlockingIOError:
                _wait_for(bench, gate_client, POLL_IN)
            while pipe.held:
                try:
                    pipe.drain(gate_server)
                except BlockingIOError:
                    _wait_for(bench, gate_server, POLL_OUT)
            bench.backend.turn(0.001)
        bench.until_data(receiver, data, "spliced bytes arrive")
        demand(receiver.data == data, "a spliced stream is whole")
        client.shutdown(socket.SHUT_WR)
        _wait_for(bench, gate_client, POLL_IN)
        demand(pipe.fill(gate_client, 1) == 0, "the end of the stream is 0")
        bench.backend.close_pipe(pipe)


def _wait_for(bench: BackendBench, sock: RawSocket, events: int) -> None:
    recorder = Recorder()
    bench.backend.poll(recorder.operation, sock.fileno(), events)
    bench.finish(recorder, "a poll of a spliced socket completes")


def check_a_pipe_never_leaks_bytes(make_backend: BackendFactory) -> None:
    """A pipe given back with bytes in it never brings them to its next user."""
    with BackendBench(make_backend) as bench:
        client, gate = bench.pair()
        bench.backend.prepare_splice(gate)
        bench.send(client, b"secret of the first")
        _wait_for(bench, gate, POLL_IN)
        first = bench.backend.open_pipe()
        if first is None:
            return
        demand(first.fill(gate, 100) > 0, "a pipe is filled")
        bench.backend.close_pipe(first)
        # What has not arrived yet of the secret belongs to nobody here.
        bench.backend.abort(gate)
        for _ in range(bench.limits.splice_pipes_max):
            following = bench.backend.open_pipe()
            demand(following is None or following.held == 0, "a pipe begins empty")
            if following is not None:
                _splice_once(bench, following, b"of the second")


def _splice_once(bench: BackendBench, pipe: Pipe, data: bytes) -> None:
    """Move ``data`` over two connections through a pipe and expect exactly it."""
    client, gate_client = bench.pair()
    gate_server, server = bench.pair()
    for sock in (gate_client, gate_server):
        bench.backend.prepare_splice(sock)
    bench.send(client, data)
    receiver = bench.receiver(server)
    moved = 0
    while moved < len(data) or pipe.held:
        if moved < len(data):
            _wait_for(bench, gate_client, POLL_IN)
            moved += pipe.fill(gate_client, 100)
        _wait_for(bench, gate_server, POLL_OUT)
        pipe.drain(gate_server)
    bench.until_data(receiver, data, "spliced bytes arrive")
    demand(receiver.data == data, "no leftover reaches another client")


STREAM_CHECKS: Final[tuple[Callable[[BackendFactory], None], ...]] = (
    check_connect_and_names,
    check_connect_refused,
    check_connect_from_a_source,
    check_accept_many,
    check_abort_resets,
    check_receive_in_order,
    check_slots_have_their_size,
    check_end_of_stream_once,
    check_receive_into,
    check_cancelled_receive_loses_nothing,
    check_starved_receivers_go_on,
    check_a_live_client_among_stalled_ones,
    check_cancel_while_starved,
    check_kept_slice_keeps_its_bytes,
    check_send_completes_when_all_is_taken,
    check_order_of_sends,
    check_send_to_a_gone_peer_fails,
    check_cancelled_send_ends,
    check_both_directions_at_once,
    check_splice_between_sockets,
    check_a_pipe_never_leaks_bytes,
)
