"""The processes of a scanner, played by hand: who gets which object, and what failures cost."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from sluicegate.filterapi import ScanOutcome
from sluicegate.port import PortEventLoop
from sluicegate.sandbox.message import Message
from sluicegate.sandbox.wire import WireBroken
from sluicegate.scan.messages import (
    ArchiveBounds,
    Begin,
    Begun,
    Examine,
    Examined,
    FromProcess,
    Load,
    Loaded,
    LoadFailed,
    Member,
    MemberEnd,
    PartFacts,
    Unable,
)
from sluicegate.scan.pool import ScanPool
from sluicegate.scan.process import Question, ScanProcessFailed, Stage
from sluicegate.scan.rule_files import RuleSet
from sluicegate.testing import SimulatedBackend, simulated_completion_port

GREEN = RuleSet((("a.yar", b"green"),))
BLUE = RuleSet((("a.yar", b"blue"),))
GREY = RuleSet((("a.yar", b"grey"),))
BEGIN = Begin(ArchiveBounds(8, 100, 1000, 1000, 250, 10), 60.0, [])


class Hand:
    """One launched process, played by a test; satisfies ``sandbox.launch.Launched``."""

    def __init__(
        self,
        pid: int,
        on_message: Callable[[FromProcess, list[int]], None],
        on_broken: Callable[[WireBroken], None],
        on_ended: Callable[[str], None],
    ) -> None:
        self.pid = pid
        self.heard: list[Message] = []
        self.is_killed = False
        self.says = lambda message: on_message(message, [])
        self.breaks = lambda: on_broken(WireBroken("has ended"))
        self._on_ended = on_ended
        self.wire: Any = self

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        self.heard.append(message)
        for one in descriptors:
            os.fstat(one)  # it is open, and stays the sender's

    def kill(self) -> None:
        if not self.is_killed:
            self.is_killed = True
            asyncio.get_running_loop().call_soon(self._on_ended, "was killed by SIGKILL")

    def ends(self, how: str) -> None:
        """End; the gate is told once."""
        self.is_killed = True
        self._on_ended(how)

    def memory_bytes(self) -> int:
        return 1

    # -- what a test lets it do --

    def gets_ready(self) -> None:
        self.says(Begun())
        self.loads()

    def loads(self) -> None:
        (*_, load) = [one for one in self.heard if isinstance(one, Load)]
        self.says(Loaded(load.version, 1, []))

    def refuses_rules(self) -> None:
        (*_, load) = [one for one in self.heard if isinstance(one, Load)]
        self.says(LoadFailed(load.version, ["a.yar:1: wrong"]))

    @property
    def asked(self) -> list[Examine]:
        return [one for one in self.heard if isinstance(one, Examine)]

    def answers(self, outcome: str = "clean", parts: list[PartFacts] | None = None) -> None:
        self.says(Examined(self.asked[-1].number, outcome, "", parts or []))


class Play:
    """A pool, its hands, and what it tells."""

    def __init__(self, count: int) -> None:
        self.hands: list[Hand] = []
        self.told: list[str] = []
        self.pool = ScanPool(self.launch, BEGIN, count, self.told.append)

    def launch(self, *told: Any) -> Hand:
        hand = Hand(100 + len(self.hands), *told)
        self.hands.append(hand)
        return hand

    def start(self, rules: RuleSet = GREEN) -> None:
        self.pool.start(rules)
        for hand in tuple(self.hands):
            hand.gets_ready()

    async def until_launched(self, count: int) -> None:
        """Wait until there is one more than so many."""
        while len(self.hands) == count:
            await asyncio.sleep(0.001)

    def ask(self, timeout_s: float = 60.0, *, is_shown: bool = True) -> asyncio.Future[Examined]:
        async def examine() -> Examined:
            with open("/dev/null") as opened:
                question = Question(1, "name", "")
                question.is_shown = is_shown
                return await self.pool.examine(question, opened.fileno(), timeout_s)

        return asyncio.ensure_future(examine())


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sluicegate.scan.process.CELL_RESTART_DELAY_S", 0.001)
    monkeypatch.setattr("sluicegate.scan.process._WORTH_WAITING_S", 0.01)


def played(count: int = 1) -> Callable[[Callable[[Play], Coroutine[Any, Any, None]]], Any]:
    """Make a test of what plays with a pool of so many processes; descriptors must not leak.

    It plays in virtual time: no delay can end while a test lets things settle.
    """

    def make(work: Callable[[Play], Coroutine[Any, Any, None]]) -> Callable[[], None]:
        async def main() -> None:
            before = len(os.listdir("/proc/self/fd"))
            play = Play(count)
            await work(play)
            play.pool.stop()
            await settle()
            await play.pool.wait_ended()
            assert all(one.is_killed for one in play.hands)
            assert len(os.listdir("/proc/self/fd")) == before

        def test() -> None:
            port = simulated_completion_port(SimulatedBackend())
            with asyncio.Runner(loop_factory=lambda: PortEventLoop(port)) as runner:
                runner.run(main())

        test.__name__ = work.__name__
        return test

    return make


@played(2)
async def test_objects_go_to_who_is_idle_and_wait_in_their_order(play: Play) -> None:
    play.start()
    asked = [play.ask() for _ in range(4)]
    await settle()
    first, second = play.hands
    assert (len(first.asked), len(second.asked)) == (1, 1)
    second.answers("found")
    await settle()
    assert asked[1].result().outcome == "found"
    assert len(second.asked) == 2
    first.answers()
    second.answers()
    await settle()
    first.answers()
    await settle()
    assert [one.result().outcome for one in asked] == ["clean", "found", "clean", "clean"]


@played()
async def test_an_object_waits_for_a_process_that_starts(play: Play) -> None:
    play.pool.start(GREEN)
    asked = play.ask()
    await settle()
    play.hands[0].gets_ready()
    await settle()
    play.hands[0].answers()
    assert (await asked).outcome == ScanOutcome.CLEAN


@played()
async def test_an_object_whose_filter_gave_up_is_taken_by_nobody(play: Play) -> None:
    play.start()
    working, waiting, last = play.ask(), play.ask(), play.ask()
    await settle()
    waiting.cancel()
    await settle()
    play.hands[0].answers()
    await settle()
    assert len(play.hands[0].asked) == 2
    play.hands[0].answers()
    assert [(await one).outcome for one in (working, last)] == ["clean", "clean"]
    working = play.ask()
    await settle()
    working.cancel()
    await settle()
    play.hands[0].answers()  # nobody hears it; the next object comes
    last = play.ask()
    await settle()
    play.hands[0].answers()
    assert (await last).outcome == ScanOutcome.CLEAN


@pytest.mark.parametrize(
    ("does", "cause"),
    [
        (lambda hand: hand.ends("was killed by SIGSEGV"), "its process was killed by SIGSEGV"),
        (lambda hand: hand.ends("was killed by SIGXCPU"), "its process took more than 60 s of CPU"),
        (lambda hand: hand.says(Examined(99, "clean", "", [])), "its process said Examined while"),
        (lambda hand: hand.says(Begun()), "its process said Begun while busy"),
        (lambda hand: hand.says(Loaded("x", 1, [])), "its process said Loaded while busy"),
        (lambda hand: hand.says(Member(99, "a", b"")), "its process speaks of another object"),
        (
            lambda hand: hand.says(Member(1, "a", bytes(11))),
            "its process sends more of an object than",
        ),
    ],
)
def test_a_process_that_fails_costs_the_object_that_it_has(
    does: Callable[[Hand], None], cause: str
) -> None:
    @played()
    async def test(play: Play) -> None:
        play.start()
        lost, waiting = play.ask(), play.ask()
        await settle()
        does(play.hands[0])
        with pytest.raises(ScanProcessFailed, match=cause.replace("(", r"\(")):
            await lost
        assert play.told[0].startswith(cause)
        assert play.told[0].endswith("(pid 100)")
        await play.until_launched(1)
        play.hands[1].gets_ready()
        await settle()
        play.hands[1].answers()
        assert (await waiting).outcome == ScanOutcome.CLEAN
        assert play.pool.processes[0].restarts == 1

    test()


@played()
async def test_a_process_that_is_late_is_killed(play: Play) -> None:
    play.start()
    asked = play.ask(timeout_s=0.01)
    with pytest.raises(ScanProcessFailed, match=r"had no answer after 0.01 s"):
        await asked
    assert play.hands[0].is_killed


@played()
async def test_a_wire_that_breaks_waits_for_how_the_process_ended(play: Play) -> None:
    play.start()
    asked = play.ask()
    await settle()
    play.hands[0].breaks()
    play.hands[0].ends("ended with status 1")
    with pytest.raises(ScanProcessFailed, match="ended with status 1"):
        await asked


@pytest.mark.parametrize(
    ("does", "cause"),
    [
        (lambda hand: hand.says(Unable("no Landlock")), "no Landlock"),
        (lambda hand: hand.ends("ended with status 1"), "its process ended with status 1"),
        (
            lambda hand: (hand.says(Begun()), hand.refuses_rules()),
            "its rules are wrong: a.yar:1: wrong",
        ),
        (
            lambda hand: (hand.says(Begun()), hand.says(Loaded("other", 1, []))),
            "its process speaks of other rules",
        ),
    ],
)
def test_processes_that_cannot_start_are_tried_again_ever_more_seldom(
    does: Callable[[Hand], None], cause: str
) -> None:
    @played()
    async def test(play: Play) -> None:
        play.pool.start(GREEN)
        process = play.pool.processes[0]
        while process.is_expected:
            seen = len(play.hands)
            hand = play.hands[-1]
            does(hand)
            hand.kill()
            await settle()
            assert process.stage is Stage.WAITING
            if not process.is_expected:
                break
            await play.until_launched(seen)
        # Nobody waits for what does not come soon.
        with pytest.raises(ScanProcessFailed, match=cause):
            await play.ask()
        assert 4 <= len(play.hands) <= 5

    test()


@played(2)
async def test_other_rules_are_taken_in_turn_while_objects_are_looked_at(play: Play) -> None:
    play.start()
    first, second = play.hands
    assert play.pool.version == GREEN.version
    play.pool.use(BLUE)
    assert [len(hand.heard) for hand in play.hands] == [3, 2]
    # Nobody can say under which rules the next object is looked at.
    assert play.pool.version == ""
    asked = play.ask()
    await settle()
    assert len(second.asked) == 1
    first.loads()
    second.answers()
    await settle()
    assert play.pool.version == ""
    second.loads()
    assert (await asked).outcome == ScanOutcome.CLEAN
    assert play.pool.version == BLUE.version
    assert play.told == []


@played(2)
async def test_rules_that_one_process_refuses_are_shown_to_no_other(play: Play) -> None:
    play.start()
    first, second = play.hands
    play.pool.use(BLUE)
    first.refuses_rules()
    cause = "rules that changed are wrong, those before stay in use: a.yar:1: wrong"
    assert play.told == [cause]
    assert play.pool.problem == cause
    assert play.pool.version == GREEN.version
    assert len(second.heard) == 2
    # An incarnation that follows begins with those that are in use.
    first.ends("was killed by SIGKILL")
    await play.until_launched(2)
    play.hands[2].says(Begun())
    load = play.hands[2].heard[-1]
    assert isinstance(load, Load)
    assert load.version == GREEN.version
    play.hands[2].loads()
    play.pool.use(GREY)
    second.loads() if len(second.heard) > 2 else play.hands[2].loads()
    assert play.pool.problem == ""


@played(2)
async def test_rules_that_change_while_others_are_tried_come_last(play: Play) -> None:
    play.start()
    first, second = play.hands
    play.pool.use(BLUE)
    play.pool.use(GREY)
    first.loads()  # blue, which nobody wants any more: it goes on to grey
    first.refuses_rules()
    assert "wrong" in play.pool.problem
    # Back to green, which was in use before either.
    first.loads()
    assert play.pool.version == GREEN.version
    assert len(second.heard) == 2


@played(2)
async def test_a_process_that_cannot_use_what_others_use_is_replaced(play: Play) -> None:
    play.start()
    first, second = play.hands
    play.pool.use(BLUE)
    first.loads()
    second.refuses_rules()
    await settle()
    assert second.is_killed
    assert "it cannot use the rules that others use" in play.told[-1]
    await play.until_launched(2)
    play.hands[2].says(Begun())
    load = play.hands[2].heard[-1]
    assert isinstance(load, Load)
    assert load.version == BLUE.version
    play.hands[2].loads()
    assert play.pool.version == BLUE.version


@played(2)
async def test_a_pool_that_is_retired_answers_what_it_was_asked(play: Play) -> None:
    play.start()
    asked = [play.ask() for _ in range(3)]
    await settle()
    play.pool.retire()
    assert [hand.is_killed for hand in play.hands] == [False, False]
    with pytest.raises(ScanProcessFailed, match="is being stopped"):
        await play.ask()
    play.hands[0].answers()
    await settle()
    play.hands[0].answers()
    await settle()
    assert [hand.is_killed for hand in play.hands] == [True, False]
    play.hands[1].answers()
    await asyncio.gather(*asked)
    assert play.hands[1].is_killed


@played()
async def test_what_is_asked_when_it_is_stopped_is_not_looked_at(play: Play) -> None:
    play.start()
    asked = [play.ask(), play.ask()]
    await settle()
    play.pool.stop()
    for one in asked:
        with pytest.raises(ScanProcessFailed, match="is being stopped"):
            await one
    with pytest.raises(ScanProcessFailed, match="is not running"):
        await play.ask()


@played()
async def test_a_process_that_sends_what_nobody_asked_for_is_given_up(play: Play) -> None:
    play.start()
    asked = play.ask(is_shown=False)
    await settle()
    play.hands[0].says(Member(1, "a", b"x"))
    with pytest.raises(ScanProcessFailed, match="its process sends what it was not asked for"):
        await asked


@played()
async def test_members_come_in_pieces_and_are_put_together(play: Play) -> None:
    play.start()
    question = Question(1, "name", "")
    question.is_shown = True
    with open("/dev/null") as opened:
        asked = asyncio.ensure_future(play.pool.examine(question, opened.fileno(), 60))
        await settle()
    hand = play.hands[0]
    for message in (
        Member(1, "a", b"one"), Member(1, "a", b"two"), MemberEnd(1),
        Member(1, "b", b""), MemberEnd(1),
    ):  # fmt: skip
        hand.says(message)
    hand.answers()
    await asked
    assert question.members == [("a", b"onetwo"), ("b", b"")]
