"""FTP commands and replies: parsed, refused, and written back unambiguously."""

from __future__ import annotations

import ftplib
import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.errors import ProtocolError, Side
from sluicegate.protocol_limits import FTP_REPLY_LINES_MAX
from sluicegate.protocols.ftp import (
    FtpCommand,
    FtpCommandParser,
    FtpReply,
    FtpReplyParser,
    encode_command,
    encode_reply,
)

LINE_TEXT = st.binary(max_size=30).filter(lambda text: not set(text) & set(b"\r\n\0"))
PARSERS = st.sampled_from([FtpCommandParser, FtpReplyParser])
FRAGMENTS = st.sampled_from(
    [
        b"\r\n",
        b"\n",
        b"220-",
        b"220 ",
        b"226 ",
        b"220",
        b"USER",
        b" ",
        b"\xff",
        b"\xf4",
        b"\0",
        b"x",
        b"-",
    ]
)
STREAMS = st.one_of(st.lists(FRAGMENTS, max_size=30).map(b"".join), st.binary(max_size=200))


def events_of(
    make: type[FtpCommandParser | FtpReplyParser], data: bytes, cuts: list[int]
) -> list[object]:
    parser = make(line_bytes_max=60)
    found: list[object] = []
    try:
        for start, end in itertools.pairwise([0, *sorted(cuts), len(data)]):
            parser.receive_data(data[start:end])
            found += iter(parser.next_event, None)
    except ProtocolError as error:
        found.append(error.hint)
    return found


def commands_of(data: bytes) -> list[FtpCommand]:
    parser = FtpCommandParser()
    parser.receive_data(data)
    return list(iter(parser.next_event, None))


def replies_of(data: bytes) -> list[FtpReply]:
    parser = FtpReplyParser()
    parser.receive_data(data)
    return list(iter(parser.next_event, None))


@pytest.mark.parametrize(
    ("line", "verb", "argument"),
    [
        (b"NOOP\r\n", "NOOP", b""),
        (b"user anonymous\r\n", "USER", b"anonymous"),
        (b"RETR  leading space\r\n", "RETR", b" leading space"),
        (b"RETR trailing \r\n", "RETR", b"trailing "),
        (b"LIST \r\n", "LIST", b""),
        (b"XSHA256 a\r\n", "XSHA256", b"a"),
        (b"RETR \xc3\xa9\xff\xff\r\n", "RETR", b"\xc3\xa9\xff"),
        (b"\xff\xf4\xff\xf2abor\r\n", "ABOR", b""),
    ],
)
def test_command_has_verb_and_argument(line: bytes, verb: str, argument: bytes) -> None:
    [command] = commands_of(line)

    assert (command.verb, command.argument, command.raw) == (verb, argument, line)


@pytest.mark.parametrize(
    "line",
    [
        b"\r\n",
        b" NOOP\r\n",
        b"NO\r\n",
        b"Host: a\r\n",
        b"RETR\ta\r\n",
        b"\xff\xffOO\r\n",
        b"N\xc3\xb6P\r\n",
    ],
)
def test_line_without_a_verb_is_refused(line: bytes) -> None:
    with pytest.raises(ProtocolError) as refused:
        commands_of(line)

    assert refused.value.side is Side.CLIENT


def test_interrupt_signals_are_not_forwarded() -> None:
    [command] = commands_of(b"\xff\xf4\xff\xf2ABOR\r\n")

    assert command.to_bytes() == b"ABOR\r\n"


def test_password_is_not_shown_in_logs() -> None:
    shown = [
        str(command) for command in commands_of(b"USER bob\r\nPASS secret\r\nRETR a\x1b[2J\r\n")
    ]

    assert shown == ["USER bob", "PASS ****", r"RETR a\x1b[2J"]


@pytest.mark.parametrize(
    ("data", "code", "lines"),
    [
        (b"220 ready\r\n", 220, (b"ready",)),
        (b"226\r\n", 226, (b"",)),
        (b"211-Features:\r\n UTF8\r\n211 End\r\n", 211, (b"Features:", b" UTF8", b"End")),
        (b"220-a\r\n220-b\r\n220 c\r\n", 220, (b"a", b"220-b", b"c")),
        (
            b"211-a\r\n226 not the end\r\n2110\r\n211 \r\n",
            211,
            (b"a", b"226 not the end", b"2110", b""),
        ),
        (b"211-a\n211\n", 211, (b"a", b"")),
    ],
)
def test_reply_has_code_and_lines(data: bytes, code: int, lines: tuple[bytes, ...]) -> None:
    [reply] = replies_of(data)

    assert (reply.code, reply.lines, reply.raw) == (code, lines, data)


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"hello\r\n",
        b"22 a\r\n",
        b"220\ta\r\n",
        b"220a\r\n",
        b"099 a\r\n",
        b"631 a\r\n",
        b" 220 a\r\n",
    ],
)
def test_line_without_a_code_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError) as refused:
        replies_of(data)

    assert refused.value.side is Side.SERVER


def test_reply_without_end_is_refused_at_its_bound() -> None:
    parser = FtpReplyParser(reply_bytes_max=100)
    parser.receive_data(b"211-a\r\n" + b" x\r\n" * 30)

    with pytest.raises(ProtocolError, match="longer than 100 bytes"):
        parser.next_event()


def test_reply_of_too_many_lines_is_refused() -> None:
    with pytest.raises(ProtocolError, match="lines"):
        replies_of(b"211-a\r\n" + b"x\r\n" * FTP_REPLY_LINES_MAX)


def test_unfinished_reply_is_known_as_such() -> None:
    parser = FtpReplyParser()
    parser.receive_data(b"211-a\r\n")
    assert parser.next_event() is None
    assert parser.is_inside_reply

    parser.receive_data(b"211 b\r\n")
    assert parser.next_event() is not None
    assert not parser.is_inside_reply


def test_line_that_some_clients_take_for_the_end_is_padded() -> None:
    [reply] = replies_of(b"211-a\r\n226 fake\r\n2110\r\n211-b\r\n211 end\r\n")

    assert reply.to_bytes() == b"211-a\r\n 226 fake\r\n 2110\r\n211-b\r\n211 end\r\n"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (150, "is_preliminary"),
        (226, "is_success"),
        (350, "is_intermediate"),
        (426, "is_failure"),
        (550, "is_failure"),
    ],
)
def test_first_digit_says_what_a_reply_means(code: int, kind: str) -> None:
    reply = FtpReply(code)
    kinds = ["is_preliminary", "is_success", "is_intermediate", "is_failure"]

    assert [name for name in kinds if getattr(reply, name)] == [kind]


@pytest.mark.parametrize("argument", [b"a\r\nDELE b", b"a\nb", b"a\0"])
def test_command_with_a_second_line_cannot_be_made(argument: bytes) -> None:
    with pytest.raises(ValueError, match="not one FTP command"):
        encode_command("RETR", argument)


def test_reason_cannot_forge_a_reply() -> None:
    assert encode_reply(550, "evil\r\n226 ok\0") == b"550 evil  226 ok \r\n"


def test_reason_is_cut_to_what_clients_take() -> None:
    assert len(encode_reply(550, "x" * 10_000)) < 600


def test_several_texts_make_one_reply() -> None:
    [reply] = replies_of(encode_reply(214, ["one", "two", "three"]))

    assert (reply.code, len(reply.lines)) == (214, 3)


def test_continued_reply_stays_open() -> None:
    opened = encode_reply(150, "wait", is_continued=True)

    assert replies_of(opened) == []
    assert len(replies_of(opened + encode_reply(150, "done"))) == 1


def test_code_that_is_none_cannot_be_sent() -> None:
    with pytest.raises(ValueError, match="not an FTP reply code"):
        encode_reply(99, "x")


@given(PARSERS, STREAMS, st.lists(st.integers(0, 200), max_size=8))
def test_every_cut_gives_the_same_events(
    make: type[FtpCommandParser | FtpReplyParser], data: bytes, cuts: list[int]
) -> None:
    cuts = [min(cut, len(data)) for cut in cuts]

    assert events_of(make, data, cuts) == events_of(make, data, [])


@given(st.from_regex(r"[A-Z][A-Z0-9]{2,15}", fullmatch=True), LINE_TEXT)
def test_written_command_reads_back(verb: str, argument: bytes) -> None:
    [command] = commands_of(encode_command(verb, argument))

    assert (command.verb, command.argument) == (verb, argument)
    assert command.to_bytes() == encode_command(verb, argument)


@given(st.integers(100, 599), st.lists(LINE_TEXT, min_size=1, max_size=6))
def test_written_reply_reads_back_once_padded(code: int, lines: list[bytes]) -> None:
    written = FtpReply(code, tuple(lines)).to_bytes()

    [reply] = replies_of(written)

    assert (reply.code, len(reply.lines)) == (code, len(lines))
    assert reply.to_bytes() == written
    assert (reply.lines[0], reply.lines[-1]) == (lines[0], lines[-1])


@given(st.integers(100, 599), st.lists(LINE_TEXT, min_size=1, max_size=6))
def test_curl_and_ftplib_end_a_reply_where_we_do(code: int, lines: list[bytes]) -> None:
    # Telnet's doubled 0xFF is no matter of where a reply ends.
    written = FtpReply(code, tuple(lines)).to_bytes().split(b"\r\n")[:-1]

    curl = next(n for n, line in enumerate(written) if re.match(rb"[0-9]{3} ", line))
    reader = ftplib.FTP()
    feed = iter(line.decode("latin-1") for line in written)
    reader.getline = lambda: next(feed)  # type: ignore[method-assign]
    reader.getmultiline()

    assert curl == len(written) - 1
    assert next(feed, None) is None


@given(st.binary(max_size=300))
def test_arbitrary_bytes_raise_only_protocol_errors(data: bytes) -> None:
    lines = data.count(b"\n")
    for make in (FtpCommandParser, FtpReplyParser):
        # An event a line at most, and what is wrong at the end.
        assert len(events_of(make, data, [])) <= lines + 1
