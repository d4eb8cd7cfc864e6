"""Records as lines: one line each, printable, and read back as they were."""

from __future__ import annotations

import ast
import json
import pathlib
import typing

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.audit import NoteRecord, TransferRecord, records
from sluicegate.audit.lines import decode_record, encode_record, encode_records
from sluicegate.audit.query import LogFile


def transfer(name: str, reason: str = "clean") -> TransferRecord:
    return TransferRecord(
        time=1.5,
        connection="c-1-1",
        session="s-1-1",
        client="192.0.2.7:4000",
        rule="ftp",
        name=name,
        direction="download",
        protocol="ftp",
        verdict="released",
        reason=reason,
        bytes=3,
    )


@given(st.text(), st.text())
def test_any_text_makes_one_printable_line_that_reads_back(name: str, reason: str) -> None:
    record = transfer(name, reason)
    line = encode_record(record)
    assert line.endswith(b"\n")
    assert all(0x20 <= byte <= 0x7E for byte in line[:-1])
    assert decode_record(line) == record


@pytest.mark.parametrize(
    "name",
    [
        "a\r\n{}", "\x1b[2J", "\x7f", "\x9b2J", "\u2028", "\u202egpj.exe", "\ufeff", "\x00",
        '"},{"kind":"service', "\\", "é",
    ],
)  # fmt: skip
def test_hostile_name_cannot_leave_its_field(name: str) -> None:
    line = encode_record(transfer(name))
    assert line.count(b"\n") == 1
    assert json.loads(line)["name"] == name


@pytest.mark.parametrize("half", [0xDCFF, 0xD800])
def test_name_that_is_no_utf_8_is_spelt_so_that_it_reads_back(half: int) -> None:
    line = encode_record(transfer(f"a{chr(half)}b"))
    read = decode_record(line)
    assert isinstance(read, TransferRecord)
    assert read.name == f"a\\u{half:x}b"
    assert encode_records([transfer("a"), transfer(f"a{chr(half)}b")]).endswith(line)


def test_field_that_holds_its_default_is_left_out() -> None:
    assert "sha256" not in json.loads(encode_record(transfer("a")))


def test_record_with_a_field_that_is_no_text_is_refused() -> None:
    with pytest.raises(TypeError):
        encode_record(NoteRecord(time=1.0, filter="f", message="m", facts={"a": object()}))


def test_every_kind_has_its_own_tag_and_is_in_the_catalogue() -> None:
    kinds = typing.get_args(records.AnyRecord)
    tags = [kind.__struct_config__.tag for kind in kinds]
    assert len(set(tags)) == len(tags)
    declared = {
        value
        for value in vars(records).values()
        if isinstance(value, type) and issubclass(value, records.Record)
    }
    assert declared - {records.Record} == set(kinds)


def test_every_kind_is_written_somewhere() -> None:
    """Whoever makes a record of a kind is found in the source; the kinds themselves are no use."""
    package = pathlib.Path(records.__file__).parents[1]
    made = {
        node.func.id
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    kinds = {kind.__name__ for kind in typing.get_args(records.AnyRecord)}
    assert kinds - made <= {"AlertRecord"}  # what watches conditions writes these


def test_line_of_another_version_is_not_taken_for_a_record() -> None:
    with pytest.raises(msgspec.ValidationError):
        decode_record(b'{"kind":"unheard-of","time":1.0}')


def test_field_of_another_version_is_ignored() -> None:
    line = encode_record(transfer("a"))[:-2] + b',"later":1}\n'
    assert decode_record(line) == transfer("a")


# -- reading -----------------------------------------------------------------------------------


@pytest.fixture
def log(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "records.jsonl"
    path.write_bytes(b'{"n":1}\n{"n":2}\n')
    return path


def numbers(opened: LogFile) -> list[object]:
    return [line.fields["n"] for line in opened.new_lines()]


def append(path: pathlib.Path, text: bytes) -> None:
    with path.open("ab") as file:
        file.write(text)


def test_followed_log_gives_only_whole_lines(log: pathlib.Path) -> None:
    opened = LogFile(log)
    first = numbers(opened)
    append(log, b'{"n"')
    cut = numbers(opened)
    append(log, b":3}\n")
    assert (first, cut, numbers(opened)) == ([1, 2], [], [3])
    opened.close()


def test_followed_log_goes_on_with_the_new_file_after_a_rotation(log: pathlib.Path) -> None:
    opened = LogFile(log)
    numbers(opened)
    append(log, b'{"n":3}\n')
    log.rename(log.with_suffix(".1"))
    moved = numbers(opened)
    append(log.with_suffix(".1"), b'{"n":4}\n')
    log.write_bytes(b'{"n":5}\n')
    assert (moved, numbers(opened)) == ([3], [4, 5])
    opened.close()


def test_followed_log_begins_again_when_it_was_cut_in_place(log: pathlib.Path) -> None:
    opened = LogFile(log)
    numbers(opened)
    log.write_bytes(b'{"n":6}\n')
    numbers(opened)
    assert numbers(opened) == [6]
    opened.close()


@pytest.mark.parametrize(
    ("bytes_max", "wanted"),
    [(0, []), (7, []), (8, [2]), (9, [2]), (15, [2]), (16, [1, 2]), (100, [1, 2])],
)
def test_only_whole_lines_of_the_end_are_read(
    log: pathlib.Path, bytes_max: int, wanted: list[int]
) -> None:
    assert log.read_bytes() == b'{"n":1}\n{"n":2}\n'
    opened = LogFile(log)
    opened.skip_to_last(bytes_max)
    assert numbers(opened) == wanted
    append(log, b'{"n":3}\n')
    assert numbers(opened) == [3]
    opened.close()


def test_line_that_is_no_record_is_skipped_and_counted(log: pathlib.Path) -> None:
    append(log, b"garbage\n[1]\n\n")
    opened = LogFile(log)
    assert numbers(opened) == [1, 2]
    assert opened.skipped == 2
    opened.close()


def test_log_whose_next_file_cannot_be_opened_yet_is_gone_on_with(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text('{"n":1}\n')
    log = LogFile(path)
    assert [line.fields["n"] for line in log.new_lines()] == [1]
    path.rename(tmp_path / "records.jsonl.1")
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        list(log.new_lines())
    path.rmdir()
    path.write_text('{"n":2}\n')
    assert [line.fields["n"] for line in log.new_lines()] == [2]
    log.close()
