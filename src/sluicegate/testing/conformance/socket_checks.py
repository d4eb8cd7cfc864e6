"""Checks of listeners and stream sockets on a port over some driver.

Each function takes a factory of ports and raises ``NonConforming`` with the broken sentence of the
filter model. The invariant: a check depends on the public port only.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Final

from sluicegate.buffer import Window
from sluicegate.errors import BadContext, OperationPending, WindowExpired
from sluicegate.limits import ACCEPT_AHEAD_MAX, RECEIVE_AHEAD_MAX, Limits
from sluicegate.port import StreamSocket
from sluicegate.port.pool import SMALL_SLOT_SIZE

from .bench import NonConforming, count_free_slots, demand, pattern
from .port_bench import AcceptLog, PortBench, PortFactory, SocketLog

__all__ = ["SOCKET_CHECKS"]

_LARGE: Final = 8_000_000
"""More than a kernel holds for one connection without a reader."""

_BATCH_MAX: Final = 64
"""What a driver may have completed before a cancellation reached it: the kernel posts 32 receives
of one socket at a time (``MULTISHOT_MAX_RETRY``), and may have begun again."""


def _demand_raises(error: type[Exception], call: Callable[[], object], sentence: str) -> None:
    try:
        call()
    except error:
        return
    raise NonConforming(sentence)


# -- accepting -------------------------------------------------------------------------------------


def check_one_start_one_connection(make_port: PortFactory) -> None:
    """Each ``start_accept`` brings one connection; clients that come early are not lost."""
    with PortBench(make_port) as bench:
        listener, address = bench.listen()
        log = AcceptLog()
        count = ACCEPT_AHEAD_MAX + 20
        listener.start_accept(log, 0)
        _demand_raises(OperationPending, lambda: listener.start_accept(log), "one accept at a time")
        clients = [bench.connect(address) for _ in range(count)]
        bench.until_results(log, 1)
        bench.settle()
        demand(len(log.results) == 1, "one start brings one connection")
        for number in range(1, count):
            listener.start_accept(log, number)
            demand(len(log.results) == number, "an accept never completes inside its start")
            bench.until_results(log, number + 1)
        demand([result[3] for result in log.results] == list(range(count)), "user data comes back")
        remotes = {str(result[2].remote) for result in log.results}
        demand(remotes == {str(client.local_address()) for client in clients}, "each client once")
        for _, _, accepted, _ in log.results:
            assert accepted.socket is not None
            bench.keep(accepted.socket)
        listener.close()


def check_listener_close(make_port: PortFactory) -> None:
    """Closing a listener completes its accept with ECANCELED; clients ahead are closed."""
    with PortBench(make_port) as bench:
        listener, address = bench.listen()
        log = AcceptLog()
        listener.start_accept(log)
        early = [bench.connect(address) for _ in range(3)]
        bench.until_results(log, 1)
        accepted = log.results[0][2].socket
        assert accepted is not None
        bench.keep(accepted)
        listener.start_accept(log)
        bench.until_results(log, 2)
        second = log.results[1][2].socket
        assert second is not None
        bench.keep(second)
        third = log.results[0][2].remote
        remotes = {str(result[2].remote) for result in log.results}
        demand(third is not None, "an accept names the remote address")
        left = [client for client in early if str(client.local_address()) not in remotes]
        demand(len(left) == 1, "one client is left waiting")
        listener.close()
        listener.close()
        _demand_raises(BadContext, lambda: listener.start_accept(log), "a closed one refuses")
        end = SocketLog()
        left[0].start_receive(None, end)
        bench.until_results(end, 1)
        demand(
            end.results[0][0] is False or end.results[0][2] == b"",
            "who waits at a closed listener is told",
        )
        listener, _ = bench.listen()
        log = AcceptLog()
        listener.start_accept(log, "mine")
        bench.settle()
        listener.close()
        demand(not log.results, "a close completes nothing inside the call")
        bench.until_results(log, 1)
        demand(log.results[0][:2] == (False, errno.ECANCELED), "a closed accept is ECANCELED")
        demand(log.results[0][3] == "mine", "user data comes back")


# -- receiving -------------------------------------------------------------------------------------


def check_receive_and_send(make_port: PortFactory) -> None:
    """Bytes go both ways; completions come later, once, with their user data."""
    with PortBench(make_port) as bench:
        client, server = bench.pair()
        received, sent = SocketLog(), SocketLog()
        server.start_receive(None, received, "r")
        client.start_send(b"there", sent, "s")
        demand(not sent.results, "a send never completes inside its start")
        bench.until_results(received, 1)
        bench.until_results(sent, 1)
        demand(sent.results == [(True, 0, b"there", "s")], "a send tells what was sent")
        demand(received.results[0][0], "a receive succeeds")
        demand(b"there".startswith(received.results[0][2]), "a receive brings what was sent")
        demand(received.results[0][3] == "r", "user data comes back")
        server.start_send(b"and back")
        demand(bench.receive_exactly(client, 8) == b"and back", "a send needs no completion")
        early = SocketLog()
        client.start_send(b"already there")
        bench.settle()
        server.start_receive(None, early)
        demand(not early.results, "a receive never completes inside its start")
        bench.until_results(early, 1)


def check_a_second_operation_is_refused(make_port: PortFactory) -> None:
    """A second receive or send in the same direction raises ``OperationPending``."""
    with PortBench(make_port) as bench:
        client, server = bench.pair()
        received, sent = SocketLog(), SocketLog()
        server.start_receive(None, received)
        _demand_raises(
            OperationPending, lambda: server.start_receive(None, received), "one receive at a time"
        )
        data = pattern(_LARGE)
        client.start_send(data, sent)
        _demand_raises(OperationPending, lambda: client.start_send(b"x"), "one send at a time")
        bench.until_results(received, 1)
        got = received.results[0][2]
        demand(got + bench.receive_exactly(server, _LARGE - len(got)) == data, "nothing is lost")
        bench.until_results(sent, 1)
        demand(sent.results[0][:2] == (True, 0), "the first send completes")
        client.start_send(b"free again", sent)
        bench.until_results(sent, 2)


def check_end_of_stream_reaches_once(make_port: PortFactory) -> None:
    """The end of a stream is success with no bytes, once; the other direction stays open."""
    with PortBench(make_port) as bench:
        client, server = bench.pair()
        client.start_send(b"last")
        client.shutdown()
        demand(bench.receive_exactly(server, 100) == b"last", "the end comes behind all bytes")
        after = SocketLog()
        server.start_receive(None, after)
        bench.until_results(after, 1)
        demand(not after.results[0][0], "the end of a stream is told once")
        demand(after.results[0][1] != 0, "a failure has an errno")
        _demand_raises(BadContext, lambda: client.start_send(b"x"), "no send behind the end")
        server.start_send(b"half open")
        demand(bench.receive_exactly(client, 9) == b"half open", "half closed is half open")


def check_receive_into_a_buffer(make_port: PortFactory) -> None:
    """A receive into the caller's own buffer fills it; the rest waits for the next."""
    with PortBench(make_port) as bench:
        client, server = bench.pair()
        client.start_send(pattern(1000))
        received = b""
        while len(received) < 1000:
            buffer = bench.port.create_buffer(64)
            log = SocketLog()
            server.start_receive(buffer, log)
            bench.until_results(log, 1)
            demand(0 < len(log.results[0][2]) <= 64, "a receive fills its buffer at most")
            demand(bytes(buffer.view[: buffer.used]) == log.results[0][2], "in the buffer itself")
            received += log.results[0][2]
        demand(received == pattern(1000), "nothing is lost between receives")


def check_receive_ahead_is_bounded(make_port: PortFactory) -> None:
    """What arrives without a start waits in few buffers; the rest waits at the sender."""
    with PortBench(make_port, Limits(interactive_buffers_max=256, bulk_buffers_max=4)) as bench:
        client, server = bench.pair()
        log, sent = SocketLog(), SocketLog()
        server.start_receive(None, log)
        data = pattern(_LARGE)
        client.start_send(data, sent)
        bench.until_results(log, 1)
        bench.settle()
        demand(not sent.results, "a stream without a reader holds its sender")
        taken = bench.limits.interactive_buffers_max - count_free_slots(bench.port.backend)
        demand(taken <= 1 + RECEIVE_AHEAD_MAX + _BATCH_MAX, f"{taken} buffers wait for a start")
        got = log.results[0][2]
        demand(got + bench.receive_exactly(server, _LARGE - len(got)) == data, "nothing is lost")


def check_window_expires(make_port: PortFactory) -> None:
    """A window of a shared buffer ends with the next receive and then raises ``WindowExpired``."""
    with PortBench(make_port, Limits(interactive_buffers_max=1, bulk_buffers_max=1)) as bench:
        client, server = bench.pair()
        log = SocketLog()
        server.start_receive(None, log)
        client.start_send(b"first")
        bench.until_results(log, 1)
        window = log.windows[0]
        demand(bytes(window) == log.results[0][2], "a window holds until the next receive")
        rest = 5 - len(log.results[0][2])
        server.start_receive(None, log)
        _demand_raises(WindowExpired, lambda: bytes(window), "an old window raises")
        client_more = SocketLog()
        bench.until(lambda: not rest or len(log.results) > 1, "the rest arrives")
        client.start_send(b"more", client_more)
        bench.until_results(log, 2)


def check_kept_bytes_stay_the_clients(make_port: PortFactory) -> None:
    """A slice kept beyond its time shows its own bytes for ever, never another client's."""
    with PortBench(make_port, Limits(interactive_buffers_max=1, bulk_buffers_max=1)) as bench:
        client, server = bench.pair()
        kept: list[tuple[memoryview, bytes]] = []
        log = SocketLog()

        def keep(window: Window) -> None:
            if window.length:
                lease = window.lease()
                kept.append((lease.__enter__()[:], bytes(window)))
                lease.__exit__(None, None, None)

        log.then = keep
        server.start_receive(None, log)
        client.start_send(b"a secret of the first client")
        bench.until_results(log, 1)
        server.close()
        client.close()
        bench.settle()
        other_client, other_server = bench.pair()
        other_client.start_send(b"bytes of the second client!!")
        received = bench.receive_exactly(other_server, 28)
        demand(received == b"bytes of the second client!!", "the slot serves another client")
        for view, then in kept:
            demand(bytes(view) == then, "a kept slice never shows another client's bytes")
        demand(bench.port.statistics().slots_replaced >= 1, "a replaced slot is counted")


def check_leased_window_outlives_the_receive(make_port: PortFactory) -> None:
    """A lease keeps bytes stable over later receives; its end gives the slot back."""
    with PortBench(make_port) as bench:
        client, server = bench.pair()
        log = SocketLog()
        server.start_receive(None, log)
        client.start_send(b"stable")
        bench.until_results(log, 1)
        window = log.windows[0]
        with window.lease() as view:
            before = bytes(view)
            client.start_send(pattern(50_000))
            bench.receive_exactly(server, 50_000 + 6 - len(before))
            demand(bytes(view) == before, "leased bytes are stable")
            del view


# -- sending ---------------------------------------------------------------------------------------


def check_send_is_back_pressure(make_port: PortFactory) -> None:
    """A send completes when its last byte was taken; its buffer is in flight until then."""
    with PortBench(make_port) as bench:
        client, server = bench.pair()
        buffer = bench.port.create_buffer(_LARGE)
        buffer.append(pattern(_LARGE))
        sent = SocketLog()
        client.start_send(buffer, sent)
        bench.settle()
        demand(not sent.results, "a send without a reader does not complete")
        _demand_raises(BadContext, lambda: buffer.append(b"x"), "a buffer in flight is refused")
        demand(bench.receive_exactly(server, _LARGE) == pattern(_LARGE), "all bytes arrive")
        bench.until_results(sent, 1)
        demand(sent.results[0][:2] == (True, 0), "a send succeeds")
        buffer.set_size(0)
        demand(buffer.append(b"free") == 4, "the buffer is its owner's again")


def check_sends_keep_their_order(make_port: PortFactory) -> None:
    """Sends started in the completion of the one before arrive in order."""
    with PortBench(make_port) as bench:
        client, server = bench.pair()
        parts = [pattern(number * 997 + 1, number) for number in range(40)]
        log = SocketLog()

        def following(_window: Window) -> None:
            if len(log.results) < len(parts):
                client.start_send(parts[len(log.results)], log)

        log.then = following
        client.start_send(parts[0], log)
        expected = b"".join(parts)
        demand(bench.receive_exactly(server, len(expected)) == expected, "sends keep their order")


def check_send_to_a_gone_peer(make_port: PortFactory) -> None:
    """A send to a peer that reset the connection fails with its errno."""
    with PortBench(make_port) as bench:
        client, server = bench.pair()
        server.close(abortive=True)
        bench.settle()
        log = SocketLog()
        for number in range(1, 4):
            client.start_send(pattern(SMALL_SLOT_SIZE), log)
            demand(len(log.results) < number, "a failing send never completes inside its start")
            bench.until_results(log, number)
        demand(not log.results[-1][0], "a send to nobody fails")
        demand(log.results[-1][1] in {errno.EPIPE, errno.ECONNRESET}, "with its errno")


# -- closing ---------------------------------------------------------------------------------------


def check_close_completes_the_receive(make_port: PortFactory) -> None:
    """Closing completes a pending receive with ECANCELED, later and once; then it refuses."""
    with PortBench(make_port) as bench:
        client, server = bench.pair()
        closed: list[bool] = []
        log = SocketLog()
        server.on_closed = lambda: closed.append(True)
        server.start_receive(None, log)
        bench.settle()
        server.close()
        demand(not log.results, "a close completes nothing inside the call")
        bench.until_results(log, 1)
        bench.until(lambda: closed, "the socket closes behind its operations")
        bench.settle()
        demand(log.results == [(False, errno.ECANCELED, b"", None)], "once, with ECANCELED")
        demand(closed == [True], "on_closed is told once")
        _demand_raises(BadContext, lambda: server.start_receive(None, log), "closed: no receive")
        _demand_raises(BadContext, lambda: server.start_send(b"x"), "closed: no send")
        demand(bench.receive_exactly(client, 1) == b"", "the peer sees the end")


def check_close_finishes_the_send(make_port: PortFactory) -> None:
    """A plain close lets a pending send finish first."""
    with PortBench(make_port) as bench:
        client, server = bench.pair()
        log = SocketLog()
        client.start_send(pattern(_LARGE), log)
        bench.settle()
        client.close()
        demand(bench.receive_exactly(server, _LARGE + 1) == pattern(_LARGE), "then the end")
        bench.until_results(log, 1)
        demand(log.results[0][:2] == (True, 0), "the send succeeds")


def check_abortive_close_cancels_the_send(make_port: PortFactory) -> None:
    """An abortive close cancels a pending send; the peer sees a reset."""
    with PortBench(make_port) as bench:
        client, server = bench.pair()
        log = SocketLog()
        client.start_send(pattern(_LARGE), log)
        bench.settle()
        client.close(abortive=True)
        bench.until_results(log, 1)
        demand(log.results[0][:2] == (False, errno.ECANCELED), "a cancelled send is ECANCELED")
        end = _last_result(bench, server)
        demand(end == (False, errno.ECONNRESET), f"the peer sees a reset, not {end}")


def _last_result(bench: PortBench, sock: StreamSocket) -> tuple[bool, int]:
    """Receive until something else than bytes comes."""
    while True:
        log = SocketLog()
        sock.start_receive(None, log)
        bench.until_results(log, 1)
        success, error, data, _ = log.results[0]
        if not success or not data:
            return success, error


def check_close_with_data_ahead(make_port: PortFactory) -> None:
    """Closing a socket with unread buffers gives all of them back."""
    with PortBench(make_port) as bench:
        for _ in range(4):
            client, server = bench.pair()
            log = SocketLog()
            server.start_receive(None, log)
            client.start_send(pattern(200_000))
            bench.until_results(log, 1)
            server.close()
            client.close(abortive=True)
            bench.settle()
            bench.demand_slots_home()


def check_withdrawal_from_a_closing_socket(make_port: PortFactory) -> None:
    """A receive that is withdrawn behind the close does not keep the descriptor open."""
    with PortBench(make_port) as bench:
        waiting, _ = bench.pair()
        _withdraw_behind_close(bench, waiting)
        ended, peer = bench.pair()
        peer.close()
        demand(_last_result(bench, ended) == (True, 0), "the end is told")
        # Nothing waits for the kernel now.
        _withdraw_behind_close(bench, ended)


def _withdraw_behind_close(bench: PortBench, sock: StreamSocket) -> None:
    log = SocketLog()
    sock.start_receive(None, log)
    sock.close()
    sock.withdraw()
    bench.until(lambda: not sock.is_busy, "the descriptor is closed")
    demand(log.results == [(False, errno.ECANCELED, b"", None)], "once, with ECANCELED")


SOCKET_CHECKS: Final[tuple[Callable[[PortFactory], None], ...]] = (
    check_withdrawal_from_a_closing_socket,
    check_one_start_one_connection,
    check_listener_close,
    check_receive_and_send,
    check_a_second_operation_is_refused,
    check_end_of_stream_reaches_once,
    check_receive_into_a_buffer,
    check_receive_ahead_is_bounded,
    check_window_expires,
    check_kept_bytes_stay_the_clients,
    check_leased_window_outlives_the_receive,
    check_send_is_back_pressure,
    check_sends_keep_their_order,
    check_send_to_a_gone_peer,
    check_close_completes_the_receive,
    check_close_finishes_the_send,
    check_abortive_close_cancels_the_send,
    check_close_with_data_ahead,
)
