"""What the gate does for a console that may have been taken over: passwords are checked again.

Here a console is who speaks on its channel, and says whatever it likes.
"""

from __future__ import annotations

import asyncio
import functools
import pathlib
from collections.abc import Callable, Coroutine, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sluicegate.access_limits import PASSWORD_BYTES_MAX
from sluicegate.app.processes.child_post import Upkeep
from sluicegate.app.processes.console_post import ConsolePost
from sluicegate.app.processes.console_proofs import ConsoleProofs
from sluicegate.app.processes.orders import (
    AddedFirst,
    AddFirst,
    Answer,
    AnyMessage,
    AskFor,
    Prove,
    Proved,
)
from sluicegate.audit.records import OperatorRecord
from sluicegate.console.accounts import users_file
from sluicegate.console.link import ConsoleSettings, OidcSettings
from sluicegate.console.roles import Role
from sluicegate.console_limits import LOGIN_BURST, STEP_UP_S, TICKET_GRACE_S
from sluicegate.gate.control_messages import (
    KillRequest,
    PolicyRequest,
    RefusedReply,
    ReloadRequest,
)
from sluicegate.gate.policy_orders import (
    AnyPolicyAnswer,
    AnyPolicyOrder,
    ChangePolicy,
    ListVersions,
    PolicyFile,
    PolicyVersions,
    RollBack,
)
from sluicegate.identity import HashCost, User, UserFile, hash_password
from sluicegate.process_limits import ATTENDANT_QUESTIONS_MAX
from sluicegate.testing import ManualClock

PASSWORD = "correct horse battery"
CHANGE = ChangePolicy(files=[PolicyFile(name="policy.toml", text="")], base="")
BACK = RollBack(version="1", base="")


def on_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test on a loop of its own."""

    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        asyncio.run(test(**fixtures))

    return run


class Target:
    """The gate: remembers what was done, and for whom."""

    def __init__(self) -> None:
        self.done: list[tuple[str, str]] = []

    async def answer_policy(self, order: AnyPolicyOrder, by: str) -> AnyPolicyAnswer:
        self.done.append((type(order).__name__, by))
        return PolicyVersions(rows=[], total=0, texts="")

    async def kill(self, identifiers: Sequence[str], by: str) -> list[str]:
        self.done.append((f"kill {' '.join(identifiers)}", by))
        return list(identifiers)

    async def reload(self, by: str) -> list[str]:
        self.done.append(("reload", by))
        return []


class Console:
    """A process that says on its channel what the test wants it to say."""

    def __init__(self, folder: pathlib.Path, oidc: OidcSettings | None = None) -> None:
        self.clock = ManualClock()
        self.target = Target()
        settings = ConsoleSettings(folder=str(folder), listen="127.0.0.1:0", oidc=oidc)
        configuration = SimpleNamespace(console=settings, store=None, has_sandbox=False)
        self.records: list[OperatorRecord] = []
        self.lines: list[str] = []
        upkeep = Upkeep(cast("Any", self.records.append), self.clock, self.lines.append)
        self.post = ConsolePost(cast("Any", configuration), cast("Any", self.target), upkeep)
        self.said: asyncio.Queue[AnyMessage] = asyncio.Queue()
        self.ended: list[str] = []
        self.child = SimpleNamespace(
            pid=1,
            has_ended=False,
            send=self.said.put_nowait,
            let_go=lambda: self.ended.append("let go"),
            kill=lambda: self.ended.append("killed"),
        )

    def hear(self, message: AnyMessage) -> None:
        self.post._on_said(cast("Any", self.child), message)

    async def say(self, message: AnyMessage) -> AnyMessage:
        self.hear(message)
        return await asyncio.wait_for(self.said.get(), 60)

    async def order(self, order: AnyPolicyOrder, by: str, ticket: str = "") -> str:
        """Order something; return why not, or an empty text."""
        request = PolicyRequest(order=order)
        answer = await self.say(AskFor(number=1, request=request, by=by, ticket=ticket))
        assert isinstance(answer, Answer)
        return "; ".join(answer.reply.causes) if isinstance(answer.reply, RefusedReply) else ""

    async def prove(self, name: str, password: str = PASSWORD) -> str:
        answer = await self.say(Prove(number=1, name=name, password=password))
        assert isinstance(answer, Proved)
        return answer.ticket


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """The console's, with a user of every role."""
    hashed = hash_password(PASSWORD.encode(), HashCost(7168, 1, 1))
    file = UserFile(users_file(tmp_path))
    for role in Role:
        file.add(User(str(role), hashed, (str(role),)))
    return tmp_path


@pytest.mark.parametrize("order", [CHANGE, BACK], ids=["change", "roll-back"])
@pytest.mark.parametrize("ticket", ["", "x", "0" * 43])
@pytest.mark.parametrize("by", ["console user administrator", "SIGHUP", "console user oidc:ann"])
@on_a_loop
async def test_forged_order_changes_no_policy(
    folder: pathlib.Path, order: AnyPolicyOrder, ticket: str, by: str
) -> None:
    console = Console(folder)
    await console.prove("administrator")  # somebody's is good now, and is not known to it
    assert "nobody's password was given" in await console.order(order, by, ticket)
    assert console.target.done == []
    (record,) = console.records
    assert (record.action, record.result) == ("policy-change", "refused")


@on_a_loop
async def test_change_is_made_in_the_name_of_whose_password_was_given(folder: pathlib.Path) -> None:
    console = Console(folder)
    ticket = await console.prove("administrator")
    assert await console.order(CHANGE, "console user somebody-else", ticket) == ""
    assert console.target.done == [("ChangePolicy", "console user administrator")]


@on_a_loop
async def test_what_changes_nothing_needs_no_password(folder: pathlib.Path) -> None:
    console = Console(folder)
    assert await console.order(ListVersions(), "console user viewer") == ""
    assert console.target.done == [("ListVersions", "console user viewer")]


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("administrator", "wrong"),
        ("administrator", ""),
        ("operator", PASSWORD),
        ("nobody", PASSWORD),
    ],
)
@on_a_loop
async def test_ticket_is_for_administrators_with_the_right_password(
    folder: pathlib.Path, name: str, password: str
) -> None:
    console = Console(folder)
    assert await console.prove(name, password) == ""
    assert [(one.action, one.by, one.result) for one in console.records] == [
        ("confirm", name, "refused")
    ], "one that was taken over says nothing of it"


@on_a_loop
async def test_ticket_is_good_for_minutes_and_while_its_holder_is_an_administrator(
    folder: pathlib.Path,
) -> None:
    console = Console(folder)
    first = await console.prove("administrator")
    console.clock.advance(STEP_UP_S + TICKET_GRACE_S + 1)
    assert await console.order(CHANGE, "", first) != ""
    second = await console.prove("administrator")
    hashed = hash_password(PASSWORD.encode(), HashCost(7168, 1, 1))
    demoted = User("administrator", hashed, ("viewer",))
    UserFile(users_file(folder)).add(demoted, may_replace=True)
    assert await console.order(CHANGE, "", second) != ""
    assert console.target.done == []


@on_a_loop
async def test_ticket_is_worth_nothing_once_its_holder_has_another_password(
    folder: pathlib.Path,
) -> None:
    console = Console(folder)
    ticket = await console.prove("administrator")
    hashed = hash_password(b"another horse battery", HashCost(7168, 1, 1))
    changed = User("administrator", hashed, ("administrator",))
    UserFile(users_file(folder)).add(changed, may_replace=True)
    assert await console.order(CHANGE, "", ticket) != ""
    assert console.target.done == []


@on_a_loop
async def test_passwords_are_slow_to_try_for_a_console_too(folder: pathlib.Path) -> None:
    proofs = ConsoleProofs(str(folder), clock := ManualClock())
    for _ in range(LOGIN_BURST):
        assert await proofs.prove("administrator", "wrong") == ""
    assert await proofs.prove("Administrator", PASSWORD) == ""
    assert await proofs.prove("administrator", PASSWORD) == ""
    clock.advance(3600)
    assert await proofs.prove("administrator", PASSWORD) != ""


@on_a_loop
async def test_console_that_asks_without_end_is_ended_and_the_gate_keeps_little(
    folder: pathlib.Path,
) -> None:
    console = Console(folder)
    for number in range(ATTENDANT_QUESTIONS_MAX):
        console.hear(Prove(number=number, name=f"user{number}", password="wrong"))
    assert console.ended == []
    console.hear(Prove(number=0, name="administrator", password=PASSWORD))
    assert console.ended == ["let go", "killed"]
    assert len(console.post._tasks) == ATTENDANT_QUESTIONS_MAX
    assert "at a time" in console.lines[0]
    for task in list(console.post._tasks):
        task.cancel()


@on_a_loop
async def test_password_that_nobody_can_have_waits_for_no_turn(folder: pathlib.Path) -> None:
    proofs = ConsoleProofs(str(folder), ManualClock())
    for _ in range(LOGIN_BURST):
        assert await proofs.prove("administrator", "x" * (PASSWORD_BYTES_MAX + 1)) == ""
    assert await proofs.prove("administrator", PASSWORD) != "", "none of them was a try"


@pytest.mark.parametrize(
    ("by", "recorded"),
    [("console user ann", "console user ann"), ("root", "console: root"), ("", "console: ")],
)
@on_a_loop
async def test_console_orders_in_nobody_else_s_name(
    folder: pathlib.Path, by: str, recorded: str
) -> None:
    console = Console(folder)
    for request in (KillRequest(identifiers=["c-1"], by="root"), ReloadRequest()):
        await console.say(AskFor(number=1, request=request, by=by))
    assert console.target.done == [("kill c-1", recorded), ("reload", recorded)]


@on_a_loop
async def test_first_user_is_made_once(tmp_path: pathlib.Path) -> None:
    console = Console(tmp_path)

    async def add(name: str, password: str = PASSWORD) -> str:
        answer = await console.say(AddFirst(number=1, name=name, password=password))
        assert isinstance(answer, AddedFirst)
        return answer.fault

    assert await add("a b\n") != ""
    assert await add("ann", "short") != ""
    assert await add("ann") == ""
    assert "already" in await add("bob")
    assert await console.prove("ann") != ""
    assert await console.prove("bob") == ""


@on_a_loop
async def test_people_of_a_provider_have_no_password_that_the_gate_could_check(
    folder: pathlib.Path,
) -> None:
    provider = OidcSettings(issuer="https://id.example.com", client_id="x")
    console = Console(folder, provider)
    assert await console.order(CHANGE, "console user oidc:ann") == ""
    assert await console.order(CHANGE, "console user administrator") != ""
