"""ContentAdaptation: what becomes of each answer of a scanner."""

from __future__ import annotations

import pytest

from sluicegate.bundled.antivirus import Antivirus, AntivirusSettings
from sluicegate.bundled.content_adaptation import ContentAdaptation, ContentAdaptationSettings
from sluicegate.filterapi import ContentFilter, ScanOutcome, ScanResult, Transfer
from sluicegate.testing import check_content_filter, inspect_object


class Answering:
    """A scanner that always says the same."""

    name = "one"

    def __init__(self, outcome: ScanOutcome, reason: str = "", body: bytes | None = None) -> None:
        self.result = ScanResult(outcome, reason, "", body)

    async def version(self) -> str:
        return "1"

    async def scan(self, transfer: Transfer) -> ScanResult:
        del transfer
        return self.result


def adaptation(**settings: str) -> ContentAdaptation:
    return ContentAdaptation(ContentAdaptationSettings(scanner="one", **settings))


def inspected(asking: ContentFilter, scanner: Answering) -> tuple[str, str, bytes]:
    seen = inspect_object(asking, b"object", scanners={"one": scanner})
    return seen.outcome, seen.reason, seen.received


@pytest.mark.parametrize(
    ("scanner", "expected"),
    [
        (Answering(ScanOutcome.CLEAN), ("released", "released by every content filter", b"object")),
        (Answering(ScanOutcome.MODIFIED, "x", b"other"), ("released", "replaced", b"other")),
        (Answering(ScanOutcome.MODIFIED, "x", b""), ("released", "replaced", b"")),
        (Answering(ScanOutcome.MODIFIED, "x"), ("refused", "modified: x (one)", b"")),
        (Answering(ScanOutcome.FOUND, "Eicar"), ("refused", "found: Eicar (one)", b"")),
        (Answering(ScanOutcome.ENCRYPTED, "x"), ("refused", "encrypted: x (one)", b"")),
        (Answering(ScanOutcome.NOT_SCANNED, "away"), ("refused", "not-scanned: away (one)", b"")),
    ],
)
def test_every_answer_has_its_end(scanner: Answering, expected: tuple[str, str, bytes]) -> None:
    assert inspected(adaptation(), scanner) == expected


def test_what_was_not_scanned_is_released_if_settings_say_so() -> None:
    asking = adaptation(not_scanned="release")
    outcome, _, received = inspected(asking, Answering(ScanOutcome.NOT_SCANNED, "away"))
    assert (outcome, received) == ("released", b"object")


def test_antivirus_delivers_nothing_that_a_scanner_changed() -> None:
    asking = Antivirus(AntivirusSettings(scanners=("one",)))
    scanner = Answering(ScanOutcome.MODIFIED, "5 other bytes", b"other")
    outcome, reason, received = inspected(asking, scanner)
    assert (outcome, received) == ("refused", b"")
    assert "content_adaptation" in reason


def test_it_keeps_the_promises_of_content_filters() -> None:
    scanner = Answering(ScanOutcome.MODIFIED, "x", b"other")
    assert check_content_filter(adaptation, scanners={"one": scanner})
