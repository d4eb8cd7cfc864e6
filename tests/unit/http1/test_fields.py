"""Fields, and what an intermediary does to a message."""

from __future__ import annotations

import pytest

from sluicegate.protocols.entry import HostKind
from sluicegate.protocols.http1 import (
    Authority,
    EndOfMessage,
    Http1Client,
    Request,
    Response,
    Target,
    forwards_left,
    has_passed,
    to_client,
    to_server,
)
from sluicegate.protocols.http1.connection_fields import PROTECTED_FIELDS
from sluicegate.protocols.http1.fields import CONNECTION_FIELDS, Fields, FieldsView
from tests.unit.http1.http1_kit import fetch as fetched
from tests.unit.http1.http1_kit import requests_of, responses_of, serve


def three() -> Fields:
    return Fields([(b"A", b"1"), (b"B", b"2"), (b"a", b"3")])


def test_names_are_found_in_any_letter_case_and_kept_as_written() -> None:
    fields = three()

    assert fields.first(b"a") == b"1"
    assert fields.all(b"A") == [b"1", b"3"]
    assert fields.first(b"C") is None
    assert b"b" in fields
    assert list(fields) == [(b"A", b"1"), (b"B", b"2"), (b"a", b"3")]
    assert len(fields) == 3
    assert fields.written() == b"A: 1\r\nB: 2\r\na: 3\r\n"


def test_set_takes_the_place_of_the_first_and_removes_the_others() -> None:
    fields = three()

    fields.set(b"a", b"9")
    fields.set(b"C", b"")

    assert fields.items() == [(b"a", b"9"), (b"B", b"2"), (b"C", b"")]


def test_remove_and_move_first() -> None:
    fields = three()

    assert fields.remove(b"A", b"X") == 2
    fields.add(b"Host", b"x")
    fields.move_first(b"host")

    assert fields.items() == [(b"Host", b"x"), (b"B", b"2")]


def test_copy_is_ones_own_and_a_view_is_not() -> None:
    fields = three()
    copy, view = fields.copy(), fields.view()

    fields.remove(b"B")

    assert b"B" in copy
    assert b"B" not in view
    assert type(view) is FieldsView
    assert not hasattr(view, "add")
    assert view == fields != copy


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"X", b"a\r\nY: b"),
        (b"X", b"a\nb"),
        (b"X", b"a\rb"),
        (b"X", b"a\0"),
        (b"X", b"\x7f"),
        (b"X", b" a"),
        (b"X", b"a "),
        (b"X", b"\ta"),
        (b"X", b"a\xa0"),
        (b"X", b"\x85a"),
        (b"X", b" "),
        (b"", b"a"),
        (b"X Y", b"a"),
        (b"X:", b"a"),
        (b"X\r\n", b"a"),
        (b"X\xe9", b"a"),
        (b" X", b"a"),
        *[(name.title(), b"1") for name in sorted(CONNECTION_FIELDS)],
    ],
)
def test_field_that_could_split_or_frame_a_message_does_not_exist(
    name: bytes, value: bytes
) -> None:
    fields = three()

    for change in (fields.add, fields.set):
        with pytest.raises(ValueError, match=r"token|connection|cannot be sent"):
            change(name, value)
    with pytest.raises(ValueError, match=r"token|connection|cannot be sent"):
        Fields([(name, value)])
    assert fields == three()


def test_values_do_not_show_in_logs() -> None:
    assert repr(Fields([(b"Cookie", b"secret"), (b"A", b"b")])) == "Fields(Cookie, A)"


def test_views_compare_names_in_any_case_and_only_with_fields() -> None:
    assert Fields([(b"A", b"1")]) == Fields([(b"a", b"1")])
    assert Fields([(b"A", b"1")]) != Fields([(b"A", b"2")])
    assert Fields() != []


def read(data: bytes) -> Request:
    [request] = requests_of(serve(data))
    return request


def test_forwarded_request_is_in_origin_form_with_via_and_without_the_hop() -> None:
    request = read(
        b"GET http://A.example/x HTTP/1.0\r\nX: 1\r\nConnection: X-Hop\r\nX-Hop: 2\r\n"
        b"Proxy-Authorization: Basic YTpi\r\nVia: 1.1 before\r\n\r\n"
    )

    passed = to_server(request, b"gate")
    [head] = Http1Client().send(passed)

    assert head == (
        b"GET /x HTTP/1.1\r\nHost: A.example\r\nX: 1\r\nVia: 1.1 before\r\nVia: 1.0 gate\r\n\r\n"
    )
    assert request.target.scheme == b"http"
    assert (b"X-Hop", b"2") in request.hop_fields
    assert b"via" in request.fields
    assert len(request.fields.all(b"via")) == 1


def test_host_of_an_absolute_target_replaces_host() -> None:
    request = read(b"GET http://a.example:80/ HTTP/1.1\r\nX: y\r\nHost: A.EXAMPLE\r\n\r\n")

    assert to_server(request, b"gate").fields.items()[0] == (b"Host", b"a.example:80")


def test_offers_pass_only_if_they_are_let() -> None:
    request = read(
        b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\n"
        b"Upgrade: h2c, WebSocket\r\n\r\n"
    )

    assert request.upgrade == (b"h2c", b"WebSocket")
    assert to_server(request, b"gate").upgrade == ()
    assert to_server(request, b"gate", upgrades={b"websocket"}).upgrade == (b"WebSocket",)


@pytest.mark.parametrize(
    ("method", "left", "passed"),
    [(b"OPTIONS", 5, b"4"), (b"TRACE", 1, b"0"), (b"GET", None, b"5")],
)
def test_forwards_are_counted_down_for_trace_and_options(
    method: bytes, left: int | None, passed: bytes
) -> None:
    request = read(method + b" / HTTP/1.1\r\nHost: a\r\nMax-Forwards: %d\r\n\r\n" % (left or 5))

    assert forwards_left(request) == left
    assert to_server(request, b"gate").fields.first(b"Max-Forwards") == passed


def test_message_that_came_by_before_is_recognized() -> None:
    once = to_server(read(b"GET / HTTP/1.1\r\nHost: a\r\nVia: 1.1 x, 1.0 y (c)\r\n\r\n"), b"gate")

    assert has_passed(once.fields, b"Gate")
    assert has_passed(once.fields, b"y")
    assert not has_passed(once.fields, b"gat")


def test_forwarded_response_has_via_and_nothing_of_the_hop() -> None:
    [response] = responses_of(
        fetched(
            b"HTTP/1.0 200 OK\r\nConnection: X-Hop\r\nX-Hop: 1\r\nProxy-Authenticate: Basic\r\n"
            b"Content-Length: 0\r\nA: b\r\n\r\n"
        )
    )

    passed = to_client(response, b"gate")

    assert passed.fields.items() == [(b"A", b"b"), (b"Via", b"1.0 gate")]
    assert response.fields.items() == [(b"A", b"b")]


def test_parent_proxy_is_asked_in_absolute_form() -> None:
    target = Target.absolute(b"HTTP", Authority(HostKind.TEXT, b"a.example", 81), b"/x?y")
    fields = Fields([(b"Host", b"a.example:81"), (b"Proxy-Authorization", b"Basic YTpi")])
    client = Http1Client()

    [head] = client.send(Request(b"GET", target, fields, accepts_trailers=True))
    client.send(EndOfMessage())

    assert head == (
        b"GET http://a.example:81/x?y HTTP/1.1\r\nHost: a.example:81\r\n"
        b"Proxy-Authorization: Basic YTpi\r\nTE: trailers\r\nConnection: TE\r\n\r\n"
    )


@pytest.mark.parametrize("text", [b"", b"x", b"/a b", b"/a\r\nX: y", b"/#", b"/\xe9", b"*"])
def test_target_that_is_no_path_cannot_be_made(text: bytes) -> None:
    with pytest.raises(ValueError, match="not a"):
        Target.origin(text)
    if text:
        with pytest.raises(ValueError, match="not a URL"):
            Target.absolute(b"http", Authority(HostKind.TEXT, b"a b"), text)


def test_tunnel_needs_a_port() -> None:
    with pytest.raises(ValueError, match="no port"):
        Target.connect(Authority(HostKind.TEXT, b"a.example"))


@pytest.mark.parametrize("name", [b"content-length", b"authorization", b"host", b"cookie", b"via"])
def test_names_that_may_not_be_removed_are_listed(name: bytes) -> None:
    assert name in PROTECTED_FIELDS


def test_pseudonym_is_a_token() -> None:
    with pytest.raises(ValueError, match="token"):
        to_client(Response(200), b"a\r\nX: y")
