"""What a gate has given up: asked from inside, by a filter that tries everything."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import pathlib
import pwd
import re
import shutil
import signal
import stat
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest

from sluicegate.address import SocketAddress
from sluicegate.app.privileges import find_account, needs_low_ports
from sluicegate.errors import ConfigError
from sluicegate.sandbox import system_calls

from .test_gate_process import EchoServer, GateProcess

pytestmark = [
    pytest.mark.either_driver,
    pytest.mark.skipif(os.geteuid() != 0, reason="changing the user needs root"),
]

PROBE = pathlib.Path(__file__).with_name("probe_filter.py")


@pytest.fixture
def folder() -> Iterator[pathlib.Path]:
    """A folder that other users may enter, and that is not beneath the temporary folder."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        path = pathlib.Path(name)
        path.chmod(0o755)
        yield path


def reachable() -> list[str]:
    """Return a command to start the gate with, so that other users can run this interpreter.

    One beneath somebody's home (pyenv, uv) is closed to them; in a mount name space of the gate's
    own that home is an empty folder with only the interpreter in it.
    """
    base = pathlib.Path(sys.base_prefix).resolve()
    closed = [one for one in base.parents if not one.stat().st_mode & stat.S_IXOTH]
    if not closed:
        return []
    script = f"""set -e
        kept=$(mktemp -d /var/tmp/kept.XXXXXX)
        mount --bind {base} $kept
        mount -t tmpfs -o mode=755 none {closed[-1]}
        mkdir -p {base}
        mount --move $kept {base}
        rmdir $kept
        exec "$@"
    """
    return ["unshare", "--mount", "sh", "-c", script, "sh"]


@pytest.fixture
def gate(folder: pathlib.Path) -> Iterator[GateProcess]:
    server = EchoServer()
    made = GateProcess(folder, server.port)
    shutil.copy(PROBE, folder / "probe.py")
    policy = (folder / "policy.toml").read_text()
    (folder / "policy.toml").write_text(policy + 'filters = ["probe"]\n')
    yield made
    made.close()
    server.close()


def configure(gate: GateProcess, service: str = "", address: str = "127.0.0.1:0") -> None:
    gate.config.write_text(
        f'[service]\n{service}\n[[listener]]\nname = "echo"\naddress = "{address}"\n'
        '[[filter]]\nname = "probe"\nuse = "probe.py:Probe"\n'
    )


def probe(gate: GateProcess, *paths: pathlib.Path, forks: bool = True) -> dict[str, Any]:
    """Let the filter try; paths are files that it tries to write."""
    with gate.connect() as client:
        client.settimeout(60)
        asked = {"paths": [str(path) for path in paths], "forks": forks}
        client.sendall(json.dumps(asked).encode())
        answer = b""
        while not answer.endswith(b"\n"):
            piece = client.recv(65536)
            assert piece, answer
            answer += piece
    found: dict[str, Any] = json.loads(answer)
    return found


EPERM, EACCES, EAFNOSUPPORT = -1, -13, -97

OWN_HOST = str(ipaddress.ip_address("127.128.0.1") + os.getpid())
"""Where another run of these tests on this machine does not listen at the same low port."""


@pytest.mark.parametrize("options", [("--inline",), ("--workers", "1")])
def test_gate_that_root_started_works_as_its_user_and_can_do_nothing_else(gate, folder, options):
    (folder / "allowed").mkdir()
    os.chown(folder / "allowed", pwd.getpwnam("daemon").pw_uid, -1)
    (folder / "open").mkdir()
    (folder / "open").chmod(0o777)
    configure(gate, 'user = "daemon"\nwritable = ["allowed"]')

    gate.mode = options
    gate.start(*reachable())
    spool = folder / "state" / "spool" / "x"
    found = probe(gate, folder / "allowed" / "x", folder / "open" / "x", spool)
    status = gate.status()
    control = (folder / "state" / "control.sock").stat()
    log = (folder / "state" / "records.jsonl").stat()
    assert gate.end() == 0

    user = pwd.getpwnam("daemon")
    assert found["uid"] == [user.pw_uid] * 3
    assert found["gid"] == [user.pw_gid] * 3
    assert set(found["groups"]) <= set(os.getgrouplist("daemon", user.pw_gid))
    caps = [found["status"][name] for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")]
    assert caps == ["0" * 16] * 4
    assert (found["status"]["NoNewPrivs"], found["status"]["Seccomp"]) == ("1", "2")
    assert found["fork"] == EPERM
    assert found["threads"] == 1
    assert found["tcp"] == 0
    assert (found["packet"], found["vsock"]) == (EAFNOSUPPORT, EAFNOSUPPORT)
    assert [found[name] for name in ("raw", "ring", "ptrace", "unshare", "root", "parent")] == [
        EPERM
    ] * 6
    assert found["low_port"] == EACCES
    assert found["writes"] == [0, EACCES, 0]
    assert (control.st_uid, log.st_uid) == (user.pw_uid, user.pw_uid)
    assert status["protections_lacking"] == []
    told = "\n".join(status["protections"])
    assert all(
        word in told for word in (f"uid {user.pw_uid}", "none", "Landlock", "seccomp", "io_uring")
    )


@pytest.mark.parametrize("mode", [("--inline",), ("--workers", "2")])
def test_nothing_of_the_gate_is_open_in_what_it_starts(gate, mode):
    configure(gate)
    gate.mode = mode
    gate.start()
    found = probe(gate)
    processes = gate.status()["workers"]
    opened = {one["name"]: descriptors_of(one["pid"]) for one in processes}
    listening = {
        f"socket:[{line.split()[9]}]"
        for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]
        if line.split()[3] == "0A"
    }
    assert gate.end() == 0

    # Of a program that a filter has started: standard input, output and error.
    assert len(found["descriptors"]) == 3, found["descriptors"]
    assert not [one for one in found["descriptors"] if one.startswith(("socket:", "anon_inode"))]
    if processes:
        assert not listening & set(opened["audit writer"])
        # Each has its own listening socket, and no other worker's or the supervisor's.
        mine, others = (listening & set(opened[f"worker {slot}"]) for slot in (0, 1))
        assert (len(mine), len(others), mine & others) == (1, 1, set())
        kept = tuple(str(gate.folder / "state" / name) for name in ("control", "records"))
        assert not [one for one in opened["worker 0"] if one.startswith(kept)]


def descriptors_of(pid: int) -> list[str]:
    found: list[str] = []
    for entry in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(str(entry.readlink()))
    return found


def test_log_is_opened_again_by_the_gates_user(gate, folder):
    configure(gate, 'user = "daemon"')
    gate.mode = ("--inline",)
    gate.start(*reachable())
    (folder / "state" / "records.jsonl").rename(folder / "state" / "moved.jsonl")
    gate.send(signal.SIGHUP)
    gate.wait_for("reloaded")
    assert gate.end() == 0

    assert "stopped" in gate.events()
    assert (folder / "state" / "records.jsonl").stat().st_uid == pwd.getpwnam("daemon").pw_uid


@pytest.mark.parametrize(
    ("service", "says"),
    [
        ('user = "nobody-of-that-name"', "there is no user 'nobody-of-that-name'"),
        ('user = "daemon"\ngroup = "none-of-that-name"', "there is no group"),
        ('user = "root"', "is root"),
        ('group = "daemon"', "is given without a user"),
    ],
)
def test_gate_does_not_start_as_a_user_that_cannot_be_had(gate, service, says):
    configure(gate, service)
    ended = gate.ask("run")
    assert ended.returncode != 0
    assert says in ended.stderr
    assert not (gate.folder / "state").exists()


def test_gate_that_cannot_change_its_user_does_not_start(gate, folder):
    configure(gate, 'user = "games"')
    with contextlib.suppress(FileNotFoundError):
        (folder / "state").rmdir()
    gate_as_daemon = ["setpriv", "--reuid=daemon", "--regid=daemon", "--clear-groups"]
    with pytest.raises(AssertionError, match="start it as that user, or as root"):
        gate.start(*reachable(), *gate_as_daemon)


def test_operator_may_leave_the_sandbox_out_and_status_says_so(gate, folder):
    (folder / "open").mkdir()
    (folder / "open").chmod(0o777)
    configure(gate, 'user = "daemon"\nsandbox = false')
    gate.start(*reachable())
    # (A fork would answer, too.)
    found = probe(gate, folder / "open" / "x", forks=False)
    status = gate.status()
    assert gate.end() == 0

    assert found["writes"] == [0]
    assert found["status"]["Seccomp"] == "0"
    assert [
        '"sandbox" in [service] is false' in line for line in status["protections_lacking"]
    ] == [True]


def test_low_ports_are_those_of_the_kernel() -> None:
    assert needs_low_ports([SocketAddress("0.0.0.0", 21)])
    assert not needs_low_ports([SocketAddress("0.0.0.0", 0), SocketAddress("::", 60000)])


def test_nobody_named_is_no_account() -> None:
    assert find_account("", "") is None
    with pytest.raises(ConfigError):
        find_account("root", "")


@pytest.mark.parametrize(
    ("machine", "header"),
    [
        ("x86_64", "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
        ("aarch64", "/usr/include/asm-generic/unistd.h"),
    ],
)
def test_numbers_of_system_calls_are_the_kernels(machine: str, header: str) -> None:
    text = pathlib.Path(header).read_text(encoding="ascii")
    numbers = {
        name.removeprefix("3264_"): int(number)
        for name, number in re.findall(r"#define __NR_?(\w+) (\d+)", text)
    }
    named = {name.lstrip("_"): number for name, number in numbers.items()}
    column = system_calls.MACHINES[machine].column
    here = {
        name.lstrip("_"): pair[column]
        for name, pair in system_calls._NUMBERS.items()
        if pair[column] is not None
    }
    for name, number in here.items():
        assert named.get(name, number) == number, name
    assert sum(name in named for name in here) > 90


AS_THE_UNIT_DOES = (
    "setpriv",
    "--reuid=daemon",
    "--regid=daemon",
    "--clear-groups",
    "--inh-caps=-all,+net_bind_service",
    "--ambient-caps=-all,+net_bind_service",
    "--bounding-set=-all,+net_bind_service",
)


def test_gate_that_the_service_manager_starts_as_its_user_keeps_only_what_it_needs(gate, folder):
    (folder / "state").mkdir()
    os.chown(folder / "state", pwd.getpwnam("daemon").pw_uid, -1)
    configure(gate, address=f"{OWN_HOST}:909")
    gate.mode = ("--workers", "1")
    gate.start(*reachable(), *AS_THE_UNIT_DOES)
    assert gate.process is not None
    low = pathlib.Path(f"/proc/{gate.process.pid}/status").read_text()
    found = probe(gate)
    assert gate.end() == 0
    gate.close()

    configure(gate, address="127.0.0.1:0")
    gate.start(*reachable(), *AS_THE_UNIT_DOES)
    high = pathlib.Path(f"/proc/{gate.process.pid}/status").read_text()
    assert gate.end() == 0

    assert "CapEff:\t0000000000000400\n" in low
    assert found["status"]["CapPrm"] == "0" * 16
    assert "CapPrm:\t0000000000000000\n" in high


def test_low_ports_are_opened_also_at_reload_and_by_a_new_version_and_never_by_workers(gate):
    configure(gate, 'user = "daemon"', f"{OWN_HOST}:907")
    gate.mode = ("--workers", "1")
    gate.start(*reachable())
    assert gate.process is not None
    status = pathlib.Path(f"/proc/{gate.process.pid}/status").read_text()
    upgraded = gate.ask("upgrade")
    assert upgraded.returncode == 0, upgraded.stderr
    gate.config.write_text(gate.config.read_text().replace(":907", ":908"))
    reloaded = gate.ask("reload")
    assert reloaded.returncode == 0, reloaded.stderr
    found = probe(gate)
    assert gate.end() == 0

    # The ambient set is what another program keeps.
    assert re.search(r"CapEff:\t0000000000000400\n(.*\n)*CapAmb:\t0000000000000400\n", status)
    assert found["uid"] == [pwd.getpwnam("daemon").pw_uid] * 3
    assert found["status"]["CapPrm"] == "0" * 16
    assert found["low_port"] == EACCES
