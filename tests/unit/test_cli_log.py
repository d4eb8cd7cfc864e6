"""``sluicegate log``: what is stored and what only the log has yet, exports, and verification."""

from __future__ import annotations

import csv
import json
import pathlib
import re
import sqlite3

import pytest
from click.testing import CliRunner, Result

from sluicegate.audit import Record
from sluicegate.audit.lines import encode_record
from sluicegate.audit.store import Filler, Retention, SqlitePlace
from sluicegate.cli.main import cli
from sluicegate.clock import SystemClock
from tests.unit.record_kit import KINDS, full_record, tag_of

MAIN = """\
[log]
store = "sqlite"
[[listener]]
name = "ftp"
address = "127.0.0.1:2121"
"""
COUNT = 12


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def line_of(number: int, **fields: object) -> bytes:
    record = {"kind": "request", "time": 100.0 + number, "client": "10.0.0.1:4", **fields}
    return json.dumps({**record, "status": number}).encode() + b"\n"


@pytest.fixture
def config(tmp_path: pathlib.Path) -> pathlib.Path:
    """Return the file of a gate whose store has all records of its log but the last four."""
    path = tmp_path / "sluicegate.toml"
    path.write_text(MAIN, encoding="utf-8")
    state = tmp_path / "state"
    state.mkdir()
    log = state / "records.jsonl"
    log.write_bytes(b"".join(map(line_of, range(1, COUNT - 3))))
    filler = Filler(
        log,
        SqlitePlace(folder=str(state / "records")),
        Retention(90, 1 << 40),
        SystemClock(),
        print,
    )
    filler.close()
    with log.open("ab") as file:
        file.writelines(map(line_of, range(COUNT - 3, COUNT + 1)))
    return path


def numbers(result: Result) -> list[int]:
    assert result.exit_code == 0, result.output
    return [json.loads(line)["status"] for line in result.stdout.splitlines()]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), range(1, COUNT + 1)),
        (("-n", "0"), []),
        (("-n", "2"), [11, 12]),
        (("-n", "6"), range(7, 13)),
        (("-n", "99"), range(1, 13)),
        (("status:3,10",), [3, 10]),
        (("-n", "1", "status<9"), [8]),
        (("-n", "2", "status:3,10,4"), [4, 10]),
        (("show", "status:5"), [5]),
    ],
)
def test_log_shows_what_is_stored_and_what_is_not_yet(
    config: pathlib.Path, arguments: tuple[str, ...], expected: range | list[int]
) -> None:
    assert numbers(invoke("log", *arguments, "-c", config, "--json")) == list(expected)


def test_log_is_read_from_the_store_where_its_file_was_moved_away(config: pathlib.Path) -> None:
    (config.parent / "state" / "records.jsonl").unlink()
    assert numbers(invoke("log", "-c", config, "--json")) == list(range(1, COUNT - 3))


def test_export_writes_all_or_nothing(config: pathlib.Path, tmp_path: pathlib.Path) -> None:
    output = tmp_path / "out.jsonl"
    assert invoke("log", "export", "-c", config, "status>10", "-o", output).exit_code == 0
    assert output.read_bytes() == line_of(11) + line_of(12)
    assert numbers(invoke("log", "export", "-c", config, "status<3")) == [1, 2]
    assert invoke("log", "export", "-c", config, "x:1", "-o", tmp_path / "none").exit_code == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "out.jsonl",
        "sluicegate.toml",
        "state",
    ]


def test_exported_table_holds_no_formula(config: pathlib.Path) -> None:
    with (config.parent / "state" / "records.jsonl").open("ab") as file:
        file.write(line_of(99, url="http://h.example/", reason='=cmd|"/c calc"', user="-1+2"))
    result = invoke("log", "export", "-c", config, "--format", "csv", "status:99")
    ((row,),) = [list(csv.DictReader(result.stdout.splitlines()))]
    assert (row["reason"], row["user"]) == ('\'=cmd|"/c calc"', "'-1+2")
    assert (row["host"], row["status"]) == ("h.example", "99")


def test_store_that_nobody_touched_is_verified(config: pathlib.Path) -> None:
    result = invoke("log", "verify", "-c", config)
    assert result.exit_code == 0
    assert "records 1 to 8" in result.stdout
    found = re.search(r"last link: ([0-9a-f]{64})", result.stdout)
    assert found is not None
    assert invoke("log", "verify", "-c", config, "--expect", found[1]).exit_code == 0
    result = invoke("log", "verify", "-c", config, "--expect", "ab" * 32, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["faults"] == [
        "the expected link is not in the chain: it was cut off or made anew"
    ]


def test_store_that_somebody_changed_is_not(config: pathlib.Path) -> None:
    (path,) = (config.parent / "state" / "records").glob("records-*.sqlite")
    database = sqlite3.connect(path)
    database.execute("UPDATE records SET body = replace(body, '10.0.0.1', '10.0.0.2')")
    database.commit()
    database.close()
    result = invoke("log", "verify", "-c", config)
    assert result.exit_code == 1
    assert "are not what was stored" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--expect", "12"), "64 hexadecimal digits"),
        (("--expect", "zz" * 32), "64 hexadecimal digits"),
    ],
)
def test_link_that_is_none_is_refused(
    config: pathlib.Path, arguments: tuple[str, ...], words: str
) -> None:
    result = invoke("log", "verify", "-c", config, *arguments)
    assert result.exit_code == 2
    assert words in result.stderr


def test_verification_without_a_store_is_an_error_with_a_cure(config: pathlib.Path) -> None:
    config.write_text(MAIN.replace("sqlite", "none"), encoding="utf-8")
    result = invoke("log", "verify", "-c", config)
    assert result.exit_code == 2
    assert 'store = "sqlite"' in result.stderr


@pytest.mark.parametrize("command", ["", "-n 3", "words", "export"])
def test_damaged_store_is_an_error_with_a_cure(config: pathlib.Path, command: str) -> None:
    (path,) = (config.parent / "state" / "records").glob("records-*.sqlite")
    content = bytearray(path.read_bytes())
    content[8192:] = b"\xff" * (len(content) - 8192)
    path.write_bytes(content)
    result = invoke("log", *command.split(), "-c", config)
    assert result.exit_code == 2
    assert "cannot be read: database disk image is malformed" in result.stderr
    assert "sluicegate log verify" in result.stderr
    verified = invoke("log", "verify", "-c", config)
    assert verified.exit_code == 1
    assert "no record, 0 good signatures" in verified.stdout


def test_file_that_cannot_be_written_is_an_error_with_a_cure(config: pathlib.Path) -> None:
    for output in (config.parent / "none" / "x.csv", config.parent / "state" / "records"):
        result = invoke("log", "export", "-c", config, "-o", output)
        assert result.exit_code == 2
        assert "--output" in result.stderr


@pytest.mark.parametrize("option", [(), ("--json",)], ids=["text", "json"])
def test_no_text_of_a_client_moves_the_terminal(
    option: tuple[str, ...], tmp_path: pathlib.Path
) -> None:
    hostile = "a\r\nb\x1b[2J\x9b31m\u2028\u202egpj\x7f\x00'"
    log = tmp_path / "records.jsonl"
    log.write_bytes(line_of(1, url=hostile, user=hostile, facts={hostile: hostile}))
    shown = invoke("log", "--file", log, *option)
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.count("\n") == 1
    assert shown.stdout[:-1].isprintable()


# -- every kind of the catalogue -------------------------------------------------------------------


def texts_in(value: object) -> list[str]:
    """Return every text and number of a record's field, as people read it."""
    if isinstance(value, dict):
        return [str(one) for pair in value.items() for one in pair]
    if isinstance(value, list):
        return [str(one) for one in value]
    return [str(value)]


@pytest.mark.parametrize("kind", KINDS, ids=tag_of)
def test_every_kind_is_found_and_shown_with_all_that_it_has(
    kind: type[Record], tmp_path: pathlib.Path
) -> None:
    log = tmp_path / "records.jsonl"
    log.write_bytes(encode_record(full_record(kind)) + line_of(1, kind="other"))
    shown = invoke("log", f"kind:{tag_of(kind)}", "--file", log)
    assert shown.exit_code == 0, shown.output
    (row,) = shown.stdout.splitlines()
    fields = json.loads(log.read_bytes().splitlines()[0])
    missing = [
        (name, text)
        for name, value in fields.items()
        if name != "time"
        for text in texts_in(value)
        if text not in row
    ]
    assert missing == []
