"""Errors of ours on a real port: the peer sees the end, and no descriptor is left behind."""

from __future__ import annotations

import gc
import os

import pytest

from sluicegate.address import SocketAddress
from sluicegate.errors import TransportError
from sluicegate.port import current_port, run
from sluicegate.port.backend import RawSocket


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_client_that_an_error_of_ours_leaves_to_nobody_sees_the_end(backend_name: str) -> None:
    errors: list[str] = []

    def fail(_raw: RawSocket) -> None:
        raise LookupError("ours")

    async def main() -> tuple[bytes, int]:
        port = current_port()
        port.on_error = lambda error: errors.append(type(error).__name__)
        listener = port.listen(SocketAddress.parse("127.0.0.1:0"))
        listener.accept_into(fail)
        before = len(os.listdir("/proc/self/fd"))
        client = await port.connect(listener.local_address())
        try:
            heard = bytes(await client.receive())
        except TransportError:
            heard = b""
        client.close(abortive=True)
        gc.collect()
        left = len(os.listdir("/proc/self/fd")) - before
        listener.close()
        return heard, left

    heard, left = run(main(), backend=backend_name)  # type: ignore[arg-type]
    assert (heard, left, errors) == (b"", 0, ["LookupError"])
