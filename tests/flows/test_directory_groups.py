"""Groups of a directory's users: what it says with the last password counts, and nothing older."""

from __future__ import annotations

import dataclasses

import pytest

from sluicegate.filterapi import EntryMode
from sluicegate.gate.entry_dialogue import Authenticate
from sluicegate.identity.ldap_settings import DirectoryUser
from tests.flows.entry_kit import REFUSED, WEB, Ask, Names, Reply, asks, proxy_settings
from tests.flows.gate_kit import Gate, echoes, play
from tests.flows.test_revocation import Tunnel, reload

USERS = '[[rule]]\nname = "web"\nto = ["*"]\nusers = ["group:staff"]\n'
every_mode = pytest.mark.parametrize("mode", [EntryMode.SOCKS5, EntryMode.HTTP_CONNECT])


class Groups:
    """A directory that takes every password, and says what the test last told it."""

    settings = None

    def __init__(self, *groups: str) -> None:
        self.groups = groups

    async def close(self) -> None:
        """Keep nothing open."""

    async def authenticate(self, username: bytes, password: bytes) -> DirectoryUser:
        del password
        name = username.decode()
        return DirectoryUser(name, self.groups, f"uid={name}")


def believe(gate: Gate, directory: Groups) -> None:
    desk = gate.service.entries
    desk.directory.directory = desk.authenticator.directory = directory  # type: ignore[assignment]


@every_mode
@pytest.mark.parametrize("host", [WEB.host, "www.example"], ids=["address", "name"])
def test_user_whom_the_directory_took_out_of_a_group_gets_nothing_more_by_it(
    mode: EntryMode, host: str
) -> None:
    """What was decided for the user's first connection is remembered; it must not count."""
    directory = Groups("staff")
    ask = Ask(mode, host, user="dora", password="word")

    async def scenario(gate: Gate) -> None:
        believe(gate, directory)
        gate.serve(echoes, address=WEB)
        codes: list[int] = []
        for groups in (("staff",), (), ("staff",)):
            directory.groups = groups
            (reply,) = await gate.ended(gate.call(asks(ask)))
            assert isinstance(reply, Reply)
            codes.append(reply.code)
        await gate.idle()
        assert codes == [0, REFUSED[mode], 0]

    plan = proxy_settings(USERS, authenticate=Authenticate.OPTIONAL, users=())
    gate = play(scenario, plan, exchange=Names().put("www.example", WEB.host))
    reasons = [one.reason for one in gate.decisions]
    assert reasons == ["allowed-by-rule", "no-rule", "allowed-by-rule"]


@every_mode
@pytest.mark.parametrize(("later", "echoed"), [((), b""), (("guests",), b""), (("staff",), b"on")])
def test_open_connections_are_judged_by_what_the_directory_said_last_of_their_user(
    mode: EntryMode, later: tuple[str, ...], echoed: bytes
) -> None:
    directory = Groups("staff")
    ask = Ask(mode, WEB.host, user="dora", password="word")

    async def scenario(gate: Gate) -> None:
        believe(gate, directory)
        gate.serve(echoes, address=WEB)
        tunnel = await Tunnel(gate, ask).open()
        directory.groups = later
        await gate.ended(gate.call(asks(dataclasses.replace(ask, password="again"))))
        await reload(gate, plan)
        assert await tunnel.echo(b"on") == echoed
        await tunnel.leave()
        await gate.idle()

    plan = proxy_settings(USERS, authenticate=Authenticate.OPTIONAL, users=())
    play(scenario, plan, exchange=Names())
