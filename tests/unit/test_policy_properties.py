"""Properties of deciding: the index agrees with trying every rule, and time with its announcement."""

# ruff: noqa: E501 - one line a case

from __future__ import annotations

import datetime as dt
import ipaddress
import zoneinfo

from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate.address import SocketAddress
from sluicegate.names import CanonicalHost, canonical_host, classify
from sluicegate.policy import (
    DestinationRequest,
    HttpPart,
    LearnEntry,
    Level,
    Policy,
    PolicySnapshot,
    Publication,
    Rule,
    RuleAction,
    Targets,
    TransferPart,
    decide,
    decide_destination,
    explain_destination,
    explain_publication,
)
from sluicegate.policy.content_types import ContentTypes
from sluicegate.policy.parse_values import parse_path, parse_protocol, parse_target, parse_week
from sluicegate.policy.paths import UrlPattern
from sluicegate.policy.schedule import Schedule

START = dt.datetime(2026, 3, 28, tzinfo=dt.UTC).timestamp()
NAMES = ["a.example", "b.a.example", "c.b.a.example", "a.example.net", "x.example"]
ADDRESSES = ["1.1.1.1", "1.2.3.4", "10.0.0.1", "64:ff9b::101:101", "2001:4860::1"]
CLIENTS = ["10.0.0.1", "10.0.0.2", "10.1.0.1", "fd00::1"]
NETWORKS = ["0.0.0.0/0", "10.0.0.0/8", "10.0.0.0/24", "10.0.0.1/32", "fd00::/8", "::/0"]
TO = [
    "*", "a.example", "*.a.example", "*.example", "b.a.example", "1.0.0.0/8", "1.1.1.1", "10.0.0.1",
    "2001:4860::/32", "https://a.example/*", "http://b.a.example/x/*", "https://1.1.1.1/y",
]  # fmt: skip


class Ann:
    """A user."""

    name = "ann"
    groups = ("staff",)


def some(values: list[str], least: int = 0, most: int = 3) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(values), min_size=least, max_size=most, unique=True)


networks = some(NETWORKS, 1).map(lambda texts: tuple(map(ipaddress.ip_network, texts)))
excepted = st.just(()) | networks


def targets(texts: list[str]) -> Targets:
    found = [parse_target(text) for text in texts]
    return Targets(
        None in found,
        tuple(one for one in found if hasattr(one, "is_wildcard")),
        tuple(one for one in found if hasattr(one, "prefixlen")),
        tuple(one for one in found if isinstance(one, UrlPattern)),
    )


ZONE = zoneinfo.ZoneInfo("Europe/Berlin")
spans = st.lists(
    st.sampled_from(["mon-fri 09:00-17:00", "sat,sun 00:00-24:00", "sun 01:30-03:30", "sat 22:00-02:00"]),
    min_size=1, max_size=2, unique=True,
)  # fmt: skip
schedules = spans.map(
    lambda texts: Schedule(
        "s",
        ZONE,
        "Europe/Berlin",
        tuple(sorted({span for text in texts for span in parse_week(text)})),
        frozenset({dt.date(2026, 3, 30)}),
    )
)
moments = st.integers(0, 4 * 86400).map(lambda seconds: START + seconds)

rules = st.builds(
    Rule,
    name=st.just("one"),
    action=st.sampled_from(RuleAction),
    listeners=st.none(),
    clients=networks,
    clients_except=excepted,
    to=some(TO, 1).map(targets),
    to_except=st.just(Targets()) | some(TO[1:], 1, 1).map(targets),
    protocols=some(["tcp", "tcp:443", "udp", "bind"]).map(
        lambda texts: tuple(map(parse_protocol, texts))
    ),
    protocols_except=st.just(()) | st.just((parse_protocol("tcp:443"),)),
    users=st.none() | some(["ann", "bob", "group:staff", "*"], 1).map(tuple),
    filters=st.sampled_from([(), ("http",), ("ftp",)]),
    schedule=st.none() | schedules,
    methods=st.just(()) | st.just(("GET",)),
    paths=st.just(()) | st.just((parse_path("/x/*"),)),
    content_types=st.none() | st.just(ContentTypes.of((".pdf", "image/*"))),
    expires=st.none() | moments,
    is_enabled=st.sampled_from([True, True, True, False]),
)
hosts = st.sampled_from(NAMES + ADDRESSES).map(canonical_host)
requests = st.builds(
    DestinationRequest,
    client=st.sampled_from(CLIENTS).map(ipaddress.ip_address),
    host=hosts,
    port=st.sampled_from([80, 443]),
    user=st.none() | st.just(Ann()),
    protocol=st.sampled_from(["tcp", "udp", "bind"]),
    http=st.none()
    | st.builds(
        HttpPart,
        st.sampled_from(["GET", "PUT"]),
        st.sampled_from(["/x/1", "/y"]),
        st.sampled_from(["http", "https"]),
    ),
    transfer=st.none() | st.just(TransferPart("", ".pdf")) | st.just(TransferPart("text/x", "")),
    asks_again=st.sampled_from(list(map(Level, range(4)))),
)
learn = st.builds(
    LearnEntry, name=st.just("l"), clients=networks, until=moments, listeners=st.none()
)
SHOWS = {"http": Level.REQUEST | Level.TRANSFER, "ftp": Level.TRANSFER}


@settings(max_examples=400)
@given(st.lists(rules, max_size=24), st.lists(learn, max_size=1), requests, moments, hosts)
def test_index_decides_as_weighing_every_rule_in_order_does(
    found: list[Rule],
    entries: list[LearnEntry],
    request: DestinationRequest,
    now: float,
    other: CanonicalHost,
) -> None:
    snapshot = PolicySnapshot(Policy(rules=tuple(found), learn=tuple(entries)), SHOWS)
    index = snapshot.rules_of("proxy")
    decided = decide_destination(index, request, now)
    explained = explain_destination(index, request, now)
    same = explained.decision
    assert decided.rule is same.rule
    assert (decided.is_allowed, decided.reason) == (same.is_allowed, same.reason)
    assert (decided.asks_again, decided.action) == (same.asks_again, same.action)
    assert all(trace.lacks for trace in explained.before)
    if decided.is_allowed and explained.decider is not None:
        assert all(lack.is_unknown for lack in explained.decider.lacks)
    if other.address is None:
        judged = [one.judge_alias(request.host, other, request.port) for one in (decided, same)]
    else:
        judgement = classify(other.address)
        judged = [
            one.judge_address(request.host, judgement, request.port) for one in (decided, same)
        ]
    assert judged[0] == judged[1]
    if not decided.is_allowed:
        assert judged[0] is not None


plain_rules = st.builds(
    Rule,
    name=st.just("one"),
    action=st.sampled_from([RuleAction.ALLOW, RuleAction.DENY]),
    listeners=st.none(),
    clients=networks,
    clients_except=excepted,
    to=some(
        ["*", "a.example", "*.example", "1.0.0.0/8", "10.0.0.1", "https://a.example/*"], 1, 2
    ).map(targets),
    to_except=st.just(Targets()) | some(["a.example", "1.1.1.1"], 1, 1).map(targets),
)
"""Short of other conditions, so that what the index has answered is what decides."""


@settings(max_examples=400)
@given(st.lists(plain_rules, min_size=9, max_size=40), requests)
def test_what_a_rule_was_found_by_holds_and_need_not_be_asked_again(
    found: list[Rule], request: DestinationRequest
) -> None:
    index = PolicySnapshot(Policy(rules=tuple(found)), SHOWS).rules_of("proxy")
    decided = decide_destination(index, request, START)
    same = explain_destination(index, request, START).decision
    assert decided.rule is same.rule
    assert (decided.is_allowed, decided.reason) == (same.is_allowed, same.reason)


@settings(max_examples=200)
@given(st.lists(rules, max_size=6), requests, moments, st.floats(0, 1))
def test_nothing_changes_by_itself_before_the_announced_instant(
    found: list[Rule], request: DestinationRequest, now: float, part: float
) -> None:
    snapshot = PolicySnapshot(Policy(rules=tuple(found)), SHOWS)
    change = snapshot.next_change(now)
    assert change > now
    later = now + (min(change, now + 4 * 86400) - now) * part
    if later >= change:
        later = now
    index = snapshot.rules_of("proxy")
    before = decide_destination(index, request, now)
    after = decide_destination(
        PolicySnapshot(snapshot.policy, SHOWS).rules_of("proxy"), request, later
    )
    assert (before.rule, before.reason) == (after.rule, after.reason)


publications = st.builds(
    Publication,
    name=st.just("one"),
    listener=st.just("ftp"),
    server=st.just(SocketAddress("192.0.2.10", 21)),
    clients=networks,
    clients_except=excepted,
    schedule=st.none() | schedules,
    expires=st.none() | moments,
    is_enabled=st.sampled_from([True, True, False]),
)


@given(st.lists(publications, max_size=6), st.sampled_from(CLIENTS), moments)
def test_ranges_decide_as_trying_every_publication_in_order_does(
    found: list[Publication], client: str, now: float
) -> None:
    snapshot = PolicySnapshot(Policy(tuple(found)))
    address = SocketAddress(client, 4000)
    decided = decide(snapshot, "ftp", address, now)
    explained = explain_publication(snapshot, "ftp", address, now)
    assert decided.publication is explained.decision.publication
    assert decided.allowed == explained.decision.allowed
    if any(one.is_enabled for one in found):
        assert decided.reason == explained.decision.reason
    assert all(trace.lacks for trace in explained.before)
