"""The target of revocation: how long ten thousand open tunnels outlive the rule that let them in.

Clients open SOCKS tunnels and fall silent, the rule is taken out of the policy, the policy is
reloaded. The time runs from the answer to the reload until the last of them has ended, while other
clients are served through a published port by the same worker.
"""

import asyncio
import dataclasses
import statistics
import time

import msgspec

from benchmarks import relays
from benchmarks.cpu_time import cpu_time_s
from benchmarks.idle import DESCRIPTORS_KEPT, SOURCES, spread, wait_until_held
from benchmarks.load import REQUESTS, Load
from benchmarks.pairs import rounds
from benchmarks.processes import Bench, BenchmarkError, descriptor_limit
from benchmarks.relays import Published, Relay
from benchmarks.results import Result, Target
from sluicegate.gate.control_client import ask_gate
from sluicegate.gate.control_messages import DoneReply, ReloadRequest, StatusRequest

NAME = "revoke"
TUNNELS_MAX = 9_000
WITHIN_S = 1.0
OTHERS = 8
"""Clients of the published port, that ask all the time."""
ASKED_EVERY_S = 0.02
GIVEN_UP_AFTER_S = 30.0
REPEATS = 3


@dataclasses.dataclass(frozen=True)
class Ending:
    """What it took to end the tunnels of one gate."""

    wall_s: float
    cpu_s: float
    tunnels: int


def measure(bench: Bench, load: Load, web: int, repeats: int) -> list[Result]:
    """Measures it, each repeat with a fresh sluicegate."""
    endings: list[Ending] = []
    for _ in rounds(repeats, per_round=1):
        published = [Published("proxy", web, is_proxy=True), Published("web", web)]
        with relays.sluicegate(bench, published) as gate:
            endings.append(revoke(load, gate, web))
    walls = [one.wall_s for one in endings]
    cpu_s = statistics.median(one.cpu_s for one in endings)
    return [
        Result(
            Target(NAME, "until revoked tunnels have ended, others being served", WITHIN_S, "s"),
            spread(walls),
            statistics.median(walls),
            None,
            "s",
            repeats,
            f"{endings[0].tunnels} tunnels; {cpu_s:.2f} s of CPU, that of others' requests in it",
        )
    ]


def revoke(load: Load, gate: Relay, web: int) -> Ending:
    """Opens tunnels, takes their rule away, and waits until the last one has ended.

    Raises:
        BenchmarkError: they could not be opened, the policy could not be loaded, or they stayed.
    """
    count = min(TUNNELS_MAX, (descriptor_limit() - DESCRIPTORS_KEPT) // 2)
    through = ("--through", "socks5", "--target", str(web))
    held = ("--hold", "--connections", str(count), "--sources", str(SOURCES), *through)
    others = ("--path", "/small", "--duration-ms", "60000", "--connections", str(OTHERS))
    warm_up = dataclasses.replace(REQUESTS, arguments=REQUESTS.arguments + through)
    load.warm_up(gate.port, warm_up)
    with (
        load.running(gate.port, *held) as client,
        load.running(gate.other_ports["web"], *others),
    ):
        wait_until_held(client, gate.running)
        if open_connections(gate) < count + OTHERS:
            raise BenchmarkError(f"{open_connections(gate)} connections are open, not {count} more")
        take_rule_away(gate)
        before_s, began = cpu_time_s(gate.running.pid), time.monotonic()
        reply = asyncio.run(ask_gate(gate.directory / "control.sock", ReloadRequest()))
        if not isinstance(reply, DoneReply):
            raise BenchmarkError(f"the policy without the rule was not loaded: {reply}")
        loaded = time.monotonic()
        while (still := open_connections(gate)) > OTHERS:
            if time.monotonic() - began > GIVEN_UP_AFTER_S:
                raise BenchmarkError(f"{still - OTHERS} tunnels have not ended")
            time.sleep(ASKED_EVERY_S)
        return Ending(time.monotonic() - loaded, cpu_time_s(gate.running.pid) - before_s, count)


def open_connections(gate: Relay) -> int:
    """Asks the gate how many connections have not ended."""
    reply = asyncio.run(ask_gate(gate.directory / "control.sock", StatusRequest()))
    count: int = msgspec.to_builtins(reply)["status"]["connections"]
    return count


def take_rule_away(gate: Relay) -> None:
    """Lets the rule of the proxy lead nowhere that a tunnel leads."""
    policy = gate.directory / "policy.toml"
    text = policy.read_text()
    changed = text.replace('to = ["127.0.0.1"]', 'to = ["127.0.0.2"]')
    assert changed != text, "the rule of the proxy is there"
    policy.write_text(changed)
