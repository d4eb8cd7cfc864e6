"""Passwords are verified on the port's threads while the loop goes on."""

from __future__ import annotations

import asyncio

from sluicegate.clock import SystemClock
from sluicegate.identity import Authenticator
from sluicegate.port import current_port, run
from tests.unit.identity_kit import users


def test_loop_turns_while_passwords_are_verified(backend_name: str) -> None:
    async def main() -> tuple[list[bool], int]:
        authenticator = Authenticator(users("ann"), current_port().run_blocking, SystemClock())
        passwords = [b"open sesame", b"wrong words", b"open sesame"]
        checks = asyncio.gather(*(authenticator.authenticate(b"ann", one) for one in passwords))
        turns = 0
        while not checks.done():
            await asyncio.sleep(0)
            turns += 1
        return [found is not None for found in await checks], turns

    found, turns = run(main(), backend=backend_name)

    assert found == [True, False, True]
    assert turns > 10
