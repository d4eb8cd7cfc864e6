"""The batteries pass what is right and name every promise that is broken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from examples.filters.no_macros import NoMacros
from sluicegate.filterapi import Direction
from sluicegate.testing import (
    ChecksFailed,
    check_content_filter,
    check_data_filter,
    check_filter,
    check_stream_filter,
    offer_of,
)
from tests.unit.kit_filters import (
    EndsNever,
    Fussy,
    Greeting,
    Hoarding,
    Keeping,
    Moody,
    Naive,
    NoScripts,
    OneServerPerClient,
    OnlySsh,
    Raising,
    Relay,
    RelayByCallbacks,
    Shared,
    Shouting,
    Speechless,
    Swallowing,
)

SSH = [("client", b"SSH-2.0-me\r\n"), ("server", b"SSH-2.0-you\r\n")]
ASCII = [("client", b"hello\r\n"), ("server", b"hi\r\n"), ("client", b"bye\r\n")]


def failures_of(check: Callable[..., Any], make: Any, *args: Any, **options: Any) -> dict[str, str]:
    with pytest.raises(ChecksFailed) as failed:
        check(make, *args, **options)
    return {name: str(error) for name, error in failed.value.failures.items()}


@pytest.mark.parametrize("make", [Relay, RelayByCallbacks, Greeting])
def test_right_data_filter_passes_every_check(make: Any) -> None:
    report = check_data_filter(make)
    assert len(report.passed) == 11
    assert report.skipped == {}


def test_filter_that_attaches_by_events_passes_every_check() -> None:
    assert len(check_filter(OneServerPerClient).passed) == 11
    with pytest.raises(TypeError, match="which is no Filter"):
        check_filter(OnlySsh)  # type: ignore[arg-type]


def test_right_stream_filter_passes_every_check() -> None:
    assert len(check_stream_filter(OnlySsh, SSH).passed) == 11
    report = check_stream_filter(Shouting, is_transparent=False)
    assert set(report.skipped) == {"passes bytes unchanged", "passes bulk in bounded memory"}


@pytest.mark.parametrize("make", [NoScripts, NoMacros])
def test_right_content_filter_passes_every_check(make: Any) -> None:
    assert len(check_content_filter(make).passed) == 9


def test_content_filter_is_checked_with_uploads_too() -> None:
    check_content_filter(NoScripts, offer=offer_of("x", Direction.UPLOAD), bulk=0)


def test_instance_in_place_of_a_class_is_refused_with_its_cure() -> None:
    with pytest.raises(TypeError, match="give the class, or a factory"):
        check_stream_filter(OnlySsh())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="which is no DataFilter or CallbackDataFilter"):
        check_data_filter(OnlySsh)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="which is no ContentFilter"):
        check_content_filter(OnlySsh)  # type: ignore[arg-type]


BROKEN: list[tuple[Any, Any, Any, str, str]] = [
    (check_stream_filter, Raising, ASCII, "lets its conversation pass", "raised ValueError: boom"),
    (check_stream_filter, Keeping, ASCII, "lets its conversation pass", "copy what you keep"),
    (check_stream_filter, Shouting, ASCII, "passes bytes unchanged", "bytes that differ from"),
    (
        check_stream_filter,
        Naive,
        [("client", b"GET /private\r\n")],
        "does not care where the network cuts",
        'between "GET /" and "private',
    ),
    (
        check_stream_filter,
        Shared,
        ASCII,
        "serves two connections at once",
        "gets other bytes",
    ),
    (
        check_data_filter,
        EndsNever,
        ASCII,
        "passes each end of stream on once",
        "the server was to receive the end of the stream; it is open",
    ),
    (
        check_data_filter,
        Hoarding,
        ASCII,
        "passes bulk in bounded memory",
        "bytes, 0 of them came",
    ),
    (check_data_filter, Fussy, ASCII, "survives garbage", "UnicodeDecodeError"),
]


@pytest.mark.parametrize(
    ("check", "make", "conversation", "name", "cause"), BROKEN, ids=lambda one: str(one)[:30]
)
def test_broken_promise_is_named_with_its_cause(
    check: Any, make: Any, conversation: Any, name: str, cause: str
) -> None:
    found = failures_of(check, make, conversation, bulk="8 MiB" if make is Hoarding else 0)
    assert cause in found[name]


BROKEN_CONTENT: list[tuple[Any, str, str]] = [
    (Swallowing, "judges a large object in bounded memory", "were allocated at the peak"),
    (Moody, "says the same twice", "the second time Refuse(reason='enough')"),
    (Speechless, "answers with a verdict", "object of 0 bytes"),
]


@pytest.mark.parametrize(("make", "name", "cause"), BROKEN_CONTENT)
def test_broken_promise_of_a_content_filter_is_named(make: Any, name: str, cause: str) -> None:
    assert cause in failures_of(check_content_filter, make)[name]


def test_message_has_every_broken_promise() -> None:
    with pytest.raises(ChecksFailed) as failed:
        check_stream_filter(Raising, ASCII)
    assert str(failed.value).startswith(f"{len(failed.value.failures)} checks failed\n\nlets its")
    assert isinstance(failed.value.__cause__, ValueError)
