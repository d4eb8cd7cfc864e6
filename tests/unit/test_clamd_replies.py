"""What clamd answers: clean is only what is exactly that."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.errors import ProtocolError
from sluicegate.protocols.clamd import (
    ClamdReply,
    ClamdVerdict,
    ClamdVersion,
    ReplyReader,
    chunk_header,
    parse_scan_reply,
    parse_version,
)
from sluicegate.scan_limits import CLAMD_REPLY_BYTES_MAX

REPLIES = [
    (b"fd[11]: OK", ClamdReply(ClamdVerdict.CLEAN)),
    (b"stream: OK", ClamdReply(ClamdVerdict.CLEAN)),
    (b"stream: Win.Test.EICAR_HDB-1 FOUND", ClamdReply(ClamdVerdict.FOUND, "Win.Test.EICAR_HDB-1")),
    (b"fd[9]: OK FOUND", ClamdReply(ClamdVerdict.FOUND, "OK")),
    (b"fd[9]: a\nb\x1b FOUND", ClamdReply(ClamdVerdict.FOUND, "a?b?")),
    (
        b"fd[9]: Heuristics.Limits.Exceeded.MaxFileSize FOUND",
        ClamdReply(ClamdVerdict.LIMIT, "Heuristics.Limits.Exceeded.MaxFileSize"),
    ),
    (
        b"stream: Heuristics.Encrypted.Zip FOUND",
        ClamdReply(ClamdVerdict.ENCRYPTED, "Heuristics.Encrypted.Zip"),
    ),
    (
        b"INSTREAM size limit exceeded. ERROR",
        ClamdReply(ClamdVerdict.LIMIT, "StreamMaxLength of clamd"),
    ),
    (
        b"fd[9]: Can't allocate memory ERROR",
        ClamdReply(ClamdVerdict.ERROR, "fd[9]: Can't allocate memory"),
    ),
    (b"UNKNOWN COMMAND ERROR", ClamdReply(ClamdVerdict.ERROR, "UNKNOWN COMMAND")),
]


@pytest.mark.parametrize(("reply", "meant"), REPLIES, ids=[one[0].decode() for one in REPLIES])
def test_an_answer_means_this(reply: bytes, meant: ClamdReply) -> None:
    assert parse_scan_reply(reply) == meant


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"OK",
        b"stream: ",
        b"stream: O",
        b"stream:OK",
        b"stream: OK ",
        b"stream: OK\n",
        b" stream: OK",
        b"stream: ok",
        b"fd[]: OK",
        b"fd[x]: OK",
        b"/tmp/x: OK",
        b"1: stream: OK",
        b"stream:  FOUND",
        b"PONG",
        b"UNKNOWN COMMAND",
        b"stream: OK\nstream: OK",
    ],
)
def test_what_is_not_exactly_an_answer_is_none(reply: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_scan_reply(reply)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_clean_only_if_they_say_so(reply: bytes) -> None:
    try:
        answer = parse_scan_reply(reply)
    except ProtocolError:
        return
    assert answer.verdict is not ClamdVerdict.CLEAN or reply.endswith(b": OK")
    assert answer.text.isprintable()


def read(pieces: list[bytes]) -> bytes | None:
    reader = ReplyReader()
    found = None
    for piece in pieces:
        assert found is None, "an answer was there before its last piece"
        found = reader.receive_data(piece)
    return found


def test_an_answer_is_the_same_however_it_is_cut() -> None:
    reply = b"stream: Eicar FOUND\0"
    for cut in range(1, len(reply)):
        assert read([reply[:cut], reply[cut:]]) == reply[:-1]
    assert read([bytes([one]) for one in reply]) == reply[:-1]


@pytest.mark.parametrize("cut", range(len(b"stream: OK")))
def test_an_answer_that_is_cut_off_is_none(cut: int) -> None:
    reader = ReplyReader()
    if cut:
        assert reader.receive_data(b"stream: OK"[:cut]) is None
    with pytest.raises(ProtocolError, match="before its answer was whole"):
        reader.receive_data(b"")


def test_an_answer_without_end_is_given_up() -> None:
    reader = ReplyReader()
    assert reader.receive_data(b"x" * CLAMD_REPLY_BYTES_MAX) is None
    with pytest.raises(ProtocolError, match="more than 4096 bytes"):
        reader.receive_data(b"x")


def test_two_answers_to_one_question_are_refused() -> None:
    with pytest.raises(ProtocolError, match="more than was asked"):
        ReplyReader().receive_data(b"stream: OK\0stream: OK\0")


def test_a_chunk_of_a_stream_has_its_length_in_front() -> None:
    assert chunk_header(258) == b"\0\0\1\2"


def test_a_version_names_the_engine_and_its_signatures() -> None:
    assert parse_version(b"ClamAV 1.4.6") == ClamdVersion("ClamAV 1.4.6")
    assert parse_version(b"ClamAV 1.4.6/27777/Fri Nov 27 09:11:05 2026") == ClamdVersion(
        "ClamAV 1.4.6", "27777/Fri Nov 27 09:11:05 2026"
    )


def test_something_else_than_clamd_is_noticed() -> None:
    with pytest.raises(ProtocolError, match="says it is"):
        parse_version(b"220 mail.example ESMTP")
