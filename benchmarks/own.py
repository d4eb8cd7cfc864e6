"""What a part of the gate costs: the gate with it against the gate without it, in one run.

Entry modes against a published port, two workers against one, flood limits against none, a log
against none, filters in a process of their own against the same in the gate.  Each case is one line
of the table `CASES`; all go through the same measurement.
"""

import asyncio
import contextlib
import dataclasses
import functools
import statistics
import sys
from collections.abc import Generator

import msgspec

from benchmarks import relays
from benchmarks.load import CONNECTIONS, REQUESTS, Load, Pattern
from benchmarks.pairs import Pairs, rounds
from benchmarks.processes import LOAD_CORE, RELAY_CORE, Bench, BenchmarkError
from benchmarks.relays import APART, Published, Relay, Way
from benchmarks.results import Result, Target
from sluicegate.gate.control_client import ask_gate
from sluicegate.gate.control_messages import StatusRequest

SOURCES = 256
SHARE_MAX = 0.6
BOTH_CORES = f"{RELAY_CORE},{LOAD_CORE}"


@dataclasses.dataclass(frozen=True)
class OwnCase:
    """One target: the gate's CPU time per connection in one way, against another way."""

    name: str
    what: str
    at_most: float
    way: Way = relays.ONE_WORKER
    than: Way | None = None
    """The other way; None: the same process."""
    through: str = ""
    """How clients of the first one name the server; empty: they do not."""
    sources: int = 0
    pattern: Pattern = CONNECTIONS
    filters: tuple[str, ...] = ()
    """What the first one's connections go through."""
    than_filters: tuple[str, ...] = ()
    unit: str = "connection"

    @property
    def target(self) -> Target:
        """The row of the table of targets."""
        return Target(self.name, f"CPU per {self.unit}: {self.what}", self.at_most)


INLINE = Way(options=("--inline",))
UNRECORDED = Way((sys.executable, "-m", "benchmarks.unrecorded"), ("--inline",))

CELL_STREAM_AT_MOST = 10.0
CELL_CONTENT_AT_MOST = 2.0
"""What isolation may cost: bounds that a regression would pass, not aims."""

CASES = (
    OwnCase("socks5-conn", "SOCKS 5 / published port", 1.3, through="socks5"),
    OwnCase("connect-conn", "HTTP CONNECT / published port", 1.3, through="connect"),
    OwnCase(
        "workers2",
        f"two workers / one, {SOURCES} clients",
        1.1,
        Way(options=("--workers", "2"), cores=BOTH_CORES),
        Way(options=("--workers", "1"), cores=BOTH_CORES),
        sources=SOURCES,
    ),
    OwnCase(
        "flood",
        "clients' floods counted / not",
        1.02,
        INLINE,
        dataclasses.replace(INLINE, counts_floods=False),
    ),
    OwnCase("audit", "records written / dropped", 1.05, INLINE, UNRECORDED),
    OwnCase(
        "cell-stream-filter",
        "stream filter in a process of its own / in the gate",
        CELL_STREAM_AT_MOST,
        than=relays.ONE_WORKER,
        pattern=REQUESTS,
        filters=("look" + APART,),
        than_filters=("look",),
        unit="request",
    ),
    OwnCase(
        "cell-content-filter",
        "object judged in a process of its own / in the gate",
        CELL_CONTENT_AT_MOST,
        than=relays.ONE_WORKER,
        filters=("reply", "hold" + APART),
        than_filters=("reply", "hold"),
        unit="object",
    ),
)


def measure(
    bench: Bench, load: Load, web: int, case: OwnCase, pairs: int, scale: float
) -> list[Result]:
    """Measures one case in interleaved pairs, with fresh gates every few pairs."""
    taken, shares = Pairs(), list[float]()
    for count in rounds(pairs):
        with both(bench, web, case) as (ours, than):
            patterns = pattern_of(case, web, case.through), pattern_of(case, web, "")
            for relay, pattern in zip((ours, than), patterns, strict=True):
                load.warm_up(relay.port, pattern)
            cost = load.cpu_s_per_unit
            taken.extend(
                count,
                functools.partial(cost, ours, patterns[0], scale),
                functools.partial(cost, than, patterns[1], scale),
            )
            if case.sources:
                shares.append(largest_share(ours))
    ours_us, than_us = (statistics.median(one) * 1e6 for one in (taken.ours, taken.theirs))
    note = ""
    if shares:
        note = f"the busiest worker had {max(shares):.0%} of the connections"
        if max(shares) > SHARE_MAX:
            raise BenchmarkError(f"{case.name}: {note}, and {SHARE_MAX:.0%} are allowed")
    return [Result(case.target, taken.ratio(), ours_us, than_us, f"us/{case.unit}", pairs, note)]


@contextlib.contextmanager
def both(bench: Bench, web: int, case: OwnCase) -> Generator[tuple[Relay, Relay]]:
    """Runs what is compared: one gate with two listeners, or two gates."""
    published = [Published("web", web, case.filters)]
    if case.than is None:
        published.append(Published("proxy", web, is_proxy=True))
        with relays.sluicegate(bench, published, way=case.way) as than:
            yield dataclasses.replace(than, port=than.other_ports["proxy"]), than
        return
    with (
        relays.sluicegate(bench, published, way=case.way) as ours,
        relays.sluicegate(bench, [Published("web", web, case.than_filters)], way=case.than) as than,
    ):
        yield ours, than


def pattern_of(case: OwnCase, web: int, through: str) -> Pattern:
    """The case's work, from so many clients, through a proxy or not."""
    more: tuple[str, ...] = ()
    if case.sources:
        more += ("--sources", str(case.sources))
    if through:
        more += ("--through", through, "--target", str(web))
    return dataclasses.replace(case.pattern, arguments=case.pattern.arguments + more)


def largest_share(gate: Relay) -> float:
    """The part of all connections that the busiest worker let in."""
    reply = asyncio.run(ask_gate(gate.directory / "control.sock", StatusRequest()))
    rows = msgspec.to_builtins(reply)["status"]["workers"]
    counts: list[int] = [row["accepted"] for row in rows if row["name"].startswith("worker")]
    return max(counts) / max(sum(counts), 1)
