"""Proof: the password, given again by whoever wants what needs it.

Pages take it from their forms, the API from the bodies of its calls. The invariant: passwords are
slow to try wherever they are given, and a token alone proves nothing.
"""

from __future__ import annotations

from typing import Final

from sluicegate.errors import TransportError

from .accounts import Account
from .asked import Asked
from .link import GateLost
from .roles import Role

__all__ = ["prove", "take_ticket", "verify"]

_TOO_MANY: Final = 429
_FORBIDDEN: Final = 403
_UNAVAILABLE: Final = 503


async def verify(asked: Asked, name: str, password: str) -> tuple[Account | None, str, int]:
    """Try a password; return whose it is, or what to say and with which status."""
    logins = asked.console.logins
    address = asked.request.client.host if asked.request.client else ""
    keys = f"address {address}", f"name {name.lower()}"
    # Both, always: who is held back by one of them learns nothing about the other.
    has_room = [logins.take(key) for key in keys]
    if not all(has_room):
        asked.record("login", name, result="refused", causes=("too many attempts",), by=name)
        return None, "Too many attempts. Wait a minute.", _TOO_MANY
    try:
        account = await asked.console.accounts.verify(name, password)
    except TransportError as error:
        return None, f"The password cannot be checked now: {error}", _UNAVAILABLE
    if account is None:
        asked.record("login", name, result="refused", causes=("wrong name or password",), by=name)
        return None, "Wrong name or password.", _FORBIDDEN
    for key in keys:
        logins.give_back(key)
    return account, "", 0


async def prove(asked: Asked, password: str, name: str = "") -> tuple[str, int]:
    """Take the password that was sent, if one is needed.

    Args:
        asked: What wants it.
        password: As it was sent; empty: none was.
        name: Whose it is, where a program asks with a token, behind which nobody stands.

    Returns:
        What is wrong with it, and the status to answer with; an empty text: nothing is.
    """
    who = asked.who
    if who.is_first:
        return "Make yourself a user first: behind the first link there is no password.", _FORBIDDEN
    if asked.console.sessions.is_proved(who):
        return "", 0
    if not password:
        return "This needs the password, given in the last five minutes.", _FORBIDDEN
    if name and not who.is_token and name != who.account.name:
        return "Somebody else's password proves nothing.", _FORBIDDEN
    account, fault, status_code = await verify(asked, name or who.account.name, password)
    if account is None:
        return fault, status_code
    if account.role < who.role:
        # Else a token would lend its role to everybody who has a password at all.
        asked.record("confirm", account.name, result="refused", causes=("lacks the role",))
        return f"{account.name} has not the role {who.role}.", _FORBIDDEN
    asked.console.sessions.prove(who)
    await take_ticket(asked, account.name, password)
    if account.role is Role.ADMINISTRATOR and not who.ticket:
        return "The gate cannot check the password now. Wait a minute.", _UNAVAILABLE
    asked.record("confirm", account.name)
    return "", 0


async def take_ticket(asked: Asked, name: str, password: str) -> None:
    """Have the gate check an administrator's password, too; without it, it changes no policy.

    A session whose password the gate does not take is asked for it again.
    """
    who = asked.who
    if who.role is not Role.ADMINISTRATOR:
        return
    try:
        who.ticket = await asked.console.link.prove(name, password)
    except GateLost:
        who.ticket = ""
    if not who.ticket:
        asked.console.sessions.doubt(who)
