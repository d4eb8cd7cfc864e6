"""The battery for web filters: it lets good ones pass, and names each promise that others break."""

from __future__ import annotations

import pytest

from sluicegate.bundled.header_rewriting import HeaderRewriting
from sluicegate.bundled.http_filter import HttpFilter
from sluicegate.bundled.link_translation import LinkTranslation
from sluicegate.bundled.size_limit import SizeLimit
from sluicegate.filterapi import (
    FORWARD,
    GO_ON,
    HOLD,
    Need,
    Needs,
    Refuse,
    Rewrite,
    WebFilter,
)
from sluicegate.testing import ChecksFailed, check_web_filter

LINKS = {"mappings": [{"internal": "http://www.corp", "public": "https://www.example"}]}
SEARCH = {
    "signatures": [{"name": "S", "place": "response-body", "text": "words", "to_byte": 4000}],
    "executables": "all",
    "body_bytes_max": 10_000,
}


@pytest.mark.parametrize(
    ("make", "rule_settings"),
    [
        (WebFilter, {}),
        (HttpFilter, {}),
        (HttpFilter, SEARCH),
        (HeaderRewriting, {"rules": [{"on": "response", "action": "remove", "name": "X"}]}),
        (LinkTranslation, LINKS),
        (SizeLimit, {"response_body_bytes_max": 100, "request_body_bytes_max": 100}),
    ],
)
def test_bundled_filters_keep_every_promise(
    make: type[WebFilter], rule_settings: dict[str, object]
) -> None:
    report = check_web_filter(make, rule_settings=rule_settings)
    assert len(report.passed) == 6


class OnWholeWords(WebFilter):
    """Looks at each piece by itself."""

    needs = Needs(response=Need.STREAM)

    def on_response_chunk(self, exchange, chunk, is_last):
        return Refuse("words") if b"words" in bytes(chunk) else FORWARD


class Remembers(WebFilter):
    def __init__(self) -> None:
        self.count = 0

    def on_request(self, exchange):
        self.count += 1
        return GO_ON if self.count < 3 else Refuse("too many")


class Raises(WebFilter):
    def on_request(self, exchange):
        exchange.request.path.index("/")
        return GO_ON


class Holds(WebFilter):
    needs = Needs(response=Need.STREAM)

    def on_response_chunk(self, exchange, chunk, is_last):
        return HOLD


class Cuts(WebFilter):
    needs = Needs(response=Need.STREAM, alters=True)

    def on_response_chunk(self, exchange, chunk, is_last):
        return Rewrite(bytes(chunk).strip())


@pytest.mark.parametrize(
    ("make", "broken"),
    [
        (OnWholeWords, "cuts change nothing"),
        (Remembers, "says the same of one exchange after the other"),
        (Raises, "takes whatever may come"),
        (Holds, "answers every exchange"),
        (Cuts, "cuts change nothing"),
    ],
)
def test_a_broken_promise_is_named(make: type[WebFilter], broken: str) -> None:
    with pytest.raises(ChecksFailed) as failed:
        check_web_filter(make)
    assert broken in failed.value.failures


def test_what_makes_no_web_filter_is_refused() -> None:
    with pytest.raises(TypeError):
        check_web_filter(object)  # type: ignore[arg-type]
