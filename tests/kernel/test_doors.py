"""Listening sockets of several workers: the kernel steers, and the next version takes them over."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator

import pytest

from sluicegate.address import SocketAddress
from sluicegate.app.processes import steering
from sluicegate.app.processes.doors import Doors
from sluicegate.errors import TransportError
from sluicegate.gate.settings import Place

SEED = 0x5EED


@pytest.fixture
def doors() -> Iterator[Doors]:
    made = Doors(3, SEED)
    yield made
    made.close()


def open_at(doors: Doors, text: str) -> tuple[str, int]:
    place = Place(SocketAddress.parse(text), False)
    doors.keep(doors.open([place]), [place])
    host, port = doors.doors[0].sockets[0].getsockname()[:2]
    return str(host), int(str(port))


def slot_of(doors: Doors, address: tuple[str, int], source: str) -> int:
    with socket.create_connection(address, source_address=(source, 0)):
        sockets = {one.fileno(): slot for slot, one in enumerate(doors.doors[0].sockets)}
        (ready,) = select.select(list(sockets), [], [], 60)[0]
        with socket.socket(fileno=os.dup(ready)) as listener:
            listener.accept()[0].close()
        return sockets[ready]


def test_kernel_gives_each_client_address_to_the_worker_that_was_computed(doors: Doors) -> None:
    address = open_at(doors, "127.0.0.1:0")
    assert doors.unsteered == ""
    for number in range(1, 40):
        source = f"127.0.3.{number}"
        expected = steering.slot(source, 3, SEED)
        assert slot_of(doors, address, source) == slot_of(doors, address, source) == expected


def test_clients_of_ipv6_are_steered_too(doors: Doors) -> None:
    address = open_at(doors, "[::1]:0")
    assert slot_of(doors, address, "::1") == steering.slot("::1", 3, SEED)


def test_address_of_another_gate_of_the_same_user_is_not_shared_unnoticed(doors: Doors) -> None:
    host, port = open_at(doors, "127.0.0.1:0")
    other = Doors(2, SEED)
    with pytest.raises(TransportError, match="EADDRINUSE"):
        other.open([Place(SocketAddress.parse(f"{host}:{port}"), False)])


def test_next_version_goes_on_with_the_same_sockets(doors: Doors) -> None:
    address = open_at(doors, "127.0.0.1:0")
    left = doors.leave()
    copies = [
        type(one)(one.address, [os.dup(number) for number in one.descriptors]) for one in left
    ]
    following = Doors(3, SEED)
    following.take(copies, doors.unsteered)
    doors.close()
    assert slot_of(following, address, "127.0.3.9") == steering.slot("127.0.3.9", 3, SEED)
    following.close()


def test_socket_that_all_workers_share_is_closed_once(doors: Doors) -> None:
    open_at(doors, "127.0.0.1:0")
    (one,) = doors.leave()
    shared = os.dup(one.descriptors[0])
    following = Doors(3, SEED)
    following.take([type(one)(one.address, [shared] * 3)], "shared")
    assert following.of_slot(0) == following.of_slot(2) == [shared]
    following.close()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(shared)
