"""Secondary connections: a filter may announce what the protocols of the rule list, and no more."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sluicegate.address import AddressFilter, SocketAddress
from sluicegate.errors import TransportError
from sluicegate.filterapi import EntryMode
from sluicegate.gate.settings import ListenerSettings, ServiceSettings
from sluicegate.policy import PolicySnapshot
from sluicegate.testing.peers import PeerStream
from tests.flows.entry_kit import (
    CLIENT,
    MODES,
    WEB,
    Ask,
    Names,
    Reply,
    asks,
    proxy_settings,
    says_hello,
)
from tests.flows.gate_kit import ENTRY, LIMITS, Gate, echoes, installation, play
from tests.flows.model_kit import Telling
from tests.unit.policy_kit import policy

PUBLISHED = "published"
WAYS = [*MODES, PUBLISHED]
DEFINITIONS = """
[objects.protocols.data-out]
ports = ["tcp:443"]
secondary = [{ ports = "tcp:2000-2099", direction = "outbound" }]

[objects.protocols.data-in]
ports = ["tcp:443"]
secondary = [{ ports = "tcp:5000-5099", direction = "inbound" }]

[objects.protocols.datagrams]
ports = ["tcp:443"]
secondary = [
    { ports = "udp:2000-2099", direction = "outbound" },
    { ports = "udp:5000-5099", direction = "inbound" },
]

[objects.protocols.alone]
ports = ["tcp:443"]
"""
OUT, BEYOND, AT_CLIENT = WEB.with_port(2021), WEB.with_port(2100), CLIENT.with_port(5021)
SERVERS = AddressFilter.only(WEB.host)


def settings(way: EntryMode | str, protocol: str, telling: Telling) -> ServiceSettings:
    installed = [installation(telling, "f")]
    if way is not PUBLISHED:
        rule = f'[[rule]]\nname = "web"\nto = ["{WEB.host}"]\nprotocols = ["{protocol}"]\n'
        return proxy_settings(DEFINITIONS + rule + 'filters = ["f"]\n', filters=installed)
    named = f'protocol = "{protocol}"\n' if protocol.startswith("@") else ""
    text = f"""
{DEFINITIONS}
[[publish]]
name = "web"
listener = "web"
server = "{WEB}"
clients = ["10.0.0.0/8"]
filters = ["f"]
{named}
"""
    return ServiceSettings(
        (ListenerSettings("web", ENTRY),), PolicySnapshot(policy(text)), tuple(installed), LIMITS
    )


def run(way: EntryMode | str, protocol: str, scene: Callable[[Gate, Any], Awaitable[None]]) -> Gate:
    """Open a primary connection, then do as ``scene`` says with it."""
    telling = Telling()

    async def whole(gate: Gate) -> None:
        for address in (WEB, OUT):
            gate.serve(echoes, address=address)

        async def waits(stream: PeerStream) -> bytes:
            return await stream.receive_all()

        peer = waits if way is PUBLISHED else asks(Ask(EntryMode(way), WEB.host), waits)
        gate.call(peer, name="primary")
        await gate.until(lambda: telling.seen and telling.seen[0].connection.state.name == "OPEN")
        await scene(gate, telling.seen[0].connection)

    return play(whole, settings(way, protocol, telling), exchange=Names())


def connects(primary: Any) -> None:
    primary.session.allow_future_connect(primary, OUT)


def connects_beyond(primary: Any) -> None:
    primary.session.allow_future_connect(primary, BEYOND)


def redirects(primary: Any) -> None:
    primary.session.redirect_connections(primary, [OUT, OUT])


def redirects_beyond(primary: Any) -> None:
    primary.session.redirect_connections(primary, [OUT, BEYOND])


def binds(primary: Any) -> None:
    primary.session.bind_for_client(primary, AT_CLIENT, peers=SERVERS)


def binds_beyond(primary: Any) -> None:
    primary.session.bind_for_client(primary, AT_CLIENT.with_port(5100), peers=SERVERS)


def binds_later(primary: Any) -> None:
    bind = primary.session.bind_for_client(primary, AT_CLIENT.with_port(0), peers=SERVERS)
    bind.set_client_address(AT_CLIENT)


def binds_later_beyond(primary: Any) -> None:
    bind = primary.session.bind_for_client(primary, AT_CLIENT.with_port(0), peers=SERVERS)
    bind.set_client_address(AT_CLIENT.with_port(5100))


def dials(primary: Any) -> None:
    primary.session.connect_to_client(primary, AT_CLIENT)


OUTWARD, INWARD = {connects, redirects}, {binds, binds_later, dials}
BEYOND_ALL = {connects_beyond, redirects_beyond, binds_beyond, binds_later_beyond}
MAY: dict[str, set[Callable[[Any], None]]] = {
    "@data-out": OUTWARD,
    "@data-in": INWARD,
    "@datagrams": set(),
    "@alone": set(),
    "tcp:443": OUTWARD | INWARD | BEYOND_ALL,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("protocol", MAY)
def test_filter_may_announce_what_the_protocols_of_the_rule_list_and_no_more(
    way: EntryMode | str, protocol: str
) -> None:
    async def scene(gate: Gate, primary: Any) -> None:
        for announce in sorted(OUTWARD | INWARD | BEYOND_ALL, key=lambda one: one.__name__):
            if announce in MAY[protocol]:
                announce(primary)
                continue
            with pytest.raises(TransportError, match="the protocols of rule web list no") as caught:
                announce(primary)
            assert caught.value.error == errno.EACCES, announce.__name__

    run(way, protocol, scene)


@pytest.mark.parametrize("mode", MODES)
def test_what_is_announced_and_listed_no_more_is_withdrawn(mode: EntryMode) -> None:
    async def scene(gate: Gate, primary: Any) -> None:
        action = primary.session.allow_future_connect(primary, OUT, allow_multiple=True)
        bind = primary.session.bind_for_client(primary, AT_CLIENT, peers=SERVERS)
        later = primary.session.bind_for_client(primary, AT_CLIENT.with_port(0), peers=SERVERS)

        async def ask() -> Reply:
            call = gate.call(asks(Ask(mode, WEB.host, action.address.port), says_hello))
            (reply,) = await gate.ended(call)
            assert isinstance(reply, Reply)
            return reply

        assert (await ask()).tunnelled == b"hello"
        await gate.service.apply(settings(mode, "@data-out", Telling()))
        await gate.until(lambda: not gate.service.revocation.pending)
        assert (action.is_pending, bind.is_pending, later.is_pending) == (True, False, True)
        await gate.service.apply(settings(mode, "@alone", Telling()))
        await gate.until(lambda: not gate.service.revocation.pending)
        assert not action.is_pending
        with pytest.raises(TransportError):
            later.set_client_address(AT_CLIENT)
        assert not (await ask()).is_granted

    run(mode, "tcp:443", scene)


@pytest.mark.parametrize("way", WAYS)
def test_open_connection_alone_opens_no_ports(way: EntryMode | str) -> None:
    """What is listed may be announced; as long as nobody has announced it, nobody gets there."""
    dialled: list[SocketAddress] = []

    async def scene(gate: Gate, primary: Any) -> None:
        if way is PUBLISHED:
            assert gate.service.connection_count == 1
            return
        call = gate.call(asks(Ask(EntryMode(way), WEB.host, OUT.port), says_hello))
        (reply,) = await gate.ended(call)
        assert isinstance(reply, Reply)
        assert not reply.is_granted
        await asyncio.sleep(1)
        assert gate.service.connection_count == 1
        assert dialled == []

    gate = run(way, "@data-out", scene)
    assert [one.verdict for one in gate.decisions][1:] == ([] if way is PUBLISHED else ["denied"])
