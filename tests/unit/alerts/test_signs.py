"""A line that has no sign is of a record that no alert is about."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.audit.alerts.predefined import PREDEFINED
from sluicegate.audit.alerts.signs import may_be_chosen, signs_of
from sluicegate.audit.search import parse_query
from sluicegate.audit.search.matching import predicate_of

QUERIES = [
    *(rule.query for rule in PREDEFINED.values() if rule.query),
    "kind:request reason:malware* or ended:other-thing*",
    "kind:request status:404",
    "kind:request url:*secret*path*",
    "host:evil.example",
    "-reason:server-*",
    'reason:server-a or reason:""',
    "reason!=server-certificate-expired",
    "kind:request (reason:late-one verdict:denied)",
    "rule:web",
    "evil",
]
WORDS = ["server-certificate-expired", "Server-A", "MALWARE: x", "", "late-one", "ü", '"', "\x01"]
TEXTS = st.lists(st.sampled_from(WORDS), max_size=2).map("".join) | st.text(max_size=5)
RECORDS = st.fixed_dictionaries(
    {"kind": st.sampled_from(["request", "connection", "transfer", "limit", "process"])},
    optional={
        **dict.fromkeys(("reason", "ended", "verdict", "tls_verification", "rule", "limit"), TEXTS),
        "url": st.sampled_from(
            ["https://evil.example/", "http://a/SECRET/my-path", "http://[::1]/"]
        ),
        "status": st.sampled_from([200, 404]),
        "records_lost": st.integers(0, 2),
    },
)


@pytest.mark.parametrize("query", QUERIES)
@given(record=RECORDS)
def test_what_a_query_chooses_has_a_sign(query: str, record: dict[str, object]) -> None:
    parsed = parse_query(query, 0.0)
    if predicate_of(parsed)(record):
        signs = signs_of(parsed, str(record["kind"]))
        assert may_be_chosen(msgspec.json.encode(record), signs)
        assert may_be_chosen(msgspec.json.encode(record).upper(), signs)


CASES = [
    ("kind:request reason:server-*", b'{"kind":"request","reason":"server-gone"}', True),
    ("kind:request reason:server-*", b'{"kind":"request","server":"10.1.1.1:80"}', False),
    ("kind:request reason:server-*", b'{"kind":"request","reason":"\\u0001"}', True),
    ("kind:transfer reason:server-*", b'{"kind":"request","reason":"server-gone"}', False),
    ("kind:request status:404", b'{"kind":"request","status":200}', True),
    ("kind:request -reason:server-*", b'{"kind":"request"}', True),
    ("kind:request reason:a*", b'{"kind":"request"}', True),
    ("(kind:request reason:gone*) or (kind:request ended:late*)", b'{"kind":"request"}', False),
]


@pytest.mark.parametrize(("query", "line", "may_be"), CASES)
def test_lines_without_a_sign_are_not_looked_at(query: str, line: bytes, may_be: bool) -> None:
    assert may_be_chosen(line, signs_of(parse_query(query, 0.0), "request")) is may_be
