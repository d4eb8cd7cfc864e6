"""What operators ask the log, what it means, and what is refused with its place."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.audit.search import EVERYTHING, FIELDS, FieldType, QueryRefused, parse_query
from sluicegate.audit.search.fields import KINDS, find_field
from sluicegate.audit.search.matching import predicate_of
from sluicegate.audit.search.query import Compare, Pattern
from sluicegate.audit.search.words import host_of_record, searched_text, texts_searched
from sluicegate.log_limits import (
    QUERY_BYTES_MAX,
    QUERY_DEPTH_MAX,
    QUERY_STARS_MAX,
    QUERY_TERMS_MAX,
    QUERY_VALUES_MAX,
)

NOW = dt.datetime(2026, 11, 28, 12, tzinfo=dt.UTC).timestamp()

REQUEST = {
    "kind": "request",
    "time": NOW - 60,
    "verdict": "allowed",
    "outcome": "refused",
    "client": "10.1.2.3:4711",
    "rule": "web",
    "url": "http://CDN.example.com:8080/files/Tool-7.zip",
    "status": 403,
    "bytes_to_client": 2 << 20,
    "duration_ms": 1500.0,
    "answered_by_gate": True,
    "facts": {"user-agent": "curl/8", "size": 3},
}
DECISION = {
    "kind": "decision",
    "time": NOW - 7200,
    "verdict": "denied",
    "client": "[2001:db8::7]:9",
}
CONNECTION = {
    "kind": "connection",
    "time": NOW - 30,
    "started": NOW - 90,
    "outcome": "released",
    "client": "10.1.2.3:4712",
    "server": "192.0.2.1:21",
    "host": "ftp.example.org",
    "filters": ["ftp_access", "antivirus"],
}
SERVICE = {"kind": "service", "time": NOW - 86_400 * 8, "event": "started"}
RECORDS = {"request": REQUEST, "decision": DECISION, "connection": CONNECTION, "service": SERVICE}


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("", "request decision connection service"),
        ("kind:request", "request"),
        ("kind:request,service", "request service"),
        ("kind=re*", "request"),
        ("kind != request", "decision connection service"),
        ("-kind:request", "decision connection service"),
        ("not kind:request", "decision connection service"),
        ("verdict:refused", "request"),
        ("verdict:released,denied", "decision connection"),
        ("outcome:refused", "request"),
        ("rule:WEB", "request"),
        ('rule:""', "decision connection"),
        ("rule!=web", "decision connection"),
        ("-rule:web", "decision connection service"),
        ("host:cdn.example.com", "request"),
        ("host:*.example.*", "request connection"),
        ('host:"*.example.com"', ""),
        ("client:10.1.2.3", "request connection"),
        ("client:10.0.0.0/8,2001:db8::/32", "request decision connection"),
        ("client!=10.0.0.0/8", "decision"),
        ("server:192.0.2.0/24", "connection"),
        ("status:403", "request"),
        ("status>=400 status<500", "request"),
        ("status:0", ""),
        ("bytes_to_client>1MiB", "request"),
        ("bytes_to_client<=2048K", "request connection"),
        ("bytes_to_client:2097.152KB", "request"),
        ("duration_ms>1s", "request"),
        ("duration_ms:1500", "request"),
        ("answered_by_gate:yes", "request"),
        ("answered_by_gate:no", ""),
        ("facts.user-agent:curl*", "request"),
        ("facts.size:3", "request"),
        ("facts.other:*", "request"),
        ("filters:antivirus", "connection"),
        ("filters:anti*", "connection"),
        ("since:1h", "request connection"),
        ("time>=2026-11-28", "request decision connection"),
        ("time<2026-11-28T11:00Z", "decision service"),
        ("time < 7d", "service"),
        ("started<1m", "connection"),
        ("tool", "request"),
        ("example", "request connection"),
        ("cdn.exam", "request"),
        ('"files tool-7"', "request"),
        ("exampl org", "connection"),
        ('"exampl org"', ""),
        ("xample", ""),
        ("zip ftp", ""),
        ("zip or ftp", "request connection"),
        ("kind:request (status:200 or status:403)", "request"),
        ("kind:request and not (status:200 or status:403)", ""),
        ("kind:decision or kind:request status:200", "decision"),
        ("--kind:request", "request"),
        ("NOT kind:request AND client:10.1.2.3", "connection"),
    ],
)
def test_query_chooses_what_it_says(text: str, chosen: str) -> None:
    passes = predicate_of(parse_query(text, NOW))
    assert [name for name, record in RECORDS.items() if passes(record)] == chosen.split()


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("rul:web", 0, "did you mean 'rule'?"),
        ("web rul:web", 4, "no record has a field 'rul'"),
        ("rule.x:1", 0, "it has no facts"),
        ("facts:1", 0, "facts.NAME"),
        ("(web", 0, "a ) is missing"),
        ("web)", 3, "there is no ( for it"),
        ("()", 1, "a term is missing"),
        ("web or", 6, "a term is missing"),
        ("or web", 0, "a term is missing"),
        ("web and", 7, "a term is missing"),
        ("not", 3, "a term is missing"),
        ('"web', 0, "the quotation mark is not closed"),
        ("rule:", 5, 'an empty one is written ""'),
        ("rule:a,", 7, "a value is missing"),
        ("rule>a", 5, "rule has no order"),
        ("client<10.0.0.1", 7, "client has no order"),
        ("client:example.com", 7, "host:"),
        ("client:10.0.0.1/8", 7, "no address and no network"),
        ("status:4x", 7, "is no number"),
        ("status:inf", 7, "is no number"),
        ("bytes:1mib", 6, "1.5MiB"),
        ("duration_ms:1y", 12, "is no duration"),
        ("answered_by_gate:true", 17, "yes or no"),
        ("since:yesterday", 6, "is no time"),
        ("time>=2026-13-01", 6, "is no time"),
        ("kind:requests", 5, "request, rule-change"),
        ("...", 0, "no letter and no digit"),
        ("host:" + "*a" * (QUERY_STARS_MAX + 1), 5, "more stars than"),
        ("a " * QUERY_TERMS_MAX + "b", 2 * QUERY_TERMS_MAX, "more terms than"),
        ("rule:" + ",".join("a" * (QUERY_VALUES_MAX + 1)), 0, "more values than"),
        ("(" * QUERY_DEPTH_MAX + "a", QUERY_DEPTH_MAX, "goes deeper than"),
        ("-" * QUERY_DEPTH_MAX + "a", QUERY_DEPTH_MAX, "goes deeper than"),
        ("a" * (QUERY_BYTES_MAX + 1), 0, "characters"),
    ],
)
def test_what_means_nothing_is_refused_with_its_place(text: str, position: int, words: str) -> None:
    with pytest.raises(QueryRefused) as refused:
        parse_query(text, NOW)
    assert refused.value.position == position
    assert words in str(refused.value)


def test_refusal_marks_the_place_below_the_query() -> None:
    with pytest.raises(QueryRefused) as refused:
        parse_query("web rul:x", NOW)
    query, mark = str(refused.value).split("\n")
    assert query == "web rul:x"
    assert mark.startswith("    ^ ")


def test_times_without_a_zone_are_in_the_zone_of_whoever_asks() -> None:
    zone = dt.timezone(dt.timedelta(hours=2))
    query = parse_query("time>=2026-11-28T14:00", NOW, zone)
    assert isinstance(query, Compare)
    assert query.values == (NOW,)


def test_empty_query_chooses_everything() -> None:
    assert parse_query(" \t", NOW) == EVERYTHING


def test_every_field_of_the_catalogue_has_a_type_and_is_found() -> None:
    assert {"since", "host", "verdict", "kind", "time"} <= FIELDS.keys()
    for name, field in FIELDS.items():
        assert field.kinds <= KINDS
        assert (find_field(name) is None) is (field.type is FieldType.TABLE)


def test_host_of_a_record_is_the_name_that_was_asked_for() -> None:
    table = [
        ({"host": "a.example", "target": "b.example:1"}, "a.example"),
        ({"url": "https://u:p@a.example/x:9"}, "a.example"),
        ({"url": "http://[2001:db8::1]:80/"}, "2001:db8::1"),
        ({"target": "[2001:db8::1]:80"}, "2001:db8::1"),
        ({"target": "a.example:443"}, "a.example"),
        ({"sni": "A.example"}, "a.example"),
        ({}, ""),
    ]
    assert [host_of_record(fields) for fields, _ in table] == [host for _, host in table]


def test_run_of_words_does_not_go_from_one_field_into_the_next() -> None:
    record = {"host": "a.example", "name": "tool.zip"}
    passes = predicate_of(parse_query('"example tool"', NOW))
    assert not passes(record)
    assert "example" in searched_text(texts_searched(record))


TEXTS = st.text(alphabet='ab_%*\\"-:.,()<>= \n', max_size=30)


@given(text=st.one_of(TEXTS, st.text(max_size=60)))
def test_any_text_is_a_query_or_refused_with_a_place_in_it(text: str) -> None:
    refusal = None
    try:
        query = parse_query(text, NOW)
    except QueryRefused as refused:
        refusal = refused
    if refusal is None:
        assert predicate_of(query)(REQUEST) in {True, False}
    else:
        assert 0 <= refusal.position <= len(text)
        assert refusal.cause


@given(
    text=st.text(alphabet="abA", max_size=12),
    pieces=st.lists(st.text(alphabet="ab", max_size=3), min_size=1, max_size=5),
)
def test_pattern_matches_what_a_database_matches(text: str, pieces: list[str]) -> None:
    import sqlite3

    database = sqlite3.connect(":memory:")
    ((expected,),) = database.execute("SELECT ? LIKE ?", (text, "%".join(pieces)))
    database.close()
    assert Pattern(tuple(pieces)).matches(text) is bool(expected)
