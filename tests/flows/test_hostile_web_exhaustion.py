"""Groups N2 to N5 and N10 for requests with whole URLs (absolute-form), in clear and inside TLS.

The other ways in which clients come have the same in ``test_flood`` and ``test_hostile_exhaustion``;
``test_web_policy`` has the requests of a minute, ``test_web_hostile`` who is too slow by itself.
"""

# ruff: noqa: E501 - one line a case

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from sluicegate.address import SocketAddress
from sluicegate.audit import LimitRecord
from sluicegate.gate.entry_dialogue import Authenticate
from sluicegate.policy import FloodBounds
from sluicegate.protocol_limits import (
    HTTP_FIELD_BYTES_MAX,
    HTTP_FIELDS_MAX,
    HTTP_HEAD_BYTES_MAX,
    HTTP_METHOD_BYTES_MAX,
    HTTP_TARGET_BYTES_MAX,
)
from sluicegate.testing.peers import PeerStream
from sluicegate.web_limits import WEB_URL_RECORDED_CHARACTERS_MAX
from tests.flows import entry_kit
from tests.flows.entry_kit import Names, carried, carried_plan
from tests.flows.gate_kit import CLIENT, Gate, play, what_comes
from tests.flows.web_kit import SITE, Message, Origin, get, read_message, reply, web_settings

OTHER_CLIENT = SocketAddress.parse("10.1.1.2:0")
EVERYTHING = '[[rule]]\nname = "all"\nto = ["*"]\nprotocols = ["tcp:80"]\n'
SOON: dict[str, Any] = {
    "handshake_timeout_s": 20.0,
    "web_head_timeout_s": 20.0,
    "web_idle_timeout_s": 20.0,
    "web_window_s": 20.0,
    "web_response_timeout_s": 20.0,
}
"""Limits of a gate whose clients are not waited for as long as by default."""


@pytest.fixture(autouse=True, params=entry_kit.CARRIAGES)
def carriage(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every client ask in clear, and inside TLS."""
    monkeypatch.setattr(entry_kit, "carriage", request.param)


async def serves(stream: PeerStream) -> None:
    """Be a web server that answers, or never does."""
    with contextlib.suppress(OSError):
        while (request := await read_message(stream)) is not None:
            if "/silent" in request.line:
                await stream.receive_all()
                break
            await stream.send_all(reply())
    stream.close()


class SilentNames(Names):
    """A DNS server that never answers for names below ``silent.example``."""

    async def ask_udp(self, server: Any, query: Any) -> bytes:
        name = query.question.name
        if not name.endswith("silent.example"):
            return await super().ask_udp(server, query)
        self.asked[name] += 1
        await asyncio.sleep(600)
        raise TimeoutError


def run(scenario: Callable[[Gate], Any], *, names: Names | None = None, **more: Any) -> Gate:
    async def whole(gate: Gate) -> None:
        gate.serve(serves, address=SITE)
        await scenario(gate)

    names = (names or SilentNames()).put("site.example", SITE.host)
    return play(whole, carried_plan(web_settings(EVERYTHING)), exchange=names, **more)


def says(*parts: bytes) -> Callable[[PeerStream], Any]:
    """Be a client that says this, reading an answer between two parts, and stays."""

    async def peer(stream: PeerStream) -> bytes:
        try:
            for number, part in enumerate(parts):
                if number:
                    await read_message(stream, is_response=True)
                await stream.send_all(part)
        except OSError as error:
            return f"<{error.errno}>".encode()
        return await what_comes(stream)

    return carried(peer)


def limits(gate: Gate) -> Counter[str]:
    found: Counter[str] = Counter()
    for record in gate.recorder.of(LimitRecord):
        found[record.limit] += record.count
    return found


def there(gate: Gate) -> int:
    """Return how many clients the gate has, with or without a connection."""
    return gate.service.entries.handshake_count + gate.service.connection_count


def end_all(gate: Gate) -> None:
    for view in gate.service.connections():
        gate.service.kill(view.connection, "test")


POST = get("/", "site.example", "Content-Length: 100000", method="POST")
CHUNKED = get("/", "site.example", "Transfer-Encoding: chunked", method="POST")

# what a client sends before it falls silent
UNFINISHED: dict[str, list[bytes]] = {
    "nothing": [],
    "a letter": [b"G"],
    "a method": [b"GET"],
    "a method and a space": [b"GET "],
    "half a URL": [b"GET http://www.exam"],
    "a line": [b"GET http://site.example/ HTTP/1.1\r\n"],
    "half a field": [b"GET http://site.example/ HTTP/1.1\r\nHost: site.exa"],
    "all but the last byte": [get()[:-1]],
    "an unknown method": [b"BREW http://site.example/"],
}
# ... whose server is not there
WITHOUT_SERVER: dict[str, list[bytes]] = {
    "a name that is looked up": [get("/", "n.silent.example")],
}
# ... and what a client sends that is served, and stays
SERVED: dict[str, list[bytes]] = {
    "an answer, then nothing": [get(), b""],
    "ten answers, then nothing": [get()] * 10 + [b""],
    "an answer, then half a head": [get(), b"GET http://site.ex"],
    "a server that never answers": [get("/silent")],
    "half a body": [POST + b"half"],
    "a body without a byte": [POST],
    "half a chunk": [CHUNKED + b"10\r\nhalf"],
    "half of what comes behind chunks": [CHUNKED + b"1\r\na\r\n0\r\nX: "],
}
STAYING = UNFINISHED | WITHOUT_SERVER | SERVED


def every(table: dict[str, list[bytes]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("parts", table.values(), ids=table)


# -- N2: who stays and says nothing ----------------------------------------------------------------


@every(STAYING)
def test_n2_clients_that_stay_and_say_nothing_are_ended_and_make_room(parts: list[bytes]) -> None:
    async def scenario(gate: Gate) -> None:
        idle = [gate.call(says(*parts)) for _ in range(50)]
        await asyncio.sleep(1.0)
        assert 0 < there(gate) <= 5
        await gate.ended(*idle)
        await gate.idle()
        again = gate.call(says(*parts))
        await asyncio.sleep(1.0)
        assert not again.is_done, "who was ended does not count any more"
        await gate.ended(again)

    gate = run(scenario, flood=FloodBounds(connections_max=5), **SOON)
    assert all(end.duration_s <= 60 for end in gate.ends)
    assert limits(gate) == {"connections_max": 45}


@every(UNFINISHED)
def test_n1_n2_heads_that_trickle_in_are_bounded_and_ended(parts: list[bytes]) -> None:
    gates: list[Gate] = []

    async def slow(stream: PeerStream) -> bytes:
        with contextlib.suppress(OSError):  # its time is over, whatever it goes on to send
            for byte in b"".join(parts):
                await stream.send_all(bytes([byte]))
                await gates[0].peers.sleep(1.0)
        return await what_comes(stream)

    async def scenario(gate: Gate) -> None:
        gates.append(gate)
        many = []
        for _ in range(20):
            many.append(gate.call(carried(slow)))
            await asyncio.sleep(0.5)
        await asyncio.sleep(6.0)
        assert 0 < there(gate) <= 4
        await asyncio.sleep(30.0)
        assert there(gate) == 0
        await gate.ended(*many)

    gate = run(scenario, flood=FloodBounds(half_open_max=4), **SOON)
    assert all(one.verdict == "denied" for one in [*gate.decisions, *gate.requests])


# -- N3: caps --------------------------------------------------------------------------------------


@every(STAYING)
def test_n3_connections_of_one_client_at_once_are_bounded(parts: list[bytes]) -> None:
    async def scenario(gate: Gate) -> None:
        first = [gate.call(says(*parts)) for _ in range(3)]
        await asyncio.sleep(0.5)
        assert sum(task.is_done for task in first) == 1
        other = gate.call(says(*parts), source=OTHER_CLIENT)
        await asyncio.sleep(0.5)
        assert not other.is_done, "others are not to suffer for it"
        await gate.ended(*first, other)
        await gate.idle()
        again = gate.call(says(*parts))
        await asyncio.sleep(0.5)
        assert not again.is_done, "what has ended does not count"
        await gate.ended(again)

    gate = run(scenario, flood=FloodBounds(connections_max=2), **SOON)
    assert limits(gate) == {"connections_max": 1}
    assert gate.service.flood.view().reached == {"connections_max": 1}


@every(STAYING)
def test_n3_connections_of_a_minute_are_bounded(parts: list[bytes]) -> None:
    async def visit(gate: Gate, source: SocketAddress = CLIENT) -> str:
        task = gate.call(says(*parts), source=source)
        await asyncio.sleep(0.5)
        was_heard = not task.is_done
        return "heard" if was_heard else "reset"

    async def scenario(gate: Gate) -> None:
        assert [await visit(gate) for _ in range(5)] == ["heard"] * 3 + ["reset"] * 2
        assert await visit(gate, OTHER_CLIENT) == "heard"
        await asyncio.sleep(121)
        assert await visit(gate) == "heard"
        await asyncio.sleep(60)

    gate = run(scenario, flood=FloodBounds(connects_per_minute=3), **SOON)
    assert limits(gate) == {"connects_per_minute": 2}


async def come_one_by_one(gate: Gate, parts: Sequence[bytes], count: int) -> list[Any]:
    calls = []
    for _ in range(count):
        calls.append(gate.call(says(*parts)))
        await asyncio.sleep(0.2)
    return calls


@every(UNFINISHED | WITHOUT_SERVER)
def test_n3_clients_are_half_open_until_they_have_a_server(parts: list[bytes]) -> None:
    async def scenario(gate: Gate) -> None:
        waiting = await come_one_by_one(gate, parts, 5)
        assert [task.is_done for task in waiting] == [False] * 2 + [True] * 3
        await gate.ended(*waiting)
        await gate.idle()
        again = await come_one_by_one(gate, parts, 1)
        assert not again[0].is_done, "what has ended does not count"
        await gate.ended(*again)

    gate = run(scenario, flood=FloodBounds(half_open_max=2), **SOON)
    assert limits(gate) == {"half_open_max": 3}


@every(SERVED)
def test_n3_clients_that_have_a_server_are_not_half_open(parts: list[bytes]) -> None:
    async def scenario(gate: Gate) -> None:
        served = await come_one_by_one(gate, parts, 5)
        assert not any(task.is_done for task in served)
        end_all(gate)
        await gate.ended(*served)

    assert limits(run(scenario, flood=FloodBounds(half_open_max=2), **SOON)) == {}


def test_n3_clients_whose_server_does_not_answer_the_dial_are_half_open() -> None:
    def swallow_dials(gate: Gate) -> None:
        connect = gate.network.connect

        def swallowing(sock: Any, address: SocketAddress, done: Callable[[int], None]) -> None:
            if address != SITE:
                connect(sock, address, done)

        gate.network.connect = swallowing  # type: ignore[method-assign]

    async def scenario(gate: Gate) -> None:
        waiting = await come_one_by_one(gate, [get()], 5)
        assert [task.is_done for task in waiting] == [False] * 2 + [True] * 3
        await gate.ended(*waiting)

    bounds = FloodBounds(half_open_max=2)
    gate = run(scenario, prepare=swallow_dials, flood=bounds, **SOON)
    assert limits(gate) == {"half_open_max": 3}


# what a client asks that is answered by the gate alone
REFUSED: dict[str, list[bytes]] = {
    "a name that does not exist": [get("/", "none.example"), b""],
    "an address that no rule names": [get("/", "10.9.9.9"), b""],
    "a scheme that is not served": [get().replace(b"http:", b"ftp:"), b""],
}


@every(REFUSED)
def test_n3_clients_that_were_refused_are_idle_and_not_half_open(parts: list[bytes]) -> None:
    async def scenario(gate: Gate) -> None:
        refused = await come_one_by_one(gate, parts, 5)
        assert not any(task.is_done for task in refused)
        end_all(gate)
        await gate.ended(*refused)

    assert limits(run(scenario, flood=FloodBounds(half_open_max=2), **SOON)) == {}


def test_n3_connections_of_a_rule_are_bounded() -> None:
    policy = EVERYTHING + "limits = { connections_max = 2 }\n"
    statuses: list[int] = []

    async def keeps(stream: PeerStream) -> None:
        await stream.send_all(get())
        answer = await read_message(stream, is_response=True)
        statuses.append(0 if answer is None else answer.status)
        await what_comes(stream)

    async def scenario(gate: Gate) -> None:
        gate.serve(serves, address=SITE)
        for number in range(4):
            source = SocketAddress.parse(f"10.1.1.{number + 1}:0")
            gate.call(carried(keeps), source=source)
            await asyncio.sleep(0.2)
        await gate.idle()
        await gate.ended(gate.call(carried(keeps)))

    names = Names().put("site.example", SITE.host)
    gate = play(scenario, carried_plan(web_settings(policy)), exchange=names, **SOON)
    assert statuses == [200, 200, 503, 503, 200]
    assert limits(gate) == {"rule all connections_max": 2}


# -- N4, N5: heads ---------------------------------------------------------------------------------


SITE_URL = b"http://site.example/"


def url(target: bytes, *fields: bytes, host: bytes = b"site.example") -> bytes:
    return b"\r\n".join([b"GET %s HTTP/1.1" % target, b"Host: " + host, *fields, b"", b""])


def at(size: int, start: bytes = SITE_URL) -> bytes:
    """A URL of so many bytes."""
    return start + b"a" * (size - len(start))


def field(size: int) -> bytes:
    """A field of so many bytes, the space before its value among them."""
    return b"X: " + b"a" * (size - 2)


def filled(size: int) -> bytes:
    """A head of so many bytes, in fields that are within their bound."""
    full = [field(15_000)] * 4
    rest = size - len(url(SITE_URL, *full, b"Y: "))
    return url(SITE_URL, *full, b"Y: " + b"a" * rest)


def hosted(host: bytes) -> bytes:
    """A request to this host."""
    return url(b"http://" + host + b"/", host=host)


# what a client sends, what it is told
HEADS: dict[str, tuple[bytes, int]] = {
    "N5 a URL at its bound": (url(at(HTTP_TARGET_BYTES_MAX)), 200),
    "N5 a URL beyond": (url(at(HTTP_TARGET_BYTES_MAX + 1)), 414),
    "N5 a URL of 64 KiB": (url(at(65_536)), 414),
    "N5 a URL of a mebibyte": (url(at(1 << 20)), 414),
    "N5 a URL that never ends": (b"GET http://site.example/" + b"a" * (1 << 20), 414),
    "N5 a query at the bound": (url(at(HTTP_TARGET_BYTES_MAX, SITE_URL + b"?")), 200),
    "N5 a query beyond": (url(at(HTTP_TARGET_BYTES_MAX + 1, SITE_URL + b"?")), 414),
    "N5 a query of 64 KiB": (url(at(65_536, SITE_URL + b"?")), 414),
    "N5 a path of segments": (url(SITE_URL + b"a/" * 32_768), 414),
    "N5 a path of dot segments": (url(SITE_URL + b"../" * 32_768), 414),
    "N5 a path of encodings": (url(SITE_URL + b"%41" * 32_768), 414),
    "N5 a host of 64 KiB": (hosted(b"a" * 65_536), 414),
    "N5 a host of labels": (hosted(b"a." * 32_768 + b"example"), 414),
    "N5 a host of labels within the bound": (hosted(b"a." * 2_000 + b"example"), 400),
    "N5 a name of 254 bytes": (hosted(b"a." * 123 + b"examplex"), 400),
    "N5 a label of 64 bytes": (hosted(b"a" * 64 + b".example"), 400),
    "N5 a port of 4 KiB": (hosted(b"site.example:" + b"8" * 4_096), 400),
    "N5 a port of zeros": (hosted(b"site.example:" + b"0" * 4_096 + b"80"), 400),
    "N5 a port of 64 KiB": (hosted(b"site.example:" + b"8" * 65_536), 414),
    "N5 an address of 4 KiB": (hosted(b"[" + b"0:" * 2_048 + b":1]"), 400),
    "N5 an address of 64 KiB": (hosted(b"[" + b"0:" * 32_768 + b":1]"), 414),
    "N5 a user of 4 KiB": (url(b"http://" + b"u" * 4_096 + b"@site.example/"), 400),
    "N5 a user of 64 KiB": (url(b"http://" + b"u" * 65_536 + b"@site.example/"), 414),
    "N5 a scheme of 4 KiB": (url(b"h" * 4_096 + b"://site.example/"), 400),
    "N5 a scheme of 64 KiB": (url(b"h" * 65_536 + b"://site.example/"), 414),
    "N5 a fragment of 64 KiB": (url(SITE_URL + b"#" + b"a" * 65_536), 414),
    "N4 a method at its bound": (url(SITE_URL).replace(b"GET", b"X" * HTTP_METHOD_BYTES_MAX), 200),
    "N4 a method beyond": (url(SITE_URL).replace(b"GET", b"X" * (HTTP_METHOD_BYTES_MAX + 1)), 400),
    "N4 a method of 10 KiB": (url(SITE_URL).replace(b"GET", b"X" * 10_240), 414),
    "N4 a field at its bound": (url(SITE_URL, field(HTTP_FIELD_BYTES_MAX)), 200),
    "N4 a field beyond": (url(SITE_URL, field(HTTP_FIELD_BYTES_MAX + 1)), 431),
    "N4 a field of a mebibyte": (url(SITE_URL, field(1 << 20)), 431),
    "N4 a name of a field of 64 KiB": (url(SITE_URL, b"X" * 65_536 + b": a"), 431),
    "N4 a Host of 64 KiB": (url(SITE_URL, host=b"a" * 65_536), 431),
    "N4 a cookie of 64 KiB": (url(SITE_URL, b"Cookie: " + b"a" * 65_536), 431),
    "N4 a list of what belongs to the connection": (url(SITE_URL, b"Connection: " + b"a," * 32_768), 431),
    "N4 a Via of a thousand gates": (url(SITE_URL, b"Via: " + b"1.1 a," * 10_000), 431),
    "N4 a head at its bound": (filled(HTTP_HEAD_BYTES_MAX), 200),
    "N4 a head beyond": (filled(HTTP_HEAD_BYTES_MAX + 1), 431),
    "N4 as many fields as may be": (url(SITE_URL, *[b"X%d: a" % n for n in range(HTTP_FIELDS_MAX - 1)]), 200),
    "N4 one more": (url(SITE_URL, *[b"X%d: a" % n for n in range(HTTP_FIELDS_MAX)]), 431),
    "N4 one more, all alike": (url(SITE_URL, *[b"X: a"] * HTTP_FIELDS_MAX), 431),
    "N4 a hundred thousand": (url(SITE_URL, *[b"X: a"] * 100_000), 431),
    "N4 fields that never end": (url(SITE_URL)[:-2] + b"X: a\r\n" * 100_000, 431),
    "N4 credentials of 64 KiB": (url(SITE_URL, b"Proxy-Authorization: Basic " + b"QUFB" * 16_384), 431),
}  # fmt: skip

FIRST = get("/first", "first.example")


@pytest.mark.parametrize("is_kept", [False, True], ids=["first", "behind another"])
@pytest.mark.parametrize(("sent", "status"), HEADS.values(), ids=HEADS)
def test_n4_n5_heads_are_taken_up_to_their_bound_and_refused_beyond_without_a_query(
    sent: bytes, status: int, is_kept: bool
) -> None:
    origin, told = Origin(), list[Message | None]()

    async def client(stream: PeerStream) -> None:
        for one in [FIRST, sent] if is_kept else [sent]:
            with contextlib.suppress(OSError):  # it may be refused before it has said everything
                await stream.send_all(one)
            told.append(await read_message(stream, is_response=True))
        with contextlib.suppress(OSError):
            stream.close()

    async def scenario(gate: Gate) -> None:
        gate.serve(origin.serve, address=SITE)
        await gate.ended(gate.call(carried(client)))
        await gate.idle()

    names = Names().put("site.example", SITE.host).put("first.example", SITE.host)
    gate = play(scenario, carried_plan(web_settings(EVERYTHING)), exchange=names)
    passes = status == 200
    assert told[-1] is not None
    assert told[-1].status == status
    assert [one.verdict for one in gate.requests][-1] == ("allowed" if passes else "denied")
    assert len(gate.requests) == len(told) == len(origin.seen) + (not passes)
    assert ("site.example" in names.asked) == passes
    assert set(names.asked) <= {"site.example", "first.example"}
    assert all(len(one.url) <= WEB_URL_RECORDED_CHARACTERS_MAX for one in gate.requests)
    assert all(len(one.method) <= HTTP_METHOD_BYTES_MAX for one in gate.requests)


# what a client says of itself, and is told, where it has to say who it is
CREDENTIALS: dict[str, tuple[bytes, int]] = {
    "N4 none": (b"", 407),
    "N4 a user and a password of 4 KiB": (b"Proxy-Authorization: Basic " + b"QUFB" * 1_024 + b"OnBw", 407),
    "N4 a field just within its bound": (b"Proxy-Authorization: Basic " + b"QUFB" * 4_087 + b"OkFB", 407),
    "N4 a field beyond": (b"Proxy-Authorization: Basic " + b"QUFB" * 4_096, 431),
    "N4 a mebibyte": (b"Proxy-Authorization: Basic " + b"QUFB" * (1 << 18), 431),
    "N4 ninety of them": (b"\r\n".join([b"Proxy-Authorization: Basic QUFB"] * 90), 400),
    "N4 a scheme of 8 KiB": (b"Proxy-Authorization: " + b"B" * 8_192 + b" QUFB", 407),
}  # fmt: skip


@pytest.mark.parametrize(("sent", "status"), CREDENTIALS.values(), ids=CREDENTIALS)
def test_n4_credentials_are_bounded(sent: bytes, status: int) -> None:
    told: list[Message | None] = []

    async def client(stream: PeerStream) -> None:
        with contextlib.suppress(OSError):  # it may be refused before it has said everything
            await stream.send_all(url(SITE_URL, *([sent] if sent else [])))
        told.append(await read_message(stream, is_response=True))
        stream.close()

    async def scenario(gate: Gate) -> None:
        await gate.ended(gate.call(carried(client)))
        await gate.idle()

    names = Names().put("site.example", SITE.host)
    plan = carried_plan(web_settings(EVERYTHING, authenticate=Authenticate.REQUIRED))
    gate = play(scenario, plan, exchange=names)
    assert [one.status if one else 0 for one in told] == [status]
    assert [one.verdict for one in gate.requests] == ["denied"]
    assert not names.asked


# -- N10: lookups ----------------------------------------------------------------------------------

# over how many connections the names come, whether each waits for the answer before it
SPREADS: dict[str, tuple[int, bool]] = {
    "each on a connection of its own": (300, True),
    "on one connection": (1, True),
    "on one connection, all at once": (1, False),
    "on ten connections": (10, True),
    "on ten connections, all at once": (10, False),
}


@pytest.mark.parametrize(("connections", "waits"), SPREADS.values(), ids=SPREADS)
def test_n10_names_that_one_client_has_looked_up_are_bounded(connections: int, waits: bool) -> None:
    names, statuses = Names(), Counter[int]()

    def asks(numbers: Sequence[int]) -> Callable[[PeerStream], Any]:
        async def peer(stream: PeerStream) -> None:
            requests = [get("/", f"n{number}.example") for number in numbers]
            for batch in requests if waits else [b"".join(requests)]:
                await stream.send_all(batch)
                for _ in range(1 if waits else len(numbers)):
                    answer = await read_message(stream, is_response=True)
                    statuses[0 if answer is None else answer.status] += 1
            stream.close()

        return carried(peer)

    async def scenario(gate: Gate) -> None:
        calls = [gate.call(asks(range(n, 300, connections))) for n in range(connections)]
        await gate.ended(*calls)
        await gate.idle()

    bounds = FloodBounds(requests_per_minute=25, connections_max=300, half_open_max=300)
    gate = run(scenario, names=names, flood=bounds)
    assert len(names.asked) == 25
    assert statuses == {502: 25, 429: 275}
    assert limits(gate)["requests_per_minute"] == 275


LOOKUPS: dict[str, list[bytes]] = {
    "who waits for them": [],
    "who leaves at once": [b"leaves"],
    "who asks for more behind them": [get("/", "more.silent.example")],
}


@every(LOOKUPS)
def test_n10_lookups_of_one_client_on_their_way_are_bounded_whatever_its_rate(
    parts: list[bytes],
) -> None:
    names, gates = SilentNames(), list[Gate]()

    def asks(number: int) -> Callable[[PeerStream], Any]:
        async def peer(stream: PeerStream) -> None:
            request = get("/", f"n{number}.silent.example")
            if parts == [b"leaves"]:
                await stream.send_all(request)
                await gates[0].peers.sleep(0.005)
                stream.reset()
                return
            await stream.send_all(request + b"".join(parts))
            answer = await read_message(stream, is_response=True)
            assert answer is not None
            assert answer.status in {503, 504}

        return carried(peer)

    async def scenario(gate: Gate) -> None:
        gates.append(gate)
        for number in range(60):
            gate.call(asks(number))
            await asyncio.sleep(0.01)
        assert len(names.asked) == 10
        end_all(gate)
        await asyncio.sleep(1.0)
        assert len(names.asked) <= 20
        end_all(gate)

    gate = run(scenario, names=names, lookups_per_client_max=10, web_idle_timeout_s=5.0)
    assert limits(gate)["lookups_per_client_max"] >= 50
