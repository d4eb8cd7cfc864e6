"""What is right and worth a warning: rules that never decide, end, learn, or cannot see."""

# ruff: noqa: E501 - one line a case

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate.names import classify
from sluicegate.policy import (
    DestinationRequest,
    Policy,
    PolicySnapshot,
    Rule,
    decide_destination,
    review_policy,
)
from sluicegate.policy.shadowing import shadowed_rules
from sluicegate.policy_limits import SHADOW_PIECES_MAX
from tests.unit.policy_kit import read, rule
from tests.unit.test_policy_properties import SHOWS, hosts, moments, requests, rules

NOW = dt.datetime(2026, 11, 25, 12, 0, tzinfo=dt.UTC).timestamp()


def reviewed(text: str) -> tuple[list[str], list[str]]:
    parsed, findings = read(text)
    assert parsed is not None, findings.errors
    snapshot = PolicySnapshot(parsed.policy, SHOWS)
    review_policy(parsed, snapshot, ["proxy"], SHOWS, NOW)
    return [str(one) for one in findings.errors], [str(one) for one in findings.warnings]


def later(**keys: str) -> str:
    return rule(**{"name": '"late"', **keys})


ANY = '["*"]'
DENY = '"deny"'
SHADOWED = [
    # the same, and less
    (rule(), later(), True),
    (rule(), later(clients='["10.1.0.0/16"]'), True),
    (rule(), later(clients='["10.0.0.0/7"]'), False),
    (rule(clients_except='["10.1.0.0/16"]'), later(clients='["10.2.0.0/16"]'), False),
    (rule(clients_except='["10.1.0.0/16"]'), later(clients_except='["10.0.0.0/8"]'), True),
    (rule(to='["*.example.org"]'), later(), True),
    (rule(to='["*.a.example.org"]'), later(), False),
    (rule(to='["*.example.org"]'), later(to='["*.b.a.example.org"]'), True),
    (rule(to='["a.example.org"]'), later(to='["*.a.example.org"]'), False),
    (rule(to='["1.0.0.0/8"]'), later(to='["1.1.0.0/16"]'), True),
    (rule(to='["1.0.0.0/8"]'), later(to='["1.1.0.0/16", "a.example.org"]'), False),
    (rule(to=ANY), later(), True),
    (rule(to=ANY), later(to='["1.1.1.1"]'), False),
    (rule(to='["*", "1.0.0.0/8"]'), later(to='["1.1.1.1"]'), True),
    (rule(to=ANY, to_except='["b.example.org"]'), later(), False),
    (rule(protocols='["tcp"]'), later(), True),
    (rule(protocols='["tcp:443"]'), later(protocols='["tcp"]'), False),
    (rule(protocols='["tcp"]', protocols_except='["tcp:443"]'), later(), False),
    (rule(users='["ann"]'), later(), False),
    (rule(), later(users='["ann"]'), True),
    (rule(users='["*"]'), later(users='["ann"]'), True),
    (rule(users='["ann", "bob"]'), later(users='["ann"]'), True),
    (rule(users='["ann"]'), later(users='["ann", "bob"]'), False),
    (rule(expires="2027-01-01T00:00:00Z"), later(), False),
    (rule(expires="2027-01-01T00:00:00Z"), later(expires="2026-12-31T00:00:00Z"), True),
    (rule(enabled="false"), later(), False),
    (rule(), later(enabled="false"), False),
    (rule(methods='["GET"]'), later(methods='["GET"]'), False),
    (rule(content_types='[".pdf"]'), later(), False),
    (rule(), later(methods='["GET"]'), True),
    (rule(listener='"other"'), later(), False),
    (rule(), later(listener='"proxy"'), True),
    # rules that refuse
    (rule(action=DENY, protocols=""), later(), True),
    (rule(action=DENY, protocols="", to=ANY), later(to='["1.1.1.1", "*"]'), True),
    (rule(), later(action=DENY), False),  # it is held against aliases of what later rules allow
    (rule(to=ANY), later(action=DENY), True),
    (rule(to=ANY), later(action=DENY, to=ANY), False),  # private addresses are left to it
    (rule(action=DENY), later(action='"reset"'), True),
]  # fmt: skip


@pytest.mark.parametrize(("first", "second", "shadowed"), SHADOWED)
def test_rule_that_never_decides_is_named_with_the_one_that_does(
    first: str, second: str, shadowed: bool
) -> None:
    _, warnings = reviewed(first + second)
    expected = (
        "the rule 'late' never decides: 'one' (policy.toml:1: rule[0]) matches whenever it would"
    )
    assert any(expected in one for one in warnings) == shadowed


A, B = '"a.example.org"', '"b.example.org"'
TOGETHER = [
    # the rules before, the last one, those that cover it together; none: it decides
    ("each destination", [rule(to=f"[{A}]"), rule(to=f"[{B}]")], later(to=f"[{A}, {B}]"), "ab"),
    ("one by a wildcard", [rule(to='["*.example.org"]'), rule(to='["1.0.0.0/8"]')],
     later(to=f'[{A}, "1.1.1.1"]'), "ab"),
    ("each client", [rule(clients='["10.1.0.0/16"]'), rule(clients='["10.2.0.0/16"]')],
     later(clients='["10.1.1.0/24", "10.2.2.2"]'), "ab"),
    ("each protocol", [rule(protocols='["tcp:443"]'), rule(protocols='["tcp:80", "udp"]')],
     later(protocols='["tcp:80", "tcp:443"]'), "ab"),
    ("each of clients and destinations",
     [rule(to=f"[{A}]", clients='["10.1.0.0/16"]'), rule(to=f"[{B}]", clients='["10.1.0.0/16"]'),
      rule(to=f"[{A}, {B}]", clients='["10.2.0.0/16"]')],
     later(to=f"[{A}, {B}]", clients='["10.1.0.0/16", "10.2.0.0/16"]'), "abc"),
    ("but one of them", [rule(to=f"[{A}]", clients='["10.1.0.0/16"]'),
                         rule(to=f"[{B}]", clients='["10.1.0.0/16"]'),
                         rule(to=f"[{A}]", clients='["10.2.0.0/16"]')],
     later(to=f"[{A}, {B}]", clients='["10.1.0.0/16", "10.2.0.0/16"]'), ""),
    ("only some destinations", [rule(to=f"[{A}]")], later(to=f"[{A}, {B}]"), ""),
    ("one for users", [rule(to=f"[{A}]"), rule(to=f"[{B}]", users='["ann"]')],
     later(to=f"[{A}, {B}]"), ""),
    ("one for a time", [rule(to=f"[{A}]"), rule(to=f"[{B}]", expires="2027-01-01T00:00:00Z")],
     later(to=f"[{A}, {B}]"), ""),
    ("one that refuses", [rule(to=f"[{A}]", action=DENY), rule(to=f"[{B}]")],
     later(to=f"[{A}, {B}]"), "ab"),
    ("a refusal by one that allows", [rule(to=f"[{A}]", action=DENY), rule(to=f"[{B}]")],
     later(to=f"[{A}, {B}]", action=DENY), ""),
    ("by one alone", [rule(to=f"[{A}]"), rule(to=f"[{A}, {B}]")], later(to=f"[{A}, {B}]"), "b"),
    ("halves of a network, which is not looked for",
     [rule(to='["1.0.0.0/9"]'), rule(to='["1.128.0.0/9"]')], later(to='["1.0.0.0/8"]'), ""),
]  # fmt: skip


@pytest.mark.parametrize(
    ("before", "last", "covers"), [one[1:] for one in TOGETHER], ids=[one[0] for one in TOGETHER]
)
def test_rule_that_several_cover_together_is_named_with_them(
    before: list[str], last: str, covers: str
) -> None:
    texts = [one.replace('name = "one"', f'name = "{"abc"[n]}"') for n, one in enumerate(before)]
    _, warnings = reviewed("".join(texts) + last)
    (found,) = [one for one in warnings if "'late' never decides" in one] or [""]
    named = "".join(name for name in "abc" if f"'{name}' (" in found)
    assert named == covers
    assert ("together match" in found) == (len(covers) > 1)


def test_many_pieces_and_many_rules_are_bounded() -> None:
    names = ", ".join(f'"h{n}.example.org"' for n in range(SHADOW_PIECES_MAX))
    one_each = "".join(
        rule(name=f'"r{n}"', to=f'["h{n}.example.org"]') for n in range(SHADOW_PIECES_MAX)
    )
    _, warnings = reviewed(one_each + later(to=f"[{names}]"))
    (found,) = [one for one in warnings if "'late' never decides" in one]
    assert f"and {SHADOW_PIECES_MAX - 3} more together match" in found
    _, warnings = reviewed(one_each + later(to=f'[{names}, "h0.example.net"]'))
    assert not any("never decides" in one for one in warnings)


def test_ten_thousand_rules_are_reviewed_without_comparing_all_pairs() -> None:
    found = [
        replace(one, name=f"r{number}")
        for number, one in enumerate(_many(4000))
    ]  # fmt: skip
    snapshot = PolicySnapshot(Policy(rules=tuple(found)))
    assert [
        (late.name, [one.name for one in by]) for late, by in shadowed_rules(snapshot, ["proxy"])
    ] == [("r3999", ["r7"])]


def _many(count: int) -> list[Rule]:
    text = "".join(rule(name=f'"r{n}"', to=f'["h{n}.example.org"]') for n in range(count - 1))
    parsed, findings = read(text + rule(name='"last"', to='["h7.example.org"]'))
    assert parsed is not None, findings.errors
    return list(parsed.policy.rules)


@settings(max_examples=300)
@given(st.lists(rules, min_size=2, max_size=8), requests, moments, hosts)
def test_leaving_out_what_never_decides_changes_nothing(
    found: list[Rule], request: DestinationRequest, now: float, other: object
) -> None:
    named = tuple(replace(one, name=str(place)) for place, one in enumerate(found))
    snapshot = PolicySnapshot(Policy(rules=named), SHOWS)
    shadowed = {late.name for late, _ in shadowed_rules(snapshot, ["proxy"])}
    kept = tuple(one for one in named if one.name not in shadowed)
    decisions = [
        decide_destination(
            PolicySnapshot(Policy(rules=some), SHOWS).rules_of("proxy"), request, now
        )
        for some in (named, kept)
    ]
    before, after = decisions
    assert (before.rule, before.reason) == (after.rule, after.reason)
    if other.address is None:  # type: ignore[attr-defined]
        judged = [one.judge_alias(request.host, other, request.port) for one in decisions]  # type: ignore[arg-type]
    else:
        judgement = classify(other.address)  # type: ignore[attr-defined]
        judged = [one.judge_address(request.host, judgement, request.port) for one in decisions]
    assert (judged[0] is None) == (judged[1] is None)


def test_time_is_warned_of() -> None:
    text = rule(name='"over"', expires="2026-11-25T12:00:00Z", to='["a.example.net"]')
    text += rule(name='"soon"', expires="2026-12-24T12:00:00Z", to='["b.example.net"]')
    text += rule(name='"far"', expires="2026-12-26T12:00:00Z", to='["c.example.net"]')
    _, warnings = reviewed(text)
    assert [one.partition(" (")[0] for one in warnings] == [
        "policy.toml:7: rule[0].expires: has expired on 2026-11-25T12:00:00Z: it matches nobody",
        "policy.toml:14: rule[1].expires: is 2026-12-24T12:00:00Z, in 29 days",
    ]


@pytest.mark.parametrize(
    ("until", "expected", "is_error"),
    [
        ("2026-11-25T12:00:00Z", "is over since 2026-11-25T12:00:00Z", False),
        ("2026-12-26T12:00:00Z", "passes for these clients until 2026-12-26T12:00:00Z", False),
        ("2026-12-26T12:00:01Z", "31 days are the most", True),
    ],
)
def test_learning_is_never_silent_and_ends(until: str, expected: str, is_error: bool) -> None:
    found = reviewed(f'[[learn]]\nname = "x"\nclients = ["10.0.0.0/8"]\nuntil = {until}\n')
    errors, warnings = found
    assert expected in str(errors if is_error else warnings)
    assert bool(errors) == is_error


SIGHT = [
    (rule(methods='["GET"]'), ""),
    (rule(to='["http://a.example.org/x"]'), ""),
    (rule(to='["https://a.example.org/x"]'), "to: no filter of this rule shows HTTP requests"),
    (rule(paths='["/x"]', filters='["ftp"]'), ""),
    (rule(content_types='[".pdf"]'), ""),
    (rule(action=DENY, content_types='[".pdf"]'), "content_types: connections whose rule shows no objects are refused"),
    (rule(methods='["GET"]', filters='["http"]'), ""),
    (rule(content_types='[".pdf"]', filters='["ftp"]'), ""),
    (rule(to='["https://a.example.org/*"]'), ""),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), SIGHT)
def test_condition_that_nothing_shows_is_warned_of(text: str, expected: str) -> None:
    _, warnings = reviewed(text)
    assert [one for one in warnings if expected in one] == warnings
    assert bool(warnings) == bool(expected)


def test_relation_that_is_never_found_is_warned_of() -> None:
    one = '[[network_rule]]\nname = "{}"\nfrom = ["{}"]\nto = ["{}"]\nrelation = "nat"\n'
    text = one.format("a", "10.0.0.0/8", "0.0.0.0/0") + one.format("b", "10.1.0.0/16", "1.0.0.0/8")
    _, warnings = reviewed(text + one.format("c", "11.0.0.0/8", "1.0.0.0/8"))
    assert [w.partition(" (")[0] for w in warnings] == [
        "policy.toml:6: network_rule[1]: the relation 'b' is never found: 'a' names the same"
    ]
