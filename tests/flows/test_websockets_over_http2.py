"""The flows of WebSockets once more, on streams of HTTP/2 (RFC 8441): no filter knows which.

Each test of the modules below that lets a client talk (``chat``) is run as it is; its handshake
goes out as an extended CONNECT, its frames as DATA.
"""

from __future__ import annotations

import base64
import inspect
from typing import Any

import pytest

from sluicegate.gate.settings import ServiceSettings
from sluicegate.gate.web import multiplexed
from tests.flows import (
    test_websocket_faults,
    test_websocket_secrets,
    test_websockets,
    websocket_kit,
)
from tests.flows.http2_kit import on_a_stream
from tests.flows.tls_kit import with_tls

MODULES = (test_websockets, test_websocket_faults, test_websocket_secrets)
ASKED_NOT = "nothing is announced, so nothing is asked for; see test_extended_connect"
OF_HTTP_1 = {
    "test_a_filter_that_looks_into_bodies_and_not_into_messages_lets_no_websocket_pass": ASKED_NOT,
    "test_a_content_filter_that_is_not_shown_messages_lets_no_websocket_pass": ASKED_NOT,
    "test_j1_handshakes_that_no_server_would_switch_for_are_refused": "the key is the gate's",
}
"""What is about the bytes of HTTP/1, and why."""


def is_about_any_version(test: Any) -> bool:
    """Tell whether a test lets a client talk, and is not about the bytes of a head."""
    return "chat(" in inspect.getsource(test) and test.__name__ not in OF_HTTP_1


for module in MODULES:
    for name, one in list(vars(module).items()):
        if name.startswith("test_") and callable(one) and is_about_any_version(one):
            globals()[f"{name}_{module.__name__.rpartition('.')[2][5:]}"] = one


@pytest.fixture(autouse=True)
def in_http2(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let clients speak HTTP/2, and the proxies' listeners TLS."""
    browse = websocket_kit.browse

    def browse_in_http2(*args: Any, peer: Any, plan: ServiceSettings, **options: Any) -> Any:
        secured = with_tls(plan, protocols=("h2", "http/1.1"))
        return browse(*args, peer=on_a_stream(peer), plan=secured, **options)

    def token_bytes(size: int) -> bytes:
        """Return what the kit's servers expect: the key is the gate's own on this side."""
        return base64.b64decode(websocket_kit.KEY)[:size]

    monkeypatch.setattr(websocket_kit, "browse", browse_in_http2)
    monkeypatch.setattr(multiplexed.secrets, "token_bytes", token_bytes)
