"""The cache guard: what a line says, what is stored, and what is refused."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.filters.cache_guard import (
    CacheGuard,
    CacheGuardSettings,
    parse_command,
    value_size,
)
from sluicegate.audit import TransferRecord
from sluicegate.errors import ProtocolError
from sluicegate.filterapi import ContentFilter, ContentVerdict, Refuse, Release, Transfer
from sluicegate.testing import FaultPlan, Playbook, check_filter


class NoEvil(ContentFilter):
    name = "no_evil"

    async def inspect(self, transfer: Transfer) -> ContentVerdict:
        return Refuse("evil") if b"evil" in transfer.head else Release()


def guard(**more) -> CacheGuard:
    return CacheGuard(CacheGuardSettings(**more))


# -- what a line says ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "sent", "verb", "size", "is_quiet"),
    [
        (b"set a 0 0 5", b"set a 0 0 5", "set", 5, False),
        (b"add a%d 1 -1 0 noreply", b"add a%d 1 -1 0", "add", 0, True),
        (b"cas a 0 0 5 77", b"cas a 0 0 5 77", "cas", 5, False),
        (b"cas a 0 0 5 77 noreply", b"cas a 0 0 5 77", "cas", 5, True),
        (b"delete a noreply", b"delete a", "delete", -1, True),
        (b"get a b \xffc", b"get a b \xffc", "get", -1, False),
        (b"gat 10 a", b"gat 10 a", "gat", -1, False),
        (b"incr a 1", b"incr a 1", "incr", -1, False),
        (b"version", b"version", "version", -1, False),
    ],
)
def test_command_is_understood_and_written_anew(line, sent, verb, size, is_quiet):
    command = parse_command(line)
    assert command is not None
    assert (command.verb, command.size, command.is_quiet) == (verb, size, is_quiet)
    assert (command.line % command.size if size >= 0 else command.line) == sent


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"append a 0 0 5",
        b"prepend a 0 0 5",
        b"ms a 5",
        b"mg a v",
        b"flush_all",
        b"stats",
        b"verbosity 9",
        b"shutdown",
        b"SET a 0 0 5",
        b"set a 0 0 5 77",
        b"cas a 0 0 5",
        b"set a 0 0 -5",
        b"set  a 0 0 5",
        b"set a 0 0 5 ",
        b"set a\x00b 0 0 5",
        b"set a\rb 0 0 5",
        b"set " + b"k" * 251 + b" 0 0 5",
        b"get",
        b"get a\x7f",
        b"get " + b" ".join([b"k"] * 101),
        b"delete a b",
        b"\x80\x01\x00\x01",
    ],
)
def test_what_the_server_must_not_get_is_not_understood(line):
    assert parse_command(line) is None


@given(st.binary(max_size=60))
def test_any_line_is_a_command_or_none(line):
    command = parse_command(line)
    assert command is None or b"\r" not in command.line


def test_reply_to_get_is_read_as_the_client_reads_it():
    assert value_size(b"VALUE a 0 12") == 12
    assert value_size(b"VALUE a 0 12 77") == 12
    assert value_size(b"END") is None
    assert value_size(b"SERVER_ERROR out of memory") is None
    for line in (b"", b"VALUE a 0 -1", b"VALUE a b 0 12", b"STORED"):
        with pytest.raises(ProtocolError):
            value_size(line)


# -- the filter ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_released_value_is_stored_and_a_refused_one_never_reaches_the_server(seed):
    with Playbook(guard(), NoEvil(), faults=FaultPlan.disorder(), seed=seed) as play:
        play.client.sends(b"set a 0 0 5\r\nhello\r\nset b 0 0 4\r\nevil\r\nget a b\r\n")
        play.server.receives(b"set a 0 0 5\r\nhello\r\n")
        play.server.sends(b"STORED\r\n")
        play.client.receives(b"STORED\r\nSERVER_ERROR refused: evil\r\n")
        play.server.receives(b"get a b\r\n")
        play.server.sends(b"VALUE a 0 5\r\nhello\r\nEND\r\n")
        play.client.receives(b"VALUE a 0 5\r\nhello\r\nEND\r\n")
        stored, refused = play.records_of(TransferRecord)
    assert (stored.name, stored.verdict, stored.facts) == ("a", "released", {"command": "set"})
    assert (refused.name, refused.verdict, refused.filter) == ("b", "refused", "no_evil")


def test_client_that_wants_no_reply_gets_none_and_nobody_is_out_of_step():
    with Playbook(guard(), NoEvil()) as play:
        play.client.sends(
            b"set a 0 0 4 noreply\r\nevil\r\nset b 0 0 2 noreply\r\nok\r\nversion\r\n"
        )
        play.server.receives(b"set b 0 0 2\r\nok\r\n")
        play.server.sends(b"STORED\r\n")
        play.server.receives(b"version\r\n")
        play.server.sends(b"VERSION 1.6\r\n")
        play.client.receives(b"VERSION 1.6\r\n")
        judged = [(record.name, record.verdict) for record in play.records_of(TransferRecord)]
    assert judged == [("a", "refused"), ("b", "released")]


def test_commands_hidden_in_a_value_are_a_value():
    value = b"x\r\nflush_all\r\n"
    with Playbook(guard(), NoEvil()) as play:
        play.client.sends(b"set a 0 0 %d\r\n%b\r\n" % (len(value), value))
        play.server.receives(b"set a 0 0 %d\r\n%b\r\n" % (len(value), value))
        (stored,) = play.records_of(TransferRecord)
    assert (stored.name, stored.bytes) == ("a", len(value))


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        (b"set a 0 0 101\r\n", "object too large for cache"),
        (b"set a 0 0 2\r\nhello\r\n", "bad data chunk"),
        (b"x" * 40_000, "a line is longer than 32768 bytes"),
    ],
)
def test_client_that_cannot_be_followed_is_told_and_ended(says, reason):
    with Playbook(guard(value_bytes_max=100), NoEvil()) as play:
        play.client.sends(says)
        play.client.receives(f"CLIENT_ERROR {reason}\r\n".encode())
        play.client.receives_end()
        play.client.resets()
        play.expect_refused(reason)


@pytest.mark.parametrize("says", [b"set a 0 0 9\r\nhel", b"get"])
def test_client_that_ends_in_the_middle_stores_nothing(says):
    with Playbook(guard(), NoEvil()) as play:
        play.client.sends(says)
        play.client.ends()
        play.client.receives(re.compile(rb"CLIENT_ERROR the end of the stream inside .*\r\n"))
        play.server.receives_reset()
        play.expect_refused(re.compile("the end of the stream inside .*"))


def test_server_that_does_not_speak_the_protocol_is_recorded_as_its_failure():
    with Playbook(guard(), NoEvil()) as play:
        play.client.sends(b"get a\r\n")
        play.server.sends(b"SSH-2.0\r\n")
        play.client.receives(b"SSH-2.0\r\nSERVER_ERROR not a reply to get\r\n")
        play.client.receives_end()
        play.client.resets()
        play.expect_failed("not a reply to get")


def test_it_does_what_every_filter_must():
    report = check_filter(
        guard,
        [
            ("client", b"set a 0 0 5\r\nhello\r\n"),
            ("server", b"STORED\r\n"),
            ("client", b"get a\r\n"),
            ("server", b"VALUE a 0 5\r\nhello\r\nEND\r\n"),
        ],
        bulk=0,
    )
    assert list(report.skipped) == ["passes bulk in bounded memory"]
