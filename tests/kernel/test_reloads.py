"""Reloads of a gate of several processes: traffic meanwhile, what ends, what is said of it."""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import signal
import socket
import threading
from typing import Any

from sluicegate.gate.control_messages import ReloadRequest
from tests.kernel.test_gate_process import GateProcess, echoed
from tests.kernel.test_processes import Gate
from tests.waiting import wait_until

RELOADS = 30


def publish(gate: GateProcess, *rules: tuple[str, str]) -> None:
    """Write a policy: the names of rules, and a network for each."""
    (gate.folder / "policy.toml").write_text(
        "\n".join(
            f'[[publish]]\nname = "{name}"\nlistener = "echo"\n'
            f'server = "127.0.0.1:{gate.server_port}"\nclients = ["{network}"]\n'
            for name, network in rules
        )
    )


def ends(client: socket.socket) -> bool:
    """Wait for the end of a connection."""
    client.settimeout(60)
    try:
        return client.recv(1) == b""
    except ConnectionError:
        return True


class Traffic:
    """One client after the other from one address, until it is stopped."""

    def __init__(self, gate: Gate, host: str) -> None:
        address, _, port = gate.status()["listeners"][0]["address"].rpartition(":")
        self.target, self.host = (address, int(port)), host
        self.passed = self.refused = 0
        self.is_over = threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        while not self.is_over.wait(0.005):
            try:
                with socket.create_connection(
                    self.target, source_address=(self.host, 0), timeout=60
                ) as client:
                    is_passed = echoed(client, b"hello") == b"hello"
            except ConnectionError:
                is_passed = False
            self.passed += is_passed
            self.refused += not is_passed

    def stop(self) -> None:
        self.is_over.set()
        self.thread.join()


def test_reloads_with_traffic_let_nothing_pass_that_is_refused_and_refuse_nothing_allowed(
    gate: Gate,
) -> None:
    plans = {
        "odd": (("always", "127.0.1.0/24"), ("odd", "127.0.2.0/24")),
        "even": (("even", "127.0.3.0/24"), ("always", "127.0.1.0/24")),
    }
    by_hash: dict[str, str] = {}
    publish(gate, *plans["even"])
    gate.start()
    by_hash[gate.status()["policy"]] = "even"
    traffic = {host: Traffic(gate, f"127.0.{host}.7") for host in (1, 2, 3, 4)}
    with contextlib.ExitStack() as stack:
        staying = [stack.enter_context(gate.connect_from(f"127.0.1.{n}")) for n in (8, 9, 10, 11)]
        stack.callback(lambda: [one.stop() for one in traffic.values()])
        for which in itertools.islice(itertools.cycle(plans), RELOADS):
            publish(gate, *plans[which])
            assert gate.reply(ReloadRequest())["notes"] == []
            by_hash[gate.status()["policy"]] = which
            for client in staying:
                assert echoed(client, b"still here") == b"still here"
        assert {row["policy"] for row in gate.workers()} == {gate.status()["policy"]}
    wait_until(lambda: not gate.status()["revoking"], "what is revoked is not ended")
    status = gate.status()
    gate.end()
    assert len(by_hash) == 2
    assert status["reloads"]["done"] == RELOADS
    check_decisions(gate, by_hash)
    assert (traffic[1].refused, traffic[4].passed) == (0, 0)
    assert min(traffic[1].passed, traffic[2].passed, traffic[3].passed) > 0
    revoked = [one for one in gate.records("connection") if one["reason"].startswith("revoked: ")]
    assert len(revoked) == status["revoked"]
    assert {one["rule"] for one in revoked} <= {"odd", "even"}


def check_decisions(gate: Gate, by_hash: dict[str, str]) -> None:
    """Every decision is what the policy says that made it."""
    allowed = {"odd": ("127.0.1.", "127.0.2."), "even": ("127.0.1.", "127.0.3.")}
    wrong = [
        record
        for record in gate.records("decision")
        if (record["verdict"] == "allowed")
        != record["client"].startswith(allowed[by_hash[record["policy"]]])
    ]
    assert wrong == []


def test_reload_ends_what_it_refuses_on_every_worker_and_says_who_asked_for_what(
    gate: Gate,
) -> None:
    publish(gate, ("lab", "127.0.0.0/8"))
    gate.start()
    before = gate.status()["policy"]
    first, second = gate.clients_of_both()
    with first, second:
        publish(gate, ("office", "127.9.0.0/16"), ("lab", "127.8.0.0/16"))
        assert gate.ask("reload").returncode == 0
        assert ends(first)
        assert ends(second)
        wait_until(lambda: gate.status()["revoked"] == 2, "they are not counted")
        shown = gate.ask("status").stdout
        status = gate.status()
    gate.end()
    me = pwd.getpwuid(os.getuid()).pw_name
    assert f"{status['policy']}, on all 2 workers" in shown
    assert f"ago, by {me}; 1 since the start" in shown
    assert status["revoked"] == 2
    [record] = gate.records("policy")
    record.pop("time")
    assert record == {
        "kind": "policy",
        "before": before,
        "policy": status["policy"],
        "by": me,
        "added": ["office"],
        "changed": ["lab"],
    }
    reasons = {one["reason"] for one in gate.records("connection") if one["outcome"] == "refused"}
    assert reasons == {"revoked: client-not-listed"}


def test_refused_reload_is_in_status_with_its_time_cause_and_who_asked(gate: Gate) -> None:
    publish(gate, ("lab", "127.0.0.0/8"))
    gate.start()
    before = gate.status()["policy"]
    client = gate.connect()
    with client:
        (gate.folder / "policy.toml").write_text("[[publish]\n")
        gate.send(signal.SIGHUP)
        gate.wait_for("reload refused")
        status, shown = gate.status(), gate.ask("status").stdout
        assert echoed(client, b"still here") == b"still here"
        publish(gate, ("lab", "127.0.0.0/16"))
        assert gate.ask("reload").returncode == 0
        later = gate.ask("status").stdout
    gate.end()
    reloads: dict[str, Any] = status["reloads"]
    assert (reloads["refused"], reloads["refused_by"], reloads["done"]) == (1, "SIGHUP", 0)
    assert reloads["refused_at"] > status["started"]
    assert "policy.toml:1" in reloads["refused_causes"][0]
    assert status["policy"] == before
    assert "last reload refused: " in shown
    assert "by SIGHUP; what was in force stays in force" in shown
    assert "last reload refused" not in later
    [refused] = [one for one in gate.records("service") if one["event"] == "reload-refused"]
    assert refused["by"] == "SIGHUP"


def test_worker_that_drains_judges_what_it_has_left(gate: Gate) -> None:
    publish(gate, ("lab", "127.0.0.0/8"))
    gate.start()
    first, second = gate.clients_of_both()
    with first, second:
        [drains] = [row["pid"] for row in gate.workers() if row["name"] == "worker 0"]
        os.kill(drains, signal.SIGTERM)
        gate.wait_for("worker 0 (pid")
        assert echoed(first, b"still here") == b"still here"
        publish(gate, ("lab", "127.8.0.0/16"))
        assert gate.ask("reload").returncode == 0
        assert ends(first)
        assert ends(second)
    gate.end()
    reasons = [one["reason"] for one in gate.records("connection") if one["outcome"] == "refused"]
    assert reasons == ["revoked: client-not-listed"] * 2
