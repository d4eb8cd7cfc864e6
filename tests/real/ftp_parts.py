"""Real FTP servers and clients from Debian: vsftpd, curl, lftp; each bounded, on loopback.

What is missing is a failure with the line that installs it, never a skip.
"""

from __future__ import annotations

import contextlib
import dataclasses
import ftplib
import io
import os
import pathlib
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator

import pytest

from tests.flows.ftp_kit import PATIENCE_S, pyftpdlib_server
from tests.ports import free_port

INSTALL = "apt-get install --yes vsftpd curl lftp"


def tool(name: str) -> str:
    """Return the path of a program."""
    path = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if path is None:
        pytest.fail(f"{name} is missing: {INSTALL}", pytrace=False)
    return path


# -- servers ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def vsftpd_server(folder: pathlib.Path, host: str = "127.0.0.1") -> Iterator[int]:
    """Serve a folder to ``anonymous``, who may write in ``up``."""
    if os.geteuid() != 0:
        pytest.fail("vsftpd needs root: run the tests as root", pytrace=False)
    program = tool("vsftpd")
    # vsftpd refuses a writable root, and its unprivileged half needs to enter it.
    shutil.chown(folder / "up", "ftp")
    empty = folder.parent / "empty"
    empty.mkdir(exist_ok=True)
    port = free_port(host)
    listening = (
        {"listen": "NO", "listen_ipv6": "YES", "listen_address6": host}
        if ":" in host
        else {"listen": "YES", "listen_address": host}
    )
    settings = {
        **listening,
        "listen_port": str(port),
        "background": "NO",
        "anonymous_enable": "YES",
        "no_anon_password": "YES",
        "anon_root": str(folder),
        "anon_umask": "022",
        "anon_upload_enable": "YES",
        "anon_mkdir_write_enable": "YES",
        "anon_other_write_enable": "YES",
        "anon_world_readable_only": "NO",
        "write_enable": "YES",
        "local_enable": "NO",
        "ascii_upload_enable": "YES",
        "ascii_download_enable": "YES",
        "ls_recurse_enable": "NO",
        "secure_chroot_dir": str(empty),
        # Containers allow none of these.
        "seccomp_sandbox": "NO",
        "isolate": "NO",
        "isolate_network": "NO",
        "xferlog_enable": "NO",
        "max_per_ip": "0",
        "max_clients": "0",
    }
    config = folder.parent / f"vsftpd-{port}.conf"
    config.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
    process = subprocess.Popen([program, str(config)], stdin=subprocess.DEVNULL)
    try:
        _wait_for(host, port, process)
        yield port
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


@contextlib.contextmanager
def ftp_server(kind: str, folder: pathlib.Path, host: str) -> Iterator[int]:
    make = {"vsftpd": vsftpd_server, "pyftpdlib": pyftpdlib_server}[kind]
    with make(folder, host) as port:
        yield port


def _wait_for(host: str, port: int, process: subprocess.Popen[bytes]) -> None:
    waiting = threading.Event()
    for _ in range(int(PATIENCE_S / 0.05)):
        assert process.poll() is None, "vsftpd ended"
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection((host, port), PATIENCE_S).close()
            return
        waiting.wait(0.05)
    raise AssertionError("vsftpd does not listen")


# -- clients ---------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Outcome:
    is_done: bool
    content: bytes
    #: What a download brought.
    said: str
    #: What the client tells its user.


@dataclasses.dataclass(frozen=True)
class Client:
    """How a client is to behave."""

    host: str
    port: int
    is_passive: bool = True
    is_text: bool = False
    is_extended: bool = True
    #: EPSV and EPRT rather than PASV and PORT.
    work: pathlib.Path = pathlib.Path()

    def fetch(self, path: str) -> Outcome:
        raise NotImplementedError

    def store(self, path: str, content: bytes) -> Outcome:
        raise NotImplementedError

    @property
    def _authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class Curl(Client):
    def fetch(self, path: str) -> Outcome:
        target = self.work / "fetched"
        target.unlink(missing_ok=True)
        ended = self._run("--output", str(target), self._url(path))
        content = target.read_bytes() if target.exists() else b""
        return Outcome(ended.returncode == 0, content, ended.stderr)

    def store(self, path: str, content: bytes) -> Outcome:
        source = self.work / "to-store"
        source.write_bytes(content)
        ended = self._run("--upload-file", str(source), self._url(path))
        return Outcome(ended.returncode == 0, b"", ended.stderr)

    def _url(self, path: str) -> str:
        return f"ftp://{self._authority}/{path}"

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        options = ["--disable", "--verbose", "--no-progress-meter", "--max-time", "60"]
        if self.is_text:
            options.append("--use-ascii")
        if not self.is_passive:
            options += ["--ftp-port", self.host]
        if not self.is_extended:
            options.append("--disable-epsv" if self.is_passive else "--disable-eprt")
        return subprocess.run(
            [tool("curl"), *options, *arguments], capture_output=True, text=True, check=False
        )


class Lftp(Client):
    def fetch(self, path: str) -> Outcome:
        target = self.work / "fetched"
        target.unlink(missing_ok=True)
        ended = self.run(f"get {'-a ' if self.is_text else ''}{path} -o {target}")
        content = target.read_bytes() if target.exists() else b""
        return Outcome(ended.returncode == 0, content, ended.stderr)

    def store(self, path: str, content: bytes) -> Outcome:
        source = self.work / "to-store"
        source.write_bytes(content)
        ended = self.run(f"put {'-a ' if self.is_text else ''}{source} -o {path}")
        return Outcome(ended.returncode == 0, b"", ended.stderr)

    def run(self, command: str, *settings: str) -> subprocess.CompletedProcess[str]:
        script = [
            "set net:timeout 30",
            "set net:max-retries 1",
            "set cmd:fail-exit yes",
            f"set ftp:passive-mode {self.is_passive}",
            f"set ftp:prefer-epsv {self.is_extended}",
            *settings,
            f"open ftp://{self._authority}",
            command,
        ]
        return subprocess.run(
            [tool("lftp"), "--norc", "-c", "; ".join(script)],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=120,
            env={**os.environ, "HOME": str(self.work), "LC_ALL": "C"},
        )


class Ftplib(Client):
    def fetch(self, path: str) -> Outcome:
        received = io.BytesIO()
        with self._connected() as ftp:
            try:
                said = ftp.retrbinary(f"RETR {path}", received.write)
            except ConnectionResetError:
                said = _last_reply(ftp)
            except ftplib.Error as error:
                said = str(error)
        return Outcome(said.startswith("226"), received.getvalue(), said)

    def store(self, path: str, content: bytes) -> Outcome:
        with self._connected() as ftp:
            try:
                said = ftp.storbinary(f"STOR {path}", io.BytesIO(content))
            except (ConnectionResetError, BrokenPipeError):
                said = _last_reply(ftp)
            except ftplib.Error as error:
                said = str(error)
        return Outcome(said.startswith("226"), b"", said)

    @contextlib.contextmanager
    def _connected(self) -> Iterator[ftplib.FTP]:
        with (_TextFtp if self.is_text else ftplib.FTP)(timeout=PATIENCE_S) as ftp:
            ftp.connect(self.host, self.port)
            ftp.login()
            ftp.set_pasv(self.is_passive)
            yield ftp


class _TextFtp(ftplib.FTP):
    """ftplib's transfer of bytes, in TYPE A."""

    def voidcmd(self, cmd: str) -> str:
        return super().voidcmd("TYPE A" if cmd == "TYPE I" else cmd)


def _last_reply(ftp: ftplib.FTP) -> str:
    try:
        return ftp.getresp()
    except ftplib.Error as error:
        return str(error)


CLIENTS = {"curl": Curl, "lftp": Lftp, "ftplib": Ftplib}
