"""What is kept of a line is what a question in memory finds in it, whatever is written there."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.audit.search.matching import address_key
from sluicegate.audit.search.sql import COLUMNS
from sluicegate.audit.search.words import host_of_record, texts_searched
from sluicegate.audit.store.entry import read_entry
from sluicegate.audit.store.row import Addresses, texts_of

TEXTS = ("request", "client", "peer", "server", "primary", "filter", "ended", "url", "sni", "name")
VALUES = st.one_of(
    st.sampled_from(["", "a", "http://b.example:80/", "//?", "https://u@[::1]:4/", "c:5", "[::2]"]),
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    st.lists(st.text(max_size=3), max_size=2),
    st.dictionaries(st.sampled_from(["connection", "x"]), st.text(max_size=3) | st.none()),
)
NAMES = st.sampled_from(
    [*COLUMNS, *TEXTS, "target", "facts", "bytes_to_client", "bytes_to_server", "duration_ms"]
)


@given(fields=st.dictionaries(NAMES, VALUES, max_size=12))
def test_entry_says_what_the_record_says(fields: dict[str, Any]) -> None:
    line = json.dumps({**fields, "time": 7})
    entry = read_entry(line.encode())
    assert entry is not None
    assert (entry.line, entry.time) == (line, 7.0)
    texts = {name: value for name, value in fields.items() if isinstance(value, str)}
    assert entry.host == host_of_record(fields)
    assert entry.searched == texts_searched(fields)
    expected = [texts.get(name, "") for name in COLUMNS if name != "host"]
    assert [one for one, name in zip(texts_of(entry), COLUMNS, strict=True) if name != "host"] == (
        expected
    )
    for name in ("client", "server", "peer", "request", "filter"):
        assert getattr(entry, name) == texts.get(name, "")
    assert entry.ended == (texts.get("ended") or texts.get("reason", ""))
    facts = fields.get("facts")
    connection = facts.get("connection") if isinstance(facts, dict) else None
    assert entry.parent == (texts.get("primary") or connection or "")
    for name in ("bytes_to_client", "bytes_to_server", "duration_ms"):
        value = fields.get(name)
        number = min(value, 1 << 53) if isinstance(value, int | float) else 0
        assert getattr(entry, name) == (int(number) if name != "duration_ms" else number)


@pytest.mark.parametrize(
    "line",
    [b"", b"{", b"[]", b"7", b'{"time":1,"x":"\xff"}', b'{"time":1,"x":"\\ud800"}',
     b'{"time":1,"x":1e999}', b'{"kind":"note"}', b'{"time":"1"}', b'{"time":-1}',
     b'{"time":1e11}', b'{"time":1,"x":' + b"[" * 100_000, b'{"time":1,"x":"' + b"a" * (1 << 20)],
    ids=range(13),
)  # fmt: skip
def test_line_that_is_no_record_has_no_entry(line: bytes) -> None:
    assert read_entry(line) is None


@pytest.mark.parametrize(
    ("written", "host"),
    [
        ("10.0.0.1:40000", "10.0.0.1"),
        ("10.0.0.1", "10.0.0.1"),
        ("[2001:db8::1]:40000", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("2001:db8::2", "2001:db8::2"),
        ("name:80", "name"),
        ("", ""),
    ],
)
def test_address_is_the_one_that_is_written_whatever_came_before(written: str, host: str) -> None:
    addresses = Addresses()
    for other in ("2001:db8::3", "10.0.0.1:1", "[2001:db8::1]:9", "[2001:db8::1]", written):
        found = addresses.of(other)
    assert (found.key, found.host) == (address_key(written), host)
    assert bool(found.terms) is bool(found.key)
