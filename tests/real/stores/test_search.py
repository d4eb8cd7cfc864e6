"""Whatever is asked of whatever records: both databases choose what the test in memory chooses."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sluicegate.audit.search import parse_query
from sluicegate.audit.search.matching import predicate_of
from sluicegate.audit.store import LogPosition, LogStore, StoreReader
from tests.unit.search.test_sql import NOW, QUERIES, records


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(found=st.lists(records(), min_size=1, max_size=4), text=QUERIES)
def test_store_and_memory_choose_the_same(
    store: LogStore, reader: StoreReader, found: list[dict[str, Any]], text: str
) -> None:
    before = store.last
    store.append([json.dumps(one).encode() for one in found], LogPosition(7, before + 1))
    query = parse_query(text, NOW)
    passes = predicate_of(query)
    expected = [number for number, one in enumerate(found, before + 1) if passes(one)]
    assert [one.seq for one in reader.read(query, after=before)] == expected
    if expected:
        newest = reader.search(query, len(expected), seconds_max=60)
        assert [one.seq for one in newest.records] == expected[::-1]
