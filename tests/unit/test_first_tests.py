"""The first test that an author writes, one for each tier: how short it must be."""

from __future__ import annotations

from sluicegate.filterapi import Refuse
from sluicegate.testing import Playbook, fuzz_splits, inspect_object
from sluicegate.testing.pytest_plugin import (
    GoldenCheck,
    PlaybookMaker,
    golden,
    manual_clock,
    playbook,
)
from tests.unit.kit_filters import Greeting, NoScripts, OneServerPerClient, OnlySsh

__all__ = ["golden", "manual_clock", "playbook"]


def test_ssh_passes_and_anything_else_is_refused(playbook: PlaybookMaker) -> None:
    play = playbook(OnlySsh)
    play.client.sends(b"SSH-2.0-me\r\n")
    play.server.receives(b"SSH-2.0-me\r\n")

    play = playbook(OnlySsh)
    play.client.sends(b"GET / HTTP/1.1\r\n")
    play.server.receives_reset()
    play.expect_refused("not an SSH client")


def test_greeting_reaches_the_client() -> None:
    with Playbook(Greeting) as play:
        play.server.sends(b"220 hello\r\n")
        play.client.receives(b"220 hello\r\n")
        assert play.server.received_count == 0


def test_scripts_are_refused_and_nobody_gets_a_byte_of_them() -> None:
    seen = inspect_object(NoScripts, b"#!/bin/sh\n")
    assert seen.verdict == Refuse("a script")
    assert seen.received == b""


def test_client_reaches_the_first_server_only(playbook: PlaybookMaker) -> None:
    play = playbook(OneServerPerClient)
    play.connect(server="10.9.9.1:80").expect_open()
    play.connect(server="10.9.9.2:80").expect_refused("another server than the first")
    play.connect(server="10.9.9.2:80", client="10.1.1.2:0").expect_open()


def test_it_does_not_matter_where_the_network_cuts() -> None:
    assert fuzz_splits(OnlySsh, b"SSH-2.0-me\r\n") > 10


def test_recorded_conversation_goes_as_it_went(golden: GoldenCheck) -> None:
    assert golden(OnlySsh, "ssh.conversation").outcome == ("released", "")
