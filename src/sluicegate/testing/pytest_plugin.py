"""The pytest plug-in: fixtures for tests of filters, and the flag that renews golden files.

pytest finds it by its entry point once Sluicegate is installed; nothing else imports it, so pytest
stays optional. The invariant: no fixture needs root or a network, or sleeps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest

from .clock import ManualClock
from .playbook import Playbook
from .replay import Replayed, check_conversation
from .watched import FilterLike, Filters

__all__ = ["GoldenCheck", "PlaybookMaker", "golden", "manual_clock", "playbook"]


class PlaybookMaker(Protocol):
    """What the fixture ``playbook`` is: call it as ``Playbook``; the test's end closes it."""

    def __call__(self, *filters: FilterLike, **options: Any) -> Playbook:
        """Make a playbook."""
        ...


class GoldenCheck(Protocol):
    """What the fixture ``golden`` is: replays a file that stands beside the test."""

    def __call__(
        self,
        filters: Filters,
        name: str,
        *,
        rule_settings: Mapping[str, object] | None = None,
    ) -> Replayed:
        """Replay ``name`` and compare; with ``--update-conversations`` write what came."""
        ...


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the flag."""
    group = parser.getgroup("sluicegate", "tests of Sluicegate filters")
    group.addoption(
        "--update-conversations",
        action="store_true",
        default=False,
        help="write golden conversations anew instead of comparing with them",
    )


@pytest.fixture
def playbook(request: pytest.FixtureRequest) -> Iterator[PlaybookMaker]:
    """Return a maker of playbooks; what a playbook has left behind fails the test."""
    made: list[Playbook] = []

    def make(*filters: FilterLike, **options: Any) -> Playbook:
        made.append(Playbook(*filters, **options))
        return made[-1]

    failed_before = request.session.testsfailed
    try:
        yield make
    finally:
        # What a test that failed half way has left behind is no news.
        is_right = request.session.testsfailed == failed_before
        errors: list[AssertionError] = []
        for play in made:
            try:
                play.close(check=is_right)
            except AssertionError as error:
                errors.append(error)
    if errors:
        raise errors[0]


@pytest.fixture
def manual_clock() -> ManualClock:
    """Return a clock that moves by ``advance`` only."""
    return ManualClock()


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> GoldenCheck:
    """Compare filters with golden conversations: ``golden(MyFilter, "login.conversation")``."""
    folder = Path(request.path).parent
    update = bool(request.config.getoption("update_conversations", default=False))

    def check(
        filters: Filters,
        name: str,
        *,
        rule_settings: Mapping[str, object] | None = None,
    ) -> Replayed:
        path = folder / name
        return check_conversation(filters, path, update=update, rule_settings=rule_settings)

    return check
