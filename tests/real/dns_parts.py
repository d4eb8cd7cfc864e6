"""Real DNS servers from Debian: dnsmasq with a zone of its own, unbound asking it; on loopback.

What is missing is a failure with the line that installs it, never a skip.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import subprocess
import threading
from collections.abc import Iterator

import dns.exception
import dns.message
import dns.query
import pytest

from tests.flows.ftp_kit import PATIENCE_S
from tests.ports import free_port

INSTALL = "apt-get install --yes dnsmasq-base unbound"

#: What dnsmasq knows.
ZONE = """
host-record=www.names.test,93.184.216.34,2606:2800:220:1::1
host-record=v4.names.test,93.184.216.35
host-record=web.names.test,127.0.0.1
host-record=downloads.names.test,127.0.0.1
host-record=ldap.names.test,127.0.0.1
host-record=v6.names.test,2606:2800:220:1::6
host-record=private.names.test,10.1.2.3
host-record=mapped.names.test,::ffff:10.1.2.3
host-record=metadata-behind.names.test,169.254.169.254
host-record=mixed.names.test,93.184.216.34
host-record=mixed.names.test,10.0.0.1
cname=alias.names.test,middle.names.test
cname=middle.names.test,www.names.test
cname=bad-alias.names.test,www.evil.test
host-record=www.evil.test,93.184.216.34
host-record=xn--bcher-kva.names.test,93.184.216.36
txt-record=text.names.test,only text
"""


def tool(name: str) -> str:
    """Return the path of a program."""
    path = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if path is None:
        pytest.fail(f"{name} is missing: {INSTALL}", pytrace=False)
    return path


@contextlib.contextmanager
def dnsmasq_server(folder: pathlib.Path) -> Iterator[int]:
    """Serve the zone, and ``many`` and ``burst`` with 100 and 200 addresses."""
    many = "".join(f"host-record=many.names.test,93.184.217.{i}\n" for i in range(100))
    burst = "".join(
        f"host-record=burst.names.test,93.{185 + (i >> 8)}.{i & 255}.1\n" for i in range(200)
    )
    port = free_port()
    config = folder / "dnsmasq.conf"
    config.write_text(
        f"port={port}\nlisten-address=127.0.0.1\nbind-interfaces\nno-resolv\nno-hosts\nno-daemon\n"
        f"user=root\nlocal=/test/\nlocal-ttl=60\ncache-size=2000\nedns-packet-max=1232\n"
        f"{ZONE}{many}{burst}"
    )
    with _running([tool("dnsmasq"), f"--conf-file={config}"], port):
        yield port


@contextlib.contextmanager
def unbound_server(folder: pathlib.Path) -> Iterator[int]:
    """Ask the same zone of a dnsmasq, as a recursive server with a cache."""
    port = free_port()
    config = folder / "unbound.conf"
    with dnsmasq_server(folder) as authority:
        config.write_text(f"""
server:
    interface: 127.0.0.1
    port: {port}
    do-daemonize: no
    chroot: ""
    username: ""
    directory: "{folder}"
    pidfile: ""
    use-syslog: no
    verbosity: 0
    num-threads: 1
    module-config: "iterator"
    do-not-query-localhost: no
    local-zone: "test." nodefault
    max-udp-size: 1232
forward-zone:
    name: "."
    forward-addr: 127.0.0.1@{authority}
remote-control:
    control-enable: no
""")
        with _running([tool("unbound"), "-d", "-c", str(config)], port):
            yield port


SERVERS = {"dnsmasq": dnsmasq_server, "unbound": unbound_server}


@contextlib.contextmanager
def _running(command: list[str], port: int) -> Iterator[None]:
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        _wait_for(port, process)
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    waiting = threading.Event()
    asked = dns.message.make_query("www.names.test", "A")
    for _ in range(int(PATIENCE_S / 0.05)):
        assert process.poll() is None, "the DNS server ended"
        with contextlib.suppress(OSError, dns.exception.Timeout):
            dns.query.udp(asked, "127.0.0.1", timeout=0.2, port=port)
            return
        waiting.wait(0.05)
    raise AssertionError("the DNS server does not answer")
