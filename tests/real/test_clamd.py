"""A real clamd: what it finds is refused, and what it passes over is never called clean."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import tempfile
from collections.abc import Callable, Iterator

import pytest

from sluicegate.filterapi import ScanOutcome, ScanResult
from tests.flows.ftp_kit import GateThread, clean, pyftpdlib_server
from tests.real.clamd_parts import Clamd, eicar, running_clamd
from tests.real.scanner_parts import JUDGED, ask, ask_about_test_files, zipped

Opened = Callable[..., Clamd]

WAYS = {"descriptor": False, "stream": True}


@pytest.fixture(scope="module")
def opened() -> Iterator[Opened]:
    """Return a clamd with these options; each is started once."""
    with contextlib.ExitStack() as running:
        base = pathlib.Path(running.enter_context(tempfile.TemporaryDirectory(dir="/var/tmp")))
        known: dict[tuple[tuple[str, object], ...], Clamd] = {}

        def open_clamd(**options: object) -> Clamd:
            key = tuple(sorted(options.items()))
            if key not in known:
                folder = base / str(len(known))
                known[key] = running.enter_context(running_clamd(folder, **options))
            return known[key]

        yield open_clamd


@pytest.mark.parametrize("way", WAYS)
def test_every_test_file_of_clamav_is_found(opened: Opened, way: str) -> None:
    """L5."""
    scanner = opened().scanner(is_streamed=WAYS[way])
    assert asyncio.run(ask_about_test_files(scanner)) == set()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("content", "outcome"), JUDGED.values(), ids=JUDGED)
def test_an_object_is_judged_by_what_is_in_it(
    opened: Opened,
    file_of: Callable[[bytes], pathlib.Path],
    way: str,
    content: bytes,
    outcome: ScanOutcome,
) -> None:
    """L6."""
    scanner = opened().scanner(is_streamed=WAYS[way])
    assert asyncio.run(ask(scanner, file_of(content))).outcome is outcome


def test_a_find_is_found_however_the_stream_is_cut(
    opened: Opened, file_of: Callable[[bytes], pathlib.Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """L6: at each of its bytes, the edge of a chunk falls there once."""
    scanner, path = opened().scanner(is_streamed=True), file_of(eicar())

    async def scan_all() -> set[ScanOutcome]:
        outcomes: set[ScanOutcome] = set()
        for size in range(1, len(eicar()) + 1):
            monkeypatch.setattr("sluicegate.scan.clamd.CLAMD_CHUNK_BYTES", size)
            outcomes.add((await ask(scanner, path)).outcome)
        return outcomes

    assert asyncio.run(scan_all()) == {ScanOutcome.FOUND}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("option", "bound", "content"),
    [
        ("MaxFileSize", "1M", bytes(2 << 20)),
        ("MaxScanSize", "1M", zipped(bytes(2 << 20))),
        ("MaxRecursion", "3", zipped(zipped(zipped(zipped(b"deep"))))),
    ],
)
def test_what_clamd_does_not_look_at_for_a_limit_is_not_scanned(
    opened: Opened,
    file_of: Callable[[bytes], pathlib.Path],
    way: str,
    option: str,
    bound: str,
    content: bytes,
) -> None:
    """L7."""
    scanner = opened(**{option: bound}).scanner(is_streamed=WAYS[way])
    result = asyncio.run(ask(scanner, file_of(content)))
    assert result.outcome is ScanOutcome.NOT_SCANNED
    assert "reached a limit" in result.reason


def test_a_stream_above_the_limit_of_clamd_is_not_scanned(
    opened: Opened, file_of: Callable[[bytes], pathlib.Path]
) -> None:
    """L7."""
    scanner = opened(StreamMaxLength="1M").scanner(is_streamed=True)
    result = asyncio.run(ask(scanner, file_of(bytes(8 << 20))))
    assert result.outcome is ScanOutcome.NOT_SCANNED
    assert "StreamMaxLength" in result.reason


def test_a_clamd_that_keeps_its_limits_to_itself_is_not_believed(
    opened: Opened, file_of: Callable[[bytes], pathlib.Path]
) -> None:
    """L7: as Debian configures it, ``OK`` may mean that nobody looked."""
    clamd = opened(AlertExceedsMax="no", MaxFileSize="1M")
    path = file_of(bytes(2 << 20) + eicar())
    result = asyncio.run(ask(clamd.scanner(), path))
    assert result.outcome is ScanOutcome.NOT_SCANNED
    assert "AlertExceedsMax yes" in result.reason
    trusting = clamd.scanner(trusts_limits=True)
    assert asyncio.run(ask(trusting, path)).outcome is ScanOutcome.CLEAN


def test_what_is_encrypted_is_said_to_be(
    opened: Opened, file_of: Callable[[bytes], pathlib.Path]
) -> None:
    locked = bytearray(zipped(bytes(64)))
    # The flag of the local header, and of the central one (APPNOTE 4.4.4, bit 0).
    locked[6] |= 1
    locked[locked.index(b"PK\x01\x02") + 8] |= 1
    result = asyncio.run(ask(opened().scanner(), file_of(bytes(locked))))
    assert result.outcome is ScanOutcome.ENCRYPTED


def test_a_clamd_that_is_killed_and_comes_back_is_waited_for(
    tmp_path: pathlib.Path, file_of: Callable[[bytes], pathlib.Path]
) -> None:
    """L8."""
    path = file_of(eicar())

    async def main(clamd: Clamd) -> list[ScanResult]:
        scanner = clamd.scanner(wait_s=60.0)
        first = await ask(scanner, path)
        clamd.kill()
        waiting = asyncio.ensure_future(ask(scanner, path))
        await asyncio.to_thread(clamd.start)
        return [first, await waiting]

    with running_clamd(tmp_path / "clamd") as clamd:
        results = asyncio.run(main(clamd))
    assert [one.outcome for one in results] == [ScanOutcome.FOUND] * 2


def test_a_clamd_that_is_gone_has_scanned_nothing(
    tmp_path: pathlib.Path, file_of: Callable[[bytes], pathlib.Path]
) -> None:
    """L8."""
    with running_clamd(tmp_path / "clamd") as clamd:
        scanner = clamd.scanner()
        clamd.kill()
        result = asyncio.run(ask(scanner, file_of(b"harmless")))
    assert result.outcome is ScanOutcome.NOT_SCANNED


def test_signatures_that_are_read_again_meanwhile_change_no_verdict(
    opened: Opened, file_of: Callable[[bytes], pathlib.Path]
) -> None:
    """L9."""
    clamd = opened()
    scanner, path = clamd.scanner(), file_of(eicar())

    async def main() -> set[ScanOutcome]:
        outcomes: set[ScanOutcome] = set()
        for _ in range(5):
            assert clamd.ask(b"RELOAD") == b"RELOADING"
            results = await asyncio.gather(*(ask(scanner, path) for _ in range(8)))
            outcomes.update(one.outcome for one in results)
        return outcomes

    assert asyncio.run(main()) == {ScanOutcome.FOUND}


def test_a_file_over_ftp_reaches_the_client_only_if_clamd_finds_it_clean(
    opened: Opened, tmp_path: pathlib.Path, backend_name: str
) -> None:
    clamd = opened()
    served = tmp_path / "root"
    served.mkdir()
    (served / "clean.bin").write_bytes(clean())
    (served / "bad.zip").write_bytes(zipped(eicar()))
    scanner = f'[[scanner]]\nname = "clamd"\nkind = "clamd"\nsocket = "{clamd.socket}"\n'
    with (
        pyftpdlib_server(served) as port,
        GateThread(
            tmp_path / "gate",
            port,
            backend_name,
            more_filters={"antivirus": "antivirus"},
            more_settings={"antivirus": {"scanners": ["clamd"]}},
            more_tables=scanner,
        ) as gate,
        gate.client() as client,
    ):
        client.login()
        fine, fine_reply = client.fetch("clean.bin")
        bad, bad_reply = client.fetch("bad.zip")
    assert (fine, fine_reply[:3]) == (clean(), "226")
    assert (bad, bad_reply) == (b"", "550 Refused: malware: Eicar-Test.UNOFFICIAL (clamd)")
