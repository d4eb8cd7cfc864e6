"""Which FTP commands no filter may let through, and what is said instead."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.protocols.ftp import FtpCommand, FtpReply
from sluicegate.protocols.ftp_verbs import (
    VERBS,
    FtpDirection,
    FtpRules,
    decode_restart_argument,
    decode_type_argument,
    find_refusal,
    hide_features,
)

READ_ONLY = FtpRules(is_read_only=True)
OPEN = FtpRules(allows_restart=True, allows_append=True)


def code_of(line: bytes, rules: FtpRules = FtpRules()) -> int | None:  # noqa: B008 - immutable
    verb, _, argument = line.partition(b" ")
    refusal = find_refusal(FtpCommand(verb.decode(), argument), rules)
    return None if refusal is None else refusal.code


@pytest.mark.parametrize(
    "line",
    [
        b"USER a",
        b"PASS b",
        b"CWD /",
        b"TYPE A",
        b"TYPE I",
        b"TYPE L 8",
        b"MODE S",
        b"STRU F",
        b"REST 0",
        b"RETR a",
        b"STOR a",
        b"LIST",
        b"MLSD /",
        b"ABOR",
        b"STAT",
        b"FEAT",
        b"OPTS UTF8 ON",
        b"SITE CHMOD 644 a",
        b"PORT 192,0,2,1,4,1",
        b"EPRT |1|192.0.2.1|1025|",
        b"EPSV",
        b"EPSV ALL",
        b"QUIT",
    ],
)
def test_ordinary_commands_pass(line: bytes) -> None:
    assert code_of(line) is None


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"AUTH TLS", 534),
        (b"AUTH GSSAPI", 534),
        (b"PBSZ 0", 503),
        (b"PROT P", 503),
        (b"ENC x", 503),
        (b"MODE Z", 504),
        (b"MODE B", 504),
        (b"STRU R", 504),
        (b"TYPE E", 504),
        (b"TYPE A C", 504),
        (b"TYPE L 36", 504),
        (b"REST 1", 502),
        (b"REST x", 501),
        (b"REST -1", 501),
        (b"APPE a", 502),
        (b"PORT 1,2,3", 501),
        (b"EPRT |3|a|1|", 522),
        (b"EPSV 3", 522),
        (b"LPRT 4,4,1,2,3,4,2,5,6", 502),
        (b"LPSV", 502),
        (b"CPSV", 502),
        (b"SSCN ON", 502),
        (b"COMB a b c", 502),
        (b"RANG 1 2", 502),
        (b"PRET RETR a", 502),
        (b"SITE CPTO /etc/x", 502),
        (b"SITE EXEC id", 502),
        (b"POST / HTTP/1.1", 502),
    ],
)
def test_commands_that_evade_inspection_are_refused(line: bytes, code: int) -> None:
    assert code_of(line) == code


@pytest.mark.parametrize("line", [b"REST 1", b"APPE a"])
def test_parts_pass_where_the_operator_allows_them(line: bytes) -> None:
    assert code_of(line, OPEN) is None


@pytest.mark.parametrize(
    "line",
    [
        b"STOR a",
        b"STOU",
        b"APPE a",
        b"DELE a",
        b"RMD a",
        b"XRMD a",
        b"MKD a",
        b"XMKD a",
        b"RNFR a",
        b"RNTO b",
        b"ALLO 1",
        b"MFMT 20240101000000 a",
        b"MDTM 20240101000000 a",
        b"SITE CHMOD 777 a",
        b"SITE UTIME a",
        b"MFF x a",
    ],
)
def test_read_only_switch_refuses_what_writes(line: bytes) -> None:
    assert code_of(line, READ_ONLY) == 550


@pytest.mark.parametrize("line", [b"RETR a", b"LIST", b"MDTM a", b"SITE HELP", b"CWD a", b"SIZE a"])
def test_read_only_switch_lets_reading_pass(line: bytes) -> None:
    assert code_of(line, READ_ONLY) is None


def test_every_upload_writes() -> None:
    uploads = [verb for verb in VERBS.values() if verb.direction is FtpDirection.UPLOAD]

    assert {verb.name for verb in uploads} == {"STOR", "STOU", "APPE"}
    assert all(verb.writes for verb in uploads)


@pytest.mark.parametrize(
    ("argument", "is_ascii"),
    [
        (b"A", True),
        (b"a N", True),
        (b"I", False),
        (b"L 8", False),
        (b"L8", False),
        (b"", None),
        (b" A", None),
    ],
)
def test_type_is_ascii_or_image(argument: bytes, is_ascii: bool | None) -> None:
    assert decode_type_argument(argument) is is_ascii


@pytest.mark.parametrize(
    ("argument", "offset"), [(b"0", 0), (b"007", 7), (b"", None), (b"1" * 19, None), (b"1 ", None)]
)
def test_restart_offset_is_decimal(argument: bytes, offset: int | None) -> None:
    assert decode_restart_argument(argument) == offset


FEATURES = FtpReply(
    211,
    (
        b"Features:",
        b" AUTH TLS",
        b" PBSZ",
        b" MODE Z",
        b" REST STREAM",
        b" SIZE",
        b" UTF8",
        b" MFMT",
        b" X-NEW",
        b"End",
    ),
)


@pytest.mark.parametrize(
    ("rules", "shown"),
    [
        (FtpRules(), (b" SIZE", b" UTF8", b" MFMT")),
        (READ_ONLY, (b" SIZE", b" UTF8")),
        (OPEN, (b" REST STREAM", b" SIZE", b" UTF8", b" MFMT")),
    ],
)
def test_features_that_do_not_pass_are_hidden(rules: FtpRules, shown: tuple[bytes, ...]) -> None:
    assert hide_features(FEATURES, rules).lines == (b"Features:", *shown, b"End")


def test_reply_without_features_stays() -> None:
    reply = FtpReply(500, (b"unknown",))

    assert hide_features(reply, FtpRules()) is reply


@given(st.sampled_from([*VERBS, "XXXX"]), st.binary(max_size=40), st.builds(FtpRules))
def test_any_argument_has_an_answer(verb: str, argument: bytes, rules: FtpRules) -> None:
    refusal = find_refusal(FtpCommand(verb, argument), rules)

    assert refusal is None or refusal.to_bytes().endswith(b"\r\n")
