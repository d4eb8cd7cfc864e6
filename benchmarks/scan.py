"""`python -m benchmarks.scan`: how fast scanner processes look through objects.

`make bench-scan` comes here. The first table is what one process does: MB of an object's unpacked
bytes per second of CPU time, with the shipped rule and with 1,000 made up ones, as it comes, packed
in archives, and in documents; beside it the rules alone on the unpacked bytes, and 7-Zip unpacking
the archive. The second is what an object costs gate and process together, from the question to the
answer. Medians. The exit status is 1 when a target is missed.
"""

from __future__ import annotations

import bz2
import contextlib
import functools
import gzip
import io
import json
import lzma
import os
import pathlib
import random
import resource
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
import zipfile
import zlib
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any, BinaryIO, cast

import click
import libarchive

from sluicegate.app.content_scanners import make_content_scanner
from sluicegate.app.scanners import ScannerTable
from sluicegate.documents import Findings
from sluicegate.filterapi import Direction, ScanOutcome, Transfer, TransferOffer
from sluicegate.port.loop import current_port, run
from sluicegate.scan import ProcessContentScanner
from sluicegate.scan.examination.walk import Walk
from sluicegate.scan.examination.yara_rules import YaraRules
from sluicegate.scan.messages import ArchiveBounds
from sluicegate.scan.rule_files import read_rules

SIZE = 16 << 20
ROUNDS = 3
RULES = 1000
OBJECTS = 400
PLAIN_MB_S_MIN = 60.0
"""Target: MB/s of an object that is no container, with all rules."""
RATIO_MIN = 0.5
"""Target: so much of the speed of the rules alone, for an object that is no container."""
OBJECT_US_MAX = 1500.0
"""Target: CPU time of gate and process for one small object."""

BOUNDS = ArchiveBounds(8, 100_000, 1 << 30, 256 << 20, 10_000, 0)


def rules(count: int) -> YaraRules:
    """Compile the shipped rules and made up ones, as scanner processes do."""
    dice = random.Random(1)

    def word(length: int) -> str:
        return "".join(dice.choices("abcdefghijklmnopqrstuvwxyz", k=length))

    made = [
        f'rule made_{number} {{ strings: $a = "{word(14)}" '
        f"$b = {{ {dice.randbytes(16).hex(' ')} }} $c = /{word(6)}[0-9]{{2,6}}x/ "
        f"condition: 2 of them }}"
        for number in range(count)
    ]
    shipped = read_rules(None, with_shipped=True).sources
    return YaraRules([*shipped, ("made.yar", "\n".join(made).encode())])


def source_code() -> bytes:
    """Return source code of Python's library."""
    code = bytearray()
    for path in sorted(pathlib.Path(sysconfig.get_path("stdlib")).rglob("*.py")):
        code += path.read_bytes()
        if len(code) >= SIZE:
            break
    return bytes((code * (SIZE // len(code) + 1))[:SIZE])


def program() -> bytes:
    """Return an executable and its libraries, one after the other."""
    joined = bytearray(pathlib.Path(sys.executable).resolve().read_bytes())
    for path in sorted(pathlib.Path("/usr/lib").glob("*-linux-gnu/lib*.so.*")):
        if len(joined) >= SIZE:
            break
        joined += path.read_bytes()
    return bytes((joined * (SIZE // len(joined) + 1))[:SIZE])


def zipped(data: bytes) -> bytes:
    """Return a ZIP file with the bytes in 64 members."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(64):
            part = data[number * SIZE // 64 : (number + 1) * SIZE // 64]
            archive.writestr(zipfile.ZipInfo(f"{number}.txt"), part, zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def tarred(data: bytes) -> bytes:
    """Return a tar file with the bytes in 64 members."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for number in range(64):
            part = data[number * SIZE // 64 : (number + 1) * SIZE // 64]
            entry = tarfile.TarInfo(f"{number}.txt")
            entry.size = len(part)
            archive.addfile(entry, io.BytesIO(part))
    return packed.getvalue()


def by_libarchive(data: bytes, format_name: str, filter_name: str | None = None) -> bytes:
    """Return an archive that libarchive makes."""
    pieces: list[bytes] = []

    def write(piece: bytes) -> int:
        pieces.append(bytes(piece))
        return len(piece)

    writer = cast("Any", libarchive).custom_writer(write, format_name, filter_name)
    with writer as archive:
        for number in range(64):
            part = data[number * SIZE // 64 : (number + 1) * SIZE // 64]
            archive.add_file_from_memory(f"{number}.txt", len(part), part)
    return b"".join(pieces)


def pdf(data: bytes) -> bytes:
    """Return a PDF file with the bytes in 64 streams."""
    parts = [b"%PDF-1.7\n"]
    for number in range(64):
        part = zlib.compress(data[number * SIZE // 64 : (number + 1) * SIZE // 64])
        parts.append(
            b"%d 0 obj\n<</Filter/FlateDecode/Length %d>>\nstream\n%s\nendstream\nendobj\n"
            % (number + 1, len(part), part)
        )
    return b"".join(parts)


def objects(code: bytes) -> Iterator[tuple[str, bytes, str]]:
    """Yield what is looked at: a name, the object, and how 7-Zip calls the kind (empty: not)."""
    yield "source code", code, ""
    yield "programs", program(), ""
    yield "noise", random.Random(2).randbytes(SIZE), ""
    yield "zip", zipped(code), "zip"
    yield "tar.gz", gzip.compress(tarred(code), 6), ""
    yield "tar.bz2", bz2.compress(tarred(code)), ""
    yield "tar.xz", lzma.compress(tarred(code), preset=2), ""
    yield "tar.zst", by_libarchive(code, "gnutar", "zstd"), ""
    yield "7z", by_libarchive(code, "7zip"), "7z"
    yield "cpio", by_libarchive(code, "cpio_newc"), "cpio"
    yield "pdf", pdf(code), ""


def cpu_s(work: Callable[[], object]) -> float:
    """Return the CPU time of this process that something takes: the median."""
    took: list[float] = []
    for _ in range(ROUNDS):
        began = time.process_time()
        work()
        took.append(time.process_time() - began)
    return statistics.median(took)


def look(data: bytes, compiled: YaraRules) -> None:
    """Look at an object as a scanner process does.

    Raises:
        SystemExit: It is not found clean: that would be no measurement.
    """
    report = Walk(BOUNDS, compiled).examine(data, "object", "")
    if report.outcome is not ScanOutcome.CLEAN:
        raise SystemExit(f"not clean: {report.reason}")


def peer_cpu_s(data: bytes, kind: str) -> float | None:
    """Return the CPU time of 7-Zip unpacking an archive to nowhere."""
    if not kind or shutil.which("7z") is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / f"archive.{kind}"
        path.write_bytes(data)
        took: list[float] = []
        for _ in range(ROUNDS):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(
                ["7z", "x", "-so", "-mmt=1", str(path)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=True,
                timeout=300,
            )
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            took.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(took)


# -- from the question to the answer ---------------------------------------------------------------


class HeldFile:
    """An object in an unlinked file, as the spool holds one; satisfies `Transfer`."""

    connection: Any = None

    def __init__(self, data: bytes, number: int) -> None:
        self.offer = TransferOffer(f"object {number}", Direction.DOWNLOAD, "bench")
        self.size = len(data)
        self.sha256 = str(number)
        self.head = data[:4096]
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed below
        self._file.write(data)
        self._file.flush()

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncGenerator[HeldFile]:
        """Open it."""
        yield self

    def blocking_file(self) -> BinaryIO:
        """Return a reader."""
        path = f"/proc/self/fd/{self._file.fileno()}"
        return open(os.open(path, os.O_RDONLY | os.O_CLOEXEC), "rb")

    def close(self) -> None:
        """Give it back."""
        self._file.close()


@contextlib.asynccontextmanager
async def started() -> AsyncGenerator[ProcessContentScanner]:
    """Run a scanner with one process."""
    findings = Findings()
    table = ScannerTable(name="yara", kind="yara", processes=1)
    scanner = make_content_scanner(table, pathlib.Path("/"), (), None, (), ("bench", findings))
    if scanner is None:
        raise SystemExit(str(findings.errors))
    scanner.start(current_port(), sys.exit)
    try:
        yield scanner
    finally:
        scanner.stop()
        await scanner.wait_ended()


def process_cpu_s(pid: int) -> float:
    """Return the CPU time that a process has used."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def round_trips(size: int) -> tuple[float, float]:
    """Return the CPU time and the time of one object, in microseconds: gate and process."""
    data = (b"some text that is harmless\n" * (size // 27 + 1))[:size]
    async with started() as scanner:
        await ask(scanner, data, -1)
        (pid,) = scanner.view().pids
        before = time.process_time() + process_cpu_s(pid)
        began = time.perf_counter()
        for number in range(OBJECTS):
            await ask(scanner, data, number)
        took = time.perf_counter() - began
        used = time.process_time() + process_cpu_s(pid) - before
    return used / OBJECTS * 1e6, took / OBJECTS * 1e6


async def ask(scanner: ProcessContentScanner, data: bytes, number: int) -> None:
    """Have one object looked at."""
    held = HeldFile(data, number)
    contents = await scanner.examine(cast("Transfer", held))
    held.close()
    if contents.result.outcome is not ScanOutcome.CLEAN:
        raise SystemExit(f"not clean: {contents.result.reason}")


@click.command(help=(__doc__ or "").partition("\n")[0])
@click.option("--json", "as_json", type=click.Path(dir_okay=False), help="Write figures there.")
def main(as_json: str | None) -> None:
    """Measure, print the tables, and say which target is missed."""
    few, many = rules(0), rules(RULES)
    code = source_code()
    alone = {"few": SIZE / 1e6 / cpu_s(lambda: few.find(code)),
             "many": SIZE / 1e6 / cpu_s(lambda: many.find(code))}  # fmt: skip
    print(f"rules alone, source code: {alone['few']:.0f} and {alone['many']:.0f} MB/s")
    rows: list[dict[str, Any]] = []
    for name, data, kind in objects(code):
        peer = peer_cpu_s(data, kind)
        row = {
            "object": name,
            "packed_mb": round(len(data) / 1e6, 1),
            "one_rule_mb_s": round(SIZE / 1e6 / cpu_s(functools.partial(look, data, few)), 1),
            "many_rules_mb_s": round(SIZE / 1e6 / cpu_s(functools.partial(look, data, many)), 1),
            "7-zip_mb_s": None if peer is None else round(SIZE / 1e6 / peer, 1),
        }
        rows.append(row)
        print("  ".join(f"{key}: {value}" for key, value in row.items()), flush=True)
    small: dict[str, float] = {}
    for size in (1 << 10, 64 << 10, 1 << 20):
        used, took = run(round_trips(size), backend="epoll")
        small[f"{size}"] = used
        print(f"{size} bytes through a process: {used:.0f} us of CPU time, {took:.0f} us")
    if as_json:
        pathlib.Path(as_json).write_text(
            json.dumps({"alone": alone, "objects": rows, "round_trips": small}, indent=2)
        )
    sys.exit(missed(rows, alone, small))


def missed(rows: list[dict[str, Any]], alone: dict[str, float], small: dict[str, float]) -> int:
    """Say which targets are met."""
    plain = float(rows[0]["many_rules_mb_s"])
    ratio, cost = plain / alone["many"], small["1024"]
    print(f"target: source code at {PLAIN_MB_S_MIN:.0f} MB/s: {plain:.1f}")
    print(f"target: {RATIO_MIN} of the rules alone: {ratio:.2f}")
    print(f"target: a small object in {OBJECT_US_MAX:.0f} us of CPU time: {cost:.0f}")
    return int(plain < PLAIN_MB_S_MIN or ratio < RATIO_MIN or cost > OBJECT_US_MAX)


if __name__ == "__main__":
    main()
