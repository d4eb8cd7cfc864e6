"""What a scanner process sees in an object: rules, kinds, archives, and every reason to stop."""

from __future__ import annotations

import io
import pathlib
import struct
import tarfile
import zipfile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate.filterapi import ScanOutcome
from sluicegate.scan.examination.openers import OPENERS
from sluicegate.scan.examination.walk import Report, Walk
from sluicegate.scan.examination.yara_rules import RulesWrong, YaraRules
from sluicegate.scan.messages import ArchiveBounds, PartFacts
from sluicegate.scan.rule_files import read_rules

from .container_kit import (
    CONTAINERS,
    NAME,
    archived,
    compound,
    eicar,
    package,
    pdf,
    tarred,
    zipped,
)

RULES = YaraRules(read_rules(None, with_shipped=True).sources)
BOUNDS = {
    "depth_max": 8,
    "entries_max": 1000,
    "bytes_max": 64 << 20,
    "member_bytes_max": 32 << 20,
    "ratio_max": 250,
    "forwarded_bytes_max": 0,
}
TEST_FILES = pathlib.Path("/usr/share/clamav-testfiles")
PE = b"MZ" + bytes(58) + (64).to_bytes(4, "little") + b"PE\0\0" + bytes(64)
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
INSTALLER = bytes.fromhex("84100c0000000000c000000000000046")
MACRO_SHEET = b"\x09\x08\x04\0" + bytes(4) + b"\x85\0\x08\0" + bytes(5) + b"\1\0\0"
ELF = b"\x7fELF\x02\x01\x01" + bytes(57)


def looked_at(
    data: bytes,
    name: str = "object",
    content_type: str = "",
    rules: YaraRules = RULES,
    **bounds: int,
) -> Report:
    walk = Walk(ArchiveBounds(**(BOUNDS | bounds)), rules)
    return walk.examine(data, name, content_type)


def part(report: Report, path: str = "") -> PartFacts:
    (found,) = [one for one in report.parts if one.path == path]
    return found


# -- what is found ---------------------------------------------------------------------------------


@pytest.mark.parametrize("container", CONTAINERS)
def test_the_test_file_is_found_in_every_container(container: str) -> None:
    """L3, L4, L6."""
    report = looked_at(CONTAINERS[container](eicar()))
    assert (report.outcome, report.reason[:15]) == (ScanOutcome.FOUND, "EICAR_Test_File")


@pytest.mark.parametrize("container", CONTAINERS)
def test_what_is_harmless_is_clean_in_every_container(container: str) -> None:
    report = looked_at(CONTAINERS[container](b"harmless text, some of it\n" * 20))
    assert (report.outcome, report.reason) == (ScanOutcome.CLEAN, "")


@pytest.mark.parametrize("container", ["zip, deflated", "tar.gz", "tar.zst", "7z", "cab", "xz"])
@pytest.mark.parametrize("edge", [0x8000, 64 << 10, 256 << 10])
def test_the_test_file_is_found_across_every_edge_of_a_piece(container: str, edge: int) -> None:
    """L6: the pieces in which members are read, and the blocks of a cabinet."""
    for before in range(0, len(eicar()) + 1, 4):
        padding = bytes(edge - before)
        report = looked_at(
            CONTAINERS[container](padding + eicar() + padding[:999]), ratio_max=10**6
        )
        assert report.outcome is ScanOutcome.FOUND, before


def test_containers_in_containers_are_opened_down_to_the_last() -> None:
    data = eicar()
    for container in ("zip, deflated", "tar", "xz", "7z", "cpio", "zstd"):
        data = CONTAINERS[container](data)
    report = looked_at(data)
    assert report.outcome is ScanOutcome.FOUND
    assert report.reason.count("/") == 5


#: Their ends are padding, or they have no end of their own: whoever gets them gets as little.
_WITHOUT_END = {
    "tar", "tar, ustar", "tar, pax", "compress", "deb", "lha", "rar", "rar 5", "iso", "ar", "xar",
    "warc", "ole", "onenote",
    "rtf", "pdf, plain", "pdf, deflated", "mail, base64", "mail, uuencode", "html", "powerpoint",
    "zip behind a picture", "zip behind a program", "7z behind a program",
}  # fmt: skip


@pytest.mark.parametrize("container", sorted(CONTAINERS.keys() - _WITHOUT_END))
def test_a_container_that_is_cut_anywhere_is_never_clean(container: str) -> None:
    """L3: as long as its mark is there."""
    whole = CONTAINERS[container](b"Some content that is not too short." * 3)
    for cut in range(1, len(whole)):
        report = looked_at(whole[:cut])
        is_marked = not report.parts or report.parts[-1].kind in OPENERS
        assert not is_marked or report.outcome is not ScanOutcome.CLEAN, cut


def test_a_text_is_also_looked_at_as_its_receiver_may_have_it() -> None:
    """L6: carriage returns in it are gone when it arrives."""
    hidden = eicar()[:20] + b"\r" + eicar()[20:]
    assert looked_at(hidden).outcome is ScanOutcome.CLEAN
    walk = Walk(ArchiveBounds(**BOUNDS), RULES)
    assert walk.examine(hidden, "a", "", is_text=True).outcome is ScanOutcome.FOUND


# -- what stops it ---------------------------------------------------------------------------------


def encrypted(archive: bytes) -> bytes:
    locked = bytearray(archive)
    locked[6] |= 1
    locked[locked.index(b"PK\x01\x02") + 8] |= 1
    return bytes(locked)


def repeated(count: int) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number in range(count):
            archive.writestr(zipfile.ZipInfo(str(number)), b"x")
    return packed.getvalue()


def nested(depth: int) -> bytes:
    data = b"deep"
    for _ in range(depth):
        data = zipped(data)
    return data


@pytest.mark.parametrize(
    ("data", "bounds", "outcome", "reason"),
    [
        (encrypted(zipped(b"secret")), {}, "encrypted", "the archive has encrypted members"),
        (
            zipped(encrypted(zipped(b"secret"))),
            {},
            "encrypted",
            "the archive has encrypted members in inn",
        ),
        (compound({"EncryptedPackage": b"x"}), {}, "encrypted", "an encrypted document"),
        (pdf(b"x") + b"trailer<</Encrypt 5 0 R>>", {}, "encrypted", "an encrypted PDF file"),
        (zipped(b"x")[:-9], {}, "corrupt", "zip: it has no end record"),
        (zipped(b"x" * 99).replace(b"inner", b"other", 1), {}, "corrupt", "zip: a member's two"),
        (archived(b"x" * 99, "7zip")[:-9], {}, "corrupt", "7z: "),
        (b"\x60\xea\x2a\0\x22" + bytes(60), {}, "corrupt", "arj: into which nobody can look"),
        (zipped(b"conectix" + bytes(600)), {}, "corrupt", "vhd: into which nobody can look in in"),
        (b"7z\xbc\xaf\x27\x1c\0\4" + bytes(600), {}, "corrupt", "7z: nothing is found in it"),
        (CONTAINERS["lha"](b"x" * 99)[:2] + b"-lh9-" + bytes(600), {}, "corrupt", "lha: "),
        (nested(9), {}, "over-limit", "depth_max reached (8)"),
        (repeated(11), {"entries_max": 10}, "over-limit", "entries_max reached (10)"),
        (zipped(bytes(9 << 20)), {}, "over-limit", "ratio_max reached (250)"),
        (archived(bytes(9 << 20), "7zip"), {}, "over-limit", "ratio_max reached (250)"),
        (zipped(bytes(2000)), {"bytes_max": 1999}, "over-limit", "bytes_max reached (1999)"),
        (
            zipped(bytes(2000)),
            {"member_bytes_max": 1999},
            "over-limit",
            "member_bytes_max reached (1999)",
        ),
        (
            archived(bytes(2000), "cpio"),
            {"member_bytes_max": 1999},
            "over-limit",
            "member_bytes_max reached (1999)",
        ),
    ],
)
def test_what_cannot_be_looked_at_to_its_end_says_why(
    data: bytes, bounds: dict[str, int], outcome: str, reason: str
) -> None:
    """L3, L7, K2."""
    report = looked_at(data, **bounds)
    assert (report.outcome, report.reason[: len(reason)]) == (outcome, reason)


def test_what_stands_beside_something_encrypted_is_looked_at_all_the_same() -> None:
    members = {"locked.zip": encrypted(zipped(b"secret")), "cut.zip": zipped(b"x")[:-4]}
    report = looked_at(package({**members, "bad": eicar()}))
    assert report.outcome is ScanOutcome.FOUND
    report = looked_at(package(members))
    # The operator who lets encrypted objects pass has not spoken of damaged ones.
    assert report.outcome is ScanOutcome.CORRUPT


def test_an_encrypted_pdf_file_is_not_called_damaged_for_it() -> None:
    packed = b"<</Filter/FlateDecode>>\nstream\nciphertext\nendstream trailer<</Encrypt 5 0 R>>"
    assert looked_at(b"%PDF-1.7\n" + packed).outcome is ScanOutcome.ENCRYPTED


@pytest.mark.parametrize("first", ["7z", "rar", "cab", "iso", "cpio", "deb", "ole", "pdf, plain"])
def test_a_zip_file_behind_another_container_is_opened_too(first: str) -> None:
    """L2: which of the two somebody sees depends on the program."""
    whole = CONTAINERS[first](b"harmless" * 20) + zipped(eicar())
    assert looked_at(whole).outcome is ScanOutcome.FOUND


def test_what_is_not_encrypted_in_an_encrypted_archive_is_looked_at() -> None:
    whole = bytearray(package({"a": b"secret", "b": eicar()}))
    whole[6] |= 1
    whole[whole.index(b"PK\x01\x02") + 8] |= 1
    assert looked_at(bytes(whole)).outcome is ScanOutcome.FOUND


def test_containers_that_an_operator_lets_pass_stay_closed() -> None:
    disk = b"KDMV" + bytes(600)
    assert looked_at(disk).outcome is ScanOutcome.CORRUPT
    walk = Walk(ArchiveBounds(**BOUNDS), RULES, passes_closed=("vmdk",))
    assert walk.examine(disk, "a.vmdk", "").outcome is ScanOutcome.CLEAN


@settings(max_examples=150, deadline=None)
@given(
    container=st.sampled_from(sorted(CONTAINERS)),
    places=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_no_damage_makes_it_raise(container: str, places: list[tuple[float, int]]) -> None:
    data = bytearray(CONTAINERS[container](b"Some content, and more of it. " * 9))
    for place, value in places:
        data[int(place * (len(data) - 1))] = value
    assert looked_at(bytes(data)).outcome in set(ScanOutcome)


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=2000))
def test_no_bytes_make_it_raise(data: bytes) -> None:
    for start in (
        b"",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        b"%PDF-1.7\n",
        b"{\\rtf",
        b"PK\x03\x04",
    ):
        assert looked_at(start + data).outcome in set(ScanOutcome)


def with_a_million_members() -> bytes:
    """Return a ZIP file (of zip64, as so many need it), all of whose members are empty."""
    count, local_bytes = 1_000_000, 37
    names = [b"%07d" % number for number in range(count)]
    local = struct.pack("<4s5HIIIHH", b"PK\x03\x04", 20, 0, 0, 0, 33, 0, 0, 0, 7, 0)
    central = struct.pack(
        "<4s6HIIIHHHHHI", b"PK\x01\x02", 20, 20, 0, 0, 0, 33, 0, 0, 0, 7, *[0] * 5
    )
    data = local.join([b"", *names])
    directory = b"".join(
        b"%s%s%s" % (central, struct.pack("<I", number * local_bytes), name)
        for number, name in enumerate(names)
    )
    place = len(data)
    record = struct.pack(
        "<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, len(directory), place
    )
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, place + len(directory), 1)
    end = struct.pack("<4s4HIIH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return data + directory + record + locator + end


def test_a_million_entries_end_at_the_bound() -> None:
    """L3."""
    report = looked_at(with_a_million_members(), entries_max=10_000)
    assert (report.outcome, report.reason[:12]) == (ScanOutcome.OVER_LIMIT, "entries_max ")


def forty_two() -> bytes:
    """Return zeros in five layers of sixteen archives each, as 42.zip has them: 64 TiB of them."""
    held = zipped(bytes(64 << 20))
    for _ in range(5):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for number in range(16):
                archive.writestr(f"lib {number}.zip", held)
        held = packed.getvalue()
    return held


def test_archives_that_multiply_in_layers_end_at_a_bound() -> None:
    """K2, L3: 42.zip."""
    report = looked_at(forty_two(), member_bytes_max=32 << 20)
    assert report.outcome is ScanOutcome.OVER_LIMIT


def zip64(content: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive, archive.open(NAME, "w", force_zip64=True) as one:
        one.write(content)
    return packed.getvalue()


def linked(name: str, target: str) -> bytes:
    """Return a tar file whose link has the test file beside it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        link = tarfile.TarInfo(name)
        link.type, link.linkname = tarfile.SYMTYPE, target
        archive.addfile(link)
        member = tarfile.TarInfo("bad")
        member.size = len(eicar())
        archive.addfile(member, io.BytesIO(eicar()))
    return packed.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        zip64(eicar()),
        zipped(eicar(), name="../../../../etc/cron.d/x"),
        zipped(eicar(), name="/etc/passwd"),
        zipped(eicar(), name="C:\\Windows\\System32\\version.dll"),
        zipped(eicar(), name="a" * 60_000),
        tarred(eicar(), name="../../up"),
        linked("a", "/etc/passwd"),
        linked("a", "../../../../dev/zero"),
        linked("bad", "bad"),
    ],
    ids=["zip64", "up", "absolute", "backslash", "long", "tar up", "link", "zero", "itself"],
)
def test_no_name_and_no_link_hides_a_member_or_leads_anywhere(data: bytes) -> None:
    """L3."""
    assert looked_at(data).outcome in {ScanOutcome.FOUND, ScanOutcome.CORRUPT}


# -- what it is ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "name", "kind", "traits"),
    [
        (PE, "setup.exe", "pe", []),
        (PE, "holiday.jpg", "pe", ["name-mismatch"]),
        (PE, "invoice.pdf.exe", "pe", ["lure-name"]),
        (ELF, "tool", "elf", []),
        (b"GIF89a" + bytes(20), "a.gif", "gif", []),
        (b"GIF89a" + bytes(20), "a.png", "gif", ["name-differs"]),
        (b"GIF89a" + bytes(20) + PE, "a.gif", "gif", ["embedded-pe"]),
        (b"\x89PNG\r\n\x1a\n" + bytes(9) + ELF, "a.png", "png", ["embedded-elf"]),
        (package({"META-INF/MANIFEST.MF": b"", "A.class": b"x"}), "a.jar", "jar", []),
        (package({"AndroidManifest.xml": b"", "classes.dex": b"x"}), "a.apk", "apk", []),
        (
            compound({"a": b""}, bytes.fromhex("84100c0000000000c000000000000046")),
            "a.msi",
            "msi",
            [],
        ),
        (compound({"WordDocument": b""}), "a.doc", "doc", []),
        (compound({"_VBA_PROJECT": b"", "WordDocument": b""}), "a.doc", "doc", ["macros"]),
        (compound({"Workbook": MACRO_SHEET}), "a.xls", "xls", ["macros"]),
        (package({"[Content_Types].xml": b"", "word/document.xml": b""}), "a.docx", "docx", []),
        (
            package({"[Content_Types].xml": b"", "word/x": b"", "word/vbaProject.bin": b""}),
            "a.docm",
            "docx",
            ["macros"],
        ),
        (
            package({"[Content_Types].xml": b"application/vnd.ms-office.vbaProject", "xl/a": b""}),
            "a.xlsx",
            "xlsx",
            ["macros"],
        ),
        (
            package(
                {
                    "[Content_Types].xml": b"",
                    "word/_rels/settings.xml.rels": b'<Relationship Type="http://x/relationships/'
                    b'attachedTemplate" Target="http://evil/a.dotm" TargetMode="External"/>',
                }
            ),
            "a.docx",
            "docx",
            ["remote-template"],
        ),
        (pdf(b"x"), "a.pdf", "pdf", []),
        (pdf(b"x", b"/S/JavaScript/JS(app.alert\\(1\\))"), "a.pdf", "pdf", ["pdf-script"]),
        (pdf(b"x", b"/S/Java#53cript"), "a.pdf", "pdf", ["pdf-script"]),
        (pdf(b"x", b"/OpenAction<</S/Launch>>"), "a.pdf", "pdf", ["pdf-launch"]),
        (b"\x4c\0\0\0\x01\x14\x02\0\0\0\0\0\xc0\0\0\0\0\0\0\x46" + bytes(60), "a.lnk", "lnk", []),
        (b"[InternetShortcut]\nURL=file://x\n", "a.url", "url", []),
        (b"<html><hta:application id=a>", "a.hta", "hta", []),
        (b"#!/bin/sh\n", "a", "script", []),
        (b"Write-Host 1\n", "a.ps1", "text", []),
        (b"\xef\xbb\xbf@echo off\r\n", "a.bat", "batch", []),
        (b"qcow", "a.bin", "text", []),
        (b"", "a.jpg", "empty", []),
    ],
)
def test_an_object_is_called_what_it_is(
    data: bytes, name: str, kind: str, traits: list[str]
) -> None:
    """L1, L2, K8."""
    found = part(looked_at(data, name))
    assert (found.kind, found.traits) == (kind, traits)


@pytest.mark.parametrize(
    ("data", "content_type", "is_contradicted"),
    [
        (PE, "image/png", True),
        (PE, "application/octet-stream", False),
        (PE, "", False),
        (PE, "text/plain; charset=utf-8", True),
        (b"plain", "text/plain", False),
        (b"<html>", "text/plain", False),
        (b"<html>", "image/jpeg", True),
        (package({"[Content_Types].xml": b"", "xl/a": b""}), "application/zip", False),
        (package({"[Content_Types].xml": b"", "xl/a": b""}), "image/gif", True),
    ],
)
def test_a_type_that_its_bytes_contradict_is_noticed(
    data: bytes, content_type: str, is_contradicted: bool
) -> None:
    found = part(looked_at(data, "object", content_type))
    assert ("type-mismatch" in found.traits) == is_contradicted


def test_scripts_are_told_by_their_names_where_their_bytes_are_text() -> None:
    report = looked_at(package({"a/run.ps1": b"x", "b/RUN.VBS ": b"x", "c.txt": b"x"}))
    assert {(one.path, one.named) for one in report.parts if one.path} == {
        ("a/run.ps1", "powershell"),
        ("b/RUN.VBS ", "vbscript"),
        ("c.txt", ""),
    }


def test_parts_that_are_alike_are_told_once() -> None:
    report = looked_at(package({f"{number}.txt": b"x" for number in range(500)}))
    assert [(one.kind, one.count) for one in report.parts] == [("text", 500), ("zip", 1)]


@pytest.mark.skipif(not TEST_FILES.is_dir(), reason="cure: apt-get install -y clamav-testfiles")
def test_every_test_file_of_clamav_is_found_or_known_to_be_closed() -> None:
    """L5: by a rule for the code that they all carry; packed programs are programs all the same."""
    code = (TEST_FILES / "clam.exe").read_bytes()[0x40:0x78].hex(" ")
    rules = YaraRules(
        [("a.yar", f"rule clam {{ strings: $a = {{ {code} }} condition: $a }}".encode())]
    )
    passed: dict[str, Any] = {}
    for path in sorted(TEST_FILES.iterdir()):
        report = looked_at(path.read_bytes(), path.name, rules=rules, depth_max=30)
        if report.outcome is ScanOutcome.CLEAN:
            passed[path.name] = {one.kind for one in report.parts if one.kind == "pe"}
    assert all(passed.values()), passed
    assert len(passed) < 16


# -- rules -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (b"rule a { condition: nope }", "a.yar:1: unknown identifier `nope`"),
        (b"\n\nrule a {", "a.yar:3: syntax error"),
        (b'include "/etc/passwd"', "a.yar:1: include statements not allowed"),
        (b'rule a { meta: b = "\xff" condition: true }', "a.yar: it is no UTF-8"),
    ],
)
def test_rules_that_are_wrong_are_refused_whole(text: bytes, cause: str) -> None:
    with pytest.raises(RulesWrong) as refused:
        YaraRules([("good.yar", b"rule good { condition: false }"), ("a.yar", text)])
    assert refused.value.causes[0].startswith(cause)


def test_rules_of_one_name_in_two_files_stay_apart() -> None:
    rule = b"rule same { condition: filesize == %d }"
    rules = YaraRules([("a.yar", rule % 1), ("b.yar", rule % 2)])
    assert (rules.count, rules.find(b"x"), rules.find(b"xx")) == (2, "same", "same")


def test_private_rules_are_no_find() -> None:
    rules = YaraRules(
        [("a.yar", b"private rule p { condition: true } rule r { condition: p and filesize == 1 }")]
    )
    assert (rules.find(b"x"), rules.find(b"xx")) == ("r", "")


def test_members_are_shown_to_others_within_a_bound() -> None:
    shown: dict[str, bytes] = {}

    def walk(bound: int) -> Report:
        bounds = ArchiveBounds(**(BOUNDS | {"forwarded_bytes_max": bound}))
        return Walk(bounds, RULES, forward=lambda path, data: shown.update({path: data})).examine(
            zipped(tarred(b"content")), "object", ""
        )

    assert walk(100).outcome is ScanOutcome.CLEAN
    assert shown == {"inner.bin/inner.bin": b"content"}
    report = walk(6)
    assert (report.outcome, report.reason[:27]) == ("over-limit", "forwarded_bytes_max reached")
