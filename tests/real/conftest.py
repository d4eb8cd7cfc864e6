"""A folder and a gate for tests against one real server each."""

from __future__ import annotations

import contextlib
import pathlib
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.flows.ftp_kit import GateThread, clean, pe
from tests.real.ftp_parts import ftp_server

OpenGate = Callable[..., GateThread]


@pytest.fixture
def base() -> Iterator[pathlib.Path]:
    """A folder on disk that other users may enter: vsftpd's unprivileged half has to."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        path = pathlib.Path(folder)
        path.chmod(0o755)
        yield path


@pytest.fixture
def folder(base: pathlib.Path) -> pathlib.Path:
    """What the server serves."""
    folder = base / "root"
    (folder / "up").mkdir(parents=True)
    (folder / "clean.bin").write_bytes(clean())
    (folder / "small.bin").write_bytes(clean(1000))
    (folder / "setup.exe").write_bytes(pe())
    return folder


@pytest.fixture(params=["vsftpd", "pyftpdlib"])
def open_gate(
    request: pytest.FixtureRequest, base: pathlib.Path, folder: pathlib.Path, backend_name: str
) -> Iterator[OpenGate]:
    """Open a gate in front of a server; both end, and are checked, with the test."""
    with contextlib.ExitStack() as running:

        def open_gate(**options: Any) -> GateThread:
            port = running.enter_context(ftp_server(request.param, folder, "127.0.0.1"))
            return running.enter_context(GateThread(base / "gate", port, backend_name, **options))

        yield open_gate


@pytest.fixture
def file_of(tmp_path: pathlib.Path) -> Callable[[bytes], pathlib.Path]:
    """Return what writes bytes to a file, over those of before."""

    def make(content: bytes) -> pathlib.Path:
        path = tmp_path / "object.dat"
        path.write_bytes(content)
        return path

    return make
