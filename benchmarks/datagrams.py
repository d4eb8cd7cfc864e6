"""The target of UDP: CPU time per datagram there and back, against nginx's `stream` proxy.

Equal packets per second and core is a ratio of 1: what one datagram costs is what bounds a core.
"""

import dataclasses
import functools
import statistics
from pathlib import Path

from benchmarks import relays
from benchmarks.load import DATAGRAMS, Load, compile_c
from benchmarks.pairs import Pairs, rounds
from benchmarks.processes import LOAD_CORE, Bench, free_port
from benchmarks.relays import Published
from benchmarks.results import Result, Target

NAME = "udp-relay"
TARGET = Target(NAME, "CPU per datagram there and back / nginx stream", 1.0)


def measure(bench: Bench, load: Load, web: int, pairs: int, scale: float) -> list[Result]:
    """Measures in interleaved pairs, with fresh relays every few pairs."""
    echo, port = compile_c(bench, Path(__file__).with_name("udp_echo.c")), free_port()
    published = [Published("web", web), Published("udp", port, is_udp=True)]
    taken = Pairs()
    with bench.running("udp_echo", [str(echo), str(port)], core=LOAD_CORE):
        for count in rounds(pairs):
            with (
                relays.sluicegate(bench, published) as gate,
                relays.nginx_stream(bench, web, port) as peer,
            ):
                ours = dataclasses.replace(gate, port=gate.other_ports["udp"])
                for relay in (ours, peer):
                    load.warm_up(relay.port, DATAGRAMS)
                cost = functools.partial(load.cpu_s_per_unit, pattern=DATAGRAMS, scale=scale)
                taken.extend(count, functools.partial(cost, ours), functools.partial(cost, peer))
    ours_us, peer_us = (statistics.median(one) * 1e6 for one in (taken.ours, taken.theirs))
    return [Result(TARGET, taken.ratio(), ours_us, peer_us, "us/datagram", pairs)]
