"""Archives that 7-Zip makes: opened like those of others, and never called clean when locked."""

from __future__ import annotations

import pathlib
import shutil
import subprocess

import pytest

from sluicegate.filterapi import ScanOutcome
from sluicegate.scan.examination.walk import Report
from tests.unit.container_kit import eicar
from tests.unit.test_walk import looked_at

pytestmark = pytest.mark.either_driver


def packed(folder: pathlib.Path, content: bytes, kind: str, *options: str) -> bytes:
    if shutil.which("7z") is None:
        pytest.skip("cure: apt-get install -y p7zip-full")
    (folder / "inner.bin").write_bytes(content)
    command = ["7z", "a", f"-t{kind}", *options, "archive", "inner.bin"]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, timeout=60)
    (made,) = folder.glob("archive*")
    return made.read_bytes()


def seen(folder: pathlib.Path, content: bytes, kind: str, *options: str) -> Report:
    return looked_at(packed(folder, content, kind, *options))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("7z", []),
        ("7z", ["-m0=LZMA"]),
        ("7z", ["-m0=PPMd"]),
        ("7z", ["-m0=BZip2"]),
        ("7z", ["-m0=Deflate"]),
        ("7z", ["-m0=Copy"]),
        ("7z", ["-m0=BCJ", "-m1=LZMA2"]),
        ("7z", ["-m0=Delta:4", "-m1=LZMA"]),
        ("7z", ["-mhc=off"]),
        ("zip", []),
        ("zip", ["-mm=LZMA"]),
        ("zip", ["-mm=PPMd"]),
        ("zip", ["-mm=BZip2"]),
        ("tar", []),
        ("gzip", []),
        ("bzip2", []),
        ("xz", []),
    ],
    ids=lambda one: one if isinstance(one, str) else " ".join(one) or "as it comes",
)
def test_each_method_is_unpacked(tmp_path: pathlib.Path, kind: str, options: list[str]) -> None:
    """L3."""
    report = seen(tmp_path, eicar() + bytes(2000), kind, *options)
    assert (report.outcome, report.reason[:15]) == (ScanOutcome.FOUND, "EICAR_Test_File")


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("7z", ["-psecret"]),
        ("7z", ["-psecret", "-mhe=on"]),
        ("zip", ["-psecret"]),
        ("zip", ["-psecret", "-mem=AES256"]),
    ],
    ids=lambda one: one if isinstance(one, str) else " ".join(one),
)
def test_what_is_locked_is_said_to_be(
    tmp_path: pathlib.Path, kind: str, options: list[str]
) -> None:
    """L3: members, and lists of members."""
    report = seen(tmp_path, eicar() + bytes(2000), kind, *options)
    assert report.outcome is ScanOutcome.ENCRYPTED, report.reason


@pytest.mark.parametrize(
    ("kind", "options"), [("7z", ["-m0=Deflate64"]), ("zip", ["-mm=Deflate64"]), ("wim", [])]
)
def test_what_cannot_be_unpacked_here_is_never_clean(
    tmp_path: pathlib.Path, kind: str, options: list[str]
) -> None:
    report = seen(tmp_path, bytes(2000) + eicar(), kind, *options)
    assert report.outcome in {ScanOutcome.CORRUPT, ScanOutcome.FOUND}


def test_an_archive_in_volumes_is_never_clean(tmp_path: pathlib.Path) -> None:
    """L3: one volume alone is no archive that anybody can look into."""
    content = pathlib.Path("/proc/self/exe").read_bytes()[:300_000]
    (tmp_path / "inner.bin").write_bytes(content)
    if shutil.which("7z") is None:
        pytest.skip("cure: apt-get install -y p7zip-full")
    command = ["7z", "a", "-v50k", "archive.7z", "inner.bin"]
    subprocess.run(command, cwd=tmp_path, check=True, stdout=subprocess.DEVNULL, timeout=60)
    first = looked_at((tmp_path / "archive.7z.001").read_bytes())
    assert first.outcome is ScanOutcome.CORRUPT
