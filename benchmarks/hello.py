"""`python -m benchmarks.hello`: what judging a ClientHello costs a tunnel that is not opened.

One process, two proxy listeners: the rule of one wants the hello judged, the other's does not. The
load opens tunnels by CONNECT, one after the other, says a browser's hello, hears the server's first
record, and goes; the figure is CPU time of the gate per tunnel, in interleaved pairs with fresh
processes every few pairs. The exit status is 1 when the target is missed.
"""

import argparse
import functools
import os
import socket
import statistics
import sys
import threading
import time

from benchmarks import relays
from benchmarks.load import settled_cpu_time_s
from benchmarks.pairs import Pairs, rounds
from benchmarks.processes import LOAD_CORE, Bench, BenchmarkError
from benchmarks.relays import Published, Relay
from benchmarks.results import Result, Target, print_table
from sluicegate.protocols.tls_hello import HelloReader

PAIRS = 15
TUNNELS, WARM_UP = 1_500, 300

TARGET = Target("tls-hello", "CPU per tunnel: hello judged / not looked at", 1.6)
"""Two looks in Python, and a parse: a bound that a regression would pass."""

NAME = b"127.0.0.1"
"""What tunnels are asked for, too: there is no DNS here. It is read and compared as a name is."""


def vector(size: int, content: bytes) -> bytes:
    """Bytes behind their length."""
    return len(content).to_bytes(size, "big") + content


def make_hello() -> bytes:
    """A hello as long as a browser's, with a post-quantum key share."""
    shares = b"\x11\xec" + vector(2, bytes(1216)) + b"\x00\x1d" + vector(2, bytes(32))
    said = {
        0: vector(2, b"\0" + vector(2, NAME)),
        10: vector(2, b"\x11\xec\x00\x1d\x00\x17"),
        13: vector(2, b"\x04\x03\x08\x04\x04\x01"),
        16: vector(2, vector(1, b"h2") + vector(1, b"http/1.1")),
        43: vector(1, b"\x03\x04\x03\x03"),
        51: vector(2, shares),
        21: bytes(200),
    }
    listed = b"".join(kind.to_bytes(2, "big") + vector(2, raw) for kind, raw in said.items())
    suites = b"\x13\x01\x13\x02\x13\x03\xc0\x2b"
    content = b"\x03\x03" + bytes(32) + vector(1, bytes(32)) + vector(2, suites) + b"\x01\x00"
    message = b"\x01" + vector(3, content + vector(2, listed))
    return b"\x16\x03\x01" + vector(2, message)


HELLO = make_hello()
ANSWER = b"\x16\x03\x03" + vector(2, b"\x02" + vector(3, b"\x03\x03" + bytes(range(100))))


def serve(listener: socket.socket) -> None:
    """Be the server: hear a hello, answer, wait for the end."""
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        with client:
            heard = 0
            while heard < len(HELLO) and (piece := client.recv(65536)):
                heard += len(piece)
            if heard:
                client.sendall(ANSWER)
                client.recv(1)


def open_tunnels(port: int, server: int, count: int) -> None:
    """Be so many clients, one after the other."""
    where = b"%s:%d" % (NAME, server)
    asked = b"CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (where, where)
    for _ in range(count):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(asked)
            if not client.recv(4096).startswith(b"HTTP/1.1 200"):
                raise BenchmarkError("a tunnel was refused")
            client.sendall(HELLO)
            if client.recv(4096) != ANSWER:
                raise BenchmarkError("a hello was refused")


def cost(relay: Relay, port: int, server: int) -> float:
    """CPU time of the gate for one tunnel."""
    before_s = settled_cpu_time_s(relay.running)
    open_tunnels(port, server, TUNNELS)
    return (settled_cpu_time_s(relay.running) - before_s) / TUNNELS


def measure(bench: Bench, server: int, pairs: int) -> Result:
    """Measures both ways in one process, in interleaved pairs."""
    taken = Pairs()
    published = [
        Published("judged", server, is_proxy=True, hellos='address_as_sni = "allow"'),
        Published("plain", server, is_proxy=True),
    ]
    for count in rounds(pairs):
        with relays.sluicegate(bench, published) as relay:
            judged, plain = relay.other_ports["judged"], relay.other_ports["plain"]
            for port in (judged, plain):
                open_tunnels(port, server, WARM_UP)
            taken.extend(
                count,
                functools.partial(cost, relay, judged, server),
                functools.partial(cost, relay, plain, server),
            )
    ours_us, than_us = (statistics.median(one) * 1e6 for one in (taken.ours, taken.theirs))
    return Result(TARGET, taken.ratio(), ours_us, than_us, "us/tunnel", pairs, "")


def time_reader() -> float:
    """Microseconds that reading the hello takes, of this process's own time."""
    count = 2_000
    before_s = time.process_time()
    for _ in range(count):
        HelloReader().read(HELLO)
    return (time.process_time() - before_s) / count * 1e6


def main() -> int:
    """Measures, prints, and says by the exit status whether the target is met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hello", description=__doc__)
    parser.add_argument("--pairs", type=int, default=PAIRS, help="interleaved pairs")
    arguments = parser.parse_args()
    print(f"reading a hello of {len(HELLO)} bytes: {time_reader():.0f} us")
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener, Bench() as bench:
        os.sched_setaffinity(0, {LOAD_CORE})
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        result = measure(bench, listener.getsockname()[1], arguments.pairs)
    print_table([result])
    return 0 if result.is_met else 1


if __name__ == "__main__":
    sys.exit(main())
