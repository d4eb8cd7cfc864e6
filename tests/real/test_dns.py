"""The resolver with real servers: dnsmasq, and unbound in front of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

from sluicegate.address import SocketAddress
from sluicegate.gate.dial_race import DialRace
from sluicegate.limits import Limits
from sluicegate.names import canonical_host
from sluicegate.names.destination import Destination, JudgedAddress, LookupReason, Unresolved
from sluicegate.names.eyeballs import interleave
from sluicegate.names.resolver import Resolver
from sluicegate.names.resolver_settings import ResolverSettings
from sluicegate.port import StreamSocket, current_port, run
from sluicegate.port.backend import RawSocket
from sluicegate.verdict import Deny
from tests.real.dns_parts import SERVERS
from tests.unit.resolver_kit import Rules

PATIENT = Limits(dns_attempt_timeout_s=30.0, dns_lookup_timeout_s=60.0)
"""A question that is asked again because a machine is slow would be counted."""

Ask = Callable[..., list[Destination | Unresolved]]


@pytest.fixture(scope="module", params=sorted(SERVERS))
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SocketAddress]:
    with SERVERS[request.param](tmp_path_factory.mktemp(request.param)) as port:
        yield SocketAddress("127.0.0.1", port)


class Counted:
    """The outcomes of some lookups, and what the resolver counted."""

    def __init__(self) -> None:
        self.statistics: dict[str, int] = {}


@pytest.fixture
def counted() -> Counted:
    return Counted()


@pytest.fixture
def ask(server: SocketAddress, backend_name: str, counted: Counted) -> Ask:
    """Resolve names one after the other, with one resolver."""

    def ask(
        *names: str, rules: Rules | None = None, limits: Limits = PATIENT, **options: bool
    ) -> list[Destination | Unresolved]:
        judge = rules or Rules("*.test", denied_aliases=("*.evil.test",))

        async def main() -> list[Destination | Unresolved]:
            settings = ResolverSettings((server,), **options)
            resolver = Resolver(settings, current_port().clock, limits)
            try:
                return [await resolver.resolve(canonical_host(n), 443, judge) for n in names]
            finally:
                counted.statistics = resolver.statistics()
                await resolver.close()

        return run(main(), backend=backend_name)

    return ask


def summary(outcome: Destination | Unresolved) -> list[str] | LookupReason:
    """Shorten an outcome to its addresses, or to its reason."""
    if isinstance(outcome, Unresolved):
        return outcome.reason
    return [one.socket_address(outcome.port).host for one in outcome.dialable]


def test_names_have_the_addresses_that_the_server_knows(ask: Ask, counted: Counted) -> None:
    found = ask("www.names.test", "V4.Names.TEST.", "v6.names.test", "bücher.names.test")
    assert [summary(one) for one in found] == [
        ["2606:2800:220:1::1", "93.184.216.34"],
        ["93.184.216.35"],
        ["2606:2800:220:1::6"],
        ["93.184.216.36"],
    ]
    assert counted.statistics["queries_udp"] == 8
    assert counted.statistics.get("replies_suspect", 0) == 0, "letter case comes back"


def test_answers_are_kept(ask: Ask, counted: Counted) -> None:
    ask("www.names.test", "www.names.test", "www.names.test")
    assert counted.statistics["queries_udp"] == 2


def test_chain_of_aliases_is_followed_and_judged(ask: Ask) -> None:
    good, bad = ask("alias.names.test", "bad-alias.names.test")
    assert summary(good) == ["2606:2800:220:1::1", "93.184.216.34"]
    assert [str(one) for one in good.aliases] == ["middle.names.test", "www.names.test"]
    assert summary(bad) == LookupReason.ALIAS_DENIED


def test_names_that_lead_inside_are_refused(ask: Ask) -> None:
    found = ask("private.names.test", "mapped.names.test", "metadata-behind.names.test")
    assert {summary(one) for one in found} == {LookupReason.ADDRESS_DENIED}


def test_mixed_answer_is_refused_or_used_in_part(ask: Ask) -> None:
    assert [summary(one) for one in ask("mixed.names.test")] == [LookupReason.ADDRESSES_MIXED]
    assert [summary(one) for one in ask("mixed.names.test", use_mixed_answers=True)] == [
        ["93.184.216.34"]
    ]


def test_absent_names_and_names_without_addresses_are_refused(ask: Ask) -> None:
    found = ask("nosuch.names.test", "text.names.test")
    assert [summary(one) for one in found] == [LookupReason.NO_SUCH_NAME, LookupReason.NO_ADDRESS]


def test_answer_that_fits_no_datagram_comes_over_tcp(ask: Ask, counted: Counted) -> None:
    (many,) = ask("many.names.test")
    assert len(summary(many)) == 100
    assert counted.statistics["queries_tcp"] == 1


def test_burst_of_addresses_is_refused(ask: Ask) -> None:
    (burst,) = ask("burst.names.test", limits=Limits())
    # unbound has a bound of its own, and fails before ours is reached: it is asked again for that.
    assert summary(burst) in {LookupReason.TOO_MANY_RECORDS, LookupReason.SERVER_FAILED}


def test_name_that_no_rule_lists_is_not_asked_for(ask: Ask, counted: Counted) -> None:
    (refused,) = ask("www.names.test", rules=Rules("*.other.test"))
    assert summary(refused) == LookupReason.NAME_DENIED
    assert "queries_udp" not in counted.statistics


def test_what_was_judged_is_what_is_dialled(server: SocketAddress, backend_name: str) -> None:
    """Resolve, race, and exchange bytes with the one that answers."""

    async def main() -> tuple[str, bytes]:
        async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"hello")
            writer.close()

        loop = asyncio.get_running_loop()
        listening = await asyncio.start_server(greet, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        rules = Rules("127.0.0.1")
        rules.private_is_allowed = True
        resolver = Resolver(ResolverSettings((server,)), current_port().clock, Limits())
        found = await resolver.resolve(canonical_host("127.0.0.1"), port, rules)
        assert isinstance(found, Destination)

        def judge_again(one: JudgedAddress) -> Deny | None:
            return rules.judge_address(found.host, one.judgement, port)

        dialled: asyncio.Future[tuple[RawSocket, SocketAddress]] = loop.create_future()
        DialRace(
            current_port(),
            interleave(found.dialable),
            port,
            judge_again,
            lambda raw, address, _: dialled.set_result((raw, address)),
        ).start()
        raw, address = await dialled
        connected = StreamSocket(current_port(), raw)
        said = bytes(await connected.receive())
        connected.close()
        listening.close()
        await resolver.close()
        return str(address), said

    address, said = run(main(), backend=backend_name)
    assert (address.split(":")[0], said) == ("127.0.0.1", b"hello")
