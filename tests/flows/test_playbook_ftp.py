"""A protocol filter in a playbook: announced connections, whole objects, both ways to connect."""

from __future__ import annotations

import re

import pytest

from sluicegate.address import SocketAddress
from sluicegate.audit import TransferRecord
from sluicegate.bundled.ftp_access import FtpAccess
from sluicegate.filterapi import (
    AddressFilter,
    Connection,
    ConnectRequested,
    DataFilter,
    DataSocket,
    Event,
    Events,
    EventVerdict,
    Filter,
    Firewall,
    Pass,
    Session,
    SessionFilter,
)
from sluicegate.testing import Playbook
from tests.unit.kit_filters import NoScripts

SCRIPT = b"#!/bin/sh\n" * 9000
PLAIN = b"plain text\n" * 9000
NUMBERS = re.compile(rb"\((\d+),(\d+),(\d+),(\d+),(\d+),(\d+)\)")


def dialogue(play: Playbook, client_says: bytes, server_answers: bytes) -> bytes:
    play.client.sends(client_says + b"\r\n")
    play.server.receives(client_says + b"\r\n")
    play.server.sends(server_answers + b"\r\n")
    return play.client.reads()


def announced(play: Playbook) -> SocketAddress:
    """Ask for a data connection, and return where the gate says that it expects the client."""
    play.server.sends(b"220 hello\r\n")
    play.client.receives(b"220 hello\r\n")
    reply = dialogue(play, b"PASV", b"227 Entering Passive Mode (10,9,9,9,19,136)")
    found = NUMBERS.search(reply)
    assert found is not None, reply
    numbers = [int(one) for one in found.groups()]
    at = SocketAddress(".".join(map(str, numbers[:4])), numbers[4] * 256 + numbers[5])
    assert at.host == "10.0.0.1", "the gate's own address, not the server's"
    return at


@pytest.mark.parametrize("body", [SCRIPT, PLAIN])
def test_download_is_judged_on_the_connection_that_was_announced(body: bytes) -> None:
    with Playbook(FtpAccess, NoScripts) as play:
        data = play.connect(server="10.9.9.9:5000", at=announced(play))
        play.client.sends(b"RETR x\r\n")
        play.server.receives(b"RETR x\r\n")
        play.server.sends(b"150 here it comes\r\n")
        data.server.sends(body)
        data.client.receives_nothing()
        data.server.ends()
        play.server.sends(b"226 done\r\n")
        if body is PLAIN:
            data.client.receives(PLAIN)
            data.client.receives_end()
            data.client.ends()
            play.client.receives(b"150 here it comes\r\n226 done\r\n")
            data.expect_released()
        else:
            data.client.receives_reset()
            assert b"550" in play.client.reads()
            data.expect_refused("a script")
        (record,) = play.records_of(TransferRecord)
        assert record.facts["command"] == "RETR"


def test_stranger_does_not_get_the_connection_that_was_announced() -> None:
    with Playbook(FtpAccess, NoScripts) as play:
        stranger = play.connect(server="10.9.9.9:5000", client="10.1.1.66:0", at=announced(play))
        stranger.client.receives_reset()
        assert not stranger.server.is_connected


class Binding(Filter):
    """Lets the server connect back to port 5001 of the client, once."""

    name = "binding"
    at: SocketAddress

    def start(self, firewall: Firewall) -> Events:
        return Events.of(ConnectRequested)

    def attach(self, session: Session) -> SessionFilter:
        return BindingSession(session, self)


class BindingSession(SessionFilter):
    def __init__(self, session: Session, binding: Binding) -> None:
        super().__init__(session)
        self.binding = binding

    def on_event(self, event: Event) -> EventVerdict:
        event.attach_data_filter(BindsAtOnce(self.binding))
        return Pass()


class BindsAtOnce(DataFilter):
    def __init__(self, binding: Binding) -> None:
        self.binding = binding

    async def run(
        self, client: DataSocket, server: DataSocket | None, connection: Connection
    ) -> None:
        action = connection.session.bind_for_client(
            connection,
            SocketAddress("10.1.1.1", 5001),
            peers=AddressFilter.only(connection.server_address.host),
        )
        self.binding.at = action.address


def test_server_connects_back_to_the_client_that_waits() -> None:
    binding = Binding()
    with Playbook(binding) as play:
        play.expect_open()
        data = play.connect_back(binding.at, client="10.1.1.1:5001")
        data.server.sends(b"from the server")
        data.client.receives(b"from the server")
        data.client.sends(b"thanks")
        data.server.receives(b"thanks")
        data.server.ends()
        data.client.ends()
        data.expect_released()


def test_other_server_does_not_reach_the_client_that_waits() -> None:
    binding = Binding()
    with Playbook(binding) as play:
        play.expect_open()
        data = play.connect_back(binding.at, client="10.1.1.1:5001", server="10.9.9.66:0")
        data.server.receives_reset()
        assert not data.client.is_connected
