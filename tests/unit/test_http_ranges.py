"""Ranges: one plain range is a part, everything else the whole (group K5)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.protocols.http_ranges import (
    RangeUnsatisfiable,
    asked_range,
    content_range,
    may_have_part,
)

SIZE = 1000


@pytest.mark.parametrize(
    ("value", "part"),
    [
        (b"bytes=0-0", range(1)),
        (b"bytes=0-999", range(1000)),
        (b"Bytes=10-19", range(10, 20)),
        (b"bytes=990-", range(990, 1000)),
        (b"bytes=990-5000", range(990, 1000)),
        (b"bytes=-5", range(995, 1000)),
        (b"bytes=-5000", range(1000)),
        (b" bytes= 1-2 ", range(1, 3)),
    ],
)
def test_a_range_means_these_bytes(value: bytes, part: range) -> None:
    asked = asked_range([value])
    assert asked is not None
    assert asked.of(SIZE) == part


@pytest.mark.parametrize("value", [b"bytes=1000-", b"bytes=5000-6000", b"bytes=-0"])
def test_a_range_behind_the_end_means_nothing(value: bytes) -> None:
    asked = asked_range([value])
    assert asked is not None
    with pytest.raises(RangeUnsatisfiable):
        asked.of(SIZE)


@pytest.mark.parametrize(
    "values",
    [
        [],
        [b""],
        [b"bytes=-"],
        [b"bytes=2-1"],
        [b"bytes=0-1,5-6"],
        [b"bytes=0-1", b"bytes=2-3"],
        [b"items=0-1"],
        [b"bytes=+1-2"],
        [b"bytes=1-2x"],
        [b"bytes=0x1-2"],
        [b"bytes=" + b"1" * 19 + b"-"],
        [b"bytes=1\n-2"],
    ],
)
def test_everything_else_is_answered_with_the_whole(values: list[bytes]) -> None:
    assert asked_range(values) is None


@given(st.binary(max_size=40), st.integers(0, 100))
def test_whatever_is_asked_lies_within_the_object(value: bytes, size: int) -> None:
    asked = asked_range([b"bytes=" + value])
    if asked is None:
        return
    try:
        part = asked.of(size)
    except RangeUnsatisfiable:
        return
    assert 0 <= part.start < part.stop <= size


@pytest.mark.parametrize(
    ("condition", "etags", "dates", "holds"),
    [
        (None, [], [], True),
        (b'"a"', [b'"a"'], [], True),
        (b'"a"', [b'"b"'], [], False),
        (b'"a"', [], [], False),
        (b'"a"', [b'W/"a"'], [], False),
        (b'W/"a"', [b'W/"a"'], [], False),
        (b'W/"a"', [], [b'W/"a"'], False),
        (b'"a"', [b'"a"', b'"a"'], [], False),
        (b"Sat, 28 Nov 2026 10:00:00 GMT", [], [b"Sat, 28 Nov 2026 10:00:00 GMT"], True),
        (b"Sat, 28 Nov 2026 10:00:00 GMT", [], [b"Sat, 28 Nov 2026 10:00:01 GMT"], False),
        (b"Sat, 28 Nov 2026 10:00:00 GMT", [b'"a"'], [], False),
    ],
)
def test_a_condition_holds_only_for_the_same_object(
    condition: bytes | None, etags: list[bytes], dates: list[bytes], holds: bool
) -> None:
    assert may_have_part(condition, etags, dates) is holds


def test_a_content_range_says_which_part_of_how_many_bytes() -> None:
    assert content_range(range(5, 10), 100) == b"bytes 5-9/100"
    assert content_range(None, 100) == b"bytes */100"
