"""The network watch against the kernel, in a network namespace of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import Any

import pytest

pytestmark = pytest.mark.either_driver

PROGRAM = """
import asyncio, ipaddress, json, subprocess, sys
from sluicegate.address import SocketAddress
from sluicegate.gate.network_watch import NetworkWatcher
from sluicegate.port import choose_backend, run

said = []

def say(change):
    said.append({
        "added": sorted(map(str, change.added)),
        "removed": sorted(map(str, change.removed)),
        "up": [one.name for one in change.interfaces if one.is_up],
    })

async def until(condition):
    for _ in range(6000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise SystemExit("it did not come true: " + json.dumps(said))

def ip(*words):
    subprocess.run(["ip", *words], check=True)

async def main():
    failures = []
    watch = NetworkWatcher(lambda name, error: failures.append(f"{name}: {error}"))
    watch.open()
    before = [[one.name, one.is_up, len(one.addresses)] for one in watch.interfaces]
    def fail(change):
        raise ValueError("boom")
    watch.subscribe(fail)
    asked = watch.subscribe(say)
    await asyncio.to_thread(ip, "link", "set", "lo", "up")
    await until(lambda: ipaddress.ip_address("127.0.0.1") in watch.addresses)
    await asyncio.to_thread(ip, "addr", "add", "192.0.2.9/24", "dev", "lo")
    await until(lambda: ipaddress.ip_address("192.0.2.9") in watch.addresses)
    await asyncio.to_thread(ip, "addr", "add", "2001:db8::9/64", "dev", "lo")
    await until(lambda: ipaddress.ip_address("2001:db8::9") in watch.addresses)
    await asyncio.to_thread(ip, "addr", "del", "192.0.2.9/24", "dev", "lo")
    await until(lambda: ipaddress.ip_address("192.0.2.9") not in watch.addresses)
    count = len(said)
    asked.cancel()
    # A burst that overruns the socket's buffer: what is known is right all the same.
    import socket
    watch._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    batch = "".join(f"addr add 198.51.100.{n}/32 dev lo\\n" for n in range(1, 200))
    subprocess.run(["ip", "-batch", "-"], input=batch.encode(), check=True)
    await until(lambda: ipaddress.ip_address("198.51.100.199") in watch.addresses)
    everything = sum(str(one).startswith("198.51.100.") for one in watch.addresses)
    watch.close()
    print(json.dumps({
        "before": before, "said": said, "count": count, "failures": failures[:1],
        "everything": everything,
    }))

run(main(), backend=sys.argv[1])
"""


def in_namespace(backend: str) -> dict[str, Any]:
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", PROGRAM, backend],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def can_unshare() -> bool:
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return False
    return subprocess.run(["unshare", "--net", "true"], check=False).returncode == 0


@pytest.mark.skipif(not can_unshare(), reason="needs root, and apt-get install iproute2")
def test_watch_follows_interfaces_and_addresses_and_survives_an_overrun(backend_name: str) -> None:
    said = in_namespace(backend_name)
    assert said["before"] == [["lo", False, 0]]
    added = [address for change in said["said"] for address in change["added"]]
    removed = [address for change in said["said"] for address in change["removed"]]
    assert {"127.0.0.1", "192.0.2.9", "2001:db8::9"} <= set(added)
    assert removed == ["192.0.2.9"]
    assert said["said"][-1]["up"] == ["lo"]
    assert len(said["said"]) == said["count"], "told after it was cancelled"
    assert said["failures"] == [said["failures"][0]]
    assert "boom" in said["failures"][0]
    assert said["everything"] == 199
