"""``[[scanner]]`` of kind ``yara``: which tables are taken, and what is said of others."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import pytest

from sluicegate.app.load import Loaded, load
from sluicegate.app.processes.gathering import gather_scanners
from sluicegate.documents import Findings
from sluicegate.gate.views import ScannerView
from sluicegate.scan import ClamdScanner, ProcessContentScanner

POLICY = '[[publish]]\nname = "a"\nlistener = "a"\nserver = "192.0.2.1:21"\nfilters = []\n'
CLAMD = '[[scanner]]\nname = "clamd"\nkind = "clamd"\nsocket = "clamd.sock"\n'
TYPES = (
    '[[filter]]\nname = "file_types"\nuse = "sluicegate.bundled.file_types:FileTypes"\n'
    "[filter.settings]\nscanner = "
)
YARA = '[[scanner]]\nname = "yara"\nkind = "yara"\n'

Reading = Callable[..., tuple[Loaded | None, Findings]]


@pytest.fixture
def read(tmp_path: pathlib.Path) -> Reading:
    """Return what reads a configuration with these tables."""
    (tmp_path / "policy.toml").write_text(POLICY + 'clients = ["10.0.0.0/8"]\n')

    def read_tables(text: str, before: Loaded | None = None) -> tuple[Loaded | None, Findings]:
        main = f'[[listener]]\nname = "a"\naddress = "127.0.0.1:0"\n{text}'
        (tmp_path / "sluicegate.toml").write_text(main)
        findings = Findings()
        return load(tmp_path / "sluicegate.toml", findings, before), findings

    return read_tables


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (YARA + 'socket = "x"\n', "means nothing for a scanner of kind 'yara'"),
        (YARA + "trust_limits = true\n", "means nothing for a scanner of kind 'yara'"),
        (CLAMD + "processes = 2\n", "means nothing for a scanner of kind 'clamd'"),
        (CLAMD + "[scanner.archives]\ndepth_max = 3\n", "means nothing for a scanner of kind"),
        (YARA + 'rules = "nowhere"\n', "rules: {folder}/nowhere: cannot be read: No such file"),
        (YARA + "[scanner.archives]\ndepth = 3\n", "unknown key"),
        (YARA + 'memory_bytes_max = "1 MiB"\n', "must be at least"),
        (
            YARA + '[scanner.archives]\nmembers_to = ["yara"]\n',
            "there is no scanner 'yara' of another kind than 'yara'",
        ),
        (
            CLAMD + YARA + '[scanner.archives]\nmembers_to = ["clam"]\n',
            "there is no scanner 'clam' of another kind than 'yara'",
        ),
        (
            YARA + '[scanner.archives]\npasses_closed = ["zip"]\n',
            "'zip' is no kind that stays closed",
        ),
        (
            CLAMD
            + '[[filter]]\nname = "file_types"\nuse = "sluicegate.bundled.file_types:FileTypes"\n'
            '[filter.settings]\nscanner = "clamd"\n',
            "'file_types' asks 'clamd' what is in objects, which it cannot tell",
        ),
        (
            TYPES + '"yara"\n',
            "'file_types' asks a scanner 'yara', and there is none",
        ),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(
    read: Reading, tmp_path: pathlib.Path, text: str, cause: str
) -> None:
    loaded, findings = read(text)
    assert loaded is None
    assert any(cause.format(folder=tmp_path) in one.cause for one in findings.errors), (
        findings.errors
    )


def test_rules_that_are_wrong_are_one_mistake(read: Reading, tmp_path: pathlib.Path) -> None:
    (tmp_path / "bad.yar").write_text("rule {")
    filters = '[[filter]]\nname = "antivirus"\n[filter.settings]\nscanners = ["yara"]\n'
    _, findings = read(YARA + 'rules = "."\n' + filters)
    (error,) = findings.errors
    assert error.cause.startswith("rules: bad.yar:1: syntax error")


def test_a_scanner_about_which_nothing_changed_is_the_same_after_a_reload(read: Reading) -> None:
    members = '[scanner.archives]\nmembers_to = ["clamd"]\n'
    before, _ = read(YARA + members + CLAMD)
    assert before is not None
    same, _ = read(CLAMD + YARA + members, before)
    assert same is not None
    for name, kind in (("yara", ProcessContentScanner), ("clamd", ClamdScanner)):
        assert isinstance(before.settings.scanners[name], kind)
        assert same.settings.scanners[name] is before.settings.scanners[name]
    other, _ = read(CLAMD + YARA + "cpu_s = 7\n" + members, before)
    assert other is not None
    assert other.settings.scanners["yara"] is not before.settings.scanners["yara"]
    # Whoever is shown members by a scanner that changed makes another one of it, too.
    third, _ = read(CLAMD + "timeout_s = 7\n" + YARA + members, before)
    assert third is not None
    assert third.settings.scanners["yara"] is not before.settings.scanners["yara"]


RULE = "rule one { condition: filesize == 7 }"


@pytest.mark.parametrize(
    ("damage", "cause"),
    [
        (lambda folder: (folder / "a.yar").write_text("rule {"), "rules: a.yar:1: syntax error"),
        (lambda folder: (folder / "a.yar").unlink() or folder.rmdir(), "cannot be read: No such"),
    ],
    ids=["wrong", "gone"],
)
def test_rules_that_are_wrong_by_now_do_not_hold_up_another_policy(
    read: Reading, tmp_path: pathlib.Path, damage: Callable[[pathlib.Path], None], cause: str
) -> None:
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "a.yar").write_text(RULE)
    table = YARA + 'rules = "rules"\n'
    before, _ = read(table)
    assert before is not None
    damage(tmp_path / "rules")
    after, findings = read(table + "[limits]\nconnections_max = 77\n", before)
    assert after is not None, findings.errors
    assert after.settings.limits.connections_max == 77
    assert after.settings.scanners["yara"] is before.settings.scanners["yara"]
    (warning,) = after.warnings
    assert "the rules in use stay in use, these are wrong: " in warning
    assert cause in warning


def test_rules_that_are_wrong_refuse_a_scanner_that_changes(
    read: Reading, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "a.yar").write_text(RULE)
    table = YARA + 'rules = "rules"\n'
    before, _ = read(table)
    assert before is not None
    (tmp_path / "rules" / "a.yar").write_text("rule {")
    after, findings = read(table + "cpu_s = 7\n", before)
    assert after is None
    assert [one.cause[:12] for one in findings.errors] == ["rules: a.yar"]


def test_a_scanner_is_one_row_over_all_workers() -> None:
    good = ScannerView(name="yara", kind="yara", processes=2, pids=[1, 2], asked=5, found=1)
    bad = ScannerView(
        name="yara", kind="yara", state="failed", problem="why", pids=[3], processes=1, asked=2
    )
    (row,) = gather_scanners([[good], [bad]])
    assert (row.state, row.problem, row.processes, row.asked) == ("failed", "why", 3, 7)
    assert row.pids == [1, 2, 3]
