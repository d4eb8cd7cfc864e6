"""Held bodies through the web proxy: 1 GiB beside squid with c-icap's echo, and 200 at a time.

`python -m benchmarks.web.held` runs these alone. The object lies in memory; a bare server sends it
and notes when its last byte has left. Clients check the length and the hash of what they get.
"""

import contextlib
import functools
import hashlib
import os
import socket
import statistics
import threading
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks import backend, packages, relays, spool
from benchmarks.cpu_time import memory, peak_rss_bytes, process_tree, reset_peak_rss
from benchmarks.load import Load, settled_cpu_time_s
from benchmarks.pairs import Pairs, rounds
from benchmarks.processes import (
    RELAY_CORE,
    START_TIMEOUT_S,
    Bench,
    BenchmarkError,
    Running,
    free_port,
)
from benchmarks.ratios import median_value
from benchmarks.results import Result, Target, print_table
from benchmarks.web.peers import SQUID_CONF

OBJECT_BYTES = 1 << 30
PARALLEL, PARALLEL_BYTES = 200, 100 << 20
RECEIVE_BYTES = BLOCK_BYTES = 1 << 20
TIMEOUT_S = 600.0
PAIRS = 5

CPU = Target("web-held", "CPU of 1 GiB held through the web proxy / squid + c-icap echo", 1.5)
RSS = Target("web-held-rss", "growth of resident memory in a transfer", 32.0, "MiB")
FIRST_BYTE = Target("web-held-first", "the client's first byte after the server's last", 50.0, "ms")
P99 = Target("web-held-p99", "p99 of small requests during a transfer / without", 2.0)
PARALLEL_RSS = Target("web-held-200", "memory of 200 transfers of 100 MiB, held", 256.0, "MiB")
PARALLEL_FDS = Target("web-held-200-fds", "descriptors of the same, for each", 3.5, "")

ICAP_CONF = """\
icap_enable on
icap_preview_enable off
icap_persistent_connections on
icap_service echo respmod_precache bypass=off icap://127.0.0.1:{icap}/echo
adaptation_access echo allow all
"""

C_ICAP_CONF = """\
PidFile {directory}/c-icap.pid
CommandsSocket {directory}/c-icap.ctl
Timeout 300
MaxKeepAliveRequests 100
KeepAliveTimeout 600
StartServers 1
MaxServers 1
MinSpareThreads 10
MaxSpareThreads 20
ThreadsPerChild 20
MaxRequestsPerChild 0
Port 127.0.0.1:{port}
TmpDir {directory}
MaxMemObject 131072
DebugLevel 0
ModulesDir {modules}
ServicesDir {modules}
TemplateDir {directory}
LoadMagicFile /etc/c-icap/c-icap.magic
RemoteProxyUsers off
ServerLog {directory}/server.log
AccessLog {directory}/access.log
Service echo srv_echo.so
"""
MODULES = Path("/usr/lib/x86_64-linux-gnu/c_icap")


@dataclass(frozen=True)
class Source:
    """Where the object comes from."""

    port: int
    size: int
    sha256: str


class Origin:
    """Serves one object, and notes when its last byte has left it."""

    def __init__(self, path: Path, size: int) -> None:
        self.ended_at = 0.0
        self._path, self._size = path, size
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        with client, self._path.open("rb") as file, contextlib.suppress(OSError):
            while client.recv(65536):
                head = f"HTTP/1.1 200 OK\r\nContent-Length: {self._size}\r\n\r\n"
                client.sendall(head.encode())
                sent = 0
                while sent < self._size:
                    sent += os.sendfile(client.fileno(), file.fileno(), sent, self._size - sent)
                self.ended_at = time.monotonic()

    def close(self) -> None:
        """Takes no further clients."""
        self._listener.close()


@contextlib.contextmanager
def served(bench: Bench, size: int) -> Generator[tuple[Origin, Source]]:
    """Runs the server of an object that lies in memory: its disk is not to be measured."""
    shared = Path("/dev/shm")
    path = bench.make_directory("sluicegate-bench", shared if shared.is_dir() else None) / "object"
    digest = hashlib.sha256()
    block = bytearray(os.urandom(BLOCK_BYTES))
    with path.open("wb") as file:
        for index in range(size // BLOCK_BYTES):
            block[:8] = index.to_bytes(8, "big")
            file.write(block)
            digest.update(block)
    with contextlib.closing(Origin(path, size)) as server:
        yield server, Source(server.port, size, digest.hexdigest())
    path.unlink()


@contextlib.contextmanager
def squid_with_echo(bench: Bench) -> Generator[tuple[relays.Relay, Running]]:
    """Runs squid with c-icap's echo service, both on the core of the relay."""
    echo_directory, directory = bench.make_directory("c-icap"), bench.make_directory("squid")
    icap, port = free_port(), free_port()
    (echo_directory / "c-icap.conf").write_text(
        C_ICAP_CONF.format(directory=echo_directory, port=icap, modules=MODULES)
    )
    bench.directory.chmod(0o755)
    directory.chmod(0o777)  # it gives up root
    text = SQUID_CONF.format(port=port, directory=directory)
    text += ICAP_CONF.format(icap=icap)
    (directory / "squid.conf").write_text(text)
    service = ["c-icap", "-N", "-f", str(echo_directory / "c-icap.conf")]
    proxy = ["squid", "-N", "-f", str(directory / "squid.conf")]
    with (
        bench.running("c-icap", service, core=RELAY_CORE, port=icap) as echo,
        bench.running("squid", proxy, core=RELAY_CORE, port=port) as running,
    ):
        yield relays.Relay(running, port, directory), echo


def fetch(
    proxy: int, source: Source, *, check_hash: bool = False, client: str = "127.0.0.1"
) -> float:
    """Fetches the object from an address; returns when its first byte came.

    Raises:
        BenchmarkError: it did not come whole.
    """
    digest, received, first_at, head = hashlib.sha256(), 0, 0.0, b""
    buffer = memoryview(bytearray(RECEIVE_BYTES))
    site = f"127.0.0.1:{source.port}"
    request = f"GET http://{site}/object HTTP/1.1\r\nHost: {site}\r\nConnection: close\r\n\r\n"
    try:
        with socket.create_connection(("127.0.0.1", proxy), TIMEOUT_S, (client, 0)) as stream:
            stream.sendall(request.encode())
            while count := stream.recv_into(buffer):
                data = buffer[:count]
                if not head.endswith(b"\r\n\r\n"):
                    whole = head + bytes(data)
                    end = whole.find(b"\r\n\r\n") + 4
                    if end < 4:
                        head = whole
                        continue
                    head, data = whole[:end], memoryview(whole[end:])
                if data and not first_at:
                    first_at = time.monotonic()
                received += len(data)
                if check_hash:
                    digest.update(data)
    except OSError as error:
        raise BenchmarkError(f"the transfer failed after {received} bytes: {error}") from error
    is_changed = check_hash and digest.hexdigest() != source.sha256
    if not head.startswith(b"HTTP/1.1 200") or received != source.size or is_changed:
        raise BenchmarkError(f"{received} bytes of {source.size} came, or others: {head[:300]!r}")
    return first_at


def check_serves(proxy: int) -> None:
    """Returns once the worker answers: the supervisor's listener accepts before that has begun.

    Raises:
        BenchmarkError: it answers something else than that policy refuses the request.
    """
    request = b"GET http://127.0.0.1:1/ HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n"
    with socket.create_connection(("127.0.0.1", proxy), START_TIMEOUT_S) as stream:
        stream.sendall(request)
        answer = stream.recv(RECEIVE_BYTES)
    if not answer.startswith(b"HTTP/1.1 403 "):
        raise BenchmarkError(f"the gate let through what it should refuse: {answer[:300]!r}")


def measure(bench: Bench, load: Load, pairs: int, backend_name: str) -> list[Result]:
    """Measures the rows of one object of 1 GiB, in interleaved pairs."""
    urgent = spool.real_time_prefix()
    costs, delays = Pairs(), Pairs()
    growths_mib: list[float] = []
    firsts_ms: list[float] = []
    with served(bench, OBJECT_BYTES) as (server, source), backend.nginx(bench, urgent) as web:
        published = [
            relays.Published("proxy", server.port, ("hold",), is_proxy=True),
            relays.Published("web", web),
        ]
        for count in rounds(pairs):
            with (
                relays.sluicegate(bench, published, backend=backend_name) as ours,
                squid_with_echo(bench) as (peer, echo),
            ):
                through_ours = functools.partial(_fetch, ours.port, source)
                through_peer = functools.partial(_fetch, peer.port, source)
                fetch(ours.port, source, check_hash=True)
                fetch(peer.port, source, check_hash=True)
                costs.extend(
                    count,
                    functools.partial(_cpu_s, (ours.running,), through_ours),
                    functools.partial(_cpu_s, (peer.running, echo), through_peer),
                )
                for _ in range(count):
                    growths_mib.append(spool.rss_growth_mib(ours, through_ours))
                    first_at = fetch(ours.port, source)
                    firsts_ms.append(1000 * (first_at - server.ended_at))
                delays.extend(
                    count,
                    functools.partial(spool.p99_us_during, load, ours, urgent, through_ours),
                    functools.partial(spool.p99_us_during, load, ours, urgent, spool.rest),
                )
    note = "the peer is the same connection without a transfer"
    cost_ours, cost_peer = statistics.median(costs.ours), statistics.median(costs.theirs)
    late, calm = statistics.median(delays.ours), statistics.median(delays.theirs)
    return [
        Result(CPU, costs.ratio(), cost_ours, cost_peer, "s/GiB", pairs),
        _median(RSS, growths_mib, "MiB"),
        _median(FIRST_BYTE, firsts_ms, "ms"),
        Result(P99, delays.ratio(), late, calm, "us", pairs, note),
    ]


def measure_parallel(bench: Bench, backend_name: str) -> list[Result]:
    """Holds 200 objects at a time, all of them until the last has come."""
    with served(bench, PARALLEL_BYTES) as (server, source):
        published = [relays.Published("proxy", server.port, ("hold-all",), is_proxy=True)]
        with relays.sluicegate(bench, published, backend=backend_name) as ours:
            pid = ours.running.pid
            check_serves(ours.port)
            before = memory(pid).rss_bytes
            reset_peak_rss(pid)
            began = time.monotonic()
            with _descriptors_of(pid) as counts, ThreadPoolExecutor(PARALLEL) as clients:
                fetch_checked = functools.partial(fetch, ours.port, source, check_hash=True)
                # Of ten clients: one may hold no more than spool_client_bytes_max.
                transfers = [
                    clients.submit(fetch_checked, client=f"127.0.0.{1 + number % 10}")
                    for number in range(PARALLEL)
                ]
                for one in transfers:
                    one.result()
            took_s = time.monotonic() - began
            grown_mib = max(peak_rss_bytes(pid) - before, 0) / (1 << 20)
    rate = PARALLEL * PARALLEL_BYTES / took_s / 1e6
    note = f"{PARALLEL} objects with the right hash in {took_s:.0f} s: {rate:.0f} MB/s in and out"
    most = max(counts)
    return [
        _median(PARALLEL_RSS, [grown_mib], "MiB", note),
        _median(PARALLEL_FDS, [most / PARALLEL], "", f"{most} at most"),
    ]


@contextlib.contextmanager
def _descriptors_of(pid: int) -> Generator[list[int]]:
    """Counts the open descriptors of a process, again and again."""
    counts = [0]
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(0.2):
            counts.append(sum(map(_descriptor_count, process_tree(pid))))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield counts
    finally:
        is_over.set()
        watcher.join()


def _descriptor_count(pid: int) -> int:
    with contextlib.suppress(FileNotFoundError):
        return len(os.listdir(f"/proc/{pid}/fd"))
    return 0


def _fetch(proxy: int, source: Source) -> None:
    fetch(proxy, source)


def _cpu_s(processes: tuple[Running, ...], transfer: spool.Fetch) -> float:
    before_s = sum(map(settled_cpu_time_s, processes))
    transfer()
    return sum(map(settled_cpu_time_s, processes)) - before_s


def _median(target: Target, values: list[float], unit: str, note: str = "") -> Result:
    most = note or f"the largest of {len(values)} was {max(values):.2f} {unit}"
    middle = statistics.median(values)
    return Result(target, median_value(values), middle, None, unit, len(values), most)


def main() -> None:
    """Measures all rows, with the defaults of `make bench-web`."""
    packages.install_missing()
    with Bench() as bench:
        results = measure(bench, Load(bench), PAIRS, "io_uring")
        print_table([*results, *measure_parallel(bench, "io_uring")])


if __name__ == "__main__":
    main()
