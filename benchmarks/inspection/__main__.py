"""`python -m benchmarks.inspection`: TLS that is opened, against squid-openssl and mitmproxy.

`make bench-tls` comes here. Clients ask for a tunnel, shake hands (TLS 1.3, X25519, ECDSA P-256,
nothing resumed, the leaf verified), and send one request; or they fetch 100 MB. Figures are CPU
time of the relay, in interleaved pairs with fresh processes every few pairs. The exit status is 1
when a target is missed.

Sluicegate opens a connection by a connection to the server that the same client has left, and the
peers meet the server anew each time: the rows that end with ``alone`` have it do as they do. The
peers log nothing. Sluicegate writes its log; the store of records, a database that it makes of the
log by default, is in the row that ends with ``stored``.
"""

import argparse
import contextlib
import functools
import itertools
import math
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

from typing_extensions import override

from benchmarks import packages
from benchmarks.inspection import peers
from benchmarks.inspection.origin import LARGE_BYTES, NAME, Origin, name_server, nginx
from benchmarks.inspection.peers import Inspector
from benchmarks.load import Load, Pattern, compile_c
from benchmarks.pairs import Pairs, rounds
from benchmarks.processes import LOAD_CORE, Bench, BenchmarkError
from benchmarks.results import Result, Target, print_result, print_table, write_json
from benchmarks.traffic import Split
from benchmarks.web.peers import install_mitmproxy

PAIRS = 9
SLOW_SHARE: Final = 0.1
"""What mitmproxy is asked for, of what the others are."""
ROUND: Final = 3

HANDSHAKES = Pattern("handshake", "handshake", ("--path", "/small"), 2_000, 300)
COLD = Pattern("cold", "leaf", ("--path", "/small", "--vary"), 1_000, 50)
KEPT = Pattern("kept", "request", ("--path", "/small", "--requests", "50"), 200, 20)
HTTP2 = Pattern("http2", "request", ("--path", "/small"), 3_000, 500)
BULK = Pattern(
    "bulk", "GB", ("--path", "/large", "--connections", "2"), 10, 2, bytes_per_unit=LARGE_BYTES
)

ADDON: Final = Path(__file__).parents[1] / "web" / "mark_addon.py"

Way: TypeAlias = Callable[[], contextlib.AbstractContextManager[Inspector]]

# Handshakes per second that are to be had, as CPU time per handshake.
SQUID = Target("tls-squid", "CPU per inspected handshake and request / squid-openssl", 1 / 0.7)
MITMPROXY = Target("tls-mitmproxy", "the same / mitmproxy", 1 / 8)
# The same work as the peers do, each of whom meets the server once for each connection of a client.
ALONE_SQUID = Target(
    "tls-squid-alone", "handshake and request, no server shared / squid-openssl", 1 / 0.7
)
ALONE_MITMPROXY = Target("tls-mitmproxy-alone", "the same / mitmproxy", math.inf)
STORED_MITMPROXY = Target("tls-mitmproxy-stored", "handshake, request, store / mitmproxy", math.inf)
COLD_SQUID = Target(
    "tls-cold", "the same for names that are new, leaf signed / squid-openssl", math.inf
)
KEPT_SQUID = Target(
    "tls-kept", "CPU per request on kept inspected connections / squid-openssl", math.inf
)
HTTP2_MITMPROXY = Target(
    "tls-http2", "CPU per HTTP/2 request with one filter on heads / mitmproxy", 1 / 5
)
BULK_SQUID = Target("tls-bulk", "CPU per GB of an inspected download / squid-openssl", 1.5)
BULK_MITMPROXY = Target("tls-bulk-mitmproxy", "the same / mitmproxy", 1 / 3)
SPLICED = Target("tls-spliced", "CPU per GB: TLS spliced / a tunnel that is not looked at", 1.05)


class TlsLoad(Load):
    """The load generator that speaks TLS inside a tunnel."""

    def __init__(self, bench: Bench) -> None:
        source = Path(__file__).with_name("tls_load.c")
        self.program = compile_c(bench, source, "-lssl", "-lcrypto", "-lpthread")
        self._first = itertools.count(0, 1_000_000)

    def pattern(self, pattern: Pattern, inspector: Inspector) -> Pattern:
        """A pattern as clients of one relay do it; names that vary are new each time."""
        arguments = (
            "--to", inspector.target, "--name", NAME, "--authority", str(inspector.authority),
            "--first", str(next(self._first)), *pattern.arguments,
        )  # fmt: skip
        return Pattern(
            pattern.name, pattern.unit, arguments, pattern.count, pattern.warm_up,
            pattern.bytes_per_unit,
        )  # fmt: skip

    def cost(self, inspector: Inspector, pattern: Pattern, scale: float) -> float:
        """CPU time of one unit."""
        return self.cpu_s_per_unit(inspector.relay, self.pattern(pattern, inspector), scale)


class Http2Load(TlsLoad):
    """The load that speaks HTTP/2 there: a program in Python, whose time is nobody's."""

    def __init__(self) -> None:
        self._first = itertools.count(0, 1_000_000)

    @override
    def command(self, port: int, *arguments: str) -> list[str]:
        """The command line of a load on a relay's port, pinned to the load's core."""
        source = str(Path(__file__).with_name("http2_load.py"))
        program = ["taskset", "-c", str(LOAD_CORE), sys.executable, source]
        return [*program, "--port", str(port), *arguments]


def compare(
    load: TlsLoad,
    pattern: Pattern,
    target: Target,
    ways: tuple[Way, Way],
    pairs: int,
    *,
    peer_scale: float = 1.0,
) -> Result:
    """Measures one target in interleaved pairs: ours first."""
    taken, ours_split, peer_split = Pairs(), Split(), Split()
    for count in rounds(pairs, ROUND):
        with contextlib.ExitStack() as stack:
            first, second = (stack.enter_context(way()) for way in ways)
            for one in (first, second):
                load.warm_up(one.relay.port, load.pattern(pattern, one))
            with ours_split.over(first.relay), peer_split.over(second.relay):
                taken.extend(
                    count,
                    functools.partial(load.cost, first, pattern, 1.0),
                    functools.partial(load.cost, second, pattern, peer_scale),
                )
    factor, unit = pattern.display
    ours, theirs = (statistics.median(one) * factor for one in (taken.ours, taken.theirs))
    note = f"{ours_split.text(ours)}; peer {peer_split.text(theirs)} {unit}"
    if not pattern.bytes_per_unit:
        note += f"; {1e6 / ours:.0f} and {1e6 / theirs:.0f} per second of a core"
    return Result(target, taken.ratio(), ours, theirs, unit, pairs, note)


def main() -> int:
    """Parses the command line, measures, and returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inspection", description=__doc__)
    parser.add_argument("--pairs", type=int, default=PAIRS, help=f"default: {PAIRS}")
    parser.add_argument("--backend", default="io_uring", choices=("io_uring", "epoll"))
    parser.add_argument("--only", action="append", help="the name of a target; several times")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
    arguments = parser.parse_args()
    try:
        packages.install_missing()
        with Bench() as bench, nginx(bench) as origin, name_server() as names:
            results = run(arguments, bench, origin, names)
    except BenchmarkError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    print_table(results)
    if arguments.json:
        write_json(results, arguments.json)
    return 0 if all(result.is_met for result in results) else 1


def run(arguments: argparse.Namespace, bench: Bench, origin: Origin, names: int) -> list[Result]:
    """Measures what was asked for."""
    load = TlsLoad(bench)
    ours = functools.partial(peers.sluicegate, bench, origin, names, backend=arguments.backend)
    alone = functools.partial(ours, shares_servers=False)
    stored = functools.partial(ours, has_store=True)
    spliced, plain = functools.partial(ours, mode="splice"), functools.partial(ours, mode="off")
    programs: dict[str, Path] = {}

    def squid() -> contextlib.AbstractContextManager[Inspector]:
        if "squid" not in programs:
            programs["squid"] = peers.unpack_squid(bench)
        return peers.squid(bench, programs["squid"], origin)

    def mitmproxy(*options: str) -> contextlib.AbstractContextManager[Inspector]:
        if "mitmproxy" not in programs:
            programs["mitmproxy"] = install_mitmproxy(bench)
        return peers.mitmproxy(bench, programs["mitmproxy"], origin, *options)

    marked = functools.partial(mitmproxy, "-s", str(ADDON))

    parts: list[tuple[Target, Pattern, Way, Way]] = [
        (SQUID, HANDSHAKES, ours, squid),
        (ALONE_SQUID, HANDSHAKES, alone, squid),
        (KEPT_SQUID, KEPT, ours, squid),
        (COLD_SQUID, COLD, ours, squid),
        (BULK_SQUID, BULK, ours, squid),
        (SPLICED, BULK, spliced, plain),
        (MITMPROXY, HANDSHAKES, ours, mitmproxy),
        (STORED_MITMPROXY, HANDSHAKES, stored, mitmproxy),
        (ALONE_MITMPROXY, HANDSHAKES, alone, mitmproxy),
        (BULK_MITMPROXY, BULK, ours, mitmproxy),
        (HTTP2_MITMPROXY, HTTP2, functools.partial(ours, has_filter=True), marked),
    ]
    results: list[Result] = []
    for target, pattern, way, peer in parts:
        if arguments.only and target.name not in arguments.only:
            continue
        is_slow = peer in {mitmproxy, marked}
        pairs = max(arguments.pairs // 3, 2) if is_slow else arguments.pairs
        scale = SLOW_SHARE if is_slow else 1.0
        one = Http2Load() if pattern is HTTP2 else load
        found = compare(one, pattern, target, (way, peer), pairs, peer_scale=scale)
        results.append(found)
        print_result(found)
    return results


if __name__ == "__main__":
    sys.exit(main())
