"""Q5, Q6, Q8: what clients prove who they are with stays with the gate, in clear and inside TLS."""

from __future__ import annotations

import base64
import dataclasses
import hmac
from typing import Any

import msgspec
import pytest

from sluicegate.address import SocketAddress
from sluicegate.documents import Findings
from sluicegate.filterapi import EntryMode
from sluicegate.gate.entry_dialogue import Authenticate
from sluicegate.identity import authenticator
from sluicegate.policy import PolicySnapshot, parse_policy
from sluicegate.testing.peers import PeerStream
from tests.flows.entry_kit import WEB, Ask, asks, proxy_settings, says_hello
from tests.flows.gate_kit import Gate, play
from tests.flows.tls_kit import inside_tls, with_tls

MODES = (EntryMode.SOCKS5, EntryMode.HTTP_CONNECT)
every_way = pytest.mark.parametrize("carriage", ["clear", "tls"])
every_mode = pytest.mark.parametrize("mode", MODES)
PASSWORD = "open sesame"
SECRETS = (PASSWORD.encode(), base64.b64encode(f"ann:{PASSWORD}".encode()), b"Authorization")


def visit(mode: EntryMode, carriage: str, password: str) -> tuple[Gate, bytes, Any]:
    """Let ann in or not; return the gate, all that the server got, and what ann saw."""
    heard = bytearray()
    seen: list[Any] = []

    async def server(stream: PeerStream) -> None:
        while data := await stream.receive():
            heard.extend(data)
            await stream.send_all(data)
        stream.close()

    async def scenario(gate: Gate) -> None:
        gate.serve(server, address=WEB)
        ask = Ask(mode, "93.184.216.34", user="ann", password=password)
        peer = asks(ask, says_hello)
        client = gate.call(inside_tls(peer) if carriage == "tls" else peer)
        seen.extend(await gate.ended(client))
        await gate.idle()

    plan = proxy_settings(authenticate=Authenticate.REQUIRED)
    gate = play(scenario, with_tls(plan) if carriage == "tls" else plan)
    return gate, bytes(heard), seen[0]


@every_way
@every_mode
def test_q6_the_server_gets_the_tunnels_bytes_and_nothing_else(
    mode: EntryMode, carriage: str
) -> None:
    _, heard, reply = visit(mode, carriage, PASSWORD)
    assert reply.is_granted
    assert heard == b"hello"


@every_way
@every_mode
@pytest.mark.parametrize("password", [PASSWORD, "a wrong word"])
def test_q5_credentials_are_in_no_record_and_in_nothing_that_is_shown(
    mode: EntryMode, carriage: str, password: str
) -> None:
    gate, _, reply = visit(mode, carriage, password)
    service = gate.service
    shown = [*gate.recorder.records, *service.sessions(), *service.connections()]
    written = b"".join(msgspec.json.encode(one) for one in shown) + reply.text
    written += repr((reply, service.entries.authenticator.statistics())).encode()
    assert b"ann" in written or password != PASSWORD
    for secret in (*SECRETS, b"a wrong word"):
        assert secret not in written


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("", True),
        ("[system]\nldap = { enabled = false }\n", False),
        ('[system]\nldap = { to = ["192.0.2.0/24"] }\n', True),
        ('[system]\nldap = { to = ["198.51.100.0/24"] }\n', False),
    ],
)
def test_the_system_policy_says_whether_a_directory_may_be_dialled(
    rule: str, expected: bool
) -> None:
    asked: list[bool] = []

    async def scenario(gate: Gate) -> None:
        server = SocketAddress.parse("192.0.2.7:636")
        asked.append(gate.service.entries.directory.may_dial(server))

    findings = Findings()
    parsed = parse_policy(rule, "policy.toml", findings)
    assert parsed is not None, findings.errors
    plan = dataclasses.replace(proxy_settings(), policy=PolicySnapshot(parsed.policy))
    play(scenario, plan)
    assert asked == [expected]


def test_q8_a_remembered_password_is_compared_in_constant_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What argon2 verifies is compared by its library; the rest by ``hmac.compare_digest``."""
    compared: list[tuple[bytes, bytes]] = []
    compare = hmac.compare_digest

    def noting(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return compare(one, other)

    monkeypatch.setattr(authenticator.hmac, "compare_digest", noting)
    ask = Ask(EntryMode.SOCKS5, "93.184.216.34", user="ann", password=PASSWORD)

    async def scenario(gate: Gate) -> None:
        gate.serve(says_hello, address=WEB)
        for _ in range(2):
            await gate.ended(gate.call(asks(ask)))
        await gate.idle()

    play(scenario, proxy_settings(authenticate=Authenticate.REQUIRED))
    assert len(compared) == 1
    assert PASSWORD.encode() not in compared[0]
