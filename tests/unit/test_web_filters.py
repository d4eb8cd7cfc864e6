"""Web filters in a gate's pipeline: order, answers, failures, bodies, and heads put right."""

from __future__ import annotations

import asyncio
import gzip
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate.filterapi import (
    FORWARD,
    GO_ON,
    HOLD,
    LEAVE,
    SKIP_BODY,
    Answer,
    Direction,
    Forward,
    GoOn,
    Need,
    Needs,
    Redirect,
    Refuse,
    RefuseWith,
    Release,
    Replace,
    Rewrite,
    RouteTo,
    WebFilter,
)
from sluicegate.testing import PlaybookError, PlayedExchange, WebPlay, exchange_web

GET = b"GET /a HTTP/1.1\r\nHost: www.example\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: www.example\r\nContent-Length: 5\r\n\r\nhello"


def response(body: bytes = b"hello", *fields: str, status: str = "200 OK") -> bytes:
    lines = "".join(f"{field}\r\n" for field in fields)
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{lines}\r\n".encode() + body


def chunked(*pieces: bytes, fields: str = "", trailers: str = "") -> bytes:
    head = f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{fields}\r\n".encode()
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return head + body + b"0\r\n" + trailers.encode() + b"\r\n"


class Watch(WebFilter):
    """Writes down what it is asked, and may answer otherwise."""

    def __init__(self, name: str = "w", log: list[str] | None = None, **answers: object) -> None:
        self.label = name
        self.log = log if log is not None else []
        self.answers = answers
        self.ends = 0

    def _say(self, hook: str, default: object) -> object:
        self.log.append(f"{self.label}.{hook}")
        answer = self.answers.get(hook, default)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def on_request(self, exchange):
        return self._say("request", GO_ON)

    def on_route(self, exchange):
        return self._say("route", GO_ON)

    def on_response(self, exchange):
        return self._say("response", GO_ON)

    def on_end(self, exchange, outcome):
        self.ends += 1
        self.log.append(f"{self.label}.end {outcome.verdict}")


def test_requests_meet_filters_in_order_and_responses_the_other_way_round() -> None:
    log: list[str] = []
    with WebPlay(Watch("a", log), Watch("b", log)) as play:
        seen = play.exchange()
    assert seen.verdict == "passed"
    assert log == [
        "a.request", "b.request", "a.route", "b.route", "b.response", "a.response",
        "a.end passed", "b.end passed",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "verdict", "status", "reason"),
    [
        (Refuse("no"), "refused", 403, "no"),
        (RefuseWith("too long", 414), "refused", 414, "too long"),
        (Answer(200, b"mine"), "answered", 200, ""),
        (Redirect("/login"), "answered", 302, ""),
        (None, "refused", 500, "filter failure: Watch-0"),
        (FORWARD, "refused", 500, "filter failure: Watch-0"),
        (Release(), "refused", 500, "filter failure: Watch-0"),
        (GoOn(Need.OBJECT), "refused", 500, "filter failure: Watch-0"),
        (GoOn(alters=True), "refused", 500, "filter failure: Watch-0"),
        (RuntimeError("bug"), "refused", 500, "filter failure: Watch-0"),
    ],
)
@pytest.mark.parametrize("hook", ["request", "response"])
def test_what_a_filter_answers_about_a_head_is_what_happens(
    hook: str, answer: object, verdict: str, status: int, reason: str
) -> None:
    first, second = Watch(**{hook: answer}), Watch("second")
    with WebPlay(first, second) as play:
        seen = play.exchange(POST)
    assert (seen.verdict, seen.status, seen.reason) == (verdict, status, reason)
    assert first.ends == 1
    if hook == "request":
        assert seen.request is None
        assert "second.response" not in second.log
    else:
        assert seen.body == (b"mine" if isinstance(answer, Answer) else b"")


def test_filters_behind_one_that_refuses_are_not_asked_and_not_told_of_the_end() -> None:
    second = Watch("second")
    with WebPlay(Watch(request=Refuse("no")), second) as play:
        play.exchange()
    assert second.log == []


def test_answer_and_redirect_have_the_fields_that_were_given() -> None:
    seen = exchange_web(Watch(request=Answer(451, b"law", {"X-Law": "yes"})))
    assert seen.response is not None
    assert (seen.response.fields.first(b"x-law"), seen.body) == (b"yes", b"law")
    seen = exchange_web(Watch(request=Redirect("https://b.example/", 307)))
    assert seen.response is not None
    assert seen.response.fields.first(b"location") == b"https://b.example/"


class Slow(WebFilter):
    """Every hook a coroutine."""

    needs = Needs(Need.STREAM, Need.STREAM, alters=True)

    def __init__(self, seconds: float = 0.5) -> None:
        self.seconds = seconds

    async def on_request(self, exchange):
        await asyncio.sleep(self.seconds)
        exchange.request.headers.set("X-Slow", "yes")
        return GO_ON

    async def on_route(self, exchange):
        await asyncio.sleep(self.seconds)
        return GO_ON

    async def on_request_chunk(self, exchange, chunk, is_last):
        data = bytes(chunk)
        await asyncio.sleep(self.seconds)
        return Rewrite(data.upper())

    async def on_response(self, exchange):
        await asyncio.sleep(self.seconds)
        return GO_ON

    async def on_response_chunk(self, exchange, chunk, is_last):
        data = bytes(chunk)
        await asyncio.sleep(self.seconds)
        return Rewrite(data.upper())


@pytest.mark.parametrize("piece_bytes", [0, 1, 2])
@pytest.mark.parametrize("is_slow", [False, True])
def test_coroutines_do_what_functions_do(piece_bytes: int, is_slow: bool) -> None:
    with WebPlay(Slow, Watch()) as play:
        seen = play.exchange(POST, piece_bytes=piece_bytes, is_slow=is_slow, wait_s=60)
    assert (seen.verdict, seen.request_body, seen.body) == ("passed", b"HELLO", b"HELLO")
    assert seen.request is not None
    assert seen.request.fields.first(b"x-slow") == b"yes"


@pytest.mark.parametrize(
    "hook", ["on_request", "on_route", "on_request_chunk", "on_response_chunk"]
)
def test_a_coroutine_that_is_late_refuses(hook: str) -> None:
    class Late(Slow):
        pass

    async def late(self, exchange, *rest):
        await asyncio.sleep(3600)

    setattr(Late, hook, late)
    with WebPlay(Late, limits={"filter_event_timeout_s": 2}) as play:
        seen = play.exchange(POST, wait_s=20)
    assert (seen.verdict, seen.reason) == ("refused", "filter failure: Late-0")
    assert seen.failures == ("gave no answer for 2 s (filter_event_timeout_s)",)
    assert seen.body == b""


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(3)])
def test_a_coroutine_that_raises_refuses(error: BaseException) -> None:
    class Raises(WebFilter):
        async def on_response(self, exchange):
            await asyncio.sleep(0)
            raise error

    seen = exchange_web(Raises)
    assert (seen.verdict, seen.status) == ("refused", 500)
    assert len(seen.failures) == 1


class Chunks(WebFilter):
    """Passes bodies, or does with them what a test says."""

    needs = Needs(Need.STREAM, Need.STREAM)

    def __init__(self, on_chunk=None, *, alters: bool = False) -> None:
        self.needs = Needs(Need.STREAM, Need.STREAM, alters=alters)
        self.on_chunk = on_chunk or (lambda data, is_last: FORWARD)
        self.lasts: list[str] = []

    def on_request_chunk(self, exchange, chunk, is_last):
        if is_last:
            self.lasts.append("request")
        return self.on_chunk(bytes(chunk), is_last)

    def on_response_chunk(self, exchange, chunk, is_last):
        if is_last:
            self.lasts.append("response")
        return self.on_chunk(bytes(chunk), is_last)


def hold_some(data: bytes, is_last: bool) -> object:
    """Keep what may be the beginning of a word, as a parser does."""
    return FORWARD if is_last else Forward(len(data) // 2)


def rewrite_same(data: bytes, is_last: bool) -> object:
    return Rewrite(data)


def rewrite_half(data: bytes, is_last: bool) -> object:
    half = len(data) if is_last else len(data) // 2
    return Rewrite(data[:half], half)


@settings(max_examples=40, deadline=None)
@given(
    st.binary(max_size=300),
    st.integers(0, 40),
    st.booleans(),
    st.lists(st.sampled_from([None, hold_some, rewrite_same, rewrite_half]), max_size=3),
    st.sampled_from(["plain", "chunked", "gzip"]),
)
def test_filters_that_pass_everything_are_byte_identical_for_every_cut(
    body: bytes, piece_bytes: int, is_slow: bool, hooks: list, form: str
) -> None:
    filters = [Chunks(hook, alters=True) for hook in hooks]
    sent = response(body)
    if form == "chunked":
        sent = chunked(body) if body else chunked()
    elif form == "gzip":
        sent = response(gzip.compress(body), "Content-Encoding: gzip")
    with WebPlay(*filters) as play:
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body)
        seen = play.exchange(head + body, sent, piece_bytes=piece_bytes, is_slow=is_slow, wait_s=60)
    assert (seen.verdict, seen.request_body) == ("passed", body)
    is_decoded = form != "gzip" or bool(filters)
    assert (seen.body if is_decoded else gzip.decompress(seen.body)) == body
    for one in filters:
        # The end is told once in each direction, to whoever sees a body.
        assert one.lasts.count("request") <= 1
        assert one.lasts.count("response") <= 1


def test_end_of_a_body_is_told_once_in_each_direction() -> None:
    chunks = Chunks()
    with WebPlay(chunks) as play:
        play.exchange(POST, piece_bytes=1)
    assert chunks.lasts == ["request", "response"]


def test_a_filter_that_leaves_is_not_asked_any_more() -> None:
    asked: list[bytes] = []

    def once(data: bytes, is_last: bool) -> object:
        asked.append(data)
        return LEAVE

    seen = exchange_web(Chunks(once), response=chunked(b"abc", b"def"), piece_bytes=2)
    assert (seen.body, asked) == (b"abcdef", [b"ab"])


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (None, "answered None, which is no verdict about a chunk"),
        (GO_ON, "which is no verdict about a chunk"),
        (Forward(99), "let 99 of 5 bytes go on"),
        (Forward(-1), "let -1 of 5 bytes go on"),
        (Rewrite(b"x"), "changed a body without saying that it does (alters)"),
    ],
)
def test_an_answer_about_a_chunk_that_makes_no_sense_refuses(answer: object, cause: str) -> None:
    seen = exchange_web(Chunks(lambda data, is_last: answer))
    assert seen.verdict == "refused"
    assert cause in seen.failures[0]
    assert seen.body == b""


def test_what_is_held_behind_the_end_is_a_failure() -> None:
    seen = exchange_web(Chunks(lambda data, is_last: HOLD))
    assert seen.failures == ("holds 5 bytes behind the end of the body",)
    assert seen.body == b""


def test_a_filter_that_holds_without_end_reaches_a_limit() -> None:
    with WebPlay(
        Chunks(lambda data, is_last: HOLD), limits={"stream_hold_bytes_max": 65536}
    ) as play:
        seen = play.exchange(GET, response(b"x" * 300_000), piece_bytes=10_000)
    assert (seen.status, seen.reason) == (
        413,
        "filter Chunks-0 holds more than stream_hold_bytes_max",
    )


def test_a_refusal_behind_the_first_bytes_is_no_clean_end() -> None:
    seen = exchange_web(
        Chunks(lambda data, is_last: Refuse("secret") if b"secret" in data else FORWARD),
        response=chunked(b"begin ", b"secret"),
    )
    assert (seen.verdict, seen.status, seen.trailers) == ("refused", 0, None)
    assert seen.body == b"begin "


ALTERED = Chunks(lambda data, is_last: Rewrite(data.upper()), alters=True)
STAMPED = (
    'ETag: "v1"', "Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT", "Accept-Ranges: bytes",
    "Content-MD5: abc", "Digest: sha-256=abc", "Content-Digest: sha-256=:abc:",
    "Repr-Digest: sha-256=:abc:", "X-Kept: yes",
)  # fmt: skip


def names(seen: PlayedExchange) -> set[str]:
    assert seen.response is not None
    return {name.decode().lower() for name, _ in seen.response.fields}


def test_head_of_an_altered_body_says_nothing_of_the_old_bytes() -> None:
    seen = exchange_web(ALTERED, GET, response(b"hello", *STAMPED))
    assert seen.body == b"HELLO"
    assert seen.response is not None
    assert seen.response.framing.is_chunked
    assert names(seen) == {"etag", "last-modified", "x-kept"}
    assert seen.response.fields.first(b"etag") == b'W/"v1"'


def test_head_of_a_body_that_is_only_looked_at_stays() -> None:
    seen = exchange_web(Chunks(), GET, response(b"hello", *STAMPED))
    assert seen.response is not None
    assert seen.response.framing.length == 5
    assert len(names(seen)) == 8
    assert seen.response.fields.first(b"etag") == b'"v1"'


def test_head_of_an_answer_to_head_says_what_that_of_get_would() -> None:
    request = GET.replace(b"GET", b"HEAD")
    sent = response(b"", *STAMPED).replace(b"Content-Length: 0", b"Content-Length: 500")
    seen = exchange_web(ALTERED, request, sent)
    assert seen.response is not None
    assert seen.response.fields.first(b"etag") == b'W/"v1"'
    assert seen.response.framing.length == 0


def test_digests_in_the_trailers_of_an_altered_body_are_taken_out() -> None:
    sent = chunked(b"hello", trailers="Repr-Digest: sha-256=:abc:\r\nX-Sum: 3\r\n")
    seen = exchange_web(ALTERED, GET, sent)
    assert seen.trailers is not None
    assert list(seen.trailers) == [(b"X-Sum", b"3")]
    seen = exchange_web(Chunks(), GET, sent)
    assert seen.trailers is not None
    assert len(seen.trailers) == 2


@pytest.mark.parametrize("coding", ["gzip", "deflate", "x-gzip", "deflate, gzip"])
def test_filters_see_what_a_browser_sees(coding: str) -> None:
    body = b"plain text " * 50
    coded = gzip.compress(body) if "deflate" not in coding else zlib.compress(body)
    if coding == "deflate, gzip":
        coded = gzip.compress(zlib.compress(body))
    shown = bytearray()

    def look(data: bytes, is_last: bool) -> object:
        shown.extend(data)
        return FORWARD

    sent = response(coded, f"Content-Encoding: {coding}", 'ETag: "v1"')
    seen = exchange_web(Chunks(look), GET, sent, piece_bytes=7)
    assert bytes(shown) == seen.body == body
    assert names(seen) == {"etag"}


def test_a_bomb_is_refused_and_others_have_their_turns() -> None:
    bomb = gzip.compress(b"\0" * (64 << 20))
    seen = exchange_web(Chunks(), GET, response(bomb, "Content-Encoding: gzip"))
    assert (seen.verdict, seen.reason) == ("refused", "content-coding-bomb")


def test_a_coded_body_that_is_cut_short_is_refused() -> None:
    coded = gzip.compress(b"hello" * 100)[:-4]
    seen = exchange_web(Chunks(), GET, response(coded, "Content-Encoding: gzip"))
    assert (seen.verdict, seen.reason) == ("refused", "content-coding-truncated")


def test_servers_are_asked_for_whole_objects_in_codings_that_can_be_read() -> None:
    request = (
        b'GET /a HTTP/1.1\r\nHost: www.example\r\nRange: bytes=0-9\r\nIf-Range: "x"\r\n'
        b"Accept-Encoding: gzip, br, sdch, *\r\n\r\n"
    )
    seen = exchange_web(Chunks(), request)
    assert seen.request is not None
    assert b"range" not in seen.request.fields
    assert b"if-range" not in seen.request.fields
    assert seen.request.fields.first(b"accept-encoding") == b"gzip, br"
    seen = exchange_web(Watch(), request)
    assert seen.request is not None
    assert b"range" in seen.request.fields


class Objects(WebFilter):
    def __init__(self, answer: object = None, unmet: object = None, **needs: object) -> None:
        self.needs = Needs(Need.OBJECT, Need.OBJECT, **{"alters": True, **needs})
        self.answer = answer or Release()
        self.unmet = unmet
        self.causes: list[tuple[Direction, str]] = []
        self.bodies: list[bytes] = []
        self.chunks: list[bytes] = []

    async def on_request_body(self, exchange, body):
        return await self.judge(exchange.request, body)

    async def on_response_body(self, exchange, body):
        return await self.judge(exchange.response, body)

    async def judge(self, head, body):
        async with body.open() as file:
            self.bodies.append(await file.read())
        head.headers.set("X-Judged", "yes")
        return self.answer

    def on_response_chunk(self, exchange, chunk, is_last):
        self.chunks.append(bytes(chunk))
        return Rewrite(bytes(chunk).upper())

    def on_unmet(self, exchange, direction, cause):
        self.causes.append((direction, cause))
        return self.unmet or super().on_unmet(exchange, direction, cause)


@pytest.mark.parametrize("piece_bytes", [0, 1, 3])
@pytest.mark.parametrize("is_slow", [False, True])
@pytest.mark.parametrize("in_file", [False, True])
def test_a_whole_body_is_shown_before_anything_of_it_goes_on(
    piece_bytes: int, is_slow: bool, in_file: bool
) -> None:
    judge = Objects()
    limits = {"spool_memory_bytes_max": 0} if in_file else {}
    with WebPlay(judge, limits=limits) as play:
        seen = play.exchange(POST, response(), piece_bytes=piece_bytes, is_slow=is_slow, wait_s=5)
    assert judge.bodies == [b"hello", b"hello"]
    assert (seen.verdict, seen.request_body, seen.body) == ("passed", b"hello", b"hello")
    assert seen.request is not None
    assert seen.response is not None
    assert seen.request.fields.first(b"x-judged") == b"yes"
    assert seen.response.fields.first(b"x-judged") == b"yes"
    assert seen.response.framing.length == 5


@pytest.mark.parametrize(
    ("answer", "verdict", "status", "request_body"),
    [
        (Refuse("bad"), "refused", 403, b""),
        (RefuseWith("bad", 422), "refused", 422, b""),
        (Answer(200, b"mine"), "answered", 200, b""),
        (Redirect("/elsewhere"), "answered", 302, b""),
        (Replace(b"other body"), "passed", 200, b"other body"),
        (GO_ON, "refused", 503, b""),
    ],
)
def test_what_a_filter_answers_about_a_whole_body_is_what_happens(
    answer: object, verdict: str, status: int, request_body: bytes
) -> None:
    with WebPlay(Objects(answer)) as play:
        seen = play.exchange(POST, response(b"hello", *STAMPED))
    assert (seen.verdict, seen.status, seen.request_body) == (verdict, status, request_body)
    if verdict == "passed":
        assert seen.request is not None
        assert seen.response is not None
        assert seen.request.framing.length == 10
        assert seen.response.framing.length == 10
        assert names(seen) == {"etag", "last-modified", "x-kept", "x-judged"}
    else:
        assert seen.request is None


UNMET = [
    (chunked(b"data: 1\n\n", fields="Content-Type: text/event-stream\r\n"), "an endless stream"),
    (response(b"x" * 2000), "larger than 1000 bytes"),
    (chunked(b"x" * 900, b"x" * 900), "larger than 1000 bytes"),
    (response(b"x", "Content-Encoding: sdch"), "a content coding that the gate cannot read"),
    (response(b"x", "Content-Range: bytes 0-0/9", status="206 Part"), "a part of an object"),
]


@pytest.mark.parametrize(("sent", "cause"), UNMET)
def test_a_need_that_cannot_be_met_is_told_and_refused(sent: bytes, cause: str) -> None:
    judge = Objects(object_bytes_max=1000)
    seen = exchange_web(judge, GET, sent)
    assert judge.causes == [(Direction.DOWNLOAD, cause)]
    assert (seen.verdict, seen.reason, seen.status, seen.body) == ("refused", cause, 403, b"")
    assert judge.bodies == []


@pytest.mark.parametrize(("sent", "cause"), UNMET)
@pytest.mark.parametrize("piece_bytes", [0, 100])
@pytest.mark.parametrize("is_slow", [False, True])
def test_a_filter_may_let_pass_what_it_cannot_be_shown(
    sent: bytes, cause: str, piece_bytes: int, is_slow: bool
) -> None:
    judge = Objects(object_bytes_max=1000, unmet=SKIP_BODY)
    plain = exchange_web(Watch(), GET, sent)
    seen = exchange_web(judge, GET, sent, piece_bytes=piece_bytes, is_slow=is_slow, wait_s=10)
    assert (seen.verdict, seen.body) == ("passed", plain.body)
    assert judge.bodies == []
    assert judge.chunks == []


@pytest.mark.parametrize(("sent", "cause"), UNMET)
@pytest.mark.parametrize("piece_bytes", [0, 100])
@pytest.mark.parametrize("is_slow", [False, True])
def test_a_filter_may_take_piece_by_piece_what_it_cannot_have_whole(
    sent: bytes, cause: str, piece_bytes: int, is_slow: bool
) -> None:
    judge = Objects(object_bytes_max=1000, unmet=GoOn(Need.STREAM))
    plain = exchange_web(Watch(), GET, sent)
    seen = exchange_web(judge, GET, sent, piece_bytes=piece_bytes, is_slow=is_slow, wait_s=10)
    assert (seen.verdict, seen.body) == ("passed", plain.body.upper())
    assert b"".join(judge.chunks) == plain.body


@pytest.mark.parametrize("unmet", [GO_ON, GoOn(Need.OBJECT), None, "nonsense"])
def test_an_answer_to_an_unmet_need_that_does_not_meet_it_refuses(unmet: object) -> None:
    class Wrong(Objects):
        def on_unmet(self, exchange, direction, cause):
            return unmet

    seen = exchange_web(Wrong(object_bytes_max=1), GET)
    assert (seen.verdict, seen.status) == ("refused", 500)


def test_a_body_of_unknown_length_that_does_not_end_is_told_and_not_waited_for() -> None:
    judge = Objects(object_wait_s=5.0)
    seen = exchange_web(judge, GET, chunked(b"tick"), stall_s=30)
    assert judge.causes == [(Direction.DOWNLOAD, "has not ended within 5 s")]
    assert seen.verdict == "refused"


@pytest.mark.parametrize(
    ("needs", "cause"),
    [
        (Needs(request=Need.STREAM), "it needs STREAM of requests, and has no on_request_chunk"),
        (Needs(request=Need.OBJECT), "it needs OBJECT of requests, and has no on_request_body"),
        (Needs(response=Need.STREAM), "it needs STREAM of responses, and has no on_response_chunk"),
        (Needs(response=Need.OBJECT), "it needs OBJECT of responses, and has no on_response_body"),
        (Needs(object_bytes_max=0), "its object_bytes_max is not above 0"),
        (Needs(object_wait_s=0), "its object_wait_s is not above 0"),
    ],
)
def test_a_filter_that_cannot_take_what_it_needs_blocks_its_rule(needs: Needs, cause: str) -> None:
    class Wanting(WebFilter):
        pass

    Wanting.needs = needs
    with pytest.raises(PlaybookError, match=cause):
        exchange_web(Wanting)


def test_messages_without_a_body_have_none_that_is_shown() -> None:
    judge = Objects()
    seen = exchange_web(judge, GET, response(b""))
    assert (seen.verdict, judge.bodies) == ("passed", [])
    seen = exchange_web(judge, GET.replace(b"GET", b"HEAD"), response(b"", "X: y"))
    assert (seen.verdict, judge.bodies) == ("passed", [])


def test_a_message_may_be_left_alone() -> None:
    class Skips(Chunks):
        def on_response(self, exchange):
            return SKIP_BODY

    seen = exchange_web(Skips(lambda data, is_last: Refuse("seen")))
    assert (seen.verdict, seen.body) == ("passed", b"hello")


def test_a_route_leads_elsewhere_and_the_host_with_it() -> None:
    seen = exchange_web(Watch(route=RouteTo("backend.example", 8080)), GET)
    assert seen.request is not None
    assert str(seen.request.authority) == "backend.example:8080"
    assert seen.request.fields.first(b"host") == b"backend.example:8080"
    seen = exchange_web(Watch(route=RouteTo("2001:db8::1", 80, keeps_host=True)), GET)
    assert seen.request is not None
    assert str(seen.request.authority) == "[2001:db8::1]:80"
    assert seen.request.fields.first(b"host") == b"www.example"


def test_state_is_the_filters_own_and_the_exchanges_own() -> None:
    class Counts(WebFilter):
        def on_request(self, exchange):
            assert exchange.state is None
            exchange.state = [exchange.request.path]
            return GO_ON

        def on_response(self, exchange):
            exchange.state.append(str(exchange.response.status))
            return GO_ON

        def on_log(self, exchange):
            exchange.note("seen", {"count": 1})
            return {"path": "/".join(exchange.state), "size": 5}

    with WebPlay(Counts, Watch()) as play:
        for _ in range(2):
            seen = play.exchange(GET)
            assert seen.facts == {"path": "/a/200", "size": 5}
            assert seen.notes == ("seen",)


@pytest.mark.parametrize("facts", [None, "text", {"a": 1.5}, {1: "a"}, {"a": b"x"}])
def test_facts_that_no_record_can_hold_are_a_failure_of_their_filter(facts: object) -> None:
    class Logs(WebFilter):
        def on_log(self, exchange):
            return facts

    seen = exchange_web(Logs)
    assert (seen.verdict, seen.facts) == ("passed", {})
    assert len(seen.failures) == 1


def test_a_head_cannot_be_changed_behind_its_hook() -> None:
    class TooLate(WebFilter):
        def on_response(self, exchange):
            exchange.request.headers.set("X", "late")
            return GO_ON

    seen = exchange_web(TooLate)
    assert (seen.verdict, seen.status) == ("refused", 500)
    assert "the head has gone" in seen.failures[0]


def test_a_filter_that_looks_at_no_content_lets_codings_and_ranges_be() -> None:
    class Counts(Chunks):
        needs = Needs(response=Need.STREAM, is_decoded=False)

        def __init__(self) -> None:
            self.shown = b""

        def on_response_chunk(self, exchange, chunk, is_last):
            self.shown += bytes(chunk)
            return FORWARD

    coded = gzip.compress(b"hello")
    request = GET.replace(b"\r\n\r\n", b"\r\nRange: bytes=0-1\r\nAccept-Encoding: sdch\r\n\r\n")
    counts = Counts()
    seen = exchange_web(counts, request, response(coded, "Content-Encoding: gzip", 'ETag: "v"'))
    assert seen.body == counts.shown == coded
    assert names(seen) == {"content-encoding", "etag"}
    assert seen.request is not None
    assert seen.request.fields.first(b"range") == b"bytes=0-1"
    with WebPlay(Chunks, counts) as play:
        # In front of one that reads, seen from the server: it still sees what travels.
        counts.shown = b""
        seen = play.exchange(request, response(coded, "Content-Encoding: gzip"))
    assert (counts.shown, seen.body) == (coded, b"hello")
