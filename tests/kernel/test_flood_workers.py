"""Limits over real workers, for a client that comes to all of them: a PROXY peer hides it."""

from __future__ import annotations

import os
import signal
import socket

import pytest

from sluicegate.address import SocketAddress
from sluicegate.protocols.proxy_protocol import encode_proxy_v1
from tests.kernel.test_gate_process import echoed
from tests.kernel.test_processes import Gate
from tests.waiting import wait_until

pytestmark = pytest.mark.either_driver

BOUND, SLACK = 40, 5
CLIENT = SocketAddress("10.1.1.1", 4000)
FLOOD = f"\n[flood]\nconnections_max = {BOUND}\nhalf_open_max = {BOUND}\n"


@pytest.fixture
def gate(gate: Gate) -> Gate:
    gate.config.write_text(
        '[[listener]]\nname = "echo"\naddress = "127.0.0.1:0"\n'
        'proxy_protocol = { from = ["127.0.0.0/8"] }\n'
    )
    gate.write_policy("10.1.1.0/24")
    policy = gate.folder / "policy.toml"
    policy.write_text(policy.read_text() + FLOOD)
    return gate


class Peers:
    """Peers of many addresses, so of all workers, that announce one client."""

    def __init__(self, gate: Gate) -> None:
        host, _, port = gate.status()["listeners"][0]["address"].rpartition(":")
        self.address = host, int(port)
        self.held: list[socket.socket] = []
        self._next = 0

    def come(self, count: int, client: SocketAddress = CLIENT) -> int:
        """Announce a client so often; return how often it was let in."""
        before = len(self.held)
        for _ in range(count):
            self._next += 1
            source = f"127.0.{self._next % 200 + 1}.{self._next % 250 + 2}"
            peer = socket.create_connection(self.address, 60, source_address=(source, 0))
            try:
                peer.sendall(encode_proxy_v1(client, SocketAddress("192.0.2.1", 80)))
                if echoed(peer, b"x") == b"x":
                    self.held.append(peer)
                    continue
            except OSError:
                pass  # it was reset
            peer.close()
        return len(self.held) - before

    def drop_dead(self) -> int:
        """Let go of what the gate has ended; return how much is left."""
        alive: list[socket.socket] = []
        for peer in self.held:
            try:
                is_alive = echoed(peer, b"y") == b"y"
            except OSError:
                is_alive = False
            if is_alive:
                alive.append(peer)
            else:
                peer.close()
        self.held = alive
        return len(alive)

    def close(self) -> None:
        for peer in self.held:
            peer.close()
        self.held = []


def wait_for_both(gate: Gate, killed: int) -> None:
    def are_both_ready() -> bool:
        rows = gate.workers()
        return all(row["pid"] != killed and row["state"] == "ready" for row in rows)

    wait_until(are_both_ready, "the killed worker was not replaced")


def test_client_of_all_workers_meets_its_bound_and_a_killed_worker_counts_no_more(
    gate: Gate,
) -> None:
    gate.start()
    peers = Peers(gate)
    try:
        let_in = peers.come(3 * BOUND)
        assert BOUND <= let_in <= BOUND + SLACK
        counts = [row["connections"] for row in gate.workers()]
        assert min(counts) > 0, "it came to both workers"
        others = Peers(gate)
        assert others.come(1, SocketAddress("10.1.1.2", 4000)) == 1
        others.close()

        killed = gate.workers()[0]["pid"]
        os.kill(killed, signal.SIGKILL)
        wait_for_both(gate, killed)
        left = peers.drop_dead()
        assert 0 < left < let_in
        again = peers.come(2 * BOUND)
        assert BOUND <= left + again <= BOUND + SLACK, "what the killed worker counted is gone"

        peers.close()
        wait_until(lambda: not gate.status()["connections"], "connections are left")
        assert BOUND <= peers.come(BOUND) <= BOUND + SLACK, "what has ended does not count"
        status = gate.status()["flood"]
        assert status["reached"]["connections_max"] > BOUND
    finally:
        peers.close()
    gate.end()
    records = gate.records("limit")
    assert {(one["limit"], one["bound"]) for one in records} == {("connections_max", BOUND)}
    assert len(records) < 20


RULE_BOUND = 10


def test_rule_has_exactly_its_connections_over_all_workers_and_a_killed_one_has_none(
    gate: Gate,
) -> None:
    policy = gate.folder / "policy.toml"
    few = f"limits = {{ connections_max = {RULE_BOUND} }}\n"
    policy.write_text(policy.read_text().replace("[[publish]]\n", "[[publish]]\n" + few, 1))
    gate.start()
    peers = Peers(gate)
    try:
        assert peers.come(3 * RULE_BOUND) == RULE_BOUND
        counts = [row["connections"] for row in gate.workers()]
        assert min(counts) > 0, "it came to both workers"
        killed = gate.workers()[0]["pid"]
        os.kill(killed, signal.SIGKILL)
        wait_for_both(gate, killed)
        left = peers.drop_dead()
        assert 0 < left < RULE_BOUND
        assert peers.come(3 * RULE_BOUND) == RULE_BOUND - left
        peers.close()
        wait_until(lambda: not gate.status()["connections"], "connections are left")
        assert peers.come(2 * RULE_BOUND) == RULE_BOUND, "what has ended does not count"
    finally:
        peers.close()
    gate.end()
    refused = gate.records("limit")
    assert {(one["limit"], one["bound"]) for one in refused} == {
        ("rule echo connections_max", RULE_BOUND)
    }
