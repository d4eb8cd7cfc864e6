"""What every web filter must do, whatever it looks for: one call checks all of it.

``check_web_filter`` is for the tests of filter authors. The invariant: a check asks only what holds
for every web filter, so a failure is the filter's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sluicegate.filterapi import Direction, MessageKind, WebFilter, WebMessage

from .check_report import CheckReport, run_checks
from .scripted_peer import PlaybookError
from .watched import check_factory
from .web_play import PlayedExchange, PlayedTalk, WebPlay

__all__ = ["check_web_filter"]

_GET: Final = b"GET /index.html?a=1 HTTP/1.1\r\nHost: www.example\r\nAccept: */*\r\n\r\n"
_POST: Final = b"POST /form HTTP/1.1\r\nHost: www.example\r\nContent-Length: 7\r\n\r\na=1&b=2"
_PAGE: Final = b"<!doctype html><title>A page</title><p>" + b"some words " * 30
_HTML: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%b" % (
    len(_PAGE),
    _PAGE,
)
_BINARY: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n"
    b"\r\n100\r\n%b\r\n0\r\n\r\n" % bytes(range(256))
)
_STREAM: Final = b": hello\n\nevent: add\nid: 7\ndata: one\n\ndata: two\ndata\n\ndata: cut off"
_EVENTS: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
    b"\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(_STREAM), _STREAM)
)
_EMPTY: Final = b"HTTP/1.1 204 No Content\r\n\r\n"
_ERROR: Final = b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno"

_EXCHANGES: Final = (
    (_GET, _HTML),
    (_POST, _BINARY),
    (_GET, _EMPTY),
    (_POST, _ERROR),
    (_GET, _EVENTS),
)

_HOSTILE: Final = (
    (b"GET /%00%ff/..;/a?%25%zz HTTP/1.1\r\nHost: www.example\r\nCookie: \xff=;;\r\n\r\n", _HTML),
    (b"OPTIONS * HTTP/1.1\r\nHost: www.example\r\nContent-Type: \xe9\r\n\r\n", _EMPTY),
    (_GET, b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=\xff\r\n\r\n<\xff\0"),
    (_GET, b"HTTP/1.1 599 \xff\r\nContent-Type: ,;=\r\nContent-Length: 0\r\n\r\n"),
    (b"HEAD / HTTP/1.0\r\nHost: a\r\n\r\n", b"HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\n"),
)  # fmt: skip

_TALK: Final = (
    "a text",
    "",
    b"",
    bytes(range(256)),
    "\0 \u202e \U0001f600 " * 50,
    '{"a": [1, {"b": null}]}',
    WebMessage(Direction.DOWNLOAD, MessageKind.TEXT, "an answer"),
    WebMessage(Direction.DOWNLOAD, MessageKind.BINARY, b"\xff" * 70_000),
    WebMessage(Direction.DOWNLOAD, MessageKind.CLOSE, "r" * 123, 0, 4999),
    WebMessage(Direction.UPLOAD, MessageKind.CLOSE, ""),
)
"""What both ends of a WebSocket may say."""

_SIZES: Final = (1, 2, 7, 64)


@dataclass(frozen=True, slots=True)
class _Subject:
    make: Callable[[], WebFilter]
    exchanges: Sequence[tuple[bytes, bytes]]
    rule_settings: Mapping[str, object]

    def play(
        self, exchange: tuple[bytes, bytes], *, piece_bytes: int = 0, is_slow: bool = False
    ) -> PlayedExchange:
        """Play one exchange through a new instance."""
        with WebPlay(self.make, rule_settings=self.rule_settings) as play:
            request, response = exchange
            return play.exchange(
                request, response, piece_bytes=piece_bytes, is_slow=is_slow, wait_s=_WAIT_S
            )

    def talk(self, *said: WebMessage | str | bytes) -> PlayedTalk:
        """Play one WebSocket through a new instance."""
        with WebPlay(self.make, rule_settings=self.rule_settings) as play:
            return play.talk(*said, wait_s=_WAIT_S)


def check_web_filter(
    make: Callable[[], WebFilter],
    exchanges: Sequence[tuple[bytes, bytes]] = _EXCHANGES,
    *,
    rule_settings: Mapping[str, object] | None = None,
) -> CheckReport:
    """Check what every web filter must do.

    Args:
        make: The class, or what makes an instance.
        exchanges: Requests with their responses, of which it must say something; also of the kind
            that it looks for.
        rule_settings: What the rule says to it.

    Returns:
        The names of the checks.

    Raises:
        ChecksFailed: It broke promises; all of them are named.
        TypeError: ``make`` makes no web filter.
    """
    __tracebackhide__ = True
    check_factory(make, (WebFilter,))
    return run_checks(_CHECKS, _Subject(make, exchanges, rule_settings or {}))


# -- the checks; their names are what an author reads --------------------------------------------


def _answers_every_exchange(subject: _Subject) -> None:
    for exchange in subject.exchanges:
        _check_whole(exchange, subject.play(exchange))


def _cuts_change_nothing(subject: _Subject) -> None:
    for exchange in subject.exchanges:
        whole = subject.play(exchange)
        for size in _SIZES:
            _compare(exchange, whole, subject.play(exchange, piece_bytes=size), f"in {size} bytes")


def _slow_ends_change_nothing(subject: _Subject) -> None:
    for exchange in subject.exchanges:
        whole = subject.play(exchange)
        slow = subject.play(exchange, piece_bytes=5, is_slow=True)
        _compare(exchange, whole, slow, "with slow ends")


def _says_the_same_of_one_exchange_after_the_other(subject: _Subject) -> None:
    alone = [subject.play(exchange) for exchange in subject.exchanges]
    with WebPlay(subject.make, rule_settings=subject.rule_settings) as play:
        for exchange, one in zip(subject.exchanges, alone, strict=True):
            _compare(exchange, one, play.exchange(*exchange, wait_s=_WAIT_S), "behind others")


def _takes_whatever_may_come(subject: _Subject) -> None:
    for exchange in _HOSTILE:
        _check_whole(exchange, subject.play(exchange))


def _takes_whatever_is_said(subject: _Subject) -> None:
    alone = [subject.talk(one) for one in _TALK]
    for said, seen in zip(_TALK, alone, strict=True):
        if seen.failures:
            raise PlaybookError(f"{said!r}: it failed: {seen.failures[0]}")
        if not seen.verdict:
            raise PlaybookError(f"{said!r}: it never came to an end")
    again = [subject.talk(one) for one in _TALK]
    for said, one, other in zip(_TALK, alone, again, strict=True):
        if one != other:
            raise PlaybookError(f"{said!r}: {one}\nand then: {other}")


def _check_whole(exchange: tuple[bytes, bytes], seen: PlayedExchange) -> None:
    if seen.failures:
        raise PlaybookError(f"{_shortly(exchange)}: it failed: {seen.failures[0]}")
    if not seen.verdict:
        raise PlaybookError(f"{_shortly(exchange)}: it never came to an end")


def _compare(
    exchange: tuple[bytes, bytes], one: PlayedExchange, other: PlayedExchange, how: str
) -> None:
    _check_whole(exchange, other)
    before, after = _outcome(one), _outcome(other)
    if before != after:
        raise PlaybookError(f"{_shortly(exchange)}: {before}\n{how}: {after}")


def _outcome(seen: PlayedExchange) -> tuple[object, ...]:
    if seen.verdict == "refused":
        # How much had passed by then may depend on the cuts.
        return seen.verdict, seen.reason
    return seen.verdict, seen.status, seen.request_body, seen.body


def _shortly(exchange: tuple[bytes, bytes]) -> str:
    first, second = (one.partition(b"\r\n")[0][:60] for one in exchange)
    return f"{first!r} and {second!r}"


_WAIT_S: Final = 30.0
"""Virtual time that coroutines of filters may take."""

_CHECKS: Final = (
    _answers_every_exchange,
    _cuts_change_nothing,
    _slow_ends_change_nothing,
    _says_the_same_of_one_exchange_after_the_other,
    _takes_whatever_may_come,
    _takes_whatever_is_said,
)
