"""IcapScanner against a server that a test scripts: silent, hasty, lying, gone and back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec.structs import replace

from sluicegate.address import SocketAddress
from sluicegate.clock import SystemClock
from sluicegate.filterapi import Direction, ScanOutcome, ScanResult, Transfer, TransferOffer
from sluicegate.gate.scanners import ManagedScanner, Scanners
from sluicegate.port import CompletionPort
from sluicegate.protocols.icap import IcapTarget
from sluicegate.scan import IcapScanner, IcapSettings, ScannerTls, ScannerView
from tests.pki import authority

OBJECT = bytes(range(256)) * 300
OPTIONS = {
    "Methods": "RESPMOD, REQMOD",
    "ISTag": '"v1"',
    "Service": "Scripted",
    "Preview": "1024",
    "Allow": "204, 206",
    "Options-TTL": "3600",
}
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
CLEAN, FOUND = ScanOutcome.CLEAN, ScanOutcome.FOUND
NOT_SCANNED, MODIFIED = ScanOutcome.NOT_SCANNED, ScanOutcome.MODIFIED


def answer(line: str, *fields: str) -> bytes:
    return "\r\n".join([f"ICAP/1.0 {line}", 'ISTag: "v1"', *fields, "", ""]).encode()


def adapted(body: bytes, last: str = "0", line: str = "200 OK", http: str = "200 OK") -> bytes:
    head = f"HTTP/1.1 {http}\r\nContent-Type: text/plain\r\n\r\n".encode()
    place = f"Encapsulated: res-hdr=0, res-body={len(head)}"
    chunks = b"%x\r\n%s\r\n" % (len(body), body) if body else b""
    return answer(line, place) + head + chunks + last.encode() + b"\r\n\r\n"


UNCHANGED = answer("204 No Content")
INFECTED = answer("200 OK", "X-Infection-Found: Type=0; Resolution=2; Threat=Eicar;") + b""
PROBED = answer("204 No Content", "X-Infection-Found: Type=0; Resolution=2; Threat=Limit;")


class Object:
    def __init__(self, content: bytes = OBJECT, *, is_upload: bool = False) -> None:
        self.content = content
        self.size = len(content)
        direction = Direction.UPLOAD if is_upload else Direction.DOWNLOAD
        self.offer = TransferOffer("dir/a.txt", direction, "ftp", content_type="text/plain")
        self.connection = SimpleNamespace(server_address=SocketAddress("192.0.2.9", 21))

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Object]:
        yield self

    async def read_at(self, offset: int, count: int) -> bytes:
        await asyncio.sleep(0)
        return self.content[offset : offset + count]


class Server:
    """An ICAP server; what it says to an object is the test's to say."""

    def __init__(self, **options: str | None) -> None:
        chosen = OPTIONS | {name.replace("_", "-"): value for name, value in options.items()}
        self.options = {name: value for name, value in chosen.items() if value is not None}
        self.heads: list[str] = []
        self.previews: list[bytes] = []
        self.bodies: list[bytes] = []
        self.asked: list[str] = []
        self.connections = 0
        self.at_preview = answer("100 Continue")
        self.at_end = UNCHANGED
        self.at_probe = PROBED
        self.before_answer: Callable[[], Awaitable[None]] | None = None
        self.closes = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                before = len(self.bodies)
                await self._serve_one(reader, writer)
                if self.closes and len(self.bodies) > before:
                    return

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method = head.partition(" ")[0]
        self.asked.append(method)
        if method == "OPTIONS":
            lines = [f"{name}: {value}" for name, value in self.options.items()]
            writer.write("\r\n".join(["ICAP/1.0 200 OK", *lines, "", ""]).encode())
            return
        inner = await reader.readexactly(int(head.partition("-body=")[2].split("\r\n")[0]))
        is_probe = b"probe://" in inner
        body, is_whole = b"", False
        if "Preview:" in head:
            body, is_whole = await self._chunks(reader)
            if not is_probe:
                self.previews.append(body)
            if not is_whole:
                said = answer("100 Continue") if is_probe else self.at_preview
                writer.write(said)
                if not said.startswith(b"ICAP/1.0 100"):
                    self.heads.append(head)
                    return
        if not is_whole:
            more, _ = await self._chunks(reader)
            body += more
        if is_probe:
            writer.write(self.at_probe)
            return
        self.heads.append(head)
        self.bodies.append(body)
        if self.before_answer is not None:
            await self.before_answer()
        writer.write(self.at_end)
        await writer.drain()

    async def _chunks(self, reader: asyncio.StreamReader) -> tuple[bytes, bool]:
        body = b""
        while True:
            line = (await reader.readuntil(b"\r\n"))[:-2]
            size = int(line.partition(b";")[0], 16)
            body += await reader.readexactly(size)
            await reader.readexactly(2)
            if not size:
                return body, b"ieof" in line


@contextlib.asynccontextmanager
async def serving(server: Server) -> AsyncIterator[Serve]:
    """Return what serves a connection; whatever is left of them ends at the end."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        server.connections += 1
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await server.serve(reader, writer)
        finally:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    try:
        yield serve
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def listening(server: Server, place: str) -> AsyncIterator[None]:
    async with serving(server) as serve:
        listener = await asyncio.start_unix_server(serve, place)
        try:
            yield
        finally:
            listener.close()
    pathlib.Path(place).unlink(missing_ok=True)


def scanner_at(place: str | SocketAddress, **changed: Any) -> IcapScanner:
    chosen: dict[str, Any] = {
        "target": IcapTarget("icap.example", 1344, "avscan"),
        "connections_max": 4,
        "timeout_s": 20.0,
        "wait_s": 0.0,
        "object_bytes_max": 1 << 20,
        "modified_bytes_max": 1 << 20,
        "trusts_limits": False,
    }
    return IcapScanner("icap", IcapSettings(place=place, **(chosen | changed)), SystemClock())


@pytest.fixture
def place(tmp_path: pathlib.Path) -> str:
    return str(tmp_path / "icap.sock")


def run(server: Server, place: str, work: Callable[[], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        async with listening(server, place):
            return await work()

    return asyncio.run(main())


async def scan(scanner: IcapScanner, one: Object | None = None) -> ScanResult:
    try:
        return await scanner.scan(cast("Transfer", one or Object()))
    finally:
        scanner.stop()


# -- what is asked -------------------------------------------------------------------------------


def test_an_object_is_shown_whole_behind_its_preview_and_is_clean(place: str) -> None:
    server = Server()
    result = run(server, place, lambda: scan(scanner_at(place)))
    assert result == ScanResult(CLEAN, "", "Scripted/v1")
    assert server.previews == [OBJECT[:1024]]
    assert server.bodies == [OBJECT]
    assert server.asked == ["OPTIONS", "RESPMOD", "RESPMOD"]
    assert server.heads[0].startswith("RESPMOD icap://icap.example:1344/avscan ICAP/1.0\r\n")
    assert "\r\nAllow: 204, 206\r\nPreview: 1024\r\n" in server.heads[0]


def test_an_object_no_longer_than_the_preview_is_shown_in_it(place: str) -> None:
    server = Server()
    for content in (b"", b"x", OBJECT[:1024]):
        result = run(server, place, lambda: scan(scanner_at(place), Object(content)))  # noqa: B023
        assert result.outcome is CLEAN
    assert server.bodies == [b"", b"x", OBJECT[:1024]]


def test_a_service_without_previews_gets_all_at_once(place: str) -> None:
    server = Server(Preview=None)
    assert run(server, place, lambda: scan(scanner_at(place))).outcome is CLEAN
    assert server.bodies == [OBJECT]
    assert "Preview" not in server.heads[0]


def test_what_is_to_be_transferred_completely_has_no_preview(place: str) -> None:
    server = Server(Transfer_Complete="exe, txt")
    assert run(server, place, lambda: scan(scanner_at(place))).outcome is CLEAN
    assert "Preview" not in server.heads[0]


def test_what_a_service_would_ignore_by_its_name_is_shown_all_the_same(place: str) -> None:
    server = Server(Transfer_Ignore="txt, jpg")
    assert run(server, place, lambda: scan(scanner_at(place))).outcome is CLEAN
    assert server.bodies == [OBJECT]


@pytest.mark.parametrize(
    ("methods", "is_upload", "method"),
    [
        ("RESPMOD, REQMOD", False, "RESPMOD"),
        ("RESPMOD, REQMOD", True, "REQMOD"),
        ("RESPMOD", True, "RESPMOD"),
        ("REQMOD", False, "REQMOD"),
    ],
)
def test_an_upload_is_a_request_where_the_service_takes_requests(
    place: str, methods: str, is_upload: bool, method: str
) -> None:
    server = Server(Methods=methods)
    one = Object(is_upload=is_upload)
    assert run(server, place, lambda: scan(scanner_at(place), one)).outcome is CLEAN
    assert server.asked[-1] == method


def test_connections_are_used_again_and_options_asked_for_once(place: str) -> None:
    server = Server()

    async def thrice() -> list[ScanResult]:
        scanner = scanner_at(place)
        results = [await scanner.scan(cast("Transfer", Object())) for _ in range(3)]
        scanner.stop()
        return results

    assert {one.outcome for one in run(server, place, thrice)} == {CLEAN}
    assert server.asked == ["OPTIONS", *["RESPMOD"] * 4]
    assert server.connections == 1


def test_a_connection_that_is_to_be_closed_is_not_used_again(place: str) -> None:
    server = Server()
    server.at_end = answer("204 No Content", "Connection: close")

    async def twice() -> None:
        scanner = scanner_at(place)
        for _ in range(2):
            assert (await scanner.scan(cast("Transfer", Object()))).outcome is CLEAN
        scanner.stop()

    run(server, place, twice)
    assert server.connections == 2


# -- what is answered ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "outcome", "reason"),
    [
        (UNCHANGED, CLEAN, ""),
        (adapted(OBJECT), CLEAN, ""),
        (adapted(OBJECT[:9], "0; use-original-body=9", "206 Partial Content"), CLEAN, ""),
        (adapted(b"", "0; use-original-body=0", "206 Partial Content"), CLEAN, ""),
        (adapted(b"<html>no", http="403 Forbidden"), FOUND, "blocked: HTTP/1.1 403 Forbidden"),
        (PROBED.replace(b"Limit", b"Eicar"), FOUND, "Eicar"),
        (answer("204 No", "X-Virus-ID: Worm"), FOUND, "Worm"),
        (answer("204 No", "X-Virus-ID: no threats"), CLEAN, ""),
        (
            answer("204 No", "X-Infection-Found: Threat=Heuristics.Limits.Exceeded.MaxFileSize;"),
            NOT_SCANNED,
            "Heuristics.Limits.Exceeded.MaxFileSize",
        ),
        (
            answer("204 No", "X-Infection-Found: Threat=Heuristics.Encrypted.Zip;"),
            ScanOutcome.ENCRYPTED,
            "Heuristics.Encrypted.Zip",
        ),
        (adapted(b"other"), MODIFIED, "the ICAP service has 5 other bytes for it"),
        (adapted(OBJECT + b"!"), MODIFIED, "the ICAP service has 76801 other bytes for it"),
        (adapted(OBJECT[:-1]), NOT_SCANNED, "76799 of 76800 bytes came back"),
        (adapted(b""), NOT_SCANNED, "0 of 76800 bytes came back"),
        (answer("500 Server error"), NOT_SCANNED, "the ICAP service answers 500 Server error"),
        (answer("503 Overloaded"), NOT_SCANNED, "the ICAP service answers 503 Overloaded"),
        (answer("200 OK"), NOT_SCANNED, "200 without a response inside"),
        (answer("204 No") + b"x", NOT_SCANNED, "more than was asked"),
        (b"HTTP/1.1 200 OK\r\n\r\n", NOT_SCANNED, "no ICAP answer"),
        (adapted(OBJECT)[:-100], NOT_SCANNED, "before its answer was whole"),
        (
            adapted(b"", "0; use-original-body=76801", "206 Partial Content"),
            NOT_SCANNED,
            "use-original-body=76801 of 76800 bytes",
        ),
        (answer("100 Continue") + UNCHANGED, NOT_SCANNED, "100 Continue, and there is no more"),
    ],
)
def test_every_answer_has_its_outcome(
    place: str, said: bytes, outcome: ScanOutcome, reason: str
) -> None:
    """S3."""
    server = Server()
    server.at_end, server.closes = said, True
    result = run(server, place, lambda: scan(scanner_at(place)))
    assert result.outcome is outcome
    assert reason in result.reason


@pytest.mark.parametrize(
    ("said", "body"),
    [
        (adapted(b"other"), b"other"),
        (adapted(OBJECT[:5000] + b"#"), OBJECT[:5000] + b"#"),
        (
            adapted(b"<!-- -->", "0; use-original-body=100", "206 Partial Content"),
            b"<!-- -->" + OBJECT[100:],
        ),
        (
            adapted(OBJECT[:10], "0; use-original-body=70000", "206 Partial Content"),
            OBJECT[:10] + OBJECT[70000:],
        ),
    ],
)
def test_another_body_is_told_whole(place: str, said: bytes, body: bytes) -> None:
    server = Server()
    server.at_end = said
    result = run(server, place, lambda: scan(scanner_at(place)))
    assert (result.outcome, result.body) == (MODIFIED, body)


def test_another_body_of_a_request_is_told_too(place: str) -> None:
    server = Server()
    head = b"PUT /x HTTP/1.1\r\n\r\n"
    place_of = f"Encapsulated: req-hdr=0, req-body={len(head)}"
    server.at_end = answer("200 OK", place_of) + head + b"3\r\nnew\r\n0\r\n\r\n"
    result = run(server, place, lambda: scan(scanner_at(place), Object(is_upload=True)))
    assert (result.outcome, result.body) == (MODIFIED, b"new")


def test_a_response_to_a_request_blocks_it(place: str) -> None:
    server = Server()
    server.at_end = adapted(b"no", http="200 OK")
    result = run(server, place, lambda: scan(scanner_at(place), Object(is_upload=True)))
    assert (result.outcome, result.reason) == (FOUND, "blocked: HTTP/1.1 200 OK")


@pytest.mark.parametrize("start", [0, 20_000])
def test_another_body_above_the_bound_is_no_scan(place: str, start: int) -> None:
    server = Server()
    server.at_end = adapted(OBJECT[:start] + b"#" * 20_000)
    scanner = scanner_at(place, modified_bytes_max=10_000)
    result = run(server, place, lambda: scan(scanner))
    assert (result.outcome, result.body) == (NOT_SCANNED, None)
    assert "modified_bytes_max reached (10000)" in result.reason


def test_204_outside_a_preview_counts_only_where_it_was_allowed(place: str) -> None:
    server = Server(Preview=None, Allow=None)
    result = run(server, place, lambda: scan(scanner_at(place)))
    assert result.outcome is NOT_SCANNED
    assert "204 without Allow: 204" in result.reason


# -- what is not believed ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said", [UNCHANGED, adapted(b"", "0; use-original-body=0", "206 Partial Content")]
)
def test_a_service_that_did_not_want_to_see_the_rest_has_not_scanned(
    place: str, said: bytes
) -> None:
    """L7: so c-icap passes what is above its MaxObjectSize."""
    server = Server()
    server.at_preview = said
    result = run(server, place, lambda: scan(scanner_at(place)))
    assert result.outcome is NOT_SCANNED
    assert result.reason == "the ICAP service did not want to see all of it"
    trusting = scanner_at(place, trusts_limits=True)
    assert run(server, place, lambda: scan(trusting)).outcome is CLEAN


def test_a_find_in_the_preview_is_one(place: str) -> None:
    server = Server()
    server.at_preview = adapted(b"no", http="403 Forbidden")
    assert run(server, place, lambda: scan(scanner_at(place))).outcome is FOUND


@pytest.mark.parametrize("said", [UNCHANGED, adapted(b"other")])
def test_a_service_that_passes_over_its_limits_in_silence_is_not_believed(
    place: str, said: bytes
) -> None:
    """L7."""
    server = Server()
    server.at_probe = said
    result = run(server, place, lambda: scan(scanner_at(place)))
    assert result.outcome is NOT_SCANNED
    assert "does not say when it reaches a limit" in result.reason
    assert server.bodies == []


def test_an_operator_may_believe_it_all_the_same(place: str) -> None:
    server = Server()
    server.at_probe = UNCHANGED
    result = run(server, place, lambda: scan(scanner_at(place, trusts_limits=True)))
    assert result.outcome is CLEAN
    assert server.asked == ["OPTIONS", "RESPMOD"]


def test_what_is_answered_before_all_of_it_was_sent_is_not_clean(place: str) -> None:
    """S3: the answer comes while the object is on its way, and the rest is never read."""

    class Hasty(Server):
        async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while b"\r\n\r\n" not in await reader.read(65536):
                pass
            writer.write(UNCHANGED)
            await asyncio.Event().wait()

    async def main() -> ScanResult:
        scanner = scanner_at(place, object_bytes_max=64 << 20, trusts_limits=False)
        async with listening(Server(Preview=None), place):
            assert (await scanner.scan(cast("Transfer", Object()))).outcome is CLEAN
        scanner.stop()
        async with listening(Hasty(), place):
            return await scan(scanner, Object(bytes(32 << 20)))

    assert asyncio.run(main()).outcome is NOT_SCANNED


# -- tags ----------------------------------------------------------------------------------------


def test_the_tag_is_the_version_of_the_signatures(place: str) -> None:
    server = Server()
    assert run(server, place, lambda: scanner_version(place)) == "Scripted/v1"
    assert run(Server(ISTag=None), place, lambda: scanner_version(place)) == ""


async def scanner_version(place: str) -> str:
    scanner = scanner_at(place)
    version = await scanner.version()
    scanner.stop()
    return version


def test_nobody_there_has_no_version(place: str) -> None:
    assert asyncio.run(scanner_version(place)) == ""


def test_another_tag_in_an_answer_has_the_service_asked_and_probed_anew(place: str) -> None:
    server = Server()

    async def main() -> list[str]:
        scanner = scanner_at(place)
        await scanner.scan(cast("Transfer", Object()))
        server.options["ISTag"] = '"v2"'
        server.at_end = UNCHANGED.replace(b"v1", b"v2")
        server.at_probe = PROBED.replace(b"v1", b"v2")
        await scanner.scan(cast("Transfer", Object()))
        server.asked.clear()
        last = await scanner.scan(cast("Transfer", Object()))
        version = await scanner.version()
        scanner.stop()
        return [last.signatures, version]

    assert run(server, place, main) == ["Scripted/v2", "Scripted/v2"]
    assert server.asked == ["OPTIONS", "RESPMOD", "RESPMOD"]


# -- when it is away -----------------------------------------------------------------------------


def test_nobody_at_the_socket_is_no_verdict(place: str) -> None:
    result = asyncio.run(scan(scanner_at(place)))
    assert result == ScanResult(NOT_SCANNED, "it cannot be asked: ENOENT", "")


def test_an_object_over_the_limit_is_not_even_sent(place: str) -> None:
    server = Server()
    result = run(server, place, lambda: scan(scanner_at(place, object_bytes_max=10)))
    assert result.outcome is NOT_SCANNED
    assert "object_bytes_max (10)" in result.reason
    assert server.asked == []


def test_one_that_never_answers_is_given_up(place: str) -> None:
    server = Server()
    server.before_answer = asyncio.Event().wait  # type: ignore[assignment]
    result = run(server, place, lambda: scan(scanner_at(place, timeout_s=0.3)))
    assert result.reason == "no answer within 0.3 s"


def test_one_that_restarts_is_waited_for(place: str) -> None:
    scanner = scanner_at(place, wait_s=20.0)

    async def main() -> ScanResult:
        waiting = asyncio.ensure_future(scan(scanner))
        while scanner._reach.away_since is None:
            await asyncio.sleep(0)
        async with listening(Server(), place):
            return await waiting

    assert asyncio.run(main()).outcome is CLEAN


def test_a_kept_connection_that_was_closed_meanwhile_costs_no_verdict(place: str) -> None:
    async def main() -> ScanResult:
        scanner = scanner_at(place)
        async with listening(Server(), place):
            assert (await scanner.scan(cast("Transfer", Object()))).outcome is CLEAN
        assert len(scanner._idle) == 1
        async with listening(Server(), place):
            return await scan(scanner)

    assert asyncio.run(main()).outcome is CLEAN


def test_one_that_goes_away_in_the_middle_is_asked_again(place: str) -> None:
    server = Server()
    server.at_end = b""

    async def come_to_reason() -> None:
        server.closes = len(server.bodies) == 1
        if len(server.bodies) == 2:
            server.at_end = UNCHANGED

    server.before_answer = come_to_reason
    assert run(server, place, lambda: scan(scanner_at(place))).outcome is CLEAN
    assert server.asked == ["OPTIONS", "RESPMOD", "RESPMOD"] * 2


@pytest.mark.parametrize(("said", "most"), [(None, 3), ("2", 2), ("0", 1), ("100", 3)])
def test_no_more_are_asked_at_once_than_both_allow(place: str, said: str | None, most: int) -> None:
    server = Server(Max_Connections=said)
    scanner = scanner_at(place, connections_max=3)
    counts = SimpleNamespace(now=0, most=0)

    async def count() -> None:
        counts.now += 1
        counts.most = max(counts.most, counts.now)
        for _ in range(20):
            await asyncio.sleep(0)
        counts.now -= 1

    server.before_answer = count

    async def many() -> list[ScanResult]:
        await scanner.scan(cast("Transfer", Object()))
        results = await asyncio.gather(
            *(scanner.scan(cast("Transfer", Object())) for _ in range(10))
        )
        scanner.stop()
        return results

    assert {one.outcome for one in run(server, place, many)} == {CLEAN}
    assert counts.most == most


def test_a_scan_that_is_cancelled_leaves_no_descriptor(place: str) -> None:
    server = Server()
    scanner = scanner_at(place)
    asked = asyncio.Event()

    async def hang() -> None:
        asked.set()
        await asyncio.Event().wait()

    async def main() -> int:
        async with listening(server, place):
            await scanner.scan(cast("Transfer", Object()))
            server.before_answer = hang
            before = len(os.listdir("/proc/self/fd"))
            waiting = asyncio.ensure_future(scanner.scan(cast("Transfer", Object())))
            await asked.wait()
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            assert scanner._idle == []
            return len(os.listdir("/proc/self/fd")) - before

    # Its end of the one connection is closed; the scripted server still has its own.
    assert asyncio.run(main()) == -1


def test_what_the_system_policy_keeps_the_gate_from_is_not_scanned_and_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = SocketAddress("127.0.0.1", listener.getsockname()[1])
        scanner = scanner_at(address, refusal="[system] does not let the gate", wait_s=60.0)
        result = asyncio.run(asyncio.wait_for(scan(scanner), timeout=30))
    assert result.outcome is NOT_SCANNED
    assert "[system] does not let the gate" in result.reason


# -- TLS -----------------------------------------------------------------------------------------

AUTHORITY = authority("of ICAP servers")


@contextlib.asynccontextmanager
async def listening_inside_tls(
    server: Server, folder: pathlib.Path, name: str = "icap.test"
) -> AsyncIterator[SocketAddress]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*AUTHORITY.server(name).write(folder, "server"))
    async with serving(server) as serve:
        listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        try:
            yield SocketAddress(*listener.sockets[0].getsockname())
        finally:
            listener.close()


def encrypted(address: SocketAddress, **changed: Any) -> IcapScanner:
    chosen = {"encryption": ScannerTls("icap.test", AUTHORITY.pem)} | changed
    return scanner_at(address, **chosen)


@pytest.mark.parametrize("size", [0, 1, 1024, 1025, 3_000_000])
def test_inside_tls_an_object_is_shown_whole_and_is_clean(
    tmp_path: pathlib.Path, size: int
) -> None:
    server, content = Server(), (OBJECT * 50)[:size]

    async def main() -> list[ScanResult]:
        async with listening_inside_tls(server, tmp_path) as address:
            scanner = encrypted(address, object_bytes_max=4 << 20)
            results = [await scanner.scan(cast("Transfer", Object(content))) for _ in range(2)]
            assert len(scanner._idle) == 1
            scanner.stop()
            return results

    assert asyncio.run(main()) == [ScanResult(CLEAN, "", "Scripted/v1")] * 2
    assert server.previews == [content[:1024]] * 2
    if size > 1024:
        assert server.bodies == [content] * 2


@pytest.mark.parametrize(
    ("encryption", "reason"),
    [
        (ScannerTls("other.test", AUTHORITY.pem), "its certificate is not good: Hostname mismatch"),
        (
            ScannerTls("127.0.0.1", AUTHORITY.pem),
            "its certificate is not good: IP address mismatch",
        ),
        (
            ScannerTls("icap.test", authority("another").pem),
            "its certificate is not good: unable to get local issuer certificate",
        ),
        (
            ScannerTls("icap.test"),
            "its certificate is not good: unable to get local issuer certificate",
        ),
    ],
    ids=["another name", "an address", "another authority", "those of the machine"],
)
def test_a_server_that_does_not_prove_its_name_is_shown_nothing(
    tmp_path: pathlib.Path, encryption: ScannerTls, reason: str
) -> None:
    server = Server()

    async def main() -> ScanResult:
        async with listening_inside_tls(server, tmp_path) as address:
            return await scan(encrypted(address, encryption=encryption))

    result = asyncio.run(main())
    assert result.outcome is NOT_SCANNED
    assert result.reason.startswith(reason)
    assert server.asked == []


def test_a_server_in_clear_is_shown_nothing() -> None:
    server = Server()

    async def main() -> ScanResult:
        async with serving(server) as serve:
            listener = await asyncio.start_server(serve, "127.0.0.1", 0)
            address = SocketAddress(*listener.sockets[0].getsockname())
            result = await scan(encrypted(address, timeout_s=0.3))
            listener.close()
            return result

    result = asyncio.run(main())
    assert (result.outcome, result.reason) == (NOT_SCANNED, "no answer within 0.3 s")
    assert server.asked == []


def test_an_end_that_tls_does_not_confirm_is_no_end_of_an_answer(tmp_path: pathlib.Path) -> None:
    """A body that ends with its connection could be cut by whoever is on the way."""
    server = Server()

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"ICAP/1.0 200 OK\r\nMethods: RESPMOD\r\n")
        await writer.drain()
        # Nothing inside TLS says that this was all: the connection is aborted.

    server.serve = cut  # type: ignore[method-assign]

    async def main() -> ScanResult:
        async with listening_inside_tls(server, tmp_path) as address:
            return await scan(encrypted(address))

    result = asyncio.run(main())
    assert result.outcome is NOT_SCANNED
    assert result.reason in {"it broke off inside TLS", "it cannot be asked: ECONNRESET"}


# -- its life ------------------------------------------------------------------------------------


def test_one_that_a_reload_leaves_out_finishes_and_keeps_no_connection(place: str) -> None:
    server = Server()
    scanner = scanner_at(place)
    asked, go = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        asked.set()
        await go.wait()

    server.before_answer = hold

    async def main() -> ScanResult:
        waiting = asyncio.ensure_future(scanner.scan(cast("Transfer", Object())))
        await asked.wait()
        scanner.retire()
        go.set()
        return await waiting

    assert run(server, place, main).outcome is CLEAN
    assert scanner._idle == []


def test_one_that_is_stopped_has_not_scanned_what_it_was_asked(place: str) -> None:
    server = Server()
    scanner = scanner_at(place)
    asked = asyncio.Event()

    async def hang() -> None:
        asked.set()
        await asyncio.Event().wait()

    server.before_answer = hang

    async def main() -> ScanResult:
        waiting = asyncio.ensure_future(scanner.scan(cast("Transfer", Object())))
        await asked.wait()
        scanner.stop()
        await scanner.wait_ended()
        return await waiting

    result = run(server, place, main)
    assert (result.outcome, result.reason) == (NOT_SCANNED, "the scanner was stopped")


def test_one_that_reloads_left_out_at_work_is_ended_with_the_service(place: str) -> None:
    server = Server()
    scanner = scanner_at(place)
    asked = asyncio.Event()

    async def hang() -> None:
        asked.set()
        await asyncio.Event().wait()

    server.before_answer = hang

    async def main() -> ScanResult:
        in_force = Scanners(cast("CompletionPort", None), lambda _name, _trouble: None)
        in_force.apply({"icap": scanner})
        waiting = asyncio.ensure_future(scanner.scan(cast("Transfer", Object())))
        await asked.wait()
        in_force.apply({})
        in_force.apply({})
        assert not waiting.done()
        await in_force.stop()
        assert scanner.is_idle
        return await waiting

    assert run(server, place, main).reason == "the scanner was stopped"


def test_it_shows_what_it_did_and_what_is_wrong(place: str) -> None:
    server = Server()
    scanner = scanner_at(place)
    told: list[str] = []

    async def main() -> None:
        assert isinstance(scanner, ManagedScanner)
        scanner.start(cast("CompletionPort", None), told.append)
        async with listening(server, place):
            await scanner.scan(cast("Transfer", Object()))
            server.at_end = PROBED
            await scanner.scan(cast("Transfer", Object()))
        seen = scanner.view()
        assert sum(seen.answer_buckets) == 2
        assert replace(seen, answer_s=0.0, answer_buckets=[]) == ScannerView(
            name="icap", kind="icap", signatures="Scripted/v1", asked=2, found=1, unfinished=0
        )
        for _ in range(2):
            await scanner.scan(cast("Transfer", Object()))
        view = scanner.view()
        assert (view.state, view.problem, view.unfinished) == ("failed", told[0], 2)
        async with listening(server, place):
            await scanner.scan(cast("Transfer", Object()))
            assert scanner.view().problem == ""
            scanner.stop()

    asyncio.run(main())
    assert told == ["it cannot be asked: ENOENT"]
