"""Extended CONNECT towards servers (RFC 8441): what switches, on streams of servers that say so."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded, StreamReset
from h2.settings import SettingCodes
from typing_extensions import override

from sluicegate.filterapi import FORWARD, Refuse
from sluicegate.protocols.http2 import ErrorCode
from sluicegate.protocols.websocket import Close, Message, accept_of
from sluicegate.testing.peers import PeerStream
from tests.chains import root
from tests.flows.gate_kit import Gate, installation
from tests.flows.http2_kit import Http2Peer, StreamPeer, hears_its_end, speaks_http2
from tests.flows.opening_kit import Inside, Met, client_context, open_tls, rule
from tests.flows.test_extended_connect import Switching, echoes
from tests.flows.test_web_server_tls import RULES, SITE, TlsOrigin, get
from tests.flows.tls_kit import TlsPeer, server_context, serving_tls, verifying, with_tls
from tests.flows.web_kit import Visit, browse, read_message, web_settings
from tests.flows.websocket_kit import KEY, End, Judge, echo, handshake, says
from tests.unit.hello_kit import openssl_hello

UPGRADES = RULES + 'upgrades = ["websocket"]\n'
JUDGED = UPGRADES + 'filters = ["judge"]\n'
LARGE = bytes(range(256)) * 2048
ASK = handshake().replace(b"GET http://", b"GET https://")
INSIDE = handshake().replace(b"GET http://site.example/chat", b"GET /chat")

Serve = Callable[[PeerStream], Awaitable[Any]]


class ServedStream(PeerStream):
    """A stream that was asked to switch, at its server, which reads its connection by it."""

    def __init__(self, server: Streams, number: int) -> None:
        self.server = server
        self.number = number
        self._pending = b""
        self.came = b""
        self.is_ended = self.is_reset = False

    @override
    async def receive(self, size: int = 65536) -> bytes:
        while not (self.came or self.is_ended or self.is_reset or self._pending):
            if not await self.server.read():
                raise ConnectionResetError
        if self._pending:
            data, self._pending = self._pending, b""
            return data
        if self.is_reset and not self.came:
            raise ConnectionResetError
        data, self.came = self.came, b""
        return data

    @override
    async def send_all(self, data: bytes) -> None:
        h2 = self.server.h2
        while data:
            room = min(h2.local_flow_control_window(self.number), 16384)
            if not room:
                if self.is_reset or not await self.server.read():
                    raise ConnectionResetError
                continue
            piece, data = data[:room], data[room:]
            h2.send_data(self.number, piece)
            await self.server.flush()

    @override
    def close(self) -> None:
        if not self.is_reset:
            self.server.h2.end_stream(self.number)

    @override
    def reset(self) -> None:
        self.server.h2.reset_stream(self.number, ErrorCode.CANCEL)


class Streams:
    """One connection of a server of HTTP/2."""

    def __init__(self, stream: PeerStream, *, announces: bool) -> None:
        config = H2Configuration(client_side=False, header_encoding="utf-8")
        self.h2 = H2Connection(config)
        self.stream = stream
        self.announces = announces
        self.switching: dict[int, ServedStream] = {}
        self.asked: list[tuple[int, dict[str, str]]] = []

    async def begin(self) -> None:
        self.h2.initiate_connection()
        if self.announces:
            self.h2.update_settings({SettingCodes.ENABLE_CONNECT_PROTOCOL: 1})
        await self.flush()

    async def flush(self) -> None:
        if data := self.h2.data_to_send():
            await self.stream.send_all(data)

    async def read(self) -> bool:
        """Take what comes next; False: nothing does any more."""
        data = await self.stream.receive()
        for event in self.h2.receive_data(data) if data else ():
            if isinstance(event, RequestReceived):
                fields = {str(name): str(value) for name, value in event.headers}
                self.asked.append((event.stream_id, fields))
                if ":protocol" in fields:
                    self.switching[event.stream_id] = ServedStream(self, event.stream_id)
                continue
            one = self.switching.get(getattr(event, "stream_id", 0) or 0)
            if one is not None and isinstance(event, DataReceived):
                one.came += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif one is not None and isinstance(event, StreamEnded):
                one.is_ended = True
            elif one is not None and isinstance(event, StreamReset):
                one.is_reset = True
        await self.flush()
        return bool(data)


class Both(TlsOrigin):
    """A server of HTTP/2 and of HTTP/1.1, that switches to WebSocket in either."""

    def __init__(
        self, then: Serve = echoes, *, announces: bool = True, status: int = 200, tail: bytes = b""
    ) -> None:
        context = server_context(root().issue(names=["site.example"]))
        context.set_alpn_protocols(["h2", "http/1.1"])
        super().__init__(context=context)
        self.then, self.announces, self.status, self.tail = then, announces, status, tail
        self.asked: list[dict[str, str]] = []
        self.spoken: list[str | None] = []
        self.in_http_1 = Switching(then)

    @override
    async def serve(self, stream: PeerStream) -> None:
        await serving_tls(self._serve, self.context, self.ends)(stream)

    async def _serve(self, tls: TlsPeer) -> None:
        self.spoken.append(tls.tls.selected_alpn_protocol())
        if self.spoken[-1] != "h2":
            await self.in_http_1.serve(tls)
            return
        server = Streams(tls, announces=self.announces)
        try:
            await server.begin()
            while await server.read():
                while server.asked:
                    await self._answer(server, *server.asked.pop(0))
        except OSError:
            return
        tls.close()

    async def _answer(self, server: Streams, number: int, fields: dict[str, str]) -> None:
        self.asked.append(fields)
        if ":protocol" not in fields:
            server.h2.send_headers(number, [(":status", "200")])
            server.h2.send_data(number, b"page", end_stream=True)
            await server.flush()
            return
        is_success = self.status < 300
        server.h2.send_headers(number, [(":status", str(self.status))], end_stream=not is_success)
        if self.tail and is_success:
            server.h2.send_data(number, self.tail)
        await server.flush()
        if not is_success:
            return
        await self.then(server.switching[number])
        await server.flush()


def plan_of(policy: str, filters: Any = ()) -> Any:
    return verifying(web_settings(policy, filters=filters))


def switches(
    origin: Both,
    talk: Serve,
    *,
    policy: str = UPGRADES,
    filters: Any = (),
    in_http2: bool = False,
    asks_page: bool = True,
    **options: Any,
) -> tuple[Visit, list[Any]]:
    """Ask for a page first, so that there is a connection, then for a WebSocket on it."""
    got: list[Any] = []

    async def in_http_1(stream: PeerStream) -> None:
        if asks_page:
            await stream.send_all(get())
            assert await read_message(stream, is_response=True) is not None
        await stream.send_all(ASK)
        got.append(await stream.receive_until(b"\r\n\r\n"))
        if b" 101 " in got[0]:
            got.append(await talk(stream))
        stream.close()

    async def on_a_stream(client: Http2Peer) -> None:
        page = [(b":method", b"GET"), (b":scheme", b"https")]
        page += [(b":authority", b"site.example"), (b":path", b"/")]
        if asks_page:
            assert (await client.ask(page)).body == b"page"
        stream = StreamPeer(client)
        await stream.send_all(ASK)
        got.append(await stream.receive_until(b"\r\n\r\n"))
        if b" 101 " in got[0]:
            got.append(await talk(stream))
        stream.close()
        await client.until(lambda: stream.is_over)

    plan, peer = plan_of(policy, filters), in_http_1
    if in_http2:
        plan, peer = with_tls(plan, protocols=("h2", "http/1.1")), speaks_http2(on_a_stream)
    found = browse(origin=origin, plan=plan, address=SITE, peer=peer, **options)
    return found, got


async def sends_all(stream: PeerStream) -> bytes:
    for start in range(0, len(LARGE), 65536):
        await stream.send_all(LARGE[start : start + 65536])
    stream.end_stream()
    return await stream.receive_all()


async def says_hello(stream: PeerStream) -> bytes:
    await stream.send_all(b"hello")
    stream.end_stream()
    return await stream.receive_all()


async def back(stream: PeerStream) -> None:
    whole = b""
    while piece := await stream.receive():
        whole += piece
    await stream.send_all(whole)
    stream.close()


@pytest.mark.parametrize("in_http2", [False, True])
@pytest.mark.parametrize("talk", [says_hello, sends_all])
def test_a_server_that_announces_it_is_asked_on_a_stream(talk: Serve, *, in_http2: bool) -> None:
    origin = Both(back)
    _, got = switches(origin, talk, in_http2=in_http2)
    assert got[1] == (LARGE if talk is sends_all else b"hello")
    assert origin.spoken == ["h2"], "on the connection that is there"
    asked = origin.asked[1]
    assert (asked[":method"], asked[":protocol"], asked[":path"]) == (
        "CONNECT",
        "websocket",
        "/chat",
    )
    assert asked[":authority"] == "site.example"
    assert asked["sec-websocket-version"] == "13"
    assert not {"sec-websocket-key", "upgrade", "connection", "content-length"} & set(asked)


def test_a_client_of_http_1_is_given_the_proof_that_it_asks_for() -> None:
    _, got = switches(Both(), says_hello)
    assert f"Sec-WebSocket-Accept: {accept_of(KEY.encode()).decode()}\r\n".encode() in got[0]
    assert b"\r\nUpgrade: websocket\r\n" in got[0]


@pytest.mark.parametrize("in_http2", [False, True])
def test_a_server_that_does_not_is_asked_in_http_1_on_another_connection(*, in_http2: bool) -> None:
    origin = Both(announces=False)
    _, got = switches(origin, says_hello, in_http2=in_http2)
    assert got[1] == b"hello"
    assert origin.spoken == ["h2", "http/1.1"]
    assert origin.in_http_1.heads[0].startswith(b"GET /chat HTTP/1.1\r\n")


@pytest.mark.parametrize("in_http2", [False, True])
def test_what_comes_with_the_head_is_not_lost(*, in_http2: bool) -> None:
    _, got = switches(Both(tail=b"early "), says_hello, in_http2=in_http2)
    assert got[1] == b"early hello"


@pytest.mark.parametrize("status", [401, 403, 404, 503])
@pytest.mark.parametrize("in_http2", [False, True])
def test_what_is_no_success_passes_as_it_is(status: int, *, in_http2: bool) -> None:
    found, got = switches(Both(status=status), says_hello, in_http2=in_http2)
    assert got[0].startswith(b"HTTP/1.1 %d" % status)
    assert found.gate.requests[-1].status == status


@pytest.mark.parametrize("in_http2", [False, True])
def test_a_reset_of_the_servers_stream_is_one_of_the_clients_side(*, in_http2: bool) -> None:
    async def cuts(stream: PeerStream) -> None:
        await stream.receive()
        stream.reset()

    async def hears(stream: PeerStream) -> str:
        await stream.send_all(b"x")
        try:
            while await stream.receive():
                pass
        except OSError:
            return "reset"
        return "ended"

    _, got = switches(Both(cuts), hears, in_http2=in_http2)
    assert got[1] == "reset"


def test_a_client_that_is_gone_resets_the_stream_alone() -> None:
    seen: list[str] = []

    async def leaves(stream: PeerStream) -> None:
        await stream.send_all(b"x")
        stream.reset()

    origin = Both(hears_its_end(seen))
    found, _ = switches(origin, leaves)
    assert seen == ["reset"]
    assert [one.outcome for one in found.gate.ends] == ["failed"]


@pytest.mark.parametrize("in_http2", [False, True])
def test_messages_are_judged_whatever_carries_them(*, in_http2: bool) -> None:
    heard: list[Any] = []

    async def listens(stream: PeerStream) -> None:
        heard.extend(await echo(End(stream, is_client=False, deflate=None)))
        stream.close()

    async def talk(stream: PeerStream) -> Any:
        messages = Message("hi"), Message("secret"), Message("late")
        return await says(*messages)(End(stream, is_client=True, deflate=None))

    judge = Judge(lambda one: Refuse("a secret") if one.text == "secret" else FORWARD)
    filters = (installation(judge, "judge"),)
    origin = Both(listens)
    found, got = switches(origin, talk, policy=JUDGED, filters=filters, in_http2=in_http2)
    assert origin.spoken == ["h2"]
    assert heard == [Message("hi"), Close(1008)]
    assert got[1][-1] == Close(1008, "a secret")
    record = found.gate.requests[-1]
    assert (record.status, record.outcome, record.ended) == (101, "refused", "a secret")
    assert record.url == "https://site.example/chat"


class Alone(Both):
    """A server that speaks nothing but HTTP/2, and says so by an alert."""

    refused = 0

    @override
    async def serve(self, stream: PeerStream) -> None:
        hello = await stream.receive()
        if b"\x02h2" not in hello:
            self.refused += 1
            await stream.send_all(NO_APPLICATION_PROTOCOL)
            stream.end_stream()
            await stream.receive_all()
            stream.close()
            return
        stream._pending = hello
        await super().serve(stream)


NO_APPLICATION_PROTOCOL = b"\x15\x03\x03\x00\x02\x02\x78"


@pytest.mark.parametrize("in_http2", [False, True])
def test_a_server_of_http_2_alone_is_asked_on_a_stream_from_the_first_request(
    *, in_http2: bool
) -> None:
    origin = Alone(back)
    found, got = switches(origin, says_hello, in_http2=in_http2, asks_page=False)
    assert got[1] == b"hello"
    assert (origin.refused, origin.spoken) == (1, ["h2"])
    assert origin.asked[0][":protocol"] == "websocket"
    assert [one.status for one in found.gate.requests] == [101]


@pytest.mark.parametrize("in_http2", [False, True])
def test_a_server_of_http_2_alone_that_switches_nothing_is_told_of(*, in_http2: bool) -> None:
    origin = Alone(announces=False)
    found, got = switches(origin, says_hello, in_http2=in_http2, asks_page=False)
    assert got[0].startswith(b"HTTP/1.1 502 ")
    (record,) = found.gate.requests
    assert (record.status, record.ended) == (502, "server-has-no-extended-connect")
    assert origin.asked == [], "it was sent nothing"
    assert (origin.refused, origin.spoken) == (1, ["h2"])


def test_the_next_websocket_of_a_server_of_http_2_alone_uses_what_is_there() -> None:
    origin = Alone(back)
    got: list[bytes] = []

    async def peer(stream: PeerStream) -> None:
        await stream.send_all(ASK)
        await stream.receive_until(b"\r\n\r\n")
        got.append(await says_hello(stream))
        stream.close()

    async def again(gate: Gate) -> None:
        await gate.until(lambda: bool(gate.ends))
        await gate.ended(gate.call(peer))

    browse(origin=origin, plan=plan_of(UPGRADES), address=SITE, peer=peer, meanwhile=again)
    assert got == [b"hello"] * 2
    assert (origin.refused, origin.spoken) == (1, ["h2"])


def test_a_server_of_http_2_alone_that_leaves_before_it_has_said_anything_is_told_of() -> None:
    class Silent(Alone):
        @override
        async def _serve(self, tls: TlsPeer) -> None:
            tls.close()

    found, got = switches(Silent(), says_hello, asks_page=False)
    assert got[0].startswith(b"HTTP/1.1 502 ")
    assert found.gate.requests[-1].ended == "server closed"


def test_a_request_that_switches_nothing_is_told_that_no_protocol_is_shared() -> None:
    class Neither(Alone):
        @override
        async def serve(self, stream: PeerStream) -> None:
            stream._pending = (await stream.receive()).replace(b"\x02h2", b"")
            await super().serve(stream)

    found = browse(get(), origin=Neither(), plan=plan_of(UPGRADES), address=SITE)
    assert found.statuses == [502]
    assert found.gate.requests[-1].ended == "server-tls-protocol"


@pytest.mark.parametrize("announces", [False, True])
def test_inside_tls_that_was_opened_the_verified_server_is_asked(*, announces: bool) -> None:
    """What a browser does: HTTP/2 on both sides, a WebSocket beside its pages."""
    got: list[Any] = []

    async def talk(inside: Inside, met: Met) -> None:
        assert met.alpn == "h2"
        client = Http2Peer(inside)
        await client.begin()
        stream = StreamPeer(client)
        page = [(b":method", b"GET"), (b":scheme", b"https")]
        page += [(b":authority", b"site.example"), (b":path", b"/")]
        assert (await client.ask(page)).body == b"page"
        await stream.send_all(b"GET https://site.example" + INSIDE[4:])
        got.append(await stream.receive_until(b"\r\n\r\n"))
        end = End(stream, is_client=True, deflate=None)
        got.append(await says(Message("hi"), Message("secret"))(end))
        stream.close()
        await client.until(lambda: stream.is_over)

    async def listens(stream: PeerStream) -> None:
        await echo(End(stream, is_client=False, deflate=None))
        stream.close()

    judge = Judge(lambda one: Refuse("a secret") if one.text == "secret" else FORWARD)
    origin = Both(listens, announces=announces)
    found = open_tls(
        talk=talk,
        policy=rule(more='upgrades = ["websocket"]\nfilters = ["judge"]'),
        origin=origin,
        context=client_context("h2", "http/1.1"),
        filters=[installation(judge, "judge")],
    )
    assert found.met.error == ""
    assert b" 101 " in got[0]
    assert got[1][-1] == Close(1008, "a secret")
    assert origin.spoken == (["h2"] if announces else ["h2", "http/1.1"])


def opened_for_http_1(origin: Both, *, filters: Any = (), offers: str = "http/1.1") -> Any:
    """Ask for a WebSocket, as browsers do for ``wss://``: in HTTP/1 alone, inside opened TLS."""
    got: list[Any] = []

    async def talk(inside: Inside, met: Met) -> None:
        assert met.alpn == "http/1.1"
        await inside.send_all(INSIDE)
        got.append(await inside.receive_until(b"\r\n\r\n"))
        if b" 101 " in got[0]:
            end = End(inside, is_client=True, deflate=None)
            got.append(await says(Message("hi"), Message("secret"))(end))

    names = '["judge"]' if filters else "[]"
    found = open_tls(
        talk=talk,
        policy=rule(more=f'upgrades = ["websocket"]\nfilters = {names}'),
        origin=origin,
        context=client_context(offers),
        filters=filters,
    )
    return found, got


def test_a_client_of_http_1_has_the_websocket_of_a_server_of_http_2_alone() -> None:
    async def listens(stream: PeerStream) -> None:
        await echo(End(stream, is_client=False, deflate=None))
        stream.close()

    judge = Judge(lambda one: Refuse("a secret") if one.text == "secret" else FORWARD)
    origin = Alone(listens)
    found, got = opened_for_http_1(origin, filters=[installation(judge, "judge")])
    assert found.met.error == ""
    assert got[1][-1] == Close(1008, "a secret")
    assert origin.spoken == ["h2"]
    assert [one[":protocol"] for one in origin.asked] == ["websocket"]
    (record,) = found.gate.requests
    assert (record.status, record.ended) == (101, "a secret")
    assert found.end.tls_verification == "verified"


def test_a_client_of_http_1_is_told_by_a_page_that_there_is_no_websocket() -> None:
    origin = Alone(announces=False)
    found, got = opened_for_http_1(origin)
    assert got[0].startswith(b"HTTP/1.1 502 ")
    (record,) = found.gate.requests
    assert (record.status, record.ended) == (502, "server-has-no-extended-connect")


def test_a_client_of_http_1_has_the_pages_of_a_server_of_http_2_alone() -> None:
    origin = Alone()
    wanted = [get().replace(b"https://site.example", b"")] * 3
    found = open_tls(*wanted, origin=origin, context=client_context("http/1.1"))
    assert found.met.statuses == [200, 200, 200]
    assert origin.spoken == ["h2"]


def test_a_client_whose_protocols_its_server_has_not_is_told_so_in_tls() -> None:
    heard: list[bytes] = []

    class Raw(Inside):
        @override
        async def shake_hands(self) -> None:
            await self.stream.send_all(openssl_hello("site.example", protocols=["imap"]))
            heard.append(await self.stream.receive_all())
            raise ConnectionAbortedError

    found = open_tls(get(), origin=Alone(), made=Raw)
    assert heard == [NO_APPLICATION_PROTOCOL]
    assert (found.end.outcome, found.end.reason) == ("failed", "server-tls-protocol")
