"""What clients of gRPC are told of a refusal."""

from __future__ import annotations

import pytest

from sluicegate.gate.web.grpc_refusal import grpc_refusal, is_grpc
from sluicegate.gate.web.refusal_page import Refusal
from sluicegate.protocols.http1 import Fields, Request, Target


@pytest.mark.parametrize(
    ("content_type", "is_one"),
    [
        (b"application/grpc", True),
        (b"application/grpc+proto", True),
        (b"Application/GRPC; charset=x", True),
        (b"application/grpc-web", False),
        (b"application/grpcx", False),
        (b"application/json", False),
        (None, False),
    ],
)
def test_calls_are_known_by_their_type(content_type: bytes | None, *, is_one: bool) -> None:
    fields = Fields([(b"Content-Type", content_type)] if content_type is not None else [])
    assert is_grpc(Request(b"POST", Target.origin(b"/"), fields)) is is_one


CODES = [
    (400, "malformed", True, 13),
    (401, "who", True, 16),
    (403, "a secret", True, 7),
    (404, "none", True, 12),
    (407, "who", True, 16),
    (413, "too much", True, 8),
    (415, "coding", True, 2),
    (429, "limit requests_per_minute", True, 8),
    (502, "larger than the 5 bytes that x can judge", True, 8),
    (502, "server-certificate-expired", True, 9),
    (502, "server ECONNREFUSED", False, 14),
    (503, "limit web_message_bytes_max", True, 8),
    (504, "server ETIMEDOUT", False, 14),
    (500, "filter failure: x", False, 2),
]


@pytest.mark.parametrize(("status", "reason", "is_verdict", "code"), CODES)
def test_a_status_is_never_success_and_is_tried_again_only_where_that_may_help(
    status: int, reason: str, code: int, *, is_verdict: bool
) -> None:
    told = grpc_refusal(Refusal(status, reason, "web", "c-1-1"), is_verdict=is_verdict)
    assert (told.status, told.fields.first(b"grpc-status")) == (200, b"%d" % code)
    assert told.fields.first(b"content-type") == b"application/grpc"


@pytest.mark.parametrize(
    ("reason", "rule", "written"),
    [
        ("plain", "web", b"plain (rule web, record c-1)"),
        ("plain", "", b"plain (record c-1)"),
        ("100 %", "", b"100 %25 (record c-1)"),
        ("\u00fcber\r\nx", "", b"%C3%BCber%0D%0Ax (record c-1)"),
    ],
)
def test_words_are_written_in_one_line_of_ascii(reason: str, rule: str, written: bytes) -> None:
    told = grpc_refusal(Refusal(403, reason, rule, "c-1"), is_verdict=True)
    assert told.fields.first(b"grpc-message") == written


def test_words_have_a_bound() -> None:
    told = grpc_refusal(Refusal(403, "\u20ac" * 10_000, "web", "c-1"), is_verdict=True)
    assert len(told.fields.first(b"grpc-message") or b"") <= 9 * 300
