"""Who may say what, and when: turns, persistence, upgrades, tunnels, early answers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sluicegate.errors import BadContext
from sluicegate.protocols.entry import HostKind
from sluicegate.protocols.http1 import (
    CHUNKED,
    NO_BODY,
    UNTIL_CLOSE,
    Authority,
    Body,
    EndOfMessage,
    EndOfStream,
    Framing,
    Http1Client,
    Http1Server,
    HttpBounds,
    HttpFault,
    HttpProtocolError,
    RawData,
    Request,
    Response,
    Target,
    Upgraded,
)
from sluicegate.protocols.http1.fields import Fields
from tests.unit.http1.http1_kit import GET, fault_of, fetch, requests_of, serve

HOST = b"Host: a.example\r\n"
SIMPLE = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
SOCKET = (
    b"GET /chat HTTP/1.1\r\n"
    + HOST
    + b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n"
)
SWITCH = Response(101, upgrade=(b"websocket",))


def asked(data: bytes, bounds: HttpBounds | None = None) -> Http1Server:
    """A server that has read one request to its end."""
    server = Http1Server(bounds or HttpBounds())
    server.receive_data(data)
    while (event := server.next_event()) is not None and not isinstance(event, EndOfMessage):
        pass
    return server


def answered(server: Http1Server, response: Response, *bodies: bytes) -> bytes:
    pieces = [*server.send(response)]
    for body in bodies:
        pieces += server.send(Body(body))
    return b"".join([*pieces, *server.send(EndOfMessage())])


def sent(request: Request = GET) -> Http1Client:
    client = Http1Client()
    client.send(request)
    client.send(EndOfMessage())
    return client


def test_thousand_pipelined_requests_are_read_one_at_a_time() -> None:
    data = b"".join(b"GET /%d HTTP/1.1\r\n%b\r\n" % (n, HOST) for n in range(1000))

    seen = serve(data)

    assert [one.target.path for one in requests_of(seen)] == [b"/%d" % n for n in range(1000)]


def test_next_request_is_not_read_before_this_one_is_answered() -> None:
    server = asked(SIMPLE + SIMPLE)

    assert server.next_event() is None
    assert not server.needs_data
    answered(server, Response(204))
    assert isinstance(server.next_event(), Request)


def test_what_waits_behind_a_request_is_bounded() -> None:
    server = asked(SIMPLE, HttpBounds(pipeline_bytes_max=100))
    server.receive_data(b"x" * 100)
    assert server.next_event() is None
    server.receive_data(b"x")

    with pytest.raises(HttpProtocolError) as refused:
        server.next_event()

    assert refused.value.fault is HttpFault.PIPELINE_TOO_LARGE


def test_connection_ends_when_the_answer_came_before_the_body() -> None:
    server = Http1Server()
    server.receive_data(
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 40\r\n\r\nGET / HTTP/1.1\r\n"
    )
    assert isinstance(server.next_event(), Request)

    answered(server, Response(413))

    assert server.must_close
    server.receive_data(SIMPLE)
    assert server.next_event() is None
    assert not server.needs_data


def test_body_may_still_come_while_its_answer_is_sent() -> None:
    server = Http1Server()
    server.receive_data(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\n\r\n")
    assert isinstance(server.next_event(), Request)
    server.send(Response(200, framing=CHUNKED))
    server.receive_data(b"abcd" + SIMPLE)
    assert server.next_event() == Body(b"abcd")
    assert server.next_event() == EndOfMessage()
    server.send(EndOfMessage())

    assert isinstance(server.next_event(), Request)
    assert not server.must_close


def test_client_that_waits_for_100_is_told_to_go_on_or_that_it_is_over() -> None:
    data = b"POST / HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\nContent-Length: 4\r\n\r\n"
    for goes_on in (True, False):
        server = Http1Server()
        server.receive_data(data)
        assert isinstance(server.next_event(), Request)
        assert server.next_event() is None
        if goes_on:
            assert server.send(Response(100)) == (b"HTTP/1.1 100 Continue\r\n\r\n",)
            server.receive_data(b"abcd")
            assert server.next_event() == Body(b"abcd")
            assert server.next_event() == EndOfMessage()
        answer = answered(server, Response(200 if goes_on else 417))
        assert (b"Connection: close" in answer) is not goes_on
        assert server.must_close is not goes_on


def test_slow_server_may_answer_instead_of_100() -> None:
    client = Http1Client()
    client.send(
        Request(b"PUT", GET.target, GET.fields, Framing.of_length(4), expects_continue=True)
    )
    client.receive_data(b"HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n")

    assert isinstance(client.next_event(), Response)
    assert client.next_event() == EndOfMessage()
    assert not client.is_reusable
    with pytest.raises(BadContext):
        client.send(EndOfMessage())


def test_server_that_answered_early_is_not_asked_again() -> None:
    client = Http1Client()
    client.send(Request(b"PUT", GET.target, GET.fields, Framing.of_length(4)))
    client.receive_data(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert isinstance(client.next_event(), Response)
    assert client.next_event() == EndOfMessage()
    client.send(Body(b"abcd"))
    client.send(EndOfMessage())

    assert not client.is_reusable
    with pytest.raises(BadContext):
        client.send(GET)


@pytest.mark.parametrize(
    ("response", "is_reusable"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", True),
        (b"HTTP/1.1 204 No\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nx", False),
    ],
)
def test_connection_to_a_server_is_reusable_behind_a_whole_answer(
    response: bytes, is_reusable: bool
) -> None:
    client = sent()
    client.receive_data(response)
    assert isinstance(client.next_event(), Response)
    assert client.next_event() == EndOfMessage()

    assert client.is_reusable is is_reusable
    if is_reusable:
        assert client.send(GET)
    else:
        with pytest.raises(BadContext):
            client.send(GET)


def test_server_that_ended_before_a_byte_may_not_have_seen_the_request() -> None:
    client = sent()
    client.receive_end()
    with pytest.raises(HttpProtocolError) as silent:
        client.next_event()
    assert silent.value.fault is HttpFault.TRUNCATED
    assert not client.has_received

    client = sent()
    client.receive_data(b"H")
    assert client.next_event() is None
    assert client.has_received


def test_server_that_speaks_unasked_is_not_asked() -> None:
    client = Http1Client()
    client.receive_data(b"HTTP/1.1 408 Timeout\r\n\r\n")

    assert not client.is_reusable
    with pytest.raises(BadContext):
        client.send(GET)
    with pytest.raises(HttpProtocolError) as refused:
        client.next_event()
    assert refused.value.fault is HttpFault.UNSOLICITED


def test_bytes_before_the_101_are_held_and_then_raw() -> None:
    server = asked(SOCKET + b"early")
    assert server.next_event() is None

    assert server.send(SWITCH) == (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    )

    assert server.next_event() == Upgraded()
    assert server.next_event() == RawData(b"early")
    server.receive_data(SIMPLE)
    assert server.next_event() == RawData(SIMPLE)
    assert server.send(RawData(b"frame")) == (b"frame",)
    server.receive_end()
    assert server.next_event() == EndOfStream()


def test_bytes_behind_an_upgrade_that_is_not_granted_are_a_request() -> None:
    server = asked(SOCKET + SIMPLE)

    answered(server, Response(200))

    assert isinstance(server.next_event(), Request)


def test_101_needs_an_offer() -> None:
    with pytest.raises(BadContext):
        asked(SIMPLE).send(SWITCH)
    with pytest.raises(BadContext):
        asked(SOCKET).send(Response(101, upgrade=(b"h2c",)))
    with pytest.raises(BadContext):
        asked(SOCKET).send(Response(101))


def test_offer_beside_a_body_does_not_count() -> None:
    data = SOCKET.replace(b"GET", b"POST").replace(b"\r\n\r\n", b"\r\nContent-Length: 1\r\n\r\na")

    [request] = requests_of(serve(data))

    assert request.upgrade == ()


def test_connection_on_which_an_offer_was_declined_is_not_used_again() -> None:
    client = sent(Request(b"GET", GET.target, GET.fields, upgrade=(b"websocket",)))
    client.receive_data(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert isinstance(client.next_event(), Response)
    assert client.next_event() == EndOfMessage()

    assert not client.is_reusable


def test_upgrade_reaches_the_server_and_its_101_opens_the_connection() -> None:
    request = Request(b"GET", GET.target, GET.fields, upgrade=(b"websocket",))
    client = Http1Client()
    [head] = client.send(request)
    assert bytes(head).endswith(b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    client.send(EndOfMessage())
    client.receive_data(
        b"HTTP/1.1 101 S\r\nUpgrade: WebSocket\r\nConnection: upgrade\r\n\r\n\x81\x00"
    )

    response = client.next_event()

    assert isinstance(response, Response)
    assert response.upgrade == (b"WebSocket",)
    assert client.next_event() == Upgraded()
    assert client.next_event() == RawData(b"\x81\x00")
    assert client.is_upgraded


def test_tunnel_opens_behind_connect_and_its_2xx() -> None:
    server = asked(b"CONNECT a.example:443 HTTP/1.1\r\n" + HOST + b"\r\n\x16\x03")
    assert server.next_event() is None

    assert server.send(Response(200, framing=CHUNKED)) == (b"HTTP/1.1 200 OK\r\n\r\n",)

    assert server.next_event() == Upgraded()
    assert server.next_event() == RawData(b"\x16\x03")


def test_refused_connect_ends_the_connection() -> None:
    server = asked(b"CONNECT a.example:443 HTTP/1.1\r\n" + HOST + b"\r\n" + SIMPLE)

    answer = answered(server, Response(403))

    assert b"Connection: close\r\n" in answer
    assert server.must_close
    assert server.next_event() is None


@pytest.mark.parametrize(
    ("line", "response", "head", "closes"),
    [
        (
            b"GET / HTTP/1.1",
            Response(200, framing=CHUNKED),
            b"Transfer-Encoding: chunked\r\n",
            False,
        ),
        (
            b"GET / HTTP/1.1",
            Response(200, framing=UNTIL_CLOSE),
            b"Transfer-Encoding: chunked\r\n",
            False,
        ),
        (b"GET / HTTP/1.1", Response(200), b"Content-Length: 0\r\n", False),
        (b"GET / HTTP/1.1", Response(204, framing=CHUNKED), b"", False),
        (b"GET / HTTP/1.1", Response(304), b"", False),
        (
            b"GET / HTTP/1.1",
            Response(304, framing=Framing.of_length(9)),
            b"Content-Length: 9\r\n",
            False,
        ),
        (
            b"HEAD / HTTP/1.1",
            Response(200, framing=Framing.of_length(9)),
            b"Content-Length: 9\r\n",
            False,
        ),
        (
            b"HEAD / HTTP/1.1",
            Response(200, framing=CHUNKED),
            b"Transfer-Encoding: chunked\r\n",
            False,
        ),
        (b"HEAD / HTTP/1.1", Response(200, framing=UNTIL_CLOSE), b"", False),
        (b"GET / HTTP/1.0", Response(200, framing=CHUNKED), b"Connection: close\r\n", True),
        (
            b"GET / HTTP/1.0\r\nConnection: keep-alive",
            Response(200),
            b"Content-Length: 0\r\nConnection: keep-alive\r\n",
            False,
        ),
        (
            b"GET / HTTP/1.0\r\nConnection: keep-alive",
            Response(200, framing=CHUNKED),
            b"Connection: close\r\n",
            True,
        ),
        (b"GET / HTTP/1.1\r\nConnection: close", Response(204), b"Connection: close\r\n", True),
    ],
)
def test_responses_are_framed_for_the_request_they_answer(
    line: bytes, response: Response, head: bytes, closes: bool
) -> None:
    server = asked(line + b"\r\n" + HOST + b"\r\n")

    [written] = server.send(response)

    assert bytes(written).partition(b"\r\n")[2] == head + b"\r\n"
    server.send(EndOfMessage())
    assert server.must_close is closes


def test_informational_responses_are_not_for_http_1_0() -> None:
    server = asked(b"GET / HTTP/1.0\r\n\r\n")

    assert server.send(Response(103)) == ()
    assert asked(SIMPLE).send(Response(103)) == (b"HTTP/1.1 103 Early Hints\r\n\r\n",)


def test_trailers_are_sent_in_chunks_only() -> None:
    trailers = Fields([(b"Grpc-Status", b"0")])
    chunked, counted = asked(SIMPLE), asked(SIMPLE)
    chunked.send(Response(200, framing=CHUNKED))
    counted.send(Response(200, framing=Framing.of_length(0)))

    assert chunked.send(EndOfMessage(trailers)) == (b"0\r\nGrpc-Status: 0\r\n\r\n",)
    assert counted.send(EndOfMessage(trailers)) == ()


def test_body_that_is_not_as_long_as_declared_is_not_sent() -> None:
    server = asked(SIMPLE)
    server.send(Response(200, framing=Framing.of_length(3)))
    with pytest.raises(BadContext, match="1 bytes more"):
        server.send(Body(b"abcd"))
    server.send(Body(b"ab"))
    with pytest.raises(BadContext, match="1 bytes less"):
        server.send(EndOfMessage())

    with pytest.raises(BadContext):
        asked(SIMPLE.replace(b"GET", b"HEAD")).send(Body(b"a"))


def test_empty_body_never_ends_a_chunked_message() -> None:
    server = asked(SIMPLE)
    server.send(Response(200, framing=CHUNKED))

    assert server.send(Body(b"")) == ()
    assert server.send(Body(b"abc")) == (b"3\r\n", b"abc", b"\r\n")


@pytest.mark.parametrize(
    "misuse",
    [
        lambda: Http1Server().send(Response(200)),
        lambda: Http1Server().send(Body(b"")),
        lambda: Http1Server().send(EndOfMessage()),
        lambda: asked(SIMPLE).send(RawData(b"")),
        lambda: Http1Client().send(Body(b"")),
        lambda: Http1Client().send(EndOfMessage()),
        lambda: Http1Client().send(RawData(b"")),
        lambda: sent().send(GET),
        lambda: sent().send(Body(b"")),
        lambda: Http1Client().send(Request(b"GET", GET.target)),
        lambda: Http1Client().send(Request(b"GET", GET.target, GET.fields, UNTIL_CLOSE)),
        lambda: Http1Client().send(Request(b"GET / HTTP/1.1\r\nX:", GET.target, GET.fields)),
        lambda: Http1Client().send(Request(b"", GET.target, GET.fields)),
        lambda: Http1Client().send(
            Request(b"GET", GET.target, GET.fields, upgrade=(b"a\r\nX: y",))
        ),
        lambda: asked(SIMPLE).send(Response(200, b"OK\r\nX: y")),
        lambda: asked(SIMPLE).send(Response(99)),
        lambda: asked(SIMPLE).send(Response(1000)),
    ],
)
def test_what_is_out_of_turn_or_would_split_a_message_cannot_be_sent(
    misuse: Callable[[], object],
) -> None:
    with pytest.raises(BadContext):
        misuse()


def test_error_in_the_middle_of_an_answer_ends_in_a_cut() -> None:
    server = Http1Server()
    server.receive_data(b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n")
    assert isinstance(server.next_event(), Request)
    server.send(Response(200, framing=CHUNKED))
    server.receive_data(b"zz\r\n")
    with pytest.raises(HttpProtocolError):
        server.next_event()

    with pytest.raises(BadContext):
        server.send(Response(400))
    server.send(EndOfMessage())
    assert server.must_close


def test_bodies_are_handed_out_where_they_were_received() -> None:
    memory = bytearray(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 100000\r\n\r\n")
    server = Http1Server()
    server.receive_data(memory)
    assert isinstance(server.next_event(), Request)
    assert server.next_event() is None
    received = bytearray(60_000)
    server.receive_data(memoryview(received))

    body = server.next_event()

    assert isinstance(body, Body)
    assert isinstance(body.data, memoryview)
    assert body.data.obj is received
    assert len(body.data) == 60_000


def test_chunks_are_handed_out_where_they_were_received() -> None:
    client = sent()
    client.receive_data(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert isinstance(client.next_event(), Response)
    assert client.next_event() is None
    received = bytearray(b"ea60\r\n" + b"x" * 60_000 + b"\r\n0\r\n\r\n")
    client.receive_data(memoryview(received))

    body = client.next_event()

    assert isinstance(body, Body)
    assert isinstance(body.data, memoryview)
    assert body.data.obj is received
    assert client.next_event() == EndOfMessage()


def test_client_that_leaves_between_requests_or_while_it_waits_is_told_once() -> None:
    idle, waiting, cut = Http1Server(), asked(SIMPLE), Http1Server()
    for server in (idle, waiting):
        server.receive_end()
        assert server.next_event() == EndOfStream()
        assert server.next_event() is None
    assert answered(waiting, Response(204))

    cut.receive_data(b"GET / HTT")
    cut.receive_end()
    with pytest.raises(HttpProtocolError) as refused:
        cut.next_event()
    assert refused.value.fault is HttpFault.TRUNCATED


def test_own_decision_to_close_is_said() -> None:
    server, client = asked(SIMPLE), Http1Client()
    server.close_after_message()
    client.close_after_message()

    assert b"Connection: close\r\n" in answered(server, Response(204))
    assert server.must_close
    assert b"Connection: close\r\n" in bytes(client.send(GET)[0])


def test_persistence_of_one_connection_is_not_passed_to_the_other() -> None:
    response = Response(200, wants_close=True)

    assert b"Connection" not in answered(asked(SIMPLE), response)


def test_request_without_a_body_says_so_where_one_is_usual() -> None:
    for method, is_said in ((b"POST", True), (b"GET", False)):
        [head] = Http1Client().send(Request(method, GET.target, GET.fields, NO_BODY))
        assert (b"Content-Length: 0\r\n" in bytes(head)) is is_said


def test_connect_through_a_parent_is_written_in_authority_form() -> None:
    authority = Authority(HostKind.BRACKETED, b"::1", 443)
    request = Request(b"CONNECT", Target.connect(authority), Fields([(b"Host", bytes(authority))]))

    [head] = Http1Client().send(request)

    assert head == b"CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n\r\n"
    refused = fetch(b"HTTP/1.1 407 Who\r\nContent-Length: 1\r\n\r\nx", request=request)
    assert refused[1:] == [("Body", b"x"), ("end",)]
    assert fault_of(refused) is None
