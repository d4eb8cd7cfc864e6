"""The sample filters do what every filter must: the kit's battery, on each that relays."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from examples.filters.data_monitor import DataMonitor, DataMonitorSettings
from examples.filters.protocol_detector import ProtocolDetector, ProtocolDetectorSettings
from examples.filters.rate_limiter import RateLimiter, RateLimiterSettings
from examples.filters.secret_redactor import SecretRedactor, SecretRedactorSettings
from sluicegate.filterapi import Filter, StreamFilter
from sluicegate.testing import check_filter, check_stream_filter

HTTP = [
    ("client", b"GET / HTTP/1.1\r\nHost: example.test\r\n\r\n"),
    ("server", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
]

MAKERS: dict[str, Callable[[], Filter]] = {
    "data_monitor": lambda: DataMonitor(DataMonitorSettings(patterns={"mark": "CONFIDENTIAL"})),
    "rate_limiter": lambda: RateLimiter(RateLimiterSettings()),
}

STREAM_MAKERS: dict[str, Callable[[], StreamFilter]] = {
    "protocol_detector": lambda: ProtocolDetector(ProtocolDetectorSettings(allow=("http",))),
    "secret_redactor": lambda: SecretRedactor(SecretRedactorSettings()),
}


@pytest.mark.parametrize("name", MAKERS)
def test_sample_does_what_every_filter_must(name: str) -> None:
    report = check_filter(MAKERS[name], HTTP)
    assert report.skipped == {}


@pytest.mark.parametrize("name", STREAM_MAKERS)
def test_sample_does_what_every_stream_filter_must(name: str) -> None:
    report = check_stream_filter(STREAM_MAKERS[name], HTTP)
    assert report.skipped == {}
