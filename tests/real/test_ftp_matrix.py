"""Real servers, real clients, every mode: clean files arrive unchanged, executables do not pass."""

from __future__ import annotations

import contextlib
import pathlib
import tempfile
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from tests.flows.ftp_kit import GateThread, clean, pe, text
from tests.real.ftp_parts import CLIENTS, Client, Outcome, ftp_server

HOSTS = {"ipv4": "127.0.0.1", "ipv6": "::1"}

Published = Callable[[str, str], tuple[GateThread, pathlib.Path]]


@pytest.fixture(scope="module")
def published(backend_name: str) -> Iterator[Published]:
    """Return a gate in front of a server, and the server's folder; each is started once."""
    with contextlib.ExitStack() as running:
        known: dict[tuple[str, str], tuple[GateThread, pathlib.Path]] = {}
        # Not below pytest's own folder, which vsftpd's unprivileged half may not enter.
        base = pathlib.Path(running.enter_context(tempfile.TemporaryDirectory(dir="/var/tmp")))
        base.chmod(0o755)

        def publish(server: str, host: str) -> tuple[GateThread, pathlib.Path]:
            if (server, host) not in known:
                folder = _make_files(base / f"{server}-{len(known)}")
                port = running.enter_context(ftp_server(server, folder, host))
                gate = GateThread(base / f"gate-{len(known)}", port, backend_name, host=host)
                known[server, host] = running.enter_context(gate), folder
            return known[server, host]

        yield publish


def _make_files(base: pathlib.Path) -> pathlib.Path:
    folder = base / "root"
    (folder / "up").mkdir(parents=True)
    (folder / "clean.bin").write_bytes(clean())
    (folder / "clean.txt").write_bytes(text())
    (folder / "setup.exe").write_bytes(pe())
    (folder / "empty").write_bytes(b"")
    return folder


@pytest.fixture
def client(tmp_path: pathlib.Path) -> Callable[..., Client]:
    def make(gate: GateThread, kind: str, mode: Mode, *, is_text: bool) -> Client:
        return CLIENTS[kind](
            host=gate.host,
            port=gate.port,
            is_passive=mode.is_passive,
            is_extended=mode.is_extended,
            is_text=is_text,
            work=tmp_path,
        )

    return make


class Mode(NamedTuple):
    """How data connections are made."""

    family: str
    is_passive: bool
    is_extended: bool


modes = pytest.mark.parametrize(
    "mode",
    [
        pytest.param(Mode("ipv4", True, True), id="ipv4-EPSV"),
        pytest.param(Mode("ipv4", True, False), id="ipv4-PASV"),
        pytest.param(Mode("ipv4", False, True), id="ipv4-EPRT"),
        pytest.param(Mode("ipv4", False, False), id="ipv4-PORT"),
        pytest.param(Mode("ipv6", True, True), id="ipv6-EPSV"),
        pytest.param(Mode("ipv6", False, True), id="ipv6-EPRT"),
    ],
)
types = pytest.mark.parametrize("is_text", [False, True], ids=["binary", "ascii"])
clients = pytest.mark.parametrize("kind", list(CLIENTS))
servers = pytest.mark.parametrize("server", ["vsftpd", "pyftpdlib"])


@clients
@servers
@modes
@types
def test_clean_file_is_fetched(published, client, kind, server, mode, is_text):
    gate, folder = published(server, HOSTS[mode.family])
    peer = client(gate, kind, mode, is_text=is_text)
    name = "clean.txt" if is_text else "clean.bin"
    outcome = peer.fetch(name)
    assert outcome.is_done, outcome.said
    assert _unix(outcome.content, is_text) == (folder / name).read_bytes()


@clients
@servers
@modes
@types
def test_executable_is_not_fetched(published, client, kind, server, mode, is_text):
    gate, _ = published(server, HOSTS[mode.family])
    peer = client(gate, kind, mode, is_text=is_text)
    outcome = peer.fetch("setup.exe")
    assert not outcome.is_done
    assert outcome.content == b""
    _check_said(kind, outcome)


@clients
@servers
@modes
@types
def test_clean_file_is_stored(published, client, kind, server, mode, is_text):
    gate, folder = published(server, HOSTS[mode.family])
    peer = client(gate, kind, mode, is_text=is_text)
    content = text() if is_text else clean()
    (folder / "up" / "stored").unlink(missing_ok=True)
    outcome = peer.store("up/stored", content)
    assert outcome.is_done, outcome.said
    # ftplib stores what it is given in TYPE A, without line ends of the network.
    assert _unix((folder / "up" / "stored").read_bytes(), is_text) == content


@clients
@servers
@modes
@types
def test_executable_is_not_stored_and_what_was_there_stays(
    published, client, kind, server, mode, is_text
):
    gate, folder = published(server, HOSTS[mode.family])
    peer = client(gate, kind, mode, is_text=is_text)
    (folder / "up" / "kept").write_bytes(b"old")
    outcome = peer.store("up/kept", pe())
    assert not outcome.is_done
    assert "550 Refused: Windows (PE) executable" in outcome.said
    assert (folder / "up" / "kept").read_bytes() == b"old"


@clients
@servers
def test_empty_files_pass_both_ways(published, client, kind, server):
    gate, folder = published(server, HOSTS["ipv4"])
    peer = client(gate, kind, Mode("ipv4", True, True), is_text=False)
    (folder / "up" / "nothing").unlink(missing_ok=True)
    assert peer.fetch("empty").is_done
    assert peer.store("up/nothing", b"").is_done
    assert (folder / "up" / "nothing").read_bytes() == b""


def _unix(content: bytes, is_text: bool) -> bytes:
    return content.replace(b"\r\n", b"\n") if is_text else content


def _check_said(kind: str, outcome: Outcome) -> None:
    """Clients that read on after the reset of the data connection show the reason."""
    if kind != "curl":
        assert "550 Refused: Windows (PE) executable" in outcome.said
