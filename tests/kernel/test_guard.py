"""Hostile filters in a gate as its own process: they block the loop, and take all memory."""

from __future__ import annotations

import contextlib
import pathlib
import socket

import pytest

from .test_gate_process import EchoServer, GateProcess, echoed

FILTERS = """
import collections, itertools, re, time
from sluicegate.filterapi import FORWARD, StreamFilter

class Sleeps(StreamFilter):
    def on_data(self, side, window):
        if side == "client":
            time.sleep(2.0)
        return FORWARD

class Counts(StreamFilter):
    def on_data(self, side, window):
        if side == "client":
            end = time.monotonic() + 2.0
            # All of it is C, which never lets go of the interpreter's lock.
            collections.deque(itertools.takewhile(end.__gt__, iter(time.monotonic, None)), maxlen=0)
        return FORWARD

class Spins(StreamFilter):
    def on_data(self, side, window):
        while b"spin" in bytes(window):
            pass
        return FORWARD

class Backtracks(StreamFilter):
    def on_data(self, side, window):
        if b"match" in bytes(window):
            re.match(rb"(a+)+$", b"a" * 64 + b"b")
        return FORWARD

class Hoards(StreamFilter):
    def on_data(self, side, window):
        if b"hoard" in bytes(window):
            self.kept = bytearray(10 << 30)
        return FORWARD
"""

LIMITS = "[limits]\nloop_block_s = 0.5\nloop_block_kill_s = {kill_s}\n"


@pytest.fixture
def hostile(tmp_path: pathlib.Path):
    """Start a gate with one of the filters."""
    server = EchoServer()
    gate = GateProcess(tmp_path, server.port)
    (tmp_path / "hostile.py").write_text(FILTERS)

    def start(
        filter_class: str, kill_s: float = 0, more: str = "", mode: tuple[str, ...] = ("--inline",)
    ) -> GateProcess:
        gate.mode = mode
        gate.write_main(
            LIMITS.format(kill_s=kill_s)
            + more
            + f'[[filter]]\nname = "bad"\nuse = "hostile.py:{filter_class}"\n'
        )
        policy = (tmp_path / "policy.toml").read_text()
        (tmp_path / "policy.toml").write_text(policy + 'filters = ["bad"]\n')
        gate.start()
        return gate

    yield start
    gate.close()
    server.close()


@pytest.mark.parametrize(("filter_class", "line"), [("Sleeps", 8), ("Counts", 16)])
def test_filter_that_blocks_the_loop_is_named_with_its_line(hostile, filter_class, line):
    """Also one that keeps the interpreter's lock: it is seen when it lets go of it."""
    gate = hostile(filter_class)
    with gate.connect() as client:
        assert echoed(client, b"x") == b"x"
        warnings = gate.status()["warnings"]
    said = gate.wait_for("warning: the loop has not turned")
    assert gate.end() == 0

    place = f"{gate.folder / 'hostile.py'}:{line} in {filter_class}.on_data"
    assert f"filter 'bad' ({place})" in said
    records = gate.records("loop-blocked")
    # A machine that is busy enough stops the loop too, which is nobody's line.
    [record] = [one for one in records if one["filter"]]
    [end] = gate.records("connection")
    assert (record["filter"], record["where"]) == ("bad", place)
    assert record["blocked_s"] >= 0.5
    assert end["outcome"] == "released"
    times = [f"blocked {count} times" for count in range(1, len(records) + 1)]
    assert any(one in line and "'bad'" in line for line in warnings for one in times)


@pytest.mark.parametrize(
    ("filter_class", "word", "status", "says"),
    [
        ("Spins", b"spin", 70, "this process ends"),
        # A regular expression keeps the interpreter's lock.
        ("Backtracks", b"match", 1, "Timeout"),
    ],
)
def test_loop_that_will_not_turn_again_ends_its_process_and_says_where(
    hostile, filter_class, word, status, says
):
    gate = hostile(filter_class, kill_s=1.0)
    with gate.connect() as client:
        client.sendall(word)
        assert gate.process is not None
        assert gate.process.wait(60) == status
    assert gate.process.stderr is not None
    said = gate.process.stderr.read()

    assert says in said
    assert 'hostile.py", line' in said
    assert "in on_data" in said


def test_worker_that_hangs_is_replaced_and_the_record_says_how_it_ended(hostile):
    gate = hostile("Spins", kill_s=1.0, mode=("--workers", "1"))
    before = gate.status()["workers"][0]["pid"]
    with gate.connect() as client:
        client.sendall(b"spin")
        said = gate.wait_for("worker 0 (pid")
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""
    gate.wait_for("worker 0 works again")
    with gate.connect() as later:
        assert echoed(later, b"later") == b"later"
    after = gate.status()["workers"][0]["pid"]
    assert gate.end() == 0

    assert f"(pid {before}) ended: status 70" in said
    assert after != before
    [record] = gate.records("process")
    assert (record["process"], record["cause"]) == ("worker 0", "status 70")
    named = [line for line in gate.lines if "filter 'bad'" in line]
    assert named
    assert "in Spins.on_data" in named[0]


def test_filter_that_takes_all_memory_fails_alone(hostile):
    gate = hostile("Hoards", more='memory_bytes_max = "1 GiB"\n')
    with gate.connect() as bystander, gate.connect() as client:
        assert echoed(bystander, b"before") == b"before"
        client.sendall(b"hoard")
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        assert echoed(bystander, b"after") == b"after"
    with gate.connect() as later:
        assert echoed(later, b"later") == b"later"
    assert gate.end() == 0

    [failure] = gate.records("filter-failure")
    assert (failure["filter"], failure["action"]) == ("bad", "refused")
    assert "MemoryError" in failure["cause"]


@pytest.mark.either_driver
def test_service_manager_hears_of_a_loop_that_turns(tmp_path):
    server = EchoServer()
    gate = GateProcess(tmp_path, server.port)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        gate.start(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="2000000")
        heard = {manager.recv(100) for _ in range(3)}
        assert heard == {b"READY=1", b"WATCHDOG=1"}
        assert gate.end() == 0
        gate.close()
    server.close()


@pytest.mark.either_driver
def test_service_manager_that_does_not_ask_hears_nothing(tmp_path):
    server = EchoServer()
    gate = GateProcess(tmp_path, server.port)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        gate.start(
            NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="2000000", WATCHDOG_PID="1"
        )
        assert manager.recv(100) == b"READY=1"
        assert gate.end() == 0
        assert manager.recv(100) == b"STOPPING=1"
        gate.close()
    server.close()
