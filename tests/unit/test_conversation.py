"""Conversations: text and value say the same, replays repeat, and cuts that matter are found."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.errors import Side
from sluicegate.filterapi import FORWARD, Cut, Direction, StreamFilter, StreamVerdict, Window
from sluicegate.testing import (
    Conversation,
    ConversationDiffers,
    NotAConversation,
    PlaybookError,
    SplitMatters,
    check_conversation,
    check_split,
    fuzz_splits,
    offer_of,
    replay,
)
from sluicegate.testing.conversation import Action, Step, Who
from sluicegate.testing.difference import difference_of_bytes, shown
from sluicegate.testing.strategies import fault_plans, split_points
from tests.unit.kit_filters import (
    Fussy,
    Naive,
    NoScripts,
    OneServerPerClient,
    OnlySsh,
    Raising,
    Relay,
    Shouting,
)

SAMPLE = """\
sluicegate conversation 1
# a comment
object download "a\\"b.txt"

client sends "SSH-\\x00\\r\\n"
             "more"
server receives "é"
"""

sides: st.SearchStrategy[Who] = st.sampled_from(["client", "server"])
data = st.binary(min_size=1, max_size=300)
steps = st.one_of(
    st.builds(Step, sides, st.sampled_from([Action.SENDS, Action.RECEIVES]), data),
    st.builds(
        Step,
        sides,
        st.sampled_from([Action.ENDS, Action.RESETS, Action.RECEIVES_END, Action.RECEIVES_RESET]),
    ),
    st.integers(0, 5000).map(lambda ms: Step("", Action.WAIT, seconds=ms / 8)),
    st.builds(
        lambda outcome, reason: Step("", Action.OUTCOME, reason, outcome=outcome),
        st.sampled_from(["open", "released", "refused", "failed"]),
        st.text(max_size=20).map(str.encode),
    ),
)


@given(st.lists(steps, max_size=12), st.sampled_from([None, offer_of("a b", Direction.UPLOAD)]))
def test_reading_what_was_written_gives_the_same(several: list[Step], offer: object) -> None:
    before = Conversation(tuple(several), offer)  # type: ignore[arg-type]
    assert Conversation.parse(str(before)) == before


@given(st.text())
def test_any_text_is_a_conversation_or_named_as_none(text: str) -> None:
    with contextlib.suppress(NotAConversation):
        assert Conversation.parse(str(Conversation.parse(text))) == Conversation.parse(text)


def test_file_is_read_line_by_line() -> None:
    read = Conversation.parse(SAMPLE.replace("é", "x"))
    assert read.offer == offer_of('a"b.txt')
    assert read.steps == (
        Step("client", Action.SENDS, b"SSH-\x00\r\nmore"),
        Step("server", Action.RECEIVES, b"x"),
    )
    assert read.has_results
    assert read.given == read.steps[:1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SAMPLE, r"conversation:7: only ASCII stands for itself; write other bytes as \x00"),
        ("client shouts", "conversation:1: 'client shouts' is no step"),
        ('client sends "\\q"', "conversation:1: there is no escape \\q"),
        ('object sideways "x"', "conversation:1: 'object sideways \"x\"' is no step"),
        ('client ends\n  "more"', "conversation:2: "),
    ],
)
def test_line_that_is_wrong_is_named_with_what_is_right(text: str, message: str) -> None:
    with pytest.raises(NotAConversation) as refused:
        Conversation.parse(text)
    assert str(refused.value).startswith(message)


def test_pairs_and_bytes_end_both_streams() -> None:
    assert Conversation.of(b"hi").lines() == ['client sends "hi"', "client ends", "server ends"]
    assert Conversation.of([("server", b"a"), ("client", b"b")]).lines()[:2] == [
        'server sends "a"',
        'client sends "b"',
    ]
    with pytest.raises(ValueError, match="'proxy' is neither client nor server"):
        Conversation.of([("proxy", b"a")])


def test_long_bytes_are_shown_around_the_difference() -> None:
    one, other = b"a" * 50_000, b"a" * 30_000 + b"b" + b"a" * 19_999
    text = difference_of_bytes(one, other)
    assert text.startswith("they part at byte 30000 (50000 expected, 50000 came), shown from byte")
    assert "b" in text
    assert text.count("\n") < 70


@given(st.binary(max_size=60))
def test_bytes_are_shown_without_anything_unprintable(raw: bytes) -> None:
    assert shown(raw).isprintable()
    assert shown(raw).isascii()


# -- replays ---------------------------------------------------------------------------------------


def test_replay_gives_the_steps_with_what_came_of_them() -> None:
    came = replay(Shouting, [("client", b"a\n"), ("server", b"b\n")])
    assert came.outcome == ("released", "")
    assert came.received("server") == b"A\n"
    assert came.received("client") == b"B\n"
    assert (came.filter_errors, came.problem) == ((), "")


def test_two_replays_are_equal() -> None:
    conversation = [("client", b"SSH-1\n"), ("server", b"x" * 5000)]
    assert replay(OnlySsh, conversation) == replay(OnlySsh, conversation)


def test_replay_tells_what_was_raised() -> None:
    came = replay(Raising, b"x")
    assert came.outcome == ("failed", "filter failure: raising")
    assert [type(error) for error in came.filter_errors] == [ValueError]


def test_several_filters_are_replayed_in_their_order() -> None:
    assert replay([Shouting, OnlySsh], b"ssh-x").outcome[0] == "released"
    settings = {"only": "10.9.9.9"}
    assert replay([OneServerPerClient], b"x", rule_settings=settings).outcome[0] == "released"


def test_object_is_replayed_to_a_content_filter() -> None:
    text = 'object download "x"\nserver sends "#!/bin/sh"\nserver ends'
    assert replay(NoScripts, Conversation.parse(text)).outcome == ("refused", "a script")


# -- golden files ----------------------------------------------------------------------------------


def golden_file(folder: Path) -> Path:
    path = folder / "x.conversation"
    path.write_text('# why\nclient sends "ssh-x\\n"\nclient ends\nserver ends\n', encoding="utf-8")
    return path


def test_golden_file_is_written_and_then_compared(tmp_path: Path) -> None:
    path = golden_file(tmp_path)
    with pytest.raises(ConversationDiffers, match="nothing was recorded yet"):
        check_conversation(Shouting, path)
    check_conversation(Shouting, path, update=True)
    text = path.read_text(encoding="utf-8")
    assert text.splitlines()[:4] == [
        "sluicegate conversation 1",
        "# why",
        'client sends "ssh-x\\n"',
        'server receives "SSH-X\\n"',
    ]
    check_conversation(Shouting, path)
    check_conversation(Shouting, path, update=True)
    assert path.read_text(encoding="utf-8") == text


def test_golden_file_that_differs_is_shown_as_a_difference(tmp_path: Path) -> None:
    path = golden_file(tmp_path)
    check_conversation(Shouting, path, update=True)
    with pytest.raises(ConversationDiffers) as differs:
        check_conversation(OnlySsh, path)
    assert '- server receives "SSH-X\\n"' in str(differs.value)
    assert '+ outcome refused "not an SSH client"' in str(differs.value)


# -- cuts ------------------------------------------------------------------------------------------


def test_filter_that_looks_at_chunks_is_found_with_the_cut_that_shows_it() -> None:
    with pytest.raises(SplitMatters) as found:
        fuzz_splits(Naive, b"GET /private\r\n")
    message = str(found.value)
    assert 'uncut, + cut between "GET /" and "private\\r\\n"' in message
    assert '- outcome refused "private"' in message
    assert message.endswith("replay it with check_split(…, [(0, 5)])")
    with pytest.raises(SplitMatters):
        check_split(Naive, b"GET /private\r\n", [(0, 5)])
    check_split(Naive, b"GET /private\r\n", [(0, 1)])


def test_cut_that_makes_a_filter_raise_is_found() -> None:
    with pytest.raises(SplitMatters):
        fuzz_splits(Fussy, b"ascii " + "é".encode() + b" or not" * 3, splits_max=20)


class Leaky(StreamFilter):
    """Refuses what has an x, and lets pass what comes before it."""

    name = "leaky"

    def on_data(self, side: Side, window: Window) -> StreamVerdict:
        return Cut("an x") if b"x" in bytes(window) else FORWARD


def test_what_passes_before_a_refusal_is_compared_where_it_matters() -> None:
    fuzz_splits(Leaky, b"abcx")
    with pytest.raises(SplitMatters, match='server receives "a'):
        fuzz_splits(Leaky, b"abcx", strict=True)
    fuzz_splits(OnlySsh, b"HTTP", strict=True)


def test_filter_that_fails_without_any_cut_is_no_success() -> None:
    with pytest.raises(PlaybookError, match="it fails without any cut: filter failure: raising"):
        fuzz_splits(Raising, b"abc")


def test_number_of_ways_is_bounded() -> None:
    assert fuzz_splits(OnlySsh, b"SSH-" + b"x" * 3000, splits_max=20) <= 20
    assert fuzz_splits(OnlySsh, b"S") == 0


CONVERSATION = [("client", b"one two\r\n"), ("server", b"three\r\n" * 9), ("client", b"four")]


@given(split_points(CONVERSATION))
def test_drawn_cuts_change_nothing_for_a_relay(cuts: list[tuple[int, int]]) -> None:
    check_split(Relay, CONVERSATION, cuts)


@given(fault_plans(), st.integers(0, 1000))
def test_drawn_networks_change_nothing_for_a_relay(plan: object, seed: int) -> None:
    came = replay(Relay, CONVERSATION, faults=plan, seed=seed)  # type: ignore[arg-type]
    assert came.received("server") == b"one two\r\nfour"
    assert came.received("client") == b"three\r\n" * 9
