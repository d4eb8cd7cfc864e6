"""A real c-icap: what its scanner finds is refused, what it passes over is never called clean."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from sluicegate.filterapi import ScanOutcome, ScanResult, Transfer
from sluicegate.scan import IcapScanner, ScannerTls
from tests.flows.ftp_kit import GateThread, clean, pyftpdlib_server
from tests.pki import authority
from tests.real.clamd_parts import eicar, running_clamd
from tests.real.icap_parts import CIcap, running_c_icap
from tests.real.scanner_parts import (
    CLEAN,
    FOUND,
    JUDGED,
    MODIFIED,
    NOT_SCANNED,
    Object,
    ask,
    ask_about_test_files,
    zipped,
    zipped_behind,
)

PAGE = b"<html>\n<body>hello</body>\n</html>\n"


async def scan(scanner: IcapScanner, path: pathlib.Path, **offer: Any) -> ScanResult:
    try:
        return await ask(scanner, path, **offer)
    finally:
        scanner.stop()


@pytest.fixture(scope="module")
def server() -> Iterator[CIcap]:
    with contextlib.ExitStack() as running:
        base = pathlib.Path(running.enter_context(tempfile.TemporaryDirectory(dir="/var/tmp")))
        clamd = running.enter_context(running_clamd(base / "clamd"))
        yield running.enter_context(running_c_icap(base / "c-icap", clamd))


@pytest.mark.parametrize("is_upload", [False, True], ids=["RESPMOD", "REQMOD"])
@pytest.mark.parametrize(("content", "outcome"), JUDGED.values(), ids=JUDGED)
def test_an_object_is_judged_by_what_is_in_it(
    server: CIcap,
    file_of: Callable[[bytes], pathlib.Path],
    content: bytes,
    outcome: ScanOutcome,
    is_upload: bool,
) -> None:
    """L6, S3."""
    result = asyncio.run(scan(server.scanner("virus_scan"), file_of(content), is_upload=is_upload))
    assert result.outcome is outcome
    if outcome is FOUND:
        assert "Eicar-Test" in result.reason
    assert "Antivirus service" in result.signatures


def test_every_test_file_of_clamav_is_found(server: CIcap) -> None:
    """L5."""
    scanner = server.scanner("virus_scan")
    try:
        assert asyncio.run(ask_about_test_files(scanner)) == set()
    finally:
        scanner.stop()


@pytest.mark.parametrize("size", [(5 << 20) + 1, 20 << 20])
def test_what_is_above_its_own_limit_is_not_scanned(
    server: CIcap, file_of: Callable[[bytes], pathlib.Path], size: int
) -> None:
    """L7: c-icap says "Allow it" in its log, and 204 to us."""
    path = file_of(bytes(size) + eicar())
    result = asyncio.run(scan(server.scanner("virus_scan"), path))
    assert result.outcome is NOT_SCANNED
    assert result.reason == "the ICAP service did not want to see all of it"


def test_what_is_found_after_it_began_to_answer_is_not_clean(
    server: CIcap, file_of: Callable[[bytes], pathlib.Path]
) -> None:
    """M10: from 2 MiB on it trickles, as Debian configures it, and can only break off."""
    result = asyncio.run(scan(server.scanner("virus_scan"), file_of(zipped_behind(4 << 20))))
    assert result.outcome is NOT_SCANNED
    assert "began to send it back and broke off" in result.reason


def test_a_scanner_that_keeps_its_limits_to_itself_is_not_believed(
    tmp_path: pathlib.Path, file_of: Callable[[bytes], pathlib.Path]
) -> None:
    """L7: as Debian configures clamd, what it did not look at is clean, also behind c-icap."""
    path = file_of(b"harmless")
    with (
        running_clamd(tmp_path / "clamd", AlertExceedsMax="no") as clamd,
        running_c_icap(tmp_path / "c-icap", clamd) as server,
    ):
        result = asyncio.run(scan(server.scanner("virus_scan"), path))
        trusting = server.scanner("virus_scan", trusts_limits=True)
        assert asyncio.run(scan(trusting, path)).outcome is CLEAN
    assert result.outcome is NOT_SCANNED
    assert "does not say when it reaches a limit" in result.reason


@pytest.mark.parametrize("is_upload", [False, True], ids=["RESPMOD", "REQMOD"])
@pytest.mark.parametrize("size", [0, 1, 1023, 1024, 1025, 70_000])
def test_what_comes_back_as_it_was_is_clean(
    server: CIcap, file_of: Callable[[bytes], pathlib.Path], size: int, is_upload: bool
) -> None:
    """Its echo sends everything back; above the preview it says 204, and has not seen it."""
    scanner = server.scanner("echo", trusts_limits=True)
    path = file_of((bytes(range(256)) * 300)[:size])
    assert asyncio.run(scan(scanner, path, is_upload=is_upload)).outcome is CLEAN


@pytest.mark.parametrize("is_upload", [False, True], ids=["RESPMOD", "REQMOD"])
def test_inside_tls_an_object_is_judged_by_what_is_in_it(
    server: CIcap, file_of: Callable[[bytes], pathlib.Path], is_upload: bool
) -> None:
    """S3, ``icaps``: previews, the rest, kept connections."""
    scanner = server.encrypted_scanner("virus_scan")

    async def main() -> list[ScanOutcome]:
        found = []
        for content, _ in JUDGED.values():
            found.append((await ask(scanner, file_of(content), is_upload=is_upload)).outcome)
        assert len(scanner._idle) == 1
        scanner.stop()
        return found

    assert asyncio.run(main()) == [outcome for _, outcome in JUDGED.values()]


def test_one_whose_certificate_is_for_another_is_shown_nothing(
    server: CIcap, file_of: Callable[[bytes], pathlib.Path]
) -> None:
    stranger = ScannerTls("127.0.0.1", authority("another").pem)
    scanner = server.encrypted_scanner("virus_scan", encryption=stranger)
    result = asyncio.run(scan(scanner, file_of(eicar())))
    assert result.outcome is NOT_SCANNED
    assert result.reason.startswith("its certificate is not good")


def test_another_body_is_delivered_from_a_206(
    server: CIcap, file_of: Callable[[bytes], pathlib.Path]
) -> None:
    """S3: its example of 206 puts a comment behind <html>, and takes the rest from us."""
    scanner = server.scanner("ex206", trusts_limits=True)
    for content in (PAGE, PAGE + b"<!-- long -->\n" * 10_000):
        result = asyncio.run(scan(scanner, file_of(content), kind="text/html"))
        assert result.outcome is MODIFIED
        assert result.body is not None
        assert result.body.startswith(b"<html>\n<!--A simple comment added by the  ex206")
        assert result.body.endswith(content[6:])


def test_a_service_that_is_not_there_has_scanned_nothing(
    server: CIcap, file_of: Callable[[bytes], pathlib.Path]
) -> None:
    result = asyncio.run(scan(server.scanner("nosuch"), file_of(b"harmless")))
    assert result.outcome is NOT_SCANNED
    assert "404" in result.reason


def test_many_at_once_share_kept_connections_and_are_all_right(
    server: CIcap, tmp_path: pathlib.Path
) -> None:
    bad, good = tmp_path / "bad", tmp_path / "good"
    bad.write_bytes(zipped(eicar()))
    good.write_bytes(b"harmless" * 5000)
    scanner = server.scanner("virus_scan")

    async def main() -> list[ScanOutcome]:
        objects = [Object(bad if n % 3 == 0 else good) for n in range(60)]
        results = await asyncio.gather(*(scanner.scan(cast("Transfer", one)) for one in objects))
        assert 1 <= len(scanner._idle) <= 4
        scanner.stop()
        return [one.outcome for one in results]

    assert asyncio.run(main()) == [FOUND if n % 3 == 0 else CLEAN for n in range(60)]


def test_one_that_is_killed_and_comes_back_is_waited_for(tmp_path: pathlib.Path) -> None:
    """L8."""
    path = tmp_path / "object"
    path.write_bytes(eicar())

    async def main(server: CIcap) -> list[ScanResult]:
        scanner = server.scanner("virus_scan", wait_s=60.0)
        one = cast("Transfer", Object(path))
        first = await scanner.scan(one)
        server.kill()
        waiting = asyncio.ensure_future(scanner.scan(one))
        await asyncio.to_thread(server.start)
        results = [first, await waiting, await scanner.scan(one)]
        scanner.stop()
        return results

    with (
        running_clamd(tmp_path / "clamd") as clamd,
        running_c_icap(tmp_path / "c-icap", clamd) as server,
    ):
        results = asyncio.run(main(server))
    assert [one.outcome for one in results] == [FOUND] * 3


def test_one_that_is_gone_has_scanned_nothing(
    tmp_path: pathlib.Path, file_of: Callable[[bytes], pathlib.Path]
) -> None:
    """L8."""
    with (
        running_clamd(tmp_path / "clamd") as clamd,
        running_c_icap(tmp_path / "c-icap", clamd) as server,
    ):
        scanner = server.scanner("virus_scan")
        server.kill()
        result = asyncio.run(scan(scanner, file_of(b"harmless")))
    assert result.outcome is NOT_SCANNED


def test_a_clamd_that_dies_behind_it_leaves_nothing_clean(
    tmp_path: pathlib.Path, file_of: Callable[[bytes], pathlib.Path]
) -> None:
    """L8: what c-icap says when its engine is gone is no scan."""
    path = file_of(b"harmless")
    with (
        running_clamd(tmp_path / "clamd") as clamd,
        running_c_icap(tmp_path / "c-icap", clamd) as server,
    ):
        scanner = server.scanner("virus_scan")

        async def main() -> list[ScanResult]:
            one = cast("Transfer", Object(path))
            first = await scanner.scan(one)
            clamd.kill()
            results = [first, await scanner.scan(one)]
            scanner.stop()
            return results

        first, second = asyncio.run(main())
    assert first.outcome is CLEAN
    assert second.outcome is NOT_SCANNED


def test_a_file_over_ftp_reaches_the_client_only_if_the_service_finds_it_clean(
    server: CIcap, tmp_path: pathlib.Path, backend_name: str
) -> None:
    served = tmp_path / "root"
    served.mkdir()
    (served / "clean.bin").write_bytes(clean())
    (served / "bad.zip").write_bytes(zipped(eicar()))
    scanner = (
        f'[[scanner]]\nname = "av"\nkind = "icap"\naddress = "{server.address}"\n'
        'service = "virus_scan"\n'
    )
    with (
        pyftpdlib_server(served) as port,
        GateThread(
            tmp_path / "gate",
            port,
            backend_name,
            more_filters={"antivirus": "antivirus"},
            more_settings={"antivirus": {"scanners": ["av"]}},
            more_tables=scanner,
        ) as gate,
        gate.client() as client,
    ):
        client.login()
        fine, fine_reply = client.fetch("clean.bin")
        bad, bad_reply = client.fetch("bad.zip")
    assert (fine, fine_reply[:3]) == (clean(), "226")
    assert (bad, bad_reply) == (b"", "550 Refused: malware: Eicar-Test.UNOFFICIAL (av)")


def test_a_file_over_ftp_is_delivered_as_the_service_changed_it(
    server: CIcap, tmp_path: pathlib.Path, backend_name: str
) -> None:
    served = tmp_path / "root"
    served.mkdir()
    (served / "page.html").write_bytes(PAGE)
    scanner = (
        f'[[scanner]]\nname = "html"\nkind = "icap"\naddress = "{server.address}"\n'
        'service = "ex206"\ntrust_limits = true\n'
    )
    with (
        pyftpdlib_server(served) as port,
        GateThread(
            tmp_path / "gate",
            port,
            backend_name,
            more_filters={"content_adaptation": "content_adaptation"},
            more_settings={"content_adaptation": {"scanner": "html"}},
            more_tables=scanner,
        ) as gate,
        gate.client() as client,
    ):
        client.login()
        got, reply = client.fetch("page.html")
    assert reply[:3] == "226"
    assert got.startswith(b"<html>\n<!--A simple comment added")
    assert got.endswith(PAGE[6:])
