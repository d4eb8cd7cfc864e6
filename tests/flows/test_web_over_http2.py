"""The flows of the web proxy once more, asked in HTTP/2: nothing behind the client's end knows.

Each test of the modules below that lets clients of an explicit proxy ask one request after the
other is run as it is; its requests go out as streams of one connection inside TLS.
"""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from sluicegate.gate.settings import ServiceSettings
from tests.flows import (
    test_web_connections,
    test_web_filters,
    test_web_held,
    test_web_parents,
    test_web_policy,
    test_web_proxy,
    web_kit,
)
from tests.flows.http2_kit import asks_in_http2
from tests.flows.tls_kit import with_tls

MODULES = (
    test_web_connections,
    test_web_filters,
    test_web_held,
    test_web_parents,
    test_web_policy,
    test_web_proxy,
)
OF_HTTP_1 = {
    "test_a_body_that_ends_with_its_connection_is_told_by_its_last_chunk": "HTTP/2 has no chunks",
    "test_trailers_pass_both_ways": "letter case; see test_http2",
    "test_what_belongs_to_a_connection_does_not_pass": "no field names others; see test_http2",
    "test_targets": "HTTP/2 has only whole URLs; see unit/http2/test_request_heads",
}
"""What is about the bytes of HTTP/1, and why."""


def is_about_any_version(test: Any) -> bool:
    """Tell whether a test's client is ``asks``, and its listener a proxy's."""
    source = inspect.getsource(test)
    return "peer" not in source and "publi" not in source and test.__name__ not in OF_HTTP_1


for module in MODULES:
    for name, test in list(vars(module).items()):
        if name.startswith("test_") and callable(test) and is_about_any_version(test):
            globals()[f"{name}_{module.__name__.rpartition('.')[2][9:]}"] = test


@pytest.fixture(autouse=True)
def in_http2(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let clients speak HTTP/2, and the proxies' listeners TLS."""
    play = web_kit.play

    def play_in_tls(scenario: Any, plan: ServiceSettings, *args: Any, **options: Any) -> Any:
        assert all(one.entry is not None for one in plan.listeners)
        return play(scenario, with_tls(plan, protocols=("h2", "http/1.1")), *args, **options)

    monkeypatch.setattr(web_kit, "play", play_in_tls)
    monkeypatch.setattr(web_kit, "asks", asks_in_http2)
