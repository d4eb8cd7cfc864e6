"""``[[rule]]``: what is taken, what is refused with its cure, and which rule decides."""

from __future__ import annotations

import ipaddress

import pytest

from sluicegate.documents import Findings
from sluicegate.identity import User
from sluicegate.identity.passwords import DEFAULT_COST, make_dummy_hash
from sluicegate.names import canonical_host, classify
from sluicegate.policy import (
    DestinationRequest,
    PolicySnapshot,
    decide_destination,
    parse_policy,
)
from sluicegate.policy.request import Question
from sluicegate.policy.rule_index import RuleIndex

NOW = 1_790_000_000.0
CLIENT = ipaddress.ip_address("10.1.1.1")
ANN = User("ann", make_dummy_hash(DEFAULT_COST), ("staff",))


def rule(**keys: str) -> str:
    defaults = {
        "name": '"one"',
        "action": '"allow"',
        "listener": '"proxy"',
        "clients": '["10.0.0.0/8"]',
        "to": '["a.example"]',
        "protocols": '["tcp:443"]',
    }
    table = {**defaults, **keys}
    return "[[rule]]\n" + "".join(f"{key} = {value}\n" for key, value in table.items() if value)


def snapshot(*rules: str) -> PolicySnapshot:
    findings = Findings()
    parsed = parse_policy("\n".join(rules), "policy.toml", findings)
    assert parsed is not None, findings.errors
    return PolicySnapshot(parsed.policy)


def decide(policy: PolicySnapshot, host: str, port: int = 443, user: User | None = None):
    request = DestinationRequest(CLIENT, canonical_host(host), port, user)
    return decide_destination(policy.rules_of("proxy"), request, NOW)


WRONG = [
    ({"to": '["A.example"]'}, "not canonical", "rule[0].to[0]"),
    ({"to": '["a.example."]'}, "not canonical", "rule[0].to[0]"),
    ({"to": '["bücher.example"]'}, "not canonical", "rule[0].to[0]"),
    ({"to": '["a.*.example"]'}, "only wildcard", "rule[0].to[0]"),
    ({"to": '["*a.example"]'}, "only wildcard", "rule[0].to[0]"),
    ({"to": '["*.com"]'}, "anybody can register", "rule[0].to[0]"),
    ({"to": '["*.co.uk"]'}, "anybody can register", "rule[0].to[0]"),
    ({"to": '["10.0.0.1/8"]'}, "not a network", "rule[0].to[0]"),
    ({"to": '["::ffff:10.0.0.0/104"]'}, "IPv4 network in IPv6 form", "rule[0].to[0]"),
    ({"to": '["0x7f.1"]'}, "no client's host", "rule[0].to[0]"),
    ({"to": '["a_b.example"]'}, "underscore", "rule[0].to[0]"),
    ({"to": '["http://a.example"]'}, "", "rule[0].to[0]"),
    ({"to": '["a.example", "a.example"]'}, "listed twice", "rule[0].to[1]"),
    ({"to": "[]"}, "at least 1", "rule[0].to"),
    ({"clients": '["10.0.0.1/8"]'}, "not a network", "rule[0].clients[0]"),
    ({"protocols": ""}, "is missing", "rule[0].protocols"),
    ({"protocols": '["443"]'}, "no protocol", "rule[0].protocols[0]"),
    ({"protocols": '["tcp:0"]'}, "no protocol", "rule[0].protocols[0]"),
    ({"protocols": '["tcp:65536"]'}, "ports are", "rule[0].protocols[0]"),
    ({"protocols": '["tcp:9-8"]'}, "ports are", "rule[0].protocols[0]"),
    ({"protocols": '["tcp:080"]'}, "no protocol", "rule[0].protocols[0]"),
    ({"users": '["an n"]'}, "no user", "rule[0].users[0]"),
    ({"users": "[]"}, "at least 1", "rule[0].users"),
    ({"action": '"permit"'}, "must be", "rule[0].action"),
    ({"action": '"deny"', "filters": '["x"]'}, "runs no filters", "rule[0].filters"),
    ({"filters": '["x", "x"]'}, "listed twice", "rule[0].filters[1]"),
    ({"port": "443"}, "unknown key", "rule[0].port"),
]


@pytest.mark.parametrize(("keys", "cause", "where"), WRONG)
def test_rule_that_does_not_mean_what_it_says_is_refused(
    keys: dict[str, str], cause: str, where: str
) -> None:
    findings = Findings()
    suffixes = {"com", "co.uk"}
    assert parse_policy(rule(**keys), "policy.toml", findings, suffixes.__contains__) is None
    assert [error for error in findings.errors if cause in error.cause] == findings.errors[:1]
    assert where in findings.errors[0].where
    assert findings.errors[0].where.startswith("policy.toml:")


def test_rule_that_denies_may_cover_a_public_suffix() -> None:
    findings = Findings()
    text = rule(action='"deny"', to='["*.zip"]', protocols="")
    assert parse_policy(text, "policy.toml", findings, lambda _: True) is not None


def test_underscores_are_taken_by_switch() -> None:
    findings = Findings()
    text = rule(to='["a_b.example"]') + "[names]\nunderscores = true\n"
    parsed = parse_policy(text, "policy.toml", findings)
    assert parsed is not None
    assert parsed.policy.allows_underscores


ORDER = [
    # a name below, an exception before it, and everything behind
    rule(name='"no"', action='"deny"', to='["bad.a.example", "10.0.0.0/8"]', protocols=""),
    rule(name='"below"', to='["*.a.example"]'),
    rule(name='"staff"', to='["*"]', users='["group:staff"]', protocols='["tcp"]'),
    rule(name='"lab"', to='["192.168.0.0/16"]', protocols='["tcp:1-100", "tcp:8080"]'),
]


BEFORE_ALL = [
    # Who may be meant by the first has to say who it is; what the last refuses, staff may have.
    rule(name='"not-bob"', action='"deny"', to='["shop.example"]', users='["bob"]', protocols=""),
    rule(name='"staff"', to='["*.example"]', users='["group:staff"]'),
    rule(name='"shop"', to='["shop.example", "192.0.2.0/24"]'),
    rule(name='"rest"', action='"deny"', to='["*"]', protocols=""),
]
BOB = User("bob", make_dummy_hash(DEFAULT_COST), ())


@pytest.mark.parametrize(
    ("host", "user", "name", "reason"),
    [
        ("shop.example", None, "not-bob", "user-needed"),
        ("shop.example", BOB, "not-bob", "denied-by-rule"),
        ("shop.example", ANN, "staff", "allowed-by-rule"),
        ("wiki.example", None, "rest", "user-needed"),
        ("wiki.example", BOB, "rest", "denied-by-rule"),
        ("wiki.example", ANN, "staff", "allowed-by-rule"),
        ("elsewhere.test", None, "rest", "denied-by-rule"),
    ],
)
def test_nobody_gets_past_a_rule_about_users_by_not_saying_who_it_is(
    host: str, user: User | None, name: str | None, reason: str
) -> None:
    decision = decide(snapshot(*BEFORE_ALL), host, 443, user)
    assert (decision.rule.name if decision.rule else None, decision.reason) == (name, reason)


@pytest.mark.parametrize(
    ("host", "port", "user", "name", "reason"),
    [
        ("x.a.example", 443, None, "below", "allowed-by-rule"),
        ("x.a.example", 80, None, None, "user-needed"),
        ("bad.a.example", 443, ANN, "no", "denied-by-rule"),
        ("a.example", 443, None, None, "user-needed"),
        ("a.example", 443, ANN, "staff", "allowed-by-rule"),
        ("10.9.9.9", 443, ANN, "no", "denied-by-rule"),
        ("192.168.1.1", 80, None, "lab", "allowed-by-rule"),
        ("192.168.1.1", 101, None, None, "no-rule"),
        ("192.168.1.1", 443, ANN, None, "no-rule"),
        ("1.1.1.1", 22, ANN, "staff", "allowed-by-rule"),
        ("::ffff:10.9.9.9", 443, ANN, "no", "denied-by-rule"),
        ("64:ff9b::a09:909", 443, ANN, "no", "denied-by-rule"),
    ],
)
def test_first_rule_that_matches_decides(
    host: str, port: int, user: User | None, name: str | None, reason: str
) -> None:
    decision = decide(snapshot(*ORDER), host, port, user)
    assert (decision.rule.name if decision.rule else None, decision.reason) == (name, reason)


@pytest.mark.parametrize("host", ["64:ff9b::c000:205", "2002:c000:205::1"])
@pytest.mark.parametrize("others", [0, 12], ids=["few rules", "many rules about one network"])
def test_rule_that_allows_a_network_does_not_mean_what_other_addresses_hold(
    host: str, others: int
) -> None:
    lab = '["192.0.2.0/24"]'
    before = [rule(name=f'"r{i}"', to=lab, clients=f'["10.2.0.{i}"]') for i in range(others)]
    policy = snapshot(*before, rule(name='"lab"', to=lab))
    assert decide(policy, "192.0.2.5").reason == "allowed-by-rule"
    assert decide(policy, host).reason == "no-rule"


def test_client_that_a_rule_does_not_name_is_not_its() -> None:
    policy = snapshot(rule(clients='["10.2.0.0/16"]'))
    assert decide(policy, "a.example").reason == "no-rule"


def test_decision_judges_only_what_it_was_made_for() -> None:
    decision = decide(snapshot(rule()), "a.example")
    assert decision.judge_name(canonical_host("a.example"), 443) is None
    assert decision.judge_name(canonical_host("a.example"), 80) is not None
    assert decision.judge_name(canonical_host("b.example"), 443) is not None


def test_refusal_judges_nothing_well() -> None:
    decision = decide(snapshot(rule()), "b.example")
    host = canonical_host("b.example")
    public = classify(ipaddress.ip_address("1.1.1.1"))
    assert decision.judge_name(host, 443) is not None
    assert decision.judge_address(host, public, 443) is not None


def test_hash_covers_what_decides_and_not_what_is_for_people() -> None:
    plain = snapshot(rule()).hash
    assert snapshot(rule(comment='"why"', owner='"who"')).hash == plain
    others = [
        rule(to='["b.example"]'),
        rule(to='["*.a.example"]'),
        rule(to='["*"]'),
        rule(protocols='["tcp"]'),
        rule(users='["ann"]'),
        rule(action='"deny"'),
        rule(clients='["10.0.0.0/9"]'),
        rule(listener='"other"'),
        rule(settings="{}", filters='["x"]'),
    ]
    assert len({plain, *(snapshot(other).hash for other in others)}) == 1 + len(others)
    assert snapshot(rule() + "[names]\nunderscores = true\n").hash != plain


def test_names_are_found_without_trying_every_rule() -> None:
    many = [rule(name=f'"r{i}"', to=f'["h{i}.example", "*.w{i}.example"]') for i in range(2000)]
    policy = snapshot(*many)
    index = policy.rules_of("proxy")
    assert index is not None
    for host, expected in [("h1999.example", [1999]), ("x.y.w1500.example", [1500])]:
        assert considered(index, host) == expected
    assert considered(index, "h2000.example") == []


def test_many_rules_to_everything_are_found_by_their_clients() -> None:
    many = [rule(name=f'"r{i}"', clients=f'["10.1.{i // 256}.{i % 256}"]', to='["*"]')
            for i in range(2000)]  # fmt: skip
    index = snapshot(*many, rule(name='"last"', to='["*"]')).rules_of("proxy")
    assert index is not None
    assert sorted(considered(index, "a.example")) == [257, 2000]


def considered(index: RuleIndex, host: str) -> list[int]:
    """Return the places of the rules that are weighed for CLIENT and a host."""
    canonical = canonical_host(host)
    question = Question(DestinationRequest(CLIENT, canonical, 443), NOW)
    return [one.order for rules in index.about_host(canonical, question) for one in rules]
