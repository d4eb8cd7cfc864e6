"""The wire of sandboxed processes: what comes while one waits for something else."""

from __future__ import annotations

import asyncio

import pytest

from sluicegate.isolation.messages import Ping, ToCell, decode_to_cell
from sluicegate.sandbox.wire import SocketWire, WireBroken, wire_sockets


def number_of(message: ToCell) -> int:
    assert isinstance(message, Ping)
    return message.number


def test_what_comes_while_one_waits_is_told_afterwards_in_its_order() -> None:
    told: list[int] = []
    waited: list[int] = []

    async def work() -> None:
        ours, theirs = wire_sockets()
        gate: SocketWire[ToCell] = SocketWire(ours, decode_to_cell, lambda *_: None, lambda _: None)

        def on_message(message: ToCell, descriptors: list[int]) -> None:
            assert descriptors == []
            told.append(number_of(message))
            if told == [1]:
                waited.append(number_of(cell.wait_for(lambda one: number_of(one) == 4)))

        cell: SocketWire[ToCell] = SocketWire(theirs, decode_to_cell, on_message, lambda _: None)
        for number in range(1, 7):
            gate.send(Ping(number))
        while len(told) < 5:
            await asyncio.sleep(0)
        gate.close()
        cell.close()

    asyncio.run(asyncio.wait_for(work(), 20))
    assert waited == [4]
    assert told == [1, 2, 3, 5, 6]


def test_waiting_ends_with_the_wire() -> None:
    async def work() -> None:
        ours, theirs = wire_sockets()
        cell: SocketWire[ToCell] = SocketWire(
            theirs, decode_to_cell, lambda *_: None, lambda _: None
        )
        ours.close()
        with pytest.raises(WireBroken, match="has ended"):
            cell.wait_for(lambda _: True)
        cell.close()

    asyncio.run(work())
