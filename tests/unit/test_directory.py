"""A directory as the gate asks it: remembered, shared, bounded, and never taken for a yes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from sluicegate.access_limits import LDAP_CHECKS_WAITING_MAX, LDAP_KEPT_MAX
from sluicegate.errors import DirectoryFailed, LimitExceeded
from sluicegate.identity import (
    Authenticator,
    Directory,
    DirectoryServer,
    DirectorySettings,
    DirectoryUser,
    DistinguishedName,
    Users,
)
from sluicegate.testing.clock import ManualClock
from tests.unit.identity_kit import users

SETTINGS = DirectorySettings(
    servers=(DirectoryServer("ldap.example.org", 636),),
    base=DistinguishedName.parse("dc=example,dc=org"),
    user_filter="(uid={user})",
    user_attribute="uid",
    connections_max=2,
)


class Answers:
    """In the place of threads that ask a server."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bytes | None]] = []
        self.held: asyncio.Event | None = None
        self.known = {"carl": b"a password", "Ann": b"of the directory"}
        self.error: Exception | None = None
        self.running = self.most = 0

    async def find_addresses(self, _settings: DirectorySettings) -> dict[Any, Any]:
        return {}

    async def __call__(self, _function: Callable[..., Any], *args: Any) -> Any:
        _pool, _addresses, name, password, _deadline = args
        self.asked.append((name, password))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if self.held is not None:
                await self.held.wait()
            if self.error is not None:
                raise self.error
        finally:
            self.running -= 1
        for known, right in self.known.items():
            if known.lower() == name.lower() and password in {None, right}:
                return DirectoryUser(known, ("staff",), f"uid={known}")
        return None


Check = Callable[[Directory, Answers, ManualClock], Coroutine[Any, Any, None]]


def with_directory(check: Check, settings: DirectorySettings = SETTINGS) -> None:
    async def main() -> None:
        answers, clock = Answers(), ManualClock()
        directory = Directory(settings, answers.find_addresses, answers, clock)
        await check(directory, answers, clock)
        await directory.close()

    asyncio.run(main())


def test_q7_what_cannot_be_a_users_name_or_password_is_not_asked_about() -> None:
    async def check(directory: Directory, answers: Answers, _clock: ManualClock) -> None:
        for name in (
            b"", b"*", b"carl)(uid=*", b"a b", b"carl\x00", b"\xff", "cärl".encode(),
            b"uid=carl,dc=example,dc=org", b"DOMAIN\\carl", b"-carl", b"x" * 65,
        ):  # fmt: skip
            assert await directory.authenticate(name, b"a password") is None
        assert await directory.authenticate(b"carl", b"") is None
        assert answers.asked == []

    with_directory(check)


def test_a_right_password_is_remembered_for_a_while_and_a_wrong_one_never() -> None:
    async def check(directory: Directory, answers: Answers, clock: ManualClock) -> None:
        for _ in range(3):
            assert await directory.authenticate(b"carl", b"a password") is not None
            assert await directory.authenticate(b"carl", b"another") is None
        assert [password for _, password in answers.asked] == [b"a password", *[b"another"] * 3]
        clock.advance(SETTINGS.cache_s + 1)
        answers.known.clear()
        assert await directory.authenticate(b"carl", b"a password") is None
        assert "a password" not in repr(vars(directory))

    with_directory(check)


def test_who_was_looked_up_without_a_password_is_not_let_in_with_any() -> None:
    async def check(directory: Directory, answers: Answers, _clock: ManualClock) -> None:
        assert await directory.find(b"carl") is not None
        assert await directory.find(b"carl") is not None
        assert await directory.authenticate(b"carl", b"") is None
        assert await directory.authenticate(b"carl", b"wrong") is None
        assert answers.asked == [("carl", None), ("carl", b"wrong")]

    with_directory(check)


def test_those_who_ask_the_same_at_once_wait_for_one_answer_and_others_for_their_turn() -> None:
    async def check(directory: Directory, answers: Answers, _clock: ManualClock) -> None:
        answers.held = asyncio.Event()
        same = [directory.authenticate(b"carl", b"a password") for _ in range(20)]
        others = [directory.authenticate(b"carl", b"wrong %d" % one) for one in range(10)]
        waiting = asyncio.gather(*same, *others)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        answers.held.set()
        found = await waiting
        assert [one is not None for one in found] == [True] * 20 + [False] * 10
        assert len(answers.asked) == 11
        assert answers.most == SETTINGS.connections_max

    with_directory(check)


def test_too_many_that_wait_are_refused() -> None:
    async def check(directory: Directory, answers: Answers, _clock: ManualClock) -> None:
        answers.held = asyncio.Event()
        bound = SETTINGS.connections_max + LDAP_CHECKS_WAITING_MAX
        tasks = [
            asyncio.ensure_future(directory.authenticate(b"carl", b"%d" % one))
            for one in range(bound)
        ]
        await asyncio.sleep(0)
        with pytest.raises(LimitExceeded):
            await directory.authenticate(b"carl", b"one more")
        answers.held.set()
        await asyncio.gather(*tasks)

    with_directory(check)


def test_what_is_remembered_is_bounded() -> None:
    async def check(directory: Directory, answers: Answers, _clock: ManualClock) -> None:
        for number in range(LDAP_KEPT_MAX + 5):
            directory._keep(b"%d" % number, DirectoryUser("carl", (), "uid=carl"))
        assert directory.statistics().kept == LDAP_KEPT_MAX
        assert answers.asked == []

    with_directory(check)


def test_a_failure_reaches_everybody_who_waits_and_is_not_remembered() -> None:
    async def check(directory: Directory, answers: Answers, _clock: ManualClock) -> None:
        answers.error = DirectoryFailed("no server")
        both = [directory.authenticate(b"carl", b"a password") for _ in range(2)]
        found = await asyncio.gather(*both, return_exceptions=True)
        assert [type(one) for one in found] == [DirectoryFailed] * 2
        assert directory.statistics().last_failure == "no server"
        answers.error = None
        assert await directory.authenticate(b"carl", b"a password") is not None

    with_directory(check)


def test_who_waits_when_the_directory_is_closed_is_refused() -> None:
    async def check(directory: Directory, answers: Answers, _clock: ManualClock) -> None:
        answers.held = asyncio.Event()
        waiting = asyncio.ensure_future(directory.authenticate(b"carl", b"a password"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await directory.close()
        with pytest.raises(DirectoryFailed):
            await waiting

    with_directory(check)


# -- with the users file ---------------------------------------------------------------------------


def with_both(check: Callable[[Authenticator, Answers], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        answers, clock = Answers(), ManualClock()
        authenticator = Authenticator(users("ann", "bob"), on_thread, clock)
        directory = Directory(SETTINGS, answers.find_addresses, answers, clock)
        authenticator.directory = directory
        await check(authenticator, answers)
        await directory.close()

    asyncio.run(main())


async def on_thread(function: Callable[..., Any], *args: Any) -> Any:
    return await asyncio.to_thread(function, *args)


def test_the_file_decides_on_its_own_names_and_the_directory_on_the_rest() -> None:
    async def check(authenticator: Authenticator, answers: Answers) -> None:
        assert await authenticator.authenticate(b"ann", b"open sesame") is not None
        assert await authenticator.authenticate(b"ann", b"of the directory") is None
        assert await authenticator.find(b"ann") is not None
        assert answers.asked == []
        found = await authenticator.authenticate(b"carl", b"a password")
        assert isinstance(found, DirectoryUser)
        assert authenticator.statistics().accepted == 2
        assert authenticator.statistics().refused == 1

    with_both(check)


def test_a_name_of_the_file_in_another_case_is_no_way_to_be_its_user() -> None:
    async def check(authenticator: Authenticator, _answers: Answers) -> None:
        for name in (b"Ann", b"ANN"):
            with pytest.raises(DirectoryFailed, match="users file"):
                await authenticator.authenticate(name, b"of the directory")
            with pytest.raises(DirectoryFailed, match="users file"):
                await authenticator.find(name)

    with_both(check)


def test_without_a_directory_nobody_else_is_known() -> None:
    async def main() -> None:
        authenticator = Authenticator(Users(), on_thread, ManualClock())
        assert await authenticator.find(b"carl") is None

    asyncio.run(main())
