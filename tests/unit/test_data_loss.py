"""DataLoss: what is refused, what is masked, and what is said of it."""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import json
import lzma
import tarfile
import zipfile
from typing import Any

import pytest
from pydantic import ValidationError

from sluicegate.bundled.data_loss import DataLoss, DataLossSettings
from sluicegate.filterapi import (
    Contents,
    Direction,
    Release,
    Replace,
    ScanOutcome,
    ScanResult,
    Transfer,
    TransferOffer,
    Unpacked,
)
from sluicegate.testing import check_content_filter, inspect_object
from sluicegate.testing.inspecting import InspectedObject
from tests.unit.leaks.secret_kit import CARD, CARD_GROUPED, IBAN, github_token, long_key

UPLOAD = TransferOffer("object", Direction.UPLOAD, "http")


def inspected(body: bytes, **settings: Any) -> InspectedObject:
    return inspect_object(DataLoss(DataLossSettings(**settings)), body, UPLOAD)


@pytest.mark.parametrize(
    ("body", "settings", "reason"),
    [
        (CARD_GROUPED, {}, "secrets: 1 x payment card"),
        (b"card=4111%201111+1111+1111", {}, "secrets: 1 x payment card (escaped)"),
        (b"x" * 600_000 + b" " + CARD, {}, "secrets: 1 x payment card"),
        (
            json.dumps({"f": base64.b64encode(b"my " + CARD).decode()}).encode(),
            {},
            "secrets: 1 x payment card (base64)",
        ),
        (long_key(), {}, "secrets: 1 x private key"),
        (CARD_GROUPED.decode().encode("utf-16"), {}, "secrets: 1 x payment card (UTF-16)"),
        (
            b"pay by +"
            + base64.b64encode(CARD.decode().encode("utf-16-be")).rstrip(b"=")
            + b"- now",
            {},
            "secrets: 1 x payment card (base64 / UTF-16)",
        ),
        (github_token() + b"\n" + IBAN, {}, "secrets: 1 x service token, 1 x IBAN"),
        (
            CARD + b" 5555555555554444",
            {"counts_min": {"payment-card": 2}},
            "secrets: 2 x payment card",
        ),
        (
            b"see PRJ-AB-123456",
            {"patterns": [{"name": "project code", "pattern": "PRJ-[A-Z]{2}-[0-9]{6}"}]},
            "secrets: 1 x project code",
        ),
        (
            b"\n".join(b"a%d@example.org" % one for one in range(50)),
            {},
            "secrets: 50 x e-mail address",
        ),
    ],
)
def test_an_object_with_secrets_is_refused_and_the_reason_has_none_of_them(
    body: bytes, settings: dict[str, Any], reason: str
) -> None:
    seen = inspected(body, **settings)
    assert (seen.outcome, seen.reason, seen.received_count) == ("refused", reason, 0)


@pytest.mark.parametrize(
    ("body", "settings"),
    [
        (b"", {}),
        (b"words", {}),
        (CARD + b" and again " + CARD_GROUPED, {"counts_min": {"payment-card": 2}}),
        (CARD, {"kinds": ["iban"]}),
        (b"\n".join(b"a%d@example.org" % one for one in range(49)), {}),
        (bytes(range(256)) * 100, {}),
    ],
)
def test_an_object_without_enough_of_them_is_released(
    body: bytes, settings: dict[str, Any]
) -> None:
    seen = inspected(body, **settings)
    assert (seen.outcome, seen.received) == ("released", body)


def test_a_download_is_looked_at_only_if_settings_say_so() -> None:
    download = TransferOffer("object", Direction.DOWNLOAD, "ftp")
    assert inspect_object(DataLoss(), CARD, download).outcome == "released"
    both = DataLoss(DataLossSettings(directions=("upload", "download")))
    assert inspect_object(both, CARD, download).outcome == "refused"


def test_redacting_delivers_the_object_with_its_secrets_masked() -> None:
    seen = inspected(b'{"card": %s, "n": 1}' % CARD, action="redact")
    assert isinstance(seen.verdict, Replace)
    assert seen.received == b'{"card": 9999999999999999, "n": 1}'


def test_redacting_leaves_an_object_without_secrets_alone() -> None:
    seen = inspected(b"words", action="redact")
    assert isinstance(seen.verdict, Release)


def test_what_is_too_large_to_be_masked_is_refused() -> None:
    seen = inspected(CARD + b" " * 100, action="redact", redact_bytes_max=100)
    assert seen.outcome == "refused"
    assert seen.reason.endswith("too large to be masked: 116 bytes, redact_bytes_max 100")


def deep(text: bytes) -> bytes:
    for _ in range(8):
        text = base64.b64encode(text)
    return text


def test_what_cannot_be_looked_through_is_refused_unless_settings_say_otherwise() -> None:
    body = deep(b"nothing of interest here")
    seen = inspected(body)
    assert seen.outcome == "refused"
    assert seen.reason == "it cannot be looked through for secrets: secret_depth_max reached (6)"
    assert inspected(body, unread="release").outcome == "released"


@pytest.mark.parametrize("action", ["refuse", "redact"])
def test_secrets_in_what_cannot_be_looked_through_to_its_end_refuse_it_anyway(action: str) -> None:
    body = CARD + b"\n" * 300_000 + deep(b"nothing of interest here")
    seen = inspected(body, unread="release", action=action)
    assert seen.outcome == "refused"
    assert seen.reason.startswith("secrets: 1 x payment card")


# -- archives ------------------------------------------------------------------------------------


def zipped(*contents: bytes, is_encrypted: bool = False) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, content in enumerate(contents):
            member = zipfile.ZipInfo(f"xl/part{number}.xml")
            archive.writestr(member, content, zipfile.ZIP_DEFLATED)
    data = bytearray(packed.getvalue())
    if is_encrypted:
        # APPNOTE 4.4.4, bit 0, in the local header and the central one.
        data[6] |= 1
        data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def tarred(content: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo("a.txt")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


DEFLATED = b"some words " * 200 + CARD + b" and more " * 200


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (zipped(b"a", DEFLATED), "secrets: 1 x payment card (zip)"),
        (zipped(b"a", zipped(b"b", DEFLATED)), "secrets: 1 x payment card (zip)"),
        (gzip.compress(DEFLATED), "secrets: 1 x payment card (gzip)"),
        (bz2.compress(DEFLATED), "secrets: 1 x payment card (bzip2)"),
        (lzma.compress(DEFLATED), "secrets: 1 x payment card (xz)"),
        (gzip.compress(tarred(DEFLATED)), "secrets: 1 x payment card (gzip)"),
        (
            zipped(base64.b64encode(b"my " + CARD + b" " * 50)),
            "secrets: 1 x payment card (zip / base64)",
        ),
    ],
)
def test_a_secret_in_an_archive_is_found(body: bytes, reason: str) -> None:
    assert CARD not in body
    seen = inspected(body)
    assert (seen.outcome, seen.reason) == ("refused", reason)


def test_members_count_together() -> None:
    parts = [b"words " * 50 + one for one in (CARD, b"5555555555554444", CARD)]
    body = zipped(*parts)
    assert inspected(body, counts_min={"payment-card": 3}).outcome == "released"
    seen = inspected(body, counts_min={"payment-card": 2})
    assert seen.reason == "secrets: 2 x payment card (zip)"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (zipped(DEFLATED, is_encrypted=True), "zip archive: "),
        (gzip.compress(DEFLATED)[:-9], "gzip archive: "),
        (b"7z\xbc\xaf\x27\x1c" + bytes(100), "7z archive, into which is not looked"),
        (zipped(b"7z\xbc\xaf\x27\x1c" + bytes(100)), "zip archive: it holds a 7z archive"),
        (zipped(deep(b"nothing of interest here")), "zip archive: secret_depth_max reached"),
    ],
)
def test_an_archive_that_cannot_be_looked_into_is_refused_unless_settings_say_otherwise(
    body: bytes, reason: str
) -> None:
    seen = inspected(body)
    assert seen.outcome == "refused"
    assert reason in seen.reason
    assert inspected(body, unread="release").outcome == "released"


def test_archives_that_are_not_looked_into_pass_if_settings_say_so() -> None:
    body = gzip.compress(DEFLATED)
    assert inspected(body, archives=["zip"]).outcome == "refused"
    assert inspected(body, archives=["zip"], other_archives="pass").outcome == "released"


def test_an_archive_in_ascii_mode_is_refused() -> None:
    offer = TransferOffer("object", Direction.UPLOAD, "ftp", is_text=True)
    seen = inspect_object(DataLoss(), zipped(b"words"), offer)
    assert seen.outcome == "refused"
    assert "use binary mode" in seen.reason


@pytest.mark.parametrize("body", [zipped(DEFLATED), CARD + b"\n" + zipped(DEFLATED)])
def test_what_is_inside_an_archive_cannot_be_masked_and_is_not_delivered(body: bytes) -> None:
    seen = inspected(body, action="redact")
    if body.startswith(b"PK"):
        assert seen.reason.endswith("inside an archive or a document, where it cannot be masked")
    assert seen.outcome == "refused" or CARD not in seen.received


def test_an_archive_without_secrets_is_released() -> None:
    body = zipped(b"words", zipped(b"more words"))
    assert inspected(body).received == body
    assert inspected(body, action="redact").received == body


def test_an_exempt_client_is_not_looked_at_and_its_verdict_is_not_kept() -> None:
    exempt = DataLoss(DataLossSettings(exempt_clients=["0.0.0.0/0"]))
    assert inspect_object(exempt, CARD, UPLOAD).outcome == "released"


@pytest.mark.parametrize(
    ("settings", "cause"),
    [
        ({"kinds": ["card"]}, "one of: payment-card"),
        ({"kinds": []}, "it looks for nothing"),
        ({"kinds": ["iban", "iban"]}, "named twice: iban"),
        ({"counts_min": {"jwt": 2}}, "not looked for"),
        ({"counts_min": {"iban": 0}}, "greater than or equal to 1"),
        ({"patterns": [{"name": "x", "pattern": "a+"}]}, "write {1,50}"),
        ({"patterns": [{"name": "iban", "pattern": "a"}]}, "named twice: iban"),
        ({"patterns": [{"name": "A B", "pattern": "a"}]}, "pattern"),
        ({"action": "log"}, "refuse"),
        ({"directions": []}, "at least 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], cause: str) -> None:
    with pytest.raises(ValidationError) as caught:
        DataLossSettings(**settings)
    assert cause in str(caught.value)


@pytest.mark.parametrize("action", ["refuse", "redact"])
def test_it_keeps_the_promises_of_content_filters(action: str) -> None:
    def make() -> DataLoss:
        return DataLoss(DataLossSettings(action=action))

    samples = (b"", b"words", CARD, long_key(), base64.b64encode(b"my " + CARD))
    assert check_content_filter(make, samples, offer=UPLOAD)


# -- what a scanner unpacks ------------------------------------------------------------------------


class Unpacking:
    """A content scanner that gives what it was told to give."""

    name = "yara"

    def __init__(self, *members: bytes, outcome: ScanOutcome = ScanOutcome.CLEAN) -> None:
        self.asked = 0
        self._unpacked = Unpacked(
            ScanResult(outcome, "why"), tuple((f"m{n}", one) for n, one in enumerate(members))
        )

    async def version(self) -> str:
        return "1"

    async def scan(self, transfer: Transfer) -> ScanResult:
        raise AssertionError("nobody asks whether it is malware")

    async def examine(self, transfer: Transfer) -> Contents:
        raise AssertionError("nobody asks what kinds there are")

    async def unpack(self, transfer: Transfer) -> Unpacked:
        self.asked += 1
        return self._unpacked


UNREAD = "cannot be looked through for secrets: "


def read_by(scanner: Unpacking, body: bytes = b"some", **settings: Any) -> InspectedObject:
    chosen = DataLossSettings(scanner="yara", **settings)
    return inspect_object(DataLoss(chosen), body, UPLOAD, scanners={"yara": scanner})


@pytest.mark.parametrize(
    ("scanner", "settings", "reason"),
    [
        (Unpacking(b"words"), {}, ""),
        (Unpacking(b"words", CARD), {}, "secrets: 1 x payment card"),
        (Unpacking(CARD[:8], CARD[8:]), {}, ""),
        (
            Unpacking(CARD, b"5555555555554444"),
            {"counts_min": {"payment-card": 2}},
            "secrets: 2 x payment card",
        ),
        (Unpacking(base64.b64encode(b"x " + CARD)), {}, "secrets: 1 x payment card (base64)"),
        (
            Unpacking(outcome=ScanOutcome.ENCRYPTED),
            {},
            f"it {UNREAD}encrypted: why",
        ),
        (
            Unpacking(CARD, outcome=ScanOutcome.OVER_LIMIT),
            {"action": "redact"},
            f"secrets: 1 x payment card; the rest {UNREAD}over-limit: why",
        ),
        (Unpacking(outcome=ScanOutcome.NOT_SCANNED), {"unread": "release"}, ""),
        (
            Unpacking(CARD),
            {"action": "redact"},
            "secrets: 1 x payment card, inside an archive or a document, where it cannot be masked",
        ),
    ],
)
def test_what_a_scanner_unpacks_is_looked_through(
    scanner: Unpacking, settings: dict[str, Any], reason: str
) -> None:
    seen = read_by(scanner, **settings)
    expected = ("refused", reason) if reason else ("released", "released by every content filter")
    assert (seen.outcome, seen.reason) == expected
    assert scanner.asked == 1


def test_the_object_itself_is_looked_through_all_the_same() -> None:
    assert read_by(Unpacking(), CARD).reason == "secrets: 1 x payment card"


def test_a_scanner_opens_archives_and_the_filter_does_not() -> None:
    assert read_by(Unpacking(b"words"), b"7z\xbc\xaf\x27\x1c" + bytes(40)).outcome == "released"
    with pytest.raises(ValidationError, match="its own table says which"):
        DataLossSettings(scanner="yara", archives=("zip",))


def test_with_a_scanner_what_holds_for_every_content_filter_holds() -> None:
    check_content_filter(
        lambda: DataLoss(DataLossSettings(scanner="yara")),
        [b"words"],
        offer=UPLOAD,
        scanners={"yara": Unpacking(b"inside")},
    )
