"""Who is let in: real argon2 on threads, bounded, remembered for a while, never for the dead."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from sluicegate.access_limits import (
    PASSWORD_CHECKS_MAX,
    PASSWORD_CHECKS_WAITING_MAX,
    PASSWORD_KEPT_S,
)
from sluicegate.errors import LimitExceeded, TransportError
from sluicegate.identity import Authenticator, User, Users
from sluicegate.identity.passwords import verify_password
from sluicegate.testing.clock import ManualClock
from tests.unit.identity_kit import cheap_hash, user, users


class Threads:
    """``run_blocking`` that counts, and may be made to wait."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.running = self.most = 0
        self.held: asyncio.Event | None = None

    async def __call__(self, function: Callable[..., Any], *args: Any) -> Any:
        assert function is verify_password
        self.calls.append(args)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if self.held is not None:
                await self.held.wait()
            return await asyncio.to_thread(function, *args)
        finally:
            self.running -= 1


def with_threads(check: Callable[[Authenticator, Threads, ManualClock], Any]) -> None:
    async def main() -> None:
        threads, clock = Threads(), ManualClock()
        await check(Authenticator(users("ann", "bob"), threads, clock), threads, clock)

    asyncio.run(main())


def test_right_password_returns_the_user_and_nothing_else_does() -> None:
    async def check(authenticator, threads, clock):
        found = await authenticator.authenticate(b"ann", b"open sesame")
        assert isinstance(found, User)
        assert found.name == "ann"
        for name, password in (
            (b"ann", b"wrong"), (b"ann", b""), (b"Ann", b"open sesame"),
            (b"\xff", b"open sesame"), (b"", b""), (b"bob", b"open sesame "),
        ):  # fmt: skip
            assert await authenticator.authenticate(name, password) is None

    with_threads(check)


def test_unknown_user_costs_a_verification_of_the_same_cost() -> None:
    async def check(authenticator, threads, clock):
        await authenticator.authenticate(b"nobody", b"open sesame")
        await authenticator.authenticate(b"ann", b"wrong")
        [(unknown, _), (known, _)] = threads.calls
        assert unknown.cost == known.cost
        assert unknown.text != known.text

    with_threads(check)


def test_verified_password_is_remembered_for_a_while_and_only_itself() -> None:
    async def check(authenticator, threads, clock):
        for _ in range(3):
            assert await authenticator.authenticate(b"ann", b"open sesame")
        assert len(threads.calls) == 1
        assert await authenticator.authenticate(b"ann", b"open sesamE") is None
        assert len(threads.calls) == 2
        clock.advance(PASSWORD_KEPT_S)
        assert await authenticator.authenticate(b"ann", b"open sesame")
        assert len(threads.calls) == 3
        counted = authenticator.statistics()
        assert (counted.accepted, counted.refused, counted.verified) == (4, 1, 3)

    with_threads(check)


def test_wrong_password_is_never_remembered() -> None:
    async def check(authenticator, threads, clock):
        for _ in range(3):
            assert await authenticator.authenticate(b"ann", b"wrong") is None
        assert len(threads.calls) == 3

    with_threads(check)


def test_changed_and_removed_users_count_at_once() -> None:
    async def check(authenticator, threads, clock):
        assert await authenticator.authenticate(b"ann", b"open sesame")
        assert await authenticator.authenticate(b"bob", b"open sesame")
        authenticator.replace_users(Users([User("ann", cheap_hash("other words"))]))
        assert await authenticator.authenticate(b"ann", b"open sesame") is None
        assert await authenticator.authenticate(b"bob", b"open sesame") is None
        assert await authenticator.authenticate(b"ann", b"other words")

    with_threads(check)


def test_groups_of_the_file_in_force_are_returned_also_for_remembered_passwords() -> None:
    async def check(authenticator, threads, clock):
        assert await authenticator.authenticate(b"ann", b"open sesame")
        authenticator.replace_users(Users([user("ann", "open sesame", "staff")]))
        found = await authenticator.authenticate(b"ann", b"open sesame")
        assert found.groups == ("staff",)
        assert len(threads.calls) == 1

    with_threads(check)


@pytest.mark.parametrize("after", [Users(), Users([User("ann", cheap_hash("other words"))])])
def test_user_who_goes_while_argon2_runs_is_not_let_in(after: Users) -> None:
    async def check(authenticator, threads, clock):
        threads.held = asyncio.Event()
        waiting = asyncio.ensure_future(authenticator.authenticate(b"ann", b"open sesame"))
        await settle()
        authenticator.replace_users(after)
        threads.held.set()
        assert await waiting is None

    with_threads(check)


def test_verifications_at_once_and_waiting_are_bounded() -> None:
    async def check(authenticator, threads, clock):
        threads.held = asyncio.Event()
        waiting = [
            asyncio.ensure_future(authenticator.authenticate(b"guess", b"%d" % number))
            for number in range(PASSWORD_CHECKS_MAX + PASSWORD_CHECKS_WAITING_MAX)
        ]
        await settle()
        assert threads.running == PASSWORD_CHECKS_MAX
        assert authenticator.statistics().waiting == PASSWORD_CHECKS_WAITING_MAX
        with pytest.raises(LimitExceeded, match="PASSWORD_CHECKS_WAITING_MAX"):
            await authenticator.authenticate(b"late", b"x")
        threads.held.set()
        assert await asyncio.gather(*waiting) == [None] * len(waiting)
        assert threads.most == PASSWORD_CHECKS_MAX

    with_threads(check)


def test_remembered_users_get_in_while_others_queue() -> None:
    async def check(authenticator, threads, clock):
        assert await authenticator.authenticate(b"ann", b"open sesame")
        threads.held = asyncio.Event()
        guesses = [
            asyncio.ensure_future(authenticator.authenticate(b"guess", b"%d" % number))
            for number in range(9)
        ]
        await settle()
        assert await authenticator.authenticate(b"ann", b"open sesame")
        threads.held.set()
        await asyncio.gather(*guesses)

    with_threads(check)


def test_many_connections_of_one_client_are_verified_once() -> None:
    async def check(authenticator, threads, clock):
        found = await asyncio.gather(
            *(authenticator.authenticate(b"ann", b"open sesame") for _ in range(20))
        )
        assert {one.name for one in found} == {"ann"}
        assert len(threads.calls) == 1

    with_threads(check)


def test_two_unknown_names_with_one_password_are_not_answered_together() -> None:
    async def check(authenticator, threads, clock):
        names = (b"nobody", b"no-one", b"nobody\0", b"ann")
        await asyncio.gather(*(authenticator.authenticate(name, b"same guess") for name in names))
        assert len(threads.calls) == len(names)

    with_threads(check)


def test_connections_that_ask_together_are_each_answered_also_if_one_goes_away() -> None:
    async def check(authenticator, threads, clock):
        threads.held = asyncio.Event()
        first, second, third = (
            asyncio.ensure_future(authenticator.authenticate(b"ann", b"open sesame"))
            for _ in range(3)
        )
        await settle()
        first.cancel()
        await settle()
        threads.held.set()
        assert (await second).name == (await third).name == "ann"
        assert len(threads.calls) == 1

    with_threads(check)


def test_client_that_goes_away_keeps_its_slot_until_the_thread_is_done() -> None:
    async def check(authenticator, threads, clock):
        threads.held = asyncio.Event()
        gone = [
            asyncio.ensure_future(authenticator.authenticate(b"guess", b"%d" % number))
            for number in range(PASSWORD_CHECKS_MAX)
        ]
        await settle()
        for one in gone:
            one.cancel()
        later = asyncio.ensure_future(authenticator.authenticate(b"ann", b"open sesame"))
        await settle()
        assert threads.running == PASSWORD_CHECKS_MAX
        assert len(threads.calls) == PASSWORD_CHECKS_MAX
        threads.held.set()
        assert (await later).name == "ann"
        assert threads.most == PASSWORD_CHECKS_MAX

    with_threads(check)


def test_client_that_goes_away_while_it_waits_leaves_the_queue() -> None:
    async def check(authenticator, threads, clock):
        threads.held = asyncio.Event()
        waiting = [
            asyncio.ensure_future(authenticator.authenticate(b"guess", b"%d" % number))
            for number in range(PASSWORD_CHECKS_MAX + 1)
        ]
        await settle()
        waiting[-1].cancel()
        await settle()
        assert authenticator.statistics().waiting == 0
        again = asyncio.ensure_future(authenticator.authenticate(b"bob", b"open sesame"))
        threads.held.set()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert (await again).name == "bob"
        assert (await authenticator.authenticate(b"ann", b"open sesame")).name == "ann"

    with_threads(check)


def test_failure_to_verify_lets_nobody_in_and_gives_the_slot_back() -> None:
    async def failing(function: Callable[..., Any], *args: Any) -> Any:
        raise TransportError(12, doing="verify a password")

    async def main() -> None:
        authenticator = Authenticator(users("ann"), failing, ManualClock())
        for _ in range(PASSWORD_CHECKS_MAX * 3):
            with pytest.raises(TransportError):
                await authenticator.authenticate(b"ann", b"open sesame")
        assert authenticator.statistics().verified == 0

    asyncio.run(main())


def test_passwords_are_not_kept_in_the_clear() -> None:
    async def check(authenticator, threads, clock):
        await authenticator.authenticate(b"ann", b"open sesame")
        assert b"open sesame" not in repr(vars(authenticator)).encode()

    with_threads(check)


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(10):
        await asyncio.sleep(0)
