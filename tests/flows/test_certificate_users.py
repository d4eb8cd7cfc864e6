"""Users by certificate beside users of the file: each has the groups of what vouches for him."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from sluicegate.filterapi import EntryMode
from sluicegate.gate.entry_dialogue import Authenticate
from sluicegate.gate.settings import ServiceSettings
from sluicegate.identity import User
from sluicegate.testing.peers import PeerStream
from sluicegate.tls import ClientCertificates
from tests.flows.entry_kit import ANN, MODES, WEB, Ask, Names, asks, proxy_settings
from tests.flows.gate_kit import Gate, echoes, play
from tests.flows.tls_kit import client_context, inside_tls, with_tls
from tests.pki import authority

CLIENTS = authority("clients")
WITH_PASSWORDS = [EntryMode.SOCKS5, EntryMode.HTTP_CONNECT]
GUESTS = '[[rule]]\nname = "guests"\nto = ["*"]\nusers = ["group:guests"]\n'
STAFF = '[[rule]]\nname = "staff"\nto = ["*"]\nusers = ["group:staff"]\n'
OTHER = User("otto", ANN.password, ("staff",))


def in_file(*groups: str) -> User:
    """Ann, as the users file has her."""
    return User("ann", ANN.password, groups)


def settings(
    policy: str, users: Sequence[User], *, groups_in_certificate: bool = True
) -> ServiceSettings:
    plan = proxy_settings(policy, authenticate=Authenticate.OPTIONAL, users=users)
    return with_tls(
        plan,
        client_certificates=ClientCertificates.OPTIONAL,
        client_authorities=CLIENTS.pem,
        has_groups_in_certificate=groups_in_certificate,
    )


class Held:
    """A tunnel that its client holds open, and asks for an echo when the test says so."""

    def __init__(self, gate: Gate) -> None:
        self.is_open = False
        self._gate = gate
        self._asked = 0
        self._answers: list[bytes] = []

    async def hold(self, stream: PeerStream) -> bytes:
        self.is_open = True
        while self._asked >= 0:
            await self._gate.peers.sleep(0.05)
            if len(self._answers) < self._asked:
                self._answers.append(await self._ask(stream))
        return b""

    async def echo(self) -> bytes:
        self._asked += 1
        await self._gate.until(lambda: len(self._answers) == self._asked)
        return self._answers[-1]

    def leave(self) -> None:
        self._asked = -1

    @staticmethod
    async def _ask(stream: PeerStream) -> bytes:
        try:
            await stream.send_all(b"on")
            return await stream.receive_exactly(2)
        except OSError:
            return b""


async def hold(gate: Gate, ask: Ask, units: Sequence[str] | None) -> Held:
    """Open a tunnel, with a certificate for ann in these units, or without one."""
    held = Held(gate)
    context = None
    if units is not None:
        context = client_context(CLIENTS.client("ann", units=units))
    gate.call(inside_tls(asks(ask, held.hold), context))
    await gate.until(lambda: held.is_open)
    return held


async def reload(gate: Gate, plan: ServiceSettings) -> None:
    await gate.service.apply(plan)
    await gate.until(lambda: not gate.service.revocation.pending)
    await asyncio.sleep(0.1)


CASES: list[tuple[str, tuple[str, ...], tuple[str, ...], str, str, bool]] = [
    # name, units of the certificate, groups in the file before and after, the rule before and after
    ("the file's groups change nothing", ("guests",), ("staff",), GUESTS, GUESTS, True),
    ("the file's groups let nothing go on", ("guests",), ("staff",), GUESTS, STAFF, False),
    ("the certificate's groups do", ("guests", "staff"), ("guests",), GUESTS, STAFF, True),
]  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
@pytest.mark.parametrize("namesake", ["always in the file", "added", "removed", "never"])
def test_who_has_groups_by_certificate_keeps_those_and_gets_no_namesakes(
    mode: EntryMode,
    case: tuple[str, tuple[str, ...], tuple[str, ...], str, str, bool],
    namesake: str,
) -> None:
    _, units, groups, before, after, goes_on = case
    first = (in_file(*groups),) if namesake in ("always in the file", "removed") else ()
    second = (in_file(*groups),) if namesake in ("always in the file", "added") else ()

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes, address=WEB)
        held = await hold(gate, Ask(mode, WEB.host), units)
        await reload(gate, settings(after, (*second, OTHER)))
        assert await held.echo() == (b"on" if goes_on else b"")
        held.leave()

    play(scenario, settings(before, (*first, OTHER)), exchange=Names())


@pytest.mark.parametrize("mode", MODES)
def test_groups_of_certificates_that_count_no_more_vouch_for_nobody(mode: EntryMode) -> None:
    async def scenario(gate: Gate) -> None:
        gate.serve(echoes, address=WEB)
        held = await hold(gate, Ask(mode, WEB.host), ("staff",))
        plan = settings(STAFF, (in_file("staff"),), groups_in_certificate=False)
        await reload(gate, plan)
        assert await held.echo() == b""
        held.leave()

    play(scenario, settings(STAFF, (in_file("staff"),)), exchange=Names())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("groups", "goes_on"), [(("staff",), True), (("guests",), False)])
def test_whose_certificate_names_a_user_of_the_file_has_the_groups_of_the_file(
    mode: EntryMode, groups: tuple[str, ...], goes_on: bool
) -> None:
    async def scenario(gate: Gate) -> None:
        gate.serve(echoes, address=WEB)
        held = await hold(gate, Ask(mode, WEB.host), ("guests",))
        await reload(gate, settings(STAFF, (in_file(*groups),), groups_in_certificate=False))
        assert await held.echo() == (b"on" if goes_on else b"")
        held.leave()

    plan = settings(STAFF, (in_file("staff"),), groups_in_certificate=False)
    play(scenario, plan, exchange=Names())


@pytest.mark.parametrize("mode", WITH_PASSWORDS)
@pytest.mark.parametrize("first", ["password", "certificate"])
def test_namesakes_of_one_address_do_not_share_a_session(mode: EntryMode, first: str) -> None:
    """One proved to be ann by her password, the other one has a certificate for ann."""
    with_password = Ask(mode, WEB.host, user="ann", password="open sesame")

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes, echoes, address=WEB)
        held: dict[str, Held] = {}
        for how in sorted(["password", "certificate"], key=lambda one: one != first):
            ask, units = (
                (with_password, None) if how == "password" else (Ask(mode, WEB.host), ("staff",))
            )
            held[how] = await hold(gate, ask, units)
        assert len(gate.service.known_sessions) == 2
        await reload(gate, settings(GUESTS, (in_file("guests"), OTHER)))
        assert await held["password"].echo() == b"on"
        assert await held["certificate"].echo() == b""
        for one in held.values():
            one.leave()

    play(scenario, settings(GUESTS + STAFF, (in_file("guests"),)), exchange=Names())
