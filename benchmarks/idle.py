"""The targets of rest: what ten thousand silent connections cost in memory, and in CPU time.

Every connection has carried one request before it falls silent, so that what a relay keeps after
traffic is in the figure.  The base is taken after a warm-up with few connections.
"""

import dataclasses
import statistics
import subprocess
import time

from benchmarks import relays
from benchmarks.cpu_time import Memory, cpu_time_s, memory
from benchmarks.load import REQUESTS, Load
from benchmarks.pairs import rounds
from benchmarks.processes import Bench, BenchmarkError, Running, descriptor_limit
from benchmarks.ratios import Ratio
from benchmarks.results import Result, Target

CONNECTIONS_MAX = 10_000
SOURCES = 20
DESCRIPTORS_KEPT = 800
"""What a relay needs besides two descriptors per connection."""
IDLE_S = 10.0
REPEATS = 3
CPU_MS_MAX = 1.0
"""Zero, as far as it can be told from one interrupt that was charged to a sleeping process."""


@dataclasses.dataclass(frozen=True)
class IdleCase:
    """One target of memory, and whether it also carries the target of CPU time."""

    name: str
    at_most_kib: float
    filters: tuple[str, ...] = ()


CASES = (IdleCase("idle", 4.0), IdleCase("idle-stream-filter", 8.0, ("look",)))


@dataclasses.dataclass(frozen=True)
class Rest:
    """What one relay spent on its silent connections."""

    rss_kib: float
    pss_kib: float
    cpu_ms: float
    connections: int


def measure(
    bench: Bench, load: Load, web: int, case: IdleCase, repeats: int, idle_s: float
) -> list[Result]:
    """Measures memory and CPU time of one case, each repeat with a fresh sluicegate."""
    rests: list[Rest] = []
    for _ in rounds(repeats, per_round=1):
        published = [relays.Published("web", web, case.filters)]
        with relays.sluicegate(bench, published) as ours:
            rests.append(hold(load, ours, idle_s))
    with relays.haproxy(bench, web) as peer:
        theirs = hold(load, peer, 0.0)
    rss = [rest.rss_kib for rest in rests]
    cpu = [rest.cpu_ms for rest in rests]
    pss = statistics.median(rest.pss_kib for rest in rests)
    what = f"resident memory over the base{' with a filter' if case.filters else ''}"
    note = f"{rests[0].connections} connections, proportional memory {pss:.2f} KiB each"
    return [
        Result(
            Target(case.name, what, case.at_most_kib, "KiB"),
            spread(rss),
            statistics.median(rss),
            theirs.rss_kib,
            "KiB/connection",
            repeats,
            note,
        ),
        Result(
            Target(f"{case.name}-cpu", f"CPU time in {idle_s:g} s of silence", CPU_MS_MAX, "ms"),
            spread(cpu),
            statistics.median(cpu),
            None,
            "ms",
            repeats,
        ),
    ]


def hold(load: Load, relay: relays.Relay, idle_s: float) -> Rest:
    """Opens the connections, lets them rest, and takes what they cost.

    Raises:
        BenchmarkError: a connection could not be opened or did not last.
    """
    count = min(CONNECTIONS_MAX, (descriptor_limit() - DESCRIPTORS_KEPT) // 2)
    load.warm_up(relay.port, REQUESTS)
    base = memory(relay.running.pid)
    arguments = ("--hold", "--connections", str(count), "--sources", str(SOURCES))
    with load.running(relay.port, *arguments) as client:
        wait_until_held(client, relay.running)
        held = memory(relay.running.pid)
        before_s = cpu_time_s(relay.running.pid)
        time.sleep(idle_s)
        used_s = cpu_time_s(relay.running.pid) - before_s
        load.finish(client)
    return rest_per_connection(base, held, used_s, count)


def wait_until_held(client: subprocess.Popen[str], relay: Running) -> None:
    """Returns once all connections are open, and the relay has come to rest.

    Raises:
        BenchmarkError: the client gave up, or the relay ended.
    """
    assert client.stdout is not None
    if client.stdout.readline().strip() != "held":
        raise BenchmarkError("the idle connections could not all be opened")
    time.sleep(1.0)
    relay.check_alive()


def rest_per_connection(base: Memory, held: Memory, used_s: float, count: int) -> Rest:
    """Divides what was added by the connections."""
    return Rest(
        (held.rss_bytes - base.rss_bytes) / 1024 / count,
        (held.pss_bytes - base.pss_bytes) / 1024 / count,
        used_s * 1000,
        count,
    )


def spread(values: list[float]) -> Ratio:
    """The median of a few repeats and their extremes: too few for a bootstrap."""
    return Ratio(statistics.median(values), min(values), max(values))
