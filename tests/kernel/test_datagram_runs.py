"""Runs of datagrams on a way out that cannot cut them apart: each leaves by itself."""

from __future__ import annotations

import ctypes
import errno
import socket

import pytest

from sluicegate.address import SocketAddress
from sluicegate.port.backends import datagram_calls
from sluicegate.port.backends.datagram_calls import KernelTray
from sluicegate.port.tray import HEADROOM, DatagramOutlet, DatagramTarget

pytestmark = pytest.mark.kernel


class Owner:
    def __init__(self) -> None:
        self.failed: list[int] = []

    def on_send_failed(self, error: int) -> None:
        self.failed.append(error)


def vectors_of(place: ctypes.c_void_p) -> int:
    assert place.value is not None
    return ctypes.c_uint64.from_address(place.value + 24).value


@pytest.mark.parametrize("error", [errno.EINVAL, errno.EIO, errno.EMSGSIZE])
def test_a_run_that_is_refused_leaves_one_by_one_and_none_is_tried_again(monkeypatch, error):
    sendmmsg, refusals = datagram_calls._sendmmsg, []

    def refusing(descriptor, place, count, flags):
        plain = 0
        while plain < count and vectors_of(ctypes.c_void_p(place.value + plain * 64)) == 1:
            plain += 1
        if plain:
            return sendmmsg(descriptor, place, plain, flags)
        refusals.append(vectors_of(place))
        ctypes.set_errno(error)
        return -1

    monkeypatch.setattr(datagram_calls, "_sendmmsg", refusing)
    tray, owner = KernelTray(2000), Owner()
    with (
        socket.socket(type=socket.SOCK_DGRAM) as sender,
        socket.socket(type=socket.SOCK_DGRAM) as receiver,
    ):
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(5)
        outlet = DatagramOutlet(sender)
        target = DatagramTarget(owner, SocketAddress.from_kernel(receiver.getsockname()))
        for _ in range(2):
            sizes = [10, 1400, 1400, 1400, 9, 20]
            for number, size in enumerate(sizes):
                start = number * tray.stride + HEADROOM
                tray.memory[start : start + size] = bytes([number]) * size
                tray.pass_on(outlet, start, size, target)
            tray.flush()

            got = [receiver.recv(2000) for _ in sizes]

            assert got == [bytes([number]) * size for number, size in enumerate(sizes)]
    assert owner.failed == []
    assert refusals == [4], "known from then on"
    assert outlet.segment_bytes_max == 1399


def test_a_run_leaves_in_one_call_and_arrives_as_it_was():
    tray, owner = KernelTray(2000), Owner()
    with (
        socket.socket(type=socket.SOCK_DGRAM) as sender,
        socket.socket(type=socket.SOCK_DGRAM) as receiver,
    ):
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(5)
        outlet = DatagramOutlet(sender)
        target = DatagramTarget(owner, SocketAddress.from_kernel(receiver.getsockname()))
        entries = []
        for number in range(40):
            start = number * tray.stride + HEADROOM
            tray.memory[start : start + 1200] = bytes([number]) * 1200
            entries.append((start, 1200, target))

        runs = tray._pack(entries, outlet.segment_bytes_max)
        tray._send(outlet, entries)

        assert runs == [0]
        assert [receiver.recv(2000) for _ in range(40)] == [bytes([n]) * 1200 for n in range(40)]
