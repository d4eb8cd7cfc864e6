"""ClamdScanner against a clamd that a test scripts: silent, broken, lying, gone and back."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import pathlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec.structs import replace

from sluicegate.address import SocketAddress
from sluicegate.clock import SystemClock
from sluicegate.filterapi import ScanOutcome, ScanResult, Transfer
from sluicegate.gate.scanners import ManagedScanner
from sluicegate.port import CompletionPort
from sluicegate.scan import ClamdScanner, ClamdSettings, ScannerView
from tests.ports import free_port

LIMIT = b"stream: Heuristics.Limits.Exceeded.MaxRecursion FOUND\0"
OBJECT = bytes(range(256)) * 300


class File:
    def __init__(self, content: bytes) -> None:
        self._file = io.BytesIO(content)
        self.content = content

    async def read(self, count: int = -1) -> bytes:
        return self._file.read(count)

    def blocking_file(self) -> io.BytesIO:
        return io.BytesIO(self.content)


class Object:
    def __init__(self, content: bytes = OBJECT) -> None:
        self.content = content
        self.size = len(content)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[File]:
        yield File(self.content)


class Clamd:
    """What listens at a place, and answers each command as the test says."""

    def __init__(self, replies: dict[bytes, bytes]) -> None:
        self.replies = {b"VERSION": b"ClamAV 1.4.6\0", b"probe": LIMIT} | replies
        self.seen: list[bytes] = []
        #: Objects that it was shown, the probe left out.
        self.commands: list[bytes] = []
        self.before_reply: Callable[[], Awaitable[None]] | None = None
        self.server: asyncio.Server | None = None

    async def serve(self, connected: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with connected:
            data = b""
            while b"\0" not in data:
                data += await loop.sock_recv(connected, 1)
            command = data[1:-1]
            self.commands.append(command)
            if command == b"FILDES":
                await self._readable(connected)
                _, descriptors, _, _ = socket.recv_fds(connected, 1, 4)
                with open(descriptors[0], "rb") as lent:
                    flags_error = _write_error(lent.fileno())
                    self.seen.append(lent.read())
                assert flags_error, "a lent object can be written"
            elif command == b"INSTREAM":
                stream = await self._streamed(connected)
                if stream.startswith(b"PK"):
                    command = b"probe"
                else:
                    self.seen.append(stream)
            if self.before_reply is not None and command in {b"FILDES", b"INSTREAM"}:
                await self.before_reply()
            await loop.sock_sendall(connected, self.replies[command])

    async def _streamed(self, connected: socket.socket) -> bytes:
        loop = asyncio.get_running_loop()
        data = bytearray()
        stream = bytearray()
        while True:
            while len(data) < 4:
                data += await loop.sock_recv(connected, 65536)
            size = int.from_bytes(data[:4], "big")
            if not size:
                return bytes(stream)
            while len(data) < 4 + size:
                data += await loop.sock_recv(connected, 65536)
            stream += data[4 : 4 + size]
            del data[: 4 + size]

    async def _readable(self, connected: socket.socket) -> None:
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(connected, ready.set)
        await ready.wait()
        loop.remove_reader(connected)


def _write_error(descriptor: int) -> bool:
    try:
        os.pwrite(descriptor, b"x", 0)
    except OSError:
        return True
    return False


@contextlib.asynccontextmanager
async def listening(clamd: Clamd, place: str | SocketAddress) -> AsyncIterator[None]:
    """Let a scripted clamd listen."""
    family = socket.AF_UNIX if isinstance(place, str) else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setblocking(False)
    listener.bind(place if isinstance(place, str) else (place.host, place.port))
    listener.listen()
    tasks: list[asyncio.Task[None]] = []

    async def accept() -> None:
        while True:
            connected, _ = await asyncio.get_running_loop().sock_accept(listener)
            connected.setblocking(False)
            tasks.append(asyncio.ensure_future(clamd.serve(connected)))

    accepting = asyncio.ensure_future(accept())
    try:
        yield
    finally:
        accepting.cancel()
        for task in tasks:
            task.cancel()
        await asyncio.gather(accepting, *tasks, return_exceptions=True)
        listener.close()
        if isinstance(place, str):
            pathlib.Path(place).unlink()


def scanner_at(place: str | SocketAddress, **changed: Any) -> ClamdScanner:
    chosen: dict[str, Any] = {
        "connections_max": 2,
        "timeout_s": 20.0,
        "wait_s": 0.0,
        "object_bytes_max": 1 << 20,
        "trusts_limits": False,
    }
    return ClamdScanner("clamd", ClamdSettings(place=place, **(chosen | changed)), SystemClock())


async def scan(scanner: ClamdScanner, content: bytes = OBJECT) -> ScanResult:
    return await scanner.scan(cast("Transfer", Object(content)))


@pytest.fixture
def place(tmp_path: pathlib.Path) -> str:
    return str(tmp_path / "clamd.sock")


def run(clamd: Clamd, place: str, work: Callable[[], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        async with listening(clamd, place):
            return await work()

    return asyncio.run(main())


def test_an_object_is_lent_read_only_and_whole(place: str) -> None:
    clamd = Clamd({b"FILDES": b"fd[7]: OK\0"})
    result = run(clamd, place, lambda: scan(scanner_at(place)))
    assert result == ScanResult(ScanOutcome.CLEAN, "", "ClamAV 1.4.6")
    assert clamd.seen == [OBJECT]


def test_an_object_is_streamed_to_a_clamd_elsewhere() -> None:
    clamd = Clamd({b"INSTREAM": b"stream: Eicar FOUND\0"})
    place = SocketAddress("127.0.0.1", free_port())

    async def main() -> ScanResult:
        async with listening(clamd, place):
            return await scan(scanner_at(place))

    assert asyncio.run(main()) == ScanResult(ScanOutcome.FOUND, "Eicar", "ClamAV 1.4.6")
    assert clamd.seen == [OBJECT]


@pytest.mark.parametrize(
    ("reply", "outcome", "reason"),
    [
        (b"fd[7]: OK", ScanOutcome.NOT_SCANNED, "before its answer was whole"),
        (b"", ScanOutcome.NOT_SCANNED, "before its answer was whole"),
        (b"fd[7]: OK\0fd[7]: OK\0", ScanOutcome.NOT_SCANNED, "more than was asked"),
        (b"UNKNOWN COMMAND\0", ScanOutcome.NOT_SCANNED, "clamd answers"),
        (b"x" * 5000, ScanOutcome.NOT_SCANNED, "more than 4096 bytes"),
        (b"fd[7]: Can't open ERROR\0", ScanOutcome.NOT_SCANNED, "clamd says: fd[7]: Can't open"),
        (
            b"fd[7]: Heuristics.Limits.Exceeded.MaxFileSize FOUND\0",
            ScanOutcome.NOT_SCANNED,
            "reached a limit",
        ),
        (b"fd[7]: Heuristics.Encrypted.Zip FOUND\0", ScanOutcome.ENCRYPTED, "Encrypted.Zip"),
    ],
)
def test_what_is_not_an_answer_that_it_is_clean_is_not_clean(
    place: str, reply: bytes, outcome: ScanOutcome, reason: str
) -> None:
    result = run(Clamd({b"FILDES": reply}), place, lambda: scan(scanner_at(place)))
    assert result.outcome is outcome
    assert reason in result.reason


def test_a_clamd_that_passes_over_its_limits_in_silence_is_not_believed(place: str) -> None:
    clamd = Clamd({b"FILDES": b"fd[7]: OK\0", b"probe": b"stream: OK\0"})
    result = run(clamd, place, lambda: scan(scanner_at(place)))
    assert result.outcome is ScanOutcome.NOT_SCANNED
    assert 'set "AlertExceedsMax yes" in clamd.conf' in result.reason
    assert clamd.seen == []


def test_an_operator_may_believe_it_all_the_same(place: str) -> None:
    clamd = Clamd({b"FILDES": b"fd[7]: OK\0", b"probe": b"stream: OK\0"})
    result = run(clamd, place, lambda: scan(scanner_at(place, trusts_limits=True)))
    assert result.outcome is ScanOutcome.CLEAN


def test_what_it_says_of_its_limits_is_asked_once_for_many_objects(place: str) -> None:
    clamd = Clamd({b"FILDES": b"fd[7]: OK\0"})
    scanner = scanner_at(place)

    async def thrice() -> list[ScanResult]:
        return [await scan(scanner) for _ in range(3)]

    assert {one.outcome for one in run(clamd, place, thrice)} == {ScanOutcome.CLEAN}
    assert clamd.commands == [b"VERSION", b"INSTREAM", b"FILDES", b"FILDES", b"FILDES"]


def test_what_is_called_clean_before_all_of_it_was_sent_is_not_clean() -> None:
    place = SocketAddress("127.0.0.1", free_port())

    class Hasty(Clamd):
        async def serve(self, connected: socket.socket) -> None:
            connected.sendall(b"stream: OK\0")
            connected.shutdown(socket.SHUT_RD)
            await asyncio.sleep(0)
            connected.close()

    async def main() -> ScanResult:
        scanner = scanner_at(place, object_bytes_max=64 << 20, trusts_limits=True)
        scanner._believed_until = float("inf")
        async with listening(Hasty({}), place):
            return await scan(scanner, bytes(32 << 20))

    result = asyncio.run(main())
    assert result.outcome is ScanOutcome.NOT_SCANNED


def test_nobody_at_the_socket_is_no_verdict(place: str) -> None:
    result = asyncio.run(scan(scanner_at(place)))
    assert result == ScanResult(ScanOutcome.NOT_SCANNED, "it cannot be asked: ENOENT", "")


def test_an_object_over_the_limit_is_not_even_sent(place: str) -> None:
    clamd = Clamd({})
    scanner = scanner_at(place, object_bytes_max=10)
    result = run(clamd, place, lambda: scan(scanner, b"eleven byte"))
    assert result.outcome is ScanOutcome.NOT_SCANNED
    assert "object_bytes_max (10)" in result.reason
    assert clamd.commands == []


def test_a_clamd_that_never_answers_is_given_up(place: str) -> None:
    clamd = Clamd({b"FILDES": b"fd[7]: OK\0"})
    clamd.before_reply = asyncio.Event().wait  # type: ignore[assignment]
    result = run(clamd, place, lambda: scan(scanner_at(place, timeout_s=0.2)))
    assert result.reason == "no answer within 0.2 s"


def test_one_that_goes_away_in_the_middle_is_asked_again(place: str) -> None:
    clamd = Clamd({b"FILDES": b""})

    async def come_to_reason() -> None:
        if len(clamd.seen) == 2:
            clamd.replies[b"FILDES"] = b"fd[7]: OK\0"

    clamd.before_reply = come_to_reason
    result = run(clamd, place, lambda: scan(scanner_at(place)))
    assert result.outcome is ScanOutcome.CLEAN
    # What it says of its limits was asked again, too: it is another one, perhaps.
    assert clamd.commands == [b"VERSION", b"INSTREAM", b"FILDES"] * 2


def test_one_that_restarts_is_waited_for(place: str) -> None:
    clamd = Clamd({b"FILDES": b"fd[7]: OK\0"})
    scanner = scanner_at(place, wait_s=20.0)

    async def main() -> ScanResult:
        waiting = asyncio.ensure_future(scan(scanner))
        while scanner._reach.away_since is None:
            await asyncio.sleep(0)
        async with listening(clamd, place):
            return await waiting

    assert asyncio.run(main()).outcome is ScanOutcome.CLEAN


def test_no_more_are_asked_at_once_than_allowed(place: str) -> None:
    clamd = Clamd({b"FILDES": b"fd[7]: OK\0"})
    scanner = scanner_at(place, connections_max=2)
    counts = SimpleNamespace(now=0, most=0, arrived=asyncio.Event())

    async def count() -> None:
        counts.now += 1
        counts.most = max(counts.most, counts.now)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        counts.now -= 1

    clamd.before_reply = count

    async def many() -> list[ScanResult]:
        await scan(scanner)
        return await asyncio.gather(*(scan(scanner) for _ in range(10)))

    assert {one.outcome for one in run(clamd, place, many)} == {ScanOutcome.CLEAN}
    assert counts.most == 2


def test_a_scan_that_is_cancelled_leaves_no_descriptor(place: str) -> None:
    clamd = Clamd({b"FILDES": b"fd[7]: OK\0"})
    scanner = scanner_at(place)
    asked = asyncio.Event()

    async def main() -> int:
        async def hang() -> None:
            asked.set()
            await asyncio.Event().wait()

        async with listening(clamd, place):
            await scan(scanner)
            clamd.before_reply = hang
            before = len(os.listdir("/proc/self/fd"))
            waiting = asyncio.ensure_future(scan(scanner))
            await asked.wait()
            during = len(os.listdir("/proc/self/fd"))
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            # The scripted clamd still has its own end of the connection.
            assert during - len(os.listdir("/proc/self/fd")) == 1
            return len(os.listdir("/proc/self/fd")) - before

    assert asyncio.run(main()) == 1


def test_what_the_system_policy_keeps_the_gate_from_is_not_scanned_and_not_waited_for() -> None:
    scanner = scanner_at(
        SocketAddress.parse("127.0.0.1:1"), refusal="[system] does not let the gate", wait_s=60.0
    )
    result = asyncio.run(asyncio.wait_for(scan(scanner), timeout=30))
    assert result.outcome is ScanOutcome.NOT_SCANNED
    assert "[system] does not let the gate" in result.reason


def test_one_that_is_stopped_has_not_scanned_what_it_was_asked(place: str) -> None:
    clamd = Clamd({b"FILDES": b"fd[7]: OK\0"})
    scanner = scanner_at(place)
    asked = asyncio.Event()

    async def hang() -> None:
        asked.set()
        await asyncio.Event().wait()

    clamd.before_reply = hang

    async def main() -> ScanResult:
        waiting = asyncio.ensure_future(scan(scanner))
        await asked.wait()
        scanner.stop()
        await scanner.wait_ended()
        return await waiting

    result = run(clamd, place, main)
    assert (result.outcome, result.reason) == (
        ScanOutcome.NOT_SCANNED,
        "the scanner was stopped",
    )


def test_it_shows_what_it_did_and_tells_once_that_it_is_away(place: str) -> None:
    clamd = Clamd({b"FILDES": b"fd[7]: Eicar FOUND\0"})
    scanner = scanner_at(place)
    told: list[str] = []

    async def main() -> None:
        assert isinstance(scanner, ManagedScanner)
        scanner.start(cast("CompletionPort", None), told.append)
        async with listening(clamd, place):
            await scan(scanner)
        seen = scanner.view()
        assert sum(seen.answer_buckets) == 1
        assert replace(seen, answer_s=0.0, answer_buckets=[]) == ScannerView(
            name="clamd", kind="clamd", signatures="ClamAV 1.4.6", asked=1, found=1, unfinished=0
        )
        pathlib.Path(place).unlink(missing_ok=True)
        for _ in range(2):
            await scan(scanner)
        view = scanner.view()
        assert (view.state, view.problem, view.unfinished) == ("failed", told[0], 2)
        async with listening(clamd, place):
            await scan(scanner)
            assert scanner.view().problem == ""

    asyncio.run(main())
    assert told == ["it cannot be asked: ENOENT"]
