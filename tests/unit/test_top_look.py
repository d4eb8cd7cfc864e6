"""What ``sluicegate top`` makes of two looks at a gate, and how it finds rows."""

from __future__ import annotations

import pytest

from sluicegate.cli.top.gauges import drawn
from sluicegate.cli.top.listings import LISTINGS
from sluicegate.cli.top.look import Look, rates_between
from sluicegate.cli.top.sieve import sieve_of
from sluicegate.gate.views import ConnectionView, StatusView
from tests.kernel.top_kit import connection_view
from tests.status_views import status_view


def status(boot: str = "b", to_client: int = 0, allowed: int = 0) -> StatusView:
    return status_view(boot=boot, bytes_to_client=to_client, connections_allowed=allowed)


def look(at: float, view: StatusView, *rows: ConnectionView, spliced: float = 0.0) -> Look:
    return Look(
        time=at,
        monotonic=at,
        status=view,
        connections=list(rows),
        bytes_by_path={"spliced": spliced},
    )


def test_bytes_count_as_they_move_and_once_when_the_connection_ends() -> None:
    begun = look(0.0, status(), connection_view(bytes_to_client=100))
    moved = look(2.0, status(), connection_view(bytes_to_client=300))
    ended = look(4.0, status(to_client=300), spliced=300.0)
    first, second = rates_between(begun, moved), rates_between(moved, ended)
    assert first is not None
    assert second is not None
    assert (first.bytes_to_client, second.bytes_to_client) == (100.0, 0.0)
    assert (first.bytes_by_path, second.bytes_by_path) == ({"spliced": 0.0}, {"spliced": 150.0})


@pytest.mark.parametrize(
    ("kept", "columns", "shown"),
    [
        ([], 3, [0, 0, 0]),
        ([5], 3, [0, 0, 5]),
        ([5, 6], 3, [0, 5, 6]),
        ([4, 5, 6, 7], 3, [0, 6, 7]),
        ([5, 6], 1, [0]),
        ([5, 6], 0, []),
    ],
)
def test_lines_begin_at_nothing_and_end_now(
    kept: list[float], columns: int, shown: list[float]
) -> None:
    assert drawn(kept, columns) == shown


def test_counters_that_begin_again_are_no_negative_rates() -> None:
    found = rates_between(look(0.0, status(allowed=90)), look(1.0, status(allowed=3)))
    assert found is not None
    assert found.allowed == 0.0


@pytest.mark.parametrize(("boot", "seconds"), [("other", 1.0), ("b", 0.0)])
def test_there_are_no_rates_over_a_restart_or_no_time(boot: str, seconds: float) -> None:
    assert rates_between(look(0.0, status()), look(seconds, status(boot))) is None


def test_orders_of_a_column_are_of_one_type_and_titles_fit_rows() -> None:
    seen = look(2_000.0, status(), connection_view(1), connection_view(2, rule=""))
    for listing in LISTINGS:
        rows = listing.rows(seen)
        for row in rows:
            assert len(row.cells) == len(listing.titles)
        for column in zip(*(row.cells for row in rows), strict=True):
            assert len({isinstance(cell.order, str) for cell in column}) == 1


@pytest.mark.parametrize(
    ("typed", "is_asked", "is_chosen"),
    [
        ("rule:web", True, True),
        ("rule:mail", True, False),
        ("rule:web", False, False),  # no query here: the row has no such word
        ("10.0.0.1:5000", True, True),  # an address and its port are words
        ("nofield:web", True, False),
        ("-rule:mail server:192.0.2.0/24", True, True),
        ("(rule:web or rule:mail) duration_s>60", True, True),
    ],
)
def test_words_and_queries_are_told_apart(typed: str, is_asked: bool, is_chosen: bool) -> None:
    (row,) = LISTINGS[0].rows(look(2_000.0, status(), connection_view()))
    assert sieve_of(typed, 2_000.0, is_asked=is_asked)(row) is is_chosen
