"""Conditions of rules: when each holds, what is decided of what has not shown itself, and why."""

# ruff: noqa: E501 - one line a case

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import replace

import pytest

from sluicegate.identity import User
from sluicegate.identity.passwords import DEFAULT_COST, make_dummy_hash
from sluicegate.names import canonical_host, classify
from sluicegate.policy import (
    DestinationRequest,
    HttpPart,
    Level,
    PolicySnapshot,
    RuleAction,
    TransferPart,
    decide_association,
    decide_destination,
    decide_transfer,
    explain_destination,
)
from tests.unit.policy_kit import policy, rule

NOW = dt.datetime(2026, 11, 25, 12, 0, tzinfo=dt.UTC).timestamp()  # a Wednesday
CLIENT = ipaddress.ip_address("10.1.1.1")
ANN = User("ann", make_dummy_hash(DEFAULT_COST), ("staff",))
SHOWS = {"ftp_access": Level.TRANSFER, "http": Level.REQUEST | Level.TRANSFER}

OBJECTS = """
[objects.schedules.work-hours]
time_zone = "Europe/Berlin"
weekly = ["mon-fri 09:00-17:00"]
dates_off = [2026-12-25]
"""


def snapshot(*rules: str) -> PolicySnapshot:
    return PolicySnapshot(policy(OBJECTS + "".join(rules)), SHOWS)


def ask(host: str = "a.example.org", port: int = 443, **keys: object) -> DestinationRequest:
    client = ipaddress.ip_address(str(keys.pop("client", CLIENT)))
    return DestinationRequest(client, canonical_host(host), port, **keys)  # type: ignore[arg-type]


def decide(compiled: PolicySnapshot, request: DestinationRequest, now: float = NOW):
    decision = decide_destination(compiled.rules_of("proxy"), request, now)
    explained = explain_destination(compiled.rules_of("proxy"), request, now).decision
    assert (decision.rule, decision.reason, decision.asks_again) == (
        explained.rule, explained.reason, explained.asks_again,
    )  # fmt: skip
    return decision


def at(text: str) -> float:
    return dt.datetime.fromisoformat(text).timestamp()


GET = HttpPart("GET", "/stable/x", "https")
PDF = TransferPart("application/pdf", ".pdf")

HOLDS = [
    # clients
    ({}, ask(client="10.255.255.255"), NOW, True),
    ({}, ask(client="11.0.0.0"), NOW, False),
    ({"clients_except": '["10.1.1.0/24"]'}, ask(), NOW, False),
    ({"clients_except": '["10.1.1.2"]'}, ask(), NOW, True),
    # protocols
    ({"protocols": '["@https"]'}, ask(), NOW, True),
    ({"protocols": '["@http", "udp:443"]'}, ask(), NOW, False),
    ({"protocols": '["@http", "udp:443"]'}, ask(protocol="udp"), NOW, True),
    ({"protocols": '["tcp"]', "protocols_except": '["@smtp", "tcp:400-500"]'}, ask(), NOW, False),
    ({"protocols": '["tcp"]', "protocols_except": '["@smtp", "tcp:400-500"]'}, ask(port=501), NOW, True),
    ({"protocols": "", "protocols_except": '["@smtp"]'}, ask(port=25), NOW, False),
    ({"protocols": "", "protocols_except": '["@smtp"]'}, ask(protocol="udp", port=25), NOW, True),
    # destinations
    ({"to": '["*.example.org"]', "to_except": '["a.example.org"]'}, ask(), NOW, False),
    ({"to": '["*.example.org"]', "to_except": '["*.a.example.org"]'}, ask(), NOW, True),
    ({"to": '["*"]', "to_except": '["198.51.100.0/24"]'}, ask("198.51.100.9"), NOW, False),
    ({"to": '["*"]', "to_except": '["1.0.0.0/8"]'}, ask("1.1.1.1"), NOW, False),
    ({"to": '["*"]', "to_except": '["1.0.0.0/8"]'}, ask("64:ff9b::101:101"), NOW, False),
    ({"to": '["*"]', "to_except": '["1.0.0.0/8"]'}, ask("9.9.9.9"), NOW, True),
    # time
    ({"schedule": '"work-hours"'}, ask(), NOW, True),
    ({"schedule": '"work-hours"'}, ask(), at("2026-11-25T08:59:59+01:00"), False),
    ({"schedule": '"work-hours"'}, ask(), at("2026-11-25T09:00:00+01:00"), True),
    ({"schedule": '"work-hours"'}, ask(), at("2026-11-25T17:00:00+01:00"), False),
    ({"schedule": '"work-hours"'}, ask(), at("2026-11-28T12:00:00+01:00"), False),
    ({"schedule": '"work-hours"'}, ask(), at("2026-12-25T12:00:00+01:00"), False),
    ({"schedule": '"work-hours"'}, ask(), at("2026-07-01T09:00:00+02:00"), True),
    ({"expires": "2026-11-25T12:00:00Z"}, ask(), NOW, False),
    ({"expires": "2026-11-25T12:00:01Z"}, ask(), NOW, True),
    ({"enabled": "false"}, ask(), NOW, False),
    # users
    ({"users": '["ann"]'}, ask(user=ANN), NOW, True),
    ({"users": '["group:staff"]'}, ask(user=ANN), NOW, True),
    ({"users": '["*"]'}, ask(user=ANN), NOW, True),
    ({"users": '["bob", "group:ci"]'}, ask(user=ANN), NOW, False),
    # HTTP requests
    ({"methods": '["GET"]'}, ask(http=GET), NOW, True),
    ({"methods": '["HEAD"]'}, ask(http=GET), NOW, False),
    ({"paths": '["/stable/*"]'}, ask(http=GET), NOW, True),
    ({"paths": '["/stable"]'}, ask(http=GET), NOW, False),
    ({"paths": '[{ pattern = "/sta[a-z]+/." }]'}, ask(http=GET), NOW, True),
    ({"paths": '[{ pattern = "/sta[a-z]+" }]'}, ask(http=GET), NOW, False),
    ({"to": '["https://a.example.org/stable/*"]'}, ask(http=GET), NOW, True),
    ({"to": '["http://a.example.org:443/stable/*"]'}, ask(http=GET), NOW, False),
    ({"to": '["https://a.example.org/other/*"]'}, ask(http=GET), NOW, False),
    ({"to": '["https://a.example.org:8443/*"]'}, ask(http=GET), NOW, False),
    ({"to": '["*"]', "to_except": '["https://a.example.org/stable/*"]'}, ask(http=GET), NOW, False),
    ({"to": '["https://1.1.1.1/*"]'}, ask("1.1.1.1"), NOW, True),
    # transfers
    ({"content_types": '["@documents"]'}, ask(transfer=PDF), NOW, True),
    ({"content_types": '["application/*"]'}, ask(transfer=PDF), NOW, True),
    ({"content_types": '["image/*", ".pdf"]'}, ask(transfer=PDF), NOW, False),
    ({"content_types": '["image/*", ".pdf"]'}, ask(transfer=TransferPart("", ".pdf")), NOW, True),
    ({"content_types": '["image/*", ".pdf"]'}, ask(transfer=TransferPart()), NOW, False),
]  # fmt: skip


@pytest.mark.parametrize(("keys", "request_", "now", "allowed"), HOLDS)
def test_condition_holds_exactly_for_what_it_says(
    keys: dict[str, str], request_: DestinationRequest, now: float, allowed: bool
) -> None:
    decision = decide(snapshot(rule(**keys)), request_, now)
    assert (decision.is_allowed, decision.reason) == (
        (True, "allowed-by-rule") if allowed else (False, "no-rule")
    )


ALL = rule(name='"all"', to='["*"]', protocols='["tcp"]')
FTP = rule(name='"ftp"', to='["*"]', protocols='["tcp"]', filters='["ftp_access"]')
HTTP = rule(name='"http"', to='["*"]', protocols='["tcp"]', filters='["http"]')


def refuse(**keys: str) -> str:
    return rule(name='"no"', action='"deny"', protocols="", **{"to": '["*"]', **keys})


UNSEEN = [
    # a rule that allows matches only if somebody will ask
    ((rule(methods='["GET"]'),), Level.NONE, None, "no-rule", Level.NONE),
    ((rule(methods='["GET"]', filters='["ftp_access"]'),), Level.NONE, None, "no-rule", Level.NONE),
    ((rule(methods='["GET"]', filters='["http"]'),), Level.NONE, "one", "allowed-by-rule", Level.REQUEST),
    ((rule(methods='["GET"]'),), Level.REQUEST, "one", "allowed-by-rule", Level.REQUEST),
    ((rule(content_types='[".pdf"]'), ALL), Level.NONE, "all", "allowed-by-rule", Level.NONE),
    ((rule(content_types='[".pdf"]', filters='["ftp_access"]'), ALL), Level.NONE, "one", "allowed-by-rule", Level.TRANSFER),
    ((rule(to='["https://a.example.org/x/*"]'),), Level.NONE, None, "no-rule", Level.NONE),
    ((rule(to='["https://a.example.org/x/*"]', filters='["http"]'),), Level.NONE, "one", "allowed-by-rule", Level.REQUEST),
    # the whole site needs no path
    ((rule(to='["https://a.example.org/*"]'),), Level.NONE, "one", "allowed-by-rule", Level.NONE),
    # a rule that refuses and may match refuses unless somebody will ask
    ((refuse(methods='["POST"]'), ALL), Level.NONE, "no", "cannot-be-judged", Level.NONE),
    ((refuse(methods='["POST"]'), FTP), Level.NONE, "no", "cannot-be-judged", Level.NONE),
    ((refuse(methods='["POST"]'), HTTP), Level.NONE, "http", "allowed-by-rule", Level.REQUEST),
    ((refuse(methods='["POST"]'), ALL), Level.REQUEST, "all", "allowed-by-rule", Level.REQUEST),
    ((refuse(content_types='["@application"]'), ALL), Level.NONE, "no", "cannot-be-judged", Level.NONE),
    ((refuse(content_types='["@application"]'), FTP), Level.NONE, "ftp", "allowed-by-rule", Level.TRANSFER),
    ((refuse(to='["https://a.example.org/x"]'), ALL), Level.NONE, "no", "cannot-be-judged", Level.NONE),
    ((refuse(to='["https://b.example.org/x"]'), ALL), Level.NONE, "all", "allowed-by-rule", Level.NONE),
    ((refuse(to='["https://a.example.org:444/x"]'), ALL), Level.NONE, "all", "allowed-by-rule", Level.NONE),
    ((refuse(to_except='["https://a.example.org/x"]'), ALL), Level.NONE, "no", "cannot-be-judged", Level.NONE),
    # behind the rule that decides it does not count
    ((ALL, refuse(methods='["POST"]')), Level.NONE, "all", "allowed-by-rule", Level.NONE),
    # nothing allows it: it is refused for that
    ((refuse(methods='["POST"]'),), Level.NONE, None, "no-rule", Level.NONE),
    ((refuse(methods='["POST"]'), refuse().replace('"no"', '"all"')), Level.NONE, "all", "denied-by-rule", Level.NONE),
]  # fmt: skip


@pytest.mark.parametrize(("rules", "asker", "name", "reason", "again"), UNSEEN)
def test_what_has_not_shown_itself_is_neither_met_nor_missed(
    rules: tuple[str, ...], asker: Level, name: str | None, reason: str, again: Level
) -> None:
    decision = decide(snapshot(*rules), ask(asks_again=asker))
    assert (decision.rule.name if decision.rule else None, decision.reason) == (name, reason)
    assert decision.asks_again == again
    assert decision.is_allowed == (reason == "allowed-by-rule")


def test_rule_that_resets_says_so_and_one_that_cannot_be_judged_denies() -> None:
    reset = snapshot(rule(action='"reset"', protocols=""))
    assert decide(reset, ask()).action is RuleAction.RESET
    unseen = snapshot(rule(action='"reset"', protocols="", methods='["GET"]'), ALL)
    assert decide(unseen, ask()).action is RuleAction.DENY
    assert decide(snapshot(), ask()).action is RuleAction.DENY
    inspect = snapshot(rule(action='"inspect"', filters='["http"]'))
    assert decide(inspect, ask()).action is RuleAction.INSPECT


ALIASES = [
    (refuse(to='["cdn.example.net"]'), ALL, "cdn.example.net", False),
    (refuse(to='["*.example.net"]', to_except='["cdn.example.net"]'), ALL, "cdn.example.net", True),
    (refuse(to_except='["a.example.org"]'), ALL, "cdn.example.net", True),
    (refuse(to='["cdn.example.net"]', clients='["10.2.0.0/16"]'), ALL, "cdn.example.net", True),
    (refuse(to='["cdn.example.net"]', schedule='"work-hours"'), ALL, "cdn.example.net", False),
    (refuse(to='["cdn.example.net"]', expires="2026-01-01T00:00:00Z"), ALL, "cdn.example.net", True),
    (refuse(to='["cdn.example.net"]', enabled="false"), ALL, "cdn.example.net", True),
    (refuse(to='["cdn.example.net"]', methods='["GET"]'), ALL, "cdn.example.net", False),
    (refuse(to='["cdn.example.net"]', methods='["GET"]'), HTTP, "cdn.example.net", True),
    ("", rule(to='["*"]', to_except='["cdn.example.net"]'), "cdn.example.net", False),
]  # fmt: skip


@pytest.mark.parametrize(("first", "second", "alias", "passes"), ALIASES)
def test_conditions_count_for_aliases_too(
    first: str, second: str, alias: str, passes: bool
) -> None:
    decision = decide(snapshot(first, second), ask())
    assert decision.is_allowed
    found = decision.judge_alias(canonical_host("a.example.org"), canonical_host(alias), 443)
    assert (found is None) == passes


ADDRESSES = [
    (refuse(to='["1.0.0.0/8"]'), ALL, "1.1.1.1", False),
    (refuse(to='["1.0.0.0/8"]', to_except='["1.1.0.0/16"]'), ALL, "1.1.1.1", True),
    (refuse(to='["1.0.0.0/8"]', to_except='["1.1.0.0/16"]'), ALL, "1.2.1.1", False),
    (refuse(to_except='["a.example.org"]'), ALL, "1.1.1.1", True),
    (refuse(to='["1.0.0.0/8"]', schedule='"work-hours"'), ALL, "1.1.1.1", False),
    (refuse(to='["1.0.0.0/8"]', clients_except='["10.1.1.1"]'), ALL, "1.1.1.1", True),
    (refuse(to='["1.0.0.0/8"]', content_types='[".exe"]'), ALL, "1.1.1.1", False),
    (refuse(to='["1.0.0.0/8"]', content_types='[".exe"]'), FTP, "1.1.1.1", True),
    ("", rule(to='["*"]', to_except='["1.1.0.0/16"]'), "1.1.1.1", False),
    ("", rule(to='["*"]', to_except='["1.1.0.0/16"]'), "1.2.1.1", True),
    ("", rule(to='["*"]', to_except='["1.1.0.0/16"]'), "64:ff9b::101:101", False),
    ("", ALL, "10.2.2.2", False),
    ("", rule(to='["*", "10.2.0.0/16"]'), "10.2.2.2", True),
    ("", rule(to='["*", "169.254.0.0/16"]'), "169.254.169.254", False),
    ("", rule(to='["*", "169.254.169.254"]'), "169.254.169.254", True),
]  # fmt: skip


@pytest.mark.parametrize(("first", "second", "address", "passes"), ADDRESSES)
def test_conditions_count_for_addresses_too(
    first: str, second: str, address: str, passes: bool
) -> None:
    decision = decide(snapshot(first, second), ask())
    assert decision.is_allowed
    judgement = classify(ipaddress.ip_address(address))
    found = decision.judge_address(canonical_host("a.example.org"), judgement, 443)
    assert (found is None) == passes


LEARN = """
[[learn]]
name = "runner"
clients = ["10.1.0.0/16"]
until = 2026-11-26T00:00:00Z
"""


def test_learning_lets_pass_what_no_rule_speaks_of_and_nothing_else() -> None:
    compiled = snapshot(refuse(to='["bad.example.org", "1.0.0.0/8"]'), LEARN)
    decision = decide(compiled, ask())
    assert (decision.is_allowed, decision.reason) == (True, "learning")
    assert decision.rule is not None
    assert decision.rule.name == "learn:runner"
    host = canonical_host("a.example.org")
    for address, passes in [("9.9.9.9", True), ("1.1.1.1", False), ("10.2.2.2", False)]:
        judgement = classify(ipaddress.ip_address(address))
        assert (decision.judge_address(host, judgement, 443) is None) == passes
    assert decide(compiled, ask("bad.example.org")).reason == "denied-by-rule"
    assert decide(compiled, ask("10.2.2.2")).reason == "no-rule"
    assert decide(compiled, ask(client="10.2.1.1")).reason == "no-rule"
    assert decide(compiled, ask(), at("2026-11-26T00:00:00Z")).reason == "no-rule"
    index = compiled.rules_of("proxy")
    assert decide_association(index, CLIENT, None, NOW)[1] == "learning"
    assert index is not None
    assert index.clients.covers(CLIENT)


def test_learning_does_not_answer_for_a_rule_that_may_refuse() -> None:
    compiled = snapshot(refuse(methods='["POST"]'), LEARN)
    assert decide(compiled, ask()).reason == "cannot-be-judged"


def transfer(*rules: str, admitted: str = "ftp", part: TransferPart = PDF) -> tuple[bool, str]:
    compiled = snapshot(*rules)
    by = next(one for one in compiled.policy.rules if one.name == admitted)
    found = decide_transfer(compiled.rules_of("proxy"), ask(), part, by, NOW)
    return found.is_allowed, found.reason


TYPED = rule(
    name='"ftp"', to='["*"]', protocols='["tcp"]', filters='["ftp_access"]',
    content_types='["@documents"]',
)  # fmt: skip


@pytest.mark.parametrize(
    ("rules", "part", "expected"),
    [
        ((FTP,), PDF, (True, "allowed-by-rule")),
        ((TYPED,), PDF, (True, "allowed-by-rule")),
        ((TYPED,), TransferPart("", ".exe"), (False, "no-rule")),
        ((TYPED,), TransferPart(), (False, "no-rule")),
        ((TYPED, ALL), TransferPart("", ".exe"), (False, "needs-other-filters")),
        ((TYPED, FTP.replace('"ftp"', '"rest"')), TransferPart("", ".exe"), (True, "allowed-by-rule")),
        ((refuse(content_types='["@documents"]'), FTP), PDF, (False, "denied-by-rule")),
        ((refuse(content_types='["@images"]'), FTP), PDF, (True, "allowed-by-rule")),
        ((FTP, refuse(content_types='["@documents"]')), PDF, (True, "allowed-by-rule")),
    ],
)  # fmt: skip
def test_objects_are_decided_by_the_whole_policy(
    rules: tuple[str, ...], part: TransferPart, expected: tuple[bool, str]
) -> None:
    assert transfer(*rules, part=part) == expected


def test_association_needs_a_rule_about_datagrams_at_that_time() -> None:
    compiled = snapshot(
        rule(name='"a"', protocols='["udp:53"]', schedule='"work-hours"'),
        rule(name='"b"', protocols='["udp"]', users='["ann"]'),
    )
    index = compiled.rules_of("proxy")
    found, _ = decide_association(index, CLIENT, None, NOW)
    assert found is not None
    assert found.name == "a"
    night = at("2026-11-25T23:00:00Z")
    assert decide_association(index, CLIENT, None, night) == (None, "user-needed")
    assert decide_association(index, ipaddress.ip_address("11.1.1.1"), None, NOW)[1] == "no-rule"
    assert decide_association(None, CLIENT, None, NOW) == (None, "no-rule")


def test_explanation_names_all_that_each_rule_before_lacked() -> None:
    compiled = snapshot(
        rule(name='"off"', enabled="false"),
        rule(name='"other"', clients='["10.2.0.0/16"]', protocols='["tcp:80"]'),
        rule(name='"night"', schedule='"work-hours"', expires="2026-01-01T00:00:00Z"),
        rule(name='"seen"', methods='["GET"]'),
        rule(name='"staff"', users='["group:staff"]'),
        ALL,
        rule(name='"never"'),
    )
    found = explain_destination(compiled.rules_of("proxy"), ask(), at("2026-11-25T23:00:00Z"))
    assert found.decision.rule is not None
    assert found.decision.rule.name == "all"
    assert [(one.rule.name, [lack.text for lack in one.lacks]) for one in found.before] == [
        ("off", ["it is not enabled"]),
        ("other", ["the client is none of its clients", "tcp:443 is none of its protocols"]),
        ("night", ["it has expired", "its schedule 'work-hours' is not active then"]),
        ("seen", ["no HTTP request has been seen"]),
        ("staff", ["the client has not proved who it is"]),
    ]
    assert found.before[1].written == ("10.2.0.0/16",)
    assert found.before[3].lacks[0].is_unknown
    assert found.decider is not None
    assert found.decider.lacks == ()


def test_listeners_choose_their_rules() -> None:
    compiled = snapshot(
        rule(name='"a"', listener='"one"'),
        rule(name='"b"', listener='["one", "two"]', protocols='["tcp"]'),
        rule(name='"c"', protocols='["tcp"]'),
    )
    names = [
        decision.rule.name
        for listener in ("one", "two", "three")
        if (decision := decide_destination(compiled.rules_of(listener), ask(), NOW)).rule
    ]
    assert names == ["a", "b", "c"]


def test_next_change_is_the_first_of_all() -> None:
    compiled = snapshot(
        rule(name='"a"', schedule='"work-hours"'),
        rule(name='"b"', expires="2026-11-25T15:00:00Z"),
        rule(name='"c"', expires="2026-11-25T13:00:00Z", enabled="false"),
        LEARN,
    )
    assert compiled.next_change(NOW) == at("2026-11-25T15:00:00Z")
    assert compiled.next_change(at("2026-11-25T15:00:00Z")) == at("2026-11-25T17:00:00+01:00")
    assert compiled.next_change(at("2026-11-25T17:00:00+01:00")) == at("2026-11-26T00:00:00Z")
    assert snapshot(rule()).next_change(NOW) == float("inf")


def test_hash_covers_what_objects_stand_for_and_not_what_they_are_called() -> None:
    def of(objects: str, **keys: str) -> str:
        return PolicySnapshot(policy(OBJECTS + objects + rule(**keys))).hash

    plain = of("", clients='["10.0.0.0/8", "192.0.2.0/24"]')
    named = '[objects.networks]\n{} = ["192.0.2.0/24", "10.0.0.0/8"]\n'
    assert of(named.format("x"), clients='["@x"]') == plain
    assert of(named.format("y"), clients='["@y"]') == plain
    assert of(named.format("y").replace("/8", "/9"), clients='["@y"]') != plain
    changed = [
        {"schedule": '"work-hours"'}, {"expires": "2027-01-01T00:00:00Z"}, {"enabled": "false"},
        {"clients_except": '["10.1.0.0/16"]'}, {"to_except": '["b.example.org"]'},
        {"protocols_except": '["tcp:1"]'}, {"methods": '["GET"]'}, {"paths": '["/a"]'},
        {"paths": '[{ pattern = "/a" }]'}, {"content_types": '[".pdf"]'}, {"action": '"deny"'},
        {"limits": "{ connections_max = 1 }"}, {"listener": '["a", "b"]'}, {"to": '["*"]'},
    ]  # fmt: skip
    assert len({of(""), *(of("", **keys) for keys in changed)}) == 1 + len(changed)
    assert of("", to='["*"]', filters='["a"]') != of("", to='["*"]', filters='["b"]')


def test_request_with_more_known_is_another_question() -> None:
    compiled = snapshot(rule(methods='["GET"]', filters='["http"]'))
    first = ask()
    assert decide(compiled, first).asks_again == Level.REQUEST
    again = decide(compiled, replace(first, http=HttpPart("POST", "/")))
    assert (again.is_allowed, again.reason) == (False, "no-rule")


@pytest.mark.parametrize(
    ("keys", "is_allowed"),
    [
        ({"action": '"deny"', "to": '["https://a.example.org/*"]'}, False),
        ({"action": '"deny"', "to": '["https://a.example.org/x/*"]'}, False),
        ({"action": '"deny"', "to": '["*"]', "to_except": '["https://a.example.org/*"]'}, False),
        ({"action": '"deny"', "to": '["https://a.example.org:8443/*"]'}, True),
        ({"action": '"deny"', "to": '["http://a.example.org:443/*"]'}, True),
        ({"action": '"allow"', "to": '["https://a.example.org/*"]'}, True),
        ({"action": '"allow"', "to": '["*"]', "to_except": '["https://a.example.org/*"]'}, True),
    ],
)
def test_a_refused_site_is_refused_by_http_3_too_and_an_allowed_one_is_not_allowed_by_it(
    keys: dict[str, str], is_allowed: bool
) -> None:
    first = rule(protocols="" if "deny" in keys["action"] else '["udp:443"]', **keys)
    last = rule(name='"last"', to='["*"]', protocols='["udp:443"]')
    decision = decide(snapshot(first, last), ask(protocol="udp"))
    assert decision.is_allowed is is_allowed
    if is_allowed:
        assert decision.rule is not None
        assert decision.rule.name == "last"
