"""Scanner processes as they are: confined, bounded, replaced, and given other rules."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import signal
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from sluicegate.app.content_scanners import make_content_scanner
from sluicegate.app.scanners import ArchivesTable, ScannerTable
from sluicegate.documents import Findings
from sluicegate.filterapi import Contents, ScanOutcome, ScanResult, Transfer, Unpacked
from sluicegate.port.loop import current_port
from sluicegate.scan import ProcessContentScanner
from tests.kernel.cell_kit import HeldFile, in_loop
from tests.unit.container_kit import eicar, pdf, zipped

SLOW = (
    b"rule slow { condition: "
    b"for all i in (1..filesize) : (for all j in (1..filesize) : (i + j > 0)) }"
)
GREEN = b'rule green { strings: $a = "green" condition: $a }'


def made(
    folder: pathlib.Path, findings: Findings | None = None, **settings: Any
) -> ProcessContentScanner | None:
    table = ScannerTable(name="yara", kind="yara", **settings)
    told = "sluicegate.toml", findings or Findings()
    return make_content_scanner(table, folder, (folder / "state",), None, (), told)


class Scanner:
    """A scanner that runs, and what it tells of its troubles."""

    def __init__(self, inner: ProcessContentScanner) -> None:
        self.inner = inner
        self.told: list[str] = []

    @property
    def pids(self) -> list[int]:
        return self.inner.view().pids

    async def look(self, data: bytes, name: str = "object", **changed: Any) -> Contents:
        held = HeldFile(data)
        held.offer = replace(held.offer, name=name, **changed)
        try:
            return await self.inner.examine(held)  # type: ignore[arg-type]
        finally:
            held.close()

    async def unpack(self, data: bytes) -> Unpacked:
        held = HeldFile(data)
        try:
            return await self.inner.unpack(held)  # type: ignore[arg-type]
        finally:
            held.close()

    async def result(self, data: bytes) -> tuple[ScanOutcome, str]:
        result = (await self.look(data)).result
        return result.outcome, result.reason

    async def version(self) -> str:
        """Return the version when all processes have the same rules."""
        while not (version := await self.inner.version()):
            await asyncio.sleep(0.01)
        return version

    async def until(self, is_so: Callable[[], bool]) -> None:
        while not is_so():
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def running(folder: pathlib.Path, **settings: Any) -> AsyncIterator[Scanner]:
    findings = Findings()
    inner = made(folder, findings, **{"processes": 1, **settings})
    assert inner is not None, findings.errors
    scanner = Scanner(inner)
    inner.start(current_port(), scanner.told.append)
    try:
        yield scanner
    finally:
        inner.stop()
        await inner.wait_ended()
    assert inner.view().pids == []


def opened_by(pid: int) -> set[str]:
    """What a process has open."""
    opened: set[str] = set()
    for one in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            opened.add(os.readlink(one).partition(":")[0])
    return opened


def test_an_object_is_looked_at_through_its_descriptor(
    tmp_path: pathlib.Path, backend_name: str
) -> None:
    async def work() -> None:
        async with running(tmp_path) as scanner:
            assert await scanner.result(b"harmless") == (ScanOutcome.CLEAN, "")
            assert await scanner.result(zipped(eicar())) == (
                ScanOutcome.FOUND,
                "EICAR_Test_File in inner.bin",
            )
            contents = await scanner.look(zipped(b"MZ" + bytes(70)), "a.zip")
            assert {one.kind for one in contents.parts} == {"dos", "zip"}
            assert contents.result.signatures.startswith("yara ")
            assert scanner.inner.view().asked == 3
            assert scanner.told == []

    in_loop(work, backend_name)


def test_a_process_can_do_nothing_but_look(tmp_path: pathlib.Path, backend_name: str) -> None:
    async def work() -> None:
        async with running(tmp_path) as scanner:
            await scanner.look(b"harmless")
            (pid,) = scanner.pids
            facts = dict(
                line.split(":\t", 1)
                for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
                if ":\t" in line
            )
            assert (facts["Seccomp"], facts["NoNewPrivs"]) == ("2", "1")
            assert facts["CapEff"].strip("0") == ""
            limits = pathlib.Path(f"/proc/{pid}/limits").read_text()
            rows = {line[:26].strip(): line[26:].split()[:2] for line in limits.splitlines()}
            assert rows["Max address space"] == [str(1 << 30)] * 2
            assert rows["Max file size"] == ["0", "0"]
            assert rows["Max cpu time"][0] != "unlimited"
            # The answer comes a moment before the object is closed.
            await scanner.until(lambda: opened_by(pid) == {"/dev/null", "socket"})

    in_loop(work, backend_name)


def test_a_process_that_is_killed_costs_its_object_alone(
    tmp_path: pathlib.Path, backend_name: str
) -> None:
    """R8."""

    async def work() -> None:
        async with running(tmp_path) as scanner:
            await scanner.look(b"harmless")
            (first,) = scanner.pids
            os.kill(first, signal.SIGSTOP)
            asked = asyncio.ensure_future(scanner.result(b"another"))
            await asyncio.sleep(0)
            await scanner.until(lambda: scanner.inner.view().asked == 2)
            os.kill(first, signal.SIGKILL)
            outcome, reason = await asked
            assert outcome is ScanOutcome.NOT_SCANNED
            assert reason == f"its process was killed by SIGKILL (pid {first})"
            assert scanner.told == [reason]
            assert await scanner.result(eicar()) == (ScanOutcome.FOUND, "EICAR_Test_File")
            view = scanner.inner.view()
            assert (view.restarts, view.problem, view.unfinished) == (1, "", 1)

    in_loop(work, backend_name)


def test_a_process_that_does_not_answer_is_killed_in_time(
    tmp_path: pathlib.Path, backend_name: str
) -> None:
    """L8."""

    async def work() -> None:
        async with running(tmp_path, timeout_s=0.5) as scanner:
            while (await scanner.look(b"harmless")).result.outcome is not ScanOutcome.CLEAN:
                pass  # it is starting
            (first,) = scanner.pids
            os.kill(first, signal.SIGSTOP)
            outcome, reason = await scanner.result(b"another")
            assert outcome is ScanOutcome.NOT_SCANNED
            assert "0.5 s" in reason
            await scanner.until(lambda: first not in scanner.pids)

    in_loop(work, backend_name)


def test_cpu_time_is_bounded_by_the_kernel(tmp_path: pathlib.Path, backend_name: str) -> None:
    (tmp_path / "slow.yar").write_bytes(SLOW)

    async def work() -> None:
        async with running(tmp_path, rules=".", cpu_s=1) as scanner:
            outcome, reason = await scanner.result(b"x" * (1 << 20))
            assert outcome is ScanOutcome.NOT_SCANNED
            assert reason.startswith("its process took more than 1 s of CPU time (cpu_s)")

    in_loop(work, backend_name)


def test_memory_is_bounded_by_the_kernel(tmp_path: pathlib.Path, backend_name: str) -> None:
    """N11: what wants more is over a limit, and the process goes on."""
    archives = ArchivesTable(ratio_max=10**6, member_bytes_max=1 << 30)

    async def work() -> None:
        settings = {"memory_bytes_max": 192 << 20, "archives": archives}
        async with running(tmp_path, **settings) as scanner:
            await scanner.look(b"harmless")
            before = scanner.pids
            # A gzip file of 300 MiB of zeros, in blocks that are alike.
            packer = zlib.compressobj(1, wbits=31)
            block = bytes(1 << 20)
            data = b"".join(packer.compress(block) for _ in range(300)) + packer.flush()
            assert await scanner.result(data) == (
                ScanOutcome.OVER_LIMIT,
                "memory_bytes_max reached",
            )
            assert await scanner.result(b"harmless") == (ScanOutcome.CLEAN, "")
            assert scanner.pids == before

    in_loop(work, backend_name)


def test_an_object_above_the_bound_is_not_even_lent(
    tmp_path: pathlib.Path, backend_name: str
) -> None:
    async def work() -> None:
        async with running(tmp_path, object_bytes_max=9) as scanner:
            assert await scanner.result(b"x" * 9) == (ScanOutcome.CLEAN, "")
            assert await scanner.result(b"x" * 10) == (
                ScanOutcome.OVER_LIMIT,
                "10 bytes, above object_bytes_max (9)",
            )

    in_loop(work, backend_name)


def test_rules_that_change_are_used_and_wrong_ones_are_not(
    tmp_path: pathlib.Path, backend_name: str
) -> None:
    """L9: those before stay in use, and that is told."""
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "a.yar").write_bytes(GREEN)

    async def work() -> None:
        async with running(tmp_path, rules="rules", processes=2) as scanner:
            look, port = scanner.inner.look_at_files, current_port()
            assert await scanner.result(b"a green one") == (ScanOutcome.FOUND, "green")
            first = await scanner.version()

            (rules / "b.yar").write_bytes(GREEN.replace(b"green", b"blue"))
            await look(port)
            await scanner.until(lambda: scanner.inner.view().rules == 3)
            assert await scanner.result(b"a blue one") == (ScanOutcome.FOUND, "blue")
            second = await scanner.version()
            assert second != first

            (rules / "b.yar").write_bytes(b"rule { nonsense")
            await look(port)
            await scanner.until(lambda: scanner.inner.view().problem != "")
            assert "those before stay in use: b.yar:1: syntax error" in scanner.told[-1]
            assert await scanner.result(b"a blue thing") == (ScanOutcome.FOUND, "blue")
            assert await scanner.version() == second

            (rules / "b.yar").write_bytes(GREEN.replace(b"green", b"grey"))
            await look(port)
            await scanner.until(lambda: scanner.inner.view().problem == "")
            assert await scanner.result(b"a blue thing") == (ScanOutcome.CLEAN, "")
            assert await scanner.result(b"a grey thing") == (ScanOutcome.FOUND, "grey")

    in_loop(work, backend_name)


def test_an_answer_is_remembered_under_its_rules_and_its_name(
    tmp_path: pathlib.Path, backend_name: str
) -> None:
    async def work() -> None:
        async with running(tmp_path) as scanner:
            body = b"MZ" + bytes(90)
            both = await asyncio.gather(scanner.look(body, "a.exe"), scanner.look(body, "a.exe"))
            assert both[0] is both[1]
            other = await scanner.look(body, "a.jpg")
            assert other.parts[0].traits == ("name-mismatch",)
            typed = await scanner.look(body, "a.exe", content_type="image/gif")
            assert typed.parts[0].traits == ("type-mismatch",)
            assert scanner.inner.view().remembered == 1

    in_loop(work, backend_name)


def test_what_is_inside_is_had_for_filters_that_read_it(
    tmp_path: pathlib.Path, backend_name: str
) -> None:
    async def work() -> None:
        async with running(tmp_path) as scanner:
            page = b"BT [(4111 1111) -9 ( 1111 1111)] TJ ET"
            held = zipped(pdf(page))
            found = await scanner.unpack(held)
            assert found.result.outcome is ScanOutcome.CLEAN
            assert dict(found.members)["inner.bin/stream 0"] == page
            texts = [text for path, text in found.members if path == "inner.bin/text"]
            assert b"4111 1111 1111 1111" in texts
            assert pdf(page) in [data for _, data in found.members]
            # Who asks only what is in it is sent nothing, as before.
            assert (await scanner.look(held)).result.outcome is ScanOutcome.CLEAN
            assert scanner.told == []

    in_loop(work, backend_name)


@pytest.mark.parametrize(
    ("settings", "outcome", "reason"),
    [
        (
            {"archives": ArchivesTable(forwarded_bytes_max=100)},
            "over-limit",
            "forwarded_bytes_max reached",
        ),
        ({"object_bytes_max": 10}, "over-limit", "above object_bytes_max"),
        ({"archives": ArchivesTable(depth_max=0)}, "over-limit", "depth_max"),
    ],
)
def test_what_is_too_much_to_be_unpacked_is_said_to_be(
    tmp_path: pathlib.Path,
    backend_name: str,
    settings: dict[str, Any],
    outcome: str,
    reason: str,
) -> None:
    async def work() -> None:
        async with running(tmp_path, **settings) as scanner:
            found = await scanner.unpack(zipped(b"words " * 100))
            assert found.result.outcome == outcome
            assert reason in found.result.reason

    in_loop(work, backend_name)


def test_members_are_shown_to_other_scanners(tmp_path: pathlib.Path, backend_name: str) -> None:
    class Other:
        name = "other"

        def __init__(self) -> None:
            self.seen: list[tuple[str, bytes]] = []

        async def version(self) -> str:
            return "other 1"

        async def scan(self, transfer: Transfer) -> ScanResult:
            async with transfer.open() as file:
                body = await file.read()
            self.seen.append((transfer.offer.name, body))
            found = b"bad" in body
            outcome = ScanOutcome.FOUND if found else ScanOutcome.CLEAN
            return ScanResult(outcome, "Bad" if found else "")

    other = Other()

    async def work() -> None:
        table = ScannerTable(name="yara", kind="yara", processes=1)
        told = "sluicegate.toml", Findings()
        inner = make_content_scanner(table, tmp_path, (), None, (other,), told)
        assert inner is not None
        scanner = Scanner(inner)
        inner.start(current_port(), scanner.told.append)
        try:
            large = bytes(range(256)) * 1000
            assert await scanner.result(zipped(large)) == (ScanOutcome.CLEAN, "")
            assert await scanner.result(zipped(zipped(b"bad"), name="i.zip")) == (
                ScanOutcome.FOUND,
                "Bad in i.zip/inner.bin (other)",
            )
            assert other.seen == [("inner.bin", large), ("i.zip/inner.bin", b"bad")]
            assert (await inner.version()).endswith(" other 1")
        finally:
            inner.stop()
            await inner.wait_ended()

    in_loop(work, backend_name)


@pytest.mark.parametrize(
    ("rules", "cause"),
    [
        (b"rule a { condition: nope }", "rules: bad.yar:1: unknown identifier `nope`"),
        (None, "rules: {folder}/rules: cannot be read: No such file or directory"),
    ],
)
def test_rules_that_cannot_be_used_are_found_when_the_files_are_checked(
    tmp_path: pathlib.Path, rules: bytes | None, cause: str
) -> None:
    if rules is not None:
        (tmp_path / "rules").mkdir()
        (tmp_path / "rules" / "bad.yar").write_bytes(rules)
    findings = Findings()
    assert made(tmp_path, findings, rules="rules") is None
    (error,) = findings.errors
    assert error.cause.startswith(cause.format(folder=tmp_path))


def test_warnings_of_the_compiler_are_shown_and_the_rules_used(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.yar").write_bytes(b"rule a { strings: $a = /a.*/ condition: $a }")
    findings = Findings()
    assert made(tmp_path, findings, rules=".") is not None
    (warning,) = findings.warnings
    assert "a.yar:1: slow pattern" in warning.cause
