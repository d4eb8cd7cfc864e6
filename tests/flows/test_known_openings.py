"""Clients who say what others have said: served from what is known, as if it had been parsed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluicegate.errors import ProtocolError
from sluicegate.filterapi import EntryMode
from sluicegate.gate import entry_handshake, known_openings
from sluicegate.gate.entry_dialogue import Authenticate, EntryRequest, open_dialogue
from sluicegate.gate.known_openings import ENTRY_MODES, UNHEARD_OF, KnownOpenings, replay
from sluicegate.gate.settings import EntrySettings
from sluicegate.protocol_limits import ENTRY_KNOWN_MESSAGE_BYTES_MAX
from sluicegate.protocols.detect import EntryProtocol
from sluicegate.testing.peers import PeerStream
from tests.flows.entry_kit import (
    ANN,
    MODES,
    REFUSED,
    WEB,
    Ask,
    Names,
    Reply,
    asks,
    proxy_settings,
    read_reply,
    says_hello,
    visit,
)
from tests.flows.gate_kit import Gate, echoes, play

every_mode = pytest.mark.parametrize("mode", MODES)

ENTRY = EntrySettings(frozenset(ENTRY_MODES), Authenticate.OFF)
PROTOCOLS = {mode: protocol for protocol, mode in ENTRY_MODES.items()}


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[EntryProtocol]:
    """What a parser was made for."""
    made: list[EntryProtocol] = []

    def counting(protocol: EntryProtocol, *rest: Any) -> Any:
        made.append(protocol)
        return open_dialogue(protocol, *rest)

    monkeypatch.setattr(entry_handshake, "open_dialogue", counting)
    monkeypatch.setattr(known_openings, "open_dialogue", counting)
    return made


def politely(ask: Ask) -> Callable[[PeerStream], Coroutine[Any, Any, Reply]]:
    """Be a client that waits for the answer to each message, as most are."""

    async def peer(stream: PeerStream) -> Reply:
        *greeting, request = ask.parts()
        for message in greeting:
            await stream.send_all(message)
            if await stream.receive_exactly(2) != b"\5\0":
                return Reply(0xFF)
        await stream.send_all(request)
        if greeting:
            data = await stream.receive_exactly(10)
            reply = Reply(data[1], data)
        else:
            reply = await read_reply(stream, ask)
        if reply.is_granted:
            reply.tunnelled = await says_hello(stream)
        stream.close()
        return reply

    return peer


@every_mode
def test_second_client_with_the_same_words_is_served_without_a_parser(
    mode: EntryMode, parsed: list[EntryProtocol]
) -> None:
    replies: list[Reply] = []

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes, address=WEB)
        for _ in range(3):
            replies.extend(await gate.ended(gate.call(politely(Ask(mode, WEB.host)))))
        await gate.idle()

    gate = play(scenario, proxy_settings(), exchange=Names())
    assert [(reply.code, reply.tunnelled) for reply in replies] == [(0, b"hello")] * 3
    assert len({reply.text for reply in replies}) == 1
    assert len({(record.entry, record.target, record.rule) for record in gate.decisions}) == 1
    assert len({record.connection for record in gate.decisions}) == 3
    assert parsed == [PROTOCOLS[mode]]


@every_mode
@pytest.mark.parametrize(
    ("host", "port"), [(WEB.host, 80), ("unknown.example", 443), ("192.0.2.7", 443)]
)
def test_refusals_are_the_same_for_everybody_who_asks_alike(
    mode: EntryMode, host: str, port: int
) -> None:
    seen = visit(*[Ask(mode, host, port)] * 3)
    assert not any(reply.is_granted for reply in seen.replies)
    assert len({reply.code for reply in seen.replies}) == 1
    assert len({record.reason for record in [*seen.gate.decisions, *seen.gate.ends]}) == 1
    if mode is EntryMode.HTTP_CONNECT:
        # Each quotes its own connection.
        for reply, record in zip(seen.replies, seen.gate.decisions, strict=True):
            assert record.connection.encode() in reply.text


@every_mode
def test_what_comes_behind_known_words_is_the_tunnels(mode: EntryMode) -> None:
    seen = visit(Ask(mode, WEB.host), Ask(mode, WEB.host, early=b"early "), Ask(mode, WEB.host))
    tunnelled = [reply.tunnelled for reply in seen.replies]
    assert tunnelled == [b"hello", b"early hello", b"hello"]


@every_mode
def test_known_words_cut_anywhere_are_understood_all_the_same(mode: EntryMode) -> None:
    ask = Ask(mode, WEB.host)

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes, address=WEB)
        for cut in range(len(ask.wire())):
            for client in (asks(ask, says_hello), asks(ask, says_hello, (cut,), gate.peers.sleep)):
                (reply,) = await gate.ended(gate.call(client))
                assert (reply.code, reply.tunnelled) == (0, b"hello"), cut
        await gate.idle()

    play(scenario, proxy_settings(), exchange=Names())


def test_greeting_that_is_known_leads_to_requests_that_are_not(
    parsed: list[EntryProtocol],
) -> None:
    names = Names().put("a.example", WEB.host).put("b.example", WEB.host)
    wanted = [Ask(EntryMode.SOCKS5, host) for host in ("a.example", "b.example", "a.example")]

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes, address=WEB)
        for ask in wanted:
            (reply,) = await gate.ended(gate.call(politely(ask)))
            assert (reply.code, reply.tunnelled) == (0, b"hello")
        await gate.idle()

    gate = play(scenario, proxy_settings(), exchange=names)
    assert [record.target for record in gate.decisions] == [f"{ask.host}:443" for ask in wanted]
    assert parsed == [EntryProtocol.SOCKS5] * 2


@pytest.mark.parametrize(
    ("mode", "authenticate"),
    [
        (EntryMode.SOCKS5, Authenticate.OPTIONAL),
        (EntryMode.SOCKS5, Authenticate.REQUIRED),
        (EntryMode.HTTP_CONNECT, Authenticate.OFF),
        (EntryMode.HTTP_CONNECT, Authenticate.OPTIONAL),
        (EntryMode.HTTP_CONNECT, Authenticate.REQUIRED),
    ],
)
def test_no_credentials_are_kept(mode: EntryMode, authenticate: Authenticate) -> None:
    plan = proxy_settings(authenticate=authenticate)
    right = Ask(mode, WEB.host, user=ANN.name, password="open sesame")
    wrong = dataclasses.replace(right, password="open sesamy")
    seen = visit(right, wrong, right, plan=plan)
    expected = [True, authenticate is Authenticate.OFF, True]
    assert [reply.is_granted for reply in seen.replies] == expected
    kept = seen.gate.service.entries.openings.beginning("proxy", plan.listeners[0].entry)
    words = list(kept.following)
    assert words in ([], [b"\5\1\2"])
    assert not any(opening.following for opening in kept.following.values())


@every_mode
def test_reload_of_rules_and_of_settings_counts_for_known_words(mode: EntryMode) -> None:
    ask = Ask(mode, WEB.host)
    codes: list[int] = []
    provable = [EntryProtocol.SOCKS5, EntryProtocol.HTTP_CONNECT]

    async def scenario(gate: Gate) -> None:
        gate.serve(echoes, address=WEB)
        plans = [
            proxy_settings(),
            proxy_settings(),
            proxy_settings('[[rule]]\naction = "deny"\nto = ["*"]\n'),
            proxy_settings(authenticate=Authenticate.REQUIRED, protocols=provable),
            proxy_settings(),
        ]
        for plan in plans:
            await gate.service.apply(plan)
            (reply,) = await gate.ended(gate.call(politely(ask)))
            codes.append(reply.code if isinstance(reply, Reply) else -1)
        await gate.idle()

    play(scenario, proxy_settings(), exchange=Names())
    refused = {EntryMode.SOCKS4: -1, EntryMode.SOCKS5: 0xFF, EntryMode.HTTP_CONNECT: 407}[mode]
    assert codes == [0, 0, REFUSED[mode], refused, 0]


# -- the table alone -----------------------------------------------------------------------------

GREETING = b"\5\1\0"
REQUESTS = [Ask(mode, host).parts()[-1] for mode in MODES for host in ("a.example", WEB.host)]
WORDS = st.lists(
    st.sampled_from(
        [
            GREETING,
            b"\5\2\0\2",
            *REQUESTS,
            *[request[:-1] for request in REQUESTS],
            b"\n",
            b"x",
        ]
    ),
    min_size=1,
    max_size=4,
)  # fmt: skip


@settings(max_examples=300)
@given(talks=st.lists(WORDS, min_size=2, max_size=4))
def test_what_is_kept_is_what_a_new_dialogue_answers(talks: list[list[bytes]]) -> None:
    openings = KnownOpenings()
    for words in talks:
        protocol = {4: EntryProtocol.SOCKS4, 5: EntryProtocol.SOCKS5}.get(
            words[0][0], EntryProtocol.HTTP_CONNECT
        )
        dialogue = open_dialogue(protocol, Authenticate.OFF, "c-1")
        place = openings.beginning("proxy", ENTRY)
        for said in words:
            known = place.following.get(said)
            try:
                dialogue.receive_data(said)
                step = dialogue.next_step()
            except ProtocolError:
                assert known is None
                break
            place = openings.follow(place, said, dialogue, step)
            if known is not None:
                assert (known.step, known.mode) == (step, ENTRY_MODES[protocol])
                again = replay(known, ENTRY, "c-1")
                assert again.needs_data == dialogue.needs_data
            if isinstance(step, EntryRequest):
                break


def test_long_messages_and_those_with_something_behind_are_not_kept() -> None:
    openings = KnownOpenings()
    for said in (
        b"CONNECT a:1 HTTP/1.0\r\nX: " + b"x" * ENTRY_KNOWN_MESSAGE_BYTES_MAX + b"\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\nmore",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nProxy-Authorization: Bearer t\r\n\r\n",
    ):  # fmt: skip
        dialogue = open_dialogue(EntryProtocol.HTTP_CONNECT, Authenticate.OFF, "c-1")
        dialogue.receive_data(said)
        step = dialogue.next_step()
        assert isinstance(step, EntryRequest)
        place = openings.beginning("proxy", ENTRY)
        assert openings.follow(place, said, dialogue, step) is UNHEARD_OF
    assert len(openings) == 0
    assert not UNHEARD_OF.following


def test_openings_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_openings, "ENTRY_KNOWN_MAX", 10)
    openings = KnownOpenings()
    for number in range(1, 35):
        said = b"CONNECT a:%d HTTP/1.0\r\n\r\n" % number
        dialogue = open_dialogue(EntryProtocol.HTTP_CONNECT, Authenticate.OFF, "c-1")
        dialogue.receive_data(said)
        place = openings.beginning("proxy", ENTRY)
        openings.follow(place, said, dialogue, dialogue.next_step())
        assert 0 < len(openings) <= 10
        assert len(openings.beginning("proxy", ENTRY).following) <= 10


def test_two_listeners_know_their_own_clients_words_alone() -> None:
    openings = KnownOpenings()
    other = EntrySettings(ENTRY.protocols, Authenticate.REQUIRED)
    dialogue = open_dialogue(EntryProtocol.SOCKS5, Authenticate.OFF, "c-1")
    dialogue.receive_data(GREETING)
    openings.follow(openings.beginning("one", ENTRY), GREETING, dialogue, dialogue.next_step())
    assert list(openings.beginning("one", ENTRY).following) == [GREETING]
    assert not openings.beginning("two", ENTRY).following
    assert not openings.beginning("one", other).following
