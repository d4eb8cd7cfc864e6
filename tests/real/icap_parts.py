"""A real c-icap with its echo service, its example of 206, and ClamAV behind its virus scanner."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from sluicegate.address import SocketAddress
from sluicegate.clock import SystemClock
from sluicegate.protocols.icap import IcapTarget
from sluicegate.scan import IcapScanner, IcapSettings, ScannerTls
from tests.pki import authority
from tests.ports import free_port
from tests.real.clamd_parts import PATIENCE_S, Clamd
from tests.real.sample_parts import is_listening
from tests.waiting import wait_until

AUTHORITY = authority("of ICAP servers")
MODULES = pathlib.Path("/usr/lib/x86_64-linux-gnu/c_icap")


class CIcap:
    """One server; ``start`` and ``kill`` it as often as you like."""

    def __init__(self, folder: pathlib.Path, clamd: Clamd, **options: str) -> None:
        if shutil.which("c-icap") is None or not (_modules() / "virus_scan.so").exists():
            pytest.skip("cure: apt-get install -y c-icap libc-icap-mod-virus-scan")
        folder.mkdir(parents=True)
        self.address, self.tls_address = (SocketAddress("127.0.0.1", free_port()) for _ in range(2))
        certificate, key = AUTHORITY.server("127.0.0.1").write(folder, "server")
        settings = {
            "PidFile": folder / "c-icap.pid",
            "CommandsSocket": folder / "c-icap.ctl",
            "StartServers": 1,
            "MaxServers": 2,
            "MinSpareThreads": 2,
            "MaxSpareThreads": 10,
            "ThreadsPerChild": 10,
            "KeepAliveTimeout": 60,
            "Timeout": 30,
            "Port": self.address,
            "TlsPort": f"{self.tls_address} cert={certificate} key={key}",
            "TmpDir": folder,
            "ModulesDir": _modules(),
            "ServicesDir": _modules(),
            "TemplateDir": "/usr/share/c_icap/templates/",
            "TemplateDefaultLanguage": "en",
            "LoadMagicFile": "/etc/c-icap/c-icap.magic",
            "ServerLog": folder / "server.log",
            "AccessLog": folder / "access.log",
            "virus_scan.ScanFileTypes": "TEXT DATA EXECUTABLE ARCHIVE DOCUMENT MSOFFICE UNKNOWN",
            "virus_scan.MaxObjectSize": "5M",
            # As Debian configures it.
            "virus_scan.SendPercentData": "5",
            "virus_scan.StartSendPercentDataAfter": "2M",
            "clamd_mod.ClamdSocket": clamd.socket,
        } | options
        services = (
            "Module common clamd_mod.so\n"
            "Service echo srv_echo.so\n"
            "Service ex206 srv_ex206.so\n"
            "Service virus_scan virus_scan.so\n"
        )
        self._configuration = folder / "c-icap.conf"
        lines = [f"{name} {value}\n" for name, value in settings.items()]
        modules = [one for one in lines if "." in one.split(" ")[0]]
        plain = [one for one in lines if one not in modules]
        self._configuration.write_text("".join(plain) + services + "".join(modules))
        self._log = folder / "output.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; returns when it takes connections, with and without TLS."""
        with self._log.open("ab") as log:
            command = ["c-icap", "-N", "-D", "-d", "1", "-f", str(self._configuration)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, process_group=0)
        process = self._process

        def listens() -> bool:
            assert process.poll() is None, self._log.read_text()
            return is_listening(self.address.port) and is_listening(self.tls_address.port)

        wait_until(listens, f"c-icap does not listen: see {self._log}")

    def kill(self) -> None:
        """End it and its children at once, if it runs."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(PATIENCE_S)

    def scanner(self, service: str, **changed: Any) -> IcapScanner:
        """Make a scanner that asks one of its services."""
        chosen: dict[str, Any] = {
            "place": self.address,
            "target": IcapTarget(self.address.host, self.address.port, service),
            "connections_max": 4,
            "timeout_s": PATIENCE_S,
            "wait_s": 0.0,
            "object_bytes_max": 1 << 30,
            "modified_bytes_max": 1 << 20,
            "trusts_limits": False,
        }
        return IcapScanner("icap", IcapSettings(**(chosen | changed)), SystemClock())

    def encrypted_scanner(self, service: str, **changed: Any) -> IcapScanner:
        """Make one that speaks TLS with it."""
        chosen: dict[str, Any] = {
            "place": self.tls_address,
            "target": IcapTarget(self.tls_address.host, self.tls_address.port, service, True),
            "encryption": ScannerTls(self.tls_address.host, AUTHORITY.pem),
        }
        return self.scanner(service, **(chosen | changed))


def _modules() -> pathlib.Path:
    found = sorted(pathlib.Path("/usr/lib").glob("*/c_icap"))
    return found[0] if found else MODULES


@contextlib.contextmanager
def running_c_icap(folder: pathlib.Path, clamd: Clamd, **options: str) -> Iterator[CIcap]:
    """Run a c-icap; its folder is made."""
    server = CIcap(folder, clamd, **options)
    server.start()
    try:
        yield server
    finally:
        server.kill()
