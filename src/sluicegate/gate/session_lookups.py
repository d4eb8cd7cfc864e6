"""Lookups that filters make for a session: through the gate's resolver, and told like a client's.

``session`` calls it for ``host_by_name`` and ``host_by_address``. The invariant: a name that the
client's rules refuse, and an address that is not public, cause no query; what comes back, from
servers or from filters, is judged or canonical.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import Generator
from typing import TYPE_CHECKING

from sluicegate.address import IpAddress
from sluicegate.errors import LimitExceeded, Side, TransportError
from sluicegate.filterapi import AddressLookup, Deny, Event, EventVerdict, NameLookup
from sluicegate.names import Destination, HostRefused, Unresolved, canonical_host

from .dispatch import dispatch
from .entry_connection import REFUSALS

if TYPE_CHECKING:
    from .client_dialler import ClientDialler
    from .connection import GateConnection
    from .service import FirewallService
    from .session import GateSession

__all__ = ["counted_lookup", "look_up_address", "look_up_name"]


@contextlib.contextmanager
def counted_lookup(service: FirewallService, session: GateSession) -> Generator[None, None, None]:
    """Count a lookup on the client's account while it lasts, and what filters do when told of it.

    Raises:
        LimitExceeded: It has too many; a filter that looks up what it is told of gets there.
    """
    bound = service.limits.lookups_per_client_max
    if session.lookups >= bound:
        raise LimitExceeded("lookups_per_client_max", bound)
    session.lookups += 1
    try:
        yield
    finally:
        session.lookups -= 1


async def look_up_name(
    service: FirewallService,
    connection: GateConnection,
    dialler: ClientDialler,
    text: str,
    port: int,
) -> tuple[IpAddress, ...]:
    """Return the addresses of a name that the client may reach."""
    host, decision = dialler.decide(text, port)
    resolver = service.entries.resolver
    if host.address is not None:
        found = resolver.judge_given(host, port, decision, [host.address])
    else:
        session, mode = connection.session, connection.entry_mode
        before = NameLookup(session, mode, host.text, None, connection)
        await _tell(service, connection, before)
        if before.result is not None:
            found = resolver.judge_given(host, port, decision, before.result)
        else:
            found = await resolver.resolve(host, port, decision)
        if not (isinstance(found, Unresolved) and found.reason in REFUSALS):
            after = NameLookup(session, mode, host.text, _dialable(found), connection)
            await _tell(service, connection, after)
            if after.result is not None:
                found = resolver.judge_given(host, port, decision, after.result)
    if isinstance(found, Unresolved):
        raise _failure(found, text)
    return _dialable(found)


async def look_up_address(
    service: FirewallService, connection: GateConnection, address: IpAddress
) -> tuple[str, ...]:
    """Return the names of an address, which prove nothing; none when there are none."""
    resolver = service.entries.resolver
    if not resolver.may_ask_about(address):
        refused = f"{address}: only public addresses are asked about"
        raise TransportError(errno.EACCES, Side.SERVER, refused)
    session, mode = connection.session, connection.entry_mode
    before = AddressLookup(session, mode, address, None, connection)
    if isinstance(await _answer(service, connection, before), Deny):
        return ()
    if before.result is not None:
        names = _canonical(before.result)
    else:
        found = await resolver.resolve_address(address)
        if isinstance(found, Unresolved):
            raise _failure(found, str(address))
        names = tuple(name.text for name in found)
    after = AddressLookup(session, mode, address, names, connection)
    if isinstance(await _answer(service, connection, after), Deny):
        return ()
    return names if after.result is None else _canonical(after.result)


async def _answer(
    service: FirewallService, connection: GateConnection, event: Event
) -> EventVerdict:
    """Tell the session's filters, and return what they say together."""
    answered: asyncio.Future[EventVerdict] = asyncio.get_running_loop().create_future()

    def on_verdict(verdict: EventVerdict) -> None:
        # (Who asked may have given up meanwhile.)
        if not answered.done():
            answered.set_result(verdict)

    dispatch(service, connection, event, on_verdict)
    return await answered


async def _tell(service: FirewallService, connection: GateConnection, event: NameLookup) -> None:
    verdict = await _answer(service, connection, event)
    if isinstance(verdict, Deny):
        reason = f"{event.host}: {verdict.reason}"
        raise TransportError(errno.EHOSTUNREACH, Side.SERVER, reason)


def _dialable(found: Destination | Unresolved) -> tuple[IpAddress, ...]:
    if isinstance(found, Unresolved):
        return ()
    return tuple(one.judgement.address for one in found.dialable)


def _canonical(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return those names that are hosts, as the gate writes them."""
    kept: dict[str, None] = {}
    for name in names:
        try:
            host = canonical_host(name)
        except HostRefused:
            continue
        if not host.is_address:
            kept[host.text] = None
    return tuple(kept)


def _failure(found: Unresolved, asked: str) -> TransportError:
    error = errno.EACCES if found.reason in REFUSALS else errno.EHOSTUNREACH
    return TransportError(error, Side.SERVER, f"{asked}: {found.reason}: {found.detail}")
