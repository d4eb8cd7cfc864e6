"""The founding scenario by a proxy: curl by SOCKS and CONNECT, and executables do not pass."""

from __future__ import annotations

import pathlib
import subprocess
from collections.abc import Iterator

import pytest

from tests.flows.ftp_kit import GateThread, clean, pe, pyftpdlib_server
from tests.real.ftp_parts import tool


class FtpProxy(GateThread):
    """A gate whose clients name the FTP server that they want."""

    def __init__(self, folder: pathlib.Path, server_port: int, backend: str) -> None:
        super().__init__(folder, server_port, backend)
        (folder / "sluicegate.toml").write_text(
            '[[listener]]\nname = "proxy"\naddress = "127.0.0.1:0"\nentry = "proxy"\n'
            'authenticate = "off"\n'
            '[[filter]]\nname = "ftp_access"\nuse = "ftp_access"\n'
            '[[filter]]\nname = "exe_block"\nuse = "exe_block"\n'
        )
        (folder / "policy.toml").write_text(
            '[[rule]]\nname = "ftp"\naction = "allow"\nlistener = "proxy"\n'
            'clients = ["127.0.0.1"]\nto = ["127.0.0.1"]\n'
            f'protocols = ["tcp:{server_port}"]\nfilters = ["ftp_access", "exe_block"]\n'
        )


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, pathlib.Path]]:
    folder = tmp_path_factory.mktemp("origin")
    (folder / "clean.bin").write_bytes(clean())
    (folder / "setup.exe").write_bytes(pe())
    with pyftpdlib_server(folder) as port:
        yield port, folder


@pytest.fixture
def gate(
    origin: tuple[int, pathlib.Path], tmp_path: pathlib.Path, backend_name: str
) -> Iterator[FtpProxy]:
    with FtpProxy(tmp_path / "gate", origin[0], backend_name) as gate:
        yield gate


WAYS = {
    "socks5": ["--proxy", "socks5h://127.0.0.1:{port}"],
    "socks4a": ["--proxy", "socks4a://127.0.0.1:{port}"],
    "connect": ["--proxytunnel", "--proxy", "http://127.0.0.1:{port}"],
}
MODES = {
    "EPSV": [],
    "PASV": ["--disable-epsv"],
    "PASV and its address": ["--disable-epsv", "--no-ftp-skip-pasv-ip"],
}

each_way = pytest.mark.parametrize("way", WAYS)


def curl(
    gate: FtpProxy, origin_port: int, way: str, name: str, *more: str
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [
            *(tool("curl"), "--silent", "--show-error", "--max-time", "60"),
            *(one.format(port=gate.port) for one in WAYS[way]),
            *more,
            f"ftp://user:secret@127.0.0.1:{origin_port}/{name}",
        ],
        capture_output=True,
        timeout=90,
        check=False,
    )


@each_way
@pytest.mark.parametrize("mode", MODES)
def test_clean_file_is_fetched_by_the_proxy_alone(
    gate: FtpProxy, origin: tuple[int, pathlib.Path], way: str, mode: str
) -> None:
    done = curl(gate, origin[0], way, "clean.bin", *MODES[mode])
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == clean()
    assert gate.transfer("clean.bin")["verdict"] == "released"


@each_way
def test_executable_is_not_fetched(
    gate: FtpProxy, origin: tuple[int, pathlib.Path], way: str
) -> None:
    done = curl(gate, origin[0], way, "setup.exe")
    assert done.returncode != 0
    assert done.stdout == b""
    assert gate.transfer("setup.exe")["verdict"] == "refused"


@each_way
def test_executable_is_not_stored_and_a_clean_file_is(
    gate: FtpProxy, origin: tuple[int, pathlib.Path], tmp_path: pathlib.Path, way: str
) -> None:
    folder = origin[1]
    for name, content in (("bad.exe", pe()), ("good", clean(1000))):
        (tmp_path / name).write_bytes(content)
        done = curl(gate, origin[0], way, f"{way}-{name}", "--upload-file", str(tmp_path / name))
        assert (done.returncode == 0) is (name == "good"), done.stderr
    assert not (folder / f"{way}-bad.exe").exists()
    assert (folder / f"{way}-good").read_bytes() == clean(1000)
