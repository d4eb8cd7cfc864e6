"""The resolver on virtual time: who is asked what and when, and what comes of it."""

from __future__ import annotations

import asyncio
import ipaddress
from typing import Any

import pytest

from sluicegate.limits import Limits
from sluicegate.names import AddressClassifier, NameClass, canonical_host
from sluicegate.names.destination import Destination, LookupReason, Unresolved
from sluicegate.names.packets import RecordType, ReplySuspect
from sluicegate.names.resolver import Resolver
from tests.unit.resolver_kit import (
    OTHER_SERVER,
    SERVER,
    Behavior,
    Lookups,
    Rules,
    TableExchange,
    answer,
    records,
)

WWW = "www.example. 60 A 93.184.216.34"
WWW6 = "www.example. 30 AAAA 2606:2800:220:1::1"
BOTH = (SERVER, OTHER_SERVER)


def look_up(
    first: Behavior | None, name: str = "www.example", rules: Rules | None = None, **options: Any
) -> tuple[Destination | Unresolved, TableExchange]:
    """Resolve one name against one or two servers."""
    exchange = TableExchange(first=first, second=options.pop("second", None))
    lookups = Lookups(exchange, **options)
    outcome = lookups.run(lambda r: r.resolve(canonical_host(name), 443, rules or Rules()))
    return outcome, exchange


def addresses_of(outcome: Destination | Unresolved) -> list[str]:
    assert isinstance(outcome, Destination), outcome
    return [str(one.socket_address(outcome.port)) for one in outcome.dialable]


def reason_of(outcome: Destination | Unresolved) -> LookupReason:
    assert isinstance(outcome, Unresolved), outcome
    return outcome.reason


def test_both_families_are_asked_and_judged_together() -> None:
    rules = Rules()
    outcome, exchange = look_up(records(WWW, WWW6), rules=rules)
    assert addresses_of(outcome) == ["[2606:2800:220:1::1]:443", "93.184.216.34:443"]
    assert sorted(exchange.asked) == [
        "udp 192.0.2.53 www.example A",
        "udp 192.0.2.53 www.example AAAA",
    ]
    assert rules.asked == [
        "name www.example:443",
        "address www.example 2606:2800:220:1::1",
        "address www.example 93.184.216.34",
    ]


def test_destination_ends_with_the_shortest_of_its_answers() -> None:
    lookups = Lookups(TableExchange(first=records(WWW, WWW6)))
    outcome = lookups.run(lambda r: r.resolve(canonical_host("www.example"), 443, Rules()))
    assert isinstance(outcome, Destination)
    now = lookups.clock.monotonic()
    assert outcome.expires_at_s == pytest.approx(now + 30, abs=1)
    assert not outcome.is_expired(now)
    assert outcome.is_expired(now + 30)


def test_name_that_is_refused_causes_no_query() -> None:
    rules = Rules("*.other.example")
    outcome, exchange = look_up(records(WWW), rules=rules)
    assert (reason_of(outcome), outcome.detail) == (LookupReason.NAME_DENIED, "not in the list")
    assert exchange.asked == []
    assert rules.asked == ["name www.example:443"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("localhost", "loopback-name"),
        ("a.localhost", "loopback-name"),
        ("printer.local", "multicast-dns-name"),
        ("a.invalid", "invalid-name"),
        ("a.onion", "not-a-dns-name"),
        ("metadata.google.internal", "metadata-name"),
    ],
)
def test_special_names_cause_no_query_even_when_a_rule_allows_them(name: str, told: str) -> None:
    outcome, exchange = look_up(records(WWW), name, Rules(name))
    assert (reason_of(outcome), told in outcome.detail) == (LookupReason.SPECIAL_NAME, True)
    assert exchange.asked == []


def test_special_name_is_looked_up_when_its_class_is_permitted() -> None:
    outcome, _ = look_up(
        records("nas.local. 60 A 93.184.216.34"),
        "nas.local",
        Rules("nas.local"),
        permitted_names=frozenset({NameClass.LINK_LOCAL}),
    )
    assert addresses_of(outcome) == ["93.184.216.34:443"]


def test_address_is_judged_without_a_query() -> None:
    outcome, exchange = look_up(None, "93.184.216.34")
    assert addresses_of(outcome) == ["93.184.216.34:443"]
    assert isinstance(outcome, Destination)
    assert (outcome.expires_at_s, outcome.is_expired(1e9)) == (None, False)
    refused, _ = look_up(None, "::ffff:127.0.0.1")
    assert reason_of(refused) is LookupReason.ADDRESS_DENIED
    assert "loopback" in refused.detail
    assert exchange.asked == []


@pytest.mark.parametrize(
    "address",
    ["A 127.0.0.1", "A 10.0.0.1", "A 169.254.169.254", "A 168.63.129.16", "A 0.0.0.0",
     "AAAA ::1", "AAAA ::ffff:10.0.0.1", "AAAA 64:ff9b::7f00:1", "AAAA fd00:ec2::254"],
)  # fmt: skip
def test_name_with_an_address_that_is_not_public_is_refused(address: str) -> None:
    outcome, _ = look_up(records(f"www.example. 60 {address}"))
    assert reason_of(outcome) is LookupReason.ADDRESS_DENIED
    assert isinstance(outcome, Unresolved)
    assert [one.denial is not None for one in outcome.addresses] == [True]


def test_names_that_lead_to_the_gate_itself_are_refused() -> None:
    own = AddressClassifier(own=[ipaddress.ip_address("93.184.216.34")])
    outcome, _ = look_up(records(WWW), classifier=own)
    assert reason_of(outcome) is LookupReason.ADDRESS_DENIED
    assert "own" in outcome.detail


def test_address_that_became_the_gates_own_since_the_lookup_is_refused_at_the_dial() -> None:
    async def main(resolver: Resolver) -> list[object]:
        rules = Rules()
        found = await resolver.resolve(canonical_host("www.example"), 443, rules)
        assert isinstance(found, Destination)
        (one,) = found.dialable
        before = resolver.judge_again(found, rules, one)
        resolver.classifier = AddressClassifier(own=[one.judgement.address])
        return [before, resolver.judge_again(found, rules, one)]

    before, after = Lookups(TableExchange(first=records(WWW))).run(main)
    assert before is None
    assert "is own" in after.reason


@pytest.mark.parametrize("private", ["www.example. 60 A 10.0.0.1", "www.example. 60 AAAA ::1"])
def test_mixed_answers_are_refused_or_used_in_part_by_switch(private: str) -> None:
    outcome, _ = look_up(records(WWW, private))
    assert reason_of(outcome) is LookupReason.ADDRESSES_MIXED
    partly, _ = look_up(records(WWW, private), use_mixed_answers=True)
    assert addresses_of(partly) == ["93.184.216.34:443"]
    assert isinstance(partly, Destination)
    assert len(partly.addresses) == 2, "the refused one stays in the record"


def test_rebinding_does_not_change_what_was_judged() -> None:
    turns = iter(["www.example. 0 A 93.184.216.34", "www.example. 0 A 127.0.0.1"])

    def rebinding(wire: bytes, _tcp: bool) -> bytes:
        return answer(wire, next(turns))

    async def main(resolver: Resolver) -> list[Destination | Unresolved]:
        host, rules = canonical_host("www.example"), Rules()
        first = await resolver.resolve(host, 443, rules)
        within = await resolver.resolve(host, 443, rules)
        await asyncio.sleep(Limits().dns_ttl_min_s)
        return [first, within, await resolver.resolve(host, 443, rules)]

    exchange = TableExchange(first=rebinding)
    first, within, later = Lookups(exchange, record_types=(RecordType.A,)).run(main)
    assert addresses_of(first) == addresses_of(within) == ["93.184.216.34:443"]
    assert reason_of(later) is LookupReason.ADDRESS_DENIED
    assert len(exchange.asked) == 2, "a TTL of 0 is kept for the least time"


def test_chain_of_aliases_into_a_refused_zone_is_refused() -> None:
    rules = Rules(denied_aliases=("*.evil.test",))
    chain = [
        "www.example. 60 CNAME a.cdn.test.",
        "a.cdn.test. 60 CNAME b.evil.test.",
        "b.evil.test. 60 CNAME c.cdn.test.",
        "c.cdn.test. 60 A 93.184.216.34",
    ]
    outcome, _ = look_up(records(*chain), rules=rules)
    assert reason_of(outcome) is LookupReason.ALIAS_DENIED
    assert outcome.detail == "www.example is an alias of b.evil.test: a refused zone"
    assert rules.asked[1:] == ["alias www.example a.cdn.test", "alias www.example b.evil.test"]


def test_chain_of_aliases_that_nobody_refuses_is_followed() -> None:
    outcome, exchange = look_up(
        records("www.example. 60 CNAME a.cdn.test.", "a.cdn.test. 60 A 93.184.216.34")
    )
    assert addresses_of(outcome) == ["93.184.216.34:443"]
    assert outcome.aliases == (canonical_host("a.cdn.test"),)
    assert all("www.example" in asked for asked in exchange.asked)


def test_alias_that_leaves_the_answer_is_not_asked_for() -> None:
    outcome, exchange = look_up(records("www.example. 60 CNAME a.cdn.test."))
    assert reason_of(outcome) is LookupReason.NO_ADDRESS
    assert outcome.aliases == (canonical_host("a.cdn.test"),)
    assert len(exchange.asked) == 2


def test_alias_of_a_special_name_is_refused() -> None:
    outcome, _ = look_up(
        records("www.example. 60 CNAME localhost.", "localhost. 60 A 93.184.216.34")
    )
    assert reason_of(outcome) is LookupReason.ALIAS_DENIED


def test_loops_of_aliases_are_final() -> None:
    loop = records("www.example. 60 CNAME a.test.", "a.test. 60 CNAME www.example.")
    outcome, exchange = look_up(loop, servers=BOTH, second=records(WWW))
    assert reason_of(outcome) is LookupReason.ALIAS_LOOP
    assert not any(OTHER_SERVER.host in asked for asked in exchange.asked)


def test_burst_of_records_is_refused() -> None:
    burst = [f"www.example. 60 A 93.184.{i >> 8}.{i & 255}" for i in range(1000)]
    outcome, _ = look_up(records(*burst), record_types=(RecordType.A,))
    assert reason_of(outcome) is LookupReason.TOO_MANY_RECORDS


@pytest.mark.parametrize(
    ("rcode", "reason"),
    [("NXDOMAIN", LookupReason.NO_SUCH_NAME), ("NOERROR", LookupReason.NO_ADDRESS)],
)
def test_absence_is_told_apart_and_kept(rcode: str, reason: LookupReason) -> None:
    exchange = TableExchange(first=records(rcode=rcode))

    async def main(resolver: Resolver) -> list[Destination | Unresolved]:
        host, rules = canonical_host("www.example"), Rules()
        return [await resolver.resolve(host, 443, rules) for _ in range(3)]

    assert {reason_of(one) for one in Lookups(exchange).run(main)} == {reason}
    assert len(exchange.asked) == 2


def test_server_that_fails_or_is_away_is_followed_by_the_next() -> None:
    refused = ConnectionRefusedError(111, "refused")
    for first in (records(rcode="SERVFAIL"), records(rcode="REFUSED"), lambda *_: refused, None):
        outcome, exchange = look_up(first, servers=BOTH, second=records(WWW, WWW6))
        assert len(addresses_of(outcome)) == 2
        assert len(exchange.asked) == 4


@pytest.mark.parametrize(
    ("first", "reason", "queries"),
    [
        (records(rcode="SERVFAIL"), LookupReason.SERVER_FAILED, 2),
        (lambda *_: OSError(113, "no route"), LookupReason.SERVERS_UNREACHABLE, 2),
        (None, LookupReason.SERVERS_SILENT, 4),
    ],
)
def test_when_no_server_answers_the_name_is_refused(
    first: Behavior | None, reason: LookupReason, queries: int
) -> None:
    outcome, exchange = look_up(first)
    assert reason_of(outcome) is reason
    assert "192.0.2.53:53" in outcome.detail
    assert len(exchange.asked) == queries, "only silent servers are asked again"


def test_lookup_ends_in_time_however_many_servers_are_silent() -> None:
    lookups = Lookups(TableExchange(), servers=BOTH * 10)

    async def main(resolver: Resolver) -> tuple[LookupReason, float]:
        start = lookups.clock.monotonic()
        outcome = await resolver.resolve(canonical_host("www.example"), 443, Rules())
        return reason_of(outcome), lookups.clock.monotonic() - start

    reason, elapsed = lookups.run(main)
    assert reason is LookupReason.SERVERS_SILENT
    assert elapsed == pytest.approx(Limits().dns_lookup_timeout_s, abs=0.1)


def test_without_servers_every_name_is_refused() -> None:
    outcome, _ = look_up(None, servers=())
    assert reason_of(outcome) is LookupReason.NO_SERVERS


def test_failure_is_kept_for_a_moment_and_then_forgotten() -> None:
    exchange = TableExchange(first=records(rcode="SERVFAIL"))

    async def main(resolver: Resolver) -> list[Destination | Unresolved]:
        host, rules = canonical_host("www.example"), Rules()
        found = [await resolver.resolve(host, 443, rules) for _ in range(3)]
        exchange.behaviors[SERVER.host] = records(WWW)
        await asyncio.sleep(Limits().dns_failure_ttl_s)
        return [*found, await resolver.resolve(host, 443, rules)]

    *failed, mended = Lookups(exchange).run(main)
    assert {reason_of(one) for one in failed} == {LookupReason.SERVER_FAILED}
    assert addresses_of(mended) == ["93.184.216.34:443"]
    assert len(exchange.asked) == 4


def test_family_whose_question_fails_does_not_hide_the_other() -> None:
    def only_a(wire: bytes, _tcp: bool) -> bytes | None:
        return None if b"\0\x1c\0\1" in wire else answer(wire, WWW)

    outcome, _ = look_up(only_a)
    assert addresses_of(outcome) == ["93.184.216.34:443"]


def test_without_any_address_a_failure_counts_more_than_an_absence() -> None:
    def failing(wire: bytes, _tcp: bool) -> bytes:
        return answer(wire, rcode="SERVFAIL" if b"\0\x1c\0\1" in wire else "NOERROR")

    outcome, _ = look_up(failing)
    assert reason_of(outcome) is LookupReason.SERVER_FAILED


@pytest.mark.parametrize("suspect", ["truncated", "forged"])
def test_truncated_and_suspect_replies_are_asked_for_over_tcp(suspect: str) -> None:
    def behave(wire: bytes, tcp: bool) -> bytes | Exception:
        if tcp:
            return answer(wire, WWW)
        if suspect == "truncated":
            return answer(wire, truncated=True)
        return ReplySuspect("another question")

    outcome, exchange = look_up(behave, record_types=(RecordType.A,))
    assert addresses_of(outcome) == ["93.184.216.34:443"]
    assert exchange.asked == [f"{how} 192.0.2.53 www.example A" for how in ("udp", "tcp")]


def test_truncated_answer_over_tcp_is_malformed() -> None:
    outcome, exchange = look_up(records(WWW, truncated=True), record_types=(RecordType.A,))
    assert reason_of(outcome) is LookupReason.MALFORMED
    assert len(exchange.asked) == 2


def test_server_that_does_not_know_edns_is_asked_without() -> None:
    def old(wire: bytes, _tcp: bool) -> bytes:
        return answer(wire, WWW, rcode="FORMERR" if wire[11] else "NOERROR")

    outcome, exchange = look_up(old, record_types=(RecordType.A,))
    assert addresses_of(outcome) == ["93.184.216.34:443"]
    assert len(exchange.asked) == 2
    always, exchange = look_up(records(rcode="FORMERR"), record_types=(RecordType.A,))
    assert reason_of(always) is LookupReason.SERVER_FAILED
    assert len(exchange.asked) == 2


def test_letter_case_is_mixed_by_switch_and_never_over_tcp() -> None:
    seen: list[bytes] = []

    def behave(wire: bytes, tcp: bool) -> bytes:
        seen.append(wire[12:25])
        return answer(wire, WWW, truncated=not tcp)

    look_up(behave, record_types=(RecordType.A,))
    mixed, over_tcp = seen
    assert mixed != over_tcp == b"\3www\7example\0"
    assert mixed.lower() == over_tcp
    seen.clear()
    look_up(behave, record_types=(RecordType.A,), mix_case=False)
    assert set(seen) == {over_tcp}


def test_same_question_is_asked_once_for_all_who_wait() -> None:
    exchange = TableExchange(first=records(WWW, WWW6))

    async def main(resolver: Resolver) -> list[Any]:
        host = canonical_host("www.example")
        return await asyncio.gather(*(resolver.resolve(host, 443, Rules()) for _ in range(50)))

    outcomes = Lookups(exchange).run(main)
    assert len(outcomes) == 50
    assert {len(addresses_of(one)) for one in outcomes} == {2}
    assert len(exchange.asked) == 2


def test_what_is_kept_or_shared_is_judged_for_each_who_asks() -> None:
    exchange = TableExchange(first=records("www.example. 60 A 10.0.0.1"))
    lenient = Rules()
    lenient.private_is_allowed = True

    async def main(resolver: Resolver) -> list[Any]:
        host = canonical_host("www.example")
        both = await asyncio.gather(
            resolver.resolve(host, 443, lenient), resolver.resolve(host, 443, Rules())
        )
        return [*both, await resolver.resolve(host, 443, Rules("www.other.example"))]

    allowed, denied, unnamed = Lookups(exchange).run(main)
    assert addresses_of(allowed) == ["10.0.0.1:443"]
    assert reason_of(denied) is LookupReason.ADDRESS_DENIED
    assert reason_of(unnamed) is LookupReason.NAME_DENIED
    assert len(exchange.asked) == 2


def test_one_who_gives_up_does_not_take_the_answer_from_others() -> None:
    exchange = TableExchange(first=records(WWW, WWW6))

    async def main(resolver: Resolver) -> Any:
        host = canonical_host("www.example")
        impatient = asyncio.ensure_future(resolver.resolve(host, 443, Rules()))
        patient = asyncio.ensure_future(resolver.resolve(host, 443, Rules()))
        await asyncio.sleep(0.001)
        impatient.cancel()
        with pytest.raises(asyncio.CancelledError):
            await impatient
        return await patient

    assert len(addresses_of(Lookups(exchange).run(main))) == 2
    assert len(exchange.asked) == 2


def test_question_that_nobody_waits_for_is_dropped_and_asked_anew() -> None:
    exchange = TableExchange(first=records(WWW, WWW6))

    async def main(resolver: Resolver) -> Any:
        host = canonical_host("www.example")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(resolver.resolve(host, 443, Rules()), 0.001)
        return await resolver.resolve(host, 443, Rules())

    assert len(addresses_of(Lookups(exchange).run(main))) == 2
    assert len(exchange.asked) == 4


def test_closing_refuses_those_who_wait_and_those_who_come() -> None:
    async def main(resolver: Resolver) -> list[Any]:
        host = canonical_host("www.example")
        waiting = asyncio.ensure_future(resolver.resolve(host, 443, Rules()))
        await asyncio.sleep(0.001)
        await resolver.close()
        return [await waiting, await resolver.resolve(host, 443, Rules())]

    found = Lookups(TableExchange()).run(main)
    assert {reason_of(one) for one in found} == {LookupReason.CLOSED}


def test_more_questions_at_once_than_the_limit_are_refused() -> None:
    exchange = TableExchange(first=lambda wire, _tcp: answer(wire))

    async def main(resolver: Resolver) -> list[Any]:
        hosts = [canonical_host(f"n{i}.example") for i in range(5)]
        return await asyncio.gather(*(resolver.resolve(host, 443, Rules()) for host in hosts))

    found = Lookups(exchange, limits=Limits(dns_questions_max=4)).run(main)
    assert [reason_of(one) for one in found].count(LookupReason.TOO_MANY_LOOKUPS) == 3
    assert len(exchange.asked) == 4


def test_cache_is_bounded_and_keeps_what_is_used() -> None:
    def any_name(wire: bytes, _tcp: bool) -> bytes:
        name = wire[13 : 13 + wire[12]].decode()
        return answer(wire, f"{name}.example. 60 A 93.184.216.34")

    exchange = TableExchange(first=any_name)
    lookups = Lookups(
        exchange, limits=Limits(dns_cache_entries_max=10), record_types=(RecordType.A,)
    )

    async def main(resolver: Resolver) -> int:
        hot = canonical_host("hot.example")
        for i in range(100):
            await resolver.resolve(hot, 443, Rules())
            await resolver.resolve(canonical_host(f"n{i}.example"), 443, Rules())
        return resolver.statistics()["kept"]

    assert lookups.run(main) == 10
    assert exchange.asked.count("udp 192.0.2.53 hot.example A") == 1


def test_what_is_kept_can_be_forgotten() -> None:
    exchange = TableExchange(first=records(WWW))

    async def main(resolver: Resolver) -> None:
        for _ in range(2):
            await resolver.resolve(canonical_host("www.example"), 443, Rules())
            resolver.forget()

    Lookups(exchange).run(main)
    assert len(exchange.asked) == 4


def test_statistics_count_lookups_queries_and_refusals() -> None:
    async def main(resolver: Resolver) -> dict[str, int]:
        await resolver.resolve(canonical_host("www.example"), 443, Rules())
        await resolver.resolve(canonical_host("www.example"), 443, Rules())
        await resolver.resolve(canonical_host("www.other"), 443, Rules())
        return resolver.statistics()

    counts = Lookups(TableExchange(first=records(WWW))).run(main)
    assert counts == {
        "lookups": 3,
        "queries_udp": 2,
        "answers_from_cache": 2,
        "name-denied": 1,
        "kept": 2,
        "asking": 0,
    }
