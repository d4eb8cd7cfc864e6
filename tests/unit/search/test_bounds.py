"""How far in time a query can reach."""

from __future__ import annotations

import math

import pytest

from sluicegate.audit.search import parse_query
from sluicegate.audit.search.bounds import time_bounds

NOW = 1_000_000.0
HOUR = NOW - 3600
DAY = NOW - 86_400


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("", -math.inf, math.inf),
        ("since:1h", HOUR, math.inf),
        ("rule:web since:1h", HOUR, math.inf),
        ("time<1h", -math.inf, HOUR),
        ("time>1d time<=1h", DAY, HOUR),
        ("(since:1d kind:request) since:1h", HOUR, math.inf),
        ("since:1h or kind:request", -math.inf, math.inf),
        ("not since:1h", -math.inf, math.inf),
        ("time:1h,1d", DAY, HOUR),
        ("time!=1h", -math.inf, math.inf),
        ("started>1h", -math.inf, math.inf),
    ],
)
def test_bounds_hold_everything_that_a_query_can_choose(text: str, low: float, high: float) -> None:
    assert time_bounds(parse_query(text, NOW)) == (low, high)
