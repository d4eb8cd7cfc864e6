"""Antivirus: which answers of scanners release an object, and which do not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sluicegate.bundled.antivirus import Antivirus, AntivirusSettings
from sluicegate.filterapi import Scanner, ScanOutcome, ScanResult, Transfer
from sluicegate.testing import check_content_filter, inspect_object


class Answering:
    """A scanner that always says the same, and counts what it was asked."""

    name = "answering"

    def __init__(self, outcome: ScanOutcome, reason: str = "") -> None:
        self.result = ScanResult(outcome, reason)
        self.asked = 0
        self.signatures = "engine/1"

    async def version(self) -> str:
        return self.signatures

    async def scan(self, transfer: Transfer) -> ScanResult:
        self.asked += 1
        return self.result


CLEAN = ScanOutcome.CLEAN


def inspected(scanners: dict[str, Scanner], **settings: str) -> tuple[str, str]:
    chosen = AntivirusSettings(scanners=tuple(scanners), **settings)
    object_ = inspect_object(Antivirus(chosen), b"some object", scanners=scanners)
    return object_.outcome, object_.reason


@pytest.mark.parametrize(
    ("outcome", "settings", "expected"),
    [
        (ScanOutcome.CLEAN, {}, ("released", "released by every content filter")),
        (ScanOutcome.FOUND, {}, ("refused", "malware: why (one)")),
        (ScanOutcome.ENCRYPTED, {}, ("refused", "encrypted: why (one)")),
        (ScanOutcome.NOT_SCANNED, {}, ("refused", "not scanned: why (one)")),
        (
            ScanOutcome.ENCRYPTED,
            {"encrypted": "release"},
            ("released", "released by every content filter"),
        ),
        (
            ScanOutcome.NOT_SCANNED,
            {"not_scanned": "release"},
            ("released", "released by every content filter"),
        ),
        (
            ScanOutcome.FOUND,
            {"not_scanned": "release", "encrypted": "release"},
            ("refused", "malware: why (one)"),
        ),
        (ScanOutcome.NOT_SCANNED, {"encrypted": "release"}, ("refused", "not scanned: why (one)")),
        (ScanOutcome.ENCRYPTED, {"not_scanned": "release"}, ("refused", "encrypted: why (one)")),
    ],
)
def test_an_answer_decides_so(
    outcome: ScanOutcome, settings: dict[str, str], expected: tuple[str, str]
) -> None:
    assert inspected({"one": Answering(outcome, "why")}, **settings) == expected


def test_every_scanner_has_to_find_it_clean() -> None:
    first, second = Answering(CLEAN), Answering(ScanOutcome.FOUND, "Eicar")
    assert inspected({"first": first, "second": second}) == ("refused", "malware: Eicar (second)")
    assert (first.asked, second.asked) == (1, 1)


def test_the_first_objection_ends_the_asking() -> None:
    first, second = Answering(ScanOutcome.FOUND, "Eicar"), Answering(CLEAN)
    assert inspected({"first": first, "second": second})[0] == "refused"
    assert second.asked == 0


def test_a_scanner_that_is_not_configured_refuses() -> None:
    found = inspect_object(Antivirus(AntivirusSettings(scanners=("clamd",))), b"some object")
    assert found.outcome == "refused"
    assert "no [[scanner]] is called 'clamd'" in str(found.error)


def test_a_scanner_that_raises_refuses() -> None:
    class Broken(Answering):
        async def scan(self, transfer: Transfer) -> ScanResult:
            raise RuntimeError("a bug")

    assert inspected({"one": Broken(CLEAN)})[0] == "refused"


def test_it_needs_a_scanner() -> None:
    with pytest.raises(ValueError, match="scanners"):
        AntivirusSettings(scanners=())


def test_it_keeps_the_promises_of_content_filters() -> None:
    def make() -> Antivirus:
        return Antivirus(AntivirusSettings(scanners=("one",)))

    assert check_content_filter(make, scanners={"one": Answering(CLEAN)})


class _Firewall:
    def __init__(self, **scanners: Answering) -> None:
        self.scanner = scanners.__getitem__


class _Connection:
    def __init__(self, firewall: _Firewall) -> None:
        self.firewall = firewall


class _Object:
    def __init__(self, **scanners: Answering) -> None:
        self.connection = _Connection(_Firewall(**scanners))


@pytest.mark.parametrize(
    ("settings", "second", "version"),
    [
        ({}, "engine/2", "engine/1\nengine/2"),
        ({}, "", None),
        ({"keep_verdicts": False}, "engine/2", None),
        ({"not_scanned": "release"}, "engine/2", None),
        ({"encrypted": "release"}, "engine/2", "engine/1\nengine/2"),
    ],
)
def test_a_verdict_is_kept_only_by_the_signatures_of_every_scanner(
    settings: dict[str, Any], second: str, version: str | None
) -> None:
    one, two = Answering(CLEAN), Answering(CLEAN)
    two.signatures = second
    antivirus = Antivirus(AntivirusSettings(scanners=("one", "two"), **settings))
    held: Any = _Object(one=one, two=two)
    assert asyncio.run(antivirus.verdict_version(held)) == version
