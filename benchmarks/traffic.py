"""The targets of speed against haproxy: new connections, small requests, bulk.

Each case is one line of the table `CASES`; all go through the same measurement.
"""

import contextlib
import dataclasses
import functools
import statistics
from collections.abc import Generator

from benchmarks import relays
from benchmarks.cpu_time import user_and_system_s
from benchmarks.load import BULK, CONNECTIONS, REQUESTS, Load, Pattern
from benchmarks.pairs import Pairs, rounds
from benchmarks.processes import Bench, BenchmarkError
from benchmarks.results import Result, Target

SPLICED_SHARE_MIN = 0.9


@dataclasses.dataclass(frozen=True)
class TrafficCase:
    """One target: a pattern through sluicegate so configured, against haproxy so configured."""

    name: str
    pattern: Pattern
    at_most: float
    backend: str = "io_uring"
    filters: tuple[str, ...] = ()
    peer_splices: bool = False

    @property
    def target(self) -> Target:
        """The row of the table of targets."""
        peer = "haproxy, splice forced" if self.peer_splices else "haproxy"
        through = f" through {', '.join(self.filters)}" if self.filters else ""
        return Target(
            self.name,
            f"CPU per {self.pattern.unit}{through} on {self.backend} / {peer}",
            self.at_most,
        )


CASES = (
    TrafficCase("conn", CONNECTIONS, 1.15),
    TrafficCase("conn-epoll", CONNECTIONS, 1.35, backend="epoll"),
    TrafficCase("conn-data-filter", CONNECTIONS, 2.0, filters=("relay",)),
    TrafficCase("rr", REQUESTS, 1.10),
    TrafficCase("rr-stream-filter", REQUESTS, 1.2, filters=("look",)),
    TrafficCase("bulk-vs-splice", BULK, 0.6, peer_splices=True),
    TrafficCase("bulk", BULK, 0.2),
    TrafficCase("bulk-stream-filter", BULK, 0.6, filters=("look",)),
    TrafficCase("bulk-data-filter", BULK, 0.7, filters=("relay",)),
)


@dataclasses.dataclass
class Split:
    """How the CPU time of a relay divides into its own code and the kernel's."""

    user_s: float = 0.0
    system_s: float = 0.0

    @contextlib.contextmanager
    def over(self, relay: relays.Relay) -> Generator[None]:
        """Adds what the relay uses within the block."""
        before = user_and_system_s(relay.running.pid)
        yield
        after = user_and_system_s(relay.running.pid)
        self.user_s += after[0] - before[0]
        self.system_s += after[1] - before[1]

    def text(self, cost: float) -> str:
        """A cost, divided in this proportion."""
        share = self.user_s / max(self.user_s + self.system_s, 1e-9)
        return f"user {cost * share:.3g} + system {cost * (1 - share):.3g}"


def measure(
    bench: Bench, load: Load, web: int, case: TrafficCase, pairs: int, scale: float
) -> list[Result]:
    """Measures one case in interleaved pairs, with fresh relays every few pairs."""
    taken, ours_split, peer_split = Pairs(), Split(), Split()
    for count in rounds(pairs):
        with contextlib.ExitStack() as stack:
            published = [relays.Published("web", web, case.filters)]
            ours = stack.enter_context(relays.sluicegate(bench, published, backend=case.backend))
            peer = stack.enter_context(relays.haproxy(bench, web, splice=case.peer_splices))
            for relay in (ours, peer):
                load.warm_up(relay.port, case.pattern)
            if case.peer_splices:
                check_splicing(peer)
            cost = functools.partial(load.cpu_s_per_unit, pattern=case.pattern, scale=scale)
            with ours_split.over(ours), peer_split.over(peer):
                taken.extend(count, functools.partial(cost, ours), functools.partial(cost, peer))
    factor, unit = case.pattern.display
    cost_ours = statistics.median(taken.ours) * factor
    cost_peer = statistics.median(taken.theirs) * factor
    note = f"{ours_split.text(cost_ours)}; peer {peer_split.text(cost_peer)} {unit}"
    return [Result(case.target, taken.ratio(), cost_ours, cost_peer, unit, pairs, note)]


def check_splicing(peer: relays.Relay) -> None:
    """Makes sure that the peer that is said to splice does.

    Raises:
        BenchmarkError: it copied instead.
    """
    share = relays.haproxy_spliced_share(peer)
    if share < SPLICED_SHARE_MIN:
        raise BenchmarkError(
            f"haproxy was told to splice, but spliced only {share:.0%} of the bytes"
        )
