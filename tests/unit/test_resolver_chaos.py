"""The resolver under servers of any temper and clients that give up: what always holds."""

from __future__ import annotations

import asyncio
import itertools

import hypothesis
import hypothesis.strategies as st

from sluicegate.limits import Limits
from sluicegate.names import canonical_host
from sluicegate.names.destination import Destination, LookupReason, Unresolved
from sluicegate.names.packets import ReplySuspect
from sluicegate.names.resolver import Resolver
from tests.unit.resolver_kit import (
    OTHER_SERVER,
    SERVER,
    Behavior,
    Lookups,
    Rules,
    TableExchange,
    answer,
)

PUBLIC = {f"93.184.216.{i}" for i in range(3)} | {"2606:2800:220:1::1"}
PRIVATE = {"10.0.0.1", "127.0.0.1", "::1", "::ffff:10.0.0.1"}

addresses = st.lists(st.sampled_from(sorted(PUBLIC | PRIVATE)), max_size=3)
chains = st.lists(st.sampled_from(["a.cdn.test", "b.evil.test", "www.example"]), max_size=3)
tempers = st.one_of(
    st.tuples(addresses, chains, st.integers(0, 100)),
    st.sampled_from(["silent", "gone", "suspect", "NXDOMAIN", "SERVFAIL", "FORMERR", "truncated"]),
)


def behave(temper: object) -> Behavior:
    match temper:
        case "silent":
            return lambda *_: None
        case "gone":
            return lambda *_: ConnectionRefusedError(111, "refused")
        case "suspect":
            return lambda _, tcp: None if tcp else ReplySuspect("forged")
        case "truncated":
            return lambda wire, _: answer(wire, truncated=True)
        case str():
            return lambda wire, _: answer(wire, rcode=temper)
        case _:
            return honest(*temper)


def honest(found: list[str], chain: list[str], ttl_s: int) -> Behavior:
    names = ["www.example", *chain]
    lines = [f"{name}. {ttl_s} CNAME {target}." for name, target in itertools.pairwise(names)]
    lines += [f"{names[-1]}. {ttl_s} {'AAAA' if ':' in ip else 'A'} {ip}" for ip in found]
    return lambda wire, _tcp: answer(wire, *lines)


@hypothesis.given(
    st.lists(tempers, min_size=1, max_size=4),
    st.lists(st.tuples(st.floats(0, 12), st.floats(0, 8) | st.none()), min_size=1, max_size=8),
    st.booleans(),
)
def test_every_lookup_ends_and_only_judged_public_addresses_come_out(
    turns: list[object], clients: list[tuple[float, float | None]], use_mixed: bool
) -> None:
    exchange = TableExchange()
    for place, host in enumerate((SERVER.host, OTHER_SERVER.host)):
        exchange.behaviors[host] = in_turn([behave(t) for t in turns[place:] or turns])
    lookups = Lookups(exchange, servers=(SERVER, OTHER_SERVER), use_mixed_answers=use_mixed)

    async def client(
        resolver: Resolver, after_s: float, patience_s: float | None
    ) -> tuple[Destination | Unresolved | None, float]:
        await asyncio.sleep(after_s)
        start = lookups.clock.monotonic()
        rules = Rules(denied_aliases=("*.evil.test",))
        asking = resolver.resolve(canonical_host("www.example"), 443, rules)
        try:
            outcome = await asyncio.wait_for(asking, patience_s)
        except TimeoutError:
            return None, 0.0
        return outcome, lookups.clock.monotonic() - start

    async def main(resolver: Resolver) -> list[tuple[Destination | Unresolved | None, float]]:
        return await asyncio.gather(*(client(resolver, *one) for one in clients))

    for outcome, elapsed in lookups.run(main):
        assert elapsed <= Limits().dns_lookup_timeout_s + 0.1
        check(outcome, use_mixed=use_mixed)


def in_turn(behaviors: list[Behavior]) -> Behavior:
    """A server whose temper changes with every query."""
    turns = itertools.cycle(behaviors)

    def behave_once(wire: bytes, tcp: bool) -> bytes | Exception | None:
        return next(turns)(wire, tcp)

    return behave_once


def check(outcome: Destination | Unresolved | None, *, use_mixed: bool) -> None:
    if isinstance(outcome, Destination):
        dialled = {one.socket_address(443).host for one in outcome.dialable}
        assert dialled
        assert dialled <= PUBLIC
        assert use_mixed or len(outcome.dialable) == len(outcome.addresses)
        assert all(alias.text != "b.evil.test" for alias in outcome.aliases)
        assert outcome.expires_at_s is not None
    elif isinstance(outcome, Unresolved):
        assert outcome.reason is not LookupReason.CLOSED
        assert outcome.detail
