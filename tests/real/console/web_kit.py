"""A gate with a console that holds web downloads, with scanners and things to refuse."""

from __future__ import annotations

import contextlib
import functools
import http.client
import pathlib
from collections.abc import Iterator

from tests.ports import free_port
from tests.real.clamd_parts import Clamd, eicar, running_clamd
from tests.real.console.console_kit import ConsoleGate
from tests.real.dns_parts import dnsmasq_server
from tests.real.web_parts import HOST, JUDGE, nginx

MOODY = '''
from sluicegate.filterapi import ContentFilter, Release


class Moody(ContentFilter):
    """Has opinions about nothing, and fails at what is called moody."""

    name = "moody"

    async def inspect(self, transfer):
        if "moody" in transfer.offer.name:
            raise ValueError("no opinion about this one")
        return Release()
'''

MAIN = """
[[listener]]
name = "proxy"
address = "127.0.0.1:0"
entry = "proxy"

[resolver]
servers = ["127.0.0.1:{dns_port}"]

[log]
store = "sqlite"

[console]
listen = "127.0.0.1:{port}"

[[scanner]]
name = "clamd"
kind = "clamd"
socket = "{socket}"
wait_s = 0
timeout_s = 60

[[scanner]]
name = "patterns"
kind = "yara"
processes = 1

[[filter]]
name = "exe_block"

[[filter]]
name = "antivirus"
[filter.settings]
scanners = ["clamd", "patterns"]

[[filter]]
name = "judge"
use = "judge.py:Judge"

[[filter]]
name = "moody"
use = "moody.py:Moody"
"""

POLICY = """\
[[rule]]
name = "web"
action = "allow"
listener = "proxy"
clients = ["127.0.0.0/8"]
to = ["*.names.test", "127.0.0.1"]
protocols = ["tcp:{port}"]
filters = ["antivirus", "judge", "moody"]
comment = "everybody may read the web; what comes is looked through"
"""


class WebConsoleGate(ConsoleGate):
    """A proxy whose downloads are held until four filters have seen them."""

    def __init__(
        self, folder: pathlib.Path, web_port: int, dns_port: int, clamd: Clamd, www: pathlib.Path
    ) -> None:
        self.dns_port = dns_port
        self.clamd = clamd
        self.www = www
        folder.mkdir()
        super().__init__(folder, web_port)

    def write_main(self, more: str = "") -> None:
        (self.folder / "judge.py").write_text(JUDGE)
        (self.folder / "moody.py").write_text(MOODY)
        # With a port of its own: of port 0, every one of the address would be the gate's.
        self.config.write_text(
            MAIN.format(dns_port=self.dns_port, socket=self.clamd.socket, port=free_port()) + more
        )

    def write_policy(self, clients: str = "127.0.0.0/8") -> None:
        del clients
        text = POLICY.format(port=self.server_port)
        (self.folder / "policy.toml").write_text(text)

    @functools.cached_property
    def port(self) -> int:
        """Of the proxy."""
        return int(self.status()["listeners"][0]["address"].rpartition(":")[2])

    def offer(self, name: str, content: bytes) -> None:
        """Have the web server serve something."""
        (self.www / name).write_bytes(content)

    def download(self, name: str, host: str = HOST) -> int:
        """Ask for something through the proxy; return the status of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET", f"http://{host}:{self.server_port}/{name}")
            answer = connection.getresponse()
            answer.read()
            return answer.status
        finally:
            connection.close()

    @contextlib.contextmanager
    def downloading(self, name: str) -> Iterator[None]:
        """Ask for something that takes its time; at the end the client goes, whatever has come."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request("GET", f"http://{HOST}:{self.server_port}/{name}")
            yield


@contextlib.contextmanager
def web_console_gate(folder: pathlib.Path) -> Iterator[WebConsoleGate]:
    """Run one, with nginx, dnsmasq and a clamd of its own."""
    with (
        running_clamd(folder / "clamd") as clamd,
        nginx(folder) as web_port,
        dnsmasq_server(folder) as dns_port,
    ):
        gate = WebConsoleGate(folder / "gate", web_port, dns_port, clamd, folder / "www")
        gate.offer("invoice.txt", eicar())
        gate.offer("moody.txt", b"whatever\n" * 100)
        gate.offer("report.txt", b"figures of the week\n" * 2000)
        gate.add_users()
        with gate.running():
            yield gate
